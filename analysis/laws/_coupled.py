"""Terms in N and in D under one outer exponent: exp(k ln(e^(u/k) + e^(v/k))).

u and v are the logs that the term tends to where N alone, or D alone, holds the loss
back; k = 1 adds the two, a smaller k lets the larger of them rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from analysis.laws import Array, Columns


class Coupled:
    """Laws L = e^e + e^w, w = k ln(e^(u/k) + e^(v/k)), or without the floor e^e.

    Linear in the coordinates are e, u, v and ln k, or without a floor u, v and k. What
    the laws have in common is known from d = (u - v) / k alone: with p = 1 / (1 +
    e^-d), q = 1 - p and s(d) = ln(1 + e^d) it is w = v + k s(d), and so

        dw/du = p,  dw/dv = q,  dw/dk = s(d) - p d =: c,
        (d2w/du2, d2w/dudv, d2w/dv2, d2w/dudk, d2w/dvdk, d2w/dk2)
            = p q / k (1, -1, 1, -d, d, d^2).

    As a `Composite` it keeps of every row p, d, c and k, and w's share of the loss.
    """

    def __init__(self, designs: Callable[[Columns], Array], floor: bool):
        """designs: columns -> X [4, n, P] of e, u, v, ln k, or [3, n, P] of u, v, k."""
        self._build, self._floor = designs, floor
        self._last: tuple[Columns, Array] | None = None

    def designs(self, columns: Columns) -> Array:
        """The matrices of `columns`; a solver asks for the same ones many times."""
        if self._last is None or self._last[0] is not columns:
            self._last = (columns, self._build(columns))
        return self._last[1]

    def value(self, parts: Sequence[Array]) -> tuple[Array, Sequence[Array]]:
        if self._floor:
            e, u, v, k = *parts[:3], np.exp(parts[3])
        else:
            u, v, k = parts
        d = (u - v) / k
        # With t = e^-|d|: p = 1 or t, over 1 + t; s(d) = max(d, 0) + ln(1 + t).
        small = np.exp(-np.abs(d))
        p = np.where(d > 0, 1.0, small) / (1.0 + small)
        grown = np.maximum(d, 0.0) + np.log1p(small)
        w = v + k * grown
        c = grown - p * d
        if not self._floor:
            return w, [p, d, c, k]
        above = w - e
        small = np.exp(-np.abs(above))
        share = np.where(above > 0, 1.0, small) / (1.0 + small)
        return np.maximum(e, w) + np.log1p(small), [p, d, c, k, share]

    def slopes(self, kept: Sequence[Array]) -> Sequence[Array]:
        p, _, c, k = kept[:4]
        if not self._floor:
            return [p, 1.0 - p, c]
        share = kept[4]
        of_u = share * p
        return [1.0 - share, of_u, share - of_u, share * k * c]

    def bends(self, kept: Sequence[Array]) -> Mapping[tuple[int, int], Array]:
        p, d, c, k = kept[:4]
        bend = p * (1.0 - p) / k
        if not self._floor:
            crossed = bend * d
            of_w = [bend, -bend, -crossed, bend, crossed, crossed * d]
            return dict(zip(PAIRS, of_w, strict=True))
        # By ln k instead of k: d/d ln k = k d/dk, and dw/d ln k has the slope k c more.
        share = kept[4]
        crossed = bend * k * d
        of_k = k * c
        of_w = [bend, -bend, -crossed, bend, crossed, crossed * k * d + of_k]
        # Of ln(e^e + e^w), with g of the share r of e^w: r times w's own, and
        # r (1 - r) (1, -dw) (1, -dw)'.
        both = share * (1.0 - share)
        slopes = [p, 1.0 - p, of_k]
        scaled = [both * slope for slope in slopes]
        out = {(0, 0): both}
        for t, one in enumerate(scaled):
            out[0, t + 1] = -one
        for (t, u), own in zip(PAIRS, of_w, strict=True):
            own = share * own
            own += scaled[t] * slopes[u]
            out[t + 1, u + 1] = own
        return out

    def predict(self, theta: Array, columns: Columns) -> Array:
        """Loss [..., n] for theta [..., P]; NaN where a coordinate is."""
        parts = [theta @ x.T for x in self.designs(columns)]
        if self._floor:
            e, u, v, k = *parts[:3], np.exp(parts[3])
        else:
            u, v, k = parts
        # As in `value`, without what its derivatives need.
        logs = v + k * _above((u - v) / k, 0.0)
        if self._floor:
            logs = _above(logs, e)
        return np.exp(np.minimum(logs, 700.0))

    def log_gradient(self, theta: Array, columns: Columns) -> Array:
        x = self.designs(columns)
        slopes = self.slopes(self.value([theta @ part.T for part in x])[1])
        total = slopes[0][..., None] * x[0]
        for slope, part in zip(slopes[1:], x[1:], strict=True):
            total = total + slope[..., None] * part
        return np.asarray(total)


def _above(x: Array, y: Array | float) -> Array:
    """ln(e^x + e^y)."""
    return np.maximum(x, y) + np.log1p(np.exp(-np.abs(x - y)))


# Of u, v and k, which two a second derivative is by.
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def amplitudes(x: Array, y: Array, powered: Array) -> tuple[float, float]:
    """Non-negative a, b with a e^x + b e^y nearest to `powered` [n], by ratio; logs."""
    from analysis.laws._starts import nonnegative

    basis = np.exp(np.stack([x, y], axis=-1)) / powered[:, None]
    solved = np.maximum(nonnegative(basis, np.ones_like(powered)), 1e-3)
    log_a, log_b = np.log(solved)
    return float(log_a), float(log_b)
