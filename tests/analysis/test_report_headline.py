"""The headline: inside the grid, by the law that the fitted runs prefer."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis import formatting
from analysis.effects.data_equivalents import covered
from analysis.questions import (
    _view,
    equivalents,
    optima,
    ratio,
)
from analysis.questions.leading_law import main_parameters
from analysis.report import answer
from analysis.surfaces import nested
from tests.support.made_analysis import made_analysis
from tests.support.made_runs import BUDGETS, SIZES


def swap(low, high, method="joint", alternative="b", **more):
    row = {
        "kind": "architecture",
        "baseline": "a",
        "alternative": alternative,
        "fixed": "web",
    }
    row |= {"factor": math.sqrt(low * high), "low": low, "high": high}
    row |= {"params": 1e6, "tokens": 1e8, "p_infinite": 0.0, "fitted": True}
    return row | {"method": method} | more


@pytest.mark.parametrize(
    ("aicc", "chosen"),
    [
        ({"joint": 10.0, "E by family": 2.0, "one E": 90.0}, "E by family"),
        ({"joint": 10.0, "E by family": 6.5}, "joint"),
        ({"joint": 10.0, "E by family": 22.0}, "joint"),
        ({"joint": math.inf, "E by family": math.inf}, "joint"),
    ],
)
def test_a_wider_law_leads_only_where_the_runs_clearly_prefer_it(aicc, chosen):
    models = {name: SimpleNamespace(aicc=value) for name, value in aicc.items()}
    assert nested.preferred(SimpleNamespace(models=models)) == chosen


def test_a_point_is_covered_where_every_system_was_fitted():
    rows = [("a", 1e6, 1e8), ("a", 4e6, 1e8), ("b", 1.03e6, 1e8), ("b", 1e6, 4e8)]
    fitted = pd.DataFrame(rows, columns=["family", "params", "tokens"])
    where = [(1e6, 1e8), (4e6, 1e8), (1e6, 4e8)]
    assert covered(where, fitted.assign(corpus="web")) == {(1e6, 1e8)}


def test_the_headline_stands_at_the_largest_fitted_cell():
    study = made_analysis()
    found = _view.headline(study.equivalents, "mixture")
    assert found.fitted.all() and set(found.params) == {SIZES[-1]}
    assert set(found.tokens) == {BUDGETS[-2]}
    far = _view.beyond(study.equivalents)
    assert set(far.tokens) == {BUDGETS[-1]} and not far.fitted.any()
    said = answer.summary(study)
    assert "the largest cell that was fitted" in said[0]
    assert any(text.startswith("Extrapolated to 72k parameters") for text in said)


def test_other_factors_are_told_too_and_damaged_text_beside_sound_text():
    study = made_analysis()
    quality = study.equivalents[study.equivalents.kind == "architecture"].assign(
        kind="quality", fixed="lstm, web"
    )
    pairs = (("strings 0.5", "sound"), ("cut 0.5", "strings 0.5"))
    rows = [
        quality.assign(baseline=baseline, alternative=alternative)
        for baseline, alternative in pairs
    ]
    equivalents = pd.concat([study.equivalents, *rows], ignore_index=True)
    said = answer.summary(study.replace(equivalents=equivalents))
    assert any("strings 0.5 → sound for lstm, web" in text for text in said)
    assert not any("cut 0.5" in text for text in said)
    neither = equivalents.replace("sound", "whole")
    said = answer.summary(study.replace(equivalents=neither))
    assert any("cut 0.5 → strings 0.5 for lstm, web" in text for text in said)


def test_the_preferred_law_leads_and_is_named():
    frame = pd.DataFrame([swap(1.1, 2.0, "joint"), swap(1.2, 1.9, "preferred")])
    lead = _view.leading(frame)
    assert set(lead.method) == {"preferred"}
    row = next(lead.itertuples())
    said = equivalents.opening(row, "web", "rhoN by cell", 7.4)
    assert "rhoN free for each pair of family and corpus (AICc 7.4 lower)" in said
    assert "AICc" not in equivalents.opening(
        next(frame.itertuples()), "web", "joint", 0.0
    )


def test_the_joint_law_is_heard_where_it_decides_otherwise():
    lead = pd.DataFrame([swap(1.1, 2.0), swap(0.8, 1.3, alternative="c")])
    assert "same 2 verdicts" in equivalents.joint_instead(lead, lead)
    other = pd.DataFrame([swap(0.9, 2.0), swap(0.8, 1.3, alternative="c")])
    said = equivalents.joint_instead(lead, other)
    assert "gives another verdict on a → b (web)" in said
    assert "c" not in said.split(" on ")[1]


def test_pairs_with_an_infinite_corpus_effect_share_a_sentence():
    pair = {"corpus": "d -> e", "lambda": np.nan, "low": np.nan, "high": np.nan}
    rows = [
        pair | {"architecture": f"a -> {alternative}", "p_architecture": share}
        for alternative, share in (("b", 0.0), ("c", 0.02), ("f", 0.4))
    ]
    merged, *rest = reversed(ratio.sentences(pd.DataFrame(rows)))
    assert "(a → b or a → c), in 98% of draws or more" in merged
    assert len(rest) == 1 and formatting.UNDETERMINED in rest[0]


def test_why_no_budget_shows_a_best_size():
    few = "2 sizes, and a parabola needs 3"
    rows = [
        {"family": "a", "corpus": "web", "compute": c, "params": np.nan, "warning": few}
        for c in (1e10, 1e11)
    ]
    (said,) = optima.no_optimum(pd.DataFrame(rows))
    assert "any of 2 budgets" in said and few in said
    assert optima.no_optimum(pd.DataFrame(rows).assign(params=[np.nan, 3e4])) == []


def test_the_main_parameters_are_exponents_and_multipliers_of_data():
    names = ("E", "A", "alpha", "rhoN[b]", "beta", "rhoD[b]")
    free = tuple(SimpleNamespace(name=name) for name in names)
    law = SimpleNamespace(
        parameters=free, reported=(*free, SimpleNamespace(name="rhoD[a]"))
    )
    assert main_parameters(SimpleNamespace(law=law)) == ["alpha", "beta", "rhoD[b]"]


def test_a_family_and_the_corpus_of_one_name_are_one_parameter():
    named = [SimpleNamespace(name=name) for name in ("alpha", "rhoD[all]")]
    law = SimpleNamespace(parameters=named, reported=[*named, named[1]])
    assert main_parameters(SimpleNamespace(law=law)) == ["alpha", "rhoD[all]"]
