"""Extrapolating one learning curve: laws fitted to its start predict its end.

Which law is right for a curve is not known, and the laws that fit its start best are
not those that predict its end best. Each is therefore scored on the last part of what
is known, fitted to the part before it, and their predictions are averaged with the
inverse of those errors as weights. Nothing beyond the given points is seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from analysis import laws
from analysis.fit import Fit, fit
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
      predicted: the weighted average, in log loss, of what the laws say.
      by_law: what each law says that the curve can identify.
      weights: of those laws, adding to 1.
      errors: root mean square of log residuals on the last part of the points, by law;
        NaN where the part before it was too short to fit.
      last: the last known loss, the prediction to beat.
    """

    predicted: Array
    by_law: Mapping[str, Array]
    weights: Mapping[str, float]
    errors: Mapping[str, float]
    last: float


def extrapolate(
    seen: Array, loss: Array, at: Array, names: Sequence[str] = LAWS
) -> Extrapolation:
    """Fits each law by least squares on log loss and averages what they say.

    Args:
      seen: examples or tokens [n]; loss: [n], above zero; at: places [k].
      names: of laws that read `tokens` alone.

    Raises:
      UserError: fewer points than any of the laws needs.
    """
    order = np.argsort(seen, kind="stable")
    seen, loss = np.asarray(seen, float)[order], np.asarray(loss, float)[order]
    first = max(LEAST_FITTED, int(np.ceil(len(seen) * (1 - SCORED))))
    by_law: dict[str, Array] = {}
    errors: dict[str, float] = {}
    for name in names:
        found = _predict(name, seen, loss, np.asarray(at, float))
        if found is None:
            continue
        by_law[name] = found
        ahead = None
        if first < len(seen):
            ahead = _predict(name, seen[:first], loss[:first], seen[first:])
        errors[name] = float("nan") if ahead is None else rmse_log(ahead, loss[first:])
    if not by_law:
        raise UserError("curve", len(seen), "more points; no law could be fitted")
    weights = _weights(errors)
    logs = sum(weights[name] * np.log(by_law[name]) for name in by_law)
    return Extrapolation(np.exp(logs), by_law, weights, errors, float(loss[-1]))


def rmse_log(predicted: Array, loss: Array) -> float:
    """Root mean square of ln predicted - ln loss."""
    return float(np.sqrt(np.mean((np.log(predicted) - np.log(loss)) ** 2)))


def _weights(errors: Mapping[str, float]) -> dict[str, float]:
    """Inverse errors, adding to 1; a law without one counts as the worst that has."""
    known = [error for error in errors.values() if np.isfinite(error)]
    worst = max(known, default=1.0)
    inverse = {
        name: 1 / max(error if np.isfinite(error) else worst, LEAST_ERROR)
        for name, error in errors.items()
    }
    total = sum(inverse.values())
    return {name: value / total for name, value in inverse.items()}


def _predict(name: str, seen: Array, loss: Array, at: Array) -> Array | None:
    """Losses [k] by a law fitted to the points, or None where they cannot give it."""
    centre = {"params": 0.0, "tokens": float(np.log(seen).mean())}
    law = laws.load(name).bind({"family": ("all",), "corpus": ("all",)}, centre)
    # Two breaks that look alike here may leave parameters unknown, not the curve.
    found = fit(law, {"tokens": seen}, loss, delta=np.inf, keep_flat=True)
    if not isinstance(found, Fit):
        return None
    return law.predict(found.theta, {"tokens": at})
