"""Terms in N and in D under one outer exponent: exp(k ln(e^(u/k) + e^(v/k))).

u and v are the logs that the term tends to where N alone, or D alone, holds the loss
back; k = 1 adds the two, a smaller k lets the larger of them rule.
"""

from __future__ import annotations

import numpy as np

from analysis.laws import Array


def value(u: Array, v: Array, k: Array) -> Array:
    """The term's log: k ln(e^(u/k) + e^(v/k))."""
    return k * np.logaddexp(u / k, v / k)


def gradient(u: Array, v: Array, k: Array) -> tuple[Array, Array, Array]:
    """Derivatives of `value` by u, by v, and by k."""
    total = np.logaddexp(u / k, v / k)
    by_u = np.exp(u / k - total)
    by_v = np.exp(v / k - total)
    return by_u, by_v, total - (by_u * u + by_v * v) / k


def amplitudes(x: Array, y: Array, powered: Array) -> tuple[float, float]:
    """Non-negative a, b with a e^x + b e^y nearest to `powered` [n], by ratio; logs."""
    from analysis.laws._starts import nonnegative

    basis = np.exp(np.stack([x, y], axis=-1)) / powered[:, None]
    solved = np.maximum(nonnegative(basis, np.ones_like(powered)), 1e-3)
    log_a, log_b = np.log(solved)
    return float(log_a), float(log_b)
