"""Of many pairs of families those with the first on the target are told."""

import itertools

import pandas as pd
import pytest

from analysis.report.shortlist import centres, foremost
from tests.support.made_analysis import made_analysis

NAMES = tuple("abcdef")
PAIRS = list(itertools.combinations(NAMES, 2))


@pytest.fixture(scope="module")
def many():
    """Six families, of which d is the first on prose and a on code."""
    stands = [
        {"family": f, "corpus": "prose", "target": target}
        for target, order in (("prose", "dabcef"), ("code", "abcdef"))
        for f in order
    ]
    swaps = [
        {"kind": "architecture", "baseline": one, "alternative": two, "target": target}
        for target in ("prose", "code")
        for one, two in PAIRS
    ]
    swaps.append(
        {
            "kind": "corpus",
            "baseline": "code",
            "alternative": "prose",
            "target": "prose",
        }
    )
    ratios = [
        {
            "target": "prose",
            "architecture": f"{one} -> {two}",
            "corpus": "code -> prose",
        }
        for one, two in PAIRS
    ]
    checks = [
        {
            "target": "prose",
            "question": "architecture",
            "baseline": one,
            "alternative": two,
        }
        for one, two in PAIRS
    ]
    checks += [
        {"target": "prose", "question": "architecture or corpus"}
        | {"baseline": f"{one} -> {two}", "alternative": "code -> prose"}
        for one, two in PAIRS
    ]
    return made_analysis().replace(
        standings=pd.DataFrame(stands),
        equivalents=pd.DataFrame(swaps),
        ratios=pd.DataFrame(ratios),
        verdicts=pd.DataFrame(checks),
    )


def ends(frame):
    return {
        frozenset(pair) for pair in zip(frame.baseline, frame.alternative, strict=True)
    }


def test_each_target_has_its_own_first(many):
    assert centres(many) == {"prose": "d", "code": "a"}
    reported = foremost(many).equivalents
    for target, first in (("prose", "d"), ("code", "a")):
        mine = reported[(reported.target == target) & (reported.kind == "architecture")]
        assert ends(mine) == {frozenset((first, f)) for f in NAMES if f != first}
    assert (reported.kind == "corpus").sum() == 1
    assert len(many.equivalents) == 2 * len(PAIRS) + 1


def test_swaps_written_as_one_name_are_told_alike(many):
    reported = foremost(many)
    assert len(reported.ratios) == len(NAMES) - 1
    assert reported.ratios.architecture.str.contains("d").all()
    assert reported.verdicts.question.value_counts().tolist() == [len(NAMES) - 1] * 2


def test_few_pairs_are_all_told(many):
    frame = many.equivalents
    few = frame[~frame.baseline.isin(("e", "f")) & ~frame.alternative.isin(("e", "f"))]
    few = many.replace(equivalents=few)
    assert centres(few) == {}
    assert len(foremost(few).equivalents) == len(few.equivalents)


def test_a_frame_without_the_first_is_told_by_the_next(many):
    """As at equal compute, where the first on data may not be compared."""
    stands = pd.concat(
        [many.standings.assign(family="counted")[:1], many.standings], ignore_index=True
    )
    other = many.replace(standings=stands)
    reported = foremost(other).equivalents
    mine = reported[(reported.target == "prose") & (reported.kind == "architecture")]
    assert ends(mine) == {frozenset(("d", f)) for f in NAMES if f != "d"}
    nowhere = many.replace(standings=many.standings[:0])
    assert len(foremost(nowhere).equivalents) == len(many.equivalents)


def test_families_named_with_another_factor_are_known(many):
    folded = many.standings.assign(family=many.standings.family + ", muon")
    reported = foremost(many.replace(standings=folded)).equivalents
    assert (reported.kind == "architecture").sum() == 2 * (len(NAMES) - 1)


def test_damaged_texts_are_told_beside_sound_text(many):
    levels = ("sound", "mild", "bad")
    rows = [
        {"kind": "quality", "baseline": one, "alternative": two, "target": "prose"}
        for one, two in itertools.combinations(levels, 2)
    ]
    damaged = many.replace(equivalents=pd.DataFrame(rows))
    reported = foremost(damaged).equivalents
    assert ends(reported) == {frozenset(("sound", "mild")), frozenset(("sound", "bad"))}
