"""Figures of lower halves that models expect: pair by pair, and as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.laws import Array
from analysis.pictures.groups import ACROSS, HALVES, half_of
from analysis.pictures.halves import Halves
from analysis.questions._hidden_half_words import BOTH, pairs
from analysis.questions._picture_grid import COLUMNS, PIXELS, draw_rows, levels_of
from analysis.report.style import (
    FAINT,
    INK,
    PALETTE,
    Nothing,
    forest_axis,
    key,
    legend,
    log_axis,
    reach,
    resize,
    span,
    whisker,
)
from analysis.results import Analysis
from analysis.schema import Column, declare

SHOWN, REAL, LINEAR, EXPECTED = "shown", "real", "best linear", "expected"
GREY = 0.5  # of a half that is hidden
GRID = declare(
    "hidden_half_grid",
    "Held-out pictures with the lower halves that models expect.",
    Column("samples", "the set of held-out pictures"),
    Column("what", "shown, real, best linear, or expected by the run"),
    "run_id family corpus params tokens unique_tokens",
    Column("column", "number of the picture"),
    *PIXELS,
)
LOOKS = {
    BOTH: (PALETTE[0], "o"),
    "diffusion": (PALETTE[1], "s"),
    "pixels in order": (PALETTE[2], "^"),
}
MOST, RUNS = 24, 8  # pairs and runs that figures have room for


def draw_halves(figure: Figure, analysis: Analysis, target: str) -> None:
    """Distance and agreement of every pair, with floor and null."""
    frame = pairs(analysis).head(MOST)
    frame = frame[frame.distance.notna()] if len(frame) else frame
    if frame.empty:
        raise Nothing
    resize(figure, 1.5 + 0.3 * len(frame))
    left, right = figure.subplots(1, 2, sharey=True)
    ends = (frame.distance, frame.distance_high, frame.null, frame.linear, frame.floor)
    log_axis(left.xaxis, lambda v: f"{v:g}", span(*ends))
    lows = (frame.beyond_linear_low, frame.beyond_linear_high, frame.floor_beyond)
    right.set_xlim(*reach(*lows, frame.null_beyond, [0.0, 1.0]))
    labels = []
    for y, row in enumerate(frame.to_dict("records")):
        look = LOOKS[row["of"]]
        for axes, name, marks in (
            (left, "distance", {"floor": "|", "linear": "x", "null": "4"}),
            (right, "beyond_linear", {"floor_beyond": "|", "null_beyond": "4"}),
        ):
            value = {"value": row[name]}
            value |= {end: row[f"{name}_{end}"] for end in ("low", "high")}
            if not math.isnan(row[name]):
                whisker(axes, y, value, *look)
            for of, mark in marks.items():
                if not math.isnan(row[of]):
                    axes.plot(row[of], y, marker=mark, color=FAINT, ms=7)
        labels.append(_names(row))
    forest_axis(left, labels, range(len(frame)))
    right.tick_params(axis="y", length=0)
    for x in (0.0, 1.0):
        right.axvline(x, color=INK, lw=0.8, ls="-" if x else ":")
    left.axvline(1.0, color=INK, lw=0.6, ls=":")
    for axes in (left, right):
        axes.grid(True, axis="x")
    left.set_xlabel("squared distance, in errors")
    right.set_xlabel("agreement beyond linear")
    handles = [key(of, *LOOKS[of]) for of in LOOKS if of in set(frame["of"])]
    more = [key("floor", FAINT, "|"), key("best linear", FAINT, "x")]
    legend(figure, [*handles, *more, key("null", FAINT, "4")])


def _names(row: Any) -> str:
    one, two, fixed = (str(row[k]) for k in ("baseline", "alternative", "fixed"))
    if row["kind"] == HALVES:
        return f"{fixed} {half_of(one)}, {fixed} {half_of(two)}"
    if row["kind"] == ACROSS:
        return f"{one} {half_of(fixed)}, {two} {fixed[-1]}"
    return f"{one} {half_of(fixed)}, {two} {half_of(fixed)}"


# --- Pictures ------------------------------------------------------------------------


def grid(halves: Halves, groups: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows of the frame: what is shown and real, and what some groups expect."""
    largest = max(group.first.params for group in groups)
    chosen = [g for g in groups if g.first.params > 0.5 * largest][:RUNS]
    numbers = halves.numbers
    # Spread evenly, since pictures of one group stand together.
    some = np.unique(np.linspace(0, len(numbers) - 1, COLUMNS).round().astype(int))
    real = halves.asked.pictures.real[numbers[some]]
    upper = real[:, : real.shape[1] // 2]
    whole = lambda lower: np.concatenate(
        [upper, lower.reshape(len(real), -1, *real.shape[2:])], axis=1
    )
    out: list[dict[str, Any]] = []
    for k, group in enumerate(chosen):
        run_id = group.points[0][0]
        one = halves.of(run_id)
        names = ("family", "corpus", "params", "tokens", "unique_tokens")
        head = {"samples": halves.asked.pictures.name, "run_id": run_id}
        head |= {name: group.first[name] for name in names}
        if k == 0:
            hidden = np.full_like(real[:, real.shape[1] // 2 :], GREY)
            out += _rows(head | {"what": SHOWN}, whole(hidden), numbers[some])
            out += _rows(head | {"what": REAL}, real, numbers[some])
            if one.linear is not None:
                best = whole(one.linear[some])
                out += _rows(head | {"what": LINEAR}, best, numbers[some])
        out += _rows(head | {"what": EXPECTED}, whole(one.mean[some]), numbers[some])
    return out


def _rows(
    head: dict[str, Any], pictures: Array, numbers: Array
) -> Iterator[dict[str, Any]]:
    for number, picture in zip(numbers, pictures, strict=True):
        yield head | {"column": int(number), **levels_of(picture)}


def draw_grid(figure: Figure, analysis: Analysis, target: str) -> None:
    """Pictures as they are, and the lower halves that each model expects."""
    draw_rows(figure, analysis.hidden_half_grid, _name)


def _name(row: Any) -> str:
    if row.what != EXPECTED:
        return str(row.what)
    half = half_of(row.corpus)
    return f"{row.family}, half {half}" if half else str(row.family)
