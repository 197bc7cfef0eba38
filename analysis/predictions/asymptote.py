"""The floor that a curve of a few points tends to, or why it is not known.

The curve is E + A x**-a. For a fixed exponent it is linear, so E has a normal interval;
the profile over a grid of exponents joins them (Bates and Watts 1988, chapter 6), with
the covariance of the points as their draws have it. The floor is refused, and not
bounded by a constant, where the points do not show it: when there are no more of them
than parameters, when the slowest exponent of the grid, a fall without an end, fits them
no worse than the level of the interval allows, or when they bend otherwise.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from analysis.formatting import number
from analysis.inference import quantiles
from analysis.laws import Array

PARAMETERS = 3
# At the slowest exponent a factor of 1000 in x is one of 1.15: with so few points no
# curve that falls more slowly differs from a straight line in ln x.
EXPONENTS, FINER = np.geomspace(0.02, 6.0, 150), 300
# Points that lie so far from the best curve are drawn less often than this.
MISFIT = 0.01
# Of the points' mean variance, so that points of one noise have an inverse.
RIDGE = 1e-6


@dataclasses.dataclass(frozen=True)
class Floor:
    """What a curve tends to.

    Attributes:
      value, low, high: the floor with its 95% interval; NaN where it is refused.
      exponent: of the fall.
      refused: why there is none; "" where there is one.
    """

    value: float
    low: float
    high: float
    exponent: float
    refused: str


def floor(x: Array, y: Array, least: float = 0.0) -> Floor:
    """The floor of a curve.

    Args:
      x: [k], above zero.
      y: [1 + draws, k], the points and their draws.
      least: what no floor can be below.
    """
    count, freedom = len(np.unique(x)), len(x) - PARAMETERS
    if count <= PARAMETERS:
        return _refused(f"{count} points for a curve of {PARAMETERS} parameters")
    if not np.ptp(y[1:], axis=0).any():
        return _refused("the points are the same in all draws")
    # Draws give the covariance with as many degrees of freedom as there are.
    draws = len(y) - 1 - len(x)
    room = quantiles.fisher(0.95, 1, draws)
    coarse = _fits(x, y, EXPONENTS)[0]
    likely = np.flatnonzero(coarse <= coarse.min() + room)
    # Points of little noise tell exponents apart that lie between two of the grid.
    first, last = max(0, likely[0] - 1), min(len(EXPONENTS), likely[-1] + 2) - 1
    grid = np.unique(
        [*EXPONENTS, *np.geomspace(EXPONENTS[first], EXPONENTS[last], FINER)]
    )
    squares, ends, variances = _fits(x, y, grid)
    best = int(squares.argmin())
    exponent = float(grid[best])
    if quantiles.fisher_tail(squares[best] / freedom, freedom, draws) < MISFIT:
        return _refused("the points bend otherwise than a power that tends to a floor")
    room = room - (squares - squares[best])
    if room[0] >= 0:
        slow = f"a fall without an end (exponent {number(EXPONENTS[0])}) fits as well"
        return _refused(slow)
    inside = room >= 0
    half = np.sqrt(variances[inside] * room[inside])
    low, high = (ends[inside] - half).min(), (ends[inside] + half).max()
    value, low, high = (max(float(v), least) for v in (ends[best], low, high))
    return Floor(value, low, high, exponent, "")


def _refused(why: str) -> Floor:
    return Floor(math.nan, math.nan, math.nan, math.nan, why)


def _fits(x: Array, y: Array, exponents: Array) -> tuple[Array, Array, Array]:
    """By exponent the squares left over, E and its variance, by generalised squares."""
    spread = np.cov(y[1:], rowvar=False)
    spread += RIDGE * np.trace(spread) / len(x) * np.eye(len(x))
    # Whitened by the Cholesky factor, points have one variance and no correlation.
    whiten = np.linalg.inv(np.linalg.cholesky(spread))
    seen = whiten @ y[0]
    power = (x / x.min()) ** -exponents[:, None]
    design = whiten @ np.stack([np.ones(power.shape), power], axis=2)
    turned = design.transpose(0, 2, 1)
    inverse = np.linalg.inv(turned @ design)
    solved = inverse @ (turned @ seen)[:, :, None]
    left = seen - (design @ solved)[:, :, 0]
    return (left**2).sum(axis=1), solved[:, 0, 0], inverse[:, 0, 0]
