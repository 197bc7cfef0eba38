"""Extrapolating learning curves: laws fitted to their start predict their end.

Which law is right for a curve is not known, and the laws that fit its start best are
not those that predict its end best. So several predict, and their log losses are
averaged. What a law counts for is learnt from the given points alone: it is fitted to
the first half of a curve, then to more and more of it, and asked for the rest each time
(rolling origin; Tashman 2000). The weights, none below zero and adding up to 1, are
those of the average that would have missed these points least, by its squared error
(stacking; Breiman 1996, "Stacked regressions"). One curve says little about its laws,
so that its own weights and the mean of those of all curves of its kind count alike,
where the kind is given.
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
    """What each law counts for on curves of one kind: the mean over the curves.

    Curves too short to hold points out say nothing; where all are, laws count alike.

    Args:
      curves: of each, examples or tokens [n] and loss [n].
    """
    known = [found for curve in curves if (found := _stacked(*curve, names))]
    total = {name: sum(one.get(name, 0.0) for one in known) for name in names}
    return _scaled(total) if known else _scaled(dict.fromkeys(names, 1.0))


def extrapolate(
    seen: Array,
    loss: Array,
    at: Array,
    names: Collection[str] | Mapping[str, float] = LAWS,
) -> Extrapolation:
    """Fits each law by least squares on log loss and averages what they say.

    Args:
      seen: examples or tokens [n]; loss: [n], above zero; at: places [k].
      names: of laws that read `tokens` alone; the weights that `choose` gives them for
        curves of the same kind count as much as what this curve says itself.

    Raises:
      UserError: fewer points than any of the laws needs.
    """
    seen, loss = _sorted(seen, loss)
    by_law = _predict(list(names), seen, loss, np.asarray(at, float))
    if not by_law:
        raise UserError("curve", len(seen), "more points; no law could be fitted")
    own = _stacked(seen, loss, list(by_law)) if len(by_law) > 1 else {}
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


def _stacked(seen: Array, loss: Array, names: Sequence[str]) -> dict[str, float]:
    """Weights of the average that misses least of what is held out.

    Of the laws that could be fitted at all origins. Empty where there is none, or the
    curve is too short to hold points out.
    """
    seen, loss = _sorted(seen, loss)
    counts = {max(LEAST_FITTED, int(np.ceil(len(seen) * share))) for share in ORIGINS}
    found = []
    for first in sorted(count for count in counts if count < len(seen)):
        ahead = _predict(names, seen[:first], loss[:first], seen[first:])
        truth = np.log(loss[first:])
        found.append({name: np.log(said) - truth for name, said in ahead.items()})
    known = [name for name in names if found and all(name in one for one in found)]
    from scipy.optimize import nnls

    if not known:
        return {}
    blocks = []
    for one in found:
        misses = np.stack([one[name] for name in known], axis=1)
        size = np.sqrt((misses**2).mean(axis=0))
        # An origin counts as another does, however many points it leaves and however
        # far off all laws are.
        scale = np.exp(np.log(np.maximum(size, LEAST_ERROR)).mean())
        blocks.append(misses / (scale * np.sqrt(len(misses) * len(found))))
        # Below its least error a law's miss is luck, of each law by itself.
        lucky = np.eye(len(known)) * LEAST_ERROR
        blocks.append(lucky / (scale * np.sqrt(len(found))))
    # Least |C w| with w >= 0 that add up to 1. The row of ones asks for that sum, and
    # whatever the least squares make of it, x is a multiple of w.
    system = np.concatenate([*blocks, np.ones((1, len(known)))])
    wanted = np.zeros(len(system))
    wanted[-1] = 1.0
    solved, _ = nnls(system, wanted)
    return _scaled(dict(zip(known, (float(x) for x in solved), strict=True)))


def _scaled(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _weights(
    names: Sequence[str], own: Mapping[str, float], kind: Mapping[str, float]
) -> dict[str, float]:
    """How much each law counts, by the curve and by all of its kind."""
    # Of the kind's those laws that the curve could be given.
    kept = {name: kind[name] for name in names if kind.get(name, 0.0) > 0}
    parts = [part for part in (own, _scaled(kept) if kept else {}) if part]
    if not parts:
        # Laws for which nothing could be held out are alike.
        return _scaled(dict.fromkeys(names, 1.0))
    return _scaled({n: sum(part.get(n, 0.0) for part in parts) for n in names})


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
