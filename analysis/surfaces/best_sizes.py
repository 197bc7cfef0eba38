"""Compute-optimal sizes without a loss surface: estimators to set beside the joint fit.

    parabola       Approach 2 of Hoffmann et al. 2022 (section 3.2): a parabola in ln N
                   through the runs of each budget, its lowest point the optimum.
    interpolation  the same budgets, through every run instead (Porian et al. 2024,
                   "Resolving discrepancies in compute-optimal scaling", section 3.2).
    envelope       Approach 1 of Hoffmann et al. 2022 (section 3.1): at each compute the
                   training curve that is lowest there.

Each gives an optimum for every budget and the powers N* ~ C^a and D* ~ C^b through
them. None knows a floor or shares anything between budgets, so a fitted law is the
better answer where the design allows one; a parabola's lowest point is off where the
true curve is not symmetric or the runs are not centred on it, and says so here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.design.levels import level_codes
from analysis.inference import quantiles
from analysis.inference.intervals import interval
from analysis.inference.verdict import DECIDES
from analysis.laws import Array
from scaling.errors import UserError

# Runs whose FLOPs lie within this share of each other are of one budget.
APART = 0.1
LEAST_SIZES = 3
# A parabola that is nearly flat is lowest anywhere: logs of sizes end here.
FARTHEST = 200.0
# Points of the interpolation between two neighbouring sizes.
FINENESS = 25
# Least standard deviation of ln N*, as a share of the distance between two sizes.
RESOLUTION = 0.33
# A lowest point further from the middle of the sizes, as a share of their range.
OFF_CENTRE = 0.25
# A cubic whose lowest point is further from the parabola's, as a ratio of sizes.
LOP_SIDED = 1.1
# Computes at which the envelope is read.
READINGS = 200
DRAWS = 1000

# Standard deviation of a run's loss over seeds, by its loss; nats.
Noise = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The best size of one budget; NaN where the budget shows none.

    Attributes:
      flops: of the budget; params, tokens, loss: at its optimum.
      spread: standard deviation of ln params; NaN where nothing says how large it is.
      draws: params [B] in draws of the noise; NaN where a draw shows no optimum.
      runs: how many sizes the budget has.
      warnings: what is wrong with it, each a clause.
    """

    flops: float
    params: float
    tokens: float
    loss: float
    spread: float
    draws: Array
    runs: int
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Power:
    """optimum = coefficient C^exponent, with the exponent's 95% interval."""

    coefficient: float
    exponent: float
    low: float
    high: float
    r2: float
    budgets: int

    def at(self, flops: Array) -> Array:
        return self.coefficient * np.asarray(flops) ** self.exponent


@dataclasses.dataclass(frozen=True)
class Optima:
    """What one estimator says; a power is None with fewer than three optima."""

    method: str
    budgets: tuple[Optimum, ...]
    params: Power | None
    tokens: Power | None

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(
            f"{budget.flops:.3g} FLOPs: {clause}"
            for budget in self.budgets
            for clause in budget.warnings
        )


