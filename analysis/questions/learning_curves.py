"""Extrapolating learning curves: laws fitted to their start predict their end.

Which law is right for a curve is not known, and the laws that fit its start best are
not those that predict its end best. So several predict, and their log losses are
averaged. What a law counts for is learnt from the given points alone: it is fitted to
the first half of a curve, then to more and more of it, and asked for the rest each time
(rolling origin; Tashman 2000). Laws count in inverse proportion to the square of what
they missed by, which is the best average of forecasts whose errors are independent
(Bates and Granger 1969). One curve says little about its laws, so that its own errors
and those over all curves of its kind count alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from analysis import laws
from analysis.fitting.fit import Fit, fit
from analysis.laws import Array
from scaling.errors import UserError

# M2, M3 and M4 of Alabdulmohsin et al. 2022, and Caballero et al. 2023 with one break.
LAWS = ("power", "m3", "m4", "bnsl")
# Shares of the points that laws are fitted to, and asked for the rest.
ORIGINS = (1 / 2, 3 / 5, 2 / 3, 3 / 4, 4 / 5, 9 / 10)
LEAST_FITTED = 6
# An error below this is luck: log loss is not known better.
LEAST_ERROR = 1e-4


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """Losses at the places asked for, [k].

    Attributes:
      predicted: the weighted average, in log loss, of what the laws say.
      by_law: what each law says that the curve can identify.
      weights: how much each of them counts, adding up to 1.
      last: the last known loss, the prediction to beat.
    """

    predicted: Array
    by_law: Mapping[str, Array]
    weights: Mapping[str, float]
    last: float


def choose(
    curves: Sequence[tuple[Array, Array]], names: Sequence[str] = LAWS
) -> dict[str, float]:
    """The laws for curves of one kind, and how well they foretell what is held out.

    A law's number is the mean over the curves of the log of its error, less that of all
    laws on the same curve: below zero is better than most. A law that no curve can be
    asked for has none; where no curve holds points enough all laws have 0.

    Args:
      curves: of each, examples or tokens [n] and loss [n].
    """
    return _means([_errors(*curve, names) for curve in curves]) or dict.fromkeys(
        names, 0.0
    )


def extrapolate(
    seen: Array,
    loss: Array,
    at: Array,
    names: Collection[str] | Mapping[str, float] = LAWS,
) -> Extrapolation:
    """Fits each law by least squares on log loss and averages what they say.

    Args:
      seen: examples or tokens [n]; loss: [n], above zero; at: places [k].
      names: of laws that read `tokens` alone; what `choose` says of curves of the same
        kind counts as much as what this curve says itself.

    Raises:
      UserError: fewer points than any of the laws needs.
    """
    seen, loss = _sorted(seen, loss)
    by_law = _predict(list(names), seen, loss, np.asarray(at, float))
    if not by_law:
        raise UserError("curve", len(seen), "more points; no law could be fitted")
    own = _errors(seen, loss, list(by_law)) if len(by_law) > 1 else {}
    kind = names if isinstance(names, Mapping) else {}
    weights = _weights(list(by_law), own, kind)
    logs = [weight * np.log(by_law[name]) for name, weight in weights.items()]
    predicted = np.asarray(np.exp(np.sum(logs, axis=0)))
    return Extrapolation(predicted, by_law, weights, float(loss[-1]))


def rmse_log(predicted: Array, loss: Array) -> float:
    """Root mean square of ln predicted - ln loss."""
    return float(np.sqrt(np.mean((np.log(predicted) - np.log(loss)) ** 2)))


def _sorted(seen: Array, loss: Array) -> tuple[Array, Array]:
    order = np.argsort(seen, kind="stable")
    return np.asarray(seen, float)[order], np.asarray(loss, float)[order]


def _errors(seen: Array, loss: Array, names: Sequence[str]) -> dict[str, float]:
    """Mean over the origins of each law's log error, less that of all laws there.

    Empty where the curve is too short to hold points out.
    """
    seen, loss = _sorted(seen, loss)
    counts = {max(LEAST_FITTED, int(np.ceil(len(seen) * share))) for share in ORIGINS}
    found = []
    for first in sorted(count for count in counts if count < len(seen)):
        ahead = _predict(names, seen[:first], loss[:first], seen[first:])
        logs = {
            name: float(np.log(max(rmse_log(said, loss[first:]), LEAST_ERROR)))
            for name, said in ahead.items()
        }
        middle = float(np.mean(list(logs.values()))) if logs else 0.0
        found.append({name: value - middle for name, value in logs.items()})
    return _means(found)


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each name's numbers, over those that have one."""
    names = dict.fromkeys(name for one in found for name in one)
    return {
        name: float(np.mean([one[name] for one in found if name in one]))
        for name in names
    }


def _weights(
    names: Sequence[str], own: Mapping[str, float], kind: Mapping[str, float]
) -> dict[str, float]:
    """How much each law counts, by the errors of the curve and of all of its kind."""
    parts = [errors for errors in (own, kind) if errors]
    known = [name for name in names if all(name in errors for errors in parts)]
    # Laws for which nothing could be held out are alike.
    logs = {
        name: float(np.mean([errors[name] for errors in parts] or [0.0]))
        for name in known
    } or dict.fromkeys(names, 0.0)
    shares = {name: float(np.exp(-2.0 * log)) for name, log in logs.items()}
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


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
