"""Laws of the form E + A / N^a + B / D^b, whatever their exponents are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from analysis.laws import BOUNDS_LOSS, Array, Columns, Law, Parameter
from analysis.laws._exponentials import Exponentials

BOUNDS_EXPONENT = (0.01, 3.0)
AMPLITUDES = tuple(Parameter(name, *BOUNDS_LOSS) for name in ("E", "A", "B"))

# What is reported of the exponents' coordinates: [..., Q] -> a, b and the others.
Natural = Callable[[Array], tuple[Array, Array, list[Array]]]


def law(
    name: str,
    centre: Mapping[str, float],
    exponents: Sequence[Parameter],
    slopes: Callable[[Columns, Array, Array], Array],
    natural: Natural,
    starts: Array,
    levels: int,
    columns: tuple[str, ...] = ("params", "tokens"),
) -> Law:
    """Coordinates: ln E, ln A and ln B at the centre, then those of the exponents.

    Args:
      slopes: (columns, ln N, ln D), logs [n] from the centre -> what the exponents'
        coordinates multiply in the terms of N and D, [2, n, Q].
      natural: of the exponents' coordinates.
      starts: exponents' coordinates [S, Q].
      levels: how many of params and of tokens the law needs.
    """

    def designs(columns: Columns) -> Array:
        params = np.log(columns["params"]) - centre["params"]
        tokens = np.log(columns["tokens"]) - centre["tokens"]
        x = np.zeros((3, params.size, 3 + len(exponents)))
        x[0, :, 0] = x[1, :, 1] = x[2, :, 2] = 1.0
        x[1:, :, 3:] = slopes(columns, params, tokens)
        return x

    def reported(theta: Array) -> Array:
        e, a, b = np.moveaxis(theta[..., :3], -1, 0)
        alpha, beta, values = natural(theta[..., 3:])
        a = np.exp(np.minimum(a + alpha * centre["params"], 700.0))
        b = np.exp(np.minimum(b + beta * centre["tokens"], 700.0))
        return np.stack([np.exp(e), a, b, *values], axis=-1)

    sums = Exponentials(designs)
    return Law(
        name=name,
        parameters=(*AMPLITUDES, *exponents),
        predict=sums.predict,
        natural=reported,
        starts=lambda columns, loss: np.pad(starts, ((0, 0), (3, 0))),
        needs={"params": levels, "tokens": levels},
        columns=columns,
        linear=(0, 1, 2),
        log_gradient=sums.log_gradient,
        log_curvature=sums.log_curvature,
        designs=sums.designs,
    )
