"""A row for each run and evaluation set: the rows of a run are one run."""

import numpy as np
import pandas as pd
import pytest

import analysis

SETS = ("web", "books", "code")


def wide() -> pd.DataFrame:
    rows = []
    for family, worth in (("gru", 1.2), ("lstm", 1.0)):
        for params in (1e6, 4e6, 16e6, 64e6):
            for tokens in (1e8, 4e8, 16e8, 64e8):
                loss = 1.5 + 300 * params**-0.4 + 900 * worth * tokens**-0.4
                row = {"family": family, "params": params, "tokens": tokens}
                rows.append(row | {f"loss:{s}": loss + k for k, s in enumerate(SETS)})
    return pd.DataFrame(rows)


def long(frame: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in frame if not name.startswith("loss:")]
    melted = frame.melt(keys, var_name="eval_set", value_name="loss")
    melted["eval_set"] = melted.eval_set.str.removeprefix("loss:")
    return melted


def test_rows_of_a_run_are_one_run():
    before, after = (
        analysis.from_frame(f, unit="nats") for f in (wide(), long(wide()))
    )
    assert len(after.runs) == 32 and len(after.readings) == 96
    assert set(after.targets) == set(SETS) == set(before.targets)
    columns = ["family", "params", "tokens", *(f"loss:{name}" for name in SETS)]
    order = ["family", "params", "tokens"]
    pd.testing.assert_frame_equal(
        *(
            t.runs[columns].sort_values(order, ignore_index=True)
            for t in (before, after)
        )
    )
    assert any("96 rows are 32 runs" in line for line in after.said)


def test_a_loss_that_is_missing_leaves_the_run_its_others():
    frame = long(wide())
    frame.loc[3, "loss"] = np.nan
    table = analysis.from_frame(frame, unit="nats")
    assert len(table.readings) == 95 and table.runs["loss:books"].notna().all()


def test_a_word_that_differs_keeps_runs_apart():
    frame = long(wide())
    frame["checkpoint"] = [f"model-{i}" for i in range(len(frame))]
    assert len(analysis.from_frame(frame, unit="nats").runs) == 96


@pytest.mark.parametrize("twice", ["a set read twice", "two runs alike"])
def test_rows_that_may_be_of_several_runs_stay_apart(twice):
    frame = long(wide())
    again = frame[:1] if twice == "a set read twice" else frame[frame.index % 32 == 0]
    frame = pd.concat([frame, again.assign(loss=again.loss + 0.01)], ignore_index=True)
    table = analysis.from_frame(frame, unit="nats")
    assert len(table.runs) == 31 + len(again) + 3 and len(table.readings) == len(frame)


def test_the_order_of_rows_does_not_matter():
    mixed = long(wide()).sample(frac=1.0, random_state=0)
    table = analysis.from_frame(mixed, unit="nats")
    assert len(table.runs) == 32 and table.runs.filter(like="loss:").notna().all(
        axis=None
    )
