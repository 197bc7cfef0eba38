"""How far apart predictions lie, pair by pair: streamed, and under many weightings.

The Jensen-Shannon divergence of two predictions a and b at a position is

    JS = 1/2 KL(a || m) + 1/2 KL(b || m),  m = (a + b) / 2
       = ln 2 + 1/2 sum a ln a + 1/2 sum b ln b - 1/2 sum (a + b) ln (a + b)

nats, between 0 and ln 2 (Lin 1991). The first sums are a run's own, so a pair costs
one logarithm a token of the vocabulary. Positions are read in blocks, all runs at one
block: what is in memory is a block of every run and the answer, never all predictions.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np

from analysis.laws import Array
from analysis.predictions.load import Point, Predictions, normalised

NEGATED_LN_2 = np.float32(-math.log(2.0))
# Chances are at least this, so that 0 ln 0 is no NaN: it moves no sum by 1e-26.
LEAST = np.float32(1e-30)
# Positions of a block that is read at a time; positions, and pairs, whose sums are in a
# core's own cache at a time.
BLOCK, NEAR, TOGETHER = 256, 64, 4
# Pairs whose sums are weighted at a time.
WEIGHTED = 1 << 13
WORKERS = os.cpu_count() or 1
# Predictions of fewer bytes than this stay in memory while they are compared.
IN_MEMORY = 1 << 28

# From chances [k, block, vocab] of the firsts and seconds of k pairs, and two arrays of
# that shape for what comes between: [k, block].
Kernel = Callable[[Array, Array, Array, Array], Array]


def distances(
    predictions: Predictions,
    points: Sequence[Point],
    pairs: Array,
    weights: Array,
) -> Array:
    """Mean Jensen-Shannon divergence of pairs, float64 [weightings, pairs], nats.

    Args:
      points: runs, each after a fraction of its training.
      pairs: int [pairs, 2], places in `points`.
      weights: [weightings, positions], of each position; a row's mean is over its sum.
    """
    return _streamed(predictions, points, pairs, weights, _negated_mixture, _divergence)


def by_position(
    predictions: Predictions, points: Sequence[Point], pairs: Array
) -> Array:
    """Jensen-Shannon divergence of pairs at each position, [positions, pairs], nats.

    For few pairs, since every position stays in memory.
    """
    return distances(predictions, points, pairs, np.eye(predictions.positions))


def products(
    predictions: Predictions,
    points: Sequence[Point],
    pairs: Array,
    weights: Array,
) -> Array:
    """Mean product of what two runs get wrong, float64 [weightings, pairs].

    What a run gets wrong at a position is sqrt(q) - sqrt(p), a vector over the
    vocabulary, of which half the squared length is the squared Hellinger distance from
    the truth p.

    Raises:
      ValueError: the truth is not known.
    """
    if predictions.truth is None:
        raise ValueError("no truth is known at these positions")
    truth = np.sqrt(np.exp(normalised(predictions.truth)))

    def errors(chances: Array, where: slice) -> Array:
        return np.sqrt(chances) - truth[where]

    return _streamed(predictions, points, pairs, weights, _product, _as_it_is, errors)


# --- What is done to a block -------------------------------------------------------


def _negated_mixture(one: Array, two: Array, mixed: Array, logs: Array) -> Array:
    """- sum (a + b) ln (a + b) of each pair and position.

    By base 2, which NumPy takes in two thirds of the time.
    """
    np.add(one, two, out=mixed)
    np.log2(mixed, out=logs)
    return NEGATED_LN_2 * np.vecdot(mixed, logs)


def _product(one: Array, two: Array, mixed: Array, logs: Array) -> Array:
    return np.vecdot(one, two)


def _divergence(pairwise: Array, own: Array, pairs: Array) -> Array:
    """JS [pairs, block] from the pairs' sums and the runs' own sums q ln q."""
    both = own[pairs[:, 0]] + own[pairs[:, 1]] + pairwise
    return np.float32(math.log(2.0)) + np.float32(0.5) * both


def _as_it_is(pairwise: Array, own: Array, pairs: Array) -> Array:
    return pairwise


def _streamed(
    predictions: Predictions,
    points: Sequence[Point],
    pairs: Array,
    weights: Array,
    kernel: Kernel,
    finish: Callable[[Array, Array, Array], Array],
    change: Callable[[Array, slice], Array] | None = None,
) -> Array:
    """Weighted means over positions [weightings, pairs] of what a kernel gives.

    Args:
      change: of a block's chances before the kernel sees them.
    """
    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    shares = np.asarray(weights, np.float64)
    shares = shares / shares.sum(axis=1, keepdims=True)
    if not len(pairs):
        return np.zeros((len(shares), 0))
    # Partners of one run stand together: its block is then read once.
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    tasks = _tasks(len(pairs), TASK)
    total = np.zeros((len(shares), len(pairs)))
    with (
        concurrent.futures.ThreadPoolExecutor(WORKERS) as pool,
        _Blocks(predictions, points, pool) as blocks,
    ):
        for where, chances in blocks:
            own = np.vecdot(chances, np.log(chances))
            seen = chances if change is None else change(chances, where)
            found = np.empty((len(pairs), chances.shape[1]), np.float32)

            def fill(task: slice, own=own, seen=seen, found=found) -> None:
                _fill(seen, pairs[task], kernel, found[task])
                found[task] = finish(found[task], own, pairs[task])

            list(pool.map(fill, tasks))
            share = shares[:, where].astype(np.float32)
            for some in _tasks(len(pairs), WEIGHTED):
                total[:, some] += share @ found[some].T
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return total[:, back]


# Pairs that a thread takes at a time.
TASK = 256


def _tasks(count: int, size: int) -> list[slice]:
    return [slice(k, min(k + size, count)) for k in range(0, count, size)]


def _fill(chances: Array, pairs: Array, kernel: Kernel, out: Array) -> None:
    """Writes a kernel's answers for some pairs; NumPy lets threads run at once."""
    mixed = np.empty((TOGETHER, NEAR, chances.shape[2]), np.float32)
    logs = np.empty_like(mixed)
    for near in _tasks(chances.shape[1], NEAR):
        here, count = chances[:, near], near.stop - near.start
        for group in _tasks(len(pairs), TOGETHER):
            one, two = _sides(here, pairs[group])
            n = len(two)
            out[group, near] = kernel(one, two, mixed[:n, :count], logs[:n, :count])


