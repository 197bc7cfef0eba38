"""A law's values and derivatives as the descent asks for them, many problems at once.

Laws that are functions of linear parts, as sums of powers are, share their design
among all problems, so that gradients and Hessians are matrix products of row factors
[B, n] with products of the design's columns [n, .], made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from analysis.fitting.objective import Scale, log_gradient, log_predict, product
from analysis.laws import Array, Columns, Composite, Law, Turned


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


class _Linear:
    """Sums over rows of the derivatives of what is a function of parts X_t theta."""

    def __init__(self, designs: Array):
        """designs: [T, n, P]."""
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

    def parts(self, theta: Array) -> list[Array]:
        """X_t theta of each part, [B, n]."""
        return [
            theta[:, used] @ rows
            for used, rows in zip(self._used, self._rows, strict=True)
        ]

    def summed(
        self, firsts: Sequence[Array], seconds: Callable[[int, int], Array]
    ) -> tuple[Array, Array]:
        """Gradient sum_t X_t' f_t [B, P], and Hessian sum_tu X_t' s_tu X_u [B, P, P].

        Args:
          firsts: f_t, [B, n] each; seconds: (t, u) with t <= u -> s_tu [B, n].
        """
        size = self._size
        sums = [np.zeros((len(firsts[0]), 1))]
        sums += map(product, firsts, self._x)
        sums += [product(seconds(t, u), outer) for t, u, outer in self._pairs]
        together = np.concatenate(sums, axis=1)
        both = together.take(self._gather[0], axis=1)
        for more in self._gather[1:]:
            both += together.take(more, axis=1)
        return both[:, :size], both[:, size:].reshape(-1, size, size)


class Sums:
    """The same for loss = sum over terms of exp(X_term theta), by matrix products."""

    def __init__(self, designs: Array, scale: Scale):
        """designs: [T, n, P]."""
        self._raw, self._linear = scale == "raw", _Linear(designs)

    def value(self, theta: Array) -> tuple[Array, Any]:
        powers = self._linear.parts(theta)
        for logs in powers:
            np.exp(logs, out=logs)
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
        for part, power in zip(self._linear.parts(step), state, strict=True):
            change += power * part
        return change

    def derivatives(
        self, state: Any, pull: Array, weight: Array
    ) -> tuple[Array, Array]:
        outward = [pull * part for part in state]
        # With p_t = exp(X_t theta) (its share of the loss for scale "log"):
        # gradient = sum_t X_t' (pull p_t),
        # Hessian = sum_tu X_t' (kappa p_t p_u) X_u + sum_t X_t' (pull p_t) X_t,
        # kappa = weight, less pull for ln: d2 ln L = d2 L / L - (d ln L)(d ln L)'.
        kappa = weight if self._raw else weight - pull
        scaled = [kappa * part for part in state]

        def second(t: int, u: int) -> Array:
            factor = scaled[t] * state[u]
            if t == u:
                factor += outward[t]
            return factor

        return self._linear.summed(outward, second)


class Composed:
    """The same for any function of linear parts, from its derivatives by them."""

    def __init__(self, composite: Composite, columns: Columns, scale: Scale):
        self._raw, self._composite = scale == "raw", composite
        self._linear = _Linear(composite.designs(columns))

    def value(self, theta: Array) -> tuple[Array, Any]:
        logs, kept = self._composite.value(self._linear.parts(theta))
        if self._raw:
            loss = np.exp(logs)
            return loss, [loss.copy(), *kept]
        return logs, list(kept)

    def along(self, state: Any, step: Array) -> Array:
        kept = state[1:] if self._raw else state
        slopes = self._composite.slopes(kept)
        parts = self._linear.parts(step)
        change = slopes[0] * parts[0]
        for slope, part in zip(slopes[1:], parts[1:], strict=True):
            change += slope * part
        return change * state[0] if self._raw else change

    def derivatives(
        self, state: Any, pull: Array, weight: Array
    ) -> tuple[Array, Array]:
        kept = state
        if self._raw:
            loss, *kept = state
            pull, weight = pull * loss, weight * loss**2 + pull * loss
        slopes = self._composite.slopes(kept)
        bends = self._composite.bends(kept)
        # With f = ln L and g_t, h_tu its derivatives by the parts:
        # gradient = sum_t X_t' (pull g_t),
        # Hessian = sum_tu X_t' (weight g_t g_u + pull h_tu) X_u.
        scaled = [weight * slope for slope in slopes]

        def second(t: int, u: int) -> Array:
            factor = scaled[t] * slopes[u]
            factor += pull * bends[t, u]
            return factor

        return self._linear.summed([pull * slope for slope in slopes], second)


class InTurn:
    """A law whose coordinates another's follow from: see `Turned`."""

    def __init__(self, turned: Turned, columns: Columns, scale: Scale):
        self._index, self._solve = turned.index, turned.solve
        self._inner = model(turned.law, columns, scale)

    def value(self, theta: Array) -> tuple[Array, Any]:
        plain, slopes, bends = self._solve(theta)
        f, state = self._inner.value(plain)
        return f, [slopes.copy(), bends.reshape(len(theta), -1), *state]

    def along(self, state: Any, step: Array) -> Array:
        slopes, _, *inner = state
        step = np.array(step)
        step[:, self._index] = (slopes * step).sum(axis=1)
        return self._inner.along(inner, step)

    def derivatives(
        self, state: Any, pull: Array, weight: Array
    ) -> tuple[Array, Array]:
        slopes, bends, *inner = state
        gradient, hessian = self._inner.derivatives(inner, pull, weight)
        size, own = slopes.shape[1], gradient[:, self._index].copy()
        # The chain rule: T' g and T' H T + g_i d2x_i, T the identity but for row i.
        turn = np.tile(np.eye(size), (len(slopes), 1, 1))
        turn[:, self._index] = slopes
        gradient[:, self._index] = 0.0
        gradient += own[:, None] * slopes
        hessian = turn.transpose(0, 2, 1) @ hessian @ turn
        hessian += own[:, None, None] * bends.reshape(-1, size, size)
        return gradient, hessian


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


Model = Smooth | Sums | Composed | InTurn


def model(law: Law, columns: Columns, scale: Scale) -> Model:
    """The quickest of these for a law."""
    if law.turned is not None:
        return InTurn(law.turned, columns, scale)
    if law.designs is not None:
        return Sums(law.designs(columns), scale)
    if law.composite is not None:
        return Composed(law.composite, columns, scale)
    return Smooth(law, columns, scale)