def parabola(frame: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> Optima:
    """Approach 2, with the residuals of each parabola resampled for the intervals.

    Args:
      frame: params, tokens, flops, loss; several sizes at each of some FLOPs.
    """
    rng = np.random.default_rng(seed)
    found = [_parabola(part, draws, rng) for part in _budgets(frame)]
    return _optima("parabola", found, weighted=False)


def interpolation(
    frame: pd.DataFrame,
    noise: Noise | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Optima:
    """Through every run by Akima splines in (ln N, ln loss).

    With the noise known, the optimum of a budget is the median over draws of it, and
    budgets count by how well they fix theirs: the recipe of Porian et al. 2024.

    Args:
      frame: params, tokens, flops, loss; several sizes at each of some FLOPs.
      noise: standard deviation of a loss; without it no draw is made.
    """
    rng = np.random.default_rng(seed)
    found = [_interpolation(part, noise, draws, rng) for part in _budgets(frame)]
    return _optima("interpolation", found, weighted=noise is not None)


def envelope(frame: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> Optima:
    """Approach 1: at log-spaced computes, the size of the curve that is lowest there.

    Computes at which the smallest or the largest size of all is lowest are left out:
    a better one may lie beyond it. Draws resample whole curves.

    Args:
      frame: params, tokens, flops, loss, trajectory: points of training curves.
    """
    _check(frame, ("params", "tokens", "flops", "loss", "trajectory"))
    curves = [part.sort_values("flops") for _, part in frame.groupby("trajectory")]
    curves = [part for part in curves if len(part) > 1]
    if len(curves) < LEAST_SIZES:
        raise UserError("trajectory", len(curves), "at least 3 curves of 2 points")
    at = np.geomspace(frame.flops.min(), frame.flops.max(), READINGS)
    losses = np.full((len(curves), at.size), np.nan)
    tokens = np.full((len(curves), at.size), np.nan)
    for row, part in enumerate(curves):
        flops = np.log(part.flops)
        inside = (at >= part.flops.min()) & (at <= part.flops.max())
        logs = np.log(at[inside])
        losses[row, inside] = np.exp(np.interp(logs, flops, np.log(part.loss)))
        tokens[row, inside] = np.exp(np.interp(logs, flops, np.log(part.tokens)))
    sizes = np.array([float(part.params.iloc[0]) for part in curves])
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(curves), np.full(len(curves), 1 / len(curves)), draws)
    drawn = np.array([_lowest(losses, sizes, row > 0)[0] for row in counts])
    params, winner = _lowest(losses, sizes, np.ones(len(curves), bool))
    found = []
    for column in np.flatnonzero(~np.isnan(params)):
        row = winner[column]
        found.append(
            Optimum(
                flops=float(at[column]),
                params=float(params[column]),
                tokens=float(tokens[row, column]),
                loss=float(losses[row, column]),
                spread=_spread(drawn[:, column]),
                draws=drawn[:, column],
                runs=int(np.sum(~np.isnan(losses[:, column]))),
            )
        )
    return _optima("envelope", found, weighted=False)


def _lowest(losses: Array, sizes: Array, present: Array) -> tuple[Array, Array]:
    """Size of the lowest curve at each compute, NaN at the edge; and its row."""
    seen = np.where(present[:, None] & ~np.isnan(losses), losses, np.inf)
    row = seen.argmin(axis=0)
    params = sizes[row].copy()
    inner = (params > sizes.min()) & (params < sizes.max())
    params[~inner | np.isinf(seen.min(axis=0))] = np.nan
    return params, row


def _check(frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    for name in columns:
        if name not in frame:
            raise UserError("frame", list(frame.columns), f"a column {name}")
        if name != "trajectory" and not (frame[name] > 0).all():
            raise UserError(name, float(frame[name].min()), "values above zero")


def _budgets(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """A frame a budget, sorted by size, with the best run of each size."""
    _check(frame, ("params", "tokens", "flops", "loss"))
    ordered = frame.sort_values("flops")
    code = level_codes(ordered.flops.to_numpy(float), APART)
    parts = []
    for _, part in ordered.groupby(code):
        best = part.loc[part.groupby("params").loss.idxmin()]
        parts.append(best.sort_values("params"))
    return parts


def _sizes(part: pd.DataFrame) -> str:
    return "1 size" if len(part) == 1 else f"{len(part)} sizes"


def _none(part: pd.DataFrame, *warnings: str) -> Optimum:
    nan = float("nan")
    flops = float(np.exp(np.log(part.flops).mean()))
    return Optimum(flops, nan, nan, nan, nan, np.zeros(0), len(part), warnings)


def _tokens(part: pd.DataFrame, log_params: float) -> float:
    """Tokens of the budget at a size, straight in logs between its runs."""
    line = np.polyfit(np.log(part.params), np.log(part.tokens), 1)
    return float(np.exp(np.polyval(line, log_params)))


def _spread(draws: Array) -> float:
    kept = draws[~np.isnan(draws)]
    return float(np.std(np.log(kept))) if kept.size else float("nan")


def _vertex(x: Array, loss: Array) -> Array:
    """Lowest points of parabolas through loss [n, B]; NaN where one opens downward."""
    curve, slope, _ = np.polyfit(x, loss, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(curve > 0, -slope / (2 * curve), np.nan)


def _parabola(part: pd.DataFrame, draws: int, rng: np.random.Generator) -> Optimum:
    if len(part) < LEAST_SIZES:
        return _none(part, f"{_sizes(part)}, and a parabola needs {LEAST_SIZES}")
    logs, loss = np.log(part.params.to_numpy()), part.loss.to_numpy()
    middle = 0.5 * (logs[0] + logs[-1])
    x = logs - middle
    at = float(_vertex(x, loss[:, None])[0])
    if np.isnan(at):
        return _none(part, "the parabola opens downward")
    coefficients = np.polyfit(x, loss, 2)
    warnings = _doubts(x, loss, at)
    drawn = np.zeros(0)
    if len(part) > LEAST_SIZES:
        curve = np.polyval(coefficients, x)
        scale = np.sqrt(len(part) / (len(part) - 3.0))
        chosen = rng.choice((loss - curve) * scale, size=(len(part), draws))
        lowest = _vertex(x, curve[:, None] + chosen) + middle
        drawn = np.exp(np.clip(lowest, -FARTHEST, FARTHEST))
    outside = any("outside" in clause for clause in warnings)
    return Optimum(
        flops=float(np.exp(np.log(part.flops).mean())),
        params=float("nan") if outside else float(np.exp(at + middle)),
        tokens=float("nan") if outside else _tokens(part, at + middle),
        loss=float(np.polyval(coefficients, at)),
        spread=_spread(drawn),
        draws=np.full_like(drawn, np.nan) if outside else drawn,
        runs=len(part),
        warnings=warnings,
    )


def _doubts(x: Array, loss: Array, at: float) -> tuple[str, ...]:
    """What speaks against a parabola's lowest point; sizes x are about their middle."""
    if not x[0] < at < x[-1]:
        return ("the lowest point lies outside the sizes that were run",)
    clauses = []
    share = abs(at) / (x[-1] - x[0])
    if share > OFF_CENTRE:
        side = "smallest" if at < 0 else "largest"
        clauses.append(f"off-centre: the lowest point is near the {side} size")
    if len(x) > LEAST_SIZES + 1:
        three, two, one, _ = np.polyfit(x, loss, 3)
        roots = np.roots([3 * three, 2 * two, one])
        low = [
            r.real for r in roots if abs(r.imag) < 1e-12 and three * r.real * 3 > -two
        ]
        if not low or abs(low[0] - at) > np.log(LOP_SIDED):
            where = f"at {np.exp(low[0] - at):.2f} of that size" if low else "nowhere"
            clauses.append(f"lop-sided: a cubic is lowest {where}")
    return tuple(clauses)


def _interpolation(
    part: pd.DataFrame, noise: Noise | None, draws: int, rng: np.random.Generator
) -> Optimum:
    if len(part) < LEAST_SIZES:
        return _none(part, f"{_sizes(part)}, and the optimum needs {LEAST_SIZES}")
    logs, loss = np.log(part.params.to_numpy()), part.loss.to_numpy()
    fine = np.linspace(logs[0], logs[-1], FINENESS * (len(part) - 1))
    at, lowest = _minimum(logs, loss[:, None], fine)
    drawn = np.zeros(0)
    spread, centre, value = float("nan"), at[0], lowest[0]
    if noise is not None:
        shaken = loss[:, None] + noise(loss)[:, None] * rng.normal(
            size=(len(loss), draws)
        )
        many, values = _minimum(logs, shaken, fine)
        inner = ~np.isnan(many)
        drawn = np.exp(many)
        if inner.sum() < draws // 2:
            return _none(part, "most draws of the noise put the optimum at an end")
        least = RESOLUTION * FINENESS * (fine[1] - fine[0])
        spread = max(float(np.std(many[inner])), least) * draws / inner.sum()
        centre, value = np.median(many[inner]), np.median(values[inner])
    if np.isnan(at[0]):
        return _none(part, "the lowest run is the smallest or the largest size")
    return Optimum(
        flops=float(np.exp(np.log(part.flops).mean())),
        params=float(np.exp(centre)),
        tokens=_tokens(part, centre),
        loss=float(value),
        spread=float(spread),
        draws=drawn,
        runs=len(part),
    )


def _minimum(logs: Array, loss: Array, fine: Array) -> tuple[Array, Array]:
    """Where splines through loss [n, B] are lowest, NaN at an end; and the values."""
    from scipy.interpolate import Akima1DInterpolator

    curves = Akima1DInterpolator(logs, np.log(loss), axis=0)(fine)
    row = curves.argmin(axis=0)
    ends = (row == 0) | (row == fine.size - 1)
    return np.where(ends, np.nan, fine[row]), np.exp(curves.min(axis=0))


def _optima(method: str, found: list[Optimum], weighted: bool) -> Optima:
    kept = [budget for budget in found if np.isfinite(budget.params)]
    powers: list[Power | None] = [None, None]
    if len(kept) >= LEAST_SIZES:
        flops = np.array([budget.flops for budget in kept])
        spread = np.array([budget.spread for budget in kept])
        weights = 1 / spread**2 if weighted else np.ones_like(flops)
        drawn = np.zeros((0, len(kept)))
        if all(budget.draws.size for budget in kept):
            drawn = np.stack([budget.draws for budget in kept], axis=1)
        params = np.array([budget.params for budget in kept])
        tokens = np.array([budget.tokens for budget in kept])
        # On one budget tokens and size are each other's inverse, draw by draw.
        inverse = params * tokens / drawn if drawn.size else drawn
        powers = [
            _power(flops, params, drawn, weights),
            _power(flops, tokens, inverse, weights),
        ]
    return Optima(method, tuple(found), powers[0], powers[1])


def _power(flops: Array, optimum: Array, draws: Array, weights: Array) -> Power:
    """Weighted least squares in logs; interval from the draws, else by Student's t."""
    x, y = np.log(flops), np.log(optimum)
    slope, level = _line(x, y, weights)
    left = y - level - slope * x
    centred = y - np.average(y, weights=weights)
    total = float(np.sum(weights * centred**2))
    # One size that is best at every compute leaves nothing to explain.
    r2 = 1.0 - float(np.sum(weights * left**2)) / total if total > 0 else np.nan
    low, high = (float(end) for end in _student(x, left, weights, slope))
    slopes = np.array([_line(x, np.log(row), weights)[0] for row in draws])
    if np.sum(~np.isnan(slopes)) >= 20:
        low, high = (float(end) for end in interval(slopes))
    return Power(float(np.exp(level)), float(slope), low, high, r2, len(x))


def _line(x: Array, y: Array, weights: Array) -> tuple[float, float]:
    """Slope and level over the entries that are there; NaN with fewer than three."""
    kept = np.isfinite(y)
    if kept.sum() < LEAST_SIZES:
        return float("nan"), float("nan")
    w, x, y = weights[kept], x[kept], y[kept]
    mean_x, mean_y = np.average(x, weights=w), np.average(y, weights=w)
    slope = np.sum(w * (x - mean_x) * (y - mean_y)) / np.sum(w * (x - mean_x) ** 2)
    return float(slope), float(mean_y - slope * mean_x)


def _student(
    x: Array, left: Array, weights: Array, slope: float
) -> tuple[float, float]:
    """95% interval of a slope from its own residuals."""
    freedom = len(x) - 2
    variance = np.sum(weights * left**2) / freedom
    mean = np.average(x, weights=weights)
    error = np.sqrt(variance / np.sum(weights * (x - mean) ** 2))
    reach = float(quantiles.student(DECIDES, freedom) * error)
    return slope - reach, slope + reach
