"""Power law without a floor, in data, at one model size: L = B / D^beta.

M1 of Alabdulmohsin et al. 2022, "Revisiting neural scaling laws in language and
vision", section 3 (M2 is `power`).

Columns: tokens (or examples) seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter
from analysis.laws._exponentials import Exponentials

BOUNDS_EXPONENT = (-3.0, 3.0)


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln B at the centre, beta. Linear in ln L: one start is enough."""

    def designs(columns: Columns) -> Array:
        logs = np.log(columns["tokens"]) - centre["tokens"]
        return np.stack([np.ones_like(logs), -logs], axis=-1)[None]

    def natural(theta: Array) -> Array:
        b, beta = np.moveaxis(theta, -1, 0)
        amplitude = np.exp(np.minimum(b + beta * centre["tokens"], 700.0))
        return np.stack([amplitude, beta], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        return np.array([[0.0, 0.1], [0.0, 0.5]])

    law = Exponentials(designs)
    return Law(
        name="m1",
        parameters=(
            Parameter("B", *BOUNDS_LOSS),
            Parameter("beta", *BOUNDS_EXPONENT),
        ),
        predict=law.predict,
        natural=natural,
        starts=starts,
        needs={"tokens": 2},
        columns=("tokens",),
        linear=(0,),
        log_gradient=law.log_gradient,
        log_curvature=law.log_curvature,
        designs=law.designs,
    )
