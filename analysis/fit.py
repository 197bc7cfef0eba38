"""The fitting engine: Huber on log residuals, many starts, many weightings at once.

It knows no law. What it minimises over the coordinates theta of a law is

    sum over rows of weight * huber_delta(ln predicted - ln observed)

with huber_delta(r) = r^2 / 2 inside delta and delta (|r| - delta / 2) outside, as
Hoffmann et al. 2022 do (delta 1e-3); delta = infinity is least squares.

The solver is Newton's method on that objective, for a whole batch of problems (starts
or bootstrap weightings), damped by the Hessian of the iteratively reweighted
least-squares majoriser: with much damping a step is a short reweighted step and must
descend, with none it is Newton's and converges quadratically. Finished problems drop
out.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from analysis.laws import Array, Columns, Law

DELTA = 1e-3
ITERATIONS = 300
# Steps in a row that win less than a millionth of the objective before one gives up.
PATIENCE = 25
# Random starts beside the law's own: what `gap` and `agree` are measured with.
RANDOM_STARTS = 16
# Objective a row at which a residual is a rounding error: an exact fit ends there.
EXACT = 1e-20
# Values of N or D nearer to each other than this share are one level.
APART = 0.2
# Largest batch of Jacobian entries held at once.
CHUNK = 3_000_000
# A scaled information matrix with a smaller least eigenvalue has a flat direction.
FLAT = 1e-10


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
      theta: coordinates [P]; `values` are the reported parameters [R].
      objective: the sum above, at theta.
      gradient_norm: largest entry of its gradient that no bound holds back.
      gap: by what share the best of the law's own starts ended above the best of all
        starts, random ones included (the latter is theta).
      agree: share of all starts that ended within 1e-3 of the lowest objective.
      condition: of the scaled reweighted information matrix.
      at_bound: names of the parameters on a bound.
      r2, rmse_log: of the log loss, weighted.
      rows: rows with weight above zero.
    """

    law: Law
    theta: Array
    values: Array
    objective: float
    gradient_norm: float
    gap: float
    agree: float
    condition: float
    at_bound: tuple[str, ...]
    r2: float
    rmse_log: float
    rows: int


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A design that cannot identify the law, and why: one clause for a reader."""

    law: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Solution:
    """End points of a batch: theta [B, P], objective [B], gradient norm [B]."""

    theta: Array
    objective: Array
    gradient_norm: Array


def huber(residual: Array, delta: float) -> Array:
    """r^2 / 2 inside delta, linear outside. delta may be infinite."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    # size * inside - inside^2 / 2, written so that an infinite delta is harmless.
    return inside * (size - 0.5 * inside)


def refuse(law: Law, columns: Columns, weights: Array | None = None) -> str:
    """Why this design cannot identify the law, or "" where nothing speaks against it.

    Args:
      columns: arrays [n].
      weights: [n]; rows of weight zero do not count.
    """
    rows = _used(columns, weights)
    used = {name: np.asarray(values)[rows] for name, values in columns.items()}
    count, wanted = int(rows.sum()), len(law.parameters)
    for name, least in law.needs.items():
        found = levels(used[name])
        if found < least:
            return (
                f"{name} has {found} distinct level{'s' * (found != 1)} (at least "
                f"{APART:.0%} apart) and {law.name} needs {least}"
            )
    if count < wanted:
        return f"{count} runs for {wanted} parameters"
    if {"params", "tokens"} <= set(law.needs):
        logs = np.log(np.stack([used["params"], used["tokens"]]))
        if abs(np.corrcoef(logs)[0, 1]) > 0.999:
            return (
                "all runs lie on one line in (ln N, ln D), so the terms in N and in D "
                "cannot be told apart; vary D at one N"
            )
    return ""


def levels(values: Array) -> int:
    """How many levels `values` have; see `level_codes`."""
    return int(level_codes(values).max(initial=-1)) + 1


def level_codes(values: Array) -> Array:
    """Codes [n]: a level reaches up to `APART` above its lowest value.

    Families differ by some percent at one target size, and that is no second level.
    """
    logs = np.log(values)
    ordered, starts = np.unique(logs), []
    at = 0
    while at < ordered.size:
        starts.append(ordered[at])
        at = int(np.searchsorted(ordered, ordered[at] + np.log1p(APART), "right"))
    return np.searchsorted(np.array(starts), logs, side="right") - 1


