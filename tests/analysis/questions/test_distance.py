"""Distances between groups of runs: numbers, words and figures from what is planted."""

import dataclasses

import numpy as np
import pytest

from analysis.formatting import UNDETERMINED
from analysis.predictions import contrasts
from analysis.questions import _distance_ladder, distance
from analysis.report.canvas import figure
from analysis.report.style import Nothing
from analysis.results import Analysis
from tests.support.made_function import answered, compared
from tests.support.made_predictions import Plan

PLAN = Plan(
    families=("gru", "lstm", "twin"),
    same=(("lstm", "twin"),),
    corpora=("docs", "code"),
    budgets=(2048, 8192),
    positions=200,
    vocab=12,
    family=0.3,
    corpus=0.6,
)


def result(plan, folder, draws=100):
    asked = compared(plan, folder, draws)
    frames, notes = answered(asked, "distance")
    runs = asked.groups
    every = {"title": "made", "unit": "nats/token", "targets": ("docs",)}
    return Analysis.of(**every, notes=tuple(notes), **frames, runs=runs), asked


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return result(PLAN, tmp_path_factory.mktemp("made"))


def row(analysis, **wanted):
    frame = analysis.distances
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0]


def test_distances_are_those_of_the_groups(made):
    analysis, asked = made
    at = {"kind": "architecture", "fixed": "docs", "tokens": 8192.0}
    found = row(analysis, baseline="gru", alternative="lstm", **at)
    ends = asked.ends
    f, g = (
        asked.points(
            ends[
                (ends.family == name) & (ends.corpus == "docs") & (ends.tokens == 8192)
            ].iloc[0]
        )
        for name in ("gru", "lstm")
    )
    fresh = contrasts.Compared(asked.predictions, 100)
    assert found.distance == pytest.approx(fresh.between(f, g)[0])
    assert found.excess == pytest.approx(fresh.excess(f, g)[0])
    assert found.floor == pytest.approx(found.distance - found.excess)
    assert found.excess_bits == pytest.approx(found.excess / np.log(2))
    assert found.excess_low <= found.excess_low_90 <= found.excess
    assert found.seeds == 3 and found.reported and found.own
    floor = row(analysis, kind="seeds", baseline="lstm", fixed="docs", tokens=8192.0)
    assert np.isnan(floor.excess) and 0 < floor.distance < found.distance


def test_one_family_under_two_names_is_not_told_apart_and_others_are(made):
    analysis, _ = made
    at = {"kind": "architecture", "fixed": "docs", "tokens": 8192.0}
    twin = row(analysis, baseline="lstm", alternative="twin", **at)
    assert twin.excess_low < 0 < twin.excess_high
    gru = row(analysis, baseline="gru", alternative="lstm", **at)
    assert gru.excess_low > 0
    said = distance.said(analysis.view)
    (same,) = [line for line in said if "lstm → twin" in line]
    assert "whether predictions are farther apart" in same and UNDETERMINED in same
    (apart,) = [line for line in said if "gru → lstm (docs)" in line]
    assert "farther apart than those of two seeds" in apart and "whether" not in apart


def test_every_kind_of_swap_stands_on_one_scale(made):
    analysis, _ = made
    reported = analysis.distances[analysis.distances.reported.astype(bool)]
    assert set(reported.kind) == {"seeds", "architecture", "corpus", "data"}
    ratios = analysis.function_ratios
    mine = ratios[(ratios.baseline == "gru") & (ratios.alternative == "lstm")]
    corpus = mine[(mine.fixed == "docs") & (mine.other_kind == "corpus")].iloc[0]
    swaps = reported[(reported.kind == "corpus") & reported.fixed.isin(("gru", "lstm"))]
    swap = reported[(reported.alternative == "lstm") & (reported.fixed == "docs")]
    wanted = swap.excess[swap.kind == "architecture"].item() / swaps.excess.mean()
    assert corpus.ratio == pytest.approx(wanted) and corpus.low < wanted < corpus.high
    assert corpus.high < 1
    said = [line for line in distance.said(analysis.view) if "times" in line]
    assert any("as much as replacing docs by code" in line for line in said)


def test_the_map_keeps_distances_and_figures_are_drawn(made):
    analysis, _ = made
    places = analysis.function_map
    assert len(places) == 18 and 0.5 < places.shown.iloc[0] <= 1
    near = places[(places.family == "lstm") & (places.corpus == "docs")]
    far = places[(places.family == "lstm") & (places.corpus == "code")]
    inside = near[["x", "y"]].std().max()
    across = np.hypot(*(near[["x", "y"]].mean() - far[["x", "y"]].mean()))
    assert across > 5 * inside
    for draw in (distance.draw_ladder, distance.draw_map):
        assert figure(draw, analysis, "docs").axes
        with pytest.raises(Nothing):
            figure(draw, analysis.replace(**empty(analysis)), "docs")


def empty(analysis):
    names = ("distances", "function_ratios", "function_map")
    return {name: analysis.frames[name].iloc[:0] for name in names}


def test_with_one_seed_there_is_no_excess_and_a_run_that_gives_it_is_named(tmp_path):
    one = dataclasses.replace(PLAN, seeds=1, budgets=(8192,))
    analysis, _ = result(one, tmp_path, 40)
    frame = analysis.distances
    assert frame.excess.isna().all() and frame.floor.isna().all()
    assert frame.distance[frame.kind == "architecture"].notna().all()
    (note,) = [one for one in analysis.notes if one.about == "distance"]
    assert "no floor" in note.text and "gru-code-8000-8192-0" in note.text
    said = distance.said(analysis.view)
    assert said and all("farther" not in line for line in said)
    (limit,) = distance.answers(analysis.view)
    assert limit.part == "limit" and UNDETERMINED in limit.text


def test_classes_of_swaps_stand_on_one_ladder(made):
    analysis, _ = made
    ladder = analysis.function_ladder.set_index("rung")
    assert list(ladder.index) == [
        "another seed",
        "more of the text",
        "another family",
        "another text",
    ]
    assert list(ladder.side) == ["model", "data", "model", "data"]
    reported = analysis.distances[analysis.distances.reported & analysis.distances.own]
    mine = reported[reported.kind == "architecture"]
    family = ladder.loc["another family"]
    assert family.pairs == len(mine) == 3
    assert family.distance == pytest.approx(mine.distance.mean())
    assert family.excess == pytest.approx(mine.excess.mean())
    assert family.nearest == mine.distance.min()
    assert family.farthest == mine.distance.max()
    assert (ladder.low < ladder.distance).all() and (
        ladder.distance < ladder.high
    ).all()
    assert np.isnan(ladder.excess["another seed"])
    (said,) = [t for t in distance.said(analysis.view) if "the least first" in t]
    assert said.index("another seed") < said.index("another text")


@pytest.mark.parametrize(
    ("kind", "one", "two", "wanted"),
    [
        ("architecture", "lstm", "ngram[order=3]", "n-grams for a trained family"),
        ("architecture", "moe[experts=4]", "moe[experts=8]", "a variant of one family"),
        ("quality", "sound", "truncation 0.5", "quality: sound → truncation 0.5"),
        ("size", "8k parameters", "24k parameters", "another size"),
    ],
)
def test_every_swap_has_a_rung(kind, one, two, wanted):
    head = {"kind": kind, "baseline": one, "alternative": two}
    side, name = _distance_ladder.rung(head)
    assert name == wanted and side == ("data" if kind == "quality" else "model")
