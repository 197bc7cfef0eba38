"""How far the leading law can be trusted: its likelihood, its runs, and other methods.

Nothing here changes a number that is reported. Profiles show whether an interval is
lop-sided or open, the influence of single runs which of them a parameter depends on,
the sweep of delta whether it depends on how residuals are counted; the seeds' own
spread is compared with the fitted density's.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.fitting.fit import Fit, Refusal, sweep
from analysis.fitting.influence import influence
from analysis.formatting import MOST_SENTENCES, count, joined, number, on, scale
from analysis.inference.likelihood import Likelihood
from analysis.inference.profiles import profile
from analysis.questions._question import Absent, Drawing, Question, Table
from analysis.questions._view import View
from analysis.report.style import (
    ALARM,
    FAINT,
    INK,
    PALETTE,
    WIDTH,
    Nothing,
    families_of,
    key,
    legend,
    log_axis,
    looks,
    panels_of,
    plain,
    reach,
    resize,
    rows_of,
    span,
)
from analysis.results import Analysis
from analysis.schema import Column, declare
from analysis.surfaces.surfaces import Fitted

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "profiles",
        "Profile likelihoods of the leading law's exponents and multipliers of data.",
        "target law parameter value",
        Column("drop", "twice the log likelihood below the best, per trajectory"),
        Column("threshold", "the drop that ends the 95% interval"),
        Column("rule", "where the threshold is from: parametric bootstrap or F"),
        Column("best", "the fit's value"),
        Column("low", "where the drop passes the threshold below; NaN where never"),
        Column("high", "where the drop passes the threshold above; NaN where never"),
    ),
    declare(
        "influence",
        "Each run left out of the leading law's fit.",
        "target law run_id family corpus params tokens",
        Column("score", "robust standard deviations from the curve"),
        Column("flagged", "whether it is an outlier"),
        Column("objective", "by how much the objective falls"),
        Column("parameter", "the parameter that moves furthest"),
        Column("change", "of that parameter"),
        Column("spreads", "the change in bootstrap standard deviations"),
    ),
    declare(
        "sweeps",
        "The leading law at other thresholds of Huber's loss.",
        "target law",
        Column("delta", "the threshold, in log loss"),
        "parameter value",
        Column("own", "whether it is the threshold of the analysis"),
    ),
)

# Draws behind the threshold of a profile.
PROFILE_DRAWS = 100
# With more runs than this each one alone moves nothing, and leaving each out is long.
MOST_RUNS = 1000
# Deltas beside the fit's own: nearly absolute errors, and least squares.
SWEEP = (1e-4, 1e-2, np.inf)


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    surfaces, model = asked.chosen, asked.likelihood
    fitted = surfaces.joint
    if model is None:
        return {}
    runs = surfaces.data.frame[surfaces.draws.chosen > 0]
    found = {
        "profiles": _profiles(fitted, model, asked.seed),
        "influence": _influence(fitted, model, runs),
        "sweeps": _sweeps(fitted, model, asked.seed),
    }
    return {
        name: frame.assign(target=asked.target, law=fitted.law.name)
        for name, frame in found.items()
        if not frame.empty
    }


def main_parameters(fitted: Fitted) -> list[str]:
    """The exponents, and what a family or a corpus multiplies its data by."""
    free = {p.name for p in fitted.law.parameters}
    named = [
        p.name
        for p in fitted.law.reported or fitted.law.parameters
        if p.name in free
        and (p.name in ("alpha", "beta") or p.name.startswith("rhoD["))
    ]
    # A family and the one corpus, which is the reference, may have one name.
    return list(dict.fromkeys(named))


def _profiles(fitted: Fitted, model: Likelihood, seed: int) -> pd.DataFrame:
    """Profile likelihoods, with the fit's own value and bootstrap interval beside."""
    best = dict(zip(fitted.law.names, model.fit.values, strict=True))
    names = main_parameters(fitted)
    multipliers = [name for name in names if name.startswith("rhoD[")]
    # The largest multiplier stands for its like.
    furthest = sorted(multipliers, key=lambda name: abs(np.log(best[name])))[-1:]
    exponents = [name for name in names if name not in multipliers]
    frame = profile(model, [*exponents, *furthest], PROFILE_DRAWS, seed)
    return frame.assign(best=frame.parameter.map(best))


