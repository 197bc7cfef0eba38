"""The training step of every family, as a ratio to the Transformer's.

    python -m tests.benchmarks.family_speed [--rounds 3] [--families A,B]

Members of equal non-embedding parameters, alone on one device with all cores its
threads, in float32: 24 thousand on batches of 8 x 64 tokens, as the studies of configs/
train them, and 300 thousand on 8 x 256. Seconds of a step over the Transformer's of the
same round, in rounds that take each family in turn; the table gives medians. More FLOPs
make a step slower too, so their ratio stands beside it: the rest is how well the
family's operations suit this machine.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from scaling import families
from scaling.families import Tokens
from scaling.layout import Layout
from scaling.planning import cost
from scaling.run import Data, Model, Optimiser, Part, Run
from scaling.training import speed

VOCAB = 257
SHAPES = ((24_000, 8, 64), (300_000, 8, 256))  # size, batch, length
AGAINST = "transformer"


def make_run(family: str, size: int, batch: int, length: int) -> Run:
    data = Data((Part("random"),), tokens=10**9)
    return Run(Model(family, size), data, Optimiser(1e-3), batch, length, ())


def measure(names: list[str], shape: tuple[int, int, int], rounds: int) -> None:
    """Prints the table of one shape."""
    size, batch, length = shape
    runs = {name: make_run(name, *shape) for name in names}
    flops = {
        name: cost.describe(run, Tokens(VOCAB, run.length)).flops_per_token
        for name, run in runs.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, run in runs.items():
            rate = speed.tokens_per_second(
                run, Layout(), Tokens(VOCAB, run.length), seconds=0.5
            )
            assert rate is not None
            seconds[name].append(batch * length / rate)
    print(f"\n{size:,} parameters, {batch} x {length} tokens a step\n")
    print("| family | step, ms | step / Transformer's | FLOPs / Transformer's |")
    print("|---|---:|---:|---:|")
    base = np.array(seconds[AGAINST])
    for name in sorted(names, key=lambda name: np.median(seconds[name])):
        step = 1e3 * np.median(seconds[name])
        ratio = np.median(np.array(seconds[name]) / base)
        work = flops[name] / flops[AGAINST]
        print(f"| {name} | {step:.1f} | {ratio:.2f} | {work:.2f} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--families", default="", metavar="A,B")
    arguments = parser.parse_args()
    names = [name for name in families.names("next_token") if not families.fitted(name)]
    if arguments.families:
        names = [AGAINST, *arguments.families.split(",")]
        names = list(dict.fromkeys(names))
    for shape in SHAPES:
        measure(names, shape, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
