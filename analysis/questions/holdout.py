"""The largest cells, set aside before any fit and predicted by every law afterwards.

A prediction has three uncertainties, kept apart: of the curve (the bootstrap draws of
one law), of a new run on it (the noise that the law leaves over, each trajectory left
out of the fit), and of the law itself. For the last, several laws that the training
rows cannot tell apart predict together, each by its weight. Weights come from the
training rows alone: every law is fitted without their largest scale and asked for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis import laws
from analysis.design.cells import codes
from analysis.fitting.fit import Refusal
from analysis.inference.intervals import (
    Draws,
    interval,
    left_out_residuals,
    mixture,
    new_run,
    part,
)
from analysis.laws import Array
from analysis.surfaces.surfaces import Fitted, Surfaces, fit_one

# A family and corpus with fewer cells has none to spare.
LEAST_CELLS = 8
# Draws of the laws that are fitted for their prediction alone.
LAW_DRAWS = 60
MIXTURE = "mixture"


def largest(frame: pd.DataFrame) -> Array:
    """Marks the runs [n] of the largest cell, by FLOPs, of each family and corpus.

    A cell is set aside whole, with all its settings and seeds. A family and corpus with
    fewer than `LEAST_CELLS` cells keeps all of them.
    """
    out = pd.Series(False, index=frame.index)
    for _, rows in frame.groupby(["family", "corpus"]):
        if rows.cell.nunique() < LEAST_CELLS:
            continue
        out[rows.index[rows.cell == rows.cell[rows.flops.idxmax()]]] = True
    return out.to_numpy()


def below_largest(frame: pd.DataFrame) -> Array:
    """Marks the runs [n] below the largest scale of `level` or `budget`.

    The largest size, or the largest budget where fewer than four sizes would leave too
    few to tell the exponent of N.
    """
    scale = frame.level if frame.level.nunique() > 3 else frame.budget
    return (scale < scale.max()).to_numpy()


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A law that may predict beyond the runs of one family and corpus.

    Attributes:
      error: RMS log error on their largest scale of the law fitted to the rest; NaN
        where the rest cannot identify it.
      noise: log residuals [m] with each trajectory left out.
    """

    fitted: Fitted
    error: float
    noise: Array


@dataclasses.dataclass(frozen=True)
class Tried:
    """A law, what it leaves over [m], and itself without the largest scale's runs."""

    fitted: Fitted
    noise: Array
    below: Fitted | None


def candidates(
    surfaces: Surfaces,
    family: str,
    corpus: str,
    delta: float,
    seed: int,
    joint: Tried | None = None,
) -> list[Candidate]:
    """The laws of size and data that its runs identify: its own first, then others.

    Args:
      joint: the joint law, where it has been tried for another pair.
    """
    draws = surfaces.draws
    fewer = dataclasses.replace(draws, factors=draws.factors[:LAW_DRAWS])
    own = surfaces.single.get((family, corpus))
    found = []
    if own is not None:
        found = [own] + [
            fit_one(name, (family, corpus, np.nan), fewer, own.rows, delta, seed)
            for name in _of_size_and_data()
            if name != own.law.name
        ]
    tried = [_tried(fitted, surfaces, delta, seed) for fitted in found]
    tried.insert(1, joint or _tried(surfaces.joint, surfaces, delta, seed))
    frame = surfaces.data.frame
    pair = ((frame.family == family) & (frame.corpus == corpus)).to_numpy()
    return [
        Candidate(one.fitted, _error(surfaces, one.below, pair), one.noise)
        for one in tried
        if one.fitted.identified > 0 and one.noise.size
    ]


def _of_size_and_data() -> list[str]:
    names = {"family": ("",), "corpus": ("",)}
    centre = {"params": 0.0, "tokens": 0.0}
    return [
        name
        for name in laws.names()
        if {*laws.load(name).bind(names, centre).columns} == {"params", "tokens"}
    ]


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


def _tried(fitted: Fitted, surfaces: Surfaces, delta: float, seed: int) -> Tried:
    noise = left_over(fitted, surfaces.draws, delta)
    rest = below_largest(surfaces.data.frame)
    if not (noise.size and fitted.identified > 0 and (rest & fitted.rows).any()):
        return Tried(fitted, noise, None)
    head = (fitted.family, fitted.corpus, fitted.params)

    def again(small: Draws) -> Fitted:
        rows = fitted.rows[rest]
        return fit_one(fitted.law.name, head, small, rows, delta, seed)

    return Tried(fitted, noise, _below(surfaces, again))


def held_out_error(surfaces: Surfaces, again: Callable[[Draws], Fitted]) -> float:
    """RMS log error on the largest scale of a law fitted to the runs below it.

    Args:
      again: fits the law to draws that hold those runs alone.

    Returns:
      NaN where the runs below cannot identify the law.
    """
    every = np.ones(surfaces.data.loss.size, bool)
    return _error(surfaces, _below(surfaces, again), every)


