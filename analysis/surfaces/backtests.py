"""How laws did on runs that they had not seen: fitted to cheap ones, asked for others.

A back-test fits a law to the runs of at most a share of a family's largest FLOPs on a
corpus and predicts the others (Tashman 2000, "Out-of-sample tests of forecasting
accuracy"). It is made as a prediction is: the curve with its bootstrap draws and the
noise of a run, so that it says how far the law was off and how far it said it might be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from analysis.design.cells import codes
from analysis.fitting.fit import Refusal
from analysis.inference import quantiles
from analysis.inference.intervals import Draws, left_out_residuals, part
from analysis.laws import Array
from analysis.surfaces.surfaces import Fitted, fit_one

# What is fitted, of the largest FLOPs of each family and corpus.
SHARES = (1 / 3, 1 / 10, 1 / 30)
# Draws of a law in a back-test: they give a variance, and no quantiles.
DRAWS = 20
# Of them so many must identify the law.
LEAST_DRAWS = 8
# Degrees of freedom of the density that scores a run: one that lies far off, as one in
# a hundred does, does not outweigh all others. Those of 3 to 8 give the same weights.
FREEDOM = 4.0


def cheaper(frame: pd.DataFrame, share: float) -> Array:
    """Marks the runs [n] of at most a share of their pair's largest FLOPs.

    A family and corpus that has no such run keeps all.
    """
    pair = [frame.family, frame.corpus]
    most = frame.flops.groupby(pair).transform("max")
    kept = frame.flops <= share * most * (1.0 + 1e-9)
    return (kept | ~kept.groupby(pair).transform("any")).to_numpy()


def below_largest(frame: pd.DataFrame) -> Array:
    """Marks the runs [n] below their own family's largest scale on their corpus.

    The largest size, or the largest budget where fewer than four sizes would leave too
    few to fix the exponent of N. A pair that has one scale alone keeps it.
    """
    out = pd.Series(True, index=frame.index)
    for _, rows in frame.groupby(["family", "corpus"]):
        scale = rows.level if rows.level.nunique() > 3 else rows.budget
        if scale.nunique() > 1:
            out[rows.index] = scale < scale.max()
    return out.to_numpy()


@dataclasses.dataclass(frozen=True)
class Backtest:
    """Runs that a law had not seen, and what it said of them; all in log loss.

    Attributes:
      observed: [h].
      curves: [1 + B, h], the fit's in row 0 and a bootstrap draw's in each other.
      noise: residuals [m] of the runs it was fitted to, each trajectory left out.
    """

    observed: Array
    curves: Array
    noise: Array

    @property
    def variance(self) -> Array:
        """Of a new run [h], as the law has it."""
        return variance(self.curves, self.noise)

    @property
    def score(self) -> float:
        """Mean log density that the law gave to what came: the higher the better."""
        # Student's t, scaled to the variance that the law claims.
        scale = np.sqrt(self.variance * (FREEDOM - 2.0) / FREEDOM)
        off = (self.observed - self.curves[0]) / scale
        return float(
            np.mean(quantiles.student_log_density(off, FREEDOM) - np.log(scale))
        )


def variance(curves: Array, noise: Array) -> Array:
    """Variance [k] of a new run's log loss: of the curve's draws, and of a run on it.

    Args:
      curves: [1 + B, k], the fit's in row 0; draws that could not identify it are NaN.
      noise: residuals [m].
    """
    drawn = curves[1:][~np.isnan(curves[1:]).any(axis=1)]
    curve = np.mean((drawn - curves[0]) ** 2, axis=0) if len(drawn) else 0.0
    return np.asarray(curve + max(float(np.mean(noise**2)), 1e-16))


@dataclasses.dataclass(frozen=True)
class Tried:
    """A law, what it leaves over [m], and itself as each back-test fits it.

    Attributes:
      below: by the share of the FLOPs, the law and its noise there.
    """

    fitted: Fitted
    noise: Array
    below: Mapping[float, tuple[Fitted, Array]]


def tried(fitted: Fitted, draws: Draws, delta: float, seed: int) -> Tried:
    """A fitted law, fitted again to the cheaper of its runs."""
    noise = left_over(fitted, draws, delta)
    below: dict[float, tuple[Fitted, Array]] = {}
    if not (noise.size and fitted.identified > 0):
        return Tried(fitted, noise, below)
    head = (fitted.family, fitted.corpus, fitted.params)

    def again(small: Draws) -> Fitted:
        rows = np.ones(small.data.loss.size, bool)
        return fit_one(fitted.law.name, head, small, rows, delta, seed, advise=False)

    for share in SHARES:
        rest = fitted.rows & ~_dearer(fitted, draws, share)
        if (rest == fitted.rows).all():
            continue
        small = _part(draws, rest, DRAWS)
        if fitted.family == "*" and not _same_names(small, draws):
            continue
        found = again(small)
        left = left_over(found, small, delta)
        if left.size and found.identified * len(small) >= LEAST_DRAWS:
            below[share] = found, left
    return Tried(fitted, noise, below)


def backtests(tried: Tried, draws: Draws, pair: Array) -> dict[float, Backtest]:
    """By share, what a law said of the dearer runs among those marked in `pair` [n]."""
    out = {}
    for share, (below, noise) in tried.below.items():
        held = _dearer(tried.fitted, draws, share) & pair & (draws.chosen > 0)
        if not held.any():
            continue
        runs = draws.data.frame[held]
        curves = log_curves(below, columns(runs, draws))
        observed = np.log(runs.loss.to_numpy(np.float64))
        out[share] = Backtest(observed, curves, noise)
    return out


def log_curves(fitted: Fitted, at: Mapping[str, Array]) -> Array:
    """Log losses [1 + B, k] of a law and its draws at places; finite or NaN."""
    assert fitted.theta is not None
    loss = fitted.law.predict(fitted.theta, at)
    return np.asarray(np.log(np.clip(loss, 1e-300, 1e300)))


def left_over(fitted: Fitted, draws: Draws, delta: float) -> Array:
    """Log residuals [m] of the runs that a fit saw, each left out of it."""
    if isinstance(fitted.outcome, Refusal):
        return np.zeros(0)
    seen = draws.chosen[fitted.rows] > 0
    columns = {name: values[seen] for name, values in fitted.columns.items()}
    predicted = fitted.law.predict(fitted.outcome.theta, columns)
    residual = np.log(draws.data.loss[fitted.rows][seen]) - np.log(predicted)
    cluster = draws.data.cluster[fitted.rows][seen]
    return left_out_residuals(fitted.outcome, columns, residual, cluster, delta)


def held_out_error(draws: Draws, again: Callable[[Draws], Fitted]) -> float:
    """RMS log error on the largest scale of a law fitted to the runs below it.

    Args:
      again: fits a law of families and corpora to draws that hold those runs alone.

    Returns:
      NaN where the runs below cannot identify the law.
    """
    rest = below_largest(draws.data.frame)
    small = _part(draws, rest, 0)
    runs = draws.data.frame[~rest & (draws.chosen > 0)]
    if runs.empty or not _same_names(small, draws):
        return np.nan
    below = again(small)
    if isinstance(below.outcome, Refusal):
        return np.nan
    predicted = below.law.predict(below.outcome.theta, columns(runs, draws))
    misses = np.log(runs.loss.to_numpy()) - np.log(predicted)
    return float(np.sqrt(np.mean(misses**2)))


def columns(runs: pd.DataFrame, draws: Draws) -> dict[str, Array]:
    """What a law reads of runs or cells, coded by the names of all runs drawn."""
    numbers = ("params", "tokens", "unique_tokens", "quality")
    families, corpora = names(draws)
    return {
        **{name: runs[name].to_numpy(float) for name in numbers if name in runs},
        "family": codes(runs.family, families),
        "corpus": codes(runs.corpus, corpora),
    }


def names(draws: Draws) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Families and corpora of the runs drawn, in the order of their codes."""
    frame = draws.data.frame
    return tuple(sorted(frame.family.unique())), tuple(sorted(frame.corpus.unique()))


def _dearer(fitted: Fitted, draws: Draws, share: float) -> Array:
    """Marks those [n] of a law's runs that a back-test holds out."""
    out = np.zeros(fitted.rows.size, bool)
    out[fitted.rows] = ~cheaper(draws.data.frame[fitted.rows], share)
    return out


def _part(draws: Draws, rows: Array, count: int) -> Draws:
    """The first draws of the runs marked in `rows` [n]."""
    return dataclasses.replace(
        draws,
        data=part(draws.data, rows),
        chosen=draws.chosen[rows],
        factors=draws.factors[:count, rows],
    )


def _same_names(small: Draws, draws: Draws) -> bool:
    """Whether no family or corpus is lost; a fit codes those that it has."""
    return names(small) == names(draws)
