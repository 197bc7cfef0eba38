"""The figures: one function each, drawing on the matplotlib Figure it is given.

A function takes `(figure, analysis, target)`, sets the figure's size and raises
`Nothing` where its frame has no rows for the target. Families and sizes differ in
colour (Okabe and Ito's palette), marker and line style, so that each figure can be
read in grey. No global state: no pyplot, and the style holds only inside `render`.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import matplotlib.font_manager
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.report import words
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


def figure(draw: Draw, analysis: Analysis, target: str) -> Figure:
    """One figure in the report's style.

    Raises:
      Nothing: there is nothing to draw.
    """
    with _style():
        drawn = Figure(figsize=(WIDTH, 4.0), dpi=DPI, layout="constrained")
        draw(drawn, analysis, target)
    if not any(_shows(axes) for axes in drawn.axes):
        raise Nothing
    return drawn


@contextmanager
def _style() -> Iterator[None]:
    """The report's style, with fonts for any script."""
    with matplotlib.rc_context(STYLE | {"font.sans-serif": _fonts()}), _any_script():
        yield


def render(draw: Draw, analysis: Analysis, target: str) -> tuple[str, bytes]:
    """One figure as SVG text, ready to stand inline in HTML, and as PNG.

    Raises:
      Nothing: there is nothing to draw.
    """
    with _style():
        drawn = figure(draw, analysis, target)
        # The canvases' own printers draw once; savefig would draw twice each time.
        raster, vector = io.BytesIO(), io.StringIO()
        FigureCanvasAgg(drawn).print_png(raster)
        # The raster has settled the layout: keep it for the vector form.
        drawn.set_layout_engine("none")
        FigureCanvasSVG(drawn).print_svg(vector, metadata={"Date": None})
    return _tidy(vector.getvalue()), raster.getvalue()


def _shows(axes: Axes) -> bool:
    """Whether a panel has a point of data in it, and not lines across it alone."""
    spots = [one for one in axes.collections if isinstance(one, PathCollection)]
    drawn = [np.asarray(one.get_offsets(), float) for one in spots]
    drawn += [
        np.stack([np.asarray(v, float) for v in line.get_data(orig=False)], axis=1)
        for line in axes.lines
        if line.get_transform() == axes.transData
    ]
    return any(np.isfinite(points).all(axis=-1).any() for points in drawn)


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


def _tidy(svg: str) -> str:
    """The svg element alone: no prologue, metadata or rule that leaks into a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s*xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    style = 'style="stroke-linejoin:round;stroke-linecap:butt"'
    svg = svg.replace("<svg ", f"<svg {style} ", 1)
    # Coordinates to a hundredth of a point: a third of the size, no visible change.
    svg = re.sub(r"(?<=[ \"\-LM(,])(\d+\.\d\d)\d+", r"\1", svg)
    return re.sub(r"\n\s*", "\n", svg)


def identified(svg: str, name: str) -> str:
    """The svg with its ids under `name`, so that many can share one page."""
    svg = re.sub(r'(\sid=")', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(href="#)', rf"\g<1>{name}-", svg)
    return re.sub(r"(url\(#)", rf"\g<1>{name}-", svg)


# What the figures share


def rows_of(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    chosen = frame[frame.target == target]
    if chosen.empty:
        raise Nothing
    return chosen


def resize(figure: Figure, height: float, width: float = WIDTH) -> None:
    figure.set_size_inches(width, height)


def _order(values: pd.Series) -> list[Any]:
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


def _tint(colour: str, share: float) -> Any:
    """`colour` mixed with white; share 1 is the colour itself."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return tuple(1 - share * (1 - rgb))


def families_of(analysis: Analysis) -> list[Any]:
    """Every family of the study, in the one order that fixes its colour."""
    return sorted(set(analysis.runs.family))


def corpora_of(analysis: Analysis) -> list[Any]:
    return sorted(set(analysis.runs.corpus))


def shade(names: Sequence[Any], name: Any, rung: int, rungs: int) -> Any:
    """The name's colour, lighter for the smaller rungs of a ladder."""
    return _tint(looks(names, name)[0], 0.5 + 0.5 * rung / max(1, rungs))


