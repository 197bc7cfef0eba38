"""Power law between a start and a floor, in data: (L - E) / (E_0 - L)^alpha = B / D^c.

M4 of Alabdulmohsin et al. 2022, "Revisiting neural scaling laws in language and
vision", equation 4: E_0 is the loss before any learning, E the floor, and alpha how
fast the curve leaves E_0; alpha = 0 is `power`.

Columns: tokens (or examples) seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter, _starts

BOUNDS_RATIO = (-40.0, 40.0)
BOUNDS_EXPONENT = (0.001, 10.0)
BOUNDS_ALPHA = (0.01, 10.0)
SOLVER_STEPS = 60


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def _logit(ratio: Array, alpha: Array) -> Array:
    """The t at which ln w - alpha ln(1 - w) = ratio, w = 1 / (1 + e^-t).

    Newton's steps: in t the left side rises with a slope between 1 and alpha and is
    convex or concave throughout, so that they converge from anywhere.
    """
    ratio, alpha = np.broadcast_arrays(ratio, alpha)
    t = np.where(ratio < 0, ratio, ratio / alpha)
    for _ in range(SOLVER_STEPS):
        w = 1.0 / (1.0 + np.exp(-np.clip(t, -700.0, 700.0)))
        miss = alpha * _softplus(t) - _softplus(-t) - ratio
        step = miss / ((1.0 - w) + alpha * w)
        t = t - step
        if np.max(np.abs(step), initial=0.0) < 1e-13:
            break
    return t


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln E, ln (E_0 - E), ln of the right side over (E_0 - E)^(1 - alpha)
    at the centre, c, alpha: then the loss is linear in E and in E_0 - E.
    """

    def terms(theta: Array, columns: Columns) -> tuple[Array, ...]:
        logs = np.log(columns["tokens"]) - centre["tokens"]
        e, span, b, c, alpha = np.moveaxis(theta[..., None], -2, 0)
        t = _logit(b - c * logs, alpha)
        return np.exp(e), np.exp(span - _softplus(-t)), t, alpha, logs

    def predict(theta: Array, columns: Columns) -> Array:
        floor, rest, *_ = terms(theta, columns)
        return floor + rest

    def log_gradient(theta: Array, columns: Columns) -> Array:
        floor, rest, t, alpha, logs = terms(theta, columns)
        w = 1.0 / (1.0 + np.exp(-np.clip(t, -700.0, 700.0)))
        share = rest / (floor + rest)
        by_ratio = share * (1.0 - w) / ((1.0 - w) + alpha * w)
        parts = (share, by_ratio, -by_ratio * logs, -by_ratio * _softplus(t))
        return np.stack([1.0 - share, *parts], axis=-1)

    def natural(theta: Array) -> Array:
        e, span, b, c, alpha = np.moveaxis(theta, -1, 0)
        start = np.exp(e) + np.exp(span)
        log = b + (1.0 - alpha) * span + c * centre["tokens"]
        amplitude = np.exp(np.clip(log, -700.0, 700.0))
        return np.stack([np.exp(e), start, amplitude, c, alpha], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        candidates = _starts.grid(
            5,
            {
                2: (-6.0, -3.0, -1.0, 0.0, 1.0, 3.0),
                3: (0.1, 0.25, 0.5, 1.0, 2.0),
                4: (0.05, 0.5, 1.0, 2.0),
            },
        )
        return _starts.best(predict, (0, 1), candidates, columns, loss, 24)

    return Law(
        name="m4",
        parameters=(
            Parameter("E", *BOUNDS_LOSS),
            Parameter("E_0", *BOUNDS_LOSS),
            Parameter("B", *BOUNDS_RATIO),
            Parameter("c", *BOUNDS_EXPONENT),
            Parameter("alpha", *BOUNDS_ALPHA),
        ),
        predict=predict,
        natural=natural,
        starts=starts,
        needs={"tokens": 4},
        columns=("tokens",),
        linear=(0, 1),
        log_gradient=log_gradient,
    )