def _influence(fitted: Fitted, model: Likelihood, runs: pd.DataFrame) -> pd.DataFrame:
    """What leaving each run out does: the parameter that it moves furthest."""
    if model.runs > MOST_RUNS or fitted.theta is None or len(fitted.theta) < 3:
        return pd.DataFrame()
    found = influence(model.fit, model.columns, model.loss)
    drawn = fitted.theta[1:][~np.isnan(fitted.theta[1:, 0])]
    if len(drawn) < 2:
        return pd.DataFrame()
    # What no draw bounds moves by no spread of it.
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.std(fitted.law.natural(drawn), axis=0)
    names = np.array(fitted.law.names)
    # The references are 1 by definition and move with nothing.
    moving = np.flatnonzero(spread > 0)
    if not moving.size:
        return pd.DataFrame()
    moved = found.change[:, moving] / spread[moving]
    known = ~np.isnan(moved).all(axis=1)
    most = np.zeros(len(moved), int)
    most[known] = np.nanargmax(np.abs(moved[known]), axis=1)
    every = np.arange(len(moved))
    kept = runs[["run_id", "family", "corpus", "params", "tokens"]]
    return kept.reset_index(drop=True).assign(
        score=found.score,
        flagged=found.flagged,
        objective=found.objective,
        parameter=names[moving][most],
        change=found.change[every, moving[most]],
        spreads=moved[every, most],
    )


def _sweeps(fitted: Fitted, model: Likelihood, seed: int) -> pd.DataFrame:
    """The main parameters at other deltas; the fit's own among them."""
    law, names = fitted.law, main_parameters(fitted)
    others = [delta for delta in SWEEP if delta != model.delta]
    found: dict[float, Fit | Refusal] = {model.delta: model.fit}
    found |= sweep(law, model.columns, model.loss, others, seed=seed)
    rows = []
    for delta in sorted(found):
        one = found[delta]
        if isinstance(one, Refusal):
            continue
        values = dict(zip(law.names, one.values, strict=True))
        rows += [
            {"delta": delta, "parameter": name, "value": values[name]}
            | {"own": delta == model.delta}
            for name in names
        ]
    return pd.DataFrame(rows)


def sentences(frame: pd.DataFrame) -> list[str]:
    """Outliers by name, and the run that a parameter depends on most."""
    if frame.empty:
        return []
    out = frame[frame.flagged.astype(bool)]
    sentences = []
    if len(out):
        few = joined(str(run) for run in out.run_id.head(MOST_SENTENCES))
        more = ", ..." if len(out) > MOST_SENTENCES else ""
        sentences.append(f"{len(out)} of {len(frame)} runs are outliers: {few}{more}.")
    else:
        sentences.append(f"None of the {len(frame)} runs is an outlier.")
    row = frame.loc[frame.spreads.abs().idxmax()]
    name = str(row.run_id)
    run = name if name.startswith("row ") else f"run {name}"
    sentences.append(
        f"Leaving out {run} ({row.family}{on(row.corpus)}, "
        f"{scale(row.params, row.tokens)}) moves a parameter most: {row.parameter}, by "
        f"{number(abs(row.spreads), 2)} bootstrap standard deviations."
    )
    return sentences


COLUMNS = 3


def draw_profiles(figure: Figure, analysis: Analysis, target: str) -> None:
    """Twice the log likelihood lost, against the value that a parameter is held at."""
    frame = rows_of(analysis.profiles, target)
    names = list(dict.fromkeys(frame.parameter))
    columns = min(COLUMNS, len(names))
    lines = math.ceil(len(names) / columns)
    resize(figure, 0.3 + 2.0 * lines)
    panels = panels_of(figure, lines, columns).ravel()
    for axes, name in itertools.zip_longest(panels, names):
        if name is None:
            axes.set_axis_off()
            continue
        mine = frame[frame.parameter == name].sort_values("value")
        first = mine.iloc[0]
        axes.plot(mine.value, mine["drop"], color=PALETTE[0], marker="o", ms=3)
        axes.axhline(first.threshold, color=FAINT, lw=0.9, ls="--")
        axes.axvline(first.best, color=INK, lw=0.8)
        for end in (first.low, first.high):
            if math.isfinite(end):
                axes.axvline(end, color=INK, lw=0.8, ls=":")
        axes.set_ylim(0, reach([0.0, first.threshold], pad=1.5)[1])
        axes.grid(True, axis="y")
        axes.set_title(name)
    panels[0].set_ylabel("twice the log likelihood lost")
    label = "value (line: the fit; dotted: ends of the 95% interval; dashed: threshold)"
    figure.supxlabel(label, fontsize=8.5)


