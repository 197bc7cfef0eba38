"""Does what two architectures disagree on shrink: with training, data, size and loss?

The excess is how far apart the predictions of two families lie beyond two seeds of one
(see distance.py). Here it is followed along one axis at a time, and at equal loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.design.swaps import Swap
from analysis.formatting import UNDETERMINED, count, few, interval_text, number, on
from analysis.inference.intervals import interval
from analysis.inference.verdict import verdict
from analysis.laws import Array
from analysis.predictions.asymptote import floor
from analysis.predictions.groups import Comparison, one_epoch
from analysis.predictions.load import BEST
from analysis.questions._question import (
    FRONT,
    UNKEPT,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View, probed
from analysis.report.style import (
    INK,
    Nothing,
    banded,
    key,
    legend,
    log_axis,
    looks,
    panels_of,
    reach,
    resize,
    span,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare, measured

NATS = "nats/token"
EARLY = "epochs, stopped early"
AXES = {
    "training": "tokens seen in one run",
    "data": "tokens seen, each once",
    "epochs": "epochs of the same data",
    EARLY: "epochs allowed, each run at its best",
    "size": "parameters",
    "loss": "loss at the probes (nats/token)",
}
PATH = (
    "probes baseline alternative fixed",
    Column(
        "axis",
        "what grows along the path: training, data, epochs (at the end, or stopped "
        "early), size or loss",
    ),
    Column("path", "numbers the paths of a probe set"),
    Column("own", "whether they were trained on the corpus of the probes"),
)
FRAMES = (
    declare(
        "function_excess",
        "Distance of two architectures' predictions beyond seeds, along one axis.",
        *PATH,
        Column("x", "place on the axis", "tokens, epochs, parameters or nats"),
        "params",
        Column("tokens", "training tokens seen by then", "count"),
        "unique_tokens",
        Column("loss", "mean loss of the two at the probes", NATS),
        Column("excess", "the distance less that of two seeds", NATS),
        "low high",
        Column("low_90", "lower end of the 90% interval", NATS),
        Column("high_90", "upper end of the 90% interval", NATS),
        Column("same_budget", "at equal loss: the excess at equal budget", NATS),
    ),
    declare(
        "function_trends",
        "From the first point of each path to the last, and where it tends to.",
        *PATH,
        "params",
        Column("tokens", "training tokens at the path's end", "count"),
        Column("unique_tokens", "unique training tokens at its end", "count"),
        Column("points", "how many there are"),
        Column("from_x", "the first place on the axis"),
        Column("to_x", "the last"),
        Column("first", "excess at the first", NATS),
        *measured("last", "excess at the last", NATS),
        *measured("change", "the last less the first", NATS),
        Column("floor", "the excess that the path tends to", NATS),
        "low high",
        Column("exponent", "of the power of the axis by which it gets there"),
        Column("refused", "why no floor can be given"),
    ),
)


class Point(NamedTuple):
    """A point of a path: its place, the two groups' rows, and draws of the excess."""

    x: float
    before: Any
    after: Any
    excess: Array


class Path(NamedTuple):
    """Points along one axis, by rising x."""

    swap: Swap
    axis: str
    points: list[Point]


def compares(asked: Comparison) -> Answer:
    """The frames of one probe set."""
    found = _paths(asked)
    rows, trends = [], []
    for number_, path in enumerate(found):
        head = _head(asked, path, path.axis, number_)
        rows += [head | _row(asked, one) for one in path.points]
        trends.append(head | _trend(path))
        if path.axis != "size":
            head = _head(asked, path, "loss", number_)
            for one, budget in _equal_loss(asked, path):
                rows.append(head | _row(asked, one) | {"same_budget": budget})
    frames = {
        "function_excess": pd.DataFrame(rows),
        "function_trends": pd.DataFrame(trends),
    }
    return frames, _notes(asked, found)


# --- Paths -------------------------------------------------------------------------


def _paths(asked: Comparison) -> list[Path]:
    """Every path of two points or more, of swaps of the architecture."""
    wanted = []
    for swap in asked.swaps:
        if swap.kind != "architecture":
            continue
        pairs = [
            pair
            for pair in asked.pairs(asked.groups, swap)
            if min(pair[0].seeds, pair[1].seeds) > 1
        ]
        wanted += [(swap, *path) for path in _axes(pairs)]
    points = asked.points
    need = [(points(a), points(b)) for *_, pairs in wanted for a, b in pairs]
    asked.compared.need(need)
    known: dict[tuple[int, int], Array] = {}
    out = []
    for swap, axis, column, pairs in wanted:
        made = []
        for before, after in pairs:
            place = (int(before.name), int(after.name))
            if place not in known:
                known[place] = asked.compared.excess(points(before), points(after))
            made.append(Point(float(after[column]), before, after, known[place]))
        out.append(Path(swap, axis, sorted(made, key=lambda one: one.x)))
    return out


