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

# Chances are at least this, so that 0 ln 0 is no NaN: it moves no sum by 1e-26.
LEAST = np.float32(1e-30)
# Positions of a block, and pairs whose sums are in a core's own cache at a time.
BLOCK, TOGETHER = 64, 4
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
    """- sum (a + b) ln (a + b) of each pair and position."""
    np.add(one, two, out=mixed)
    np.log(mixed, out=logs)
    return -np.einsum("kpv,kpv->kp", mixed, logs)


def _product(one: Array, two: Array, mixed: Array, logs: Array) -> Array:
    return np.einsum("kpv,kpv->kp", one, two)


def _divergence(pairwise: Array, own: Array, pairs: Array) -> Array:
    """JS [pairs, block] from the pairs' sums and the runs' own sums q ln q."""
    return np.log(2.0) + 0.5 * (own[pairs[:, 0]] + own[pairs[:, 1]] + pairwise)


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
    total = np.zeros((len(shares), len(pairs)))
    if not len(pairs):
        return total
    # Partners of one run stand together: its block is then read once.
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    tasks = _tasks(pairs[order])
    workers = os.cpu_count() or 1
    with (
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
        _Blocks(predictions, points) as blocks,
    ):
        for where, chances in blocks:
            own = np.einsum("npv,npv->np", chances, np.log(chances), dtype=np.float64)
            seen = chances if change is None else change(chances, where)
            found = np.empty((len(pairs), chances.shape[1]), np.float32)

            def fill(task: slice, seen=seen, found=found) -> None:
                _fill(seen, pairs[order], task, kernel, found)

            list(pool.map(fill, tasks))
            values = finish(found, own, pairs[order])
            total[:, order] += shares[:, where] @ values.T
    return total


# Pairs that a thread takes at a time.
TASK = 256


def _tasks(pairs: Array) -> list[slice]:
    return [slice(k, k + TASK) for k in range(0, len(pairs), TASK)]


def _fill(chances: Array, pairs: Array, task: slice, kernel: Kernel, out: Array):
    """Writes a kernel's answers for a task's pairs; NumPy lets threads run at once."""
    rows = range(*task.indices(len(pairs)))
    mixed = np.empty((TOGETHER, *chances.shape[1:]), np.float32)
    logs = np.empty_like(mixed)
    for k in range(rows.start, rows.stop, TOGETHER):
        some = pairs[k : min(k + TOGETHER, rows.stop)]
        n = len(some)
        one = chances[some[0, 0]][None] if (some[:, 0] == some[0, 0]).all() else None
        if one is None:
            one = chances[some[:, 0]]
        first, last = some[0, 1], some[-1, 1]
        # A run's partners mostly follow each other: then nothing is copied.
        two = chances[first : last + 1] if last - first == n - 1 else None
        if two is None or not (np.diff(some[:, 1]) == 1).all():
            two = chances[some[:, 1]]
        one = np.broadcast_to(one, two.shape)
        out[k : k + n] = kernel(one, two, mixed[:n], logs[:n])


@dataclasses.dataclass
class _Blocks:
    """Chances of all points, a block of positions at a time.

    Files are read once, run by run, and spread to blocks through float16 in memory or,
    where that is much, in a temporary file.
    """

    predictions: Predictions
    points: Sequence[Point]
    _file: IO[bytes] | None = None
    _array: Array | None = None

    def __enter__(self) -> _Blocks:
        shape = (self.predictions.positions, self.predictions.probes.vocab)
        size = len(self.points) * math.prod(shape) * 2
        if size <= IN_MEMORY:
            self._array = np.empty((len(self.points), *shape), np.float16)
        else:
            self._file = tempfile.TemporaryFile()
        for k, point in enumerate(self.points):
            logs = np.asarray(self.predictions.source(*point)).astype(np.float16)
            if self._array is not None:
                self._array[k] = logs
            elif self._file is not None:
                self._file.write(np.ascontiguousarray(logs).data)
        return self

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