def _used(columns: Columns, weights: Array | None) -> Array:
    size = len(next(iter(columns.values())))
    return np.ones(size, bool) if weights is None else np.asarray(weights) > 0


def fit(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array | None = None,
    delta: float = DELTA,
    random_starts: int = RANDOM_STARTS,
    seed: int = 0,
) -> Fit | Refusal:
    """The law's best fit over all starts, or why there is none.

    Args:
      columns: arrays [n]; loss: [n], above zero; weights: [n] or None for ones.
      delta: Huber's threshold in log loss, above zero; infinity is least squares.
      seed: keys the random starts.
    """
    reason = refuse(law, columns, weights)
    if reason:
        return Refusal(law.name, reason)
    loss = np.asarray(loss, np.float64)
    weights = np.ones_like(loss) if weights is None else np.asarray(weights, float)
    own = fill_linear(law, columns, loss, weights, law.starts(columns, loss))
    extra = _random_starts(law, columns, loss, weights, own, random_starts, seed)
    starts = np.concatenate([own, extra])
    # Least squares first: smooth, so that starts far away reach the valley at all.
    batch = np.broadcast_to(weights, (len(starts), loss.size))
    rough = minimise(law, columns, loss, batch, starts, np.inf, iterations=30)
    end = minimise(law, columns, loss, batch, rough.theta, delta, iterations=120)
    best = int(np.argmin(end.objective))
    last = minimise(law, columns, loss, batch[:1], end.theta[best : best + 1], delta)
    theta, lowest = last.theta[0], float(last.objective[0])
    # Between exact fits differences are rounding: log residuals under 1e-6 are alike.
    scale = max(lowest, 1e-12 * float(weights.sum()))
    condition, flat = _information(law, columns, loss, weights, theta, delta)
    if flat:
        return Refusal(law.name, f"no run tells {flat} apart at the best fit")
    residual = np.log(law.predict(theta, columns)) - np.log(loss)
    mean = np.average(np.log(loss), weights=weights)
    spread = np.average((np.log(loss) - mean) ** 2, weights=weights)
    mse = float(np.average(residual**2, weights=weights))
    return Fit(
        law=law,
        theta=theta,
        values=law.natural(theta),
        objective=lowest,
        gradient_norm=float(last.gradient_norm[0]),
        gap=max(0.0, float(end.objective[: len(own)].min() - lowest) / scale),
        agree=float(np.mean(end.objective <= lowest + 1e-3 * scale)),
        condition=condition,
        at_bound=_at_bound(law, theta),
        r2=1.0 - mse / spread if spread > 0 else np.nan,
        rmse_log=float(np.sqrt(mse)),
        rows=int(np.sum(weights > 0)),
    )


def refit(
    fitted: Fit, columns: Columns, loss: Array, weights: Array, delta: float = DELTA
) -> Array:
    """The same law under other weightings: theta [B, P]; NaN where refused.

    Args:
      loss: [n], or [B, n] where the losses differ too.
      weights: [B, n].

    Each weighting starts from the fit and from its own least-squares solution, and
    keeps the lower end.
    """
    law = fitted.law
    weights = np.asarray(weights, np.float64)
    good = _identified(law, columns, weights)
    out = np.full((len(weights), fitted.theta.size), np.nan)
    start = np.broadcast_to(fitted.theta, out.shape)
    loss = np.broadcast_to(np.asarray(loss, np.float64), weights.shape)
    y, w, s = loss[good], weights[good], start[good]
    rough = minimise(law, columns, y, w, s, np.inf, iterations=30)
    if not np.isfinite(delta):
        out[good] = rough.theta
        return out
    starts = np.concatenate([s, rough.theta])
    y, w = np.tile(y, (2, 1)), np.tile(w, (2, 1))
    end = minimise(law, columns, y, w, starts, delta, iterations=120)
    first, second = np.split(end.objective, 2)
    halves = np.split(end.theta, 2)
    out[good] = np.where((second < first)[:, None], halves[1], halves[0])
    return out


def _identified(law: Law, columns: Columns, weights: Array) -> Array:
    """Which weightings [B, n] leave enough distinct rows and levels, [B]."""
    present = weights > 0
    good = present.sum(axis=1) >= len(law.parameters)
    for name, least in law.needs.items():
        codes = level_codes(np.asarray(columns[name], np.float64))
        member = np.zeros((codes.size, codes.max() + 1))
        member[np.arange(codes.size), codes] = 1.0
        good &= ((present @ member) > 0).sum(axis=1) >= least
    return good


