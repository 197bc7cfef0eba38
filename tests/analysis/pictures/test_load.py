"""Samples of a workdir: read as they were written, or left out in one line."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.pictures import load
from scaling.store import Store
from tests.support.made_pictures import NAME, Plan, file_of, run_id

PLAN = Plan(families=("unet",), noises=6, seeds=1, readers=("lstm",))
IDS = [run_id(one) for one in PLAN.runs()]  # two of the U-Net, two of the LSTM


@pytest.fixture
def workdir(tmp_path):
    PLAN.write(tmp_path)
    return tmp_path


def read(workdir):
    table = analysis.load(workdir, where=["objective == denoise"])
    mine = table.exclusions[table.exclusions.target == f"samples of {NAME}"]
    return table, dict(zip(mine.run_id, mine.reason, strict=True))


def rewritten(workdir, run, body=None, change=lambda run: None):
    """A record with its file of samples and its run's facts changed."""
    store = Store(workdir)
    record = store.read(run)
    change(record.run)
    kept = record.artifacts
    if body is not None:
        kept = (store.write_artifact(run, "samples.npz", body),)
    store.path("records", f"{run}.json").unlink()
    store.write(dataclasses.replace(record, artifacts=kept))


def test_samples_are_read_as_they_were_written(workdir):
    table, reasons = read(workdir)
    (made,) = table.pictures
    assert not reasons and made.name == NAME and made.corpus == "templates[size=4]"
    np.testing.assert_allclose(made.real, PLAN.real, atol=1e-9)
    one = next(PLAN.runs())
    found = made.read(run_id(one), "pictures", 1.0)
    np.testing.assert_allclose(found, PLAN.pictures(one), atol=1e-3)
    assert made.sigmas == pytest.approx([0.1, 0.8]) and made.count == 6
    # Runs of both objectives are known, though the table has those of one.
    assert set(made.runs.objective) == {"denoise", "next_token"}
    assert len(table.readings) == 2 and set(made.of("denoise")) == set(IDS[:2])
    row = made.runs[made.runs.run_id == IDS[0]].iloc[0]
    assert row.scored == "held out"
    assert row.bits > 0 and row.corpus == "templates[size=4], half 1"
    assert made.get(IDS[2], "denoised", 1.0) is None
    with pytest.raises(KeyError, match="kept no denoised"):
        made.read(IDS[2], "denoised", 1.0)


def test_models_of_fewer_levels_are_no_seeds_of_others(workdir):
    store = Store(workdir)
    record = store.read(IDS[2])
    facts = dict.fromkeys(["corpus", "optimiser"], "") | dict.fromkeys(
        ["params", "tokens", "unique_tokens", "seed", "learning_rate", "batch"], 1
    )
    rows = pd.DataFrame([facts | {"run_id": record.run_id, "family": "lstm"}])
    assert load._facts(record, rows)["family"] == "lstm"
    few = dataclasses.replace(record, run=record.run | {"data.tokenizer": "levels:16"})
    assert load._facts(few, rows)["family"] == "lstm of 16 levels"


def test_runs_that_cannot_be_compared_are_left_out_with_their_reason(workdir):
    one = next(PLAN.runs())
    arrays, digest = PLAN.arrays(one), PLAN.set.digest
    short = {k: v[:3] if k == "1:pictures" else v for k, v in arrays.items()}
    wrong = {**arrays, "1:denoised": np.full_like(arrays["1:denoised"], np.nan)}
    for body, why in (
        (b"no archive", "is no .npz file"),
        (file_of({"1:near": arrays["1:near"]}, digest), "has none of this set"),
        (file_of(short, digest), r"has 1:pictures of shape (3, 4, 4, 1)"),
        (file_of(wrong, digest), "has 1:denoised that are no finite numbers"),
        (
            file_of({**arrays, "late:pictures": arrays["1:pictures"]}, digest),
            "fraction",
        ),
    ):
        rewritten(workdir, IDS[0], body)
        table, reasons = read(workdir)
        assert list(reasons) == [IDS[0]] and why in reasons[IDS[0]], reasons
        assert "\n" not in reasons[IDS[0]]
        assert set(table.pictures[0].of("denoise")) == {IDS[1]}
    rewritten(workdir, IDS[0], change=lambda run: run.pop("samples"))
    assert "names no such set" in read(workdir)[1][IDS[0]]


def test_of_two_sets_of_one_name_the_other_is_left_out(workdir):
    other = dataclasses.replace(PLAN, draw=1)
    path = Store(workdir).path("samples", f"{other.set.digest}.npz")
    path.write_bytes(other.set.to_bytes())
    rewritten(
        workdir, IDS[1], file_of(other.arrays(next(other.runs())), other.set.digest)
    )
    _, reasons = read(workdir)
    assert len(reasons) >= 1
    assert all(
        "of other noises or pictures of the same name" in r for r in reasons.values()
    )


def test_a_run_that_was_trained_again_to_keep_more_is_no_second_seed(workdir):
    store = Store(workdir)
    record = store.read(IDS[0])
    run = json.loads(json.dumps(record.run))
    run["samples"][0]["hidden"] = 3
    again = dataclasses.replace(record, run_id="again", run=run, trajectory="again")
    store.write(dataclasses.replace(again, finished="2026-02-01T00:00:00"))
    store.write_study("made", {"runs": ["again", *IDS[1:]]})
    table = analysis.load(workdir, where=["objective == denoise"])
    gone = table.exclusions[table.exclusions.run_id == IDS[0]]
    assert "trained again as again" in gone.reason.iloc[0]
    assert IDS[0] not in set(table.pictures[0].runs.run_id)
    assert set(table.readings.run_id) == {"again", IDS[1]}


def test_without_its_set_nothing_is_compared(workdir):
    path = Store(workdir).path("samples", f"{PLAN.set.digest}.npz")
    path.write_bytes(b"broken")
    table, reasons = read(workdir)
    assert table.pictures == () and set(reasons) == set(IDS[:2])
    assert "is no .npz file" in reasons[IDS[0]]
    path.unlink()
    assert "is not in the workdir" in read(workdir)[1][IDS[0]]


def test_a_workdir_without_samples_says_nothing(workdir):
    for run in IDS:
        rewritten(workdir, run, change=lambda run: run.pop("samples"))
    table, reasons = read(workdir)
    assert table.pictures == () and not reasons
