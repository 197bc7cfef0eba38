"""Time and memory of training on this CPU, against size, length, pack and runs.

    python -m tests.benchmarks.cost_model

Measures training steps of every family over a small design, compiling left out, and
fits three stated forms, each in relative error with coefficients above zero:

    seconds of a pack's step = c + slots x (memory / B + FLOPs / F)
        slots: runs of one core; memory and FLOPs: of one run's step, as cost.py counts
    bytes of a pack's step = c + width x (s x parameters + a x saved)
        saved: what the backward pass reads, as cost.py counts it
    seconds of R runs in a pack of two slots = c + R x r
        whole runs, evaluation and records too

The points between those of the design are held out, and the error is on them: median
absolute per cent. B and F of all families are where scaling/hardware.py has its
constants from.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time

import jax
import numpy as np
from scipy.optimize import nnls

from scaling import corpora
from scaling.engines.local import cores
from scaling.families import Tokens
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.planning import cost
from scaling.run import Data, EvaluationSet, Model, Optimiser, Run
from scaling.scheduling.progress import short
from scaling.store import Store
from scaling.study import corpus
from scaling.training import programs, speed, trainer

VOCAB = 257
BATCH = 8
FAMILIES = ("transformer", "lstm", "convolution")
# (size, length, width); the design, then what is held out.
DESIGN = (
    (8_000, 64, 2),
    (8_000, 128, 4),
    (64_000, 64, 4),
    (64_000, 128, 2),
    (256_000, 64, 2),
)
HELD_OUT = ((24_000, 64, 2), (24_000, 128, 4), (128_000, 64, 2))
RUNS = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Point:
    """A measured step of a pack; flops, memory and saved are of one run's step."""

    slots: int
    width: int
    flops: float
    memory: float
    params: float
    saved: float
    seconds: float
    bytes: float

    def time_columns(self) -> list[float]:
        return [1.0, self.slots * self.memory, self.slots * self.flops]

    def memory_columns(self) -> list[float]:
        return [1.0, self.width * self.params, self.width * self.saved]


def make_run(family: str, size: int, length: int, steps: int = 100) -> Run:
    sets = (EvaluationSet("docstrings", corpus("docstrings"), tokens=8_192),)
    data = Data(corpus("docstrings"), steps * BATCH * length)
    return Run(Model(family, size), data, Optimiser(1e-3), BATCH, length, sets)


def measure(family: str, size: int, length: int, width: int) -> Point:
    run = make_run(family, size, length)
    devices = min(cores(), width, 2)
    layout = Layout(run=devices, width=width)
    rate = speed.tokens_per_second(run, layout, Tokens(VOCAB, run.length), seconds=0.7)
    program = programs.compiled(
        run.program(), layout, Tokens(VOCAB, run.length)
    ).advance
    used = program.memory_analysis()
    described = cost.describe(run, Tokens(VOCAB, run.length))
    programs.compiled.cache_clear()
    tokens = run.tokens_per_step
    return Point(
        slots=width // devices,
        width=width,
        flops=described.flops_per_token * tokens,
        memory=described.memory,
        params=described.params_total,
        saved=described.memory - 16 * described.params_total,
        seconds=width * tokens / rate,
        bytes=devices * (used.argument_size_in_bytes + used.temp_size_in_bytes),
    )


def fitted(rows: list[list[float]], values: list[float]) -> np.ndarray:
    """Coefficients above zero of least relative squares."""
    weighted = np.asarray(rows) / np.asarray(values)[:, None]
    scale = weighted.max(axis=0)
    return nnls(weighted / scale, np.ones(len(rows)))[0] / scale


def error(theta: np.ndarray, rows: list[list[float]], values: list[float]) -> float:
    """Median absolute error in per cent."""
    predicted = np.asarray(rows) @ theta
    return float(100 * np.median(np.abs(predicted / np.asarray(values) - 1)))


def steps() -> None:
    """Fits and prints the cost of a step, family by family and for all."""
    taught: list[Point] = []
    asked: list[Point] = []
    print("| family | seconds of a step of a pack | error | bytes | error |")
    print("|---|---|---|---|---|")
    for family in FAMILIES:
        known = [measure(family, *point) for point in DESIGN]
        unknown = [measure(family, *point) for point in HELD_OUT]
        row(family, known, unknown)
        taught, asked = taught + known, asked + unknown
    row("all together", taught, asked)


def row(name: str, known: list[Point], unknown: list[Point]) -> None:
    time_rows = [point.time_columns() for point in known]
    start, byte, flop = fitted(time_rows, [p.seconds for p in known])
    off = error(
        np.array([start, byte, flop]),
        [p.time_columns() for p in unknown],
        [p.seconds for p in unknown],
    )
    memory_rows = [point.memory_columns() for point in known]
    base, param, saved = fitted(memory_rows, [p.bytes for p in known])
    wrong = error(
        np.array([base, param, saved]),
        [p.memory_columns() for p in unknown],
        [p.bytes for p in unknown],
    )
    speed = f"FLOPs / {short(1 / flop)}" if flop else "0 FLOPs"
    print(
        f"| {name} | {1e3 * start:.2g} ms + slots x (memory / {short(1 / byte)} + "
        f"{speed}) | {off:.0f}% | {short(base)} + width x ({param:.3g} x parameters + "
        f"{saved:.2g} x saved) | {wrong:.0f}% |",
        flush=True,
    )


def runs() -> None:
    """Fits and prints the time of packs of several whole runs."""
    folder = corpora.data_folder(None)
    prepared = corpora.prepare(corpus("docstrings"), folder, "bytes", True)
    slots = min(2, cores())
    layout = Layout(run=slots, width=slots)
    taken: dict[int, list[float]] = {count: [] for count in RUNS}
    for number in range(4):  # the first warms up
        for count in RUNS:
            many = tuple(
                dataclasses.replace(make_run("transformer", 24_000, 64), init_seed=i)
                for i in range(count)
            )
            digests = {key: found.digest for key, found in prepared.items()}
            ids = tuple(run.run_id(digests) for run in many)
            with tempfile.TemporaryDirectory() as workdir:
                started = time.monotonic()
                pack = Pack(many, ids, layout)
                trainer.train(pack, prepared, Store(workdir), lambda event: None)
                if number:
                    taken[count].append(time.monotonic() - started)
    medians = {count: float(np.median(times)) for count, times in taken.items()}
    ends = (RUNS[0] * 1.0, RUNS[-1] * 1.0)
    theta = fitted([[1.0, n] for n in ends], [medians[n] for n in (RUNS[0], RUNS[-1])])
    middle = RUNS[1:-1]
    off = error(theta, [[1.0, n] for n in middle], [medians[n] for n in middle])
    said = ", ".join(f"{count}: {medians[count]:.2f} s" for count in RUNS)
    print(
        f"\nTransformers of 24k parameters, 100 steps of {BATCH} x 64, in a pack of "
        f"{slots}: {said}.\nSeconds = {theta[0]:.2f} + {theta[1]:.2f} x runs, error "
        f"{off:.0f}%"
    )


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    jax.config.update("jax_num_cpu_devices", min(2, cores()))
    steps()
    runs()
    return 0


if __name__ == "__main__":
    sys.exit(main())