def _axes(pairs: Sequence[tuple[Any, Any]]) -> Iterator[tuple[str, str, list[Any]]]:
    """Axis, the column of its places, and the pairs along it."""
    if not pairs:
        return
    rows = pd.DataFrame([after for _, after in pairs]).reset_index(drop=True)
    rows["once"] = one_epoch(rows)
    ends, stopped = rows[rows.fraction == 1.0], rows[rows.fraction == BEST]
    repeated = set(ends.unique[~ends.once])
    groups = [
        ("training", "seen", rows[rows.fraction > 0], ["level", "budget", "unique"]),
        ("data", "tokens", ends[ends.once], ["level"]),
        ("epochs", "epochs", ends[ends.unique.isin(repeated)], ["level", "unique"]),
        (EARLY, "epochs", stopped[stopped.unique.isin(repeated)], ["level", "unique"]),
        ("size", "params", ends, ["budget", "unique"]),
    ]
    for axis, column, frame, shared in groups:
        for _, some in frame.groupby(shared, sort=True):
            if some[column].nunique() > 1:
                once = some.drop_duplicates(column)
                yield axis, column, [pairs[i] for i in once.index]


def _equal_loss(asked: Comparison, path: Path) -> Iterator[tuple[Point, float]]:
    """Excess at the loss of the worse of each point, and that at equal budget.

    The better one's path is read where it had that loss, between two of its points: as
    if its mean prediction went straight from one to the other, in the space in which
    the root of the divergence is a distance. |f - (1-w) g - w h|**2 is then
    (1-w) |f - g|**2 + w |f - h|**2 - w (1-w) |g - h|**2.
    """
    compared, points = asked.compared, asked.points
    losses = [
        (compared.loss(points(one.before)), compared.loss(points(one.after)))
        for one in path.points
    ]
    for k, one in enumerate(path.points):
        worse = int(losses[k][1][0] > losses[k][0][0])
        still = points((one.before, one.after)[worse])
        wanted = losses[k][worse]
        curve = [pair[1 - worse] for pair in losses]
        moving = [points((p.before, p.after)[1 - worse]) for p in path.points]
        for j in range(len(curve) - 1):
            if not curve[j][0] > wanted[0] >= curve[j + 1][0]:
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                share = (curve[j] - wanted) / (curve[j] - curve[j + 1])
            share = np.clip(np.nan_to_num(share, nan=0.5), -1.0, 2.0)
            compared.need([(still, moving[j]), (still, moving[j + 1])])
            first = compared.excess(still, moving[j])
            second = compared.excess(still, moving[j + 1])
            bend = share * (1 - share) * compared.apart(moving[j], moving[j + 1])
            excess = (1 - share) * first + share * second - bend
            yield Point(float(wanted[0]), one.before, one.after, excess), one.excess[0]
            break


# --- Rows --------------------------------------------------------------------------


def _head(asked: Comparison, path: Path, axis: str, number_: int) -> dict[str, Any]:
    swap = path.swap
    return {
        "probes": asked.predictions.name,
        "baseline": swap.baseline,
        "alternative": swap.alternative,
        "fixed": swap.fixed,
        "axis": axis,
        "path": number_,
        "own": asked.own == swap.before[1],
    }


def _row(asked: Comparison, one: Point) -> dict[str, Any]:
    low, high = interval(one.excess[1:])
    narrow = interval(one.excess[1:], 0.9)
    sides = [asked.points(row) for row in (one.before, one.after)]
    losses = [asked.compared.loss(side)[0] for side in sides]
    return {
        "x": one.x,
        **_place(one.after),
        **{"loss": float(np.mean(losses)), "excess": float(one.excess[0])},
        **{"low": float(low), "high": float(high)},
        **{"low_90": float(narrow[0]), "high_90": float(narrow[1])},
        "same_budget": math.nan,
    }


def _place(row: Any) -> dict[str, float]:
    return {
        "params": float(row.params),
        "tokens": float(row.tokens if row.fraction == BEST else row.seen),
        "unique_tokens": float(row.unique_tokens),
    }


