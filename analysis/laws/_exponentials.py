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


class Exponentials:
    """The three functions of `Law` that the design matrices fix."""

    def __init__(self, designs: Designs):
        self.designs = designs

    def predict(self, theta: Array, columns: Columns) -> Array:
        """Loss [..., n] for theta [..., P]."""
        terms = [np.exp(theta @ x.T) for x in self.designs(columns)]
        return np.sum(terms, axis=0)

    def _shares(self, theta: Array, x: Array) -> Array:
        """Each term's share of the loss, [T, B, n]."""
        logs = np.stack([theta @ term.T for term in x])
        powers = np.exp(logs - logs.max(axis=0))
        return powers / powers.sum(axis=0)

    def log_gradient(self, theta: Array, columns: Columns) -> Array:
        x = self.designs(columns)
        return np.einsum("tbn,tnp->bnp", self._shares(theta, x), x, optimize=True)

    def log_curvature(self, theta: Array, columns: Columns, weights: Array) -> Array:
        x = self.designs(columns)
        shares = self._shares(theta, x)
        gradient = np.einsum("tbn,tnp->bnp", shares, x, optimize=True)
        size = theta.shape[-1]
        outer = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:2], size**2)
        inner = np.einsum("tbn,tnq->bq", shares * weights, outer, optimize=True)
        weighted = (gradient * weights[..., None]).transpose(0, 2, 1) @ gradient
        return inner.reshape(-1, size, size) - weighted
