"""Different experiments in one table: one is fitted, the others left out by name."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pandas as pd
import pytest

from analysis import analyse, fit_law
from analysis.design.cells import target_frame
from analysis.effects.matched_cells import of_experiments, one_a_place
from analysis.questions import runs
from analysis.report.front import front
from analysis.tables.load import from_frame
from tests.analysis.tables.test_losses import grid


def two_contexts(most: int = 2048) -> pd.DataFrame:
    """A grid at each of two contexts; the one that is not `most` lacks two rows."""
    short, long = grid(context=512), grid(context=2048)
    short["loss"] *= 1.08
    frame = pd.concat([short, long], ignore_index=True)
    less = frame.index[frame.context != most]
    return frame.drop(index=less[[3, 9]]).reset_index(drop=True)


@pytest.mark.parametrize("most", [512, 2048])
def test_the_largest_experiment_is_fitted_and_the_other_left_out_by_name(most):
    frame = two_contexts(most)
    table = from_frame(frame)
    used = frame.loc[table.runs.run_id.isin(table.readings.run_id)]
    assert set(used.context) == {most} and len(used) == 16
    (text,) = table.warnings
    assert "the largest is fitted (16 runs, --where 'context == " in text
    left = table.exclusions
    assert len(left) == 14 and set(left.target) == {""}
    (reason,) = set(left.reason)
    said = [note.text for note in runs.of_table(table, left)]
    assert "14 runs left out: of another experiment." in said
    # What the reason says does what it says.
    _, condition = shlex.split(re.search(r"--where '.*?'", reason)[0])
    other = from_frame(frame, where=[condition])
    assert len(other.readings) == 14 and not other.warnings
    fitted = fit_law(from_frame(frame), "chinchilla").parameters
    alone = from_frame(frame[frame.context == most])
    pd.testing.assert_frame_equal(
        fitted, fit_law(alone, "chinchilla").parameters, rtol=1e-6
    )


def test_experiments_of_one_budget_that_steps_round_are_told_apart():
    """64 windows a step: a budget is not the same count of tokens at two contexts."""
    frame = two_contexts()
    step = 64 * 16 * frame.context
    frame["D"] = np.ceil(frame.D / step) * step
    assert frame.D.nunique() == 8
    table = from_frame(frame)
    assert len(table.readings) == 16
    assert "rows of one size and budget differ in context" in table.warnings[0]
    # Checkpoints that lie as near are points of one curve.
    later = frame.assign(D=frame.D * 1.01, context=frame.context)
    several = from_frame(pd.concat([frame, later], ignore_index=True))
    assert len(several.readings) == 60 and not several.warnings


def test_of_two_experiments_alike_the_one_with_more_compute_is_fitted():
    frame = pd.concat([grid(context="4k"), grid(context="1 k, old")], ignore_index=True)
    frame.loc[frame.context == "4k", "D"] *= 1.0 + 0.5 * (frame.D == 6e9)
    frame["loss"] += 0.1 * (frame.context != "4k")
    table = from_frame(frame)
    (text,) = table.warnings
    assert "(16 runs, --where 'context == 4k')" in text
    option = """--where 'context == "1 k, old"'"""
    assert option in text and table.exclusions.reason.str.contains(option).all()


def test_what_is_tuned_or_said_to_be_fitted_together_costs_no_row():
    frame = two_contexts()
    for mapping in (
        {"setting:context": "context"},
        {"apart:context": "context"},
        {"apart:context": ""},
    ):
        table = from_frame(frame, mapping)
        assert len(table.readings) == 30 and not table.warnings
    for tuned in ("batch", "scheduler", "weight_decay", "lr"):
        table = from_frame(frame.rename(columns={"context": tuned}))
        assert len(table.readings) == 30 and not table.warnings


def test_shapes_that_are_no_design_alone_are_fitted_together():
    two = pd.concat([grid(), grid()], ignore_index=True)
    two["depth"] = two.N.rank(method="dense") * 2 + (np.arange(32) >= 16)
    two["loss"] += 0.01 * (np.arange(32) >= 16)
    table = from_frame(two)
    assert len(table.readings) == 32
    (text,) = table.warnings
    assert "no experiment alone" in text and "--where 'depth == " in text


def test_targets_read_in_different_experiments_keep_one_each():
    one = grid(subset="a", eval_set="c4")
    frame = pd.concat(
        [one, grid(subset="b", eval_set="c4").iloc[2:], grid(subset="b", eval_set="x")],
        ignore_index=True,
    )
    frame["loss"] += 0.1 * (frame.subset == "b")
    table = from_frame(frame)
    assert table.readings.groupby("target").size().to_dict() == {"c4": 16, "x": 16}
    assert set(table.exclusions.target) == {"c4"} and len(table.exclusions) == 14


def test_matched_cells_are_of_one_experiment():
    better = pd.concat([grid(family=f, context=2048) for f in ("a", "b")])
    alone = grid(family="a", context=512)
    alone["loss"] *= 0.9
    frame = pd.concat([better, alone], ignore_index=True)
    table = from_frame(frame, {"apart:context": "context"})
    every = of_experiments(target_frame(table, "loss"), "loss")
    assert len(every) == 48
    cells = one_a_place(every)
    assert len(cells) == 32
    both = cells.pivot(index=["level", "budget"], columns="family", values="loss")
    np.testing.assert_allclose(both.a, both.b)


def test_runs_of_one_budget_are_compared_in_every_experiment():
    frame = pd.concat(
        [
            grid(family=f, experts=k).assign(D=1e11)
            for f in ("hash", "base")
            for k in (4, 64)
        ],
        ignore_index=True,
    ).drop_duplicates(["N", "family", "experts"], ignore_index=True)
    frame["loss"] = 3 + 30 / frame.N**0.25 - 0.01 * np.log(frame.experts)
    frame.loc[frame.family == "hash", "loss"] *= 1.02
    table = from_frame(frame)
    # No experiment alone could be fitted: none is left out for another.
    assert len(table.readings) == len(frame) and table.exclusions.empty
    found = analyse(table, draws=40)
    (row,) = found.measured.itertuples()
    assert row.cells == len(frame) // 2
    assert abs(row.log_ratio) == pytest.approx(np.log(1.02), rel=1e-6)
    said = [text for text in found.summary() if "matched cells" in text]
    assert "the loss: 2.0%" in said[-1]
    assert found.equivalents.empty and found.holdout.empty
    assert f"{len(frame)} are compared without a law" in " ".join(found.summary())


def test_that_most_runs_are_left_out_stands_on_the_front_page():
    frame = pd.concat([grid(context=c) for c in (512, 1024, 2048)], ignore_index=True)
    frame["loss"] *= 1 + 0.1 * (frame.context == 512)
    table = from_frame(frame)
    (text,) = table.asked
    assert text.startswith("Most of the runs are left out (32 of 48): ")
    assert "--map apart:context=context keeps all" in text
    assert text in front(analyse(table, draws=40)).limits


@pytest.mark.filterwarnings("error")
def test_rows_without_a_count_are_left_out_and_the_experiments_found():
    frame, alone = two_contexts(), from_frame(two_contexts())
    broken = frame.iloc[[0, 1, 2, 3]].assign(D=[0.0, -1.0, np.inf, np.nan])
    table = from_frame(pd.concat([frame, broken], ignore_index=True))
    assert len(table.readings) == len(alone.readings)
    assert len(table.exclusions) == len(alone.exclusions) + 4