def _trend(path: Path) -> dict[str, Any]:
    first, last = path.points[0], path.points[-1]
    change = last.excess - first.excess
    x = np.array([one.x for one in path.points])
    y = np.stack([one.excess for one in path.points], axis=1)
    tends = floor(x, y)
    ends, moved = interval(last.excess[1:]), interval(change[1:])
    return {
        **_place(last.after),
        "points": len(path.points),
        **{"from_x": first.x, "to_x": last.x},
        **{"first": float(first.excess[0]), "last": float(last.excess[0])},
        **{"last_low": float(ends[0]), "last_high": float(ends[1])},
        "change": float(change[0]),
        **{"change_low": float(moved[0]), "change_high": float(moved[1])},
        **{"floor": tends.value, "low": tends.low, "high": tends.high},
        **{"exponent": tends.exponent, "refused": tends.refused},
    }


def _notes(asked: Comparison, found: Sequence[Path]) -> list[Note]:
    if found:
        return []
    text = f"At {asked.predictions.name} no two architectures have two seeds each at "
    text += "two places of one axis, so whether they come nearer is not known."
    return [Note("undetermined", "excess", text)]


# --- Words -------------------------------------------------------------------------


def _reported(analysis: Analysis) -> pd.DataFrame:
    """Of each swap and axis the longest path, of the probes' own corpus if any.

    Of several paths of one length the one that ends at the most tokens and parameters.
    """
    frame = probed(analysis.function_trends)
    if frame.empty:
        return frame
    order = frame.sort_values(
        ["points", "tokens", "params"], ascending=False, kind="stable"
    )
    once = order.drop_duplicates(["baseline", "alternative", "fixed", "axis"])
    return frame.loc[sorted(once.index)]


def _x(axis: str, value: float) -> str:
    if axis in ("epochs", EARLY):
        return f"{number(value)} epochs"
    return f"{count(value)} {'parameters' if axis == 'size' else 'tokens'}"


BY = {
    "training": "within one run",
    "data": "with new data",
    "epochs": "over the same data",
    EARLY: "over the same data, each run at its best step",
    "size": "with size",
}


def trend_text(row: Any) -> str:
    """Whether the excess falls along one path, and what it tends to."""
    what = f"{row.baseline} → {row.alternative}{on(row.fixed)}, {BY[row.axis]}"
    where = f"from {_x(row.axis, row.from_x)} to {_x(row.axis, row.to_x)}"
    moved = (
        f"{number(row.change)} nats ({interval_text(row.change_low, row.change_high)})"
    )
    lie = verdict(row.change_low, row.change_high, 0.0)
    said = {
        "below": f"the excess falls by {_turned(row)} {where}",
        "above": f"the excess grows by {moved} {where}",
        "undetermined": f"whether the excess falls {where} {UNDETERMINED}: {moved}",
    }[lie]
    last = f"{number(row.last)} ({interval_text(row.last_low, row.last_high)})"
    text = f"{what}: {said}, to {last}"
    if row.refused:
        return f"{text}; no floor can be given: {row.refused}"
    return (
        f"{text}; it tends to {number(row.floor)} ({interval_text(row.low, row.high)})"
    )


def _turned(row: Any) -> str:
    ends = interval_text(-row.change_high, -row.change_low)
    return f"{number(-row.change)} nats ({ends})"


def equal_text(row: Any) -> str:
    """Two architectures at one loss, beside one budget."""
    lie = verdict(row.low, row.high, 0.0)
    excess = f"{number(row.excess)} nats ({interval_text(row.low, row.high)})"
    said = {
        "above": f"predictions still lie {excess} beyond seeds",
        "below": f"predictions lie nearer than those of seeds: {excess}",
        "undetermined": f"whether they lie beyond seeds {UNDETERMINED}: {excess}",
    }[lie]
    return (
        f"{row.baseline} → {row.alternative}{on(row.fixed)}, at the equal loss of "
        f"{number(row.loss_at)} nats/token: {said}; at equal budget it is "
        f"{number(row.budget)}"
    )


def _equal(analysis: Analysis) -> list[str]:
    """At equal loss, of each swap the lowest loss that both reached."""
    frame = analysis.function_excess
    frame = probed(frame[frame.axis == "loss"]).sort_values("x")
    lowest = frame.drop_duplicates(["baseline", "alternative", "fixed"]).sort_index()
    lowest = lowest.rename(columns={"same_budget": "budget", "x": "loss_at"})
    return [f"{equal_text(row)}." for row in lowest.itertuples()]


