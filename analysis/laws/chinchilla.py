"""Additive law of one family on one corpus: L = E + A / N^alpha + B / D^beta.

Hoffmann et al. 2022, "Training compute-optimal large language models", equation 2;
refitted by Besiroglu et al. 2024.

Columns: params, tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from analysis.laws import Array, Columns, Law, Parameter, _additive
from analysis.laws._additive import BOUNDS_EXPONENT


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln E, ln A and ln B at the centre, alpha, beta."""

    def slopes(columns: Columns, params: Array, tokens: Array) -> Array:
        zeros = np.zeros_like(params)
        of_params, of_tokens = (-params, zeros), (zeros, -tokens)
        return np.stack([np.stack(of_params, -1), np.stack(of_tokens, -1)])

    def natural(theta: Array) -> tuple[Array, Array, list[Array]]:
        alpha, beta = np.moveaxis(theta, -1, 0)
        return alpha, beta, [alpha, beta]

    return _additive.law(
        "chinchilla",
        centre,
        [Parameter(name, *BOUNDS_EXPONENT) for name in ("alpha", "beta")],
        slopes,
        natural,
        np.array(list(itertools.product(np.geomspace(0.05, 1.5, 6), repeat=2))),
        levels=3,
    )
