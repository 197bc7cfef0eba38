"""The benchmark for accelerators shows on a CPU that it works."""

from __future__ import annotations

import re

import pytest

from tests.benchmarks import gpu_speed


@pytest.mark.slow
def test_the_accelerator_benchmark_works_where_there_is_none(capsys):
    assert gpu_speed.main(["--small"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"matmul peak: [\d.]+[MGT]FLOP/s", said)
    for name in ("transformer", "lstm", "convolution"):
        share = re.search(rf"  {name} +\S+: +([\d.]+)%", said)
        assert share and float(share[1]) > 0, said
    assert re.search(r"[\d.]+ times, \S+ against \S+ tokens/s, 2 runs at once", said)


def test_without_an_accelerator_nothing_is_measured(capsys):
    assert gpu_speed.main([]) == 1
    assert "not measured" in capsys.readouterr().out
