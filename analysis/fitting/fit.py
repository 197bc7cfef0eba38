"""Fits one law: best of many starts, batched refits, diagnostics.

What is minimised is in objective.py: by default the sum of Huber on log residuals with
delta 1e-3, as Hoffmann et al. 2022 do. Starts of a law that is a sum of powers lie on a
grid of its exponents (starts.py); other laws name theirs. The engine knows no law.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from analysis.design.identify import (
    at_bound,
    condition,
    identified,
    refuse,
    suggest,
)
from analysis.fitting.descent import Solution, minimise, objectives
from analysis.fitting.objective import Scale, bounds, huber, log_gradient, reweight
from analysis.fitting.starts import ENUMERATED, Grid, nnls
from analysis.laws import Array, Columns, Law

__all__ = [
    "DELTA",
    "DELTAS",
    "Fit",
    "Refusal",
    "Scale",
    "Solution",
    "fit",
    "huber",
    "log_gradient",
    "minimise",
    "refit",
    "refuse",
    "suggest",
    "sweep",
]

DELTA = 1e-3
# What `sweep` tries by default: from nearly absolute errors to least squares.
DELTAS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, np.inf)
# Random starts beside the law's own: `objective_gap` and `starts_agreeing` are measured
# with them.
RANDOM_STARTS = 8
# Starts of a law without a grid, of its own and random ones each, that no descent by
# least squares moves first.
DIRECT = 4
# Of a grid's local minima, how many are descended from.
MINIMA = 8
# Steps of all starts before the best goes on alone.
STEPS = 15
# Of a weighting, or of a start where rows are few or the law has no grid.
MORE_STEPS = 120
# With fewer rows a parameter than this, Huber's objective has dents of single rows.
FEW = 20
# A threshold this many times delta smooths them out.
WIDE = 30.0


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
      theta: coordinates [P]; `values` are the reported parameters [R].
      objective: what is minimised, at theta.
      gradient_norm: largest entry of its gradient that no bound holds back.
      objective_gap: by what share the best of the law's own starts ended above the best
        of all starts, random ones included (the latter is theta). For a law without a
        design also those that were not moved by least squares first.
      starts_agreeing: share of all starts that ended within 1e-3 of the lowest
        objective.
      condition: of the scaled reweighted information matrix.
      at_bound: names of the parameters on a bound.
      r2, rmse_log: of the log loss, weighted.
      rows: rows with weight above zero.
      delta, scale: of the objective.
      ends: different places where starts ended, [S, P], theta first.
    """

    law: Law
    theta: Array
    values: Array
    objective: float
    gradient_norm: float
    objective_gap: float
    starts_agreeing: float
    condition: float
    at_bound: tuple[str, ...]
    r2: float
    rmse_log: float
    rows: int
    delta: float
    scale: Scale
    ends: Array


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A design that cannot identify the law, and why: one clause for a reader."""

    law: str
    reason: str


def fit(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array | None = None,
    delta: float = DELTA,
    random_starts: int = RANDOM_STARTS,
    seed: int = 0,
    scale: Scale = "log",
    keep_flat: bool = False,
    advise: bool = True,
) -> Fit | Refusal:
    """The law's best fit over all starts, or why there is none.

    Args:
      columns: arrays [n]; loss: [n], above zero; weights: [n] or None for ones.
      delta: Huber's threshold in log loss (in loss for scale "raw"), above zero;
        infinity is least squares.
      seed: keys the random starts.
      scale: residuals of the log loss or of the loss itself.
      keep_flat: keep a best fit that leaves some combination of parameters unknown: the
        curve along the runs is known all the same.
      advise: a refusal names the run that would help most.
    """
    reason = refuse(law, columns, weights, advise)
    if reason:
        return Refusal(law.name, reason)
    columns, loss, weights = _used(columns, loss, weights)
    own, extra = _starts(law, columns, loss, weights, delta, scale, random_starts, seed)
    end, last = _descended(law, columns, loss, weights, own, extra, delta, scale)
    theta, lowest = last.theta[0], float(last.objective[0])
    # Between exact fits differences are rounding: log residuals under 1e-6 are alike.
    unit = max(lowest, 1e-12 * float(weights.sum()))
    predicted = law.predict(theta, columns)
    residual = np.log(predicted) - np.log(loss)
    fitted = predicted - loss if scale == "raw" else residual
    number, flat = condition(
        law, columns, weights * reweight(fitted, delta), theta, scale
    )
    if flat and not keep_flat:
        advice = suggest(law, columns, theta=theta) if advise else None
        more = f"; the run that would help most: {advice.text}" if advice else ""
        return Refusal(law.name, f"no run tells {flat} apart at the best fit{more}")
    r2, mse = _explained(loss, residual, weights)
    return Fit(
        law=law,
        theta=theta,
        values=law.natural(theta),
        objective=lowest,
        gradient_norm=float(last.gradient_norm[0]),
        objective_gap=max(0.0, float(end.objective[: len(own)].min() - lowest) / unit),
        starts_agreeing=float(np.mean(end.objective <= lowest + 1e-3 * unit)),
        condition=number,
        at_bound=at_bound(law, theta),
        r2=r2,
        rmse_log=float(np.sqrt(mse)),
        rows=loss.size,
        delta=delta,
        scale=scale,
        ends=_different(theta, end),
    )


def _descended(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array,
    own: Array,
    extra: Array,
    delta: float,
    scale: Scale,
) -> tuple[Solution, Solution]:
    """The ends of all starts after a few steps, and the best of them to the last."""
    starts = np.concatenate([own, extra])
    if law.designs is None:
        starts = _smoothed(law, columns, loss, weights, own, extra, delta, scale)
    batch = np.broadcast_to(weights, (len(starts), loss.size))
    few = loss.size < FEW * starts.shape[1]
    steps = MORE_STEPS if few or law.designs is None else STEPS
    end = minimise(law, columns, loss, batch, starts, delta, steps, scale)
    best = int(np.argmin(end.objective))
    lowest = end.theta[best : best + 1]
    last = minimise(law, columns, loss, batch[:1], lowest, delta, scale=scale)
    return end, last


def _explained(loss: Array, residual: Array, weights: Array) -> tuple[float, float]:
    """R squared in ln loss, and the mean squared residual."""
    mean = np.average(np.log(loss), weights=weights)
    spread = np.average((np.log(loss) - mean) ** 2, weights=weights)
    mse = float(np.average(residual**2, weights=weights))
    return (1.0 - mse / spread if spread > 0 else np.nan), mse


def _smoothed(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array,
    own: Array,
    extra: Array,
    delta: float,
    scale: Scale,
) -> Array:
    """Starts [S, P] of a law without a design, its own first, for Huber's descent.

    All are first moved to their ends by least squares, which is smooth, so that those
    far away reach a valley at all. But these ends may share one valley, that of the
    outliers, and would then certify each other: so the best of either kind start from
    where they stand as well.
    """
    starts = np.concatenate([own, extra])
    batch = np.broadcast_to(weights, (len(starts), loss.size))
    first = minimise(law, columns, loss, batch, starts, np.inf, 30, scale).theta
    if not np.isfinite(delta):
        return first
    direct = []
    for some in (own, extra):
        values = objectives(law, columns, loss, weights, some, delta, scale)
        direct.append(some[np.argsort(values, kind="stable")[:DIRECT]])
    return np.concatenate([first, *direct])


def _used(
    columns: Columns, loss: Array, weights: Array | None
) -> tuple[Columns, Array, Array]:
    """The rows with weight above zero."""
    loss = np.asarray(loss, np.float64)
    weights = np.ones_like(loss) if weights is None else np.asarray(weights, float)
    rows = weights > 0
    if rows.all():
        return columns, loss, weights
    kept = {name: np.asarray(values)[rows] for name, values in columns.items()}
    return kept, loss[rows], weights[rows]


def _starts(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array,
    delta: float,
    scale: Scale,
    random: int,
    seed: int,
) -> tuple[Array, Array]:
    """The law's own starts and random ones, [S, P] each, with linear parts solved."""
    if law.designs is None:
        own = fill_linear(law, columns, loss, weights, law.starts(columns, loss))
        drawn = _random_starts(law, own, random, seed)
        return own, fill_linear(law, columns, loss, weights, drawn)
    grid = Grid(law, columns, loss)
    exponents = np.concatenate([grid.exponents, grid.random(random, seed)])
    solved = grid.solve(exponents, loss, weights, delta, scale)
    points, drawn = np.split(solved, [len(grid.exponents)])
    values = objectives(law, columns, loss, weights, points, delta, scale)
    return points[grid.minima(values)[:MINIMA]], drawn


