"""Loss that falls by the same amount for each factor: L = a - b ln N - c ln D.

The straight line that many draw by hand; it has no floor, so it is a law for short
ranges only. `scaling-analysis fit runs.csv --law log_linear --include log_linear.py`.
"""

import numpy as np

from analysis.laws import Law, Parameter


def bind(levels, centre):
    """Coordinates: ln of the loss at the centre, and b and c as shares of it."""

    def lines(columns):
        n = np.log(columns["params"]) - centre["params"]
        d = np.log(columns["tokens"]) - centre["tokens"]
        return n, d

    def predict(theta, columns):
        middle, b, c = np.moveaxis(theta[..., None], -2, 0)
        n, d = lines(columns)
        return np.exp(middle) * np.maximum(1 - b * n - c * d, 1e-6)

    def natural(theta):
        middle, b, c = np.moveaxis(theta, -1, 0)
        middle = np.exp(middle)
        a = middle * (1 + b * centre["params"] + c * centre["tokens"])
        return np.stack([a, middle * b, middle * c], axis=-1)

    def starts(columns, loss):
        middle = np.log(np.median(loss))
        slopes = (0.01, 0.1, 0.3)
        return np.array([(middle, b, c) for b in slopes for c in slopes])

    return Law(
        name="log_linear",
        parameters=(
            Parameter("a", np.log(1e-4), np.log(1e4)),
            Parameter("b", 0.0, 1.0),
            Parameter("c", 0.0, 1.0),
        ),
        predict=predict,
        natural=natural,
        starts=starts,
        needs={"params": 2, "tokens": 2},
    )
