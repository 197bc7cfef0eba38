"""Laws that are sums of powers: loss = sum over terms of exp(X_term theta).

In centred logarithms every additive law is of this form, with a design matrix X per
term; prediction, gradient and Hessian follow from the matrices alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analysis.laws import Array, Columns

# Design matrices of all terms, [T, n, P], from the columns.
Designs = Callable[[Columns], Array]
# Log of the largest term: a sum of such has still a number in float64.
LARGEST = 700.0


class Exponentials:
    """The three functions of `Law` that the design matrices fix."""

    def __init__(self, designs: Designs):
        self._build = designs
        self._last: tuple[Columns, Array] | None = None

    def designs(self, columns: Columns) -> Array:
        """The matrices of `columns`; a solver asks for the same ones many times."""
        if self._last is None or self._last[0] is not columns:
            self._last = (columns, self._build(columns))
        return self._last[1]

    def predict(self, theta: Array, columns: Columns) -> Array:
        """Loss [..., n] for theta [..., P]."""
        loss: Array | None = None
        for x in self.designs(columns):
            logs = np.asarray(theta @ x.T)
            np.minimum(logs, LARGEST, out=logs)
            power = np.exp(logs, out=logs)
            loss = power if loss is None else np.add(loss, power, out=loss)
        assert loss is not None
        return loss

    def _shares(self, theta: Array, x: Array) -> Array:
        """Each term's share of the loss, [T, B, n]."""
        logs = np.stack([theta @ term.T for term in x])
        powers = np.exp(logs - logs.max(axis=0))
        return powers / powers.sum(axis=0)

    def log_gradient(self, theta: Array, columns: Columns) -> Array:
        x = self.designs(columns)
        return _mean(self._shares(theta, x), x)

    def log_curvature(self, theta: Array, columns: Columns, weights: Array) -> Array:
        x = self.designs(columns)
        shares = self._shares(theta, x)
        gradient = _mean(shares, x)
        size = theta.shape[-1]
        outer = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:2], size**2)
        inner = ((shares * weights) @ outer).sum(axis=0)
        weighted = (gradient * weights[..., None]).transpose(0, 2, 1) @ gradient
        return inner.reshape(-1, size, size) - weighted


def _mean(shares: Array, x: Array) -> Array:
    """Designs averaged over the terms: [T, B, n], [T, n, P] -> [B, n, P]."""
    total = shares[0][..., None] * x[0]
    for share, term in zip(shares[1:], x[1:], strict=True):
        total += share[..., None] * term
    return total
