"""Lines of loss against loss: the factor that was made to move them is found."""

from __future__ import annotations

import itertools
import types
import warnings

import numpy as np
import pandas as pd
import pytest

from analysis.questions import loss_to_loss
from analysis.report import canvas


def runs(corpus=0.0, family=0.0, noise=0.004, apart=False):
    """Runs of two families on two corpora; each factor shifts the second loss."""
    rng, rows = np.random.default_rng(0), []
    grid = itertools.product("ab", ("web", "code"), np.geomspace(1e6, 1e9, 12))
    for k, (name, text, params) in enumerate(grid):
        one = 2.0 + 300.0 * params**-0.3
        two = (
            1.1 * one**0.9 * np.exp(corpus * (text == "code") + family * (name == "b"))
        )
        row = {"family": name, "corpus": text, "params": params, "tokens": 1e9}
        row |= {"used": True, "trajectory": str(k), "seed": 0}
        losses = {"loss:x": one, "loss:y": two * np.exp(rng.normal(0, noise))}
        parts = [{key: value} for key, value in losses.items()] if apart else [losses]
        rows += [row | part | {"run_id": f"{k} {n}"} for n, part in enumerate(parts)]
    return pd.DataFrame(rows)


def moved(table):
    return loss_to_loss.frame(table, ("x", "y"), 0).set_index("factor")


def test_the_corpus_moves_the_line_where_it_was_made_to():
    found = moved(runs(corpus=0.1))
    assert found.p_larger["corpus"] == 1.0 and found.p["corpus"] < 1e-6
    # Half of the runs lie 0.1 above the others: 0.05 about their mean.
    assert abs(found.moved["corpus"] - 0.05) < 0.005
    assert found.p["family"] > 0.01


def test_and_the_family_likewise():
    found = moved(runs(family=0.1))
    assert found.p_larger["family"] == 1.0 and found.p["corpus"] > 0.01


def test_scores_in_rows_of_their_own_are_paired_by_their_settings():
    whole, apart = moved(runs(corpus=0.1)), moved(runs(corpus=0.1, apart=True))
    assert apart.runs.eq(48).all()
    assert np.allclose(whole.moved, apart.moved)


def test_too_few_runs_have_no_line():
    assert loss_to_loss.frame(runs().head(6), ("x", "y"), 0).empty


def test_a_run_without_a_loss_on_one_set_is_no_point_of_a_line():
    whole, gaps = runs(corpus=0.1), runs(corpus=0.1)
    gaps.loc[[3, 4, 5, 6], "loss:y"] = [np.inf, np.nan, 0.0, -1.0]
    pd.testing.assert_frame_equal(moved(gaps), moved(whole.drop([3, 4, 5, 6])))


def test_the_line_that_is_drawn_is_the_parabola_through_the_logs():
    x = np.geomspace(2.0, 4.0, 9)
    wanted = lambda x: np.exp(0.3 + 0.5 * np.log(x) + 0.2 * np.log(x) ** 2)
    drawn = loss_to_loss._parabola(pd.DataFrame({"x": x, "y": wanted(x)}), (0.1, 9.0))
    np.testing.assert_allclose(drawn[1], wanted(drawn[0]))
    assert drawn[0][0] == pytest.approx(2.0) and drawn[0][-1] == pytest.approx(4.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("x", [[2.0] * 9, [2.0, 3.0] * 4, [2.0, 2.5, 3.0]])
def test_points_too_few_or_too_close_for_a_parabola_have_none(x):
    drawn = loss_to_loss._parabola(pd.DataFrame({"x": x, "y": x}), (0.1, 9.0))
    assert not drawn[0].size and not drawn[1].size


def test_a_line_that_leaves_the_picture_is_drawn_as_far_as_the_picture_goes():
    """Losses that span hundreds of powers of ten bend a parabola beyond all numbers."""
    table = runs()
    table["loss:x"] = np.tile([2.0, 2.01, 2.02, 2.03], len(table) // 4)
    table.loc[::12, "loss:x"] = 1e300
    table["loss:y"] = np.tile([1.0, 2.0, 4.0, 9.0], len(table) // 4)
    shown = types.SimpleNamespace(
        lines=moved(table).reset_index(),
        runs=table,
        unit="nats/token",
        counted="tokens",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = canvas.figure(loss_to_loss.draw_lines, shown, "x")
    low, high = figure.axes[0].get_ylim()
    drawn = np.concatenate([line.get_ydata() for line in figure.axes[0].lines])
    inside = drawn[np.isfinite(drawn)]
    assert inside.size and (inside >= low).all() and (inside <= high).all()
