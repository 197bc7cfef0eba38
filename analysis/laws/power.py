"""Power law with a floor, in data, at one model size: L = E + B / D^beta.

Hestness et al. 2017, "Deep learning scaling is predictable, empirically"; M2 of
Alabdulmohsin et al. 2022, "Revisiting neural scaling laws in language and vision".

Columns: tokens (or examples) seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter
from analysis.laws._exponentials import Exponentials

BOUNDS_EXPONENT = (0.01, 3.0)


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln E, ln B at the centre, beta."""

    def designs(columns: Columns) -> Array:
        logs = np.log(columns["tokens"]) - centre["tokens"]
        x = np.zeros((2, logs.size, 3))
        x[0, :, 0] = 1.0
        x[1, :, 1] = 1.0
        x[1, :, 2] = -logs
        return x

    def natural(theta: Array) -> Array:
        e, b, beta = np.moveaxis(theta, -1, 0)
        amplitude = np.exp(np.minimum(b + beta * centre["tokens"], 700.0))
        return np.stack([np.exp(e), amplitude, beta], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        return np.array([[0.0, 0.0, beta] for beta in np.geomspace(0.05, 2.0, 10)])

    law = Exponentials(designs)
    return Law(
        name="power",
        parameters=(
            Parameter("E", *BOUNDS_LOSS),
            Parameter("B", *BOUNDS_LOSS),
            Parameter("beta", *BOUNDS_EXPONENT),
        ),
        predict=law.predict,
        natural=natural,
        starts=starts,
        needs={"tokens": 3},
        columns=("tokens",),
        linear=(0, 1),
        log_gradient=law.log_gradient,
        log_curvature=law.log_curvature,
        designs=law.designs,
    )
