"""What the figures share: style, axes, panels and marks.

A figure is a function of a question, `draw(figure, analysis, target)`; it sets the
figure's size and raises `Nothing` where its frame has no rows for the target. Families
and sizes differ in colour (Okabe and Ito's palette), marker and line style, so that
each figure can be read in grey. No global state: no pyplot, and the style holds only
inside `styled`.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.font_manager
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.formatting import UNNAMED
from analysis.results import Analysis

# Okabe & Ito (2008), without the yellow that vanishes on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


MARKERS = ("o", "s", "^", "D", "v", "P", "X")


LINES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 3)), (0, (3, 1, 1, 1)))


INK, FAINT, ALARM = "#222222", "#8a8a8a", "#B00000"


STYLE: Any = {
    "font.family": "sans-serif",
    # Text stays text in the SVG: the page's reader sees the page's own font. DejaVu
    # is the widest of these, so what fits here fits there.
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "svg.fonttype": "none",
    "svg.hashsalt": "datalaw",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "text.color": INK,
    # A name with dollar signs is a name.
    "text.parse_math": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}


WIDTH = 7.6  # inches: two columns of a journal


DPI = 160


# Letters that a label beside a panel of two inches has room for.
LABEL = 22


Draw = Callable[[Figure, Analysis, str], None]


class Nothing(Exception):
    """The frame behind a figure has no rows for this target."""


@contextmanager
def styled() -> Iterator[None]:
    """The report's style, with fonts for any script."""
    with matplotlib.rc_context(STYLE | {"font.sans-serif": _fonts()}), _any_script():
        yield


# Fonts with letters that the others lack, in the order of preference.
MORE_FONTS = ("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Arial Unicode MS")


@functools.cache
def _fonts() -> list[str]:
    """The style's fonts, and behind them those of this machine for other scripts."""
    known = set(matplotlib.font_manager.get_font_names())
    wanted = [*STYLE["font.sans-serif"], *MORE_FONTS]
    return [name for name in wanted if name in known]


@contextmanager
def _any_script() -> Iterator[None]:
    """Says nothing of letters that no font of this machine has.

    In the page they are text, which the reader's own fonts show; the PNG has a box.
    """
    with warnings.catch_warnings():
        missing = r"Glyph .* missing from font|Matplotlib currently does not support .*"
        warnings.filterwarnings("ignore", missing, UserWarning)
        yield


