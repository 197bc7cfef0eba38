"""Additive law over families a and corpora d, scored on one target:

    L = E_d + A (rhoN_a rhoN_d N)^-alpha + B (rhoD_a rhoD_d D)^-beta

with the multipliers of the first family and the first corpus at 1. rhoD_a = 1.3 says
that family a gets out of its data what the reference gets out of 1.3 times as much; the
rho's are effective-size and effective-data multipliers, as in Kaplan et al. 2020 and
Hoffmann et al. 2022 for one family. With one family and one corpus it is `chinchilla`.

Columns: params, tokens, family, corpus.

Options of `bind` nest it in wider laws, so that which parameters are shared can be
tested; each takes the kinds of level ("family", "corpus") that get their own:

    floor: E; ("corpus",) by default, () for one, both for one in every cell.
    alpha, beta: the exponents; () by default. With both kinds, differences add.
    crossed: terms ("params", "tokens") that get a multiplier of their own for every
        pair of a family and a corpus beside the product of the two: rhoN[a x d].

Where an exponent differs between levels, so does what a level is worth with the scale:
its factor on the term (rho^-alpha) is constant, and its multiplier is reported at the
centre of the design, by its own exponent at the other kind's reference.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter
from analysis.laws._exponentials import Exponentials
from scaling.errors import UserError

BOUNDS_EXPONENT = (0.01, 3.0)
# Of a level's exponent less the reference's.
BOUNDS_DIFFERENCE = (-1.5, 1.5)
# Of a factor on a term's amplitude, rho^-alpha or rho^-beta.
BOUNDS_SHIFT = (-np.log(100.0), np.log(100.0))
# Of the logarithm of an exponent around both terms; see joint_outer.
BOUNDS_OUTER = (np.log(0.05), np.log(20.0))
KINDS = ("family", "corpus")
# Distinct sizes and amounts of data, for an exponent and what the loss ends at.
NEEDS = {"params": 3, "tokens": 3}
# A level, or a pair of levels: ((kind, level), ...).
Key = tuple[tuple[str, str], ...]


class Term(NamedTuple):
    """A term's column, the names of its parameters, and where they stand in theta.

    `exponents` and `shifts` map a level to a coordinate, `shifts` a pair of levels too.
    """

    column: str
    rho: str
    at: int
    exponents: Mapping[Key, int]
    shifts: Mapping[Key, int]


class Layout:
    """Which coordinate is what, for the given levels and options.

    Attributes:
      outer: the coordinate of an exponent around both terms, where there is one.
    """

    def __init__(
        self,
        levels: Mapping[str, tuple[str, ...]],
        floor: Collection[str] = ("corpus",),
        alpha: Collection[str] = (),
        beta: Collection[str] = (),
        crossed: Collection[str] = (),
        outer: bool = False,
    ):
        """Raises UserError where an option names no kind of level, or no term."""
        chosen = {"floor": floor, "alpha": alpha, "beta": beta, "crossed": crossed}
        for option, values in chosen.items():
            known = ("params", "tokens") if option == "crossed" else KINDS
            if isinstance(values, str) or not set(values) <= set(known):
                wanted = f"a tuple of some of {', '.join(known)}"
                raise UserError(option, values, wanted)
        self._chosen = chosen
        self.levels = {kind: levels[kind] for kind in KINDS}
        self.floor_kinds = tuple(kind for kind in KINDS if kind in floor)
        self.parameters: list[Parameter] = []
        cells = itertools.product(*(self.levels[kind] for kind in self.floor_kinds))
        kind = self.floor_kinds[0] if len(self.floor_kinds) == 1 else "shared"
        for cell in cells:
            level = " x ".join(cell)
            name = f"E[{level}]" if level else "E"
            self._add(name, BOUNDS_LOSS, kind, level if kind != "shared" else "")
        self.floors = len(self.parameters)
        self.terms = [
            self._term(column, amplitude, exponent, chosen[exponent], crossed)
            for column, amplitude, exponent in (
                ("params", "A", "alpha"),
                ("tokens", "B", "beta"),
            )
        ]
        self.outer = self._add("k", BOUNDS_OUTER, "shared", "") if outer else None

    def _add(
        self, name: str, bounds: tuple[float, float], kind: str, level: str
    ) -> int:
        self.parameters.append(Parameter(name, *bounds, kind, level))
        return len(self.parameters) - 1

    def _term(
        self,
        column: str,
        amplitude: str,
        exponent: str,
        free: Collection[str],
        crossed: Collection[str],
    ) -> Term:
        at = self._add(amplitude, BOUNDS_LOSS, "shared", "")
        self._add(exponent, BOUNDS_EXPONENT, "shared", "")
        rho = {"params": "rhoN", "tokens": "rhoD"}[column]
        shifts: dict[Key, int] = {
            ((kind, level),): self._add(f"{rho}[{level}]", BOUNDS_SHIFT, kind, level)
            for kind in KINDS
            for level in self.levels[kind][1:]
        }
        slopes: dict[Key, int] = {
            ((kind, level),): self._add(
                f"{exponent}[{level}]", BOUNDS_DIFFERENCE, kind, level
            )
            for kind in KINDS
            if kind in free
            for level in self.levels[kind][1:]
        }
        if column in crossed:
            for pair in itertools.product(*(self.levels[kind][1:] for kind in KINDS)):
                name = f"{rho}[{' x '.join(pair)}]"
                key = tuple(zip(KINDS, pair, strict=True))
                shifts[key] = self._add(name, BOUNDS_SHIFT, "shared", "")
        return Term(column, rho, at, slopes, shifts)

    def reported(self) -> tuple[Parameter, ...]:
        """The parameters, then the multipliers that are 1 by definition."""
        references = [
            Parameter(
                f"{term.rho}[{names[0]}]", 0.0, 0.0, kind, names[0], reference=True
            )
            for term in self.terms
            for kind, names in self.levels.items()
        ]
        return (*self.parameters, *references)

    def member(self, columns: Columns, key: Key) -> Array:
        """Which rows [n] are of a level, or of a pair of levels."""
        codes = [columns[kind] == self.levels[kind].index(level) for kind, level in key]
        return np.logical_and.reduce(codes)

    def floor(self, columns: Columns) -> Array:
        """The coordinate of each row's floor, [n]."""
        at = np.zeros(len(columns["params"]), int)
        for kind in self.floor_kinds:
            at = at * len(self.levels[kind]) + columns[kind]
        return at

    def exponent(self, theta: Array, term: Term, key: Key) -> Array:
        """The exponent of a multiplier's level, at the other kind's reference."""
        own = [term.exponents[(part,)] for part in key if (part,) in term.exponents]
        return theta[..., [term.at + 1, *own]].sum(axis=-1)

    def designs(self, columns: Columns, centre: Mapping[str, float]) -> Array:
        """What the coordinates are multiplied by in the logs of E and both terms.

        Args:
          centre: of the logs of N and D.

        Returns [3, n, P]; a fourth matrix is that of ln k where there is an outer
        exponent.
        """
        rows = np.arange(len(columns["params"]))
        count = 3 if self.outer is None else 4
        x = np.zeros((count, rows.size, len(self.parameters)))
        if self.outer is not None:
            x[3, :, self.outer] = 1.0
        x[0, rows, self.floor(columns)] = 1.0
        for number, term in enumerate(self.terms, start=1):
            logs = np.log(columns[term.column]) - centre[term.column]
            x[number, :, term.at] = 1.0
            x[number, :, term.at + 1] = -logs
            for key, at in term.exponents.items():
                x[number, :, at] = np.where(self.member(columns, key), -logs, 0.0)
            for key, at in term.shifts.items():
                x[number, :, at] = self.member(columns, key)
        return x

    def natural(self, theta: Array, centre: Mapping[str, float]) -> Array:
        """What is reported [..., R], from coordinates [..., P].

        Under an outer exponent k the coordinates of a term are those of its power k,
        which it alone would add to the loss: ln A^k, k alpha and ln rho^(-k alpha).
        """
        ones = np.ones((*theta.shape[:-1], 2 * len(self.terms)))
        out = np.concatenate([theta, ones], axis=-1)
        out[..., : self.floors] = np.exp(theta[..., : self.floors])
        k: Array | float = 1.0
        if self.outer is not None:
            k = out[..., self.outer] = np.exp(theta[..., self.outer])
        for term in self.terms:
            slope = theta[..., term.at + 1]
            log = (theta[..., term.at] + slope * centre[term.column]) / k
            out[..., term.at] = np.exp(np.minimum(log, 700.0))
            out[..., term.at + 1] = slope / k
            for at in term.exponents.values():
                out[..., at] = (slope + theta[..., at]) / k
            for key, at in term.shifts.items():
                # k cancels: both the shift and the exponent are k times the inner ones.
                log = -theta[..., at] / self.exponent(theta, term, key)
                out[..., at] = np.exp(np.clip(log, -700.0, 700.0))
        return out

    def name(self, law: str) -> str:
        """The law's name, and what an option changed."""
        usual = {"floor": {"corpus"}}
        said = {"floor": "E", "crossed": "family x corpus"}
        parts = []
        for option, values in self._chosen.items():
            if set(values) != usual.get(option, set()):
                by = " and ".join(sorted(values)) or "none"
                joint = "in" if option == "crossed" else "by"
                parts.append(f"{said.get(option, option)} {joint} {by}")
        return law + (f" ({', '.join(parts)})" if parts else "")


