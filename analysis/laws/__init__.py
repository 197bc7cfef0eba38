"""Scaling laws: one file each, found by import.

A law is a module that defines

    bind(levels, centre, **options) -> Law
        levels: names of the families and corpora, {"family": (...), "corpus": (...)};
            a law that knows neither ignores them.
        centre: {"params": x, "tokens": y}, natural logarithms that its logs are
            taken relative to, so that amplitudes and exponents are nearly
            uncorrelated and float64 is enough.
        options: the law's own variants, all with defaults; its docstring says which.

and states its equation and paper in the docstring. Everything that works on laws
(fitting, intervals, comparison, curves) reads the `Law` that comes back, and no name.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from scaling import plugins

Array = np.ndarray[Any, np.dtype[Any]]
Columns = Mapping[str, Array]
# Bounds of the log of what is a loss, or a term of one, in any unit of losses.
BOUNDS_LOSS = (np.log(1e-4), np.log(1e4))


class Parameter(NamedTuple):
    """A parameter as it is reported, and the bounds of its coordinate.

    Attributes:
      name: as in the equation.
      low, high: bounds of the coordinate that is fitted, a logarithm or an exponent;
        an estimate that lies on one is reported as such.
      kind: "shared", "family" or "corpus": what it belongs to, with its `level`.
      reference: it is 1 by definition; other levels are relative to it. Reported, not
        fitted: such a parameter has no coordinate.
    """

    name: str
    low: float
    high: float
    kind: str = "shared"
    level: str = ""
    reference: bool = False


class Composite(Protocol):
    """ln loss as a function of a few linear parts z_t = X_t theta; arrays [B, n]."""

    def designs(self, columns: Columns) -> Array:
        """X, [T, n, P]."""

    def value(self, parts: Sequence[Array]) -> tuple[Array, Sequence[Array]]:
        """ln loss of z_t, and arrays [B, n] or [B, 1] for the two others to read."""

    def slopes(self, kept: Sequence[Array]) -> Sequence[Array]:
        """Derivatives of ln loss by each z_t."""

    def bends(self, kept: Sequence[Array]) -> Mapping[tuple[int, int], Array]:
        """Second derivatives of ln loss by z_t and z_u, at (t, u) with t <= u."""


@dataclasses.dataclass(frozen=True)
class Turned:
    """A law in other coordinates: one of its own follows from them.

    Attributes:
      law, index: that law, and which of its coordinates; the others are the same.
      solve: theta [B, P] -> the law's own coordinates [B, P], and of the one at `index`
        the slopes [B, P] and second derivatives [B, P, P] by theta, which need not hold
        by theta's own coordinate `index`.
    """

    law: Law
    index: int
    solve: Callable[[Array], tuple[Array, Array, Array]]


@dataclasses.dataclass(frozen=True)
class Law:
    """A law bound to its levels. `theta` is [..., P], of coordinates; n rows.

    Columns are arrays [n]: `params`, `tokens` and `unique_tokens` (counts, float64),
    `quality` (0 to 1], `family` and `corpus` (integer codes into the levels).

    Attributes:
      name: the module's name.
      parameters: the P fitted ones, in the order of the coordinates.
      predict: (theta, columns) -> loss [..., n].
      natural: theta -> values of `reported` [..., R].
      reported: what `natural` returns, in order; by default `parameters`.
      starts: (columns, loss) -> theta [S, P]; the coordinates in `linear` may hold
        anything, the engine solves for them.
      needs: how many distinct levels of a column the law cannot do without.
      columns: the columns that it reads.
      linear: coordinates c for which loss is linear in exp(c), all others fixed.
      log_gradient: (theta [B, P], columns) -> d ln loss / d theta [B, n, P].
      log_curvature: (theta [B, P], columns, weights [B, n]) -> the sum over rows of
        weight times the Hessian of ln loss, [B, P, P].
      designs: of a law that is a sum over terms of exp(X_term theta): columns -> X,
        [T, n, P]. The engine then solves amplitudes on a grid of the exponents and
        shares the matrices among all bootstrap draws.
      composite: of another law that is a function of linear parts; it too then shares
        their matrices.
      turned: the law that this one is in other coordinates, where it is one.
    """

    name: str
    parameters: tuple[Parameter, ...]
    predict: Callable[[Array, Columns], Array]
    natural: Callable[[Array], Array]
    starts: Callable[[Columns, Array], Array]
    needs: Mapping[str, int]
    columns: tuple[str, ...] = ("params", "tokens")
    reported: tuple[Parameter, ...] = ()
    linear: tuple[int, ...] = ()
    log_gradient: Callable[[Array, Columns], Array] | None = None
    log_curvature: Callable[[Array, Columns, Array], Array] | None = None
    designs: Callable[[Columns], Array] | None = None
    composite: Composite | None = None
    turned: Turned | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the reported parameters."""
        return tuple(p.name for p in self.reported or self.parameters)


def names() -> list[str]:
    return plugins.names(sys.modules[__name__], "bind")


def load(name: str) -> ModuleType:
    """The law's module. Raises UserError for an unknown name."""
    return plugins.load(sys.modules[__name__], name, "law", "bind")
