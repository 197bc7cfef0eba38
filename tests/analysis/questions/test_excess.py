"""Excess along training, data and size, and at equal loss."""

import dataclasses

import numpy as np
import pytest

from analysis.questions import excess
from analysis.report.canvas import figure
from analysis.results import Analysis
from tests.support.made_function import answered, compared
from tests.support.made_predictions import Plan

PLAN = Plan(
    families=("lstm", "gru"),
    corpora=("docs",),
    sizes=(8000, 32000),
    budgets=(1024, 2048, 4096, 8192, 16384),
    fractions=(0.5, 1.0),
    positions=200,
    vocab=12,
    floor=0.5,
    rate=0.7,
)


def result(plan, folder, draws=100):
    asked = compared(plan, folder, draws)
    frames, notes = answered(asked, "excess")
    every = {"title": "made", "unit": "nats/token", "targets": ("docs",)}
    return Analysis.of(**every, notes=tuple(notes), **frames, runs=asked.groups), asked


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return result(PLAN, tmp_path_factory.mktemp("made"))


def test_paths_run_along_one_axis_each(made):
    analysis, asked = made
    trends = analysis.function_trends
    assert trends.axis.value_counts().to_dict() == {
        "training": 10,
        "data": 2,
        "size": 5,
    }
    data = trends[trends.axis == "data"]
    assert (data.points == 5).all()
    assert (data.change_high < 0).all() and (data["last"] > 0).all()
    size = trends[trends.axis == "size"]
    assert ((size.change_low < 0) & (size.change_high > 0)).mean() >= 0.8
    assert size.refused.str.contains("2 points for a curve of 3 parameters").all()
    rows = analysis.function_excess
    last = rows[(rows.path == data.path.iloc[0]) & (rows.axis == "data")].iloc[-1]
    ends = asked.ends[(asked.ends.tokens == 16384) & (asked.ends.level == 0)]
    f, g = (asked.points(row) for _, row in ends.iterrows())
    assert last.excess == pytest.approx(asked.compared.excess(f, g)[0])
    assert last.x == 16384 and last.low < last.excess < last.high


def test_the_floor_of_the_planted_scale_is_told_or_refused(made):
    analysis, _ = made
    data = analysis.function_trends[analysis.function_trends.axis == "data"]
    # Without an end of training every error is `floor` times what it is drawn as.
    far = dataclasses.replace(PLAN, budgets=(10**9,), sizes=(8000,), fractions=(1.0,))
    from analysis.predictions.contrasts import Compared
    from tests.support.made_predictions import run_id

    f, g = (
        [(run_id(name, "docs", 8000, 10**9, s), 1.0) for s in range(3)]
        for name in ("lstm", "gru")
    )
    wanted = Compared(far.predictions(), 1).excess(f, g)[0]
    reported = data[data.refused == ""]
    assert len(reported) and (reported.floor < reported["last"]).all()
    assert ((reported.low < 1.5 * wanted) & (reported.high > wanted / 1.5)).all()


def test_equal_loss_is_read_between_points_of_the_better_path(made):
    analysis, _ = made
    rows = analysis.function_excess
    equal = rows[rows.axis == "loss"]
    assert len(equal) and equal.same_budget.notna().all()
    assert rows[rows.axis != "loss"].same_budget.isna().all()
    # Errors of both are of one size at one budget, and so are losses: little moves.
    np.testing.assert_allclose(equal.excess, equal.same_budget, rtol=0.5)
    assert (equal.low > 0).all()


def test_what_is_said_follows_from_the_numbers(made):
    analysis, _ = made
    said = excess.said(analysis.view)
    assert any("with new data: the excess falls by" in line for line in said)
    assert any("at the equal loss of" in line for line in said)
    assert figure(excess.draw_excess, analysis, "docs").axes


def test_without_two_seeds_or_two_places_it_says_so(tmp_path):
    one = dataclasses.replace(PLAN, seeds=1, sizes=(8000,), budgets=(1024, 2048))
    analysis, _ = result(one, tmp_path, 40)
    assert analysis.function_trends.empty and analysis.function_excess.empty
    (note,) = analysis.notes
    assert note.about == "excess" and "is not known" in note.text
    assert excess.said(analysis.view) == []
