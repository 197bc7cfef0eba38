"""The joint law under an outer exponent, over families a and corpora d:

    L = E_d + (A (rhoN_a rhoN_d N)^-alpha + B (rhoD_a rhoD_d D)^-beta)^k

It is to `joint` what `chinchilla_outer` is to `chinchilla`, and is `joint` at k = 1.
Levels share what they share there, and the options of `bind` are the same. A multiplier
of data is worth what it says whatever k is: rhoD D stands where D stood.

Columns: params, tokens, family, corpus.

k says how the two terms meet. Where one of them alone rules all runs, k is lost in its
exponents, and the fit is refused or ends on a bound. Without a floor the loss still
falls as N^-(k alpha) and D^-(k beta) far out, and the bend between the two tells k.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from analysis.laws import Array, Columns, Law, _coupled, _starts
from analysis.laws.joint import Layout


class Parts(NamedTuple):
    """A loss e^e + e^w taken apart, w = k ln(e^(u/k) + e^(v/k)); arrays [..., n].

    Attributes:
      e, u, v: logs of the floor, and of what either term alone would add to the loss.
      k: the outer exponent.
      w: log of what both add.
      share: of the loss that both are.
    """

    e: Array
    u: Array
    v: Array
    k: Array
    w: Array
    share: Array


class _Outer:
    """Value and derivatives of the loss; coordinates as `Layout.natural` says."""

    def __init__(self, layout: Layout, centre: Mapping[str, float]):
        assert layout.outer is not None
        self._layout, self._centre, self._at = layout, centre, layout.outer
        self._last: tuple[Columns, Array] | None = None

    def designs(self, columns: Columns) -> Array:
        """The matrices of `columns`; a solver asks for the same ones many times."""
        if self._last is None or self._last[0] is not columns:
            self._last = (columns, self._layout.designs(columns, self._centre))
        return self._last[1]

    def parts(self, theta: Array, columns: Columns) -> Parts:
        e, u, v = (theta @ x.T for x in self.designs(columns))
        k = np.exp(theta[..., self._at, None])
        w = _coupled.value(u, v, k)
        share = 1.0 / (1.0 + np.exp(np.clip(e - w, -700.0, 700.0)))
        return Parts(e, u, v, k, w, share)

    def predict(self, theta: Array, columns: Columns) -> Array:
        found = self.parts(theta, columns)
        return np.exp(found.e) + np.exp(found.w)

    def _inner(self, found: Parts, columns: Columns) -> tuple[Array, Array]:
        """dw / d theta [B, n, P], and dw / d ln k [B, n]."""
        _, of_params, of_tokens = self.designs(columns)
        by_u, by_v, by_k = _coupled.gradient(found.u, found.v, found.k)
        by_log_k = by_k * found.k
        slopes = by_u[..., None] * of_params + by_v[..., None] * of_tokens
        slopes[..., self._at] = by_log_k
        return slopes, by_log_k

    def log_gradient(self, theta: Array, columns: Columns) -> Array:
        found = self.parts(theta, columns)
        slopes, _ = self._inner(found, columns)
        share = found.share[..., None]
        return (1.0 - share) * self.designs(columns)[0] + share * slopes

    def log_curvature(self, theta: Array, columns: Columns, weights: Array) -> Array:
        """With p = e^(u/k) / (e^(u/k) + e^(v/k)) and q = 1 - p the Hessian of w is

            p q / k z z' + dw / d ln k i i',    z = x_u - x_v - (u - v) i,

        where x_u and x_v are the rows of the designs and i is the unit vector of ln k.
        That of ln L is then the mean of x_e x_e' and (dw dw' + Hessian of w), by the
        shares of the two parts in the loss, less the square of the mean gradient.
        """
        found = self.parts(theta, columns)
        of_floor, of_params, of_tokens = self.designs(columns)
        slopes, by_log_k = self._inner(found, columns)
        share = found.share[..., None]
        gradient = (1.0 - share) * of_floor + share * slopes
        by_u, by_v, _ = _coupled.gradient(found.u, found.v, found.k)
        bend = np.broadcast_to(of_params - of_tokens, slopes.shape).copy()
        bend[..., self._at] -= found.u - found.v
        floor = (weights * (1.0 - found.share)) @ _squares(of_floor)
        both = weights * found.share
        out = floor.reshape(len(theta), slopes.shape[-1], -1)
        out += _weighted(slopes, both)
        out += _weighted(bend, both * by_u * by_v / found.k)
        out[:, self._at, self._at] += (both * by_log_k).sum(axis=-1)
        return out - _weighted(gradient, weights)

    def starts(self, columns: Columns, loss: Array) -> Array:
        """The best of a grid in which all families and corpora are alike.

        With floor, exponents and k fixed the terms are linear in (L - E)^(1/k).
        """
        size, (params, tokens) = len(self._layout.parameters), self._layout.terms
        logs = [
            np.log(columns[term.column]) - self._centre[term.column]
            for term in (params, tokens)
        ]
        exponents = (0.1, 0.25, 0.5)
        grid = _starts.grid(
            size,
            {
                0: (0.2, 0.6, 0.85, 0.97),
                params.at + 1: exponents,
                tokens.at + 1: exponents,
                self._at: np.log([0.35, 0.7, 1.0, 2.0]),
            },
        )
        code = self._layout.floor(columns)
        floors = np.array(
            [
                loss[code == level].min() if (code == level).any() else loss.min()
                for level in range(self._layout.floors)
            ]
        )
        for theta in grid:
            low = theta[0] * floors
            k = np.exp(theta[self._at])
            powered = (loss - low[code]) ** (1.0 / k)
            a, b = _coupled.amplitudes(
                -theta[params.at + 1] / k * logs[0],
                -theta[tokens.at + 1] / k * logs[1],
                powered,
            )
            theta[: floors.size] = np.log(low)
            theta[params.at], theta[tokens.at] = a * k, b * k
        bounds = [(p.low, p.high) for p in self._layout.parameters]
        grid = np.clip(grid, *np.transpose(bounds))
        error = np.sum((self.predict(grid, columns) / loss - 1.0) ** 2, axis=-1)
        return grid[np.argsort(error, kind="stable")[:16]]


def bind(
    levels: Mapping[str, tuple[str, ...]],
    centre: Mapping[str, float],
    floor: Collection[str] = ("corpus",),
    alpha: Collection[str] = (),
    beta: Collection[str] = (),
    crossed: Collection[str] = (),
) -> Law:
    """Coordinates: as of `joint`, of either term's power k, and ln k.

    Raises:
      UserError: an option names no kind of level, or no term.
    """
    layout = Layout(levels, floor, alpha, beta, crossed, outer=True)
    law = _Outer(layout, centre)
    return Law(
        name=layout.name("joint_outer"),
        parameters=tuple(layout.parameters),
        reported=layout.reported(),
        predict=law.predict,
        natural=lambda theta: layout.natural(theta, centre),
        starts=law.starts,
        needs={"params": 3, "tokens": 3},
        columns=("params", "tokens", "family", "corpus"),
        linear=tuple(range(layout.floors)),
        log_gradient=law.log_gradient,
        log_curvature=law.log_curvature,
    )


def _squares(x: Array) -> Array:
    """x x' of each row of [n, P], flat: [n, P * P]."""
    return np.asarray((x[:, :, None] * x[:, None, :]).reshape(len(x), -1))


def _weighted(x: Array, weights: Array) -> Array:
    """Sum over rows of weight x x': [B, n, P], [B, n] -> [B, P, P]."""
    return np.asarray((x * weights[..., None]).transpose(0, 2, 1) @ x)