def _different(theta: Array, end: Solution) -> Array:
    """The ends that lie apart, lowest first, theta before all."""
    kept = [theta]
    for place in end.theta[np.argsort(end.objective)]:
        if all(np.abs(place - other).max() > 1e-2 for other in kept):
            kept.append(place)
    return np.array(kept)


def refit(
    fitted: Fit,
    columns: Columns,
    loss: Array,
    weights: Array,
    delta: float | None = None,
) -> Array:
    """The same law under other weightings: theta [B, P]; NaN where refused.

    Args:
      loss: [n], or [B, n] where the losses differ too.
      weights: [B, n].
      delta: the fit's own by default. The scale is the fit's.

    Each weighting starts from the fit. Where another place is lower under its weights
    (an end of another start of the fit, or the best point of a grid solved for this
    weighting), it starts from there too and keeps the lower end. With few rows, or for
    a law without a grid, the fit is first moved to the solution at a wider delta.
    """
    law = fitted.law
    delta = fitted.delta if delta is None else delta
    weights = np.asarray(weights, np.float64)
    loss = np.asarray(loss, np.float64)
    seen = (weights > 0).any(axis=0)
    if not seen.all():
        # Runs that no weighting sees: the slower learning rates of every cell.
        columns = {name: np.asarray(v)[seen] for name, v in columns.items()}
        loss, weights = loss[..., seen], weights[:, seen]
    out = np.full((len(weights), fitted.theta.size), np.nan)
    good = identified(law, columns, weights)
    if not good.any():
        return out
    weights = weights if good.all() else weights[good]
    loss = loss[good] if loss.ndim == 2 and not good.all() else loss
    start = np.broadcast_to(fitted.theta, (len(weights), fitted.theta.size))
    scale = fitted.scale
    few = weights.shape[1] < FEW * fitted.theta.size
    if np.isfinite(delta) and (few or law.designs is None):
        start = minimise(
            law, columns, loss, weights, start, WIDE * delta, MORE_STEPS // 4, scale
        ).theta
    end = minimise(
        law, columns, loss, weights, start, delta, MORE_STEPS, scale, damping=0.1
    )
    theta, value = end.theta, end.objective
    for draws, starts in _others(fitted, columns, loss, weights, end, delta):
        again = minimise(
            law,
            columns,
            loss[draws] if loss.ndim == 2 else loss,
            weights[draws],
            starts,
            delta,
            MORE_STEPS,
            scale,
        )
        lower = again.objective < value[draws]
        theta[draws[lower]] = again.theta[lower]
        value[draws[lower]] = again.objective[lower]
    out[good] = theta
    return out


