"""Batched Newton descent on the fitting objective: many problems of one law at once.

A problem is a weighting of the rows, and where it differs a loss of its own. What is
minimised over the coordinates theta of a law is

    sum over rows of weight * huber_delta(f(theta) - f observed)

with f the natural logarithm of the loss (scale "log") or the loss itself ("raw"), and
huber_delta(r) = r^2 / 2 inside delta and delta (|r| - delta / 2) outside. delta =
infinity is least squares.

The Hessian of a step is Newton's, plus damping times that of the iteratively reweighted
least-squares majoriser: with much damping a step is a short reweighted step and must
descend, with none it is Newton's and converges quadratically. Finished problems drop
out.

With delta far below the noise and few rows the objective is nearly a polyhedron whose
edges, on which rows change sides, bend with the law. Newton's step does not know of the
edges that it crosses, and would go to and fro between them. So a problem that is still
open after some steps searches along each step for the edge where the minimum lies
(Clark and Osborne 1986), and follows the edge around its bend where the step misses it
(the second-order correction of Fletcher 1982).
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from analysis.fitting.models import Model, model
from analysis.fitting.objective import (
    Scale,
    bounds,
    huber,
    line_minimum,
    product,
)
from analysis.fitting.rows import AtPlaces, at_places, distinct, gathered
from analysis.laws import Array, Columns, Law

ITERATIONS = 300
# Steps in a row that win less than a millionth of the objective before one gives up.
PATIENCE = 25
# Objective a row at which a residual is a rounding error: an exact fit ends there.
EXACT = 1e-20
# A step whose predicted gain is a smaller share of the objective is the last.
SETTLED = 1e-13
# How fast much damping shortens steps below reweighted ones.
SHORTER = 0.1
# What a step that descends divides the damping by, and one that does not multiplies.
CALMER, WILDER = 4.0, 8.0
# Steps after which edges are looked for, where fewer rows than this many a parameter
# lie inside delta.
LATE, EDGES = 15, 2
# The longest step. A coordinate is a logarithm or an exponent: longer steps leave the
# model's reach.
LONGEST = 3.0
# Entries of a [B, n] array in one chunk: a dozen such arrays stay in a core's cache.
CHUNK = 36_000
# Fewer entries than this in all are not worth a second thread.
THREADED = 4 * CHUNK
# With more threads than this the interpreter's lock is what they wait for.
THREADS = 8
# Working arrays are cut down to the open problems once this share has finished.
FINISHED = 0.2


@dataclasses.dataclass(frozen=True)
class Solution:
    """End points of a batch: theta [B, P], objective [B], gradient norm [B].

    The norm is the largest entry of the gradient that no bound holds back.
    """

    theta: Array
    objective: Array
    gradient_norm: Array


def minimise(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array,
    starts: Array,
    delta: float,
    iterations: int = ITERATIONS,
    scale: Scale = "log",
    frozen: Array | None = None,
    damping: float = 1.0,
) -> Solution:
    """Descends from each start under its weights.

    Args:
      loss: [n] or [B, n]; weights: [B, n]; starts: [B, P].
      frozen: [P], coordinates that stay at their start; for profiles.
      damping: of the first step; near 0 for starts that lie in the valley already.
    """
    weights = np.asarray(weights, np.float64)
    starts = np.asarray(starts, np.float64)
    if not len(starts):
        return Solution(starts.copy(), np.zeros(0), np.zeros(0))
    wanted = np.asarray(loss, np.float64)
    wanted = np.log(wanted) if scale == "log" else wanted
    places, code = distinct(columns)
    target, weights, code = gathered(wanted, weights, code)
    shape = at_places(model(law, places, scale), code)
    low, high = bounds(law)
    still = np.zeros(low.size, bool) if frozen is None else np.asarray(frozen, bool)
    rows = max(1, CHUNK // weights.shape[1])

    def chunk(at: int) -> Solution:
        part = slice(at, at + rows)
        descent = Descent(
            shape, target[part], weights[part], starts[part], delta, low, high, still
        )
        # A trial step may leave the range of float64. Its objective is then infinite or
        # no number, so that it lowers nothing and is not taken.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return descent.run(iterations, damping)

    ends = range(0, len(starts), rows)
    if weights.size < THREADED:
        parts = [chunk(at) for at in ends]
    else:
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            parts = list(pool.map(chunk, ends))
    return Solution(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Solution)
        )
    )


def objectives(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array,
    theta: Array,
    delta: float,
    scale: Scale = "log",
) -> Array:
    """The objective of every theta [S, P] under every weighting: [S] or [B, S].

    Args:
      loss: [n] or [B, n]; weights: [n] or [B, n].
    """
    predicted = law.predict(theta, columns)
    loss = np.asarray(loss, np.float64)
    if scale == "log":
        predicted, loss = np.log(np.maximum(predicted, 1e-300)), np.log(loss)
    if loss.ndim == 1:
        values = np.ascontiguousarray(huber(predicted - loss, delta).T)
        return product(np.atleast_2d(weights), values).reshape(*weights.shape[:-1], -1)
    return np.stack(
        [np.sum(weights * huber(one - loss, delta), axis=1) for one in predicted],
        axis=1,
    )


class Descent:
    """One chunk of problems on the way down."""

    def __init__(
        self,
        shape: Model | AtPlaces,
        target: Array,
        weights: Array,
        starts: Array,
        delta: float,
        low: Array,
        high: Array,
        frozen: Array,
    ):
        self._shape, self._delta = shape, delta
        self._low, self._high, self._frozen = low, high, frozen
        self._target, self._weights = target, weights
        # A frozen coordinate may stand on a bound; it is held by a zero gradient.
        self._theta = np.clip(starts, low, high)

    def run(self, iterations: int, damping: float) -> Solution:
        theta, weights, target = self._theta, self._weights, self._target
        count = len(theta)
        end = Solution(theta.copy(), np.empty(count), np.full(count, np.inf))
        place = np.arange(count)
        exact = EXACT * weights.sum(axis=1)
        mu = np.full(count, damping)
        stalled = np.zeros(count, int)
        value, residual, state = self._evaluate(theta, target, weights)
        end.objective[:] = value
        # From a place where a law has no value nothing leads on.
        closed = (value <= exact) | np.isnan(value)
        for number in range(iterations):
            if np.count_nonzero(closed) > FINISHED * closed.size:
                left = ~closed
                if closed.all():
                    break
                theta, weights, target = theta[left], weights[left], target[left]
                value, residual, mu = value[left], residual[left], mu[left]
                state = [part[left] for part in state]
                stalled, exact, place = stalled[left], exact[left], place[left]
                closed = np.zeros(len(theta), bool)
            gradient, step = self._step(theta, residual, state, weights, mu)
            end.gradient_norm[place] = np.abs(gradient).max(axis=1)
            late = number >= LATE and np.isfinite(self._delta)
            edged = self._edged(residual, weights, closed) if late else None
            if edged is not None:
                step[edged] = self._stretched(step, residual, state, weights, edged)
            slope = (gradient * step).sum(axis=1)
            proposal = self._inside(theta - step)
            new = self._evaluate(proposal, target, weights)
            if edged is not None:
                missed = edged[new[0][edged] >= value[edged]]
                if missed.size:
                    past = theta[missed], residual[missed], [p[missed] for p in state]
                    self._follow(missed, past, proposal, target, weights, new)
            drop = value - new[0]
            better = (drop > 0) & ~closed
            self._accept(better, theta, value, residual, state, proposal, new)
            tiny = SETTLED * value
            stalled = np.where(drop <= 1e-6 * value, stalled + 1, 0)
            closed |= (np.abs(slope) <= tiny) | (better & (drop <= tiny) & (mu < 1e-3))
            closed |= (value <= exact) | (stalled >= PATIENCE)
            calmer = np.maximum(mu / CALMER, 1e-12)
            mu = np.where(better, calmer, np.minimum(mu * WILDER, 1e12))
            end.theta[place], end.objective[place] = theta, value
        return end

    def _evaluate(
        self, theta: Array, target: Array, weights: Array
    ) -> tuple[Array, Array, Any]:
        f, state = self._shape.value(theta)
        f -= target
        return np.einsum("bn,bn->b", weights, huber(f, self._delta)), f, state

    @staticmethod
    def _accept(
        better: Array,
        theta: Array,
        value: Array,
        residual: Array,
        state: Any,
        proposal: Array,
        new: tuple[Array, Array, Any],
    ) -> None:
        if better.all():
            for old, part in zip(state, new[2], strict=True):
                old[:] = part
            theta[:], value[:], residual[:] = proposal, new[0], new[1]
            return
        where = better[:, None]
        np.copyto(theta, proposal, where=where)
        np.copyto(value, new[0], where=better)
        np.copyto(residual, new[1], where=where)
        for old, part in zip(state, new[2], strict=True):
            np.copyto(old, part, where=where)

    def _step(
        self, theta: Array, residual: Array, state: Any, weights: Array, mu: Array
    ) -> tuple[Array, Array]:
        """Projected gradient [B, P] and damped Newton step [B, P] (subtracted)."""
        delta = self._delta
        if np.isfinite(delta):
            # psi(r) = r cut at +-delta, and psi'(r) + mu delta / max(|r|, delta):
            # Newton's curvature and mu times that of the majoriser.
            pull = np.maximum(residual, -delta)
            np.minimum(pull, delta, out=pull)
            inside = pull == residual
            pull *= weights
            size = np.abs(residual)
            curve = (delta * mu)[:, None] / np.maximum(size, delta, out=size)
            curve += inside
            curve *= weights
        else:
            pull = weights * residual
            curve = weights * (1.0 + mu[:, None])
        gradient, hessian = self._shape.derivatives(state, pull, curve)
        # Nearly the mean of the two curvatures, and so a step that mu only shortens.
        hessian *= ((1.0 + SHORTER * mu) / (1.0 + mu))[:, None, None]
        # Projected Newton: a coordinate that would leave its bounds stands still.
        held = np.where(gradient > 0, theta <= self._low, theta >= self._high)
        held |= self._frozen
        diagonal = np.einsum("bpp->bp", hessian)
        ridge = 1e-9 * np.abs(diagonal)
        ridge += 1e-3 * ridge.max(axis=1, keepdims=True) + 1e-300
        diagonal += ridge * (1.0 + mu[:, None])
        if held.any():
            gradient[held] = 0.0
            hessian[held[:, :, None] | held[:, None, :]] = 0.0
            diagonal += held
        if not np.isfinite(hessian.sum() + gradient.sum()):
            lost = ~np.isfinite(hessian).all(axis=(1, 2))
            lost |= ~np.isfinite(gradient).all(axis=1)
            # No derivatives there: the problem stays where it is.
            gradient[lost], hessian[lost] = 0.0, np.eye(hessian.shape[-1])
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        return gradient, _no_longer(step)

    def _inside(self, theta: Array) -> Array:
        return np.minimum(np.maximum(theta, self._low), self._high)

    def _edged(self, residual: Array, weights: Array, closed: Array) -> Array | None:
        """Open problems with too few rows inside delta to fix the coordinates."""
        inside = (np.abs(residual) <= self._delta) & (weights > 0)
        few = np.count_nonzero(inside, axis=1) < EDGES * self._theta.shape[1]
        rows = np.flatnonzero(few & ~closed)
        return rows if rows.size else None

    def _stretched(
        self, step: Array, residual: Array, state: Any, weights: Array, rows: Array
    ) -> Array:
        """Steps of the problems `rows`, to the minimum along them by first order."""
        if rows.size < len(step):
            step, residual, weights = step[rows], residual[rows], weights[rows]
            state = [part[rows] for part in state]
        change = self._shape.along(state, step)
        length = line_minimum(residual, change, weights, self._delta)
        return _no_longer(step * length[:, None])

    def _follow(
        self,
        rows: Array,
        past: tuple[Array, Array, Any],
        proposal: Array,
        target: Array,
        weights: Array,
        new: tuple[Array, Array, Any],
    ) -> None:
        """Moves proposals that missed their edge back to it, where that is lower.

        Args:
          rows: of the proposals.
          past: coordinates, residuals and state of `rows` before the step.
          proposal, new: of all problems; changed in place.
        """
        theta, residual, state = past
        # Rows that the linear step puts inside delta are the edge; a Gauss-Newton step
        # from the proposal puts their residuals back to what the linear step said.
        linear = residual + self._shape.along(state, proposal[rows] - theta)
        edge = weights[rows] * (np.abs(linear) <= self._delta)
        pull = edge * (new[1][rows] - linear)
        gradient, hessian = self._shape.derivatives(state, pull, edge)
        diagonal = np.einsum("bpp->bp", hessian)
        diagonal += 1e-9 * np.abs(diagonal).max(axis=1, keepdims=True) + 1e-300
        back = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        tried = self._inside(proposal[rows] - _no_longer(back))
        tried = np.where(self._frozen, theta, tried)
        other = self._evaluate(tried, target[rows], weights[rows])
        lower = other[0] < new[0][rows]
        if not lower.any():
            return
        kept = rows[lower]
        proposal[kept] = tried[lower]
        new[0][kept], new[1][kept] = other[0][lower], other[1][lower]
        for old, part in zip(new[2], other[2], strict=True):
            old[kept] = part[lower]


def _no_longer(step: Array) -> Array:
    """Steps [B, P], those beyond `LONGEST` shortened to it."""
    longest = np.abs(step).max(axis=1, keepdims=True)
    if longest.max(initial=0.0) <= LONGEST:
        return step
    return step * np.minimum(1.0, LONGEST / np.maximum(longest, 1e-300))
