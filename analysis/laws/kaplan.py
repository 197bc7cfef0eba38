"""Coupled law without a floor: L = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D.

Kaplan et al. 2020, "Scaling laws for neural language models", equation 1.5; their
constants are alpha_N .076, alpha_D .103, N_c 6.4e13, D_c 1.8e13, with N counted without
embeddings. With unlimited data it is (N_c / N)^alpha_N, with unlimited size
(D_c / D)^alpha_D.

Columns: params, tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter, _coupled

BOUNDS_EXPONENT = (0.01, 3.0)


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates: ln loss at the centre by N alone and by D alone, the exponents."""

    def logs(columns: Columns) -> tuple[Array, Array]:
        params = np.log(columns["params"]) - centre["params"]
        return params, np.log(columns["tokens"]) - centre["tokens"]

    def designs(columns: Columns) -> Array:
        params, tokens = logs(columns)
        x = np.zeros((3, params.size, 4))
        x[0, :, 0] = x[1, :, 1] = x[2, :, 3] = 1.0
        x[0, :, 2], x[1, :, 3] = -params, -tokens
        return x

    def natural(theta: Array) -> Array:
        u, v, alpha_n, alpha_d = np.moveaxis(theta, -1, 0)
        n_c = np.exp(np.minimum(u / alpha_n + centre["params"], 700.0))
        d_c = np.exp(np.minimum(v / alpha_d + centre["tokens"], 700.0))
        return np.stack([n_c, d_c, alpha_n, alpha_d], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        params, tokens = logs(columns)
        theta = []
        for n in np.geomspace(0.03, 1.0, 5):
            for d in np.geomspace(0.03, 1.0, 5):
                powered = loss ** (1.0 / d)
                a, b = _coupled.amplitudes(-n / d * params, -tokens, powered)
                theta.append([a * d, b * d, n, d])
        return np.clip(theta, *np.array([BOUNDS_LOSS] * 2 + [BOUNDS_EXPONENT] * 2).T)

    law = _coupled.Coupled(designs, floor=False)
    return Law(
        name="kaplan",
        parameters=(
            Parameter("N_c", *BOUNDS_LOSS),
            Parameter("D_c", *BOUNDS_LOSS),
            Parameter("alpha_N", *BOUNDS_EXPONENT),
            Parameter("alpha_D", *BOUNDS_EXPONENT),
        ),
        predict=law.predict,
        natural=natural,
        starts=starts,
        needs={"params": 2, "tokens": 2},
        log_gradient=law.log_gradient,
        composite=law,
    )
