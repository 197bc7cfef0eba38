"""Figures of what swaps are worth in data, from rows of Analysis.equivalents."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.formatting import among, count, levels_text, percent
from analysis.questions._view import METHODS, at_fitted, beyond, leading, one_way
from analysis.report.style import (
    FAINT,
    LABEL,
    MOST_COLUMNS,
    Nothing,
    banded,
    factor_axis,
    forest_axis,
    key,
    legend,
    log_axis,
    looks,
    near,
    ordered,
    resize,
    rows_of,
    side_note,
    span,
    whisker,
    wrapped,
)
from analysis.results import Analysis

# What the legend calls a method.
NAMES = {
    "preferred": "leading law",
    "joint": "joint law",
    "family": "laws of each family and corpus alone",
    "paired": "matched cells, no law",
}


def draw_equivalents(figure: Figure, analysis: Analysis, target: str) -> None:
    """What each swap is worth in data at the largest fitted cell, by every method."""
    reported = one_way(rows_of(analysis.equivalents, target))
    frame = at_fitted(reported)
    if frame.empty:
        raise Nothing
    given = set(frame[frame.factor.notna()].method)
    methods = [method for method in METHODS if method in given]
    # A swap of which nothing is known at that cell has no row in the figure.
    some = frame.factor.notna() | (frame.p_infinite > 0)
    frame = frame[frame.method.isin(methods) & some]
    if frame.empty:
        raise Nothing
    keys = ["baseline", "alternative", "fixed"]
    kinds = ordered(frame.kind)
    heights = [
        frame[frame.kind == kind].drop_duplicates(keys).shape[0] for kind in kinds
    ]
    resize(figure, 0.9 + 0.5 * len(kinds) + 0.42 * sum(heights))
    panels = figure.subplots(len(kinds), 1, squeeze=False, height_ratios=heights)[:, 0]
    outside = leading(beyond(reported))
    for axes, kind in zip(panels, kinds, strict=True):
        groups = frame[frame.kind == kind].groupby(keys, sort=False)
        _swaps_of_a_kind(axes, list(groups), outside[outside.kind == kind], methods)
        axes.set_title(f"{kind} (no effect: 1; dashed: a doubling of the data)")
    figure.supxlabel(
        "data-equivalent: times its data that the first needs to reach the loss of "
        "the second",
        fontsize=8.5,
    )
    marks = [key(NAMES[m], *looks(METHODS, m)[:2]) for m in methods]
    far = Line2D([], [], color=FAINT, marker="o", mfc="white", ls="-", ms=5)
    far.set_label("extrapolated to the withheld largest cell")
    legend(figure, [*marks, far] if len(outside) else marks)


def _swaps_of_a_kind(
    axes: Axes,
    groups: Sequence[tuple[Any, pd.DataFrame]],
    outside: pd.DataFrame,
    methods: Sequence[str],
) -> None:
    """A row for each swap and fixed level, a mark for each method."""
    frame = pd.concat([group for _, group in groups])
    finite = frame[np.isfinite(frame.factor)]
    low, high = span(finite.factor, finite.low, [0.9, 2.2])
    ends = frame.high[np.isfinite(frame.high)]
    high = max(high, min(ends.max() if len(ends) else high, 10 * high))
    factor_axis(axes, (max(low, 1e-3) / 1.1, high * 1.1))
    axes.axvline(2, color=FAINT, lw=0.9, ls="--")
    offsets = np.linspace(-0.3, 0.3, len(methods) + (len(outside) > 0))
    for y, (names, group) in enumerate(groups):
        for row in group.to_dict("records"):
            shift = offsets[methods.index(row["method"])]
            colour, marker, _ = looks(METHODS, row["method"])
            whisker(axes, y + shift, row | {"value": row["factor"]}, colour, marker)
        same = (outside[["baseline", "alternative", "fixed"]] == list(names)).all(
            axis=1
        )
        for row in outside[same].to_dict("records"):
            far = row | {"value": row["factor"]}
            whisker(axes, y + offsets[-1], far, FAINT, "o", mfc="white")
        never = group.p_infinite.max()
        if never > 0:
            side_note(axes, y, f"∞ in {percent(never)}\nof draws")
    named = [f"{names[0]} → {names[1]}{among(names[2])}" for names, _ in groups]
    forest_axis(axes, named, range(len(groups)))


def draw_scale(figure: Figure, analysis: Analysis, target: str) -> None:
    """The data-equivalent of each architecture swap as a function of scale."""
    frame = leading(one_way(rows_of(analysis.equivalents, target)))
    frame = frame[(frame.kind == "architecture") & frame.params.notna()]
    if frame.empty or frame.tokens.nunique() < 2:
        raise Nothing
    fixed = ordered(frame.fixed)
    swaps = list(dict.fromkeys(zip(frame.baseline, frame.alternative, strict=True)))
    margins = 0.9, 1.8
    panels = wrapped(figure, len(fixed), len(swaps), 2.1, margins)
    top = frame.high[np.isfinite(frame.high)].max()
    finite = frame.factor[np.isfinite(frame.factor)].clip(upper=100)
    bottom = frame.low.clip(lower=0.1)
    y_limits = span(finite, bottom.clip(upper=1), [0.9, 2.5, min(top, 100)], pad=0.1)
    sizes = sorted(frame.params.unique())
    for (i, level), (j, (baseline, alternative)) in itertools.product(
        enumerate(fixed), enumerate(swaps)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, count, span(frame.tokens, pad=0.12))
        factor_axis(axes, y_limits, upward=True)
        axes.axhline(2, color=FAINT, lw=0.8, ls="--")
        for params in sizes:
            look = looks(sizes, params)
            mine = frame[
                (frame.fixed == level)
                & (frame.baseline == baseline)
                & (frame.alternative == alternative)
                & near(frame.params, params)
            ].sort_values("tokens")
            banded(axes, mine.tokens, mine.factor, mine, look)
            for row in mine[mine.factor > y_limits[1]].itertuples():
                text = f"{count(row.factor)} ↑"
                share = 0.99 - 0.08 * sizes.index(params)
                _at_top(axes, row.tokens, share, text, look[0])
        if i == 0:
            apart = "\n" if len(baseline) + len(alternative) > 2 * LABEL - 12 else " "
            axes.set_title(f"{baseline}{apart}→ {alternative}", fontsize=8.5)
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(f"{levels_text(level)}\ntimes the data".strip())
    figure.supxlabel("training tokens", fontsize=8.5)
    keys = [key(count(s), *looks(sizes, s)) for s in sizes]
    legend(figure, [key("parameters:", "none"), *keys])


def _at_top(axes: Axes, x: float, share: float, text: str, colour: str) -> None:
    """Says what lies above the axis, `share` of the way up."""
    axes.annotate(
        text,
        (x, share),
        xycoords=("data", "axes fraction"),
        xytext=(0, 0),
        textcoords="offset points",
        ha="center",
        va="top",
        bbox={"facecolor": "white", "alpha": 0.85, "lw": 0, "pad": 0.8},
        color=colour,
        fontsize=7.5,
    )