def draw_influence(figure: Figure, analysis: Analysis, target: str) -> None:
    """How far each run lies from the curve, and how far the fit moves without it."""
    frame = rows_of(analysis.influence, target)
    families = families_of(analysis)
    resize(figure, 3.2)
    axes = figure.subplots()
    for family in families:
        mine = frame[(frame.family == family) & ~frame.flagged.astype(bool)]
        colour, marker, _ = looks(families, family)
        axes.plot(mine.score, mine.spreads.abs(), marker, color=colour, ms=4, alpha=0.8)
    out = frame[frame.flagged.astype(bool)]
    axes.plot(out.score, out.spreads.abs(), "X", color=ALARM, ms=7)
    for row in frame.loc[frame.spreads.abs().nlargest(1).index].itertuples():
        # Above the highest run there is nothing that the words could cover.
        axes.annotate(
            f"{row.family}, {count(row.params)}: {row.parameter}",
            (row.score, abs(row.spreads)),
            xytext=(-3, 6),
            textcoords="offset points",
            fontsize=7.5,
        )
    axes.set_xlim(0, reach(frame.score, [0.0], pad=0.35)[1])
    axes.set_ylim(0, reach(frame.spreads.abs(), [0.0], pad=0.2)[1])
    axes.grid(True)
    axes.set_xlabel("distance from the curve (robust standard deviations)")
    axes.set_ylabel("largest move of a parameter\n(bootstrap standard deviations)")
    keys = [key(f, *looks(families, f)[:2]) for f in families]
    legend(figure, [*keys, key("outlier", ALARM, "X")] if len(out) else keys)


def draw_sweeps(figure: Figure, analysis: Analysis, target: str) -> None:
    """The main parameters against Huber's delta, as a share of their own value."""
    frame = rows_of(analysis.sweeps, target)
    own = frame[frame.own.astype(bool)].set_index("parameter").value
    frame = frame.assign(ratio=frame.value / frame.parameter.map(own).to_numpy())
    names, deltas = list(dict.fromkeys(frame.parameter)), sorted(frame.delta.unique())
    if len(deltas) < 2:
        raise Nothing
    resize(figure, 2.9, WIDTH)
    axes = figure.subplots()
    log_axis(axes.yaxis, plain, span(frame.ratio, [0.9, 1.1], pad=0.15))
    for name in names:
        mine = frame[frame.parameter == name].sort_values("delta")
        places = [deltas.index(delta) for delta in mine.delta]
        colour, marker, line = looks(names, name)
        axes.plot(places, mine.ratio, color=colour, marker=marker, ls=line)
    labels = ["∞" if math.isinf(delta) else f"{delta:g}" for delta in deltas]
    axes.set_xticks(range(len(deltas)), labels)
    axes.axhline(1, color=INK, lw=0.8)
    axes.set_xlabel("Huber's delta (∞: least squares)")
    axes.set_ylabel("value, as a share\nof the reported one")
    legend(figure, [key(name, *looks(names, name)) for name in names])


def _strongest_first(view: View) -> pd.DataFrame:
    frame = view.analysis.influence
    return frame.loc[frame.spreads.abs().sort_values(ascending=False).index]


QUESTION = Question(
    name="doubts",
    title="Sensitivity of the fit: single runs, Huber's delta, profiles",
    place=170,
    absent=Absent(
        "influence of single runs",
        ("influence", "sweeps", "profiles"),
        ("joint", "fits"),
    ),
    said=lambda view: sentences(view.rows("influence")),
    figures={
        "influence": Drawing(
            draw_influence,
            "Each run left out of the fit: how far it lies from the curve, and how "
            "far the parameter that it moves most goes without it.",
        ),
        "sweeps": Drawing(
            draw_sweeps,
            "The main parameters of the leading law, refitted at other thresholds of "
            "Huber's loss.",
        ),
        "profiles": Drawing(
            draw_profiles,
            "Profile likelihoods of the leading law: all else fitted again at each "
            "value.",
        ),
    },
    tables=(
        Table("Each run left out in turn", _strongest_first),
        Table("The fit at each delta", "sweeps"),
        Table("Profiles", "profiles"),
    ),
    compute=compute,
)
