"""Power law that levels off smoothly, in data: L = B (1 / D + gamma)^c.

M3 of Alabdulmohsin et al. 2022, "Revisiting neural scaling laws in language and
vision", section 3. The loss falls as 1 / D^c up to D = 1 / gamma and then levels off at
B gamma^c; with gamma = 0 it is `m1`.

Columns: tokens (or examples) seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter, _starts

BOUNDS_EXPONENT = (0.001, 20.0)
# Of gamma times the data at the centre; at the lower end it is zero to the eye.
BOUNDS_GAMMA = (-14.0, 14.0)


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln B at the centre, c, ln gamma times the data at the centre."""

    def terms(theta: Array, columns: Columns) -> tuple[Array, Array, Array, Array]:
        logs = np.log(columns["tokens"]) - centre["tokens"]
        b, c, gamma = np.moveaxis(theta[..., None], -2, 0)
        total = np.logaddexp(-logs, gamma)
        return b, c, gamma, total

    def predict(theta: Array, columns: Columns) -> Array:
        b, c, _, total = terms(theta, columns)
        return np.exp(b + c * total)

    def log_gradient(theta: Array, columns: Columns) -> Array:
        _, c, gamma, total = terms(theta, columns)
        share = np.exp(gamma - total)
        return np.stack([np.ones_like(total), total, c * share], axis=-1)

    def natural(theta: Array) -> Array:
        b, c, gamma = np.moveaxis(theta, -1, 0)
        amplitude = np.exp(np.minimum(b + c * centre["tokens"], 700.0))
        return np.stack([amplitude, c, np.exp(gamma - centre["tokens"])], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        exponents = np.geomspace(0.05, 3.0, 8)
        candidates = _starts.grid(3, {1: exponents, 2: np.linspace(-8.0, 4.0, 9)})
        return _starts.best(predict, (0,), candidates, columns, loss, 16)

    return Law(
        name="m3",
        parameters=(
            Parameter("B", *BOUNDS_LOSS),
            Parameter("c", *BOUNDS_EXPONENT),
            Parameter("gamma", *BOUNDS_GAMMA),
        ),
        predict=predict,
        natural=natural,
        starts=starts,
        needs={"tokens": 3},
        columns=("tokens",),
        linear=(0,),
        log_gradient=log_gradient,
    )
