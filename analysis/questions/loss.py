"""Loss against data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.design.cells import REPEATED
from analysis.formatting import count, levels_text
from analysis.questions._question import Absent, Drawing, Question, Table
from analysis.report.style import (
    INK,
    LINES,
    MARKERS,
    MOST_COLUMNS,
    Nothing,
    corpora_of,
    families_of,
    key,
    legend,
    line_labels,
    log_axis,
    looks,
    near,
    ordered,
    panels_of,
    plain,
    resize,
    rows_of,
    shade,
    sizes_of,
    span,
    trained,
    wrapped,
)
from analysis.results import Analysis
from analysis.schema import LOSS, Column, declare
from analysis.surfaces.surfaces import curves_frame

if TYPE_CHECKING:
    from analysis.questions._asked import Asked, Measured

FRAMES = (
    declare(
        "cells",
        "The best run of each family, corpus, size and budget.",
        "family corpus target params",
        Column("params_total", "parameters with embeddings", "count"),
        "tokens unique_tokens",
        Column("epochs", "tokens seen over different ones"),
        Column("flops", "training compute", "FLOPs"),
        "loss",
        Column("se", "standard error by documents", LOSS),
        "learning_rate",
        Column("batch", "sequences of a step", "count"),
        Column("rates", "how many learning rates were tried"),
        Column("settings", "how many other settings were tried, the batch among them"),
        Column(
            "edge",
            "low or high where the best rate is at that end of a grid of two or more",
        ),
        Column("seeds", "how many runs the best setting has"),
        "run_id",
    ),
    declare(
        "curves",
        "The fitted law on a fine grid of tokens for each size, for drawing.",
        "family corpus target params tokens loss low high law",
    ),
)


def measures(measured: Measured) -> dict[str, pd.DataFrame]:
    return {"cells": measured.cells}


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    return {"curves": curves_frame(asked.surfaces, asked.target)}


def draw_loss(figure: Figure, analysis: Analysis, target: str) -> None:
    """Loss against data: a panel per corpus and family, a line per size."""
    cells = rows_of(analysis.cells, target)
    curves = analysis.curves[analysis.curves.target == target]
    curves = curves[curves.law.isin(ordered(curves.law)[:1])]
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
        log_axis(axes.xaxis, count, x_limits)
        log_axis(axes.yaxis, plain, y_limits)
        points, lines = (
            frame[(frame.family == family) & (frame.corpus == corpus)]
            for frame in (cells, curves)
        )
        ends = _draw_sizes(axes, points, lines, rungs, families, x_limits)
        out = withheld[(withheld.family == family) & (withheld.corpus == corpus)]
        axes.plot(
            out.tokens, out.observed, color=INK, marker="o", mfc="none", ms=8, ls=""
        )
        if ends:
            colour = looks(families, family)[0]
            names = [count(params) for params in ends]
            line_labels(
                axes, x_limits[1], list(ends.values()), names, [colour] * len(ends)
            )
        if i == 0:
            axes.set_title(levels_text(family), color=looks(families, family)[0])
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(f"{trained(corpus)}loss ({analysis.unit})")
    figure.supxlabel("training tokens (line labels: parameters)", fontsize=8.5)
    ring = Line2D([], [], color=INK, marker="o", mfc="none", ms=8, ls="")
    ring.set_label("withheld largest cell")
    keys = [ring] if len(withheld) else []
    if (cells.epochs >= REPEATED).any():
        keys.append(key("repeated data", INK, "x"))
    if keys:
        legend(figure, keys)


def _draw_sizes(
    axes: Axes,
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    rungs: pd.Series,
    families: Sequence[str],
    x_limits: tuple[float, float],
) -> dict[float, float]:
    """The cells of a family on a corpus with their curves; the last loss of each size.

    Args:
      rungs: the number of each cell's size, by which lines are drawn differently.
    """
    ends = {}
    for params, points in cells.groupby("params"):
        rung = int(rungs[points.index[0]])
        colour = shade(families, points.family.iloc[0], rung, rungs.max())
        line = curves[near(curves.params, params)].sort_values("tokens")
        line = line[line.tokens.between(*x_limits)]
        _draw_size(axes, points, line, colour, rung)
        last = points.sort_values("tokens").iloc[-1]
        ends[params] = line.loss.iloc[-1] if len(line) else last.loss
    return ends


def _draw_size(
    axes: Axes, points: pd.DataFrame, line: pd.DataFrame, colour: Any, rung: int
) -> None:
    """The cells of one size, those that repeat data as crosses, and the law's curve."""
    axes.plot(line.tokens, line.loss, color=colour, ls=LINES[rung % 4])
    axes.fill_between(line.tokens, line.low, line.high, color=colour, alpha=0.15, lw=0)
    again = points.epochs >= REPEATED
    style = {"color": colour, "ls": ""}
    for some, marker, edge in (
        (points[~again], MARKERS[rung % len(MARKERS)], {"mec": "white", "mew": 0.5}),
        (points[again], "x", {"mew": 1.5}),
    ):
        axes.plot(some.tokens, some.loss, marker=marker, **edge, **style)


def draw_design(figure: Figure, analysis: Analysis, target: str) -> None:
    """The design: which sizes and budgets were run, and what was withheld."""
    cells = rows_of(analysis.cells, target)
    withheld = analysis.holdout[analysis.holdout.target == target]
    families = families_of(analysis)
    shown = {*cells.corpus, *withheld.corpus}
    corpora = [corpus for corpus in corpora_of(analysis) if corpus in shown]
    if not corpora:
        raise Nothing
    resize(figure, 2.7, 1.4 + 2.3 * max(2, len(corpora)))
    panels = panels_of(figure, 1, len(corpora))[0]
    for axes, corpus in zip(panels, corpora, strict=True):
        log_axis(axes.xaxis, count, span(cells.tokens, pad=0.15))
        log_axis(axes.yaxis, count, span(cells.params, pad=0.15))
        axes.set_title(levels_text(corpus))
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


QUESTION = Question(
    name="loss",
    title="Loss against data",
    place=80,
    absent=Absent("usable cells", ("cells",), ("table", "fits")),
    measures=measures,
    compute=compute,
    figures={
        "loss": Drawing(
            draw_loss,
            "Loss against training tokens, a line for each model size, with each "
            "family's fitted law and its 95% interval.",
            every=True,
            front=10,
        ),
        "design": Drawing(
            draw_design,
            "The cells that were run: sizes against budgets.",
        ),
    },
    tables=(Table("All cells", "cells", "Best run of each cell.", counted=False),),
)
