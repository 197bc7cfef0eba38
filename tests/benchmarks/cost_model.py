"""Time and memory of training on this CPU, against size, length, pack and runs.

    python -m tests.benchmarks.cost_model [--families unet dit]

Measures training steps of every family over a small design, compiling left out, and
fits three stated forms, each in relative error with coefficients above zero:

    CPU-seconds of a run's step = products / F + elements / E + starts x s
        as work.py counts them in its trace; by the processor's time, which other work
        on the machine changes little
    bytes of a pack's step = c + width x (s x parameters + a x saved)
        saved: what the backward pass reads, as cost.py counts it
    seconds of R runs in a pack of two slots = c + R x r
        whole runs, evaluation and records too

The points between those of the design are held out, and the error is on them: median
absolute per cent, and the largest. F, E and s of all families are where
scaling/planning/hardware.py has its constants from; beside them stands what was
measured over what plans say with the constants of now, the median and its range.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence

import jax
import numpy as np
from scipy.optimize import nnls

from scaling import corpora
from scaling.engines.local import cores
from scaling.families import Images, Spec, Tokens
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.planning import cost, hardware
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run
from scaling.scheduling.progress import short
from scaling.store import Store
from scaling.study import corpus
from scaling.training import programs, trainer
from tests.benchmarks._stepped import stepped

VOCAB = 257
BATCH = 8
TEXT = ("transformer", "lstm", "convolution")
PICTURES = ("unet", "dit", "mixer")
# (size, tokens of a sequence or pixels of a side, width); the design, then what is held
# out.
DESIGN = (
    (8_000, 64, 2),
    (8_000, 128, 4),
    (64_000, 64, 4),
    (64_000, 128, 2),
    (256_000, 64, 2),
)
HELD_OUT = ((24_000, 64, 2), (24_000, 128, 4), (128_000, 64, 2))
OF_PICTURES = ((20_000, 8, 1), (20_000, 16, 1), (160_000, 8, 1))
PICTURES_HELD_OUT = ((80_000, 8, 1), (80_000, 16, 1))
RUNS = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Point:
    """A measured step of a pack; all but width and bytes are of one run's step."""

    width: int
    products: float
    elements: float
    starts: float
    params: float
    saved: float
    seconds: float
    bytes: float

    def time_columns(self) -> list[float]:
        return [self.products, self.elements, self.starts]

    def memory_columns(self) -> list[float]:
        return [1.0, self.width * self.params, self.width * self.saved]


def make_run(family: str, size: int, length: int, steps: int = 100) -> Run:
    sets = (EvaluationSet("docstrings", corpus("docstrings"), tokens=8_192),)
    data = Data(corpus("docstrings"), steps * BATCH * length)
    return Run(Model(family, size), data, Optimiser(1e-3), BATCH, length, sets)


def pictures_run(family: str, size: int) -> Run:
    data = Data((Part("random"),), 10**9)
    return Run(
        Model(family, size), data, Optimiser(1e-3), 32, 1, (), objective="denoise"
    )


def measure(family: str, size: int, extent: int, width: int) -> Point:
    """Args: extent: tokens of a sequence, or pixels of a side."""
    spec: Spec = Images(extent, extent)
    run = pictures_run(family, size)
    if family in TEXT:
        run, spec = make_run(family, size, extent), Tokens(VOCAB, extent)
    devices = min(cores(), width, 2)
    layout = Layout(run=devices, width=width)
    rate = stepped(run, layout, spec)
    rates = [rate(0.3) for _ in range(5)]
    program = programs.compiled(run.program(), layout, spec).advance
    used = program.memory_analysis()
    described = cost.describe(run, spec)
    programs.compiled.cache_clear()
    return Point(
        width=width,
        products=described.products,
        elements=described.elements,
        starts=described.starts,
        params=described.params_total,
        saved=described.memory - 16 * described.params_total,
        seconds=run.batch / float(np.median(rates)),
        bytes=devices * (used.argument_size_in_bytes + used.temp_size_in_bytes),
    )


def fitted(rows: list[list[float]], values: list[float]) -> np.ndarray:
    """Coefficients above zero of least relative squares."""
    weighted = np.asarray(rows) / np.asarray(values)[:, None]
    scale = weighted.max(axis=0)
    return nnls(weighted / scale, np.ones(len(rows)))[0] / scale


def error(theta: np.ndarray, rows: list[list[float]], values: list[float]) -> str:
    """Median absolute error, and the largest, in per cent."""
    off = 100 * np.abs(np.asarray(rows) @ theta / np.asarray(values) - 1)
    return f"{np.median(off):.0f}% ({off.max():.0f}%)"


def steps(families: Sequence[str]) -> None:
    """Fits and prints the cost of a step, family by family and for all."""
    taught: list[Point] = []
    asked: list[Point] = []
    columns = "CPU-seconds of a run's step", "error", "measured / planned"
    print("| family |", " | ".join((*columns, "bytes of a pack", "error")), "|")
    print("|---|---|---|---|---|---|")
    for family in families:
        of_text = family in TEXT
        known = [measure(family, *p) for p in (DESIGN if of_text else OF_PICTURES)]
        held_out = HELD_OUT if of_text else PICTURES_HELD_OUT
        unknown = [measure(family, *point) for point in held_out]
        row(family, known, unknown)
        taught, asked = taught + known, asked + unknown
    row("all together", taught, asked)


def row(name: str, known: list[Point], unknown: list[Point]) -> None:
    by_time = fitted([p.time_columns() for p in known], [p.seconds for p in known])
    by_size = fitted([p.memory_columns() for p in known], [p.bytes for p in known])
    off = error(
        by_time, [p.time_columns() for p in unknown], [p.seconds for p in unknown]
    )
    planned = [hardware.core_seconds(dataclasses.asdict(p)) for p in (*known, *unknown)]
    ratios = np.array([p.seconds for p in (*known, *unknown)]) / planned
    wrong = error(
        by_size, [p.memory_columns() for p in unknown], [p.bytes for p in unknown]
    )
    product, element, start = by_time
    per = lambda x: short(1 / x) if x else "unlimited"
    base, param, saved = by_size
    time = f"products / {per(product)} + elements / {per(element)}"
    print(
        f"| {name} | {time} + starts x {1e6 * start:.2g} us | {off} | "
        f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}) | "
        f"{short(base)} + width x ({param:.3g} x parameters + {saved:.2g} x saved) | "
        f"{wrong} |",
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
        f"{off}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = (*TEXT, *PICTURES)
    parser.add_argument("--families", nargs="+", choices=every, default=every)
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", min(2, cores()))
    steps(given.families)
    if set(given.families) == set(every):
        runs()
    return 0


if __name__ == "__main__":
    sys.exit(main())
