"""A law's values and derivatives as the descent asks for them, many problems at once.

Laws that are sums of powers share their design among all problems, so that gradients
and Hessians are matrix products of row factors [B, n] with products of the design's
columns [n, .], made once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.fitting.objective import Scale, log_gradient, log_predict, product
from analysis.laws import Array, Columns, Law


class Smooth:
    """Values and derivatives of f for any law, from its own functions."""

    def __init__(self, law: Law, columns: Columns, scale: Scale):
        self._law, self._columns, self._raw = law, columns, scale == "raw"

    def value(self, theta: Array) -> tuple[Array, Any]:
        """f [B, n] at theta [B, P], and what `derivatives` needs of it."""
        logs = log_predict(self._law, theta, self._columns)
        return (np.exp(logs) if self._raw else logs), [theta, logs]

    def along(self, state: Any, step: Array) -> Array:
        """Change of f [B, n] along steps [B, P], to first order."""
        theta, logs = state
        jacobian = log_gradient(self._law, theta, self._columns)
        change = (jacobian @ step[:, :, None])[..., 0]
        return change * np.exp(logs) if self._raw else change

    def derivatives(
        self, state: Any, pull: Array, weight: Array
    ) -> tuple[Array, Array]:
        """Gradient sum pull df [B, P], and sum weight df df' + pull d2f [B, P, P]."""
        theta, logs = state
        jacobian = log_gradient(self._law, theta, self._columns)
        if self._raw:
            loss = np.exp(logs)
            pull, weight = pull * loss, weight * loss**2 + pull * loss
        gradient = (pull[:, None, :] @ jacobian)[:, 0]
        hessian = (jacobian * weight[..., None]).transpose(0, 2, 1) @ jacobian
        if self._law.log_curvature is not None:
            hessian += self._law.log_curvature(theta, self._columns, pull)
        return gradient, hessian


class Sums:
    """The same for loss = sum over terms of exp(X_term theta), by matrix products."""

    def __init__(self, designs: Array, scale: Scale):
        """designs: [T, n, P]."""
        self._raw = scale == "raw"
        self._size = size = designs.shape[2]
        used = [np.flatnonzero(x.any(axis=0)) for x in designs]
        self._used = used
        self._x = [
            np.ascontiguousarray(x[:, c]) for x, c in zip(designs, used, strict=True)
        ]
        self._rows = [np.ascontiguousarray(x.T) for x in self._x]
        self._pairs = []
        for t in range(len(used)):
            for u in range(t, len(used)):
                outer = self._x[t][:, :, None] * self._x[u][:, None, :]
                self._pairs.append((t, u, outer.reshape(len(outer), -1)))
        self._gather = _gather(
            used, [(used[t], used[u], t != u) for t, u, _ in self._pairs], size
        )

    def value(self, theta: Array) -> tuple[Array, Any]:
        powers = []
        for used, rows in zip(self._used, self._rows, strict=True):
            logs = theta[:, used] @ rows
            powers.append(np.exp(logs, out=logs))
        total = powers[0] + powers[1] if len(powers) > 1 else powers[0].copy()
        for power in powers[2:]:
            total += power
        if self._raw:
            return total, powers
        share = 1.0 / total
        for power in powers:
            power *= share
        return np.log(total, out=total), powers

    def along(self, state: Any, step: Array) -> Array:
        change = np.zeros_like(state[0])
        for used, rows, power in zip(self._used, self._rows, state, strict=True):
            change += power * (step[:, used] @ rows)
        return change

    def derivatives(
        self, state: Any, pull: Array, weight: Array
    ) -> tuple[Array, Array]:
        size = self._size
        outward = [pull * part for part in state]
        # With p_t = exp(X_t theta) (its share of the loss for scale "log"):
        # gradient = sum_t X_t' (pull p_t),
        # Hessian = sum_tu X_t' (kappa p_t p_u) X_u + sum_t X_t' (pull p_t) X_t,
        # kappa = weight, less pull for ln: d2 ln L = d2 L / L - (d ln L)(d ln L)'.
        kappa = weight if self._raw else weight - pull
        scaled = [kappa * part for part in state]
        sums = [np.zeros((len(pull), 1))]
        sums += map(product, outward, self._x)
        for t, u, outer in self._pairs:
            factor = scaled[t] * state[u]
            if t == u:
                factor += outward[t]
            sums.append(product(factor, outer))
        together = np.concatenate(sums, axis=1)
        both = together.take(self._gather[0], axis=1)
        for more in self._gather[1:]:
            both += together.take(more, axis=1)
        return both[:, :size], both[:, size:].reshape(-1, size, size)


def _gather(
    terms: list[Array], blocks: list[tuple[Array, Array, bool]], size: int
) -> list[Array]:
    """Which columns of all products in a row add up to each derivative.

    Args:
      terms: the coordinates of each term, whose products come first, after a zero.
      blocks: for each product of two terms the coordinates of either side, and whether
        it stands for its transpose too.

    Returns:
      Arrays [P + P * P] of columns, to be added, of the gradient's entries and then the
      Hessian's; one array, unless terms share coordinates.
    """
    sources: list[list[int]] = [[] for _ in range(size + size * size)]
    column = 1
    for term in terms:
        for p in term:
            sources[p].append(column)
            column += 1
    for left, right, mirrored in blocks:
        for p in left:
            for q in right:
                sources[size + p * size + q].append(column)
                if mirrored:
                    sources[size + q * size + p].append(column)
                column += 1
    most = max(map(len, sources))
    return [
        np.array([found[k] if k < len(found) else 0 for found in sources])
        for k in range(most)
    ]


def model(law: Law, columns: Columns, scale: Scale) -> Smooth | Sums:
    if law.designs is None:
        return Smooth(law, columns, scale)
    return Sums(law.designs(columns), scale)
