"""Additive law of repeated data: L = E + A / N'^alpha + B / D'^beta, where

    D' = U_D + U_D R*_D (1 - exp(-R_D / R*_D)),  R_D = D / U_D - 1
    N' = U_N + U_N R*_N (1 - exp(-R_N / R*_N)),  R_N = N / U_N - 1

Muennighoff et al. 2023, "Scaling data-constrained language models", equations 5 and 6.
U_D is the unique data, R_D how often it was repeated beyond the first epoch: R*_D
repetitions on, a repeated token is worth 1 / e of a new one. U_N is the size that is
compute-optimal for U_D tokens, or N if that is less: G (G U_D)^(beta / alpha) with
G = (alpha A / (beta B))^(1 / (alpha + beta)); parameters beyond it decay alike. Their
constants are R*_D 15.39, R*_N 5.31, alpha = beta = .3527, A 521, B 1488, E 1.87.

Columns: params, tokens (seen, over all epochs), unique_tokens.

Options of `bind`: excess, True by default; False leaves N' at N, as their fit of data
alone does (R*_D 2.9).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter, _starts

BOUNDS_EXPONENT = (0.01, 3.0)
BOUNDS_DECAY = (np.log(0.02), np.log(1e4))


def effective(unique: Array, ratio: Array, decay: Array) -> Array:
    """ln of what `ratio` times as much as there is unique is worth; all but it logs."""
    r = np.exp(decay)
    return unique + np.log1p(-r * np.expm1(-(np.maximum(ratio, 1.0) - 1.0) / r))


def bind(
    levels: Mapping[str, tuple[str, ...]],
    centre: Mapping[str, float],
    excess: bool = True,
) -> Law:
    """Coordinates: ln E, ln A and ln B at the centre, alpha, beta, ln R*_D, ln R*_N."""
    c_n, c_d = centre["params"], centre["tokens"]

    def logs(columns: Columns) -> tuple[Array, Array, Array]:
        """ln N and ln U_D over the centre, and epochs D / U_D, [n]."""
        unique = np.minimum(columns["unique_tokens"], columns["tokens"])
        epochs = columns["tokens"] / unique
        return np.log(columns["params"]) - c_n, np.log(unique) - c_d, epochs

    def optimal(theta: Array, unique: Array) -> Array:
        """ln of the size that is compute-optimal for the unique data, over the centre.

        There alpha A / N^alpha = beta B / D^beta, and the amplitudes at the centre say
        so for sizes and data relative to it.
        """
        _, a, b, alpha, beta, *_ = np.moveaxis(theta[..., None], -2, 0)
        return (np.log(alpha / beta) + a - b + beta * unique) / alpha

    def predict(theta: Array, columns: Columns) -> Array:
        params, unique, epochs = logs(columns)
        e, a, b, alpha, beta, decay, *rest = np.moveaxis(theta[..., None], -2, 0)
        data = effective(unique, epochs, decay)
        size = params
        if excess:
            enough = np.minimum(optimal(theta, unique), params)
            ratio = np.exp(np.minimum(params - enough, 300.0))
            size = effective(enough, ratio, rest[0])
        return np.exp(e) + np.exp(a - alpha * size) + np.exp(b - beta * data)

    def natural(theta: Array) -> Array:
        e, a, b, alpha, beta, *decays = np.moveaxis(theta, -1, 0)
        a = np.exp(np.minimum(a + alpha * c_n, 700.0))
        b = np.exp(np.minimum(b + beta * c_d, 700.0))
        return np.stack([np.exp(e), a, b, alpha, beta, *np.exp(decays)], axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        grid = np.array([0.15, 0.3, 0.5, 0.9])
        decay = np.log([2.0, 15.0])
        values = {3: grid, 4: grid, 5: decay} | ({6: decay} if excess else {})
        candidates = _starts.grid(3 + len(values), values)
        return _starts.best(predict, (0, 1, 2), candidates, columns, loss, 16)

    parameters = (
        Parameter("E", *BOUNDS_LOSS),
        Parameter("A", *BOUNDS_LOSS),
        Parameter("B", *BOUNDS_LOSS),
        Parameter("alpha", *BOUNDS_EXPONENT),
        Parameter("beta", *BOUNDS_EXPONENT),
        Parameter("R*_D", *BOUNDS_DECAY),
        *([Parameter("R*_N", *BOUNDS_DECAY)] if excess else []),
    )
    return Law(
        name="data_constrained" if excess else "data_constrained (data alone)",
        parameters=parameters,
        predict=predict,
        natural=natural,
        starts=starts,
        needs={"params": 3, "tokens": 3},
        columns=("params", "tokens", "unique_tokens"),
        # A and B also place U_N, so that the loss is linear in E alone.
        linear=(0,) if excess else (0, 1, 2),
    )
