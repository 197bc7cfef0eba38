"""The spread between seeds of one cell: one for all cells, or one that varies.

A cell of f + 1 seeds gives a variance s^2 of log loss with f degrees of freedom,

    f s^2 / sigma^2 ~ chi-squared with f degrees of freedom.

Pooled, sigma is one for all. Else ln sigma^2 is linear in ln N, ln D and the corpus: a
generalised linear model of gamma variables with a log link (Carroll and Ruppert 1988,
"Transformation and weighting in regression", chapter 3), fitted by Fisher's scoring. It
stands where the likelihood ratio passes that of variances drawn with one sigma. Their
ratio does not depend on sigma, so that the test is exact but for the number of draws.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.design.levels import DISTINCT
from analysis.laws import Array

LEVEL, DRAWS = 0.05, 400
# Cells beyond the coefficients, and degrees of freedom for each: fewer tell no trend.
LEAST_SPARE, LEAST_FREEDOM = 4, 4
STEPS, LONGEST = 60, 1.0
# No drawn variance is nothing; of a cell whose seeds agree to the last bit it is.
LEAST = 1e-30


@dataclasses.dataclass(frozen=True)
class Noise:
    """Spread of log loss between seeds.

    Attributes:
      sd: pooled over cells, weighted by degrees of freedom; NaN for none.
      freedom: degrees of freedom behind it.
      trend: how it varies; None where one for all cells is not refuted.
      p: of the test of that; NaN where the cells are too few to ask.
    """

    sd: float
    freedom: int
    trend: Trend | None = None
    p: float = math.nan

    def at(self, cell: Any) -> float:
        """The spread at a cell, which has params, tokens and corpus."""
        return self.sd if self.trend is None else self.trend.at(cell)


@dataclasses.dataclass(frozen=True)
class Trend:
    """ln sigma^2 as linear in what varies.

    Attributes:
      names: of the coefficients after the first: params, tokens, or a corpus.
      centre: of ln params and ln tokens.
      least, most: of what was measured; no spread beyond them is said.
    """

    names: tuple[str, ...]
    coefficients: Array
    centre: dict[str, float]
    least: float
    most: float

    @property
    def powers(self) -> dict[str, float]:
        """The power of the size, and of the tokens, that the spread follows."""
        known = zip(self.names, self.coefficients[1:], strict=True)
        return {name: 0.5 * float(value) for name, value in known if name in SIZES}

    def at(self, cell: Any) -> float:
        """The standard deviation at a cell, within the range of those measured."""
        row = [1.0]
        for name in self.names:
            if name in self.centre:
                row.append(math.log(getattr(cell, name)) - self.centre[name])
            else:
                row.append(float(cell.corpus == name.removeprefix(CORPUS)))
        sd = math.exp(0.5 * float(np.dot(row, self.coefficients)))
        return min(max(sd, self.least), self.most)


SIZES = ("params", "tokens")
CORPUS = "corpus "


def of(noise: pd.DataFrame, seed: int = 0) -> Noise:
    """The noise of one target.

    Args:
      noise: a row a cell: corpus, params, tokens, seeds, sd_log.
      seed: keys the draws of the test.
    """
    if noise.empty:
        return Noise(math.nan, 0)
    freedom = (noise.seeds - 1).to_numpy(float)
    squares = noise.sd_log.to_numpy(float) ** 2
    total = int(freedom.sum())
    sd = float(np.sqrt(((noise.seeds - 1) * noise.sd_log**2).sum() / total))
    names, x, centre = _design(noise)
    asked = len(names)
    few = len(noise) < asked + 1 + LEAST_SPARE or total < LEAST_FREEDOM * (asked + 1)
    if not asked or few or not sd > 0:
        return Noise(sd, total)
    squares = np.maximum(squares, LEAST * sd**2)
    rng = np.random.default_rng([seed, 7])
    drawn = rng.chisquare(freedom, (DRAWS, freedom.size)) / freedom
    coefficients, ratios = _fitted(x, np.vstack([squares / sd**2, drawn]), freedom)
    p = float((1 + np.sum(ratios[1:] >= ratios[0])) / (1 + DRAWS))
    if not p < LEVEL:
        return Noise(sd, total, None, p)
    own = coefficients[0] + np.r_[2.0 * math.log(sd), np.zeros(asked)]
    known = np.exp(0.5 * x @ own)
    ends = float(known.min()), float(known.max())
    # Every coefficient takes a degree of freedom, as the mean of a cell does.
    return Noise(sd, total - asked, Trend(tuple(names), own, centre, *ends), p)


def _design(noise: pd.DataFrame) -> tuple[list[str], Array, dict[str, float]]:
    """Names and columns of what varies between cells [n, 1 + k], and centres.

    Sizes and budgets often grow together, but for the few percent by which families
    miss a size. Both would then get huge coefficients that cancel at the cells with
    seeds and nowhere else; so a column is taken only where it varies beyond those
    before it, by as much as two levels differ.
    """
    names, columns, centre = [], [np.ones(len(noise))], {}
    for name in SIZES:
        logs = np.log(noise[name].to_numpy(float))
        if np.ptp(_beyond(columns, logs)) > np.log1p(DISTINCT):
            centre[name] = float(logs.mean())
            names.append(name)
            columns.append(logs - centre[name])
    for corpus in sorted(set(noise.corpus))[1:]:
        names.append(f"{CORPUS}{corpus}")
        columns.append((noise.corpus == corpus).to_numpy(float))
    x = np.stack(columns, axis=1)
    if np.linalg.matrix_rank(x, tol=1e-6) < x.shape[1]:
        return [], x, {}
    return names, x, centre


def _beyond(columns: list[Array], values: Array) -> Array:
    """What is left of values [n] that the columns [n] do not explain linearly."""
    x = np.stack(columns, axis=1)
    return np.asarray(values - x @ np.linalg.lstsq(x, values, rcond=None)[0])


def _fitted(x: Array, squares: Array, freedom: Array) -> tuple[Array, Array]:
    """Coefficients [B, k] and likelihood ratios [B] of variances [B, n]."""
    weight = 0.5 * freedom
    inverse = np.linalg.inv(x.T @ (weight[:, None] * x))
    start = np.log((weight * squares).sum(axis=1) / weight.sum())
    beta = np.zeros((len(squares), x.shape[1]))
    beta[:, 0] = start
    for _ in range(STEPS):
        # Fisher's scoring: with a log link the information does not change.
        score = (weight * (squares * np.exp(-beta @ x.T) - 1.0)) @ x
        step = score @ inverse
        beta += step / np.maximum(1.0, np.abs(step).max(axis=1) / LONGEST)[:, None]

    def lost(logs: Array) -> Array:
        return 2.0 * (weight * (logs + squares * np.exp(-logs))).sum(axis=1)

    return beta, lost(start[:, None]) - lost(beta @ x.T)
