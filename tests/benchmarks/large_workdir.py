"""`scaling status` and `scaling plan` of a workdir with 20,000 records.

A study of 21,000 runs, of which 20,000 have made-up records as training leaves them
(2 evaluation sets, 4 readings each) and 500 have failed attempts. Prints for each
command its wall and CPU seconds, with those of its child, and the peak of its memory.
The first plan prices the programs; the second one is what is judged, with `status`, by
CPU seconds: 10 at most, as the wall's depend on what else the machine does, and 1 GB.

What has been measured stands in docs/measurements.md.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scaling import corpora, study
from scaling.layout import Layout
from scaling.record import Artifact, Attempt, Reading, Record
from scaling.run import Run
from scaling.store import Store

RECORDS, ATTEMPTS = 20_000, 500
MOST_SECONDS, MOST_BYTES = 10.0, 1e9

STUDY = """
from scaling import Data, EvaluationSet, Model, Optimiser, Run, corpus, together, vary

def study(results):
    run = Run(
        model=Model("transformer", 10_000),
        data=Data(corpus("markov"), 100_000),
        optimiser=Optimiser(1e-3),
        batch=8,
        length=64,
        evaluation=(
            EvaluationSet("markov", corpus("markov")),
            EvaluationSet("hmm", corpus("hmm")),
        ),
    )
    axes = {
        "model.family": ("transformer", "lstm"),
        "model.size": tuple(10_000 * n for n in range(1, 11)),
        "optimiser.learning_rate": tuple(1e-3 * n for n in range(1, 11)),
        "data.tokens": tuple(10_000 * n for n in range(1, 11)),
    }
    seeds = tuple({seeds})
    both = dict.fromkeys(("init_seed", "data.seed"), seeds)
    yield from together(vary(run, axes), both)
"""


def made_record(run: Run, run_id: str, digests: dict[str, str]) -> Record:
    """As training leaves it, with made-up numbers."""
    loss = 2.0 + 10.0 / run.model.size**0.3 + 10.0 / run.tokens**0.3
    readings = tuple(
        Reading(e.name, quantity, kind, loss, 0.01, unit, e.tokens, run.steps)
        for e in run.evaluation
        for quantity, unit in (("loss", "nats/token"), ("bits_per_byte", "bits/byte"))
        for kind in ("final", "best")
    )
    files = ("loss_curve", "nats")
    artifacts = tuple(
        Artifact(name, f"artifacts/{run_id}/{name}.npz", "0" * 64) for name in files
    )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Record(
        run_id=run_id,
        status="done",
        run=run.flat(),
        digests=digests,
        trajectory=run_id,
        params_total=run.model.size,
        params_active=run.model.size,
        params_embedding=1_000,
        steps=run.steps,
        tokens=run.tokens,
        unique_tokens=run.unique_tokens,
        epochs=1.0,
        flops=6.0 * run.model.size * run.tokens,
        flops_xla=None,
        flops_xla_reason="made up",
        readings=readings,
        artifacts=artifacts,
        attempt=1,
        layout=Layout().to_json(),
        wall_seconds=1.0,
        finished=now,
        host="made up",
        device="cpu",
        versions={"jax": "0"},
        commit="",
    )


def made_workdir(path: Path, workdir: Path, data_dir: Path, records: int) -> None:
    """Writes records of the study's first runs, and attempts at some of the others."""
    runs = study.load(str(path)).runs(study.Results(lambda run: None))
    parts = list({part.key: part for part in runs[0].corpora()}.values())
    prepared = corpora.prepare(parts, str(data_dir), "bytes", False)
    digests = {key: made.digest for key, made in prepared.items()}
    store = Store(workdir)
    folder = workdir / "records"
    folder.mkdir(parents=True)
    for run in runs[:records]:
        run_id = run.run_id(digests)
        body = made_record(run, run_id, digests).to_json()
        # Not through the store, which waits for the disk after each.
        text = json.dumps(body, indent=1, sort_keys=True)
        (folder / f"{run_id}.json").write_text(text)
    for run in runs[records:][: ATTEMPTS * records // RECORDS]:
        attempt = Attempt(run.run_id(digests), 1, "crash", "made up", "", "cpu", "now")
        folder = workdir / "attempts" / attempt.run_id
        folder.mkdir(parents=True)
        (folder / "1.json").write_text(json.dumps(dataclasses.asdict(attempt)))
    planned = {run.run_id(digests): run.to_json() for run in runs}
    store.write_study(path.stem, {"runs": list(planned), "planned": planned})


def timed(*arguments: Any) -> tuple[float, float]:
    """Runs `scaling ARGUMENTS`; prints what it took; (CPU seconds, peak bytes)."""
    script = (
        "import resource, sys\n"
        "from scaling.main import entry\n"
        "try:\n"
        "    entry()\n"
        "finally:\n"
        "    own = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    print('PEAK', own.ru_maxrss, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, *map(str, arguments)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = 1024.0 * int(done.stderr.rpartition("PEAK ")[2])
    last = done.stdout.splitlines()[-1]
    name = f"scaling {arguments[0]}"
    print(f"{name}: {wall:.1f} s, {cpu:.1f} s of CPU, {peak / 1e6:.0f} MB: {last}")
    return cpu, peak


def main() -> int:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    print(f"{records:,} records; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        path, workdir = Path(folder) / "large.py", Path(folder) / "work"
        data_dir = Path(folder) / "data"
        seeds = list(range(-(-(records + records // 20) // 2_000)))
        path.write_text(STUDY.replace("{seeds}", str(seeds)))
        made_workdir(path, workdir, data_dir, records)
        plan = ("plan", path, "--workdir", workdir, "--data_dir", data_dir)
        taken = [timed("status", workdir), timed(*plan), timed(*plan)]
    return sum(
        cpu > MOST_SECONDS or peak > MOST_BYTES for cpu, peak in (taken[0], taken[2])
    )


if __name__ == "__main__":
    sys.exit(main())
