"""What single runs do to a fit: exact refits without each, and which are outliers."""

from __future__ import annotations

import dataclasses

import numpy as np

from analysis.fitting.descent import objectives
from analysis.fitting.fit import Fit, refit
from analysis.laws import Array, Columns

# Residuals that stand this many robust standard deviations out are flagged: of tails as
# heavy as those of Student's t with 3 degrees of freedom, one in a thousand. Chosen
# with the scores of the Chinchilla table in sight; see `influence`.
OUTLYING = 12.0


@dataclasses.dataclass(frozen=True)
class Influence:
    """What leaving one run out does, for each of n runs; each is an exact fit.

    Attributes:
      change: of every reported parameter, fit without the run less the fit, [n, R];
        NaN where the law cannot be identified without it.
      objective: by how much the objective falls, [n].
      score: distance from the curve that the flagged runs did not shape, in robust
        standard deviations, [n].
      flagged: [n], score above `OUTLYING`.
    """

    change: Array
    objective: Array
    score: Array
    flagged: Array


def influence(
    fitted: Fit, columns: Columns, loss: Array, weights: Array | None = None
) -> Influence:
    """What leaving each run out does to the fit, by exact refits in one batch.

    Runs are flagged by their residual, against the spread of the inner half. Outliers
    hide each other, since those that stay pull the curve to those left out: so the
    flagged ones leave, the rest is fitted again, and so on until none is flagged anew
    (Hadi and Simonoff 1993).

    The threshold is a convention and no test. It was set after seeing that the fifth of
    the Chinchilla table's outliers scores 12.4 and the next run 10.3. A test against
    tails estimated from the residuals themselves (a fitted Student's t of about 2
    degrees of freedom, the chance of the largest of n below 5%) names none of the five
    in the first round, since they are what makes the tails that heavy, and four of
    them when it is fitted to the other 240.

    Args:
      columns, loss, weights: those of the fit, [n].
    """
    loss = np.asarray(loss, np.float64)
    weights = np.ones_like(loss) if weights is None else np.asarray(weights, float)
    law, delta, scale = fitted.law, fitted.delta, fitted.scale
    without = weights * (1.0 - np.eye(loss.size))
    theta = refit(fitted, columns, loss, without)
    known = ~np.isnan(theta[:, 0])
    change = np.full((loss.size, fitted.values.size), np.nan)
    change[known] = law.natural(theta[known]) - fitted.values
    drop = np.full(loss.size, np.nan)
    for row in np.flatnonzero(known):
        at = theta[row : row + 1]
        left = objectives(law, columns, loss, without[row], at, delta, scale)
        drop[row] = fitted.objective - left[0]
    score = _scores(fitted, columns, loss, weights)
    return Influence(change, drop, score, (score > OUTLYING) & (weights > 0))


def _scores(fitted: Fit, columns: Columns, loss: Array, weights: Array) -> Array:
    """Residuals [n] from the fit without the outlying runs, in its robust spreads."""
    theta, kept = fitted.theta, weights > 0
    while True:
        predicted = fitted.law.predict(theta, columns)
        raw = fitted.scale == "raw"
        residual = predicted - loss if raw else np.log(predicted) - np.log(loss)
        low, middle, high = np.quantile(residual[kept], [0.25, 0.5, 0.75])
        # The inner half of a normal distribution is 1.349 standard deviations wide;
        # residuals of an exact fit are rounding.
        spread = max((high - low) / 1.349, 1e-9)
        score = np.abs(residual - middle) / spread
        new = kept & (score > OUTLYING)
        if not new.any():
            return score
        kept = kept & ~new
        found = refit(fitted, columns, loss, (weights * kept)[None])[0]
        if np.isnan(found).any():
            return score
        theta = found
