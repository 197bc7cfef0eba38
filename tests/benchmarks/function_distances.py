"""Compares the predictions of 500 runs pairwise, under 301 weightings of documents.

    python -m tests.benchmarks.function_distances [--runs 500]

4,096 positions and 257 tokens a run, read from compressed files as a workdir has them
(25 different ones, which 20 runs each share). Prints wall and CPU seconds and the peak
of the process's memory; a temporary file of 1 GB is written. Ends with 1 where it takes
more than 2 minutes of wall time or 2 GB.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import sys
import tempfile
import time

import numpy as np

from analysis.predictions.load import Array, Predictions
from analysis.predictions.pairs import distances
from scaling import probe_file
from scaling.store import Store
from tests.support.made_predictions import Plan

FILES, POSITIONS, VOCAB, DRAWS = 25, 4096, 257, 301
MOST_SECONDS, MOST_BYTES = 120.0, 2e9


def written(store: Store, plan: Plan) -> None:
    """Files of predictions; made of few normal numbers, which are slow to draw."""
    rng = np.random.default_rng(0)
    for k in range(FILES):
        logits = 2 * rng.standard_normal((POSITIONS, VOCAB), np.float32)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        kept = {probe_file.key("made", 1.0): logits.astype(np.float16)}
        body = probe_file.predictions(kept, {"made": "0" * 16})
        store.write_artifact(f"r{k}", probe_file.PREDICTIONS, body)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    plan = Plan(positions=POSITIONS, vocab=VOCAB)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        written(store, plan)

        def source(run_id: str, fraction: float) -> Array:
            name = f"r{int(run_id) % FILES}"
            path = store.path("artifacts", name, probe_file.PREDICTIONS)
            file = probe_file.Predictions(path.read_bytes())
            return file.log_probabilities("made", fraction)

        names = [str(k) for k in range(runs)]
        predictions = Predictions(plan.probes, dict.fromkeys(names, (1.0,)), source)
        pairs = np.array(list(itertools.combinations(range(runs), 2)))
        rng = np.random.default_rng(1)
        weights = rng.multinomial(POSITIONS, [1 / POSITIONS] * POSITIONS, DRAWS)
        wall, cpu = time.perf_counter(), time.process_time()
        out = distances(predictions, [(n, 1.0) for n in names], pairs, weights)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert out.shape == (DRAWS, len(pairs)) and np.isfinite(out).all()
    cores = len(os.sched_getaffinity(0))
    print(
        f"{runs} runs x {POSITIONS} positions x {VOCAB} tokens, {len(pairs)} pairs, "
        f"{DRAWS} weightings: {wall:.0f} s ({cpu:.0f} s of CPU) on {cores} cores, "
        f"{peak / 1e9:.2f} GB at most"
    )
    return int(wall > MOST_SECONDS) + int(peak > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
