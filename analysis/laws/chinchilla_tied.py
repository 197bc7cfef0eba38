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

from analysis.laws import Array, Columns, Law, Parameter
from analysis.laws._exponentials import Exponentials

BOUNDS_LOSS = (np.log(1e-4), np.log(1e4))
BOUNDS_EXPONENT = (0.01, 3.0)


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln E, ln A and ln B at the centre, eta."""

    def designs(columns: Columns) -> Array:
        params = np.log(columns["params"]) - centre["params"]
        tokens = np.log(columns["tokens"]) - centre["tokens"]
        x = np.zeros((3, params.size, 4))
        x[0, :, 0] = x[1, :, 1] = x[2, :, 2] = 1.0
        x[1, :, 3] = -params
        x[2, :, 3] = -tokens
        return x

    def natural(theta: Array) -> Array:
        e, a, b, eta = np.moveaxis(theta, -1, 0)
        a = np.exp(np.minimum(a + eta * centre["params"], 700.0))
        b = np.exp(np.minimum(b + eta * centre["tokens"], 700.0))
        return np.stack([np.exp(e), a, b, eta], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        return np.array([[0.0, 0.0, 0.0, eta] for eta in np.geomspace(0.05, 1.5, 10)])

    law = Exponentials(designs)
    return Law(
        name="chinchilla_tied",
        parameters=(
            Parameter("E", *BOUNDS_LOSS),
            Parameter("A", *BOUNDS_LOSS),
            Parameter("B", *BOUNDS_LOSS),
            Parameter("eta", *BOUNDS_EXPONENT),
        ),
        predict=law.predict,
        natural=natural,
        starts=starts,
        needs={"params": 2, "tokens": 2},
        linear=(0, 1, 2),
        log_gradient=law.log_gradient,
        log_curvature=law.log_curvature,
        designs=law.designs,
    )
