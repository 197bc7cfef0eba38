"""Figures of the loss surface: equal compute, equal loss and the path between them."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.figure import Figure

from analysis.report import words
from analysis.report.plots import (
    FAINT,
    INK,
    LINES,
    MARKERS,
    MOST_COLUMNS,
    Nothing,
    families_of,
    key,
    legend,
    log_axis,
    looks,
    plain,
    rows_of,
    span,
    trained,
    wrapped,
)
from analysis.results import Analysis

# A cell belongs to an isoFLOP line whose compute is within this share of its own.
NEAR = 0.25


def isoflops(figure: Figure, analysis: Analysis, target: str) -> None:
    """Loss against size along lines of equal compute, with the cells near them."""
    lines = rows_of(analysis.isoflops, target)
    cells = analysis.cells[analysis.cells.target == target]
    families, corpora = families_of(analysis), sorted(set(lines.corpus))
    margins = 0.9, 2.0
    panels = wrapped(figure, len(corpora), len(families), 2.2, margins)
    limits = span(lines.params), span(cells.loss, pad=0.15)
    for (i, corpus), (j, family) in itertools.product(
        enumerate(corpora), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, words.count, limits[0])
        log_axis(axes.yaxis, plain, limits[1])
        mine = lines[(lines.family == family) & (lines.corpus == corpus)]
        near = cells[(cells.family == family) & (cells.corpus == corpus)]
        for k, (compute, line) in enumerate(mine.groupby("compute")):
            colour, marker, style = looks(range(len(MARKERS)), k)
            axes.plot(line.params, line.loss, color=colour, ls=style)
            axes.fill_between(
                line.params, line.low, line.high, color=colour, alpha=0.15, lw=0
            )
            lowest = line.loc[line.loss.idxmin()]
            if line.params.min() < lowest.params < line.params.max():
                axes.plot(lowest.params, lowest.loss, "|", color=colour, ms=11)
            on = near[np.abs(np.log(near.flops / compute)) < NEAR]
            axes.plot(on.params, on.loss, marker=marker, color=colour, ls="")
        if i == 0:
            axes.set_title(family, color=looks(families, family)[0])
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(f"{trained(corpus)}loss ({analysis.unit})")
    figure.supxlabel("parameters (bar: the lowest loss of the compute)", fontsize=8.5)
    # Systems are spent on alike, and not to the digit: a name is a range.
    ranks = lines.groupby(["family", "corpus"]).compute.rank(method="dense")
    keys = []
    for rank, some in lines.groupby(ranks):
        ends = [words.number(c, 2) for c in (some.compute.min(), some.compute.max())]
        named = " to ".join(dict.fromkeys(ends)) + " FLOPs"
        keys.append(key(named, *looks(range(len(MARKERS)), int(rank) - 1)))
    legend(figure, keys, 2)


def isolosses(figure: Figure, analysis: Analysis, target: str) -> None:
    """Lines of equal loss over sizes and budgets, with the compute-optimal path."""
    lines = rows_of(analysis.isolosses, target)
    path = analysis.frontier[analysis.frontier.target == target]
    cells = analysis.cells[analysis.cells.target == target]
    families, corpora = families_of(analysis), sorted(set(lines.corpus))
    margins = 0.9, 1.6
    panels = wrapped(figure, len(corpora), len(families), 2.3, margins)
    x_limits = span(cells.tokens, pad=0.35)
    y_limits = span(cells.params, lines.params, pad=0.04)
    for (i, corpus), (j, family) in itertools.product(
        enumerate(corpora), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, words.count, x_limits)
        log_axis(axes.yaxis, words.count, y_limits)
        colour = looks(families, family)[0]
        mine = lines[(lines.family == family) & (lines.corpus == corpus)]
        for k, (loss, line) in enumerate(mine.groupby("loss")):
            axes.plot(line.tokens, line.params, color=FAINT, lw=0.9)
            # Labels stand clear of the axis and of its numbers.
            inside = line.tokens.between(1.5 * x_limits[0], x_limits[1])
            shown = line[inside & line.params.le(y_limits[1])]
            if len(shown):
                # Neighbours' labels stand at different heights.
                ordered = shown.sort_values("params")
                at = ordered.iloc[int((0.9 - 0.17 * (k % 3)) * (len(ordered) - 1))]
                axes.annotate(
                    f"{loss:.2f}",
                    (at.tokens, at.params),
                    fontsize=6.5,
                    ha="center",
                    va="center",
                    bbox={"facecolor": "white", "lw": 0, "pad": 0.6},
                )
        one = path[(path.family == family) & (path.corpus == corpus)]
        one = one.sort_values("compute")
        axes.plot(one.tokens, one.params, color=colour, lw=1.8)
        axes.fill_betweenx(
            one.params, one.tokens_low, one.tokens_high, color=colour, alpha=0.2, lw=0
        )
        run = cells[(cells.family == family) & (cells.corpus == corpus)]
        axes.plot(run.tokens, run.params, ".", color=INK, ms=3)
        if i == 0:
            axes.set_title(family, color=colour)
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(f"{trained(corpus)}parameters")
    figure.supxlabel("training tokens", fontsize=8.5)
    legend(
        figure,
        [
            key(f"equal loss ({analysis.unit})", FAINT, None, LINES[0]),
            key("compute-optimal, with its 95% interval", INK, None, LINES[0]),
            key("run", INK, "."),
        ],
    )


__all__ = ["Nothing", "isoflops", "isolosses"]
