"""Figures of agreement between samples: pair by pair, and against the data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import count, number
from analysis.pictures.groups import ACROSS, ARCHITECTURE, HALVES, SEEDS, SIZE
from analysis.questions._same_picture_words import of_first
from analysis.report.style import (
    FAINT,
    INK,
    PALETTE,
    Nothing,
    banded,
    forest_axis,
    key,
    legend,
    log_axis,
    looks,
    panels_of,
    reach,
    resize,
    side_note,
    span,
    whisker,
)
from analysis.results import Analysis

LOOKS = {
    SEEDS: (FAINT, "D"),
    HALVES: (PALETTE[1], "s"),
    ARCHITECTURE: (PALETTE[0], "o"),
    ACROSS: (PALETTE[2], "^"),
    SIZE: (PALETTE[3], "v"),
}
MOST = 30  # pairs that one figure has room for


def draw_pairs(figure: Figure, analysis: Analysis, target: str) -> None:
    """Agreement beyond linear of every pair at one place, with floor and null."""
    reported = of_first(analysis.same_pictures)
    if reported.empty:
        raise Nothing
    frame = reported[reported.beyond_linear.notna() & reported.kind.isin(LOOKS)]
    if frame.empty:
        raise Nothing
    frame = frame.assign(order=frame.kind.map({k: i for i, k in enumerate(LOOKS)}))
    frame = frame.sort_values(["order", "beyond_linear"], ascending=[True, False])
    if len(frame) > MOST:  # some of each kind, from the first to the last
        steps = np.linspace(0, len(frame) - 1, MOST).round().astype(int)
        frame = frame.iloc[steps]
    resize(figure, 1.3 + 0.27 * len(frame))
    axes = figure.subplots()
    ends = (frame.beyond_linear_low, frame.beyond_linear_high, frame.null_high)
    axes.set_xlim(*reach(*ends, frame.floor, frame.copies, [0.0, 1.0]))
    labels = []
    for y, row in enumerate(frame.to_dict("records")):
        whisker(axes, y, _shown(row, "beyond_linear"), *LOOKS[row["kind"]])
        axes.plot(row["null_high"], y, marker="4", color=FAINT, ms=7)
        if row["kind"] != SEEDS:
            for name, mark in (("floor", "|"), ("copies", "x")):
                if not math.isnan(row[name]):
                    axes.plot(row[name], y, marker=mark, color=FAINT, ms=7)
        labels.append(_label(row))
        side_note(axes, y, f"as they are {number(row['correlation'], 3)}")
    forest_axis(axes, labels, range(len(frame)))
    for x in (0.0, 1.0):
        axes.axvline(x, color=INK, lw=0.8, ls="-" if x else ":")
    axes.grid(True, axis="x")
    axes.set_xlabel("agreement beyond linear: 1 the same picture, 0 none")
    handles = [key(kind, *LOOKS[kind]) for kind in LOOKS if kind in set(frame.kind)]
    more = [key("floor", FAINT, "|"), key("copies", FAINT, "x")]
    legend(figure, [*handles, *more, key("null", FAINT, "4")])


def _shown(row: Any, name: str) -> dict[str, float]:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return {"value": row[name], "low": low, "high": high}


def _label(row: Any) -> str:
    if row["kind"] == SEEDS:
        return f"two seeds: {row['baseline']}, {row['fixed']}"
    if row["kind"] == HALVES:
        return f"two halves: {row['fixed']}"
    pair = f"{row['baseline']}, {row['alternative']}"
    if row["kind"] == ACROSS:
        return f"{pair} ({row['fixed'].partition(', ')[2]})"
    return f"{pair} ({row['fixed']})"


def draw_agreement(figure: Figure, analysis: Analysis, target: str) -> None:
    """Agreement beyond linear against the data, a panel a kind of pair."""
    frame = analysis.same_pictures
    if frame.empty:
        raise Nothing
    frame = frame[(frame.samples == frame.samples.iloc[0]) & (frame.fraction == 1.0)]
    frame = frame[frame.beyond_linear.notna()]
    lines = [one for one in _lines(frame) if len(one) > 1]
    kinds = [
        k
        for k in (HALVES, ARCHITECTURE, ACROSS)
        if k in {o.kind.iloc[0] for o in lines}
    ]
    if not kinds:
        raise Nothing
    resize(figure, 3.5, max(4.4, 0.8 + 2.5 * len(kinds)))
    panels = panels_of(figure, 1, len(kinds))[0]
    names = list(dict.fromkeys(_pair(o) for o in lines if o.kind.iloc[0] in kinds))
    panels[0].set_ylim(-0.1, 1.05)
    for axes, kind in zip(panels, kinds, strict=True):
        mine = [one for one in lines if one.kind.iloc[0] == kind]
        every = pd.concat(mine)
        log_axis(axes.xaxis, count, span(every.unique_tokens))
        for one in mine:
            look = looks(names, _pair(one))
            ends = one.rename(
                columns={f"beyond_linear_{end}": end for end in ("low", "high")}
            )
            banded(axes, one.unique_tokens, one.beyond_linear, ends, look)
            axes.plot(one.unique_tokens, one.floor, color=look[0], ls=":", lw=1.0)
            axes.plot(one.unique_tokens, one.copies, color=look[0], ls="", marker="x")
        null = every.groupby("unique_tokens").null_high.max()
        axes.plot(null.index, null.to_numpy(), color=FAINT, lw=1.0)
        for y in (0.0, 1.0):
            axes.axhline(y, color=INK, lw=0.6, ls="-" if y else ":")
        axes.set_title(kind)
        axes.set_xlabel("different pictures read")
        axes.grid(True)
    panels[0].set_ylabel("agreement beyond linear")
    handles = [key(name, *looks(names, name)) for name in names]
    more = [key("floor", INK, None, ":"), key("copies", INK, "x")]
    legend(figure, [*handles, *more, key("null", FAINT, None, "-")])


def _lines(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Of each pair its line over the data, at the size and budget of the longest."""
    out = []
    for _, some in frame.groupby(
        ["kind", "baseline", "alternative", "fixed"], sort=False
    ):
        size = some.groupby(["params", "tokens"]).unique_tokens.transform("nunique")
        some = some[size == size.max()].sort_values(["params", "tokens"])
        last = some.iloc[-1]
        mine = some[(some.params == last.params) & (some.tokens == last.tokens)]
        out.append(mine.sort_values("unique_tokens").drop_duplicates("unique_tokens"))
    return out


def _pair(one: pd.DataFrame) -> str:
    row = one.iloc[0]
    if row.kind == HALVES:
        return str(row.fixed)
    return f"{row.baseline}, {row.alternative}"
