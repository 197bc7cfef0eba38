"""From which length on keeping predictions costs a run less than a hundredth.

    python -m tests.benchmarks.probe_time [--positions 1024] [--families A,B]

For some families and sizes: tokens a second of training in packs, and the seconds in
which a run's predictions at the positions are made, normalised, packed and hashed. Both
are measured in this process, one after the other, and the fastest of several counts; so
the answer, in training tokens, hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import time
from collections.abc import Callable

import jax
import numpy as np

from scaling import corpora, probe_file
from scaling.corpora import _probes
from scaling.families import Tokens
from scaling.layout import Layout
from scaling.run import Data, EvaluationSet, Model, Optimiser, Probes, Run, Schedule
from scaling.study import corpus
from scaling.training import evaluation, mesh, programs, speed

FAMILIES = ("transformer", "lstm", "convolution", "mamba2")
SIZES = (8_000, 24_000, 72_000, 1_000_000)
TIMES = 5


def example(family: str, size: int, positions: int) -> Run:
    text = corpus("docstrings")
    return Run(
        model=Model(family, size),
        data=Data(text, 1 << 20),
        optimiser=Optimiser(5e-3),
        schedule=Schedule(warmup_tokens=10_240),
        batch=8,
        length=64,
        evaluation=(EvaluationSet("docstrings", text),),
        probes=(Probes("docstrings", text, positions, per_document=16),),
    )


def least(function: Callable[[], object]) -> float:
    """Seconds of the fastest of TIMES calls, after one that warms up."""
    taken = []
    for _ in range(TIMES + 1):
        started = time.monotonic()
        function()
        taken.append(time.monotonic() - started)
    return min(taken[1:])


def seconds_of_probes(run: Run, layout: Layout) -> float:
    """What one fraction of one probe set takes a run, its share of the file too."""
    part = run.probes[0].part
    cut = _probes.cut(
        run.probes[0], run.length, {part.key: corpora.open_prepared(part)}
    )
    calls = programs.ready(run.program(), layout, Tokens(cut.vocab, run.length))
    with jax.set_mesh(calls.mesh):
        on_slots = mesh.slots(calls.mesh)
        values = {n: np.full(layout.width, v) for n, v in run.values().items()}
        fresh = jax.device_put(np.ones(layout.width, bool), on_slots)
        state = calls.refill(calls.empty(), jax.device_put(values, on_slots), fresh)
        model = calls.select(state, 0).model
        read = functools.partial(calls.read, model)

        def keep() -> None:
            made = evaluation.predictions(read, cut, mesh.windows(calls.mesh))
            key = probe_file.key(cut.name, 1.0)
            data = probe_file.predictions({key: made}, {cut.name: cut.digest})
            hashlib.sha256(data).hexdigest()

        return least(keep)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--families", default=",".join(FAMILIES), metavar="A,B")
    parser.add_argument("--width", type=int, default=4, help="runs of a pack")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    corpora.prepare([example("lstm", 8_000, 1).probes[0].part])
    print(f"{arguments.positions} positions of 64 tokens; packs of {arguments.width}")
    print("family size tokens/s seconds tokens 1% from")
    for family in arguments.families.split(","):
        for size in SIZES:
            run = example(family, size, arguments.positions)
            layout = Layout(run=2, width=arguments.width)
            rate = speed.tokens_per_second(run, layout, Tokens(257, run.length))
            assert rate is not None
            taken = seconds_of_probes(run, layout)
            tokens = taken * rate
            print(
                f"{family} {size:,} {rate:,.0f} {taken:.3f} {tokens:,.0f} "
                f"{100 * tokens:,.0f} ({100 * tokens / size:,.0f} a parameter)",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