def sizes_of(frame: pd.DataFrame) -> pd.Series:
    """Each row's rung on the size ladder, from 0.

    A family's sizes are only near the others': rungs are counted within a family.
    """
    return frame.groupby("family").params.rank(method="dense").astype(int) - 1


def _near(values: pd.Series, value: float) -> np.ndarray:
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
        marks = _apart(axes, marks, form)
    axis.set_major_locator(FixedLocator(marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    axes.grid(True, axis=axis.axis_name)
    axes.set_axisbelow(True)


def _apart(
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


def _line_labels(axes: Any, x: float, ys: Sequence[float], texts, colours) -> None:
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
    return "" if corpus == words.UNNAMED else f"trained on {corpus}\n"


def forest_axis(axes: Axes, labels: Sequence[str], ys: Sequence[float]) -> None:
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
    """A legend outside the panels, so that it hides no data, in columns that fit."""
    # An entry takes a mark and its gaps, about 40 points, and 5 for each letter.
    longest = max((len(str(one.get_label())) for one in handles), default=1)
    wide = figure.get_size_inches()[0] * 72
    columns = max(1, min(columns, int(wide / (40 + 5 * longest))))
    figure.legend(handles=list(handles), loc="outside upper left", ncols=columns)


def key(label: str, colour: str, marker: Any = None, line: Any = "") -> Line2D:
    return Line2D([], [], color=colour, marker=marker, ls=line, label=label, ms=5)


# What makes rows of a frame comparable: each group has its own largest cell.
GROUPS = (
    *("target", "method", "kind", "source", "to"),
    *("held", "architecture", "family", "corpus"),
)


def at_largest(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest size, and there at the largest budget, of each group."""
    keys = [name for name in GROUPS if name in frame]
    largest = frame.groupby(keys, dropna=False).params.transform("max")
    frame = frame[frame.params == largest]
    most = frame.groupby(keys, dropna=False).tokens.transform("max")
    return frame[frame.tokens == most]


def at_fitted(frame: pd.DataFrame) -> pd.DataFrame:
    """The same at the largest cell up to which the laws were fitted.

    Where the design has none that all families and corpora share, the largest of all.
    """
    inside = frame[frame.fitted.astype(bool)]
    return at_largest(inside if inside.params.notna().any() else frame)


def beyond(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest cell where that is an extrapolation."""
    frame = at_largest(frame)
    return frame[~frame.fitted.astype(bool)]


# Of several estimates of one effect the first of these leads; the others check it.
METHODS = ("preferred", "joint", "family", "paired")


def leading(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the leading method that there is."""
    present = [method for method in METHODS if method in set(frame.method)]
    return frame[frame.method.isin(present[:1])]


def one_way(frame: pd.DataFrame) -> pd.DataFrame:
    """Equivalents with each swap told in one direction: the gain, where both stand.

    On each target the leading method's largest fitted cell decides, trained on the
    target where that was done, so that all figures tell the same way.
    """
    best: dict[Any, tuple[Any, ...]] = {}
    for row in leading(at_fitted(frame)).itertuples():
        key = (row.target, frozenset((row.source, row.to)))
        rank = (row.factor > 1, row.held == row.target, row.factor)
        if key not in best or rank > best[key][0]:
            best[key] = (rank, (row.source, row.to))
    told = [
        best.get((target, frozenset(ends)), (None, ends))[1] == ends
        for target, *ends_ in zip(frame.target, frame.source, frame.to, strict=True)
        for ends in [tuple(ends_)]
    ]
    return frame[np.array(told, bool)]


# The figures


def loss(figure: Figure, analysis: Analysis, target: str) -> None:
    """Loss against data: a panel per corpus and family, a line per size."""
    cells = rows_of(analysis.cells, target)
    curves = analysis.curves[analysis.curves.target == target]
    curves = curves[curves.law.isin(_order(curves.law)[:1])]
    withheld = analysis.holdout[analysis.holdout.target == target]
    families, corpora = families_of(analysis), sorted(set(cells.corpus))
    margins = 0.8, 2.2
    panels = wrapped(figure, len(corpora), len(families), 2.5, margins)
    x_limits = span(cells.tokens, withheld.tokens, pad=0.12)
    y_limits = span(cells.loss, withheld.observed, pad=0.08)
    rungs = sizes_of(cells)
    for (i, corpus), (j, family) in itertools.product(
        enumerate(corpora), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, words.count, x_limits)
        log_axis(axes.yaxis, plain, y_limits)
        mine = cells[(cells.family == family) & (cells.corpus == corpus)]
        ends, names, colours = [], [], []
        for params, points in mine.groupby("params"):
            rung = int(rungs[points.index[0]])
            colour = shade(families, family, rung, rungs.max())
            line = curves[
                (curves.family == family)
                & (curves.corpus == corpus)
                & _near(curves.params, params)
            ].sort_values("tokens")
            line = line[line.tokens.between(*x_limits)]
            axes.plot(line.tokens, line.loss, color=colour, ls=LINES[rung % 4])
            axes.fill_between(
                line.tokens, line.low, line.high, color=colour, alpha=0.15, lw=0
            )
            once = points[points.epochs < 1.001]
            again = points[points.epochs >= 1.001]
            style = {"color": colour, "ls": ""}
            marker = MARKERS[rung % len(MARKERS)]
            axes.plot(
                once.tokens, once.loss, marker=marker, mec="white", mew=0.5, **style
            )
            axes.plot(again.tokens, again.loss, marker="x", mew=1.5, **style)
            last = points.sort_values("tokens").iloc[-1]
            ends.append(line.loss.iloc[-1] if len(line) else last.loss)
            names.append(words.count(params))
            colours.append(looks(families, family)[0])
        out = withheld[(withheld.family == family) & (withheld.corpus == corpus)]
        axes.plot(
            out.tokens, out.observed, color=INK, marker="o", mfc="none", ms=8, ls=""
        )
        if ends:
            _line_labels(axes, x_limits[1], ends, names, colours)
        if i == 0:
            axes.set_title(family, color=looks(families, family)[0])
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(f"{trained(corpus)}loss ({analysis.unit})")
    figure.supxlabel("training tokens (line labels: parameters)", fontsize=8.5)
    ring = Line2D([], [], color=INK, marker="o", mfc="none", ms=8, ls="")
    ring.set_label("withheld largest cell")
    keys = [ring] if len(withheld) else []
    if (cells.epochs >= 1.001).any():
        keys.append(key("repeated data", INK, "x"))
    if keys:
        legend(figure, keys)


def equivalents(figure: Figure, analysis: Analysis, target: str) -> None:
    """What each swap is worth in data at the largest fitted cell, by every method."""
    told = one_way(rows_of(analysis.equivalents, target))
    frame = at_fitted(told)
    if frame.empty:
        raise Nothing
    given = set(frame[frame.factor.notna()].method)
    methods = [method for method in METHODS if method in given]
    frame = frame[frame.method.isin(methods)]
    if frame.empty:
        raise Nothing
    keys = ["source", "to", "held"]
    kinds = _order(frame.kind)
    heights = [
        frame[frame.kind == kind].drop_duplicates(keys).shape[0] for kind in kinds
    ]
    resize(figure, 0.9 + 0.5 * len(kinds) + 0.42 * sum(heights))
    panels = figure.subplots(len(kinds), 1, squeeze=False, height_ratios=heights)[:, 0]
    outside = leading(beyond(told))
    for axes, kind in zip(panels, kinds, strict=True):
        groups = frame[frame.kind == kind].groupby(keys, sort=False)
        _swaps_of_a_kind(axes, list(groups), outside[outside.kind == kind], methods)
        axes.set_title(f"{kind} (no effect: 1; dashed: a doubling of the data)")
    figure.supxlabel(
        "data-equivalent: times the data of the first that gives the loss of the "
        "second",
        fontsize=8.5,
    )
    marks = [key(m, *looks(METHODS, m)[:2]) for m in methods]
    far = Line2D([], [], color=FAINT, marker="o", mfc="white", ls="-", ms=5)
    far.set_label("extrapolated to the withheld largest cell")
    legend(figure, [*marks, far] if len(outside) else marks)


def _swaps_of_a_kind(
    axes: Axes,
    groups: Sequence[tuple[Any, pd.DataFrame]],
    outside: pd.DataFrame,
    methods: Sequence[str],
) -> None:
    """A row a swap and what is held, a mark a method; kinds differ in their reach."""
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
        same = (outside[["source", "to", "held"]] == list(names)).all(axis=1)
        for row in outside[same].to_dict("records"):
            far = row | {"value": row["factor"]}
            whisker(axes, y + offsets[-1], far, FAINT, "o", mfc="white")
        never = group.p_infinite.max()
        if never > 0:
            side_note(axes, y, f"∞ in {words.percent(never)}\nof draws")
    named = [f"{names[0]} → {names[1]}  ({names[2]})" for names, _ in groups]
    forest_axis(axes, named, range(len(groups)))


def scale(figure: Figure, analysis: Analysis, target: str) -> None:
    """The data-equivalent of each architecture swap as a function of scale."""
    frame = leading(one_way(rows_of(analysis.equivalents, target)))
    frame = frame[(frame.kind == "architecture") & frame.params.notna()]
    if frame.empty or frame.tokens.nunique() < 2:
        raise Nothing
    held = _order(frame.held)
    swaps = list(dict.fromkeys(zip(frame.source, frame.to, strict=True)))
    margins = 0.9, 1.8
    panels = wrapped(figure, len(held), len(swaps), 2.1, margins)
    top = frame.high[np.isfinite(frame.high)].max()
    finite = frame.factor[np.isfinite(frame.factor)].clip(upper=100)
    bottom = frame.low.clip(lower=0.1)
    y_limits = span(finite, bottom.clip(upper=1), [0.9, 2.5, min(top, 100)], pad=0.1)
    sizes = sorted(frame.params.unique())
    for (i, level), (j, (source, to)) in itertools.product(
        enumerate(held), enumerate(swaps)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, words.count, span(frame.tokens, pad=0.12))
        factor_axis(axes, y_limits, upward=True)
        axes.axhline(2, color=FAINT, lw=0.8, ls="--")
        for params in sizes:
            look = looks(sizes, params)
            mine = frame[
                (frame.held == level)
                & (frame.source == source)
                & (frame.to == to)
                & _near(frame.params, params)
            ].sort_values("tokens")
            banded(axes, mine.tokens, mine.factor, mine, look)
            for row in mine[mine.factor > y_limits[1]].itertuples():
                text = f"{words.count(row.factor)} ↑"
                share = 0.99 - 0.08 * sizes.index(params)
                _at_top(axes, row.tokens, share, text, look[0])
        if i == 0:
            apart = "\n" if len(source) + len(to) > 2 * LABEL - 12 else " "
            axes.set_title(f"{source}{apart}→ {to}", fontsize=8.5)
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(f"{level}\ntimes the data")
    figure.supxlabel("training tokens", fontsize=8.5)
    keys = [key(words.count(s), *looks(sizes, s)) for s in sizes]
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


def ratios(figure: Figure, analysis: Analysis, target: str) -> None:
    """Architecture over corpus, ln M_D by ln M_D, at the largest fitted cell.

    Pairs whose corpus effect is infinite have no ratio and no row.
    """
    frame = at_fitted(rows_of(analysis.ratios, target))
    frame = frame[np.isfinite(frame["lambda"]) & (frame.low < frame.high)]
    if frame.empty:
        raise Nothing
    rows = frame.to_dict("records")
    resize(figure, 1.1 + 0.42 * len(rows))
    axes = figure.subplots()
    far = max(2.0, min(20.0, 1.5 * np.abs(frame["lambda"]).max()))
    ends = frame[["low", "high"]].to_numpy()
    ends = ends[np.isfinite(ends) & (np.abs(ends) <= 2 * far)]
    left = min(-1.2, *ends, 0) if ends.size else -1.2
    right = max(1.2, *ends, far) if ends.size else far
    axes.set_xlim(1.05 * left, 1.05 * right)
    axes.axvspan(-1, 1, color="#f0f0f0", lw=0)
    for x in (-1, 0, 1):
        axes.axvline(x, color=INK if x == 0 else FAINT, lw=0.8, ls="-" if x else ":")
    for y, row in enumerate(rows):
        whisker(axes, y, row | {"value": row["lambda"]}, PALETTE[0], "o")
        side_note(
            axes, y, f"larger in {words.percent(row['p_architecture'])}\nof draws"
        )
    names = [f"{row['architecture']}\nby {row['corpus']}" for row in rows]
    forest_axis(axes, [name.replace("->", "→") for name in names], range(len(rows)))
    axes.set_xlabel("Λ = ln M_D (architecture) / ln M_D (corpus); grey: corpus larger")
    axes.grid(True, axis="x")


def fits(figure: Figure, analysis: Analysis, target: str) -> None:
    """Parameters of the per-family laws with 95% intervals."""
    frame = rows_of(analysis.fits, target)
    # Laws at one size have as many rows as sizes: they stand in the table alone.
    whole = frame[frame.params.isna()]
    frame = whole[whole.law == whole.law.iloc[0]] if len(whole) else whole
    if frame.empty:
        raise Nothing
    parameters = _order(frame.parameter)
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


def joint(figure: Figure, analysis: Analysis, target: str) -> None:
    """Multipliers of the joint law, relative to the reference levels."""
    frame = rows_of(analysis.joint, target)
    frame = frame[frame.kind != "shared"]
    frame = frame.assign(
        parameter=frame.parameter.str.replace(r"\[.*\]$", "", regex=True)
    )
    has_reference = frame.groupby(["kind", "parameter"]).reference.transform("any")
    frame = frame[has_reference]
    if frame.empty:
        raise Nothing
    families, corpora = families_of(analysis), corpora_of(analysis)
    groups = list(frame.groupby(["kind", "parameter"], sort=False))
    heights = [len(group) for _, group in groups]
    resize(figure, 0.9 + 0.26 * sum(heights) + 0.35 * len(groups))
    panels = figure.subplots(
        len(groups), 1, squeeze=False, sharex=True, height_ratios=heights
    )[:, 0]
    limits = span(frame.value, frame.low[frame.low > 0], frame.high, [0.9, 1.1])
    for axes, ((kind, parameter), group) in zip(panels, groups, strict=True):
        factor_axis(axes, limits)
        for y, row in enumerate(group.to_dict("records")):
            if row["reference"]:
                axes.plot(1, y, marker="|", color=INK, ms=9)
                side_note(axes, y, "reference")
                continue
            names = families if kind == "family" else corpora
            colour, marker, _ = looks(names, row["level"])
            whisker(axes, y, row, colour, marker)
            ends = words.interval(row["low"], row["high"])
            side_note(axes, y, f"{words.number(row['value'])} ({ends})")
        forest_axis(axes, list(group.level), range(len(group)))
        axes.set_title(f"{_multiplier(parameter)}, by {kind}")
        axes.tick_params(axis="x", labelbottom=axes is panels[-1])
    panels[-1].set_xlabel("multiplier: one token or parameter counts as so many")


def _multiplier(parameter: str) -> str:
    known = {"rhoN": "ρN: effective parameters", "rhoD": "ρD: effective data"}
    return known.get(parameter, parameter)


def variance(figure: Figure, analysis: Analysis, target: str) -> None:
    """Shares of the variance of the loss by factor, on each target."""
    rows_of(analysis.variance, target)
    frame = analysis.variance
    targets = [target, *(t for t in _order(frame.target) if t != target)]
    factors = _order(frame[frame.target == target].factor)
    resize(figure, 1.0 + (0.16 + 0.17 * len(targets)) * len(factors))
    axes = figure.subplots()
    height = 0.8 / len(targets)
    share_axis(axes, frame, "share of the variance of the loss")
    for k, name in enumerate(targets):
        colour, marker, _ = looks(targets, name)
        mine = frame[frame.target == name].set_index("factor").reindex(factors)
        ys = np.arange(len(factors)) - 0.4 + height * (k + 0.5)
        axes.barh(ys, mine.share, 0.86 * height, color=_tint(colour, 0.55))
        for y, row in zip(ys, mine.to_dict("records"), strict=True):
            whisker(axes, y, row | {"value": row["share"]}, colour, marker)
    forest_axis(axes, factors, range(len(factors)))
    if len(targets) > 1:
        legend(figure, [key(f"on {t}", *looks(targets, t)[:2]) for t in targets])


def noise(figure: Figure, analysis: Analysis, target: str) -> None:
    """Spread between seeds of the same cell, beside what the laws leave over."""
    frame = rows_of(analysis.noise, target)
    fitness = analysis.fitness[analysis.fitness.target == target]
    families = families_of(analysis)
    resize(figure, 1.2 + 0.24 * len(frame))
    axes = figure.subplots()
    labels = []
    for y, row in enumerate(frame.itertuples()):
        colour, marker, _ = looks(families, row.family)
        axes.plot([0, 100 * row.sd_log], [y, y], color=_tint(colour, 0.4), lw=1)
        axes.plot(100 * row.sd_log, y, color=colour, marker=marker)
        side_note(axes, y, f"{row.seeds} seeds")
        where = f"{words.count(row.params)}, {words.count(row.tokens)} tokens"
        labels.append(f"{row.family}, {row.corpus}, {where}")
    forest_axis(axes, labels, range(len(frame)))
    for row in fitness.itertuples():
        for name, value, line in (
            ("seed noise, pooled", row.seed_noise, "-"),
            ("lack of fit", row.lack_of_fit, "--"),
        ):
            if math.isfinite(value):
                axes.axvline(100 * value, color=INK, lw=1, ls=line, label=name)
    axes.set_xlim(0, reach(100 * frame.sd_log, 100 * fitness.seed_noise, [0.0])[1])
    axes.set_xlabel("standard deviation of the loss (%)")
    axes.grid(True, axis="x")
    if len(fitness):
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside upper left", ncols=2
        )


def holdout(figure: Figure, analysis: Analysis, target: str) -> None:
    """The withheld largest cells against their predictions, by each law."""
    frame = rows_of(analysis.holdout, target)
    keys = ["family", "corpus", "params", "tokens"]
    groups = list(frame.groupby(keys))
    laws = _order(frame.law)
    resize(figure, 1.2 + (0.1 + 0.2 * len(laws)) * len(groups))
    axes = figure.subplots()
    relative = frame[["low", "high", "observed"]].div(frame.predicted, axis=0) - 1
    most = 100 * reach(relative.abs(), pad=0.08)[1]
    axes.set_xlim(-most, most)
    axes.axvline(0, color=INK, lw=0.8)
    labels = []
    offsets = np.linspace(-0.2, 0.2, len(laws)) if len(laws) > 1 else [0.0]
    for y, ((family, corpus, params, tokens), group) in enumerate(groups):
        for row in group.itertuples():
            at = y + offsets[laws.index(row.law)]
            part = 100 * relative.loc[row.Index]
            colour, marker, _ = looks(laws, row.law)
            axes.plot([part.low, part.high], [at, at], color=_tint(colour, 0.3), lw=5)
            face = colour if row.inside else "white"
            axes.plot(part.observed, at, color=colour, marker=marker, mfc=face, ms=5.5)
        outside = group.law[~group.inside.astype(bool)]
        side_note(axes, y, f"outside: {words.joined(outside)}" if len(outside) else "")
        where = f"{words.count(params)}, {words.count(tokens)} tokens"
        labels.append(f"{family}, {corpus}, {where}")
    forest_axis(axes, labels, range(len(groups)))
    axes.set_xlabel("observed loss, % above its prediction (bars: 95% interval)")
    axes.grid(True, axis="x")
    legend(figure, [key(f"{law} law", *looks(laws, law)[:2]) for law in laws])


def residuals(figure: Figure, analysis: Analysis, target: str) -> None:
    """What the laws leave over, against data, with the seeds' noise behind."""
    frame = rows_of(analysis.residuals, target)
    fitness = analysis.fitness[analysis.fitness.target == target]
    families, corpora = families_of(analysis), corpora_of(analysis)
    laws = [law for law in _order(frame.law) if _whole(analysis, law)]
    margins = 0.9, 1.4
    panels = wrapped(figure, len(laws), len(families), 2.0, margins, narrowest=2)
    widest = math.log(frame.params.max() / frame.params.min()) or 1.0
    for (i, law), (j, family) in itertools.product(
        enumerate(laws), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, words.count, span(frame.tokens, pad=0.1))
        axes.axhline(0, color=INK, lw=0.8)
        for row in fitness.itertuples():
            if math.isfinite(row.seed_noise):
                band = 200 * row.seed_noise
                axes.axhspan(-band, band, color="#ececec", lw=0)
        mine = frame[(frame.family == family) & (frame.law == law)]
        for corpus in corpora:
            part = mine[mine.corpus == corpus]
            colour, marker, _ = looks(corpora, corpus)
            area = 12 + 26 * np.log(part.params / frame.params.min()) / widest
            axes.scatter(
                part.tokens,
                100 * part.residual,
                s=area,
                color=colour,
                marker=marker,
                alpha=0.8,
                lw=0,
            )
        axes.grid(True, axis="y")
        if i == 0:
            axes.set_title(family, color=looks(families, family)[0])
        if j % MOST_COLUMNS == 0:
            name = textwrap.fill(f"{law} law", LABEL)
            axes.set_ylabel(f"{name}\nobserved − fitted, %")
    figure.supxlabel("training tokens (larger mark: larger model)", fontsize=8.5)
    shown = sorted(set(frame.corpus))
    keys = [key(corpus, *looks(corpora, corpus)[:2]) for corpus in shown]
    band = Line2D(
        [], [], color="#e0e0e0", lw=7, label="±2 standard deviations of seeds"
    )
    legend(figure, [*keys, band] if fitness.seed_noise.notna().any() else keys)


def _whole(analysis: Analysis, law: str) -> bool:
    """Whether the law covers all sizes of a family, and not one size at a time."""
    mine = analysis.quality[analysis.quality.law == law]
    return mine.empty or bool(mine.params.isna().any())


def tuning(figure: Figure, analysis: Analysis, target: str) -> None:
    """Loss against the learning rate: where each family's optimum lies."""
    frame = rows_of(analysis.tuning, target)
    families = families_of(analysis)
    tuned = [family for family in families if family in set(frame.family)]
    rungs = sizes_of(frame)
    margins = 0.7, 1.4
    panels = wrapped(figure, 1, len(tuned), 2.4, margins, narrowest=2)
    limits = span(frame.learning_rate, pad=0.12)
    keys = ["corpus", "params", "tokens"]
    least = frame.groupby(["family", *keys]).loss.transform("min")
    frame = frame.assign(excess=100 * (frame.loss / least - 1))
    where = ["family", *keys]
    cells = analysis.cells[analysis.cells.target == target]
    # Repeated data has a cell of its own at the same place, of one rate.
    edges = cells[cells.rates > 1].set_index(where).edge
    edges = edges[~edges.index.duplicated()]
    frame["run_edge"] = (
        edges.reindex(frame.set_index(where).index).fillna("").to_numpy()
    )
    top = frame.excess[np.isfinite(frame.excess)].max()
    for (_, j), axes in panels.items():
        family = tuned[j]
        log_axis(axes.xaxis, plain, limits)
        axes.set_ylim(-0.08 * (top or 1), 1.08 * (top or 1))
        axes.grid(True, axis="y")
        rates = _apart(axes, _rates(frame.learning_rate), plain)
        axes.xaxis.set_major_locator(FixedLocator(rates))
        base = looks(families, family)[0]
        ends, names, colours = [], [], []
        for (_, params, _), mine in frame[frame.family == family].groupby(keys):
            mine = mine.sort_values("learning_rate")
            rung = int(rungs[mine.index[0]])
            colour = shade(families, family, rung, rungs.max())
            marker = MARKERS[rung % len(MARKERS)]
            axes.plot(
                mine.learning_rate,
                mine.excess,
                color=colour,
                ls=LINES[rung % 4],
                marker=marker,
            )
            best = mine[mine.best]
            at_edge = best.run_edge.ne("").any()
            axes.plot(
                best.learning_rate,
                best.excess,
                color=ALARM if at_edge else INK,
                marker="s" if at_edge else "o",
                mfc="none",
                ms=10,
                ls="",
            )
            ends.append(mine.excess.iloc[-1])
            names.append(words.count(params))
            colours.append(base)
        if ends:
            _line_labels(axes, limits[1], ends, names, colours)
        axes.set_title(family, color=base)
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel("loss above the best rate's, %")
    figure.supxlabel("learning rate (line labels: parameters)", fontsize=8.5)
    ring = Line2D([], [], color=INK, marker="o", mfc="none", ms=9, ls="", label="best")
    edge = Line2D([], [], color=ALARM, marker="s", mfc="none", ms=9, ls="")
    edge.set_label("best, at the edge of its grid")
    legend(figure, [ring, edge])


def _rates(rates: pd.Series) -> list[float]:
    """The rates tried, as ticks: at most five."""
    tried = sorted(set(rates))
    return tried[:: max(1, math.ceil(len(tried) / 5))]


def paths(figure: Figure, analysis: Analysis, target: str) -> None:
    """Training loss of all runs: a panel per corpus and family."""
    del target  # the training loss is on the training text
    runs = analysis.runs.drop_duplicates("run_id").set_index("run_id")
    known = analysis.paths[analysis.paths.run_id.isin(runs.index)]
    if known.empty:
        raise Nothing
    families, corpora = families_of(analysis), corpora_of(analysis)
    rungs = sizes_of(runs)
    margins = 0.8, 1.4
    panels = wrapped(figure, len(corpora), len(families), 2.1, margins)
    finite = known.loss[np.isfinite(known.loss)]
    # A diverged run may climb without end: the view keeps to where the others are.
    y_limits = span(finite.clip(upper=1.3 * finite.quantile(0.98)), pad=0.05)
    x_limits = span(known.tokens, pad=0.04)
    for (i, corpus), (j, family) in itertools.product(
        enumerate(corpora), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, words.count, x_limits)
        log_axis(axes.yaxis, plain, y_limits)
        mine = runs[(runs.family == family) & (runs.corpus == corpus)]
        for run_id, path in known[known.run_id.isin(mine.index)].groupby("run_id"):
            path = _thinned(path)
            rung = int(rungs[run_id])
            diverged = mine.status[run_id] == "diverged"
            colour = shade(families, family, rung, rungs.max())
            colour = ALARM if diverged else colour
            axes.plot(
                path.tokens,
                path.loss,
                color=colour,
                lw=1.3 if diverged else 0.8,
                ls="--" if diverged else "-",
                zorder=3 if diverged else 2,
            )
        if i == 0:
            axes.set_title(family, color=looks(families, family)[0])
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(f"{corpus}\ntraining loss ({analysis.unit})")
    figure.supxlabel("tokens read (darker: larger model)", fontsize=8.5)
    if (runs.status == "diverged").any():
        legend(figure, [key("diverged", ALARM, None, "--")])


# Points of a drawn loss curve: enough for its shape at the size of a panel.
PATH_POINTS = 40


def _thinned(path: pd.DataFrame) -> pd.DataFrame:
    """A curve's points evenly spread on the log axis, its ends among them."""
    if len(path) <= PATH_POINTS:
        return path
    wanted = np.geomspace(1, len(path), PATH_POINTS).round().astype(int) - 1
    return path.iloc[np.unique(wanted)]


def design(figure: Figure, analysis: Analysis, target: str) -> None:
    """The design: which sizes and budgets were run, and what was withheld."""
    cells = rows_of(analysis.cells, target)
    withheld = analysis.holdout[analysis.holdout.target == target]
    families, corpora = families_of(analysis), corpora_of(analysis)
    resize(figure, 2.7, 1.4 + 2.3 * max(2, len(corpora)))
    panels = panels_of(figure, 1, len(corpora))[0]
    for axes, corpus in zip(panels, corpora, strict=True):
        log_axis(axes.xaxis, words.count, span(cells.tokens, pad=0.15))
        log_axis(axes.yaxis, words.count, span(cells.params, pad=0.15))
        axes.set_title(corpus)
        for k, family in enumerate(families):
            colour, marker, _ = looks(families, family)
            nudge = 1 + 0.09 * (k - (len(families) - 1) / 2)
            mine = cells[(cells.family == family) & (cells.corpus == corpus)]
            axes.plot(
                mine.tokens * nudge, mine.params, color=colour, marker=marker, ls=""
            )
            out = withheld[(withheld.family == family) & (withheld.corpus == corpus)]
            axes.plot(
                out.tokens * nudge,
                out.params,
                color=colour,
                marker=marker,
                mfc="white",
                ms=7,
                ls="",
            )
    panels[0].set_ylabel("parameters")
    figure.supxlabel("training tokens (hollow: withheld)", fontsize=8.5)
    legend(figure, [key(f, *looks(families, f)[:2]) for f in families])
