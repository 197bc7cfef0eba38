"""Compute: what a factor is worth in FLOPs along the compute-optimal path.

At a compute C the frontier of a system (a family on a corpus) is the lowest loss over
all splits of C into parameters and tokens. What is worth a factor in C at equal loss is
the compute-equivalent gain (CEG, Davidson et al. 2023, "AI capabilities can be
significantly improved without expensive retraining"; Gundlach et al. 2025).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.design.swaps import Swap
from analysis.effects.data_equivalents import Surface, equivalent, over_held, share
from analysis.inference.intervals import interval
from analysis.laws import Array

# (family, params [k]) -> FLOPs per parameter and token [k].
Rate = Callable[[str, Array], Array]

# Frontiers are searched this far beyond the computes that are asked about.
REACH = np.log(1e6)
STEP = 0.3
# Parameters are searched this far beyond the sizes of the design.
ROOM = np.log(1e4)
SIZES = 64
# Computes that effects are given at, as multiples of the largest that was run.
BEYOND = (0.1, 1.0, 10.0, 100.0)
# A family whose largest run took so many times fewer FLOPs than the largest of all was
# not run at computes where the others are: the law would be all that speaks of it.
FAR = 100.0


def flop_rate(frame: pd.DataFrame) -> Rate:
    """Training FLOPs per parameter and token of each family, between its sizes.

    Straight in logs between sizes, constant beyond them: where N leaves out embeddings
    a small model costs more than 6 a parameter and token.

    Args:
      frame: family, params, tokens, flops.
    """
    known = {}
    for family, part in frame.groupby("family"):
        logs = np.log(part.flops / (part.params * part.tokens))
        at = logs.groupby(part.params).mean().dropna()
        known[family] = (np.log(at.index.to_numpy(float)), at.to_numpy(float))

    def rate(family: str, params: Array) -> Array:
        sizes, logs = known.get(family, (np.zeros(0), np.zeros(0)))
        if not sizes.size:
            return np.full(params.shape, 6.0)
        return np.exp(np.interp(np.log(params), sizes, logs))

    return rate


def comparable(frame: pd.DataFrame) -> list[str]:
    """The families whose largest run is within FAR of the largest of all.

    Args:
      frame: family, flops.
    """
    most = frame.groupby("family").flops.max()
    return sorted(most[most * FAR >= most.max()].index)


class Frontier:
    """Lowest loss of each system at each compute of a grid, by draw.

    Attributes:
      log_grid: [g], ln FLOPs, rising; REACH beyond `computes` on both sides.
    """

    def __init__(
        self,
        surface: Surface,
        rate: Rate,
        sizes: tuple[float, float],
        computes: tuple[float, float],
    ):
        self.surface = surface
        self.rate = rate
        low, high = np.log(computes)
        self.log_grid = np.arange(low - REACH, high + REACH + STEP, STEP)
        low, high = np.log(sizes)
        self.log_sizes = np.linspace(low - ROOM, high + ROOM, SIZES)
        self._losses: dict[tuple[str, str], Array] = {}

    def losses(self, family: str, corpus: str) -> Array:
        """Loss [B, g]; NaN where the surface has no fit."""
        key = (family, corpus)
        if key not in self._losses:
            self._losses[key] = np.concatenate(
                [self._lowest(*key, part) for part in np.array_split(self.log_grid, 8)],
                axis=1,
            )
        return self._losses[key]

    def _lowest(self, family: str, corpus: str, log_computes: Array) -> Array:
        """The least over sizes [B, c], with a parabola through the three lowest."""
        params = np.exp(np.tile(self.log_sizes, log_computes.size))
        spent = np.exp(np.repeat(log_computes, self.log_sizes.size))
        tokens = spent / (self.rate(family, params) * params)
        loss = self.surface(family, corpus, params, tokens)
        loss = loss.reshape(len(loss), log_computes.size, self.log_sizes.size)
        at = np.clip(loss.argmin(axis=2), 1, self.log_sizes.size - 2)[..., None]
        left, middle, right = (
            np.take_along_axis(loss, at + k, axis=2)[..., 0] for k in (-1, 0, 1)
        )
        bend, slope = left - 2.0 * middle + right, right - left
        with np.errstate(invalid="ignore", divide="ignore"):
            lower = middle - slope**2 / (8.0 * bend)
        # At an end of the grid of sizes the parabola would leave it.
        inside = (middle <= left) & (middle <= right) & (bend > 0)
        return np.where(inside, lower, np.minimum(np.minimum(left, right), middle))

    def at(self, family: str, corpus: str, compute: float) -> Array:
        """Loss [B] at one compute."""
        losses = self.losses(family, corpus)
        place = np.interp(
            np.log(compute), self.log_grid, np.arange(self.log_grid.size, dtype=float)
        )
        left = min(int(place), self.log_grid.size - 2)
        part = place - left
        return (1.0 - part) * losses[:, left] + part * losses[:, left + 1]


def computes(frame: pd.DataFrame) -> list[float]:
    """Computes that are asked about, from those of the fitted runs."""
    return [share_ * float(frame.flops.max()) for share_ in BEYOND]


def compute_logs(
    frontier: Frontier, found: Sequence[Swap], at: Sequence[float]
) -> dict[Swap, Array]:
    """ln CEG [B, computes]: the factor on the baseline's compute that gives the same.

    Both systems spend theirs compute-optimally.
    """
    out = {}
    for swap in found:
        losses = frontier.losses(*swap.before)
        if np.isnan(losses[0]).any() or np.isnan(frontier.losses(*swap.after)[0]).any():
            continue
        logs = [
            equivalent(losses, frontier.log_grid, frontier.at(*swap.after, compute))
            - np.log(compute)
            for compute in at
        ]
        out[swap] = np.stack(logs, axis=1)
    return out


def crossovers_frame(
    frontier: Frontier,
    found: Sequence[Swap],
    reach: tuple[float, float],
    target: str,
) -> pd.DataFrame:
    """The compute from which the better one at scale is better, by pair and level.

    0 where it is so over the whole of `reach` (FLOPs), infinite where it is not so at
    its end; p_none is the share of draws without a crossing in it. `alternative` is the
    better at the end of `reach` in the estimate, and where there is no crossing
    throughout.
    """
    rows = []
    for swap in found:
        before, after = (frontier.losses(*end) for end in (swap.before, swap.after))
        if np.isnan(before[0]).any() or np.isnan(after[0]).any():
            continue
        inside = (frontier.log_grid >= np.log(reach[0])) & (
            frontier.log_grid <= np.log(reach[1])
        )
        ahead = (before - after)[:, inside]
        if ahead[0, -1] < 0:
            swap, ahead = swap.turned(), -ahead
        logs = crossing(ahead, frontier.log_grid[inside])
        low, high = interval(np.exp(logs[1:]))
        rows.append(
            swap.head(target)
            | {
                "compute": float(np.exp(logs[0])),
                "low": float(low),
                "high": float(high),
                "p_none": share(np.isinf(logs[1:]), logs[1:]),
                "range_low": reach[0],
                "range_high": reach[1],
            }
        )
    return pd.DataFrame(rows)


def crossing(ahead: Array, log_grid: Array) -> Array:
    """ln of the last point from which `ahead` [B, g] stays above zero, [B].

    -inf where it is above throughout, +inf where it is not at the end, NaN where there
    is no fit.
    """
    behind = ahead <= 0
    last = ahead.shape[1] - 1
    # The last grid point at which it is not ahead; -1 for none.
    at = np.where(behind.any(axis=1), last - behind[:, ::-1].argmax(axis=1), -1)
    left = np.clip(at, 0, last - 1)
    rows = np.arange(len(ahead))
    one, two = ahead[rows, left], ahead[rows, left + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(two > one, -one / (two - one), 0.0)
    out = log_grid[left] + part * (log_grid[left + 1] - log_grid[left])
    out = np.where(at < 0, -np.inf, np.where(at == last, np.inf, out))
    return np.where(np.isnan(ahead[:, 0]), np.nan, out)


def multipliers_frame(
    logs: Mapping[Swap, Array],
    points: Sequence[Mapping[str, float]],
    currency: str,
    target: str,
) -> pd.DataFrame:
    """Equivalents in a currency other than data, by swap and point and over all levels.

    Args:
      logs: ln M [B, points].
      points: the params, tokens or compute of each.
    """
    rows = []
    pairs = itertools.groupby(logs, key=lambda swap: swap.pair)
    whole = dict(logs)
    for _, group in pairs:
        members = list(group)
        mean = over_held([logs[s] for s in members])
        whole[members[0]._replace(fixed="*")] = mean
    for swap, draws in whole.items():
        low, high = interval(draws[1:])
        for k, point in enumerate(points):
            row: dict[str, Any] = swap.head(target) | {"currency": currency}
            row |= {"params": np.nan, "tokens": np.nan, "compute": np.nan} | dict(point)
            row |= {
                "factor": float(np.exp(draws[0, k])),
                "low": float(np.exp(low[k])),
                "high": float(np.exp(high[k])),
                "p_infinite": share(np.isposinf(draws[1:, k]), draws[1:, k]),
            }
            rows.append(row)
    return pd.DataFrame(rows)
