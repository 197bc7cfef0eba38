"""Are samples copies of training pictures?

A sample counts as a copy where its nearest training picture is less than a third as far
as the second nearest (Yoon et al. 2023, "Diffusion probabilistic models generalize when
they fail to memorize"). The control is the same test with as many pictures of the half
that the run did not read. A finer test needs no threshold: is the nearest picture of
what was read nearer than the nearest of what was not? By chance it is in half of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import (
    UNDETERMINED,
    count,
    few,
    interval_text,
    on,
    percent,
)
from analysis.inference.intervals import interval_of_share
from analysis.inference.verdict import verdict
from analysis.laws import Array
from analysis.pictures.agreement import BEYOND
from analysis.pictures.groups import Pictured
from analysis.predictions.load import Point
from analysis.questions._question import (
    UNSAMPLED,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._same_picture_words import of_first, place_text
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
from analysis.results import Analysis, Note
from analysis.schema import Column, declare, measured

# A copy's nearest picture is nearer than this share of the second nearest.
RATIO = 1.0 / 3.0
FRAMES = (
    declare(
        "memorisation",
        "Samples that copy a training picture, beside the half that was not read.",
        Column("samples", "the set of noises"),
        "family corpus params tokens unique_tokens",
        Column("fraction", "of the training, after which the samples were made"),
        "reported",
        Column("seeds", "how many runs there are"),
        *measured("copied", "share of samples that copy what was read"),
        *measured("copied_other", "the same of the half that was not read"),
        *measured("nearer", "share nearer to what was read than to what was not"),
        Column("near", "distance of the nearest training picture, mean", "pixels/255"),
        Column("near_other", "the same of the half that was not read", "pixels/255"),
    ),
)


def pictures(asked: Pictured) -> Answer:
    """The frame of one set of samples."""
    rows, without = [], []
    for _, row in asked.groups.iterrows():
        points = [p for p in asked.points(row) if _near(asked, p, "near") is not None]
        if points:
            rows.append(_row(asked, row, points))
        else:
            without.append(row)
    notes = []
    if without:
        text = (
            f"{len(without)} of {len(asked.groups)} groups of {asked.pictures.name} "
            f"kept no nearest training pictures, as {without[0].run_id}: whether they "
            "copy is not known."
        )
        notes.append(Note("undetermined", "memorisation", text))
    return {"memorisation": pd.DataFrame(rows)}, notes


def _near(asked: Pictured, point: Point, name: str) -> Array | None:
    return asked.pictures.get(point[0], name, point[1])


def _row(asked: Pictured, row: Any, points: list[Point]) -> dict[str, Any]:
    near = [_near(asked, p, "near") for p in points]
    other = [_near(asked, p, "near_other") for p in points]
    own = np.stack([one for one in near if one is not None])
    beside = np.stack([np.full_like(own[0], np.nan) if x is None else x for x in other])
    names = ("family", "corpus", "params", "tokens", "unique_tokens")
    out = {"samples": asked.pictures.name, **{name: row[name] for name in names}}
    out |= {"fraction": float(row.fraction), "seeds": len(points)}
    out |= {"reported": asked.reported(row) and row.fraction == 1.0}
    out |= _share(asked, "copied", points, copied(own))
    out |= _share(asked, "copied_other", points, copied(beside))
    # Distances that are equal say nothing of which is nearer.
    nearer = 0.5 * (1.0 + np.sign(beside[..., 0] - own[..., 0]))
    out |= _share(asked, "nearer", points, nearer)
    return out | {
        "near": float(own[..., 0].mean()),
        "near_other": float(beside[..., 0].mean()),
    }


def copied(near: Array) -> Array:
    """1 of copies, 0 of others [...], from distances of the nearest two [..., 2]."""
    found = (near[..., 0] < RATIO * near[..., 1]).astype(float)
    return np.where(np.isnan(near[..., 0]), np.nan, found)


def _share(
    asked: Pictured, name: str, points: list[Point], each: Array
) -> dict[str, float]:
    """Mean over runs and noises of [runs, noises], with both in its interval."""
    contrasts = asked.measured[BEYOND]
    own = np.stack([contrasts.over_documents(one) for one in each])
    draws = contrasts.mean(points, own)
    low, high = interval_of_share(draws, asked.pictures.count)
    return {name: float(draws[0]), f"{name}_low": low, f"{name}_high": high}


# --- Words ---------------------------------------------------------------------------


def copied_text(row: Any) -> str:
    """How many samples are copies, beside the half that was not read."""
    ends = f"{percent(row.copied_low)} to {percent(row.copied_high)}"
    text = (
        f"{percent(row.copied)} ({ends}) of the samples of {row.family}"
        f"{on(row.corpus)} copy a training picture"
    )
    if math.isnan(row.nearer):
        return f"{text}; without another half there is no control"
    text += f", {percent(row.copied_other)} one of the half that was not read"
    share = f"{percent(row.nearer)} ({_percents(row.nearer_low, row.nearer_high)})"
    lie = verdict(row.nearer_low, row.nearer_high, 0.5)
    if lie == "undetermined":
        nearer = f"whether samples lie nearer to what was read {UNDETERMINED}"
        return f"{text}; {nearer}: {share} do"
    return f"{text}; {share} lie nearer to what was read, where chance is 50%"


def _percents(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return interval_text(low, high)
    return f"{percent(low)} to {percent(high)}"


def said(view: View) -> list[str]:
    frame = view.analysis.memorisation
    if frame.empty:
        return []
    reported = of_first(frame).sort_values("copied", ascending=False)
    first, *others = [f"{copied_text(row)}." for row in reported.itertuples()]
    return few([f"{place_text(reported.iloc[0])}, {first}", *others]) + _from(frame)


def _from(frame: pd.DataFrame) -> list[str]:
    """At how many different pictures a family stops copying half of its samples."""
    mine = frame[(frame.samples == frame.samples.iloc[0]) & (frame.fraction == 1.0)]
    out = []
    for family, some in mine.groupby("family", sort=True):
        by = some.groupby("unique_tokens").copied.mean().sort_index()
        if len(by) > 1 and by.iloc[0] > 0.5 > by.iloc[-1]:
            most, least = by[by > 0.5].index.max(), by[by <= 0.5].index.min()
            out.append(
                f"{family} copies most of its samples of up to {count(most)} different "
                f"pictures, and less than half of them from {count(least)} on."
            )
    return few(out)


def answers(view: View) -> list[Sentence]:
    reported = of_first(view.analysis.memorisation)
    if reported.empty:
        return []
    row = next(reported.nlargest(1, "copied").itertuples())
    return [Sentence(f"{place_text(row)}, {copied_text(row)}.", 55)]


# --- Figure --------------------------------------------------------------------------


def draw_copies(figure: Figure, analysis: Analysis, target: str) -> None:
    """Share of copies, and of samples nearer to what was read, against the data."""
    frame = analysis.memorisation
    if frame.empty:
        raise Nothing
    frame = frame[(frame.samples == frame.samples.iloc[0]) & (frame.fraction == 1.0)]
    most = frame.groupby("family").params.transform("max")
    frame = frame[frame.params == most]
    frame = frame[frame.tokens == frame.groupby("family").tokens.transform("max")]
    names = sorted(set(frame.family))
    resize(figure, 3.3, 6.2)
    left, right = panels_of(figure, 1, 2)[0]
    left.set_ylim(-0.05, 1.05)
    for axes, name, title in (
        (left, "copied", "copies of what was read"),
        (right, "nearer", "nearer to what was read"),
    ):
        log_axis(axes.xaxis, count, span(frame.unique_tokens))
        for family in names:
            mine = frame[frame.family == family]
            by = mine.groupby("unique_tokens")
            shown = by[[name, f"{name}_low", f"{name}_high"]].mean().reset_index()
            ends = shown.rename(
                columns={f"{name}_low": "low", f"{name}_high": "high"}
            ).astype(float)
            banded(axes, ends.unique_tokens, ends[name], ends, looks(names, family))
            if name == "copied":
                other = by.copied_other.mean()
                colour = looks(names, family)[0]
                axes.plot(other.index, other, color=colour, ls=":", lw=1.0)
        axes.axhline(0.5 if name == "nearer" else 0.0, color=INK, lw=0.8)
        axes.set_title(title)
        axes.set_xlabel("different pictures read")
        axes.grid(True)
    left.set_ylabel("share of samples")
    handles = [key(name, *looks(names, name)) for name in names]
    legend(figure, [*handles, key("the half not read", FAINT, None, ":")])


QUESTION = Question(
    name="memorisation",
    title="Are the pictures copies?",
    place=57.3,
    absent=Absent(
        "test for copies", ("memorisation",), ("memorisation", "pictures"), UNSAMPLED
    ),
    said=said,
    answers=answers,
    figures={
        "memorisation": Drawing(
            draw_copies,
            "Left: share of samples whose nearest training picture is less than a "
            "third as far as the second nearest; dotted, the same with as many "
            "pictures of the half that was not read. Right: share of samples that lie "
            "nearer to what was read than to the other half; chance gives a half. Mean "
            "of the halves at the largest size and longest training; bands are 95% "
            "intervals.",
            scored=False,
        ),
    },
    about=("memorisation",),
    tables=(Table("Copies of every group", "memorisation"),),
    pictures=pictures,
)
