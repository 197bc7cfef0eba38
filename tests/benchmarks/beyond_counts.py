"""Made studies of models that share nothing but n-grams: is agreement found in them?

    OPENBLAS_NUM_THREADS=1 python -m tests.benchmarks.beyond_counts \
        [--studies 1000] [--draws 200] [--processes 2]

(One thread a process: with so small arrays more of them cost more than they save.)

A study has an n-gram model and two families of two seeds, made in memory at 256
positions of 32 tokens. In the nulls a family is the n-gram model changed in a way that
is the same for both, and something of its own; agreement beyond n-grams is to be shown
(the 95% interval above 0) in at most 5% of them. In the last rows both families know
the truth better than the n-gram model, and it is to be found. Prints a line a kind and
measure; ends with the number of rows out of bounds.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np

from analysis.inference.intervals import interval
from analysis.predictions import given
from analysis.predictions.contrasts import Compared
from analysis.predictions.load import held
from tests.support.made_predictions import Plan

SEEDS = 2
BASE = Plan(positions=256)
CLUSTERED = Plan(positions=256, per_document=4)
Array = np.ndarray


def softmax(logits: Array) -> Array:
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def own(counts: Array, truth: Array, error: Array) -> Array:
    return softmax(counts + error)


def sharper(counts: Array, truth: Array, error: Array) -> Array:
    return softmax(1.3 * counts + error)


def mixed(counts: Array, truth: Array, error: Array) -> Array:
    return np.log(0.8 * np.exp(counts) + 0.2 * np.exp(softmax(3.0 * error)))


def knowing(share: float) -> Callable[[Array, Array, Array], Array]:
    """A model that goes this share of the way from the counts to the truth."""
    return lambda counts, truth, error: softmax(
        (1 - share) * counts + share * truth + error
    )


# The plan, how families are made, and whether they share more than counts.
KINDS = {
    "null": (BASE, own, False),
    "null, sharper": (BASE, sharper, False),
    "null, a mixture": (BASE, mixed, False),
    "null, documents of 4": (CLUSTERED, own, False),
    "a tenth of the truth": (BASE, knowing(0.1), True),
    "half of the truth": (BASE, knowing(0.5), True),
}


def study(plan: Plan, make: Callable[..., Array], draw: int, draws: int):
    """Draws of what is beyond n-grams, by measure."""
    rng = np.random.default_rng(draw)
    shape = (plan.positions, plan.vocab)
    documents = -(-plan.positions // plan.per_document)

    def noise(size: float) -> Array:
        # What a model gets wrong is in part the same all over a document.
        alone = rng.standard_normal(shape)
        shared = rng.standard_normal((documents, plan.vocab))
        shared = shared.repeat(plan.per_document, 0)[: plan.positions]
        part = 0.0 if plan.per_document == 1 else 0.7
        return size * (np.sqrt(1 - part**2) * alone + part * shared)

    made = Plan(**{**vars_of(plan), "draw": draw})
    counts = softmax(made.truth + noise(0.7))
    arrays = {("ngram", 1.0): counts}
    for family in ("f", "g"):
        error = noise(0.4)
        for seed in range(SEEDS):
            logs = make(counts, made.truth, error + noise(0.3))
            arrays[f"{family}{seed}", 1.0] = logs
    predictions = held(made.probes, arrays)
    compared = Compared(predictions, draws, draw)
    seen_counts = given.Counts.of(predictions, predictions.read("ngram"))
    points = {f: [(f"{f}{seed}", 1.0) for seed in range(SEEDS)] for f in "fg"}
    known = {
        point: given.seen(predictions, seen_counts, point)
        for some in points.values()
        for point in some
    }
    sides = (points["f"], points["g"])
    return {
        measure: given.agreement(compared, seen_counts, measure, sides, known)[3]
        for measure in given.MEASURES
    }


def shown_of(name: str, draws: int, draw: int) -> dict[str, Array]:
    """What is beyond n-grams in one study of a kind, with its interval, by measure."""
    plan, make, _ = KINDS[name]
    return {
        measure: np.array([beyond[0], *interval(beyond[1:])])
        for measure, beyond in study(plan, make, draw, draws).items()
    }


def vars_of(plan: Plan) -> dict[str, object]:
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    wrong = 0
    with concurrent.futures.ProcessPoolExecutor(args.processes) as pool:
        for name in KINDS:
            one = functools.partial(shown_of, name, args.draws)
            found = list(pool.map(one, range(args.studies), chunksize=8))
            wrong += reported(name, found)
    return wrong


def reported(name: str, found: Sequence[dict[str, Array]]) -> int:
    """Prints a line a measure; how many are out of bounds."""
    wrong, shares = 0, KINDS[name][2]
    for measure in given.MEASURES:
        value, low, _ = np.array([one[measure] for one in found]).T
        shown = float((low > 0).mean())
        error = 2.0 * np.sqrt(0.05 * 0.95 / len(found))
        good = shares or shown <= 0.05 + error
        wrong += not good
        print(
            f"{name}, {measure}: mean {value.mean():+.4f}, shown in "
            f"{100 * shown:.1f}%{'' if good else '  OUT OF BOUNDS'}",
            flush=True,
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