def _sides(chances: Array, pairs: Array) -> tuple[Array, Array]:
    """The firsts and seconds of a few pairs.

    A run's partners mostly follow each other: nothing is copied then.
    """
    firsts, seconds = pairs[:, 0], pairs[:, 1]
    alike = (firsts == firsts[0]).all()
    one = chances[firsts[0]][None] if alike else chances[firsts]
    if (np.diff(seconds) == 1).all():
        two = chances[seconds[0] : seconds[-1] + 1]
    else:
        two = chances[seconds]
    return np.broadcast_to(one, two.shape), two


@dataclasses.dataclass
class _Blocks:
    """Chances of all points, a block of positions at a time.

    Files are read once, run by run, and spread to blocks through float16 in memory or,
    where that is much, in a temporary file.
    """

    predictions: Predictions
    points: Sequence[Point]
    pool: concurrent.futures.ThreadPoolExecutor
    _file: IO[bytes] | None = None
    _array: Array | None = None

    def __enter__(self) -> _Blocks:
        shape = (self.predictions.positions, self.predictions.probes.vocab)
        size = len(self.points) * math.prod(shape) * 2
        if size <= IN_MEMORY:
            self._array = np.empty((len(self.points), *shape), np.float16)
        else:
            self._file = tempfile.TemporaryFile()
        for k, logs in enumerate(self._read()):
            if self._array is not None:
                self._array[k] = logs
            elif self._file is not None:
                self._file.write(np.ascontiguousarray(logs).data)
        return self

    def _read(self) -> Iterator[Array]:
        """Each run's logs, float16, as many at a time as there are threads."""

        def one(point: Point) -> Array:
            return np.asarray(self.predictions.source(*point)).astype(np.float16)

        for some in _tasks(len(self.points), WORKERS):
            yield from self.pool.map(one, self.points[some])

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def __iter__(self) -> Iterator[tuple[slice, Array]]:
        """Positions and their chances float32 [points, block, vocab]."""
        for start in range(0, self.predictions.positions, BLOCK):
            where = slice(start, min(start + BLOCK, self.predictions.positions))
            logs = self._logs(where).astype(np.float32)
            np.exp(logs, out=logs)
            logs /= logs.sum(axis=-1, keepdims=True)
            np.maximum(logs, LEAST, out=logs)
            yield where, logs

    def _logs(self, where: slice) -> Array:
        if self._array is not None:
            return self._array[:, where]
        assert self._file is not None
        vocab = self.predictions.probes.vocab
        row, count = 2 * vocab, where.stop - where.start
        out = np.empty((len(self.points), count, vocab), np.float16)
        for k in range(len(self.points)):
            at = (k * self.predictions.positions + where.start) * row
            self._file.seek(at)
            read = self._file.read(count * row)
            out[k] = np.frombuffer(read, np.float16).reshape(count, vocab)
        return out
