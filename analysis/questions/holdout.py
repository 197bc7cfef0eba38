"""The largest cells, set aside before any fit and predicted by every law afterwards.

A prediction has three uncertainties, kept apart: of the curve (the bootstrap draws of
one law), of a new run on it (the noise that the law leaves over, each trajectory left
out of the fit), and of the law itself. For the last, several laws that the training
rows cannot tell apart predict together, each by its weight. Weights come from the
training rows alone, within each family and corpus: every law is fitted without their
largest runs, by FLOPs, and asked for these (a back-test; Tashman 2000, "Out-of-sample
tests of forecasting accuracy"). Where the laws together missed these by more than
their noise and their disagreement explain, all of them drift alike, and the interval
is wider by as much.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import laws
from analysis.design.cells import codes
from analysis.fitting.fit import Refusal
from analysis.formatting import count, joined, number, range_text
from analysis.inference.intervals import (
    Draws,
    interval,
    left_out_residuals,
    mixture,
    new_run,
    part,
)
from analysis.laws import Array
from analysis.questions._question import Absent, Drawing, Question, Sentence, Table
from analysis.questions._view import View, of_target
from analysis.report.style import (
    INK,
    forest_axis,
    key,
    legend,
    looks,
    ordered,
    reach,
    resize,
    rows_of,
    side_note,
    tint,
)
from analysis.results import Analysis
from analysis.schema import LOSS, Column, declare
from analysis.surfaces.surfaces import Fitted, Surfaces, fit_one

FRAMES = (
    declare(
        "holdout",
        "The largest cells, set aside before fitting, and their predictions; the law "
        "mixture stands for all of `extrapolation`.",
        "family corpus target params tokens",
        Column("observed", "measured loss", LOSS),
        Column("predicted", "predicted loss", LOSS),
        Column("low", "lower end of the 95% interval of a new run", LOSS),
        Column("high", "upper end of the 95% interval of a new run", LOSS),
        Column("inside", "whether the measured loss is inside"),
        "law",
        Column("curve_low", "lower end of the 95% interval of the curve alone", LOSS),
        Column("curve_high", "upper end of the 95% interval of the curve alone", LOSS),
    ),
    declare(
        "extrapolation",
        "How well each law predicts the largest scale of the runs that were fitted.",
        "family corpus target law",
        Column("error", "RMS log error there, of the law fitted to the rest"),
        Column("weight", "its weight in the mixture"),
        Column("widening", "factor on the mixture's interval; see `widening`"),
    ),
)

# A family and corpus with fewer cells has none to spare.
LEAST_CELLS = 8
# Draws of the laws that are fitted for their prediction alone.
LAW_DRAWS = 60
MIXTURE = "mixture"
# A back-test fits the runs of at most this share of a family's largest FLOPs on a
# corpus, and predicts the others.
SHARES = (1 / 3, 1 / 10)
# Laws whose curves differ by less than this share of the noise are one law.
ALIKE = 1e-3


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
    """Marks the runs [n] below their own family's largest scale on their corpus.

    The largest size, or the largest budget where fewer than four sizes would leave too
    few to tell the exponent of N. A pair that has one scale alone keeps it.
    """
    out = pd.Series(True, index=frame.index)
    for _, rows in frame.groupby(["family", "corpus"]):
        scale = rows.level if rows.level.nunique() > 3 else rows.budget
        if scale.nunique() > 1:
            out[rows.index] = scale < scale.max()
    return out.to_numpy()


def cheaper(frame: pd.DataFrame, share: float) -> Array:
    """Marks the runs [n] of at most a share of their pair's largest FLOPs.

    A family and corpus that has no such run keeps all.
    """
    pair = [frame.family, frame.corpus]
    most = frame.flops.groupby(pair).transform("max")
    kept = frame.flops <= share * most * (1.0 + 1e-9)
    return (kept | ~kept.groupby(pair).transform("any")).to_numpy()


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A law that may predict beyond the runs of one family and corpus.

    Attributes:
      error: RMS log error in the back-tests on its runs; NaN where the rest cannot
        identify the law.
      noise: log residuals [m] with each trajectory left out.
      misses: log residuals of each back-test that the law could be fitted for, by its
        share, [h] each.
    """

    fitted: Fitted
    error: float
    noise: Array
    misses: Mapping[float, Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Tried:
    """A law, what it leaves over [m], and itself as each back-test fits it."""

    fitted: Fitted
    noise: Array
    below: Mapping[float, Fitted]


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
    known = [one for one in tried if one.fitted.identified > 0 and one.noise.size]
    return [_candidate(surfaces, one, pair) for one in _distinct(surfaces, known, pair)]


def _candidate(surfaces: Surfaces, tried: Tried, pair: Array) -> Candidate:
    frame = surfaces.data.frame
    misses = {}
    for share, below in tried.below.items():
        held = ~cheaper(frame, share) & pair
        found = _misses(surfaces, below, held)
        if found.size:
            misses[share] = found
    squares = [float(np.mean(found**2)) for found in misses.values()]
    error = float(np.sqrt(np.mean(squares))) if squares else np.nan
    return Candidate(tried.fitted, error, tried.noise, misses)


def _distinct(surfaces: Surfaces, tried: Sequence[Tried], pair: Array) -> list[Tried]:
    """Those whose curves differ on the pair's runs: a law under two names counts once.

    The joint law of one family on one corpus is that family's own, for instance.
    """
    columns = _columns(surfaces, surfaces.data.frame[pair])
    kept: list[Tried] = []
    curves: list[Array] = []
    for one in tried:
        assert one.fitted.theta is not None
        curve = np.log(one.fitted.law.predict(one.fitted.theta[0], columns))
        near = ALIKE * float(np.sqrt(np.mean(one.noise**2))) + 1e-9
        if all(np.abs(curve - other).max() > near for other in curves):
            kept.append(one)
            curves.append(curve)
    return kept


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
    below: dict[float, Fitted] = {}
    if not (noise.size and fitted.identified > 0):
        return Tried(fitted, noise, below)
    head = (fitted.family, fitted.corpus, fitted.params)

    def again(small: Draws) -> Fitted:
        rows = np.ones(small.data.loss.size, bool)
        return fit_one(fitted.law.name, head, small, rows, delta, seed)

    for share in SHARES:
        rest = cheaper(surfaces.data.frame, share) & fitted.rows
        if (rest == fitted.rows).all():
            continue
        found = _below(surfaces, rest, again, fitted.family == "*")
        if found is not None and not isinstance(found.outcome, Refusal):
            below[share] = found
    return Tried(fitted, noise, below)


def held_out_error(surfaces: Surfaces, again: Callable[[Draws], Fitted]) -> float:
    """RMS log error on the largest scale of a law fitted to the runs below it.

    Args:
      again: fits the law to draws that hold those runs alone.

    Returns:
      NaN where the runs below cannot identify the law.
    """
    rest = below_largest(surfaces.data.frame)
    if rest.all():
        return np.nan
    misses = _misses(surfaces, _below(surfaces, rest, again), ~rest)
    return float(np.sqrt(np.mean(misses**2))) if misses.size else np.nan


def _below(
    surfaces: Surfaces,
    rest: Array,
    again: Callable[[Draws], Fitted],
    named: bool = True,
) -> Fitted | None:
    """A law fitted to the runs marked in `rest` [n]; None where a level is lost.

    Args:
      named: the law tells families and corpora apart.
    """
    draws = surfaces.draws
    small = dataclasses.replace(
        draws,
        data=part(draws.data, rest),
        chosen=draws.chosen[rest],
        factors=draws.factors[:0, rest],
    )
    # Codes of families and corpora are those of the runs that are left.
    left = small.data.frame
    names = (tuple(sorted(left.family.unique())), tuple(sorted(left.corpus.unique())))
    whole = names == (surfaces.families, surfaces.corpora)
    return again(small) if whole or not named else None


def _misses(surfaces: Surfaces, below: Fitted | None, held: Array) -> Array:
    """Log residuals of the fitted runs among those marked in `held` [n]."""
    draws = surfaces.draws
    runs = draws.data.frame[held & (draws.chosen > 0)]
    if runs.empty or below is None or isinstance(below.outcome, Refusal):
        return np.zeros(0)
    predicted = below.law.predict(below.outcome.theta, _columns(surfaces, runs))
    return np.asarray(np.log(runs.loss.to_numpy()) - np.log(predicted))


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


def widening(found: Sequence[Candidate], shares: Array) -> float:
    """What the mixture's interval is widened by: 1 where nothing asks for more.

    The RMS of the mixture's residuals in the back-tests, each in standard deviations
    of a run's noise and the spread between the laws: what is above 1 all laws missed
    alike, as a drift of the residuals along the scale makes them.
    """
    noise = min(float(np.mean(one.noise**2)) for one in found)
    ratios = []
    for share in SHARES:
        known = [k for k, one in enumerate(found) if share in one.misses and shares[k]]
        if not known:
            continue
        weight = shares[known] / shares[known].sum()
        misses = np.stack([found[k].misses[share] for k in known])
        middle = weight @ misses
        spread = weight @ (misses - middle) ** 2
        ratios.append(float(np.mean(middle**2 / (max(noise, 1e-16) + spread))))
    return max(1.0, float(np.sqrt(np.mean(ratios)))) if ratios else 1.0


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
        wider = widening(found, shares)
        head = {"family": family, "corpus": corpus, "target": target}
        used += [
            head
            | {"law": one.fitted.law.name, "error": one.error, "weight": share}
            | {"widening": wider}
            for one, share in zip(found, shares, strict=True)
        ]
        columns = _columns(surfaces, cells)
        draws = len(surfaces.draws)
        rows += _rows(found, shares, wider, columns, cells, head, draws, seed)
    return pd.DataFrame(rows), pd.DataFrame(used)


def _rows(
    found: Sequence[Candidate],
    shares: Array,
    wider: float,
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
    point = shares @ np.stack(points)
    curve, run = (
        point * (mixture(np.stack(kind), shares, seed) / point) ** wider
        for kind in (curves, runs)
    )
    shown.append((MIXTURE, point, curve, run))
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


def sentences(frame: pd.DataFrame) -> list[str]:
    """By law, how many withheld cells fell where they were predicted."""
    if frame.empty:
        return []
    said = []
    for law, rows in frame.groupby("law", sort=False):
        error = (rows.observed / rows.predicted - 1).abs().max()
        inside = int(rows.inside.sum())
        worst = f"largest error {number(100 * error, 2)}%"
        said.append(f"{inside} of {len(rows)} by the {law} law ({worst})")
    return [
        f"Of the largest cells ({range_text(frame)}), withheld, so many fell inside "
        f"their 95% prediction interval: {joined(said)}."
    ]


def draw_holdout(figure: Figure, analysis: Analysis, target: str) -> None:
    """The withheld largest cells against their predictions, by each law."""
    frame = rows_of(analysis.holdout, target)
    keys = ["family", "corpus", "params", "tokens"]
    groups = list(frame.groupby(keys))
    laws = ordered(frame.law)
    resize(figure, 1.2 + (0.1 + 0.2 * len(laws)) * len(groups))
    axes = figure.subplots()
    relative = frame[["low", "high", "observed"]].div(frame.predicted, axis=0) - 1
    most = 100 * reach(relative.abs(), pad=0.08)[1]
    axes.set_xlim(-most, most)
    axes.axvline(0, color=INK, lw=0.8)
    labels = []
    offsets = np.linspace(-0.2, 0.2, len(laws)) if len(laws) > 1 else [0.0]
    for y, ((family, corpus, params, tokens), group) in enumerate(groups):
        for row in group.itertuples():
            at = y + offsets[laws.index(row.law)]
            part = 100 * relative.loc[row.Index]
            colour, marker, _ = looks(laws, row.law)
            axes.plot([part.low, part.high], [at, at], color=tint(colour, 0.3), lw=5)
            face = colour if row.inside else "white"
            axes.plot(part.observed, at, color=colour, marker=marker, mfc=face, ms=5.5)
        outside = group.law[~group.inside.astype(bool)]
        side_note(axes, y, f"outside: {joined(outside)}" if len(outside) else "")
        where = f"{count(params)}, {count(tokens)} tokens"
        labels.append(f"{family}, {corpus}, {where}")
    forest_axis(axes, labels, range(len(groups)))
    axes.set_xlabel("observed loss, % above its prediction (bars: 95% interval)")
    axes.grid(True, axis="x")
    legend(figure, [key(f"{law} law", *looks(laws, law)[:2]) for law in laws])


def answers(view: View) -> list[Sentence]:
    found = of_target(view.told.holdout, view.target)
    return [Sentence(text, 35) for text in sentences(found)]


QUESTION = Question(
    name="holdout",
    title="The largest cells, withheld and predicted",
    place=150,
    absent=Absent("withheld cells", ("holdout",), ("holdout",)),
    said=lambda view: sentences(view.rows("holdout")),
    answers=answers,
    figures={
        "holdout": Drawing(
            draw_holdout,
            "The largest cells, set aside before fitting, against their prediction "
            "from the rest. Hollow: outside the interval.",
        )
    },
    about=("holdout",),
    tables=(
        Table("Withheld cells", "holdout"),
        Table("How well each law extrapolates", "extrapolation"),
    ),
)
