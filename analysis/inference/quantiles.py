"""Quantiles and tails of Student's, Fisher's and other distributions.

They are one call of scipy.special each. scipy.stats makes the same calls, and to import
it takes longer than to read a table: every command would wait for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from analysis.laws import Array


def normal(share: float) -> float:
    """The value that a share of standard normal numbers lie below."""
    return float(special.ndtri(share))


def student(share: float, freedom: float) -> float:
    """The same of Student's t."""
    return float(special.stdtrit(freedom, share))


def fisher(share: float, above: float, below: float) -> float:
    """The same of F, with the degrees of freedom above and below its line."""
    return float(special.fdtri(above, below, share))


def fisher_tail(value: float, above: float, below: float) -> float:
    """The chance of an F beyond `value`."""
    return float(special.fdtrc(above, below, value))


def chi_squared(share: Any, freedom: float) -> Array:
    """The value that a share [...] of chi-squared numbers lie below, [...]."""
    return np.asarray(2.0 * special.gammaincinv(freedom / 2.0, share))


def student_log_density(x: Array, freedom: float) -> Array:
    """The log density of Student's t at x [...]."""
    half = (freedom + 1.0) / 2.0
    scale = special.gammaln(half) - special.gammaln(freedom / 2.0)
    scale -= 0.5 * np.log(freedom * np.pi)
    return np.asarray(scale - half * np.log1p(x * x / freedom))


def fair_coins(share: float, coins: int) -> int:
    """The least number of heads among fair coins with at least this chance up to it."""
    return int(np.searchsorted(special.bdtr(np.arange(coins), coins, 0.5), share))
