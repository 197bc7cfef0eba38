"""Quality as effective data: L = E + A / N^alpha + B / (D Q^g)^beta.

Subramanyam et al. 2025, "Scaling laws revisited: modeling the role of data quality in
language model pretraining" (arXiv 2510.03313), who write the last term as
B / (D^beta Q^gamma), gamma = g beta. Q is 1 for clean data and falls towards 0, as one
less the share of corrupted tokens does; g below 1 says that effective data falls
slower than Q.

Columns: params, tokens, quality.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import Array, Columns, Law, Parameter
from analysis.laws._exponentials import Exponentials

BOUNDS_LOSS = (np.log(1e-4), np.log(1e4))
BOUNDS_EXPONENT = (0.01, 3.0)
BOUNDS_QUALITY = (-3.0, 5.0)


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln E, ln A and ln B at the centre, alpha, beta, g beta."""

    def designs(columns: Columns) -> Array:
        params = np.log(columns["params"]) - centre["params"]
        tokens = np.log(columns["tokens"]) - centre["tokens"]
        x = np.zeros((3, params.size, 6))
        x[0, :, 0] = x[1, :, 1] = x[2, :, 2] = 1.0
        x[1, :, 3] = -params
        x[2, :, 4] = -tokens
        x[2, :, 5] = -np.log(columns["quality"])
        return x

    def natural(theta: Array) -> Array:
        e, a, b, alpha, beta, gamma = np.moveaxis(theta, -1, 0)
        a = np.exp(np.minimum(a + alpha * centre["params"], 700.0))
        b = np.exp(np.minimum(b + beta * centre["tokens"], 700.0))
        return np.stack([np.exp(e), a, b, alpha, beta, gamma / beta], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        grid = np.geomspace(0.05, 1.5, 6)
        return np.array([[0.0, 0.0, 0.0, a, b, b / 2] for a in grid for b in grid])

    law = Exponentials(designs)
    return Law(
        name="quality",
        parameters=(
            Parameter("E", *BOUNDS_LOSS),
            Parameter("A", *BOUNDS_LOSS),
            Parameter("B", *BOUNDS_LOSS),
            Parameter("alpha", *BOUNDS_EXPONENT),
            Parameter("beta", *BOUNDS_EXPONENT),
            Parameter("g", *BOUNDS_QUALITY),
        ),
        predict=law.predict,
        natural=natural,
        starts=starts,
        needs={"params": 3, "tokens": 3},
        columns=("params", "tokens", "quality"),
        linear=(0, 1, 2),
        log_gradient=law.log_gradient,
        log_curvature=law.log_curvature,
        designs=law.designs,
    )