def bind(
    levels: Mapping[str, tuple[str, ...]],
    centre: Mapping[str, float],
    floor: Collection[str] = ("corpus",),
    alpha: Collection[str] = (),
    beta: Collection[str] = (),
    crossed: Collection[str] = (),
) -> Law:
    """Coordinates of a multiplier: ln rho^-alpha (rho^-beta), so that X is fixed.

    Raises:
      UserError: an option names no kind of level, or no term.
    """
    layout = Layout(levels, floor, alpha, beta, crossed)

    def starts(columns: Columns, loss: Array) -> Array:
        grid = np.geomspace(0.05, 1.5, 5)
        theta = np.zeros((grid.size**2, len(layout.parameters)))
        theta[:, layout.terms[0].at + 1] = np.repeat(grid, grid.size)
        theta[:, layout.terms[1].at + 1] = np.tile(grid, grid.size)
        return theta

    law = Exponentials(lambda columns: layout.designs(columns, centre))
    return Law(
        name=layout.name("joint"),
        parameters=tuple(layout.parameters),
        reported=layout.reported(),
        predict=law.predict,
        natural=lambda theta: layout.natural(theta, centre),
        starts=starts,
        needs=NEEDS,
        columns=("params", "tokens", "family", "corpus"),
        linear=(*range(layout.floors), *(term.at for term in layout.terms)),
        log_gradient=law.log_gradient,
        log_curvature=law.log_curvature,
        designs=law.designs,
    )
