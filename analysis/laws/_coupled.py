"""Terms in N and in D under one outer exponent: exp(k ln(e^(u/k) + e^(v/k))).

u and v are the logs that the term tends to where N alone, or D alone, holds the loss
back; k = 1 adds the two, a smaller k lets the larger of them rule.
"""

from __future__ import annotations

import numpy as np

from analysis.laws import Array


def value(u: Array, v: Array, k: Array) -> Array:
    """The term's log: k ln(e^(u/k) + e^(v/k)); NaN where a coordinate is."""
    return k * _log_sum(u / k, v / k)


def _log_sum(x: Array, y: Array) -> Array:
    with np.errstate(invalid="ignore"):  # numpy warns of NaN here, and nowhere else
        return np.asarray(np.logaddexp(x, y))


def gradient(u: Array, v: Array, k: Array) -> tuple[Array, Array, Array]:
    """Derivatives of `value` by u, by v, and by k."""
    total = _log_sum(u / k, v / k)
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
