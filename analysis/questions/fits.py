"""The law of each family and corpus."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.fitting.fit import Refusal
from analysis.formatting import count, joined, on, scored
from analysis.questions._question import Drawing, Placed, Question, Sentence
from analysis.questions._view import View
from analysis.report import markup
from analysis.report.style import (
    WIDTH,
    Nothing,
    corpora_of,
    families_of,
    forest_axis,
    looks,
    ordered,
    panels_of,
    reach,
    resize,
    rows_of,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare, stacked
from analysis.surfaces.surfaces import (
    Fitted,
    determined_frame,
    doubts,
    fits_frame,
    quality_frame,
)

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "fits",
        "The fitted parameters of each law.",
        "family corpus target law parameter value low high",
        Column("bound", "whether it, or an end of its interval, is on a bound"),
        Column("params", "the size, of a law at one size; else NaN", "count"),
    ),
    declare(
        "quality",
        "How well each law fits, one row a fit.",
        "family corpus target law",
        Column("runs", "how many runs it was fitted to"),
        Column("objective", "Huber loss of the log residuals, the sum"),
        Column("gradient_norm", "norm of its gradient at the estimate"),
        Column("objective_gap", "objective above the best of all starts"),
        Column("starts_agreeing", "share of the starts that end at the best"),
        Column("condition", "condition number of the curvature"),
        Column("r2", "share of the variance of log loss"),
        Column("rmse_log", "root mean square of the log residuals"),
        Column("identified", "share of draws that could identify the law"),
        Column("flag", "doubts about the fit, or empty"),
        Column("params", "the size, of a law at one size; else NaN", "count"),
    ),
)


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    surfaces, target = asked.surfaces, asked.target
    quality = [quality_frame(surfaces, target)]
    if not asked.leading.plain:
        quality.append(determined_frame([asked.chosen.joint], target))
    return {"fits": fits_frame(surfaces, target), "quality": stacked(quality)}


def warns(asked: Asked) -> list[Note]:
    """Refusals, and how many fits each doubt concerns: one sentence each a target.

    Which fit has which doubt stands in the `flag` of `quality`.
    """
    surfaces, target = asked.surfaces, asked.target
    out = []
    refused: dict[str, list[str]] = {}
    doubted: dict[str, list[str]] = {}
    for fitted in surfaces.everything():
        found = fitted.outcome
        if isinstance(found, Refusal) and fitted is surfaces.joint:
            text = f"The joint law cannot be fitted{scored(target)}: {found.reason}."
            out.append(Note("refused", "joint", text))
        elif isinstance(found, Refusal):
            refused.setdefault(found.reason, []).append(_name(fitted))
        elif fitted is surfaces.joint:
            for doubt in doubts(fitted):
                text = f"The joint law{scored(target)}: {doubt}."
                out.append(Note(_kind(doubt), "joint", text))
        else:
            for doubt in doubts(fitted):
                doubted.setdefault(doubt.split(":")[0], []).append(_name(fitted))
    for reason, named in refused.items():
        text = f"{_count(named)}{scored(target)}, cannot be fitted: {reason}."
        text = text.replace("), cannot", ") cannot")
        out.append(Note("refused", "fits", text))
    total = len(surfaces.everything()) - 1
    for doubt, named in doubted.items():
        text = f"{_count(named)} of {total}{scored(target)}: {doubt}."
        out.append(Note(_kind(doubt), "fits", text))
    return out


def _name(fitted: Fitted) -> str:
    at = ""
    if np.isfinite(fitted.params):
        at = f" at {count(fitted.params)} parameters"
    return f"{fitted.law.name} of {fitted.family}{on(fitted.corpus)}{at}"


def _count(named: list[str]) -> str:
    """How many fits, the first of them by name."""
    first = f"{len(named)} fit{'s' * (len(named) != 1)} ({named[0]}"
    return first + (", ...)" if len(named) > 1 else ")")


def _kind(doubt: str) -> str:
    return "bound" if "on a bound" in doubt else "warning"


def draw_fits(figure: Figure, analysis: Analysis, target: str) -> None:
    """Parameters of the per-family laws with 95% intervals."""
    frame = rows_of(analysis.fits, target)
    # Laws at one size have as many rows as sizes: they stand in the table alone.
    whole = frame[frame.params.isna()]
    frame = whole[whole.law == whole.law.iloc[0]] if len(whole) else whole
    if frame.empty:
        raise Nothing
    parameters = ordered(frame.parameter)
    keys = list(dict.fromkeys(zip(frame.family, frame.corpus, strict=True)))
    families, corpora = families_of(analysis), corpora_of(analysis)
    columns = min(3, len(parameters))
    lines = math.ceil(len(parameters) / columns)
    resize(figure, 0.5 + lines * (0.7 + 0.22 * len(keys)), WIDTH + 0.6)
    panels = panels_of(figure, lines, columns).ravel()
    for axes, name in itertools.zip_longest(panels, parameters):
        if name is None:
            axes.set_axis_off()
            continue
        mine = frame[frame.parameter == name].set_index(["family", "corpus"])
        _limit(axes, mine)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(True, axis="x")
        for y, key in enumerate(keys):
            if key not in mine.index:
                continue
            row = mine.loc[key].to_dict()
            colour, marker, _ = looks(families, key[0])
            hollow = {"mfc": "white"} if row["bound"] else {}
            whisker(axes, y, row, colour, marker, **hollow)
        axes.set_title({"alpha": "α", "beta": "β"}.get(name, name))
        named = len(corpora) > 1
        labels = [f"{f}, {c}" if named else f for f, c in keys]
        forest_axis(axes, labels, range(len(keys)))
    if frame.bound.any():
        figure.supxlabel(
            "hollow: the estimate, or an end of its interval, is on a bound", fontsize=8
        )


def _limit(axes: Axes, mine: pd.DataFrame) -> None:
    """Limits by what is finite of values and intervals: a fit may leave some open.

    One interval without a useful end shall not flatten all the others.
    """
    lows, values, highs = (
        mine[name][np.isfinite(mine[name])] for name in ("low", "value", "high")
    )
    if values.empty:
        return
    right = max(values.max(), min(max([*values, *highs]), 2.5 * values.max()))
    axes.set_xlim(*reach(values, lows, [right]))


def said(view: View) -> list[str]:
    laws = joined(dict.fromkeys(view.analysis.fits.law))
    return [f"Laws fitted to log loss: {laws}."] if laws else []


def _built(view: View, figure: Placed) -> str:
    analysis = view.analysis
    if analysis.fits.empty:
        missing = markup.absent(analysis, "fits", "fits")
        return missing + markup.about(analysis, "fits")
    quality = (
        "objective_gap: the law's own best start against the best of all; "
        "starts_agreeing: the share of starts that end at the best."
    )
    return "".join(
        [
            markup.paragraph(*said(view)),
            figure("fits"),
            markup.about(analysis, "fits"),
            markup.fold("Parameters with 95% intervals", analysis.fits),
            markup.fold("Quality of the fits", analysis.quality, quality),
        ]
    )


def answers(view: View) -> list[Sentence]:
    """Why no law could be fitted, in the words of the refusals; none if one was."""
    if not view.lawless or view.headline.factor.notna().any():
        return []
    about = ("fits", "joint")
    reasons = [
        note.text
        for note in view.analysis.notes
        if note.kind == "refused" and note.about in about
    ]
    reported = ["No law could be fitted.", *reasons[:1]]
    return [Sentence(text, 80) for text in reported]


QUESTION = Question(
    name="fits",
    title="The law of each family and corpus",
    place=100,
    said=said,
    answers=answers,
    figures={
        "fits": Drawing(
            draw_fits,
            "Parameters of the law of each family and corpus, with 95% intervals.",
        )
    },
    build=_built,
    compute=compute,
    warns=warns,
)
