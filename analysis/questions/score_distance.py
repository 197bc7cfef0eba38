"""How far apart are the scores of two denoisers, at each noise level?

What two runs say of the same noisy pictures is compared by the mean squared difference
in units of the mean squared error of the two. The floor is that of two seeds or, of two
architectures on disjoint halves, that of two halves of one architecture. Beside it
stands how far the best linear denoiser lies from either.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import UNDETERMINED, capitalised, few, interval_text, number
from analysis.inference.intervals import interval
from analysis.inference.verdict import verdict
from analysis.pictures.agreement import Scores
from analysis.pictures.groups import (
    ACROSS,
    ARCHITECTURE,
    HALVES,
    SEEDS,
    Compare,
    Pictured,
)
from analysis.pictures.load import COPIES, LINEAR
from analysis.predictions.contrasts import Contrasts
from analysis.questions._question import (
    UNSAMPLED,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._same_picture_words import of_first, place_text, who_text
from analysis.questions._view import View
from analysis.report.style import (
    FAINT,
    INK,
    Nothing,
    banded,
    key,
    legend,
    log_axis,
    looks,
    panels_of,
    resize,
    span,
)
from analysis.results import Analysis
from analysis.schema import Column, declare, measured

ERRORS = "squared errors"
KINDS = (SEEDS, HALVES, ARCHITECTURE, ACROSS)
FRAMES = (
    declare(
        "score_distances",
        "Squared distance of two denoisers' outputs, in units of their error.",
        Column("samples", "the set of noises"),
        "kind baseline alternative fixed params tokens unique_tokens",
        "reported",
        Column("seeds", "runs of the smaller of the two groups"),
        Column("sigma", "noise level; pictures have a standard deviation of 0.5"),
        Column("distance", "of a run of one from a run of the other", ERRORS),
        "low high",
        Column("floor", "of two seeds or halves of one, mean of the two", ERRORS),
        Column("floor_of", "what the floor is of: seeds or halves"),
        *measured("excess", "the distance less the floor", ERRORS),
        Column("excess_low_90", "lower end of its 90% interval", ERRORS),
        Column("excess_high_90", "upper end of its 90% interval", ERRORS),
        Column("linear", "distance of a run from the best linear denoiser", ERRORS),
        Column("copies", "distance of a run from the denoiser that copies", ERRORS),
        Column("error", "mean squared error of the two, of pixels over 255"),
    ),
)


def pictures(asked: Pictured) -> Answer:
    """The frame of one set of samples, at the end of training."""
    pairs = [
        pair
        for pair in asked.pairs_of_groups
        if pair.after.fraction == 1.0 and pair.kind in KINDS
    ]
    points, rows = asked.points, []
    for scores, contrasts in asked.scores:
        contrasts.need([(points(p.before), points(p.after)) for p in pairs])
        rows += [_row(asked, pair, scores, contrasts) for pair in pairs]
    return {"score_distances": pd.DataFrame(rows)}, []


def _row(
    asked: Pictured, pair: Compare, scores: Scores, contrasts: Contrasts
) -> dict[str, Any]:
    f, g = asked.points(pair.before), asked.points(pair.after)
    distance, level, excess = asked.contrasted(pair, contrasts)
    row = {"samples": asked.pictures.name, **pair.head()}
    del row["fraction"]
    ends, wide = interval(distance[1:]), interval(excess[1:])
    narrow = interval(excess[1:], 0.9)
    errors = [scores.errors(scores.said(some[0])).mean() for some in (f, g)]
    row |= {"reported": asked.reported(pair.after), "sigma": scores.sigma}
    row |= {"seeds": int(min(pair.before.seeds, pair.after.seeds))}
    row |= {"distance": distance[0], "low": float(ends[0]), "high": float(ends[1])}
    row |= {
        "floor": level[0],
        "floor_of": pair.floor_of if np.isfinite(level[0]) else "",
    }
    row |= {"excess": excess[0], "excess_low": float(wide[0])}
    row |= {"excess_high": float(wide[1]), "excess_low_90": float(narrow[0])}
    row |= {"excess_high_90": float(narrow[1]), "error": float(np.mean(errors))}
    for which in (LINEAR, COPIES):
        far = [known_distance(scores, some[0], which) for some in (f, g)]
        row[which] = float(np.mean(far))
    return row


def known_distance(scores: Scores, point: Any, which: str) -> float:
    """Of a run from a known denoiser of its training pictures, in the run's errors."""
    known = scores.known(point[0], which)
    if known is None:
        return math.nan
    said = scores.said(point)
    return float(((said - known) ** 2).mean() / scores.errors(said).mean())


# --- Words ---------------------------------------------------------------------------


