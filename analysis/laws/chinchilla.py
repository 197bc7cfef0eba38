"""Additive law of one family on one corpus: L = E + A / N^alpha + B / D^beta.

Hoffmann et al. 2022, "Training compute-optimal large language models", equation 2;
refitted by Besiroglu et al. 2024.

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
    """Coordinates: ln E, ln A and ln B at the centre, alpha, beta."""

    def designs(columns: Columns) -> Array:
        params = np.log(columns["params"]) - centre["params"]
        tokens = np.log(columns["tokens"]) - centre["tokens"]
        x = np.zeros((3, params.size, 5))
        x[0, :, 0] = x[1, :, 1] = x[2, :, 2] = 1.0
        x[1, :, 3] = -params
        x[2, :, 4] = -tokens
        return x

    def natural(theta: Array) -> Array:
        e, a, b, alpha, beta = np.moveaxis(theta, -1, 0)
        a = np.exp(np.minimum(a + alpha * centre["params"], 700.0))
        b = np.exp(np.minimum(b + beta * centre["tokens"], 700.0))
        return np.stack([np.exp(e), a, b, alpha, beta], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        grid = np.geomspace(0.05, 1.5, 6)
        return np.array([[0.0, 0.0, 0.0, a, b] for a in grid for b in grid])

    law = Exponentials(designs)
    return Law(
        name="chinchilla",
        parameters=(
            Parameter("E", *BOUNDS_LOSS),
            Parameter("A", *BOUNDS_LOSS),
            Parameter("B", *BOUNDS_LOSS),
            Parameter("alpha", *BOUNDS_EXPONENT),
            Parameter("beta", *BOUNDS_EXPONENT),
        ),
        predict=law.predict,
        natural=natural,
        starts=starts,
        needs={"params": 3, "tokens": 3},
        linear=(0, 1, 2),
        log_gradient=law.log_gradient,
        log_curvature=law.log_curvature,
        designs=law.designs,
    )