def rows_of(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    chosen = frame[frame.target == target]
    if chosen.empty:
        raise Nothing
    return chosen


def resize(figure: Figure, height: float, width: float = WIDTH) -> None:
    figure.set_size_inches(width, height)


def ordered(values: pd.Series) -> list[Any]:
    return list(dict.fromkeys(values))


def looks(names: Sequence[Any], i: Any) -> tuple[str, str, Any]:
    """Colour, marker and line of the i-th name: the same in every figure."""
    k = list(names).index(i)
    # Beyond the palette a colour comes again with another marker and line.
    shifted = k + k // len(PALETTE)
    return (
        PALETTE[k % len(PALETTE)],
        MARKERS[shifted % len(MARKERS)],
        LINES[shifted % len(LINES)],
    )


def tint(colour: str, share: float) -> Any:
    """`colour` mixed with white; share 1 is the colour itself."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return tuple(1 - share * (1 - rgb))


def families_of(analysis: Analysis) -> list[Any]:
    """Every family of the study, in the one order that fixes its colour."""
    return sorted(set(usable(analysis.runs).family))


def corpora_of(analysis: Analysis) -> list[Any]:
    return sorted(set(usable(analysis.runs).corpus))


def usable(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of which some loss can be used; all of them where there is none.

    The table also has runs that a condition left out, such as those of the other
    objective, which are no part of any figure.
    """
    if "usable" not in runs:  # a frame of one's own
        return runs
    some = runs[runs.usable.astype(bool)]
    return some if len(some) else runs


def shade(names: Sequence[Any], name: Any, rung: int, rungs: int) -> Any:
    """The name's colour, lighter for the smaller rungs of a ladder."""
    return tint(looks(names, name)[0], 0.5 + 0.5 * rung / max(1, rungs))


def sizes_of(frame: pd.DataFrame) -> pd.Series:
    """Each row's rung on the size ladder, from 0.

    A family's sizes are only near the others': rungs are counted within a family.
    """
    return frame.groupby("family").params.rank(method="dense").astype(int) - 1


def near(values: pd.Series, value: float) -> np.ndarray:
    """Where sizes are the same but for rounding."""
    return np.isclose(values, value, rtol=1e-6)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers inside [low, high] for a log axis: at least three if they exist."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
    best: list[float] = []
    for mantissas in choices:
        marks = [m * 10.0**k for k in decades for m in mantissas]
        best = [mark for mark in marks if low <= mark <= high * (1 + 1e-9)]
        if len(best) >= 4:
            return best
    if len(best) >= 3 and high / low > 3:
        return best
    linear = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [mark for mark in linear if low <= mark <= high]


def log_axis(
    axis: Any, form: Callable[[float], str], limits: tuple[float, float]
) -> None:
    """A log axis with labelled round ticks and a grid, and no minor clutter."""
    axes, low, high = axis.axes, *limits
    if axis is axes.xaxis:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    marks = ticks(low, high)
    if axis is axes.xaxis:
        marks = apart(axes, marks, form)
    axis.set_major_locator(FixedLocator(marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    axes.grid(True, axis=axis.axis_name)
    axes.set_axisbelow(True)


def apart(
    axes: Axes, marks: Sequence[float], form: Callable[[float], str]
) -> list[float]:
    """The marks of a log x axis whose labels, from the left, do not touch."""
    spec, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    columns = spec.get_gridspec().ncols if spec is not None else 1
    low, high = np.log(axes.get_xlim())
    # Points of a panel, of which labels and margins take a fifth; 8-point digits.
    inches = figure.get_size_inches()[0] if figure is not None else WIDTH
    width = 72 * 0.8 * inches / columns
    kept: list[float] = []
    free = -math.inf
    for mark in marks:
        half = 2.7 * len(form(mark))
        place = width * (math.log(mark) - low) / (high - low)
        if place - half >= free:
            kept.append(mark)
            free = place + half + 6
    return kept


# No log axis goes further than this from its middle: what does is an arrow.
FARTHEST = 1e12


def span(*values: Any, pad: float = 0.06) -> tuple[float, float]:
    """Limits of a log axis about the finite positive values."""
    every = np.concatenate([np.asarray(v, float).ravel() for v in values])
    every = every[np.isfinite(every) & (every > 0)]
    if not every.size:
        return 0.5, 2.0
    middle = float(np.exp(np.median(np.log(every))))
    low, high = max(every.min(), middle / FARTHEST), min(every.max(), middle * FARTHEST)
    room = max((high / low) ** pad, 1.02)
    return low / room, high * room


def reach(*values: Any, pad: float = 0.06) -> tuple[float, float]:
    """Limits of a linear axis about the finite values, however few or alike.

    Raises:
      Nothing: none is finite.
    """
    every = np.concatenate([np.asarray(v, float).ravel() for v in values])
    every = every[np.isfinite(every)]
    if not every.size:
        raise Nothing
    low, high = float(every.min()), float(every.max())
    # Values that are one number still have a place on an axis.
    room = pad * (high - low) if high - low > 1e-9 * abs(high) else 0.1 * abs(high)
    return low - (room or 1.0), high + (room or 1.0)


def plain(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def panels_of(figure: Figure, rows: int, columns: int, **more: Any) -> np.ndarray:
    return figure.subplots(rows, columns, squeeze=False, sharey=True, **more)


# So many families, or swaps, stand beside each other; more go on below.
MOST_COLUMNS = 4


def wrapped(
    figure: Figure,
    rows: int,
    columns: int,
    height: float,
    margins: tuple[float, float],
    narrowest: int = 1,
) -> dict[tuple[int, int], Axes]:
    """Panels by (row, column), in blocks of rows; axes are shared by all.

    Args:
      height: of a panel, in inches. margins: of the figure, upright and across.
      narrowest: columns that the figure has room for in any case.
    """
    deep, wide = max(1, math.ceil(columns / MOST_COLUMNS)), min(columns, MOST_COLUMNS)
    width = margins[1] + 2.3 * max(wide, narrowest)
    resize(figure, margins[0] + height * rows * deep, width)
    panels = panels_of(figure, rows * deep, wide, sharex=True)
    for axes in panels.ravel():
        axes.set_axis_off()
    out = {}
    for i, j in itertools.product(range(rows), range(columns)):
        axes = out[i, j] = panels[j // wide * rows + i, j % wide]
        axes.set_axis_on()
        # The last of its column, and the first of its row, whatever is beside.
        last = i == rows - 1 and j + wide >= columns
        axes.tick_params(axis="x", labelbottom=last)
        axes.tick_params(axis="y", labelleft=j % wide == 0)
    return out


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Label positions at least `gap` apart, as near to the wanted ones as may be."""
    order = np.argsort(wanted)
    placed = np.array(wanted, float)
    for _ in range(200):
        moved = False
        for low, high in itertools.pairwise(order):
            short = gap - (placed[high] - placed[low])
            if short > 1e-9:
                placed[low] -= short / 2
                placed[high] += short / 2
                moved = True
        if not moved:
            break
    return list(placed)


def line_labels(axes: Any, x: float, ys: Sequence[float], texts, colours) -> None:
    """Direct labels at the right end of lines, moved apart; no more than have room."""
    scaled = axes.transScale.transform([(x, y) for y in ys])
    wanted = axes.transLimits.transform(scaled)[:, 1]
    rows = axes.get_subplotspec().get_gridspec().nrows
    gap = 9.5 * rows / (axes.figure.get_size_inches()[1] * 72 * 0.8)
    room = max(2, int(1 / gap))
    if len(wanted) > room:
        # The outermost lines, and those between them in even steps.
        order = np.argsort(wanted, kind="stable")
        kept = order[np.linspace(0, len(order) - 1, room).round().astype(int)]
        wanted = wanted[kept]
        texts, colours = ([known[i] for i in kept] for known in (texts, colours))
    for share, text, colour in zip(
        _spread(list(wanted), gap), texts, colours, strict=True
    ):
        axes.annotate(
            text,
            (1.01, share),
            xycoords="axes fraction",
            color=colour,
            fontsize=7.5,
            va="center",
            annotation_clip=False,
        )


def whisker(axes: Axes, y: float, row: Any, colour: str, marker: str, **more) -> None:
    """A point with its 95% interval; an end outside the axis becomes an arrow."""
    left, right = axes.get_xlim()
    low, high = (max(row["low"], left), min(row["high"], right))
    if low < high:
        axes.plot([low, high], [y, y], color=colour, lw=1.4, solid_capstyle="butt")
    if row["high"] > right:
        axes.plot(right, y, marker=">", color=colour, ms=5, clip_on=False)
    if row["low"] < left:
        axes.plot(left, y, marker="<", color=colour, ms=5, clip_on=False)
    if left <= row["value"] <= right:
        style: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5, "ls": ""}
        axes.plot(row["value"], y, **(style | more))


def factor_axis(axes: Axes, limits: tuple[float, float], upward: bool = False) -> None:
    """A log axis of factors, across or upward, with a line at 1: no effect."""
    log_axis(axes.yaxis if upward else axes.xaxis, plain, limits)
    (axes.axhline if upward else axes.axvline)(1, color=INK, lw=0.8)


def share_axis(axes: Axes, frame: pd.DataFrame, label: str) -> None:
    """An axis across of shares in percent, wide enough for the intervals."""
    most = reach(frame.high, frame.share, [0.0], pad=0.04)[1]
    axes.set_xlim(min(0.0, frame.low.min()) if frame.low.notna().any() else 0.0, most)
    axes.axvline(0, color=FAINT, lw=0.8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%"))
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(label)


def banded(
    axes: Axes,
    x: pd.Series,
    y: pd.Series,
    ends: pd.DataFrame,
    look: tuple[Any, Any, Any],
) -> None:
    """A line with the band of its interval, which stops at the axis's limits."""
    colour, marker, line = look
    bottom, top = axes.get_ylim()
    low, high = ends.low.clip(lower=bottom), ends.high.clip(upper=top)
    axes.fill_between(x, low, high, color=colour, alpha=0.13, lw=0)
    axes.plot(x, y, color=colour, marker=marker, ls=line)


def trained(corpus: str) -> str:
    """A line that says what was trained on; nothing where the table does not."""
    return "" if corpus == UNNAMED else f"trained on {corpus}\n"


# Letters of a row's label that leave room for a panel beside them in a whole page.
ROW_LABEL = 60


def forest_axis(axes: Axes, labels: Sequence[str], ys: Sequence[float]) -> None:
    """A row a label, from above; a figure whose labels are very long is wider."""
    figure = axes.get_figure(root=True)
    more = max((len(label) for label in labels), default=0) - ROW_LABEL
    if figure is not None and more > 0:
        wide, high = figure.get_size_inches()
        # A letter takes about 4.6 points.
        resize(figure, high, max(wide, WIDTH + 4.6 * more / 72))
    axes.set_yticks(list(ys), list(labels))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(max(ys) + 0.6, min(ys) - 0.6)


def side_note(axes: Axes, y: float, text: str) -> None:
    """Text beside the right edge of a forest plot, level with a row."""
    axes.annotate(
        text,
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
    )


def legend(figure: Figure, handles: Sequence[Line2D], columns: int = 7) -> None:
    """A legend outside the panels, so that it hides no data, in columns that fit.

    The figure grows by what the legend has beyond two lines, and to the width of its
    longest entry, so that many entries or long ones take nothing from the panels; call
    it after `resize`.
    """
    wide, high = figure.get_size_inches()
    wide, columns = entries(handles, wide, columns)
    lines = math.ceil(len(handles) / columns)
    # 8-point letters and the gap below them.
    resize(figure, high + max(0, lines - 2) * 13 / 72, wide)
    figure.legend(handles=list(handles), loc="outside upper left", ncols=columns)


def entries(handles: Sequence[Line2D], wide: float, most: int) -> tuple[float, int]:
    """The width in inches that a legend needs, and how many columns fit in it.

    Args:
      wide: the width that there is; more is needed where one entry is wider.
      most: columns at most.
    """
    # An entry takes a mark and its gaps, about 40 points, and 5 for each letter.
    longest = max((len(str(one.get_label())) for one in handles), default=1)
    entry = (40 + 5 * longest) / 72
    wide = max(wide, entry)
    return wide, max(1, min(most, int(wide / entry)))


def key(label: str, colour: str, marker: Any = None, line: Any = "") -> Line2D:
    return Line2D([], [], color=colour, marker=marker, ls=line, label=label, ms=5)