def distance_text(row: Any) -> str:
    """One pair at one level, beside its floor."""
    apart = f"{number(row.distance)} ({interval_text(row.low, row.high)})"
    text = f"{who_text(row)}: at sigma {row.sigma:g} scores are {apart} errors apart"
    if math.isnan(row.excess):
        return f"{text}; there is no floor to compare"
    more = f"{number(row.excess)} ({interval_text(row.excess_low, row.excess_high)})"
    floor = f"the {number(row.floor)} of two {row.floor_of} of one architecture"
    said = {
        "above": f"{more} more than {floor}",
        "below": f"no more than {floor}: by {more}",
        "undetermined": f"whether that is more than {floor} {UNDETERMINED}: {more}",
    }[verdict(row.excess_low, row.excess_high, 0.0)]
    if math.isnan(row.linear):
        return f"{text}, {said}"
    return f"{text}, {said}; the best linear denoiser is {number(row.linear)} from each"


def reported(analysis: Analysis) -> pd.DataFrame:
    """Of each pair of architectures the level with the largest distance."""
    frame = of_first(analysis.score_distances)
    if frame.empty:
        return frame
    frame = frame[frame.kind.isin([ACROSS, ARCHITECTURE, HALVES])]
    order = frame.kind.map({ACROSS: 0, ARCHITECTURE: 1, HALVES: 2})
    frame = frame.assign(order=order).sort_values("distance", ascending=False)
    once = frame.drop_duplicates(["kind", "baseline", "alternative", "fixed"])
    return once.sort_values(["order", "distance"], ascending=[True, False])


def said(view: View) -> list[str]:
    frame = reported(view.analysis)
    if frame.empty:
        return []
    first, *others = [distance_text(row) for row in frame.itertuples()]
    place = f"{place_text(frame.iloc[0])}, at the level where each pair is farthest"
    return few([f"{place}, {first}.", *(f"{capitalised(text)}." for text in others)])


def answers(view: View) -> list[Sentence]:
    frame = reported(view.analysis)
    if frame.empty:
        return []
    row = next(frame.itertuples())
    return [Sentence(f"{place_text(row)}, {distance_text(row)}.", 57)]


# --- Figure --------------------------------------------------------------------------


def draw_scores(figure: Figure, analysis: Analysis, target: str) -> None:
    """Distances against the noise level, a panel a kind of pair."""
    frame = of_first(analysis.score_distances)
    if frame.empty:
        raise Nothing
    kinds = [k for k in (SEEDS, HALVES, ARCHITECTURE, ACROSS) if k in set(frame.kind)]
    frame = frame[frame.distance > 0]
    if frame.empty:
        raise Nothing
    resize(figure, 3.5, max(4.4, 0.8 + 2.2 * len(kinds)))
    panels = panels_of(figure, 1, len(kinds))[0]
    names = list(dict.fromkeys(_pair(row) for row in frame.itertuples()))
    ends = (frame.low, frame.high, frame.linear, frame.floor)
    log_axis(panels[0].yaxis, lambda v: f"{v:g}", span(*ends))
    for axes, kind in zip(panels, kinds, strict=True):
        mine = frame[frame.kind == kind]
        log_axis(axes.xaxis, lambda v: f"{v:g}", span(frame.sigma))
        for _, some in mine.groupby(["baseline", "alternative", "fixed"], sort=False):
            some = some.sort_values("sigma")
            look = looks(names, _pair(some.iloc[0]))
            banded(axes, some.sigma, some.distance, some, look)
            if kind != SEEDS:
                axes.plot(some.sigma, some.floor, color=look[0], ls=":", lw=1.0)
        linear = mine.groupby("sigma").linear.mean()
        axes.plot(linear.index, linear.to_numpy(), color=FAINT, lw=1.0, marker="x")
        axes.axhline(1.0, color=INK, lw=0.6, ls=":")
        axes.set_title(kind)
        axes.set_xlabel("noise level sigma")
        axes.grid(True)
    panels[0].set_ylabel("squared distance, in errors")
    handles = [key(name, *looks(names, name)) for name in names]
    more = [key("floor", INK, None, ":"), key("from the linear one", FAINT, "x", "-")]
    legend(figure, [*handles, *more])


def _pair(row: Any) -> str:
    if row.kind == HALVES:
        return str(row.fixed)
    if row.kind == SEEDS:
        return str(row.baseline)
    return f"{row.baseline}, {row.alternative}"


QUESTION = Question(
    name="score_distance",
    title="How far apart are the scores?",
    place=57.2,
    absent=Absent(
        "distance between scores", ("score_distances",), ("pictures",), UNSAMPLED
    ),
    said=said,
    answers=answers,
    figures={
        "score_distances": Drawing(
            draw_scores,
            "Mean squared difference of what two denoisers say of the same noisy "
            "pictures, in units of their mean squared error, against the noise level, "
            "at the place with the most data; bands are 95% intervals by groups of "
            "pictures and seeds together. Dotted: the floor (two seeds of one; across "
            "halves, two halves of one). Grey: a run from the best linear denoiser.",
            scored=False,
        ),
    },
    tables=(Table("Distances of every pair and level", "score_distances"),),
    pictures=pictures,
)
