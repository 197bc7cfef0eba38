"""What is left between architectures once a text is exhausted.

The same unique data is read over and over. Each family's loss on held-out text of it is
followed over epochs, at the end of training and at the best scoring of each run, to the
floor that it tends to; the gap of two families there is set beside the gap after one
epoch, and stated as so many times the unique data. What ensembles of seeds reach stands
in ensembles.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.formatting import UNDETERMINED, count, few, interval_text, number, on
from analysis.inference.intervals import interval
from analysis.inference.verdict import verdict
from analysis.laws import Array
from analysis.predictions.asymptote import Floor, floor
from analysis.questions._exhausted import (
    EARLY,
    ONE_SEED,
    READINGS,
    Cell,
    Curve,
    curves,
    drawn,
    ends_of,
)
from analysis.questions._exhausted_figure import draw_exhausted
from analysis.questions._question import (
    FRONT,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View, at_largest
from analysis.results import Note
from analysis.schema import LOSS, Column, declare, measured

if TYPE_CHECKING:
    from analysis.questions._asked import Whole

READING = Column("reading", "early-stopped (each run at its best scoring), or final")
SCORED = Column("scored", "the evaluation set: held-out text of the corpus")
EPOCHS = Column("epochs", "times that the unique data was read at most")
FRAMES = (
    declare(
        "exhausted",
        "Held-out loss over epochs of the same unique data, of the seeds of each cell.",
        "family corpus params unique_tokens tokens",
        SCORED,
        Column("epochs", "times that the unique data was read"),
        READING,
        Column("seeds", "runs of the cell"),
        "loss low high",
        Column("stopped", "mean epoch of the best scoring"),
    ),
    declare(
        "exhausted_floors",
        "What the loss of each family tends to, or why that is not known.",
        "family corpus params unique_tokens",
        SCORED,
        Column("axis", "what grows: epochs, size or unique data"),
        READING,
        Column("points", "how many there are"),
        *measured("last", "loss at the last point", LOSS),
        *measured("step", "the last loss less the one before it", LOSS),
        Column("floor", "the loss that the points tend to", LOSS),
        "low high",
        Column("refused", "why no floor can be given"),
    ),
    declare(
        "exhausted_gaps",
        "Loss of one architecture less that of another, of a text read once and often.",
        "baseline alternative fixed params unique_tokens tokens",
        SCORED,
        EPOCHS,
        READING,
        *measured("once", "gap after one epoch: `alternative` less `baseline`", LOSS),
        *measured("gap", "gap after the most epochs", LOSS),
        Column("gap_low_90", "lower end of its 90% interval", LOSS),
        Column("gap_high_90", "upper end of its 90% interval", LOSS),
        *measured(
            "change", "size of the gap after the most epochs less after one", LOSS
        ),
        *measured("floor_gap", "gap between the floors over epochs", LOSS),
        Column("refused", "why no gap between floors can be given"),
        Column(
            "exhausted",
            "whether every run of both had its lowest held-out loss before its end",
        ),
    ),
    declare(
        "exhausted_efficiency",
        "Unique data that one architecture needs for another's loss, both exhausted.",
        "baseline alternative fixed params unique_tokens",
        SCORED,
        READING,
        "factor low high",
        Column("beyond", "whether that lies beyond the unique data that was read"),
        Column("refused", "why no factor can be given"),
    ),
)


# --- Losses, from the table ---------------------------------------------------------


def concludes(whole: Whole) -> Answer:
    found = curves(whole.table)
    if not found:
        return {}, []
    floors = {
        (_key(one), reading): _floor(one, reading) for one, reading in _each(found)
    }
    frames = {
        "exhausted": pd.DataFrame(
            [
                _head(one) | _point(cell, reading)
                for one, reading in _each(found)
                for cell in one.cells
            ]
        ),
        "exhausted_floors": pd.DataFrame(
            [_over_epochs(one, r, floors[_key(one), r]) for one, r in _each(found)]
            + list(_over_others(found))
        ),
        "exhausted_gaps": pd.DataFrame(
            [
                _gap(one, two, reading, floors)
                for one, two in _pairs(found)
                for reading in READINGS
            ]
        ),
        "exhausted_efficiency": pd.DataFrame(list(_efficiency(found))),
    }
    return frames, _notes(found)


def _each(found: Sequence[Curve]) -> Iterator[tuple[Curve, str]]:
    return itertools.product(found, READINGS)


def _key(one: Curve) -> tuple[str, str, int, int]:
    return one.family, one.corpus, one.level, one.unique


def _head(one: Curve) -> dict[str, Any]:
    names = ("family", "corpus", "params", "unique_tokens", "scored")
    return {name: getattr(one, name) for name in names}


def _point(cell: Cell, reading: str) -> dict[str, Any]:
    (loss,) = drawn([(cell, reading)])
    if len(cell.runs) < 2:
        loss = _unknown(loss)
    return {
        **{"epochs": cell.epochs, "tokens": cell.tokens, "reading": reading},
        **{"seeds": len(cell.runs), "loss": loss[0], "stopped": cell.stopped},
        **ends_of(loss),
    }


def _unknown(draws: Array) -> Array:
    """The estimate with no interval: one seed does not say how far seeds scatter."""
    return np.append(draws[0], np.full(len(draws) - 1, np.nan))


def _floor(one: Curve, reading: str) -> Floor:
    if one.single:
        return Floor(math.nan, math.nan, math.nan, math.nan, ONE_SEED)
    losses = np.stack(drawn([(cell, reading) for cell in one.cells]), axis=1)
    return floor(np.array([cell.epochs for cell in one.cells]), losses, 0.0)


def _over_epochs(one: Curve, reading: str, tends: Floor) -> dict[str, Any]:
    return _head(one) | _tends("epochs", reading, one.cells, tends)


def _tends(
    axis: str, reading: str, cells: Sequence[Cell], tends: Floor
) -> dict[str, Any]:
    before, last = drawn([(cell, reading) for cell in cells[-2:]])
    if min(len(cell.runs) for cell in cells[-2:]) < 2:
        before, last = _unknown(before), _unknown(last)
    return {
        **{"axis": axis, "reading": reading, "points": len(cells)},
        **{"last": last[0], **ends_of(last, "last")},
        **{"step": (last - before)[0], **ends_of(last - before, "step")},
        **{"floor": tends.value, "low": tends.low, "high": tends.high},
        "refused": tends.refused,
    }


def _over_others(found: Sequence[Curve]) -> Iterator[dict[str, Any]]:
    """Floors over size, and over unique data, of curves' ends."""
    for axis, by, of in (
        ("size", "level", "params"),
        ("unique data", "unique", "unique_tokens"),
    ):
        rest = "unique" if by == "level" else "level"
        order = lambda one, rest=rest, by=by: (
            one.family,
            one.corpus,
            getattr(one, rest),
            getattr(one, by),
        )
        alike = lambda one, order=order: order(one)[:3]
        for _, group in itertools.groupby(sorted(found, key=order), alike):
            several = list(group)
            if len(several) < 2:
                continue
            for reading in READINGS:
                ends = [one.cells[-1] for one in several]
                tends = Floor(math.nan, math.nan, math.nan, math.nan, ONE_SEED)
                if min(len(cell.runs) for cell in ends) > 1:
                    x = np.array([getattr(one, of) for one in several])
                    losses = drawn([(cell, reading) for cell in ends])
                    tends = floor(x, np.stack(losses, axis=1), 0.0)
                head = _head(several[-1])
                yield head | _tends(axis, reading, ends, tends)


