"""Additive law with one exponent: L = E + A / N^eta + B / D^eta.

Gadre et al. 2024, "Language models scale reliably with over-training and on downstream
tasks", equation 4: at a constant ratio of tokens to parameters it is a power of the
compute with exponent eta / 2, whatever the ratio. Muennighoff et al. 2023 tie the
exponents too. Its constants can be had from runs on two lines D = M N.

Columns: params, tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import Array, Columns, Law, Parameter, _additive
from analysis.laws._additive import BOUNDS_EXPONENT


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln E, ln A and ln B at the centre, eta."""

    def slopes(columns: Columns, params: Array, tokens: Array) -> Array:
        return -np.stack([params, tokens])[..., None]

    def natural(theta: Array) -> tuple[Array, Array, list[Array]]:
        eta = theta[..., 0]
        return eta, eta, [eta]

    return _additive.law(
        "chinchilla_tied",
        centre,
        [Parameter("eta", *BOUNDS_EXPONENT)],
        slopes,
        natural,
        np.geomspace(0.05, 1.5, 10)[:, None],
        levels=2,
    )