def fill_linear(
    law: Law, columns: Columns, loss: Array, weights: Array, starts: Array
) -> Array:
    """Starts [S, P] with the law's linear coordinates at their best.

    For each start, non-negative weighted least squares on the relative residual; a part
    that comes out at zero starts at a thousandth of the loss instead, so that it can
    grow.
    """
    from scipy.optimize import nnls

    starts = np.array(starts, np.float64)
    if not law.linear:
        return starts
    linear = list(law.linear)
    root = np.sqrt(weights) / loss
    small = 1e-3 * float(np.median(loss))
    for row, theta in enumerate(starts):
        parts = np.repeat(theta[None], len(linear), axis=0)
        parts[:, linear] = -700.0  # exp() of it is nothing beside a loss
        parts[np.arange(len(linear)), linear] = 0.0
        basis = law.predict(parts, columns)
        amplitude, _ = nnls((basis * root).T, loss * root)
        starts[row, linear] = np.log(np.maximum(amplitude, small))
    return np.clip(starts, *_bounds(law))


def _random_starts(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array,
    own: Array,
    count: int,
    seed: int,
) -> Array:
    """Nonlinear coordinates uniform over twice the box of the law's own starts."""
    rng = np.random.default_rng(seed)
    low, high = own.min(axis=0), own.max(axis=0)
    reach = np.maximum(0.5 * (high - low), 0.5)
    drawn = rng.uniform(low - reach, high + reach, size=(count, own.shape[1]))
    drawn = np.clip(drawn, *_bounds(law))
    return fill_linear(law, columns, loss, weights, drawn)


def _bounds(law: Law) -> tuple[Array, Array]:
    low = np.array([p.low for p in law.parameters])
    high = np.array([p.high for p in law.parameters])
    return low, high


def _at_bound(law: Law, theta: Array) -> tuple[str, ...]:
    low, high = _bounds(law)
    near = 1e-3 * (high - low)
    held = (theta <= low + near) | (theta >= high - near)
    return tuple(p.name for p, on in zip(law.parameters, held, strict=True) if on)


def minimise(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array,
    starts: Array,
    delta: float,
    iterations: int = ITERATIONS,
) -> Solution:
    """Descends from each start under its weights; in chunks that fit in the cache.

    Args:
      loss: [n] or [B, n]; weights: [B, n]; starts: [B, P].
    """
    target = np.broadcast_to(np.log(loss), weights.shape)
    size = max(1, CHUNK // max(1, weights.shape[1] * starts.shape[1]))
    parts = [
        _minimise(
            law,
            columns,
            target[at : at + size],
            weights[at : at + size],
            starts[at : at + size],
            delta,
            iterations,
        )
        for at in range(0, len(starts), size)
    ]
    if not parts:
        empty = np.zeros(0)
        return Solution(np.array(starts, np.float64), empty, empty)
    return Solution(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Solution)
        )
    )


def _minimise(
    law: Law,
    columns: Columns,
    target: Array,
    weights: Array,
    starts: Array,
    delta: float,
    iterations: int,
) -> Solution:
    low, high = _bounds(law)
    theta = np.clip(np.array(starts, np.float64), low, high)
    residual = _log_predict(law, theta, columns) - target
    value = _objective(residual, weights, delta)
    norm = np.full(len(theta), np.inf)
    damping = np.ones(len(theta))
    stalled = np.zeros(len(theta), int)
    exact = EXACT * weights.sum(axis=1)
    open_ = np.arange(len(theta))
    for _ in range(iterations):
        if not open_.size:
            break
        t, r, w, mu = theta[open_], residual[open_], weights[open_], damping[open_]
        gradient, step = _step(law, columns, t, r, w, mu, delta)
        norm[open_] = np.abs(gradient).max(axis=1)
        slope = (gradient * step).sum(axis=1)
        proposal = np.clip(t - step, low, high)
        new_residual = _log_predict(law, proposal, columns) - target[open_]
        new_value = _objective(new_residual, w, delta)
        better = new_value < value[open_]
        drop = value[open_] - new_value
        moved = open_[better]
        theta[moved], residual[moved] = proposal[better], new_residual[better]
        value[moved] = new_value[better]
        damping[open_] = np.where(better, np.maximum(mu / 6.0, 1e-12), mu * 8.0)
        tiny = 1e-13 * value[open_]
        slow = ~better | (drop <= 1e-6 * value[open_])
        stalled[open_] = np.where(slow, stalled[open_] + 1, 0)
        settled = (np.abs(slope) <= tiny) | (better & (drop <= tiny) & (mu < 1e-3))
        settled |= (value[open_] <= exact[open_]) | (stalled[open_] >= PATIENCE)
        open_ = open_[~settled]
    return Solution(theta, value, norm)


