"""Chances of a pixel's levels, where pictures are normal values rounded to them."""

from __future__ import annotations

import numpy as np

# Levels of a pixel, and the variance that rounding to them adds.
LEVELS, ROUNDING = 256, 1.0 / 12.0


def rounded(values: np.ndarray) -> np.ndarray:
    """uint8: values in levels, the ends standing for all beyond them."""
    return np.clip(np.rint(values), 0, LEVELS - 1).astype(np.uint8)


def nats(
    level: np.ndarray, mean: np.ndarray, deviation: np.ndarray | float
) -> np.ndarray:
    """float64: -log of the chance that a normal value is rounded to its level.

    Args:
      level: of 256, as `rounded` gives it.
      mean, deviation: of the value before, in levels; all three broadcast.
    """
    from scipy.special import log_ndtr

    low = np.where(level == 0, -np.inf, level - 0.5)
    high = np.where(level == LEVELS - 1, np.inf, level + 0.5)
    low, high = (low - mean) / deviation, (high - mean) / deviation
    # In the upper tail both chances are almost one: there the lower tail's mirror.
    mirrored = low > 0
    low, high = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    below = log_ndtr(high)
    found: np.ndarray = -(below + np.log1p(-np.exp(log_ndtr(low) - below)))
    return found
