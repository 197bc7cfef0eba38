"""Families that no law can fit stand beside the laws, and spoil none of them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.design.references import references
from analysis.effects.attribution import attribute
from scaling.errors import UserError
from tests.analysis.test_places import made

NEEDS = {"params": 3, "tokens": 3}


def counts(sizes: int = 1, budgets: int = 1) -> pd.DataFrame:
    """Runs that nothing trained, at the largest budgets."""
    frame = made(("counts",), ("d",), sizes=sizes, budgets=4)
    return frame[frame.tokens.isin(sorted(set(frame.tokens))[-budgets:])]


def table(*parts: pd.DataFrame) -> analysis.Table:
    whole = analysis.from_frame(pd.concat(parts, ignore_index=True))
    runs = whole.runs.assign(trained=whole.runs.family != "counts")
    return dataclasses.replace(whole, runs=runs)


@pytest.fixture(scope="module")
def two_families() -> pd.DataFrame:
    return made(("a", "b"), ("d",), sizes=4, budgets=4)


@pytest.fixture(scope="module")
def alone(two_families):
    return analysis.analyse(table(two_families), draws=40)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (counts(), "fitted at once, with 1 size and 1 amount of data"),
        (counts(budgets=3), "fitted at once, with 1 size and 3 amounts of data"),
        (
            made(("c",), ("d",), sizes=2, budgets=1).head(1),
            "1 size and 1 amount of data alone",
        ),
    ],
    ids=["counted", "counted often", "one cell"],
)
def test_what_no_law_can_fit_stands_beside_the_laws(two_families, alone, other, why):
    found = analysis.analyse(table(two_families, other), draws=40)
    for name in ("fits", "joint", "equivalents", "measured", "standings", "variance"):
        pd.testing.assert_frame_equal(found.frames[name], alone.frames[name], obj=name)
    assert len(found.joint) and alone.references.empty
    left = found.exclusions[found.exclusions.reason.str.startswith("reference")]
    assert set(left.reason) == {f"reference beside the laws: {why}"}
    assert len(left) == len(other) == found.counts.references[0]
    rows = found.references
    assert set(rows.other) == {"a", "b"} and len(rows) == 2 * len(other)
    assert np.allclose(rows.change, rows.other_loss / rows.loss - 1.0)
    (said,) = [text for text in found.summary() if "is a reference" in text]
    assert why in said and "with b" in said


@pytest.mark.parametrize("law", ["joint", "chinchilla"])
def test_one_law_is_fitted_to_the_others_alone(two_families, law):
    alone = analysis.fit_law(table(two_families), law, draws=40)
    found = analysis.fit_law(table(two_families, counts()), law, draws=40)
    pd.testing.assert_frame_equal(found.parameters, alone.parameters)
    assert found.refused.empty and found.counts.references[0] == 1


def test_a_gap_to_a_reference_is_not_split_by_a_law(two_families):
    whole = table(two_families, counts())
    ends = "family=a,params=1e7,tokens=2e8", "family=counts"
    with pytest.raises(UserError, match="counts is a reference beside the laws"):
        attribute(whole, *ends, draws=40)
    assert len(attribute(whole, ends[0], "family=b,params=1e7,tokens=2e8", draws=40))


def test_counts_with_a_ladder_are_a_family_of_the_laws(two_families):
    ladder = counts(sizes=3, budgets=3)
    runs = table(two_families, ladder).runs
    assert references(runs, NEEDS) == {}
    # One size of everything: it is a reference, and nobody else is.
    one = table(two_families[two_families.params < 2e7], counts(budgets=2)).runs
    assert set(references(one, NEEDS)) == {"counts"}
    # There is nothing that it could stand beside.
    assert references(runs[runs.family == "counts"].head(2), NEEDS) == {}


def test_one_cell_is_compared_as_before_where_no_joint_law_would_stand():
    lone = made(("b",), ("d",), sizes=2, budgets=1).head(1)
    runs = table(made(("a",), ("d",), sizes=4, budgets=4), lone).runs
    assert references(runs, NEEDS) == {}