def _others(
    fitted: Fit,
    columns: Columns,
    loss: Array,
    weights: Array,
    end: Solution,
    delta: float,
) -> list[tuple[Array, Array]]:
    """Where else to start from: draws [M] and starts [M, P], kind by kind."""
    law, scale = fitted.law, fitted.scale
    found = []
    if len(fitted.ends) > 1:
        values = objectives(law, columns, loss, weights, fitted.ends, delta, scale)
        lowest = values.argmin(axis=1)
        draws = np.flatnonzero(lowest)
        found.append((draws, fitted.ends[lowest[draws]]))
    if law.designs is None:
        return [part for part in found if len(part[0])]
    middle = loss if loss.ndim == 1 else np.exp(np.log(loss).mean(axis=0))
    grid = Grid(law, columns, middle)
    if grid.amplitudes <= ENUMERATED:
        predicted = law.predict(fitted.theta, columns)
        residual = predicted - middle if scale == "raw" else np.log(predicted / middle)
        robust = reweight(residual, delta)
        starts, index = grid.draws(loss, weights, robust, scale)
        draws = np.flatnonzero(grid.far(end.theta, index))
        found.append((draws, starts[draws]))
    return [part for part in found if len(part[0])]


def sweep(
    law: Law,
    columns: Columns,
    loss: Array,
    deltas: Sequence[float] = DELTAS,
    weights: Array | None = None,
    scale: Scale = "log",
    seed: int = 0,
) -> dict[float, Fit | Refusal]:
    """The fit at each delta: does the verdict depend on how residuals are counted?"""
    return {
        delta: fit(law, columns, loss, weights, delta, seed=seed, scale=scale)
        for delta in deltas
    }


def fill_linear(
    law: Law, columns: Columns, loss: Array, weights: Array, starts: Array
) -> Array:
    """Starts [S, P] with the law's linear coordinates at their best.

    For each start, non-negative weighted least squares on the relative residual; a part
    that comes out at zero starts at a thousandth of the loss instead, so that it can
    grow.
    """
    starts = np.array(starts, np.float64)
    if not law.linear:
        return starts
    linear = list(law.linear)
    root = np.sqrt(weights) / loss
    small = 1e-3 * float(np.median(loss))
    # Each linear part alone, then none of them: what the others make of the loss.
    parts = np.repeat(starts[:, None], len(linear) + 1, axis=1)
    parts[:, :, linear] = -700.0  # exp() of it is nothing beside a loss
    parts[:, np.arange(len(linear)), linear] = 0.0
    flat = law.predict(parts.reshape(-1, starts.shape[1]), columns)
    flat = flat.reshape(len(starts), len(linear) + 1, -1)
    basis = (flat[:, :-1] - flat[:, -1:]) * root
    gram = basis @ basis.transpose(0, 2, 1)
    moment = (basis @ ((loss - flat[:, -1]) * root)[..., None])[..., 0]
    amplitude = nnls(np.moveaxis(gram, 0, -1), moment.T).T
    starts[:, linear] = np.log(np.maximum(amplitude, small))
    return np.clip(starts, *bounds(law))


def _random_starts(law: Law, own: Array, count: int, seed: int) -> Array:
    """Nonlinear coordinates uniform over twice the box of the law's own starts."""
    rng = np.random.default_rng(seed)
    low, high = own.min(axis=0), own.max(axis=0)
    reach = np.maximum(0.5 * (high - low), 0.5)
    drawn = rng.uniform(low - reach, high + reach, size=(count, own.shape[1]))
    return np.clip(drawn, *bounds(law))
