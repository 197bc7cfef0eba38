"""Architecture against data: what fitted surfaces say, in one currency, with intervals.

Everything here reads surfaces, never a law: a surface gives loss [B, k] for k points of
one family and corpus, a row the point estimate (row 0) or a bootstrap draw. Draws are
shared by all surfaces of an analysis, so differences are paired. Losses of different
targets never meet: a corpus swap is "train on d or d', scored on the same target".
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.intervals import interval
from analysis.laws import Array

# (family, corpus, params [k], tokens [k]) -> loss [B, k]; NaN where there is no fit.
Surface = Callable[[str, str, Array, Array], Array]

SIZES = ("params", "tokens")
SWAP = ("kind", "source", "to", "held")
# Data-equivalents are searched over factors up to e^REACH and called infinite beyond.
REACH = math.log(1e9)
STEP = 0.02


def data_equivalent(losses: Array, log_grid: Array, wanted: Array) -> Array:
    """ln of the tokens at which a falling curve reaches a loss, by draw.

    Args:
      losses: the source's loss [B, g] on `log_grid` [g], rising ln tokens.
      wanted: loss to reach [B].

    Returns [B]: +inf where even the last point of the grid is above, -inf where the
    first is below already, NaN where there is no fit.
    """
    above = (losses > wanted[:, None]).sum(axis=1)
    last = log_grid.size - 1
    right = np.clip(above, 1, last)
    rows = np.arange(len(losses))
    high, low = losses[rows, right - 1], losses[rows, right]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (high - wanted) / (high - low), 0.0)
    out = log_grid[right - 1] + share * (log_grid[right] - log_grid[right - 1])
    out = np.where(above > last, np.inf, np.where(above == 0, -np.inf, out))
    return np.where(np.isnan(losses[:, 0]) | np.isnan(wanted), np.nan, out)


class Equivalents:
    """Data-equivalents M_D on one surface; curves are computed once and kept.

    M_D of going from source to `to` at (N, D): the factor on the source's data that
    gives the loss of `to` at the same (N, D); infinity where no amount does. It is not
    the reciprocal of going back.
    """

    def __init__(self, surface: Surface, points: Sequence[tuple[float, float]]):
        self.surface = surface
        self.points = points
        logs = np.log([tokens for _, tokens in points])
        span = np.arange(logs.min() - REACH, logs.max() + REACH + STEP, STEP)
        self.log_grid = span
        self._curves: dict[tuple[str, str, float], Array] = {}

    def curve(self, family: str, corpus: str, params: float) -> Array:
        key = (family, corpus, params)
        if key not in self._curves:
            tokens = np.exp(self.log_grid)
            sizes = np.full(tokens.size, params)
            self._curves[key] = self.surface(family, corpus, sizes, tokens)
        return self._curves[key]

    def log_factors(self, source: tuple[str, str], to: tuple[str, str]) -> Array:
        """ln M_D from source to `to`, both (family, corpus), [B, points]."""
        out = []
        for params, tokens in self.points:
            at = np.array([params]), np.array([tokens])
            wanted = self.surface(*to, *at)[:, 0]
            losses = self.curve(*source, params)
            out.append(data_equivalent(losses, self.log_grid, wanted) - np.log(tokens))
        return np.stack(out, axis=1)


def overall(log_factors: Array) -> Array:
    """[B, points] -> [B]: the median over the points, which infinite ones allow.

    The lower of two middle ones, since a mean with infinity says nothing.
    """
    ordered = np.sort(log_factors, axis=1)
    middle = ordered[:, (log_factors.shape[1] - 1) // 2]
    return np.where(np.isnan(log_factors).any(axis=1), np.nan, middle)


def swaps(
    families: Sequence[str], corpora: Sequence[str]
) -> list[tuple[str, str, str, str]]:
    """Every ordered (kind, source, to, held)."""
    out = []
    for source, to in itertools.permutations(families, 2):
        out += [("architecture", source, to, held) for held in corpora]
    for source, to in itertools.permutations(corpora, 2):
        out += [("corpus", source, to, held) for held in families]
    return out


def ends(kind: str, source: str, to: str, held: str) -> tuple[tuple[str, str], ...]:
    """(family, corpus) before and after a swap."""
    if kind == "architecture":
        return (source, held), (to, held)
    return (held, source), (held, to)


def equivalents_frame(
    model: Equivalents,
    families: Sequence[str],
    corpora: Sequence[str],
    target: str,
    method: str,
) -> tuple[pd.DataFrame, dict[tuple[str, str, str, str], Array]]:
    """Rows for every swap at every point and overall, and the draws [B, points]."""
    rows, draws = [], {}
    where = [*model.points, (np.nan, np.nan)]
    for swap in swaps(families, corpora):
        logs = model.log_factors(*ends(*swap))
        if np.isnan(logs[0]).any():
            continue
        draws[swap] = logs
        every = np.concatenate([logs, overall(logs)[:, None]], axis=1)
        low, high = interval(every[1:])
        for k, (params, tokens) in enumerate(where):
            seen = every[1:, k][~np.isnan(every[1:, k])]
            rows.append(
                dict(zip(SWAP, swap, strict=True))
                | {
                    "target": target,
                    "params": params,
                    "tokens": tokens,
                    "factor": np.exp(every[0, k]),
                    "low": np.exp(low[k]),
                    "high": np.exp(high[k]),
                    "p_infinite": np.mean(np.isposinf(seen)) if seen.size else np.nan,
                    "method": method,
                }
            )
    return pd.DataFrame(rows), draws


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


def _improving(
    draws: dict[tuple[str, str, str, str], Array], kind: str, pair: tuple[str, str]
) -> tuple[str, str, Array] | None:
    """The direction of a swap that helps overall, and ln M_D [B, points].

    The mean over what is held, in the log; NaN where one held level has no estimate.
    """
    found = []
    for source, to in (pair, pair[::-1]):
        logs = [v for k, v in draws.items() if k[:3] == (kind, source, to)]
        if logs:
            with np.errstate(invalid="ignore"):
                mean = np.mean(logs, axis=0)
            found.append((source, to, mean))
    if not found:
        return None
    return max(found, key=lambda entry: np.nan_to_num(overall(entry[2])[0], nan=-9e9))


def ratios_frame(
    draws: dict[tuple[str, str, str, str], Array],
    families: Sequence[str],
    corpora: Sequence[str],
    points: Sequence[tuple[float, float]],
    target: str,
) -> pd.DataFrame:
    """Lambda = ln M_D(architecture) / ln M_D(corpus), by pairs, points and overall.

    Each swap is taken in the direction that helps overall. Where both are infinite in a
    draw, neither is larger: the draw counts half for each and lambda has no value.
    """
    rows = []
    pairs = itertools.product(
        itertools.combinations(families, 2), itertools.combinations(corpora, 2)
    )
    for family_pair, corpus_pair in pairs:
        one = _improving(draws, "architecture", family_pair)
        two = _improving(draws, "corpus", corpus_pair)
        if one is None or two is None:
            continue
        architecture, corpus = (
            np.concatenate([x[2], overall(x[2])[:, None]], axis=1) for x in (one, two)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = architecture / corpus
        low, high = interval(ratio[1:])
        a, d = np.abs(architecture[1:]), np.abs(corpus[1:])
        wins = np.where(np.isnan(a) | np.isnan(d), np.nan, (a > d) + 0.5 * (a == d))
        for k, (params, tokens) in enumerate([*points, (np.nan, np.nan)]):
            seen = wins[:, k][~np.isnan(wins[:, k])]
            rows.append(
                {
                    "target": target,
                    "params": params,
                    "tokens": tokens,
                    "architecture": f"{one[0]} -> {one[1]}",
                    "corpus": f"{two[0]} -> {two[1]}",
                    "lambda": ratio[0, k],
                    "low": low[k],
                    "high": high[k],
                    "p_architecture": seen.mean() if seen.size else np.nan,
                }
            )
    return pd.DataFrame(rows)


FACTORS = ("architecture", "corpus", "params", "tokens")


def shapley(values: Array) -> Array:
    """Shares of the variance of a full table by axis, [B, ...] -> [B, axes].

    Shapley values of the game in which a set of axes earns the variance of the mean
    over all other axes (closed Sobol index; Song, Nelson and Staum 2016, "Shapley
    effects for global sensitivity analysis"); they add up to 1. All cells of the table
    weigh the same.
    """
    axes = tuple(range(1, values.ndim))
    total = values.var(axis=axes)
    earned = {}
    for size in range(len(axes) + 1):
        for chosen in itertools.combinations(axes, size):
            others = tuple(a for a in axes if a not in chosen)
            mean = values.mean(axis=others, keepdims=True)
            earned[chosen] = mean.var(axis=axes)
    shares = np.zeros((len(values), len(axes)))
    count = len(axes)
    for axis in axes:
        rest = [a for a in axes if a != axis]
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1)
            for chosen in itertools.combinations(rest, size):
                joined = tuple(sorted((*chosen, axis)))
                gain = earned[joined] - earned[chosen]
                shares[:, axis - 1] += weight / math.factorial(count) * gain
    with np.errstate(invalid="ignore", divide="ignore"):
        return shares / total[:, None]


def variance_frame(
    surface: Surface,
    families: Sequence[str],
    corpora: Sequence[str],
    box: tuple[tuple[float, float], tuple[float, float]],
    target: str,
    steps: int = 7,
) -> pd.DataFrame:
    """Shares of the variance of the fitted loss over a box of N and D, in nats.

    Families and corpora weigh the same each; ln N and ln D are uniform over the box.
    """
    sizes, budgets = (np.geomspace(*side, steps) for side in box)
    params, tokens = (x.ravel() for x in np.meshgrid(sizes, budgets, indexing="ij"))
    table: list[list[Array]] = [
        [surface(family, corpus, params, tokens) for corpus in corpora]
        for family in families
    ]
    values: Array = np.moveaxis(np.array(table), 2, 0)
    shares = shapley(values.reshape(*values.shape[:3], steps, steps))
    if np.isnan(shares[0]).any():
        return pd.DataFrame()
    low, high = interval(shares[1:])
    (n_low, n_high), (d_low, d_high) = box
    text = f"N {n_low:.3g} to {n_high:.3g}, D {d_low:.3g} to {d_high:.3g}"
    return pd.DataFrame(
        {
            "target": target,
            "factor": FACTORS,
            "share": shares[0],
            "low": low,
            "high": high,
            "box": text,
        }
    )


def noise_frame(best: pd.DataFrame, target: str) -> pd.DataFrame:
    """Spread of log loss over the seeds of each cell at its best rate.

    Args:
      best: one row a run, with `cell` and `loss`.
    """
    rows = []
    for _, part in best.groupby("cell"):
        if len(part) < 2:
            continue
        first = part.iloc[0]
        rows.append(
            {name: first[name] for name in ("family", "corpus", "params", "tokens")}
            | {
                "target": target,
                "seeds": len(part),
                "sd_log": float(np.log(part.loss).std(ddof=1)),
            }
        )
    return pd.DataFrame(rows)


def pooled(noise: pd.DataFrame) -> float:
    """Seed noise pooled over cells, weighted by degrees of freedom; NaN for none."""
    if noise.empty:
        return float("nan")
    freedom = noise.seeds - 1
    return float(np.sqrt((freedom * noise.sd_log**2).sum() / freedom.sum()))


@dataclasses.dataclass(frozen=True)
class Match:
    """Two cells that differ in the swapped factor alone.

    Attributes:
      before, after: rows of the cells' frame, of the source and of the other.
      slope: of the source's log loss in log tokens, over its cells of that size.
      log_factor: ln M_D by the source's own curve; infinite, of either sign, where the
        curve does not reach the other's loss within its cells.
    """

    before: pd.Series
    after: pd.Series
    slope: float
    log_factor: float

    @property
    def log_ratio(self) -> float:
        return float(np.log(self.after.loss) - np.log(self.before.loss))


def paired_frame(
    cells: pd.DataFrame,
    families: Sequence[str],
    corpora: Sequence[str],
    target: str,
    noise: float,
    document_se: Callable[[str, str], float],
    draws: int,
    seed: int,
) -> tuple[pd.DataFrame, dict[tuple[str, str, str, str], list[Match]]]:
    """Model-free effects on matched cells: same size level, same budget, same rest.

    The difference in log loss of two cells is turned into tokens with the source's own
    curve at that size (log loss against log tokens, straight between its cells). Where
    the curve does not reach that far there is no factor, since nothing was measured
    there: the row has its log_ratio alone. One cell's interval is 1.96 standard errors
    of the difference: seed noise over the seeds of each, and the paired error over
    documents. The overall row is the median over matched cells, its interval from
    resampling them; NaN where the median is out of reach.

    Args:
      cells: one row a cell, of one target, with `level` (of size) and `budget`.
      noise: seed noise in log loss; NaN where unknown.
      document_se: two run ids -> paired standard error of the difference, nats.
    """
    rng = np.random.default_rng(seed)
    rows, matches = [], {}
    index = cells.set_index(["family", "corpus", "level", "budget"]).sort_index()
    for swap in swaps(families, corpora):
        found = _matched(index, *ends(*swap))
        if not found:
            continue
        matches[swap] = found
        base: dict[str, Any] = dict(zip(SWAP, swap, strict=True))
        base |= {"target": target, "p_infinite": np.nan, "method": "paired"}
        rows += [base | _measured(match, noise, document_se) for match in found]
        logs = np.array([match.log_factor for match in found])
        picks = rng.integers(0, logs.size, size=(draws, logs.size))
        low, high = np.nan, np.nan
        if logs.size > 2:
            low, high = (float(x) for x in interval(overall(logs[picks])))
        rows.append(
            base
            | {
                "params": np.nan,
                "tokens": np.nan,
                "factor": _measured_factor(float(overall(logs[None])[0])),
                "low": _measured_factor(low),
                "high": _measured_factor(high),
                "log_ratio": float(np.mean([match.log_ratio for match in found])),
            }
        )
    return pd.DataFrame(rows), matches


def _measured(
    match: Match, noise: float, document_se: Callable[[str, str], float]
) -> dict[str, float]:
    before, after = match.before, match.after
    seeds = 1.0 / before.seeds + 1.0 / after.seeds
    documents = document_se(before.run_id, after.run_id) / before.loss
    # Without seeds the noise is unknown, and the documents alone would flatter.
    error = math.sqrt(noise**2 * seeds + documents**2)
    reach = 1.96 * error / max(-match.slope, 1e-12)
    return {
        "params": float(before.params),
        "tokens": float(before.tokens),
        "factor": _measured_factor(match.log_factor),
        "low": _measured_factor(match.log_factor - reach),
        "high": _measured_factor(match.log_factor + reach),
        "log_ratio": match.log_ratio,
    }


def _measured_factor(log_factor: float) -> float:
    """NaN for what lies outside the measured range."""
    return math.exp(log_factor) if abs(log_factor) < 700.0 else math.nan


def _matched(
    index: pd.DataFrame, source: tuple[str, str], to: tuple[str, str]
) -> list[Match]:
    heads = set(index.index.droplevel(["level", "budget"]))
    if not {source, to} <= heads:
        return []
    one, two = index.loc[source], index.loc[to]
    out = []
    for level, group in one.groupby(level="level"):
        curve = group.sort_values("tokens")
        x, y = np.log(curve.tokens.to_numpy()), np.log(curve.loss.to_numpy())
        if x.size < 2 or y[-1] >= y[0]:
            continue
        y = np.minimum.accumulate(y)
        slope = float((y[-1] - y[0]) / (x[-1] - x[0]))
        for (_, budget), before in group.iterrows():
            if (level, budget) not in two.index:
                continue
            after = two.loc[(level, budget)]
            reached = _inverse(x, y, float(np.log(after.loss)))
            factor = reached - float(np.log(before.tokens))
            out.append(Match(before, after, slope, factor))
    return out


def _inverse(x: Array, y: Array, wanted: float) -> float:
    """x at which a falling broken line reaches `wanted`; infinite beyond its ends."""
    if wanted > y[0]:
        return -math.inf
    if wanted < y[-1]:
        return math.inf
    return float(np.interp(wanted, y[::-1], x[::-1]))


def agreement_frame(
    surface: Surface,
    matches: dict[tuple[str, str, str, str], list[Match]],
    target: str,
    seed: int,
) -> pd.DataFrame:
    """Mean log loss ratio over matched cells: as measured, and as the surface has it.

    Columns: kind, source, to, held, target, measured, low, high (resampling the cells),
    modelled, model_low, model_high.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for swap, found in matches.items():
        before, after = ends(*swap)
        at = [
            np.array([[getattr(m, side)[name] for m in found] for name in SIZES], float)
            for side in ("before", "after")
        ]
        ratio = np.log(surface(*after, *at[1])) - np.log(surface(*before, *at[0]))
        modelled = ratio.mean(axis=1)
        if len(found) < 3 or np.isnan(modelled[0]):
            continue
        logs = np.array([m.log_ratio for m in found])
        low, high = interval(rng.choice(logs, (len(modelled), logs.size)).mean(axis=1))
        model_low, model_high = interval(modelled[1:])
        rows.append(
            dict(zip(SWAP, swap, strict=True))
            | {"target": target, "measured": logs.mean(), "modelled": modelled[0]}
            | {"low": float(low), "high": float(high)}
            | {"model_low": float(model_low), "model_high": float(model_high)}
        )
    return pd.DataFrame(rows)
