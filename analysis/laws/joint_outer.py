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

import numpy as np

from analysis.laws import Array, Columns, Law, _coupled, _starts
from analysis.laws.joint import Layout


class _Outer(_coupled.Coupled):
    """Value, derivatives and starts; coordinates as `Layout.natural` says."""

    def __init__(self, layout: Layout, centre: Mapping[str, float]):
        super().__init__(lambda columns: layout.designs(columns, centre), floor=True)
        assert layout.outer is not None
        self._layout, self._centre, self._at = layout, centre, layout.outer

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
        composite=law,
    )