# --- Gaps ---------------------------------------------------------------------------


def _pairs(found: Sequence[Curve]) -> Iterator[tuple[Curve, Curve]]:
    """Two families that read the same data as often, at one size."""
    for one, two in itertools.combinations(found, 2):
        if _key(one)[1:] == _key(two)[1:] and _shared(one, two):
            yield one, two


def _shared(one: Curve, two: Curve) -> list[float]:
    """Epochs that both were trained for; none where these are fewer than two."""
    both = {c.epochs for c in one.cells} & {c.epochs for c in two.cells}
    return sorted(both) if len(both) > 1 else []


def _at(one: Curve, epochs: float) -> Cell:
    return next(cell for cell in one.cells if cell.epochs == epochs)


def _gap(one: Curve, two: Curve, reading: str, floors: Any) -> dict[str, Any]:
    epochs = _shared(one, two)
    cells = [_at(curve, e) for e in (epochs[0], epochs[-1]) for curve in (one, two)]
    a, b, c, d = drawn([(cell, reading) for cell in cells])
    once, gap = b - a, d - c
    change = np.abs(gap) - np.abs(once)
    if min(len(cell.runs) for cell in cells) < 2:
        once, gap, change = map(_unknown, (once, gap, change))
    return {
        **{"baseline": one.family, "alternative": two.family, "fixed": one.corpus},
        **{"params": max(one.params, two.params), "scored": one.scored},
        **{"unique_tokens": one.unique_tokens, "tokens": cells[-1].tokens},
        **{"epochs": epochs[-1], "reading": reading},
        **{"once": once[0], **ends_of(once, "once")},
        **{"gap": gap[0], **ends_of(gap, "gap"), **ends_of(gap, "gap", 0.9)},
        **{"change": change[0], **ends_of(change, "change")},
        **_between(floors[_key(one), reading], floors[_key(two), reading]),
        "exhausted": all(cell.past_best for cell in cells[2:]),
    }


