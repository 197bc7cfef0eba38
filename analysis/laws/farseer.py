"""Coupled law whose data term depends on the size:

    L = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^-exp(a1 N^alpha + b1)

Li et al. 2025, "Farseer: a refined scaling law in large language models" (arXiv
2506.10972), equation 3: the first term is the loss with unlimited data, and both the
amplitude and the exponent of the second are stretched exponentials of the size.

Columns: params, tokens. Nine parameters: four sizes or more, and a wide grid.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter, _starts

BOUNDS_EXPONENT = (np.log(0.01), np.log(3.0))
BOUNDS_SLOPE = (-3.0, 3.0)
BOUNDS_POWER = (-2.0, 2.0)
# A power nearer to zero is taken as a logarithm, which it tends to.
SMALL = 1e-4


def _stretch(power: Array, logs: Array) -> tuple[Array, Array]:
    """(e^(power x) - 1) / power and its derivative by power; x and x^2 / 2 near 0."""
    near = np.abs(power) < SMALL
    safe = np.where(near, 1.0, power)
    grown = np.expm1(np.clip(safe * logs, -300.0, 300.0))
    value = np.where(near, logs * (1.0 + 0.5 * power * logs), grown / safe)
    slope = (logs * (grown + 1.0) - grown / safe) / safe
    return value, np.where(near, logs**2 * (0.5 + power * logs / 3.0), slope)


def bind(levels: Mapping[str, tuple[str, ...]], centre: Mapping[str, float]) -> Law:
    """Coordinates, all at the centre: ln of the first term, its slope by ln N, gamma;
    ln of the second term, its slope by ln N, beta; ln of the exponent of D, its slope
    by ln N, alpha. In them the three parts are nearly uncorrelated.
    """
    c_n, c_d = centre["params"], centre["tokens"]

    def terms(
        theta: Array, columns: Columns
    ) -> tuple[Array, Array, tuple[Array, ...], tuple[Array, ...]]:
        """Logs of the two terms, and their derivatives by their own coordinates."""
        params = np.log(columns["params"]) - c_n
        tokens = np.log(columns["tokens"])
        r3, s3, gamma, r2, s2, beta, r1, s1, alpha = np.moveaxis(
            theta[..., None], -2, 0
        )
        phi3, by_gamma = _stretch(gamma, params)
        phi2, by_beta = _stretch(beta, params)
        phi1, by_alpha = _stretch(alpha, params)
        power = np.exp(np.clip(r1 + s1 * phi1, -50.0, 10.0))
        middle = np.exp(r1) * c_d
        first = r3 + s3 * phi3
        second = r2 + middle + (s2 + s1 * middle) * phi2 - power * tokens
        by_first = (np.ones_like(phi3), phi3, s3 * by_gamma)
        pull = power * tokens
        by_second = (
            *(np.ones_like(phi2), phi2, (s2 + s1 * middle) * by_beta),
            middle * (1.0 + s1 * phi2) - pull,
            middle * phi2 - pull * phi1,
            -pull * s1 * by_alpha,
        )
        return first, np.clip(second, -700.0, 300.0), by_first, by_second

    def predict(theta: Array, columns: Columns) -> Array:
        first, second, *_ = terms(theta, columns)
        return np.exp(np.clip(first, -700.0, 300.0)) + np.exp(second)

    def log_gradient(theta: Array, columns: Columns) -> Array:
        first, second, by_first, by_second = terms(theta, columns)
        share = 1.0 / (1.0 + np.exp(np.clip(first - second, -700.0, 700.0)))
        parts = [(1.0 - share) * part for part in by_first]
        return np.stack([*parts, *(share * part for part in by_second)], axis=-1)

    def natural(theta: Array) -> Array:
        r3, s3, gamma, r2, s2, beta, r1, s1, alpha = np.moveaxis(theta, -1, 0)
        middle = np.exp(r1) * c_d
        out = []
        for level, slope, power in (
            (r1, s1, alpha),
            (r2 + middle, s2 + s1 * middle, beta),
            (r3, s3, gamma),
        ):
            # A power of zero has no a and b of its own: the nearest that has.
            power = np.where(np.abs(power) < SMALL, SMALL, power)
            a = slope / power * np.exp(-power * c_n)
            out += [a, level - slope / power, power]
        return np.stack(out, axis=-1)

    def starts(columns: Columns, loss: Array) -> Array:
        candidates = _starts.grid(
            9,
            {
                1: (-0.15, -0.05),
                2: (-0.3, 0.2),
                4: (-0.2, -0.05, 0.1),
                5: (-0.2, 0.2),
                6: np.log([0.2, 0.35, 0.55]),
                7: (-0.05, 0.0, 0.05),
                8: (-0.2, 0.2),
            },
        )
        return _starts.best(predict, (0, 3), candidates, columns, loss, 16)

    shapes = (BOUNDS_SLOPE, BOUNDS_POWER)
    names = (
        *(("b3", BOUNDS_LOSS), ("a3", shapes[0]), ("gamma", shapes[1])),
        *(("b2", BOUNDS_LOSS), ("a2", shapes[0]), ("beta", shapes[1])),
        *(("b1", BOUNDS_EXPONENT), ("a1", shapes[0]), ("alpha", shapes[1])),
    )
    parameters = tuple(Parameter(name, *bounds) for name, bounds in names)
    by_name = {p.name: p for p in parameters}
    order = ("a1", "b1", "alpha", "a2", "b2", "beta", "a3", "b3", "gamma")
    return Law(
        name="farseer",
        parameters=parameters,
        reported=tuple(by_name[name] for name in order),
        predict=predict,
        natural=natural,
        starts=starts,
        needs={"params": 4, "tokens": 4},
        linear=(0, 3),
        log_gradient=log_gradient,
    )
