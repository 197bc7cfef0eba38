"""Kept predictions: read as they were written, or left out in one line."""

import dataclasses
import json

import numpy as np
import pytest

import analysis
from analysis.predictions.load import BEST
from scaling import probe_file
from scaling.store import Store
from tests.support.made_predictions import Plan, run_id

PLAN = Plan(positions=24, vocab=8, fractions=(0.5, 1.0), seeds=2, per_document=2)
FIRST = run_id("lstm", "docstrings", 8000, 8192, 0)


@pytest.fixture
def workdir(tmp_path):
    PLAN.write(tmp_path)
    return tmp_path


def read(workdir):
    table = analysis.load(workdir)
    mine = table.exclusions[table.exclusions.target == "predictions at docstrings"]
    return table, dict(zip(mine.run_id, mine.reason, strict=True))


def rewritten(workdir, change, run=FIRST):
    """A record with its file of predictions and its run's facts changed."""
    store = Store(workdir)
    record = store.read(run)
    body = change(record)
    kept = record.artifacts
    if body is not None:
        kept = (store.write_artifact(run, probe_file.PREDICTIONS, body),)
    store.path("records", f"{run}.json").unlink()
    store.write(dataclasses.replace(record, artifacts=kept))


def test_predictions_are_read_as_they_were_written(workdir):
    table, reasons = read(workdir)
    (kept,) = table.predictions
    assert not reasons and kept.name == "docstrings" and len(kept.runs) == 4
    assert kept.fractions[FIRST] == (0.5, 1.0) and kept.positions == 24
    logs = kept.read(FIRST, 0.5)
    wanted = PLAN.log_probabilities("lstm", "docstrings", 8000, 8192, 0, 0.5)
    assert logs.dtype == np.float32
    np.testing.assert_allclose(logs, wanted, atol=0.01)
    np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(kept.truth, PLAN.truth)
    losses = kept.losses([(FIRST, 1.0)])
    loss = table.readings.loss[table.readings.run_id == FIRST].item()
    assert losses.mean() == pytest.approx(loss, abs=0.005)
    with pytest.raises(KeyError):
        kept.read(FIRST, 0.25)


def test_a_workdir_without_probes_says_nothing(workdir):
    for run in PLAN.runs():
        rewritten(
            workdir, lambda record: record.run.pop("probes") and None, run_id(*run)
        )
    table, reasons = read(workdir)
    assert table.predictions == () and not reasons


def test_runs_that_cannot_be_compared_are_left_out_with_their_reason(workdir):
    ids = [run_id(*run) for run in PLAN.runs()]
    other = dataclasses.replace(PLAN, draw=1)
    probe_file.write(Store(workdir), other.probes)
    half = np.full((12, 8), np.log(1 / 8), np.float16)
    name = "docstrings"

    def tokenizer(record):
        record.run["data.tokenizer"] = "sentencepiece:512"

    rewritten(workdir, lambda r: r.run.pop("probes") and None, ids[0])
    rewritten(workdir, tokenizer, ids[1])
    digest = PLAN.probes.digest
    rewritten(
        workdir,
        lambda r: probe_file.predictions({f"{name}:1": half}, {name: digest}),
        ids[2],
    )
    table, reasons = read(workdir)
    assert table.predictions[0].runs == (ids[3],)
    assert "names no such probe set" in reasons[ids[0]]
    assert "of sentencepiece:512: the probe set's are of bytes" in reasons[ids[1]]
    assert "are (12, 8) and not (24, 8)" in reasons[ids[2]]
    whole = np.full((24, 8), np.log(1 / 4), np.float16)
    rewritten(
        workdir,
        lambda r: probe_file.predictions({f"{name}:1": whole}, {name: digest}),
        ids[2],
    )
    assert "do not add up to 1" in read(workdir)[1][ids[2]]
    whole = np.full((24, 8), np.log(1 / 8), np.float16)
    rewritten(
        workdir,
        lambda r: probe_file.predictions(
            {f"{name}:1": whole}, {name: other.probes.digest}
        ),
        ids[2],
    )
    reason = read(workdir)[1]
    assert sum("another probe set of the same name" in r for r in reason.values()) == 1


def test_damaged_files_are_left_out_with_their_reason(workdir):
    ids = [run_id(*run) for run in PLAN.runs()]
    store = Store(workdir)
    cut = store.path("artifacts", ids[0], probe_file.PREDICTIONS)
    cut.write_bytes(cut.read_bytes()[:-100])
    store.path("artifacts", ids[1], probe_file.PREDICTIONS).unlink()
    rewritten(workdir, lambda r: b"no archive", ids[2])
    table, reasons = read(workdir)
    assert table.predictions[0].runs == (ids[3],)
    assert "is not what the record was written with" in reasons[ids[0]]
    assert "is gone" in reasons[ids[1]]
    assert "holds no predictions" in reasons[ids[2]]
    assert len(table.readings) == 4  # their losses stay


def test_without_its_probe_set_nothing_is_compared(workdir):
    (digest,) = probe_file.digests(Store(workdir))
    path = Store(workdir).path("probes", f"{digest}.npz")
    path.write_bytes(path.read_bytes()[:-10])
    table, reasons = read(workdir)
    assert table.predictions == () and len(reasons) == 4
    assert all(f"its probe set {digest[:8]} is no" in r for r in reasons.values())
    path.unlink()
    assert all("has no probe set" in r for r in read(workdir)[1].values())
    json.dumps(list(reasons.values()))


def test_a_damaged_truth_is_said_and_left_out(workdir):
    (digest,) = probe_file.digests(Store(workdir))
    Store(workdir).path("probes", f"{digest}.truth.npz").write_bytes(b"no")
    table, reasons = read(workdir)
    assert table.predictions[0].truth is None and not reasons
    assert any("nothing is set beside the truth" in line for line in table.warnings)


def test_predictions_at_the_best_step_are_read_with_when_it_was(tmp_path):
    plan = dataclasses.replace(PLAN, stop=0.25, worse=0.5)
    plan.write(tmp_path)
    table, reasons = read(tmp_path)
    (kept,) = table.predictions
    assert not reasons and kept.fractions[FIRST] == (BEST, 0.5, 1.0)
    assert kept.stopped[FIRST] == 0.25
    wanted = plan.log_probabilities("lstm", "docstrings", 8000, 8192, 0, BEST)
    np.testing.assert_allclose(kept.read(FIRST, BEST), wanted, atol=0.01)
    best = table.best.set_index("run_id").loc[FIRST]
    final = table.readings.set_index("run_id").loc[FIRST]
    assert best.loss < final.loss and best.tokens == 2048 and best.step == 128


def test_a_best_step_that_no_run_could_have_is_left_out(tmp_path):
    plan = dataclasses.replace(PLAN, stop=0.25)
    plan.write(tmp_path)

    def kept(step):
        logs = np.full((24, 8), np.log(1 / 8), np.float16)
        name = "docstrings"
        arrays = {f"{name}:best": logs, f"{name}:1": logs, f"{name}:best_step": step}
        return probe_file.predictions(arrays, {name: plan.probes.digest})

    rewritten(tmp_path, lambda record: kept(np.array(513)))
    assert "names step 513 of 512 as the best" in read(tmp_path)[1][FIRST]
    rewritten(tmp_path, lambda record: kept(np.array([1, 2])))
    assert "names no best step" in read(tmp_path)[1][FIRST]
