"""Quality as effective data: L = E + A / N^alpha + B / (D Q^g)^beta.

Subramanyam et al. 2025, "Scaling laws revisited: modeling the role of data quality in
language model pretraining" (arXiv 2510.03313), who write the last term as
B / (D^beta Q^gamma), gamma = g beta. Q is 1 for clean data and falls towards 0, as one
less the share of corrupted tokens does; g below 1 says that effective data falls
slower than Q.

Columns: params, tokens, quality.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from analysis.laws import Array, Columns, Law, Parameter, _additive
from analysis.laws._additive import BOUNDS_EXPONENT

BOUNDS_QUALITY = (-3.0, 5.0)


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln E, ln A and ln B at the centre, alpha, beta, g beta."""

    def slopes(columns: Columns, params: Array, tokens: Array) -> Array:
        zeros = np.zeros_like(params)
        quality = np.log(columns["quality"])
        of_params, of_tokens = (-params, zeros, zeros), (zeros, -tokens, -quality)
        return np.stack([np.stack(of_params, -1), np.stack(of_tokens, -1)])

    def natural(theta: Array) -> tuple[Array, Array, list[Array]]:
        alpha, beta, gamma = np.moveaxis(theta, -1, 0)
        return alpha, beta, [alpha, beta, gamma / beta]

    grid = itertools.product(np.geomspace(0.05, 1.5, 6), repeat=2)
    return _additive.law(
        "quality",
        centre,
        [
            *(Parameter(name, *BOUNDS_EXPONENT) for name in ("alpha", "beta")),
            Parameter("g", *BOUNDS_QUALITY),
        ],
        slopes,
        natural,
        np.array([[alpha, beta, beta / 2] for alpha, beta in grid]),
        levels=3,
        columns=("params", "tokens", "quality"),
    )
