"""Rows that a law need not be asked for: repeats of a place, and rows of no weight.

The seeds of a cell stand at one place, and so do the learning rates that it was tried
at, of which a draw sees one. A law is asked for each place once, and what a problem
does not weigh is left out of its rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.fitting.models import Model
from analysis.laws import Array, Columns


def distinct(columns: Columns) -> tuple[Columns, Array]:
    """The different rows of `columns`, and which of them each row is, [n]."""
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()])
    _, first, code = np.unique(values, axis=1, return_index=True, return_inverse=True)
    if first.size == values.shape[1]:
        return columns, np.arange(first.size)
    return {name: np.asarray(x)[first] for name, x in columns.items()}, code.ravel()


def gathered(target: Array, weights: Array, code: Array) -> tuple[Array, Array, Array]:
    """Targets and weights [B, m] of the rows that a problem weighs, place by place.

    Args:
      target: [n] or [B, n]; weights: [B, n].
      code: the place of each row [n], every number from 0 on.

    Returns also the place of each of the m, ascending: every place at least once. A
    problem that weighs fewer rows of a place than another has rows of no weight there.
    """
    target = np.broadcast_to(target, weights.shape)
    if code[-1] == code.size - 1:
        return target, weights, code
    order = np.argsort(code, kind="stable")
    code, weights, target = code[order], weights[:, order], target[:, order]
    seen = weights != 0.0
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    most = np.maximum(np.add.reduceat(seen, starts, axis=1, dtype=int).max(axis=0), 1)
    if most.sum() == code.size:
        return target, weights, code
    # Each seen row goes to the place's rows by its rank among those seen there.
    before = np.cumsum(seen, axis=1) - seen
    rank = before - before[:, starts][:, code]
    problem, row = np.nonzero(seen)
    to = (np.cumsum(most) - most)[code[row]] + rank[problem, row]
    shape = (len(weights), int(most.sum()))
    packed, of_packed = np.zeros(shape), np.zeros(shape)
    packed[problem, to], of_packed[problem, to] = (
        target[problem, row],
        weights[problem, row],
    )
    return packed, of_packed, np.repeat(np.arange(most.size), most)


class AtPlaces:
    """A model of the different places, as one of all rows."""

    def __init__(self, inner: Model, code: Array):
        """code: the place of each row [n], ascending."""
        self._inner, self._code = inner, code
        self._first = np.flatnonzero(np.diff(code, prepend=-1))
        # The second rows of the places that have one, the third, and so on.
        rows = np.bincount(code)
        self._more = []
        for number in range(1, int(rows.max())):
            several = np.flatnonzero(rows > number)
            self._more.append((several, self._first[several] + number))

    def value(self, theta: Array) -> tuple[Array, Any]:
        f, state = self._inner.value(theta)
        return f.take(self._code, axis=1), state

    def along(self, state: Any, step: Array) -> Array:
        return self._inner.along(state, step).take(self._code, axis=1)

    def derivatives(
        self, state: Any, pull: Array, weight: Array
    ) -> tuple[Array, Array]:
        # Rows of a place share its derivatives, so that their factors add up.
        return self._inner.derivatives(state, self._summed(pull), self._summed(weight))

    def _summed(self, rows: Array) -> Array:
        """Sums [B, places] over the rows [B, m] of each place.

        By hand, since ufunc.reduceat takes four times as long for a few rows each.
        """
        total = rows.take(self._first, axis=1)
        for places, more in self._more:
            total[:, places] += rows.take(more, axis=1)
        return total


def at_places(inner: Model, code: Array) -> Model | AtPlaces:
    return inner if code[-1] == code.size - 1 else AtPlaces(inner, code)