def _between(one: Floor, two: Floor) -> dict[str, Any]:
    """The gap of two floors, from their intervals (Zou and Donner 2008, MOVER)."""
    names = ("floor_gap", "floor_gap_low", "floor_gap_high", "refused")
    refused = one.refused or two.refused
    if refused:
        return dict(zip(names, (math.nan, math.nan, math.nan, refused), strict=True))
    gap = two.value - one.value
    low = gap - math.hypot(two.value - two.low, one.high - one.value)
    high = gap + math.hypot(two.high - two.value, one.value - one.low)
    return dict(zip(names, (gap, low, high, ""), strict=True))


# --- In the other's unit --------------------------------------------------------------


def _efficiency(found: Sequence[Curve]) -> Iterator[dict[str, Any]]:
    """How much more unique data the one needs for the loss of the other, both ways.

    The baseline's loss is read along the logarithm of its unique data, straight between
    two amounts and beyond them.
    """
    key = lambda one: (one.family, one.corpus, one.level)
    several: dict[Any, list[Curve]] = {}
    for one in sorted(found, key=lambda one: one.unique):
        several.setdefault(key(one), []).append(one)
    for mine, other in itertools.permutations(several, 2):
        if mine[1:] != other[1:]:
            continue
        alternative = several[other][-1]
        line = [c for c in several[mine] if c.unique <= alternative.unique][-2:]
        for reading in READINGS:
            yield _factor(line, alternative, reading)


def _factor(line: Sequence[Curve], alternative: Curve, reading: str) -> dict[str, Any]:
    last = line[-1] if line else alternative
    row: dict[str, Any] = {
        **{"baseline": last.family, "alternative": alternative.family},
        **{"fixed": alternative.corpus, "params": alternative.params},
        **{"unique_tokens": alternative.unique_tokens, "scored": alternative.scored},
        **{"reading": reading, "factor": math.nan, "low": math.nan, "high": math.nan},
        **{"beyond": False, "refused": ""},
    }
    if len(line) < 2 or last.unique != alternative.unique:
        return row | {"refused": "one amount of unique data only"}
    cells = [one.cells[-1] for one in (*line, alternative)]
    if min(len(cell.runs) for cell in cells) < 2:
        return row | {"refused": ONE_SEED}
    less, more, wanted = drawn([(cell, reading) for cell in cells])
    slope = (less - more) / math.log(line[1].unique_tokens / line[0].unique_tokens)
    if interval(slope[1:])[0] <= 0:
        return row | {"refused": "more unique data is not shown to lower its loss"}
    with np.errstate(over="ignore"):
        factor = np.exp((more - wanted) / np.maximum(slope, 1e-12))
    inside = line[0].unique_tokens / line[1].unique_tokens <= factor[0] <= 1.0
    return row | {"factor": factor[0], "beyond": not inside, **ends_of(factor)}


def _notes(found: Sequence[Curve]) -> list[Note]:
    single = sorted({f"{one.family}{on(one.corpus)}" for one in found if one.single})
    if not single:
        return []
    text = f"One seed only of {', '.join(single)}: gaps and floors of exhausted data "
    return [Note("undetermined", "exhausted", f"{text}have no interval there.")]


# --- Words ----------------------------------------------------------------------------


def _reported(frame: pd.DataFrame, reading: str = EARLY) -> pd.DataFrame:
    """Rows of one reading at the largest size and unique data of each swap."""
    mine = frame[frame.reading == reading] if len(frame) else frame
    if mine.empty:
        return mine
    if "tokens" not in mine:
        mine = mine.assign(tokens=mine.unique_tokens)
    return at_largest(mine)


