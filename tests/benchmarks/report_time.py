"""How long a report takes, and its memory: the quick study's, and one of 5,000 records.

    python -m tests.benchmarks.report_time [WORKDIR]

WORKDIR is of the quick study (runs/quickstart by default; left out where it is not
there). The 5,000 records are made: five families, two corpora, five sizes, five budgets
and five rates of four seeds, scored on two sets, each with a loss curve and the nats of
every document. Prints wall seconds, seconds of CPU of all processes, which a busy
machine changes little, and the memory of the largest process.
Expected on two idle cores: the quick study in 30 s, 5,000 records in 60 s. What was
measured stands in docs/measurements.md.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from scaling.record import Reading, Record
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run
from scaling.store import Store

QUICK = "runs/quickstart"
FAMILIES = {"lstm": 1.6, "transformer": 1.0, "convolution": 2.0, "gru": 1.4, "mlp": 0.8}
CORPORA = {"docstrings": 1.0, "code": 0.2}
SIZES = (8_000, 16_000, 32_000, 64_000, 128_000)
BUDGETS = (80_000, 160_000, 320_000, 640_000, 1_280_000)
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
SEEDS = range(4)
LIMITS = {"the quick study": 30.0, "5,000 records": 60.0}
DOCUMENTS, POINTS = 100, 160


def made(folder: Path) -> Path:
    """A workdir of 5,000 records with their artifacts."""
    store, rng = Store(folder), np.random.default_rng(0)
    parts = {name: Part(name) for name in CORPORA}
    sets = tuple(EvaluationSet(name, (part,), 65_536) for name, part in parts.items())
    grid = itertools.product(FAMILIES, CORPORA, SIZES, BUDGETS, RATES, SEEDS)
    for family, corpus, size, tokens, rate, seed in grid:
        run = Run(
            model=Model(family, size),
            data=Data((parts[corpus],), tokens, seed=seed),
            optimiser=Optimiser(rate),
            batch=8,
            length=64,
            evaluation=sets,
            init_seed=seed,
        )
        losses = {}
        for name in CORPORA:
            worth = FAMILIES[family] * (1.0 if name == corpus else 0.2)
            ideal = 0.9 + 14.0 * size**-0.34 + 24.0 * (worth * tokens) ** -0.28
            ideal *= np.exp(0.03 * np.log2(rate / 4e-3) ** 2)
            losses[name] = float(ideal * np.exp(rng.normal(0, 0.006)))
        store.write(_record(store, rng, run, losses))
    return folder


def _record(
    store: Store, rng: np.random.Generator, run: Run, losses: dict[str, float]
) -> Record:
    name = run.run_id({part.key: part.key for part in run.corpora()})
    tokens = np.full(DOCUMENTS, 655)
    nats = {}
    for evaluation, loss in losses.items():
        nats[f"{evaluation}:65536:nats"] = tokens * (
            loss + rng.normal(0, 0.3, DOCUMENTS)
        )
        nats[f"{evaluation}:65536:tokens"] = tokens
    steps = np.unique(np.geomspace(1, run.steps, POINTS).astype(int))
    curve = {"step": steps, "loss": 3.0 + 20.0 * (512.0 * steps) ** -0.28}
    artifacts = [
        store.write_artifact(name, title, _packed(arrays))
        for title, arrays in (("loss_curve.npz", curve), ("nats.npz", nats))
    ]
    return Record(
        run_id=name,
        status="done",
        run=json.loads(json.dumps(run.flat())),
        digests={part.key: part.key for part in run.corpora()},
        trajectory=name,
        params_total=run.model.size,
        params_active=run.model.size,
        params_embedding=0,
        steps=run.steps,
        tokens=run.tokens,
        unique_tokens=run.unique_tokens,
        epochs=1.0,
        flops=6.0 * run.model.size * run.tokens,
        flops_xla=None,
        flops_xla_reason="made",
        readings=tuple(
            Reading(one, "loss", "final", loss, 0.03, "nats/token", 65_500, run.steps)
            for one, loss in losses.items()
        ),
        artifacts=tuple(artifacts),
        attempt=1,
        layout={},
        wall_seconds=1.0,
        finished="2026-01-01T00:00:00+00:00",
        host="",
        device="",
        versions={},
        commit="",
    )


def _packed(arrays: dict[str, np.ndarray]) -> bytes:
    body = io.BytesIO()
    np.savez_compressed(body, **arrays)
    return body.getvalue()


def measured(workdir: Path, out: Path) -> tuple[float, float, float]:
    """Wall seconds, seconds of CPU, and megabytes of the largest process."""
    program = Path(sys.executable).parent / "scaling-analysis"
    begun = time.perf_counter()
    child = subprocess.Popen(
        [program, "report", workdir, "--out", out], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, f"the report ended with {child.returncode}"
    wall = time.perf_counter() - begun
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def main(arguments: list[str]) -> int:
    slow = 0
    with tempfile.TemporaryDirectory() as home:
        folders = {"5,000 records": made(Path(home) / "made")}
        quick = Path(arguments[0] if arguments else QUICK)
        if (quick / "records").is_dir():
            folders = {"the quick study": quick} | folders
        for name, workdir in folders.items():
            out = Path(home) / "report"
            wall, cpu, megabytes = measured(workdir, out)
            page = (out / "report.html").stat().st_size / 1e6
            print(
                f"{name}: {wall:.1f} s wall, {cpu:.1f} s of CPU, {megabytes:.0f} MB "
                f"in the largest process; page of {page:.1f} MB",
                flush=True,
            )
            slow += min(wall, cpu) > LIMITS[name]
    return slow


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
