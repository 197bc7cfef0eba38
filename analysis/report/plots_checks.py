"""Figures of doubts about the leading law: profiles, single runs, delta, others."""

from __future__ import annotations

import itertools
import math

import numpy as np
from matplotlib.figure import Figure

from analysis.report import words
from analysis.report.plots import (
    ALARM,
    FAINT,
    INK,
    PALETTE,
    WIDTH,
    Nothing,
    corpora_of,
    families_of,
    key,
    legend,
    log_axis,
    looks,
    panels_of,
    plain,
    reach,
    resize,
    rows_of,
    span,
    trained,
)
from analysis.results import Analysis

COLUMNS = 3
METHODS = ("parabola", "interpolation", "envelope")


def profiles(figure: Figure, analysis: Analysis, target: str) -> None:
    """Twice the log likelihood lost, against the value that a parameter is held at."""
    frame = rows_of(analysis.profiles, target)
    names = list(dict.fromkeys(frame.parameter))
    columns = min(COLUMNS, len(names))
    lines = math.ceil(len(names) / columns)
    resize(figure, 0.3 + 2.0 * lines)
    panels = panels_of(figure, lines, columns).ravel()
    for axes, name in itertools.zip_longest(panels, names):
        if name is None:
            axes.set_axis_off()
            continue
        mine = frame[frame.parameter == name].sort_values("value")
        first = mine.iloc[0]
        axes.plot(mine.value, mine["drop"], color=PALETTE[0], marker="o", ms=3)
        axes.axhline(first.threshold, color=FAINT, lw=0.9, ls="--")
        axes.axvline(first.best, color=INK, lw=0.8)
        for end in (first.low, first.high):
            if math.isfinite(end):
                axes.axvline(end, color=INK, lw=0.8, ls=":")
        axes.set_ylim(0, reach([0.0, first.threshold], pad=1.5)[1])
        axes.grid(True, axis="y")
        axes.set_title(name)
    panels[0].set_ylabel("twice the log likelihood lost")
    label = "value (line: the fit; dotted: ends of the 95% interval; dashed: threshold)"
    figure.supxlabel(label, fontsize=8.5)


def influence(figure: Figure, analysis: Analysis, target: str) -> None:
    """How far each run lies from the curve, and how far the fit moves without it."""
    frame = rows_of(analysis.influence, target)
    families = families_of(analysis)
    resize(figure, 3.2)
    axes = figure.subplots()
    for family in families:
        mine = frame[(frame.family == family) & ~frame.flagged.astype(bool)]
        colour, marker, _ = looks(families, family)
        axes.plot(mine.score, mine.spreads.abs(), marker, color=colour, ms=4, alpha=0.8)
    out = frame[frame.flagged.astype(bool)]
    axes.plot(out.score, out.spreads.abs(), "X", color=ALARM, ms=7)
    for row in frame.loc[frame.spreads.abs().nlargest(1).index].itertuples():
        # Above the highest run there is nothing that the words could cover.
        axes.annotate(
            f"{row.family}, {words.count(row.params)}: {row.parameter}",
            (row.score, abs(row.spreads)),
            xytext=(-3, 6),
            textcoords="offset points",
            fontsize=7.5,
        )
    axes.set_xlim(0, reach(frame.score, [0.0], pad=0.35)[1])
    axes.set_ylim(0, reach(frame.spreads.abs(), [0.0], pad=0.2)[1])
    axes.grid(True)
    axes.set_xlabel("distance from the curve (robust standard deviations)")
    axes.set_ylabel("largest move of a parameter\n(bootstrap standard deviations)")
    keys = [key(f, *looks(families, f)[:2]) for f in families]
    legend(figure, [*keys, key("outlier", ALARM, "X")] if len(out) else keys)


def sweeps(figure: Figure, analysis: Analysis, target: str) -> None:
    """The main parameters against Huber's delta, as a share of their own value."""
    frame = rows_of(analysis.sweeps, target)
    own = frame[frame.own.astype(bool)].set_index("parameter").value
    frame = frame.assign(ratio=frame.value / frame.parameter.map(own).to_numpy())
    names, deltas = list(dict.fromkeys(frame.parameter)), sorted(frame.delta.unique())
    if len(deltas) < 2:
        raise Nothing
    resize(figure, 2.9, WIDTH)
    axes = figure.subplots()
    log_axis(axes.yaxis, plain, span(frame.ratio, [0.9, 1.1], pad=0.15))
    for name in names:
        mine = frame[frame.parameter == name].sort_values("delta")
        places = [deltas.index(delta) for delta in mine.delta]
        colour, marker, line = looks(names, name)
        axes.plot(places, mine.ratio, color=colour, marker=marker, ls=line)
    labels = ["∞" if math.isinf(delta) else f"{delta:g}" for delta in deltas]
    axes.set_xticks(range(len(deltas)), labels)
    axes.axhline(1, color=INK, lw=0.8)
    axes.set_xlabel("Huber's delta (∞: least squares)")
    axes.set_ylabel("value, as a share\nof the reported one")
    legend(figure, [key(name, *looks(names, name)) for name in names])


def optima(figure: Figure, analysis: Analysis, target: str) -> None:
    """Compute-optimal sizes by methods without a law, beside the law's own path."""
    frame = rows_of(analysis.optima, target)
    frame = frame[np.isfinite(frame.params)]
    if frame.empty:
        raise Nothing
    path = analysis.frontier[analysis.frontier.target == target]
    families, corpora = families_of(analysis), corpora_of(analysis)
    resize(figure, 0.9 + 2.2 * len(corpora), 1.6 + 2.3 * max(1, len(families)))
    panels = panels_of(figure, len(corpora), len(families), sharex=True)
    limits = span(frame.compute, pad=0.1), span(frame.params, path.params, pad=0.1)
    methods = [method for method in METHODS if method in set(frame.method)]
    # Side by side: where methods agree, one mark would hide the other.
    aside = (limits[0][1] / limits[0][0]) ** 0.02
    for (i, corpus), (j, family) in itertools.product(
        enumerate(corpora), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, lambda c: words.number(c, 1), limits[0])
        log_axis(axes.yaxis, words.count, limits[1])
        line = path[(path.family == family) & (path.corpus == corpus)]
        axes.plot(line.compute, line.params, color=INK, lw=1.2)
        mine = frame[(frame.family == family) & (frame.corpus == corpus)]
        for k, method in enumerate(methods):
            colour, marker, _ = looks(METHODS, method)
            moved = aside ** (k - (len(methods) - 1) / 2)
            for doubted, face in ((False, colour), (True, "white")):
                some = mine[(mine.method == method) & ((mine.warning != "") == doubted)]
                x, y = some.compute * moved, some.params
                axes.plot(x, y, marker, color=colour, mfc=face, ms=4)
        if i == 0:
            axes.set_title(family, color=looks(families, family)[0])
        if j == 0:
            axes.set_ylabel(f"{trained(corpus)}best size")
    figure.supxlabel("training FLOPs (hollow: with a warning)", fontsize=8.5)
    keys = [key(method, *looks(METHODS, method)[:2]) for method in methods]
    legend(figure, [*keys, key("the law", INK, None, "-")])
