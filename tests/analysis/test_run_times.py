"""Estimates against records: only those made for the machine that trained the run."""

import json
import types

import numpy as np
import pytest

from analysis.questions import run_times
from analysis.tables import run_times as times
from scaling.store import Store


def record(run_id, family, seconds, device="cpu", devices=2, status="done"):
    return types.SimpleNamespace(
        run_id=run_id,
        run={"model.family": family},
        status=status,
        wall_seconds=seconds,
        device=device,
        layout={"run": 1, "data": devices, "model": 1},
    )


def estimate(target, device, devices, seconds):
    body = {"run_id": "", "target": target, "device": device, "devices": devices}
    return {target: body | {"seconds": seconds, "how": "guess", "memory": None}}


@pytest.fixture
def compare(tmp_path):
    def compare(kept, *records):
        (tmp_path / "estimates.json").write_text(json.dumps(kept))
        return times.compared(Store(tmp_path), records)

    return compare


def test_median_and_range_by_family(compare):
    cpu = estimate("cpu", "cpu", 4, 10.0)
    kept = {name: cpu for name in "abcd"}
    took = [record(n, "lstm", s) for n, s in (("a", 5.0), ("b", 20.0), ("c", 30.0))]
    frame = compare(
        kept, *took, record("d", "transformer", 30.0), record("e", "x", 1.0)
    )
    assert frame.family.tolist() == ["lstm", "transformer"]
    assert frame.runs.tolist() == [3, 1]
    np.testing.assert_allclose(frame.ratio, [2.0, 3.0])
    np.testing.assert_allclose(frame[["low", "high"]].iloc[0], [0.5, 3.0])
    first, second = run_times.sentences(frame)
    assert "3 runs of lstm scattered around" in first and "2 times as long" in first
    assert "1 run of transformer took longer than" in second


def test_only_estimates_for_the_machine_itself(compare):
    kept = {
        "a": estimate("v5litepod-8", "TPU v5 lite", 8, 1.0)
        | estimate("v5p-16", "TPU v5", 8, 1.0)
        | estimate("cpu", "cpu", 2, 1.0),
        "b": estimate("h100-8", "H100", 8, 1.0) | estimate("h100-1", "H100", 1, 1.0),
        "c": estimate("cpu", "cpu", 2, None),
    }
    frame = compare(
        kept,
        record("a", "lstm", 2.0, "TPU v5 lite", 8),
        record("b", "lstm", 3.0, "NVIDIA H100 80GB HBM3", 8),
        record("c", "lstm", 3.0),
        record("a", "other", 2.0, status="diverged"),
    )
    assert set(zip(frame.target, frame.ratio, strict=True)) == {
        ("v5litepod-8", 2.0),
        ("h100-8", 3.0),
    }


def test_a_workdir_without_estimates_has_no_rows(tmp_path):
    frame = times.compared(Store(tmp_path), [record("a", "lstm", 1.0)])
    assert frame.empty and list(frame.columns) == run_times.FRAMES[0].names
