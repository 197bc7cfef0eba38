"""Additive law over families a and corpora d, scored on one target:

    L = E_d + A (rhoN_a rhoN_d N)^-alpha + B (rhoD_a rhoD_d D)^-beta

with the multipliers of the first family and the first corpus at 1. rhoD_a = 1.3 says
that family a gets out of its data what the reference gets out of 1.3 times as much; the
rho's are effective-size and effective-data multipliers, as in Kaplan et al. 2020 and
Hoffmann et al. 2022 for one family. With one family and one corpus it is `chinchilla`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import Array, Columns, Law, Parameter
from analysis.laws._exponentials import Exponentials

BOUNDS_LOSS = (np.log(1e-4), np.log(1e4))
BOUNDS_EXPONENT = (0.01, 3.0)
# Of a factor on a term's amplitude, rho^-alpha or rho^-beta.
BOUNDS_SHIFT = (-np.log(100.0), np.log(100.0))


def _coordinates(
    families: tuple[str, ...], corpora: tuple[str, ...]
) -> tuple[Parameter, ...]:
    """E_d for each corpus, then for N and for D: amplitude, exponent, multipliers."""
    out = [Parameter(f"E[{d}]", *BOUNDS_LOSS, "corpus", d) for d in corpora]
    for amplitude, exponent, rho in (("A", "alpha", "rhoN"), ("B", "beta", "rhoD")):
        out.append(Parameter(amplitude, *BOUNDS_LOSS))
        out.append(Parameter(exponent, *BOUNDS_EXPONENT))
        for kind, levels in (("family", families), ("corpus", corpora)):
            for level in levels[1:]:
                out.append(Parameter(f"{rho}[{level}]", *BOUNDS_SHIFT, kind, level))
    return tuple(out)


def _reported(
    families: tuple[str, ...], corpora: tuple[str, ...]
) -> tuple[Parameter, ...]:
    """The coordinates, then the multipliers that are 1 by definition."""
    one = (0.0, 0.0)
    references = [
        Parameter(f"{rho}[{levels[0]}]", *one, kind, levels[0], True)
        for rho in ("rhoN", "rhoD")
        for kind, levels in (("family", families), ("corpus", corpora))
    ]
    return _coordinates(families, corpora) + tuple(references)


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates of a multiplier: ln rho^-alpha (rho^-beta), so that X is fixed."""
    families, corpora = levels["family"], levels["corpus"]
    parameters = _coordinates(families, corpora)
    extra = len(families) + len(corpora) - 2
    floors = len(corpora)
    size_at, data_at = floors, floors + 2 + extra

    def designs(columns: Columns) -> Array:
        rows = np.arange(columns["params"].size)
        x = np.zeros((3, rows.size, len(parameters)))
        x[0, rows, columns["corpus"]] = 1.0
        for term, at, name in ((1, size_at, "params"), (2, data_at, "tokens")):
            x[term, :, at] = 1.0
            x[term, :, at + 1] = -(np.log(columns[name]) - centre[name])
            offsets = ((0, columns["family"]), (len(families) - 1, columns["corpus"]))
            for offset, codes in offsets:
                other = codes > 0
                x[term, rows[other], at + 1 + offset + codes[other]] = 1.0
        return x

    def natural(theta: Array) -> Array:
        out = np.concatenate([theta, np.zeros((*theta.shape[:-1], 4))], axis=-1)
        for at, name in ((size_at, "params"), (data_at, "tokens")):
            exponent = theta[..., at + 1]
            out[..., at] += exponent * centre[name]
            shift = theta[..., at + 2 : at + 2 + extra]
            out[..., at + 2 : at + 2 + extra] = -shift / exponent[..., None]
        linear = [size_at + 1, data_at + 1]
        kept = out[..., linear]
        out = np.exp(np.clip(out, -700.0, 700.0))
        out[..., linear] = kept
        return out

    def starts(columns: Columns, loss: Array) -> Array:
        grid = np.geomspace(0.05, 1.5, 5)
        theta = np.zeros((grid.size**2, len(parameters)))
        theta[:, size_at + 1] = np.repeat(grid, grid.size)
        theta[:, data_at + 1] = np.tile(grid, grid.size)
        return theta

    law = Exponentials(designs)
    return Law(
        name="joint",
        parameters=parameters,
        reported=_reported(families, corpora),
        predict=law.predict,
        natural=natural,
        starts=starts,
        needs={"params": 3, "tokens": 3},
        linear=(*range(floors), size_at, data_at),
        log_gradient=law.log_gradient,
        log_curvature=law.log_curvature,
    )
