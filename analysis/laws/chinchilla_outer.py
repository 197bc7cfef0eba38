"""Additive law under an outer exponent: L = E + (A / N^alpha + B / D^beta)^k.

Videau et al. 2026, "Skaling: Chinchilla's exponents meet Kaplan's coupling" (arXiv
2608.07222): k = 1 is `chinchilla`, and with k = alpha_D and no floor it is `kaplan`; a
k below 1 says that the worse of size and data rules the loss.

Columns: params, tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter, _coupled, _starts

BOUNDS_EXPONENT = (0.01, 3.0)
BOUNDS_OUTER = (np.log(0.05), np.log(20.0))


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln E; ln loss above it at the centre by N alone and by D alone, and
    its exponents k alpha and k beta, which hardly depend on k; ln k.
    """

    def logs(columns: Columns) -> tuple[Array, Array]:
        params = np.log(columns["params"]) - centre["params"]
        return params, np.log(columns["tokens"]) - centre["tokens"]

    def designs(columns: Columns) -> Array:
        params, tokens = logs(columns)
        x = np.zeros((4, params.size, 6))
        x[0, :, 0] = x[1, :, 1] = x[2, :, 2] = x[3, :, 5] = 1.0
        x[1, :, 3], x[2, :, 4] = -params, -tokens
        return x

    law = _coupled.Coupled(designs, floor=True)

    def natural(theta: Array) -> Array:
        e, u, v, alpha, beta, k = np.moveaxis(theta, -1, 0)
        k = np.exp(k)
        a = np.exp(np.minimum((u + alpha * centre["params"]) / k, 700.0))
        b = np.exp(np.minimum((v + beta * centre["tokens"]) / k, 700.0))
        return np.stack([np.exp(e), a, b, alpha / k, beta / k, k], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        params, tokens = logs(columns)
        grid = _starts.grid(
            6,
            {
                0: np.log(loss.min() * np.array([0.2, 0.6, 0.85, 0.97])),
                3: (0.1, 0.25, 0.5),
                4: (0.1, 0.25, 0.5),
                5: np.log([0.35, 0.7, 1.0, 2.0]),
            },
        )
        for theta in grid:
            k, alpha, beta = np.exp(theta[5]), theta[3], theta[4]
            powered = (loss - np.exp(theta[0])) ** (1.0 / k)
            a, b = _coupled.amplitudes(-alpha / k * params, -beta / k * tokens, powered)
            theta[1:3] = a * k, b * k
        grid = np.clip(grid, low, high)
        error = np.sum((law.predict(grid, columns) / loss - 1.0) ** 2, axis=-1)
        return grid[np.argsort(error, kind="stable")[:16]]

    parameters = (
        Parameter("E", *BOUNDS_LOSS),
        Parameter("A", *BOUNDS_LOSS),
        Parameter("B", *BOUNDS_LOSS),
        Parameter("alpha", *BOUNDS_EXPONENT),
        Parameter("beta", *BOUNDS_EXPONENT),
        Parameter("k", *BOUNDS_OUTER),
    )
    low = np.array([p.low for p in parameters])
    high = np.array([p.high for p in parameters])
    return Law(
        name="chinchilla_outer",
        parameters=parameters,
        predict=law.predict,
        natural=natural,
        starts=starts,
        needs={"params": 3, "tokens": 3},
        linear=(0,),
        log_gradient=law.log_gradient,
        composite=law,
    )
