"""How far are denoisers from the exact one, where a made corpus tells it?

The squared difference of a run's denoiser from the exact one is what its error has
above the least that there is: E|D - y|^2 - E|D* - y|^2 = E|D - D*|^2. It is given at
every noise level, in units of that least error, and followed to the floor that it tends
to, where the design can tell one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import UNDETERMINED, count, few, interval_text, number, on
from analysis.inference.intervals import interval
from analysis.inference.verdict import NORMAL, verdict
from analysis.laws import Array
from analysis.pictures.agreement import Scores
from analysis.pictures.groups import Pictured
from analysis.pictures.load import COPIES, EXACT, LINEAR
from analysis.predictions.asymptote import floor
from analysis.predictions.contrasts import Contrasts
from analysis.questions._question import (
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

LEAST = "least errors"
PLACED = "family corpus params tokens unique_tokens"
SIGMA = Column("sigma", "noise level; pictures have a standard deviation of 0.5")
SAMPLES = Column("samples", "the set of noises")
FRAMES = (
    declare(
        "picture_truth",
        "Squared distance of denoisers from the exact one, by noise level.",
        SAMPLES,
        PLACED,
        "reported",
        Column("seeds", "how many runs there are"),
        SIGMA,
        Column("excess", "squared distance from the exact denoiser", LEAST),
        "low high",
        Column("linear", "the same of the best linear denoiser", LEAST),
        Column("copies", "the same of the denoiser that copies", LEAST),
        Column("least", "mean squared error of the exact one, of pixels over 255"),
        Column("check", "error less least error and distance", LEAST),
        Column("check_se", "its standard error, over groups of pictures", LEAST),
        Column("holds", "whether the error is their sum within its error"),
    ),
    declare(
        "picture_truth_trends",
        "From the first point of an axis to the last, and where the distance tends to.",
        SAMPLES,
        "family corpus",
        SIGMA,
        Column("axis", "what grows: data, training or size"),
        "params tokens unique_tokens",
        Column("points", "how many there are"),
        Column("from_x", "the first place on the axis"),
        Column("to_x", "the last"),
        Column("first", "distance at the first", LEAST),
        *measured("last", "distance at the last", LEAST),
        *measured("change", "the last less the first", LEAST),
        Column("floor", "the distance that the path tends to", LEAST),
        "low high",
        Column("refused", "why no floor can be given"),
    ),
)
# Axis: the column of its places, and the columns that points share.
AXES = {
    "data": ("unique_tokens", ("params", "tokens")),
    "training": ("tokens", ("params", "unique_tokens")),
    "size": ("params", ("tokens", "unique_tokens")),
}


class Found(NamedTuple):
    """A row of the first frame, and draws of its distance."""

    row: dict[str, Any]
    excess: Array


def pictures(asked: Pictured) -> Answer:
    """The frames of one set of samples; none where no truth is known of it."""
    ends = [
        row
        for _, row in asked.ends.iterrows()
        if asked.pictures.get(asked.points(row)[0][0], f"{EXACT}_denoised") is not None
    ]
    found = [
        _found(asked, scores, contrasts, row)
        for scores, contrasts in asked.scores
        for row in ends
    ]
    rows = [one.row for one in found]
    frames = {
        "picture_truth": pd.DataFrame(rows),
        "picture_truth_trends": pd.DataFrame(_trends(found)),
    }
    return frames, _off(asked, rows)


def _found(asked: Pictured, scores: Scores, contrasts: Contrasts, row: Any) -> Found:
    """Of one group at one level."""
    points = asked.points(row)
    exact = scores.known(points[0][0], EXACT)
    assert exact is not None
    least = contrasts.over_documents(scores.errors(exact))
    far = np.stack([((scores.said(p) - exact) ** 2).mean(axis=1) for p in points])
    errors = np.stack([scores.errors(scores.said(p)) for p in points])
    own = np.stack([contrasts.over_documents(one) / least for one in far])
    excess = contrasts.mean(points, own)
    left = (errors - far).mean(axis=0) - scores.errors(exact)
    check = contrasts.over_documents(left) / least
    error = float(check[1:].std())
    low, high = interval(excess[1:])
    known = {which: _known(scores, points[0][0], which, exact) for which in KNOWN}
    names = PLACED.split()
    return Found(
        {
            "samples": asked.pictures.name,
            **{name: row[name] for name in names},
            "reported": asked.reported(row),
            "seeds": len(points),
            "sigma": scores.sigma,
            **{"excess": excess[0], "low": float(low), "high": float(high)},
            **known,
            "least": float(least[0]),
            **{"check": float(check[0]), "check_se": error},
            "holds": bool(abs(check[0]) <= NORMAL * error),
        },
        excess,
    )


KNOWN = (LINEAR, COPIES)


def _known(scores: Scores, run_id: str, which: str, exact: Array) -> float:
    """Distance of another known denoiser from the exact one, in least errors."""
    said = scores.known(run_id, which)
    if said is None:
        return math.nan
    return float(((said - exact) ** 2).mean() / scores.errors(exact).mean())


def _off(asked: Pictured, rows: Sequence[dict[str, Any]]) -> list[Note]:
    """Rows whose error is not the least and the distance, beyond those of chance."""
    off = [row for row in rows if not row["holds"]]
    if len(off) <= max(1, 0.1 * len(rows)):
        return []
    far = max(off, key=lambda row: abs(row["check"]) / (row["check_se"] or math.inf))
    text = (
        f"The error on {asked.pictures.name} is not the least error and the distance "
        f"from the exact denoiser in {len(off)} of {len(rows)} rows; {far['family']} "
        f"at sigma {far['sigma']:g} is off by {number(far['check'])} least errors "
        f"({number(far['check_se'])} standard error)."
    )
    return [Note("warning", "picture_truth", text)]


# --- Along an axis -------------------------------------------------------------------


def _trends(found: Sequence[Found]) -> list[dict[str, Any]]:
    frame = pd.DataFrame([one.row for one in found])
    if frame.empty:
        return []
    who = ["samples", "family", "corpus", "sigma"]
    out = []
    for axis, (column, shared) in AXES.items():
        for place, some in frame.groupby([*who, *shared], sort=False):
            some = some.sort_values(column).drop_duplicates(column)
            if len(some) > 1:
                head = dict(zip(who, place, strict=False)) | {"axis": axis}
                draws = np.stack([found[i].excess for i in some.index], axis=1)
                out.append(head | _trend(some, draws, some[column].to_numpy(float)))
    return out


def _trend(some: pd.DataFrame, draws: Array, x: Array) -> dict[str, Any]:
    last = some.iloc[-1]
    tends = floor(x, draws)
    change = draws[:, -1] - draws[:, 0]
    ends, moved = interval(draws[1:, -1]), interval(change[1:])
    place = ("params", "tokens", "unique_tokens")
    return {
        **{name: last[name] for name in place},
        "points": len(some),
        **{"from_x": x[0], "to_x": x[-1], "first": draws[0, 0], "last": draws[0, -1]},
        **{"last_low": float(ends[0]), "last_high": float(ends[1])},
        "change": change[0],
        **{"change_low": float(moved[0]), "change_high": float(moved[1])},
        **{"floor": tends.value, "low": tends.low, "high": tends.high},
        "refused": tends.refused,
    }


# --- Words ---------------------------------------------------------------------------


def excess_text(row: Any) -> str:
    """How far one family is at one level, beside known denoisers."""
    far = f"{number(row.excess)} ({interval_text(row.low, row.high)})"
    text = (
        f"{row.family}{on(row.corpus)} is {far} least errors from the exact denoiser "
        f"at sigma {row.sigma:g}"
    )
    beside = [
        f"the best linear denoiser {number(row.linear)}",
        f"one that copies {number(row.copies)}",
    ]
    known = [t for t, v in zip(beside, (row.linear, row.copies), strict=True) if v == v]
    return f"{text}; {' and '.join(known)}" if known else text


def trend_text(row: Any) -> str:
    """Whether the distance falls along one axis, and whether its floor is zero."""
    unit = {"size": "parameters", "data": "different pictures"}.get(
        row.axis, "pictures read"
    )
    moved = f"{number(row.change)} ({interval_text(row.change_low, row.change_high)})"
    where = f"from {count(row.from_x)} to {count(row.to_x)} {unit}"
    lie = verdict(row.change_low, row.change_high, 0.0)
    said = {
        "below": f"the distance falls {where}: {moved}",
        "above": f"the distance grows {where}: {moved}",
        "undetermined": f"whether the distance falls {where} {UNDETERMINED}: {moved}",
    }[lie]
    text = f"{row.family}{on(row.corpus)} at sigma {row.sigma:g}: {said}"
    if row.refused:
        return f"{text}; whether it tends to zero is not known: {row.refused}"
    tends = f"{number(row.floor)} ({interval_text(row.low, row.high)})"
    zero = "which holds zero" if row.low <= 0 else "which does not hold zero"
    return f"{text}; it tends to {tends}, {zero}"


def farthest(analysis: Analysis) -> pd.DataFrame:
    """Of each family at the place that is reported the level with the most excess."""
    frame = of_first(analysis.picture_truth)
    if frame.empty:
        return frame
    frame = frame.sort_values("excess", ascending=False, kind="stable")
    return frame.drop_duplicates(["family", "corpus"])


def trends(analysis: Analysis) -> pd.DataFrame:
    """Of each family the longest path of each axis, at its farthest level."""
    frame, far = of_first(analysis.picture_truth_trends), farthest(analysis)
    if frame.empty or far.empty:
        return frame
    mine = frame.merge(far[["family", "corpus", "sigma"]])
    order = ["points", "unique_tokens", "tokens", "params"]
    mine = mine.sort_values(order, ascending=False, kind="stable")
    return mine.drop_duplicates(["family", "corpus", "axis"])


def said(view: View) -> list[str]:
    far = farthest(view.analysis)
    if far.empty:
        return []
    first, *others = [f"{excess_text(row)}." for row in far.itertuples()]
    lines = few([f"{place_text(far.iloc[0])}, {first}", *others])
    paths = [f"{trend_text(row)}." for row in trends(view.analysis).itertuples()]
    frame = view.analysis.picture_truth
    holds = f"{int(frame.holds.astype(bool).sum())} of {len(frame)}"
    check = "The error is the least error and this distance, within its standard error,"
    return [*lines, *few(paths), f"{check} in {holds} rows."]


def answers(view: View) -> list[Sentence]:
    far = farthest(view.analysis)
    if far.empty:
        return []
    rows = [*far.head(1).itertuples(), *far.tail(1).itertuples()]
    texts = dict.fromkeys(f"{place_text(row)}, {excess_text(row)}." for row in rows)
    return [Sentence(text, 53 - k) for k, text in enumerate(texts)]


# --- Figure --------------------------------------------------------------------------


def draw_truth(figure: Figure, analysis: Analysis, target: str) -> None:
    """Distance from the exact denoiser against the noise level, a panel a place."""
    frame = analysis.picture_truth
    if frame.empty:
        raise Nothing
    frame = frame[(frame.samples == frame.samples.iloc[0]) & (frame.excess > 0)]
    frame = frame.assign(place=_places(frame))
    places = list(dict.fromkeys(frame.sort_values(["params", "tokens"]).place))
    places = places[-MOST_PLACES:]
    if not places:
        raise Nothing
    resize(figure, 3.4, max(4.4, 0.8 + 2.3 * len(places)))
    panels = panels_of(figure, 1, len(places))[0]
    frame = frame[frame.place.isin(places)]
    names = sorted(set(frame.family))
    known = frame[[LINEAR, COPIES]].where(lambda v: v > 0)
    log_axis(
        panels[0].yaxis,
        lambda v: f"{v:g}",
        span(frame.low, frame.high, frame.excess, known.dropna()),
    )
    for axes, place in zip(panels, places, strict=True):
        mine = frame[frame.place == place]
        log_axis(axes.xaxis, lambda v: f"{v:g}", span(frame.sigma))
        for (family, _), some in mine.groupby(["family", "corpus"], sort=True):
            some = some.sort_values("sigma")
            banded(axes, some.sigma, some.excess, some, looks(names, family))
        for which, mark in ((LINEAR, "x"), (COPIES, "+")):
            by = mine[mine[which] > 0].groupby("sigma")[which].mean()
            axes.plot(by.index, by.to_numpy(), color=FAINT, lw=1.0, marker=mark)
        axes.set_title(place)
        axes.set_xlabel("noise level sigma")
        axes.grid(True)
    panels[0].set_ylabel("squared distance, in least errors")
    handles = [key(name, *looks(names, name)) for name in names]
    more = [key("best linear", FAINT, "x", "-"), key("copies", FAINT, "+", "-")]
    legend(figure, [*handles, *more])


MOST_PLACES = 4


def _places(frame: pd.DataFrame) -> list[str]:
    """A panel for each rung of size and each length of training."""
    rung = frame.groupby("family").params.rank(method="dense").astype(int)
    sizes = frame.groupby(rung).params.min()
    return [
        f"{count(sizes[k])} parameters,\n{count(tokens)} read"
        for k, tokens in zip(rung, frame.tokens, strict=True)
    ]


QUESTION = Question(
    name="picture_truth",
    title="How far from the exact denoiser?",
    place=57.4,
    absent=Absent(
        "distance from an exact denoiser",
        ("picture_truth",),
        ("picture_truth",),
        "It needs runs that kept samples of gaussian_field or templates, of which the "
        "exact denoiser is known; see docs/pictures.md.",
    ),
    said=said,
    answers=answers,
    figures={
        "picture_truth": Drawing(
            draw_truth,
            "Squared distance of denoisers from the exact one, in units of the least "
            "error that there is, against the noise level, by size and length of "
            "training; bands are 95% intervals by groups of pictures and seeds "
            "together. Grey: the best linear denoiser of the training pictures, and "
            "the one that copies them. Where the corpus is Gaussian the best linear "
            "denoiser of ever more pictures is exact.",
            scored=False,
        ),
    },
    about=("picture_truth",),
    tables=(
        Table("Along an axis", "picture_truth_trends"),
        Table("Distance of every group and level", "picture_truth"),
    ),
    pictures=pictures,
)
