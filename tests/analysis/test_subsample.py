"""Thinning: which runs stay where a table has more than can be fitted."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from analysis import main
from analysis.tables.load import from_frame, load
from analysis.tables.subsample import chosen
from scaling.errors import UserError

SIZES, BUDGETS = (1e6, 1e7, 1e8), (1e8, 1e9, 1e10, 1e11)


def table(seeds: int, **more) -> pd.DataFrame:
    """Two families at all sizes and budgets; one run alone at the largest size."""
    cells = itertools.product(("a", "b"), SIZES, BUDGETS, range(seeds))
    frame = pd.DataFrame(cells, columns=["family", "params", "tokens", "seed"])
    largest = {"family": "a", "params": 1e9, "tokens": 1e11, "seed": 0}
    frame = pd.concat([frame, pd.DataFrame([largest])], ignore_index=True)
    # Sorted by loss, as a table often is: what stays must not follow from it.
    rng = np.random.default_rng(1)
    loss = 2.0 + 300 * frame.params**-0.3 + 400 * frame.tokens**-0.3
    frame["loss"] = loss * np.exp(0.01 * rng.standard_normal(len(frame)))
    return frame.sort_values("loss", ignore_index=True).assign(**more)


def test_a_table_that_fits_is_left_alone():
    small = from_frame(table(4), rows=100, target="shared")
    assert len(small.readings) == 97
    assert small.exclusions.empty and not small.warnings


def test_each_kind_keeps_as_many_and_the_few_keep_all():
    thinned = from_frame(table(50), rows=250, target="shared")
    used = thinned.runs[thinned.runs.run_id.isin(thinned.readings.run_id)]
    counts = used.groupby(["family", "params", "tokens"]).size()
    assert counts.pop(("a", 1e9, 1e11)) == 1
    assert len(counts) == 24 and set(counts) == {10}


def test_what_goes_is_listed_and_said():
    thinned = from_frame(table(50), rows=250, target="shared")
    assert len(thinned.readings) == 241 and len(thinned.runs) == 1201
    assert len(thinned.exclusions) == 960
    assert set(thinned.exclusions.reason.str.split(":").str[0]) == {"thinned"}
    (text,) = thinned.warnings
    assert "1201 usable runs" in text and "241 are" in text and "--rows" in text


def test_the_loss_has_no_say_in_what_stays():
    whole = from_frame(table(200), rows=5000, target="shared")
    thinned = from_frame(table(200), rows=1300, target="shared")
    cell = whole.runs[(whole.runs.params == 1e7) & (whole.runs.tokens == 1e9)]
    same = thinned.readings[thinned.readings.run_id.isin(cell.run_id)].loss
    ranks = whole.readings.set_index("run_id").loc[cell.run_id].loss.rank(pct=True)
    kept = ranks[thinned.readings.run_id[same.index]]
    assert len(kept) == 108
    # A uniform rank has mean 1/2 with a standard error of 0.03; both tails are there.
    assert abs(kept.mean() - 0.5) < 0.1 and kept.min() < 0.1 and kept.max() > 0.9


def test_checkpoints_are_thinned_at_the_same_budgets_in_all_families():
    """A thousand checkpoints a trajectory: the last stays, and cells still match."""
    budgets = np.geomspace(1e8, 1e11, 1000)
    cells = itertools.product(("a", "b"), SIZES, budgets)
    frame = pd.DataFrame(cells, columns=["family", "params", "tokens"])
    frame["trajectory"] = frame.family + frame.params.astype(str)
    frame["loss"] = 2.0 + 300 * frame.params**-0.3 + 400 * frame.tokens**-0.3
    thinned = from_frame(frame, rows=600, target="shared")
    used = thinned.runs[thinned.runs.run_id.isin(thinned.readings.run_id)]
    assert 300 < len(used) <= 600 and used.trajectory.nunique() == 6
    kept = [set(part.tokens) for _, part in used.groupby(["family", "params"])]
    assert all(part == kept[0] for part in kept) and budgets[-1] in kept[0]
    assert min(kept[0]) < 1.5e8


@pytest.mark.parametrize("column", ["params", "learning_rate", "family"])
def test_more_kinds_than_rows_are_thinned_over_their_range(column):
    rng = np.random.default_rng(0)
    frame = table(50).assign(learning_rate=1e-3, corpus="all", optimiser="", quality=1)
    frame = frame.assign(damage="")
    frame = frame.assign(batch=np.nan, unique_tokens=frame.tokens)
    spread = np.exp(rng.uniform(0, 20, len(frame)))
    frame[column] = frame.index.astype(str) if column == "family" else spread
    kept = frame[chosen(frame, 200)]
    assert 100 < len(kept) <= 200
    if column != "family":
        assert kept[column].min() < 3 and kept[column].max() > np.exp(18)


def test_the_command_line_takes_the_rows(tmp_path, capsys):
    path = tmp_path / "t.csv"
    table(20).to_csv(path, index=False)
    args = main.parse(["scaling-analysis", "fit", str(path), "--rows", "200"])
    assert len(main._load(args).readings) == 193
    said = capsys.readouterr()
    assert "rows: 481, of which 193 have a loss" in said.out
    assert "481 usable runs" in said.err
    with pytest.raises(UserError, match="at least 100"):
        load(path, rows=3)