def _log_predict(law: Law, theta: Array, columns: Columns) -> Array:
    return np.log(np.maximum(law.predict(theta, columns), 1e-300))


def _objective(residual: Array, weights: Array, delta: float) -> Array:
    return np.sum(weights * huber(residual, delta), axis=-1)


def _step(
    law: Law,
    columns: Columns,
    theta: Array,
    residual: Array,
    weights: Array,
    damping: Array,
    delta: float,
) -> tuple[Array, Array]:
    """Projected gradient [B, P] and damped Newton step [B, P] (to be subtracted)."""
    jacobian = log_gradient(law, theta, columns)
    pull = weights * np.clip(residual, -delta, delta)
    gradient = (pull[:, None, :] @ jacobian)[:, 0]
    majoriser = _gram(jacobian, weights * _reweight(residual, delta))
    newton = _gram(jacobian, weights * (np.abs(residual) <= delta))
    if law.log_curvature is not None:
        newton = newton + law.log_curvature(theta, columns, pull)
    held = _held(law, theta, gradient)
    gradient = np.where(held, 0.0, gradient)
    diagonal = np.einsum("bpp->bp", majoriser)
    ridge = 1e-9 * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    hessian = newton + damping[:, None, None] * majoriser
    size = theta.shape[1]
    hessian[:, range(size), range(size)] += ridge * (1.0 + damping[:, None])
    hessian = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
    hessian[:, range(size), range(size)] += np.where(held, 1.0, 0.0)
    step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    # A coordinate is a logarithm or an exponent: longer steps leave the model's reach.
    longest = np.abs(step).max(axis=1, keepdims=True)
    return gradient, step * np.minimum(1.0, 3.0 / np.maximum(longest, 1e-300))


def _reweight(residual: Array, delta: float) -> Array:
    """Weights of least squares that majorise Huber: 1 inside, delta / |r| outside."""
    if not np.isfinite(delta):
        return np.ones_like(residual)
    return delta / np.maximum(np.abs(residual), delta)


def _gram(jacobian: Array, weights: Array) -> Array:
    return (jacobian * weights[..., None]).transpose(0, 2, 1) @ jacobian


def _held(law: Law, theta: Array, gradient: Array) -> Array:
    """Coordinates on a bound that the gradient pushes outward."""
    low, high = _bounds(law)
    return ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))


def log_gradient(law: Law, theta: Array, columns: Columns) -> Array:
    """d ln loss / d theta [B, n, P]: the law's own, or central differences."""
    if law.log_gradient is not None:
        return law.log_gradient(theta, columns)
    step = 1e-6
    slopes = []
    for p in range(theta.shape[1]):
        shift = np.zeros(theta.shape[1])
        shift[p] = step
        up = _log_predict(law, theta + shift, columns)
        down = _log_predict(law, theta - shift, columns)
        slopes.append((up - down) / (2 * step))
    return np.stack(slopes, axis=-1)


def _information(
    law: Law,
    columns: Columns,
    loss: Array,
    weights: Array,
    theta: Array,
    delta: float,
) -> tuple[float, str]:
    """Condition number of the scaled information matrix, and what lies flat in it.

    Coordinates on a bound are left out: the bound, not the data, fixes them.
    """
    residual = np.log(law.predict(theta, columns)) - np.log(loss)
    jacobian = log_gradient(law, theta[None], columns)
    scale = weights * _reweight(residual, delta)
    matrix = _gram(jacobian, scale[None])[0]
    names = [p.name for p in law.parameters]
    free = [i for i, name in enumerate(names) if name not in _at_bound(law, theta)]
    matrix = matrix[np.ix_(free, free)]
    root = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    values, vectors = np.linalg.eigh(matrix / np.outer(root, root))
    condition = float(values[-1] / max(values[0], 1e-300)) if free else 1.0
    if condition * FLAT < 1.0:
        return condition, ""
    heavy = np.abs(vectors[:, 0]) > 0.3
    flat = [names[i] for i, on in zip(free, heavy, strict=True) if on]
    return condition, " and ".join(flat) or names[free[0]]