def said(view: View) -> list[str]:
    reported = _reported(view.analysis)
    trends = [f"{trend_text(row)}." for row in reported.itertuples()]
    return few(trends) + few(_equal(view.analysis))


def answers(view: View) -> list[Sentence]:
    """Of the longest path the swap that is farthest at its end."""
    reported = _reported(view.analysis)
    if reported.empty:
        return []
    longest = reported[reported.points == reported.points.max()]
    row = longest.loc[longest["last"].idxmax()]
    same = reported[(reported.axis == row.axis)]
    far = same.loc[same["last"].idxmax()]
    lines = [f"{trend_text(far)}.", *_equal(view.analysis)[:1]]
    front = [Sentence(text, 72 - 10 * k, FRONT) for k, text in enumerate(lines)]
    return front + [Sentence(text, 58 - k) for k, text in enumerate(lines)]


# --- Figure ------------------------------------------------------------------------


# Panels beside each other.
MOST_WIDE = 3


def draw_excess(figure: Figure, analysis: Analysis, target: str) -> None:
    """Excess of each pair of architectures along every axis that was varied."""
    frame, reported = probed(analysis.function_excess), _reported(analysis)
    if frame.empty or reported.empty:
        raise Nothing
    lines = frame[frame.path.isin(reported.path)]
    equal = frame[(frame.axis == "loss") & frame.path.isin(reported.path)]
    both = zip(reported.baseline, reported.alternative, strict=True)
    pairs = list(dict.fromkeys(both))
    axes_of = [name for name in AXES if name in set(lines.axis) | set(equal.axis)]
    deep, wide = math.ceil(len(axes_of) / MOST_WIDE), min(len(axes_of), MOST_WIDE)
    resize(figure, 0.8 + 2.6 * deep, max(4.6, 0.8 + 2.6 * wide))
    panels = panels_of(figure, deep, wide).ravel()
    panels[0].set_ylim(*reach(lines.excess, lines.low, lines.high, [0.0]))
    for axes in panels[len(axes_of) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, axes_of, strict=False):
        mine = lines[lines.axis == name]
        if name == "loss":
            axes.set_xlim(*reach(mine.x)[::-1])
        else:
            form = (lambda v: f"{v:g}") if name in ("epochs", EARLY) else count
            log_axis(axes.xaxis, form, span(mine.x))
        for path, some in mine.groupby("path", sort=False):
            pair = (some.baseline.iloc[0], some.alternative.iloc[0])
            some = some.sort_values("x")
            banded(axes, some.x, some.excess, some, looks(pairs, pair))
            row = reported[reported.path == path].iloc[0]
            if name != "loss" and not row.refused:
                ends = np.array([[row.floor - row.low], [row.high - row.floor]])
                axes.errorbar(
                    [1.03],
                    [row.floor],
                    yerr=np.maximum(ends, 0.0),
                    fmt="_",
                    color=looks(pairs, pair)[0],
                    clip_on=False,
                    ms=7,
                    transform=axes.get_yaxis_transform(),
                )
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_title(_title(name))
        axes.set_xlabel(AXES[name])
        axes.grid(True)
    for axes in panels[::wide]:
        axes.set_ylabel("excess over two seeds (nats/token)")
    handles = [key(f"{a} → {b}", *looks(pairs, (a, b))) for a, b in pairs]
    legend(figure, handles)


def _title(name: str) -> str:
    return "at equal loss" if name == "loss" else f"against {name}"


QUESTION = Question(
    name="excess",
    title="Do they come nearer to each other?",
    place=53,
    absent=Absent(
        "excess along an axis", ("function_trends",), ("excess", "distance"), UNKEPT
    ),
    said=said,
    answers=answers,
    figures={
        "function_excess": Drawing(
            draw_excess,
            "How far the predictions of two architectures lie apart beyond two seeds "
            "of one, along each axis that was varied (the longest path of each; bands "
            "are 95% intervals by documents and seeds together). A mark at the right "
            "edge is the floor that a path tends to, where its points can tell one. "
            "Points within one run come before its rate has fallen, the last after.",
            scored=False,
            front=15,
        ),
    },
    about=("excess",),
    tables=(
        Table("From first to last, and floors", "function_trends"),
        Table("Excess at every point", "function_excess"),
    ),
    compares=compares,
)
