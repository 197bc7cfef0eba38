"""Extrapolating learning curves: laws fitted to their start predict their end.

Which law is right for a curve is not known, and the laws that fit its start best are
not those that predict its end best. So several predict and their log losses are
averaged, with equal weights: weights estimated from few points cost more than they win
(Clemen 1989, "Combining forecasts", section 4). Which laws take part is chosen for all
curves of a kind together, by how well they foretell the last part of what is known from
the part before it. Nothing beyond the given points is seen.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from analysis import laws
from analysis.fitting.fit import Fit, fit
from analysis.laws import Array
from scaling.errors import UserError

# M2, M3 and M4 of Alabdulmohsin et al. 2022, and Caballero et al. 2023 with one break.
LAWS = ("power", "m3", "m4", "bnsl")
# The part of the points, the last ones, that laws are scored on.
SCORED = 1 / 3
LEAST_FITTED = 6
# An error below this is luck: log loss is not known better.
LEAST_ERROR = 1e-4


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """Losses at the places asked for, [k].

    Attributes:
      predicted: the average, in log loss, of what the laws say.
      by_law: what each law says that the curve can identify.
      last: the last known loss, the prediction to beat.
    """

    predicted: Array
    by_law: Mapping[str, Array]
    last: float


def choose(
    curves: Sequence[tuple[Array, Array]], names: Sequence[str] = LAWS
) -> tuple[str, ...]:
    """The laws whose average best foretells the last third of what is known.

    Every set of the laws is tried, on all curves: the error is the geometric mean over
    them of the root mean square of log residuals. Curves that are too short to hold a
    third out, or of which no law of a set can be fitted, do not count for it; where
    none is left all laws are chosen.

    Args:
      curves: of each, examples or tokens [n] and loss [n].
    """
    ahead = [parts for curve in curves if (parts := _ahead(*curve, names))]
    errors = {}
    for size in range(1, len(names) + 1):
        for chosen in itertools.combinations(names, size):
            found = [
                rmse_log(_average([by_law[name] for name in known]), loss)
                for by_law, loss in ahead
                if (known := [name for name in chosen if name in by_law])
            ]
            if found:
                logs = np.log(np.maximum(found, LEAST_ERROR))
                errors[chosen] = float(logs.mean())
    return min(errors, key=lambda chosen: errors[chosen]) if errors else tuple(names)


def extrapolate(
    seen: Array, loss: Array, at: Array, names: Sequence[str] = LAWS
) -> Extrapolation:
    """Fits each law by least squares on log loss and averages what they say.

    Args:
      seen: examples or tokens [n]; loss: [n], above zero; at: places [k].
      names: of laws that read `tokens` alone; `choose` says which.

    Raises:
      UserError: fewer points than any of the laws needs.
    """
    seen, loss = _sorted(seen, loss)
    by_law = _predict(names, seen, loss, np.asarray(at, float))
    if not by_law:
        raise UserError("curve", len(seen), "more points; no law could be fitted")
    return Extrapolation(_average(list(by_law.values())), by_law, float(loss[-1]))


def rmse_log(predicted: Array, loss: Array) -> float:
    """Root mean square of ln predicted - ln loss."""
    return float(np.sqrt(np.mean((np.log(predicted) - np.log(loss)) ** 2)))


def _sorted(seen: Array, loss: Array) -> tuple[Array, Array]:
    order = np.argsort(seen, kind="stable")
    return np.asarray(seen, float)[order], np.asarray(loss, float)[order]


def _average(losses: Sequence[Array]) -> Array:
    return np.asarray(np.exp(np.mean(np.log(losses), axis=0)))


def _ahead(
    seen: Array, loss: Array, names: Sequence[str]
) -> tuple[dict[str, Array], Array] | None:
    """The last part of a curve by each law fitted to the rest, and what it was."""
    seen, loss = _sorted(seen, loss)
    first = max(LEAST_FITTED, int(np.ceil(len(seen) * (1 - SCORED))))
    if first >= len(seen):
        return None
    return _predict(names, seen[:first], loss[:first], seen[first:]), loss[first:]


def _predict(
    names: Sequence[str], seen: Array, loss: Array, at: Array
) -> dict[str, Array]:
    """Losses [k] by each law fitted to the points that can give it."""
    centre = {"params": 0.0, "tokens": float(np.log(seen).mean())}
    out = {}
    for name in names:
        law = laws.load(name).bind({"family": ("all",), "corpus": ("all",)}, centre)
        # Points that leave some parameters unknown still show where the curve goes.
        found = fit(law, {"tokens": seen}, loss, delta=np.inf, keep_flat=True)
        if isinstance(found, Fit):
            out[name] = law.predict(found.theta, {"tokens": at})
    return out
