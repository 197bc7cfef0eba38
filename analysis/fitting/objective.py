"""What a fit minimises: Huber's loss of residuals, and what the steps need of it.

Sums over rows of weight * huber_delta(f(theta) - f observed), with f the natural
logarithm of the loss (scale "log") or the loss itself ("raw"), and huber_delta(r) =
r^2 / 2 inside delta and delta (|r| - delta / 2) outside. delta = infinity is least
squares.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from analysis.laws import Array, Columns, Law

Scale = Literal["log", "raw"]

# OpenBLAS keeps products of fewer multiplications than this on one thread.
ALONE = 2**18


def huber(residual: Array, delta: float) -> Array:
    """r^2 / 2 inside delta, linear outside. delta may be infinite."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    # size * inside - inside^2 / 2, written so that an infinite delta is harmless.
    size -= 0.5 * inside
    size *= inside
    return size


def reweight(residual: Array, delta: float) -> Array:
    """Weights of least squares that majorise Huber: 1 inside, delta / |r| outside."""
    if not np.isfinite(delta):
        return np.ones_like(residual)
    return delta / np.maximum(np.abs(residual), delta)


def line_minimum(residual: Array, change: Array, weights: Array, delta: float) -> Array:
    """The t [B] with the least sum of weight huber(residual - t change), [B, n] each.

    Its derivative rises in t, in straight pieces between the places where a row passes
    delta or -delta.
    """
    # Row i passes +-delta where t = (residual +- delta) / change; in between it adds
    # weight change^2 to the derivative's slope.
    size = np.maximum(np.abs(change), 1e-300)
    middle = np.where(change < 0, -residual, residual) / size
    places = np.concatenate([middle - delta / size, middle + delta / size], axis=1)
    bend = weights * size**2
    each, order = np.arange(len(places)), places.argsort(axis=1)
    # Entries of all rows by their place in memory, which is the quickest way to them.
    order += (each * places.shape[1])[:, None]
    places = places.take(order)
    slope = np.concatenate([bend, -bend], axis=1).take(order).cumsum(axis=1)[:, :-1]
    derivative = (slope * (places[:, 1:] - places[:, :-1])).cumsum(axis=1)
    derivative -= delta * (weights * size).sum(axis=1)[:, None]
    # The zero lies in the first piece at whose end the derivative is not negative.
    first = (derivative >= 0).argmax(axis=1)
    over = derivative[each, first] / np.maximum(slope[each, first], 1e-300)
    return np.asarray(places[each, first + 1] - over)


def bounds(law: Law) -> tuple[Array, Array]:
    """Lower and upper bounds of the coordinates, [P] each."""
    low = np.array([p.low for p in law.parameters])
    high = np.array([p.high for p in law.parameters])
    return low, high


def log_gradient(law: Law, theta: Array, columns: Columns) -> Array:
    """d ln loss / d theta [B, n, P]: the law's own, or central differences."""
    if law.log_gradient is not None:
        return law.log_gradient(theta, columns)
    step = 1e-6
    slopes = []
    for p in range(theta.shape[1]):
        shift = np.zeros(theta.shape[1])
        shift[p] = step
        up = log_predict(law, theta + shift, columns)
        down = log_predict(law, theta - shift, columns)
        slopes.append((up - down) / (2 * step))
    return np.stack(slopes, axis=-1)


def log_predict(law: Law, theta: Array, columns: Columns) -> Array:
    return np.log(np.maximum(law.predict(theta, columns), 1e-300))


def product(rows: Array, columns: Array) -> Array:
    """rows [b, n] @ columns [n, m], in pieces that BLAS does not share among threads.

    Its threads wait for each other at every such small product, and our own threads
    have the cores already.
    """
    size = max(1, ALONE // columns.size)
    if len(rows) <= size:
        return rows @ columns
    whole = len(rows) // size * size
    out = np.empty((len(rows), columns.shape[1]))
    np.matmul(
        rows[:whole].reshape(-1, size, rows.shape[1]),
        columns,
        out=out[:whole].reshape(-1, size, columns.shape[1]),
    )
    np.matmul(rows[whole:], columns, out=out[whole:])
    return out