def gap_text(row: Any, unit: str) -> str:
    where = f"{row.baseline} → {row.alternative}{on(row.fixed)}"
    place = f"{count(row.unique_tokens)} unique tokens read up to {row.epochs:g} "
    falls = (
        "which comes before the end"
        if row.exhausted
        else "though held-out loss was still falling at the end of some"
    )
    gap = _with_interval(row.gap, row.gap_low, row.gap_high)
    once = _with_interval(row.once, row.once_low, row.once_high)
    change = interval_text(row.change_low, row.change_high)
    lie = verdict(row.change_low, row.change_high, 0.0)
    said = {
        "below": f"it is smaller by {number(-row.change)} (change {change})",
        "above": f"it is larger by {number(row.change)} (change {change})",
        "undetermined": f"whether it shrinks {UNDETERMINED} (change {change})",
    }[lie]
    if np.isnan(row.change_low):
        said = "one seed gives no interval, so whether it shrinks is not known"
    sides = {
        verdict(row.once_low, row.once_high, 0.0),
        verdict(row.gap_low, row.gap_high, 0.0),
    }
    if sides == {"above", "below"}:
        said = f"which of the two is the better is reversed, and {said}"
    return (
        f"{where}, {place}times, each run at its best step, {falls}: the gap in "
        f"held-out loss is {gap} {unit} against {once} after one epoch: {said}"
    )


def _with_interval(value: float, low: float, high: float) -> str:
    ends = "" if np.isnan(low) else f" ({interval_text(low, high)})"
    return f"{number(value)}{ends}"


def factor_text(row: Any, unit: str) -> str:
    ends = interval_text(row.low, row.high)
    side = "more" if row.factor > 1 else "less"
    beyond = f", {side} than was read: its line is prolonged" if row.beyond else ""
    return (
        f"{row.baseline}{on(row.fixed)} needs {number(row.factor)} times the unique "
        f"data ({ends}) for the exhausted loss of {row.alternative}{beyond}"
    )


def floor_text(row: Any, unit: str) -> str:
    what = f"{row.family}{on(row.corpus)}, {count(row.unique_tokens)} unique tokens"
    last = f"{number(row.last)} ({interval_text(row.last_low, row.last_high)})"
    lie = verdict(row.step_low, row.step_high, 0.0)
    moves = {
        "below": "still falls with more epochs",
        "above": "rises with more epochs",
        "undetermined": "no longer falls by a measurable amount",
    }[lie]
    text = f"{what}: early-stopped loss is {last} {unit} and {moves}"
    if row.refused:
        return f"{text}; no floor can be given: {row.refused}"
    ends = interval_text(row.low, row.high)
    return f"{text}; it tends to {number(row.floor)} ({ends})"


def said(view: View) -> list[str]:
    analysis = view.analysis
    gaps = _reported(analysis.exhausted_gaps)
    factors = _reported(analysis.exhausted_efficiency)
    factors = factors[factors.refused == ""] if len(factors) else factors
    floors = analysis.exhausted_floors
    floors = floors[floors.axis == "epochs"] if len(floors) else floors
    out: list[str] = []
    for frame, text in (
        (gaps, gap_text),
        (_reported(floors), floor_text),
        (factors, factor_text),
    ):
        out += few([f"{text(row, analysis.unit)}." for row in frame.itertuples()])
    return out


def answers(view: View) -> list[Sentence]:
    """Of the gaps left the largest, where there are any of data that is exhausted."""
    gaps = _reported(view.analysis.exhausted_gaps)
    if gaps.empty:
        return []
    if gaps.exhausted.any():
        gaps = gaps[gaps.exhausted]
    row = gaps.loc[gaps.gap.abs().idxmax()]
    text = f"{gap_text(row, view.analysis.unit)}."
    return [Sentence(text, 64, FRONT), Sentence(text, 57)]


QUESTION = Question(
    name="exhausted_data",
    title="What is left once the data is exhausted?",
    place=53.2,
    absent=Absent(
        "loss of exhausted data",
        ("exhausted",),
        ("exhausted",),
        "No family read the same data several times and was scored on held-out text of "
        "it, with its best reading kept.",
    ),
    said=said,
    answers=answers,
    figures={
        "exhausted": Drawing(
            draw_exhausted,
            "Held-out loss over epochs of the most unique data that was read: full "
            "lines are runs stopped at their best step, dotted ones their ends, "
            "bands 95% intervals by seeds and documents together. A mark at the right "
            "edge is the floor that the early-stopped loss tends to, where its points "
            "can tell one.",
            scored=False,
            front=12,
        )
    },
    about=("exhausted",),
    tables=(
        Table("Gaps after one epoch and after the most", "exhausted_gaps"),
        Table("Floors of the loss", "exhausted_floors"),
        Table("Unique data in the other's unit", "exhausted_efficiency"),
        Table("Losses over epochs", "exhausted"),
    ),
    concludes=concludes,
)