def _below(surfaces: Surfaces, again: Callable[[Draws], Fitted]) -> Fitted | None:
    """A law fitted to the runs below the largest scale; None where a level is lost."""
    draws = surfaces.draws
    rest = below_largest(draws.data.frame)
    small = dataclasses.replace(
        draws,
        data=part(draws.data, rest),
        chosen=draws.chosen[rest],
        factors=draws.factors[:0, rest],
    )
    # Codes of families and corpora are those of the runs that are left.
    left = small.data.frame
    names = (tuple(sorted(left.family.unique())), tuple(sorted(left.corpus.unique())))
    return again(small) if names == (surfaces.families, surfaces.corpora) else None


def _error(surfaces: Surfaces, below: Fitted | None, scored: Array) -> float:
    """Of those of the largest scale's runs that count, [n]; NaN where none does."""
    draws = surfaces.draws
    frame = draws.data.frame
    held = frame[~below_largest(frame) & (draws.chosen > 0) & scored]
    if held.empty or below is None or isinstance(below.outcome, Refusal):
        return np.nan
    predicted = below.law.predict(below.outcome.theta, _columns(surfaces, held))
    return float(np.sqrt(np.mean((np.log(held.loss) - np.log(predicted)) ** 2)))


def _columns(surfaces: Surfaces, cells: pd.DataFrame) -> dict[str, Array]:
    """What a law reads of cells or runs, coded by the names of all runs."""
    return {
        "params": cells.params.to_numpy(float),
        "tokens": cells.tokens.to_numpy(float),
        "family": codes(cells.family, surfaces.families),
        "corpus": codes(cells.corpus, surfaces.corpora),
    }


def weights(found: Sequence[Candidate]) -> Array:
    """How much each law counts beyond its runs, [laws], adding up to 1.

    In inverse proportion to the squared held-out error, to which the noise of a run is
    added: errors that the noise alone would make tell no law from another. Where no
    law could be held out, the first counts alone.
    """
    errors = np.array([one.error for one in found])
    if np.isnan(errors).all():
        return np.eye(len(found))[0]
    noise = min(float(np.mean(one.noise**2)) for one in found)
    shares = 1.0 / (errors**2 + max(noise, 1e-16))
    shares = np.where(np.isnan(errors), 0.0, shares)
    return shares / shares.sum()


def predict(
    surfaces: Surfaces, held: pd.DataFrame, target: str, delta: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells set aside, predicted, and the laws that did: two frames.

    Args:
      held: a row a cell: family, corpus, params, tokens, loss.

    The first has a row for each cell and law (the pair's own, the joint one and the
    mixture), the second a row for each law in a mixture; see `Analysis`.
    """
    rows, used = [], []
    joint = _tried(surfaces.joint, surfaces, delta, seed) if len(held) else None
    for (family, corpus), cells in held.groupby(["family", "corpus"]):
        if family not in surfaces.families or corpus not in surfaces.corpora:
            continue
        found = candidates(surfaces, family, corpus, delta, seed, joint)
        if not found:
            continue
        shares = weights(found)
        head = {"family": family, "corpus": corpus, "target": target}
        used += [
            head | {"law": one.fitted.law.name, "error": one.error, "weight": share}
            for one, share in zip(found, shares, strict=True)
        ]
        columns = _columns(surfaces, cells)
        rows += _rows(found, shares, columns, cells, head, len(surfaces.draws), seed)
    return pd.DataFrame(rows), pd.DataFrame(used)


def _rows(
    found: Sequence[Candidate],
    shares: Array,
    columns: Mapping[str, Array],
    cells: pd.DataFrame,
    head: Mapping[str, object],
    draws: int,
    seed: int,
) -> list[dict[str, object]]:
    points, curves, runs = [], [], []
    for one in found:
        assert one.fitted.theta is not None
        loss = one.fitted.law.predict(one.fitted.theta, columns)
        drawn = loss[1:][~np.isnan(loss[1:, 0])]
        curve = drawn[np.arange(draws) % len(drawn)]
        points.append(loss[0])
        curves.append(curve)
        runs.append(new_run(curve, one.noise, seed))
    own = ("chinchilla", "joint")
    shown = [
        (one.fitted.law.name, point, curve, run)
        for one, point, curve, run in zip(found, points, curves, runs, strict=True)
        if one.fitted.law.name in own
    ]
    mixed = (
        mixture(np.stack(curves), shares, seed),
        mixture(np.stack(runs), shares, seed),
    )
    shown.append((MIXTURE, shares @ np.stack(points), *mixed))
    out = []
    for law, point, curve, run in shown:
        (curve_low, curve_high), (low, high) = interval(curve), interval(run)
        for k, cell in enumerate(cells.itertuples()):
            out.append(
                dict(head)
                | {
                    "params": cell.params,
                    "tokens": cell.tokens,
                    "observed": cell.loss,
                    "predicted": float(point[k]),
                    "low": float(low[k]),
                    "high": float(high[k]),
                    "curve_low": float(curve_low[k]),
                    "curve_high": float(curve_high[k]),
                    "inside": bool(low[k] <= cell.loss <= high[k]),
                    "law": law,
                }
            )
    return out
