"""Broken power law: L = a + b D^-c_0 prod_i (1 + (D / d_i)^(1 / f_i))^(-c_i f_i).

Caballero et al. 2023, "Broken neural scaling laws", equation 1: straight segments on a
log-log plot above the floor a, whose exponent grows by c_i at D = d_i, over a width
f_i in decades or so. A negative c_i makes the fall slower, or turns it into a rise.

Columns: tokens (or examples) seen.

Options of `bind`: breaks, 1 by default, up to 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter, _starts
from scaling.errors import UserError

BOUNDS_EXPONENT = (-1.0, 4.0)
# Caballero et al. print changes of up to 5.7.
BOUNDS_CHANGE = (-8.0, 8.0)
BOUNDS_PLACE = (-30.0, 30.0)
BOUNDS_WIDTH = (np.log(0.05), np.log(10.0))
MOST_BREAKS = 3
# Change of the exponent, width f, logs over the place in widths, ln(1 + e^ of them).
Break = tuple[Array, Array, Array, Array]


def bind(
    levels: Mapping[str, tuple[str, ...]],
    centre: Mapping[str, float],
    breaks: int = 1,
) -> Law:
    """Coordinates: ln a, ln b at the centre, c_0; then c_i, ln d_i over the centre and
    ln f_i for each break.

    Raises:
      UserError: breaks is not 1, 2 or 3.
    """
    if breaks not in range(1, MOST_BREAKS + 1):
        raise UserError("breaks", breaks, f"a number from 1 to {MOST_BREAKS}")

    def terms(theta: Array, columns: Columns) -> tuple[Array, list[Break]]:
        """The log of the part above the floor, and of each break what it is made of."""
        logs = np.log(columns["tokens"]) - centre["tokens"]
        _, b, c, *rest = np.moveaxis(theta[..., None], -2, 0)
        log = b - c * logs
        parts = []
        for change, place, width in zip(
            rest[0::3], rest[1::3], rest[2::3], strict=True
        ):
            f = np.exp(width)
            z = (logs - place) / f
            bend = np.logaddexp(0.0, z)
            log = log - change * f * bend
            parts.append((change, f, z, bend))
        return log, parts

    def predict(theta: Array, columns: Columns) -> Array:
        log, _ = terms(theta, columns)
        return np.exp(theta[..., :1]) + np.exp(np.clip(log, -700.0, 300.0))

    def log_gradient(theta: Array, columns: Columns) -> Array:
        logs = np.log(columns["tokens"]) - centre["tokens"]
        log, parts = terms(theta, columns)
        share = 1.0 / (1.0 + np.exp(np.clip(theta[..., :1] - log, -700.0, 700.0)))
        slopes = [1.0 - share, share, -share * logs]
        for change, f, z, bend in parts:
            past = 1.0 / (1.0 + np.exp(-np.clip(z, -700.0, 700.0)))
            slopes.append(-share * f * bend)
            slopes.append(share * change * past)
            slopes.append(-share * change * f * (bend - z * past))
        return np.stack(slopes, axis=-1)

    def log_curvature(theta: Array, columns: Columns, weights: Array) -> Array:
        """Without it a descent creeps along the valleys that b, c_0 and c_i share."""
        logs = np.log(columns["tokens"]) - centre["tokens"]
        log, parts = terms(theta, columns)
        share = 1.0 / (1.0 + np.exp(np.clip(theta[..., :1] - log, -700.0, 700.0)))
        # Of the log of the part above the floor, less that of the floor.
        slopes = [-np.ones_like(log), np.ones_like(log), np.zeros_like(log) - logs]
        bends: dict[tuple[int, int], Array] = {}
        for i, (change, f, z, bend) in enumerate(parts):
            past = 1.0 / (1.0 + np.exp(-np.clip(z, -700.0, 700.0)))
            bell = past * (1.0 - past)
            short = bend - z * past
            slopes += [-f * bend, change * past, -change * f * short]
            c, d, w = 3 + 3 * i, 4 + 3 * i, 5 + 3 * i
            bends[c, d], bends[c, w] = past, -f * short
            bends[d, d], bends[d, w] = -change * bell / f, -change * z * bell
            bends[w, w] = -change * f * (short + z * z * bell)
        slope = np.stack(slopes, axis=-1)
        spread = slope * (weights * share * (1.0 - share))[..., None]
        out: Array = spread.transpose(0, 2, 1) @ slope
        for (i, j), value in bends.items():
            total = np.sum(weights * share * value, axis=1)
            out[:, i, j] += total
            if i != j:
                out[:, j, i] += total
        return out

    def natural(theta: Array) -> Array:
        out = np.array(theta, np.float64)
        log = theta[..., 1] + theta[..., 2] * centre["tokens"]
        out[..., 0] = np.exp(theta[..., 0])
        out[..., 1] = np.exp(np.minimum(log, 700.0))
        out[..., 4::3] = np.exp(theta[..., 4::3] + centre["tokens"])
        out[..., 5::3] = np.exp(theta[..., 5::3])
        return out

    def starts(columns: Columns, loss: Array) -> Array:
        logs = np.log(columns["tokens"]) - centre["tokens"]
        places = np.quantile(logs, np.linspace(0.1, 0.9, 5))
        values: dict[int, tuple[float, ...]] = {2: (-0.1, 0.05, 0.2, 0.5, 1.0)}
        for i in range(breaks):
            values[3 + 3 * i] = (-0.3, 0.2, 0.6) if breaks == 1 else (-0.3, 0.4)
            # Breaks in order: the grid's first places for the first of them.
            inside = places if breaks == 1 else places[[1 + i, 3 - breaks // 3 + i]]
            values[4 + 3 * i] = tuple(inside)
            values[5 + 3 * i] = (np.log(0.2), np.log(1.0)) if i == 0 else (np.log(0.4),)
        candidates = _starts.grid(3 + 3 * breaks, values)
        return _starts.best(predict, (0, 1), candidates, columns, loss, 24)

    named = [Parameter("a", *BOUNDS_LOSS), Parameter("b", *BOUNDS_LOSS)]
    named.append(Parameter("c_0", *BOUNDS_EXPONENT))
    for i in range(1, breaks + 1):
        named.append(Parameter(f"c_{i}", *BOUNDS_CHANGE))
        named.append(Parameter(f"d_{i}", *BOUNDS_PLACE))
        named.append(Parameter(f"f_{i}", *BOUNDS_WIDTH))
    return Law(
        name="bnsl" if breaks == 1 else f"bnsl ({breaks} breaks)",
        parameters=tuple(named),
        predict=predict,
        natural=natural,
        starts=starts,
        needs={"tokens": 4},
        columns=("tokens",),
        linear=(0, 1),
        log_gradient=log_gradient,
        log_curvature=log_curvature,
    )
