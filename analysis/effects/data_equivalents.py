"""Architecture against data: what fitted surfaces say, in one currency, with intervals.

Everything here reads surfaces, never a law: a surface gives loss [B, k] for k points of
one family and corpus, a row the point estimate (row 0) or a bootstrap draw. Draws are
shared by all surfaces of an analysis, so differences are paired. Losses of different
targets never meet: a corpus swap is "train on d or d', scored on the same target".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.design import levels
from analysis.design.swaps import Swap
from analysis.inference.intervals import interval
from analysis.laws import Array

# (family, corpus, params [k], tokens [k]) -> loss [B, k]; NaN where there is no fit.
Surface = Callable[[str, str, Array, Array], Array]
Currency = Literal["params", "tokens"]

SIZES = ("params", "tokens")
# Equivalents are searched over factors up to e^REACH and called infinite beyond.
REACH = math.log(1e9)
STEP = 0.05


# Draws of one swap's ln M [B, points]; row 0 is the estimate.
LogFactors = Mapping[Swap, Array]


def equivalent(losses: Array, log_grid: Array, wanted: Array) -> Array:
    """ln of the tokens (parameters, FLOPs) at which a falling curve reaches a loss.

    Args:
      losses: the baseline's loss [B, g] on `log_grid` [g], rising.
      wanted: loss to reach [B].

    Returns [B]: +inf where even the last point of the grid is above, -inf where the
    first is below already, NaN where there is no fit.
    """
    above = _count_above(losses, wanted)
    last = log_grid.size - 1
    right = np.clip(above, 1, last)
    rows = np.arange(len(losses))
    high, low = losses[rows, right - 1], losses[rows, right]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (high - wanted) / (high - low), 0.0)
    out = log_grid[right - 1] + share * (log_grid[right] - log_grid[right - 1])
    out = np.where(above > last, np.inf, np.where(above == 0, -np.inf, out))
    return np.where(np.isnan(losses[:, 0]) | np.isnan(wanted), np.nan, out)


def _count_above(losses: Array, wanted: Array) -> Array:
    """How many points of each falling curve [B, g] lie above a loss [B], by halving."""
    rows, size = np.arange(len(losses)), losses.shape[1]
    low, high = np.zeros(len(losses), int), np.full(len(losses), size)
    for _ in range(size.bit_length()):
        middle = (low + high) // 2
        above = losses[rows, np.minimum(middle, size - 1)] > wanted
        above &= low < high
        low, high = np.where(above, middle + 1, low), np.where(above, high, middle)
    return low


class Equivalents:
    """Data- or parameter-equivalents on one surface; curves are computed once and kept.

    M_D of going from baseline to `alternative` at (N, D): the factor on the baseline's
    data that gives the loss of `alternative` at the same (N, D); infinity where no
    amount does. It is not the reciprocal of going back. M_N is the same for the
    baseline's parameters.
    """

    def __init__(
        self,
        surface: Surface,
        points: Sequence[tuple[float, float]],
        currency: Currency = "tokens",
    ):
        self.surface = surface
        self.points = points
        self.currency = currency
        logs = np.log([point[SIZES.index(currency)] for point in points])
        self.log_grid = np.arange(logs.min() - REACH, logs.max() + REACH + STEP, STEP)
        self._curves: dict[tuple[str, str, float], Array] = {}
        self._losses: dict[tuple[str, str], Array] = {}

    def curve(self, family: str, corpus: str, other: float) -> Array:
        """Loss [B, g] along the currency, at one value of the other of N and D."""
        key = (family, corpus, other)
        if key not in self._curves:
            spent = np.exp(self.log_grid)
            fixed = np.full(spent.size, other)
            at = (fixed, spent) if self.currency == "tokens" else (spent, fixed)
            self._curves[key] = self.surface(family, corpus, *at)
        return self._curves[key]

    def losses(self, family: str, corpus: str) -> Array:
        """Loss [B, points]."""
        key = (family, corpus)
        if key not in self._losses:
            params, tokens = np.array(self.points, np.float64).T
            self._losses[key] = self.surface(family, corpus, params, tokens)
        return self._losses[key]

    def log_factors(
        self, baseline: tuple[str, str], alternative: tuple[str, str]
    ) -> Array:
        """ln M from baseline to `alternative`, both (family, corpus), [B, points]."""
        out = []
        reached = self.losses(*alternative)
        for point, wanted in zip(self.points, reached.T, strict=True):
            mine, other = point if self.currency == "params" else point[::-1]
            losses = self.curve(*baseline, other)
            out.append(equivalent(losses, self.log_grid, wanted) - np.log(mine))
        return np.stack(out, axis=1)


def overall(log_factors: Array) -> Array:
    """[B, points] -> [B]: the median over the points, which infinite ones allow.

    The lower of two middle ones, since a mean with infinity says nothing.
    """
    ordered = np.sort(log_factors, axis=1)
    middle = ordered[:, (log_factors.shape[1] - 1) // 2]
    return np.where(np.isnan(log_factors).any(axis=1), np.nan, middle)


def over_held(logs: Sequence[Array]) -> Array:
    """Mean over the fixed levels, [B, points]; NaN where +inf meets -inf."""
    with np.errstate(invalid="ignore"):
        return np.mean(logs, axis=0)


def gains(model: Equivalents, found: Sequence[Swap]) -> list[Swap]:
    """The swaps in the direction that helps, one for a pair whatever is held fixed.

    M_D is above 1 just where `alternative` is the better, so the sign of one direction
    tells the other. The mean over fixed levels and points decides, infinite ones cut at
    REACH.
    """
    out = []
    for _, group in itertools.groupby(found, key=lambda swap: swap.pair):
        members = list(group)
        logs = np.array([model.log_factors(s.before, s.after)[0] for s in members])
        known = np.clip(logs[~np.isnan(logs)], -REACH, REACH)
        out += [s.turned() if known.sum() < 0 else s for s in members]
    return out


def log_factors(model: Equivalents, found: Sequence[Swap]) -> dict[Swap, Array]:
    """Draws of ln M of each swap that the surface can tell."""
    draws = {s: model.log_factors(s.before, s.after) for s in found}
    return {s: logs for s, logs in draws.items() if not np.isnan(logs[0]).any()}


def by_pair(draws: LogFactors) -> dict[tuple[str, str, str], list[Swap]]:
    """The swaps of each pair, over what is held fixed."""
    out: dict[tuple[str, str, str], list[Swap]] = {}
    for swap in draws:
        out.setdefault(swap.pair, []).append(swap)
    return out


def pooled_draws(draws: LogFactors) -> dict[Swap, Array]:
    """ln M [B, points] of each pair over what is held fixed: `fixed` is "*"."""
    return {
        members[0]._replace(fixed="*"): over_held([draws[s] for s in members])
        for members in by_pair(draws).values()
    }


def covered(
    where: Sequence[tuple[float, float]], fitted: pd.DataFrame
) -> set[tuple[float, float]]:
    """The points up to which every family and corpus has fitted runs.

    Where some have none that large, the effect of a swap there is extrapolated.

    Args:
      fitted: family, corpus, params, tokens of the runs that the laws saw.
    """
    # Within a level families differ by some percent, and budgets by a step.
    size, budget = 1.0 + levels.SIZE, 1.0 + levels.BUDGET
    parts = [part for _, part in fitted.groupby(["family", "corpus"])]
    return {
        (params, tokens)
        for params, tokens in where
        if all(
            ((part.params * size >= params) & (part.tokens * budget >= tokens)).any()
            for part in parts
        )
    }


def equivalents_frame(
    draws: LogFactors, points: Sequence[tuple[float, float]], target: str, method: str
) -> pd.DataFrame:
    """Rows for every swap at every point and over all of them (params, tokens NaN).

    Over all points, the fixed levels too are averaged in rows with fixed "*".
    """
    rows = []
    for swap, logs in draws.items():
        every = np.concatenate([logs, overall(logs)[:, None]], axis=1)
        where = [*points, (np.nan, np.nan)]
        rows += _factor_rows(swap.head(target) | {"method": method}, every, where)
    for swap, logs in pooled_draws(draws).items():
        head = swap.head(target) | {"method": method}
        rows += _factor_rows(head, overall(logs)[:, None], [(np.nan, np.nan)])
    return pd.DataFrame(rows)


def _factor_rows(
    head: Mapping[str, Any], logs: Array, points: Sequence[tuple[float, float]]
) -> list[dict[str, Any]]:
    """A row a point from ln M [B, points]."""
    low, high = interval(logs[1:])
    return [
        {
            **head,
            "params": params,
            "tokens": tokens,
            "factor": np.exp(logs[0, k]),
            "low": np.exp(low[k]),
            "high": np.exp(high[k]),
            "p_infinite": share(np.isposinf(logs[1:, k]), logs[1:, k]),
        }
        for k, (params, tokens) in enumerate(points)
    ]


def share(event: Array, among: Array) -> float:
    """Share of the draws [B] with an event, of those that have a value at all."""
    known = ~np.isnan(among)
    return float(np.mean(event[known])) if known.any() else math.nan


def doubling_frame(
    surface: Surface,
    families: Sequence[str],
    corpora: Sequence[str],
    points: Sequence[tuple[float, float]],
    target: str,
) -> pd.DataFrame:
    """Nats saved by twice the data at each point."""
    params = np.array([p for p, _ in points])
    tokens = np.array([t for _, t in points])
    rows = []
    for family, corpus in itertools.product(families, corpora):
        gain = surface(family, corpus, params, tokens)
        gain = gain - surface(family, corpus, params, 2.0 * tokens)
        if np.isnan(gain[0]).any():
            continue
        low, high = interval(gain[1:])
        for k, (size, budget) in enumerate(points):
            rows.append(
                {
                    "family": family,
                    "corpus": corpus,
                    "target": target,
                    "params": size,
                    "tokens": budget,
                    "gain": gain[0, k],
                    "low": low[k],
                    "high": high[k],
                }
            )
    return pd.DataFrame(rows)


def ratios_frame(
    draws: LogFactors, points: Sequence[tuple[float, float]], target: str
) -> pd.DataFrame:
    """Lambda = ln M_D(architecture) / ln M_D(corpus), by pairs, points and overall.

    Each swap is taken in the direction that helps overall. Where the corpus's effect is
    infinite the ratio says nothing: lambda and its interval are of the draws in which
    it is finite, with no value where those are fewer than half, and the probabilities
    of infinity stand beside. Where both are infinite in a draw, neither is larger: the
    draw counts half for each.
    """
    rows = []
    whole = pooled_draws(draws)
    of_kind = {
        kind: [s for s in whole if s.kind == kind]
        for kind in ("architecture", "corpus")
    }
    for one, two in itertools.product(of_kind["architecture"], of_kind["corpus"]):
        architecture, corpus = (
            np.concatenate([whole[s], overall(whole[s])[:, None]], axis=1)
            for s in (one, two)
        )
        head = {
            "target": target,
            "architecture": f"{one.baseline} -> {one.alternative}",
            "corpus": f"{two.baseline} -> {two.alternative}",
        }
        for k, (params, tokens) in enumerate([*points, (np.nan, np.nan)]):
            row: dict[str, Any] = head | {"params": params, "tokens": tokens}
            rows.append(row | _ratio(architecture[:, k], corpus[:, k]))
    return pd.DataFrame(rows)


def _ratio(architecture: Array, corpus: Array) -> dict[str, float]:
    """One row's numbers, from ln M_D [B] of the two swaps."""
    finite = np.isfinite(corpus) & (corpus != 0) & ~np.isnan(architecture)
    ratio = np.full(corpus.size, np.nan)
    ratio[finite] = architecture[finite] / corpus[finite]
    known = ~np.isnan(architecture) & ~np.isnan(corpus)
    if 2 * finite[1:].sum() < known[1:].sum():
        ratio[:] = np.nan
    low, high = interval(ratio[1:])
    a, d = np.abs(architecture[1:]), np.abs(corpus[1:])
    doublings = architecture / math.log(2.0)
    fewest, most = interval(doublings[1:])
    known_draws = np.where(known[1:], 0.0, np.nan)
    return {
        "lambda": float(ratio[0]),
        "low": float(low),
        "high": float(high),
        "p_architecture": share((a > d) + 0.5 * (a == d), known_draws),
        "p_architecture_infinite": share(np.isinf(a), a),
        "p_corpus_infinite": share(np.isinf(d), d),
        "doublings": float(doublings[0]),
        "doublings_low": float(fewest),
        "doublings_high": float(most),
        "p_doubling": share(a > math.log(2.0), a),
    }
