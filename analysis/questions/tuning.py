"""Tuning: was every family given its best learning rate?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from analysis.design.cells import optima_frame, settings_frame, tuning_frame
from analysis.formatting import count, levels_text, scale, some
from analysis.questions._question import LIMIT, Drawing, Placed, Question, Sentence
from analysis.questions._view import View, of_target
from analysis.report import markup
from analysis.report.style import (
    ALARM,
    INK,
    LINES,
    MARKERS,
    MOST_COLUMNS,
    apart,
    families_of,
    legend,
    line_labels,
    log_axis,
    looks,
    plain,
    rows_of,
    shade,
    sizes_of,
    span,
    wrapped,
)
from analysis.results import Analysis, Note
from analysis.schema import LOSS, Column, declare

if TYPE_CHECKING:
    from analysis.questions._asked import Measured

FRAMES = (
    declare(
        "settings",
        "Every setting that varied in a cell.",
        "family corpus target params tokens unique_tokens",
        Column("setting", "which one"),
        Column("value", "of the cell's best run, as text"),
        Column("tried", "how many values were tried"),
        Column("edge", "low or high where the best is the least or greatest tried"),
    ),
    declare(
        "tuning",
        "The loss of every learning rate tried.",
        "family corpus target params tokens learning_rate loss",
        Column("best", "whether it is the best of its cell"),
    ),
    declare(
        "rate_optima",
        "Of cells of two rates or more, the optimum of a quadratic in the log rate, or "
        "the best tried rate under a warning.",
        "family corpus target params tokens",
        Column("rates", "how many learning rates were tried"),
        "learning_rate loss",
        Column("tried_loss", "loss at the best tried rate", LOSS),
        Column("warning", "why the quadratic was not used, or empty"),
    ),
)


def measures(measured: Measured) -> dict[str, pd.DataFrame]:
    data, target = measured.sample, measured.target
    return {
        "settings": settings_frame(data, target),
        "tuning": tuning_frame(data, target),
        "rate_optima": optima_frame(data, target),
    }


def draw_tuning(figure: Figure, analysis: Analysis, target: str) -> None:
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
        rates = apart(axes, _rates(frame.learning_rate), plain)
        axes.xaxis.set_major_locator(FixedLocator(rates))
        base = looks(families, family)[0]
        ends, names, colours = [], [], []
        for (_, params, _), mine in frame[frame.family == family].groupby(keys):
            mine = mine.sort_values("learning_rate")
            rung = int(rungs[mine.index[0]])
            colour = shade(families, family, rung, rungs.max())
            _draw_cell(axes, mine, colour, rung)
            ends.append(mine.excess.iloc[-1])
            names.append(count(params))
            colours.append(base)
        if ends:
            line_labels(axes, limits[1], ends, names, colours)
        axes.set_title(levels_text(family), color=base)
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel("loss above the best rate's, %")
    figure.supxlabel("learning rate (line labels: parameters)", fontsize=8.5)
    ring = Line2D([], [], color=INK, marker="o", mfc="none", ms=9, ls="", label="best")
    edge = Line2D([], [], color=ALARM, marker="s", mfc="none", ms=9, ls="")
    edge.set_label("best, at the edge of its grid")
    legend(figure, [ring, edge])


def _draw_cell(axes: Axes, rates: pd.DataFrame, colour: Any, rung: int) -> None:
    """The rates of one cell, with a mark about the best, another where it is an end."""
    look = {"color": colour, "ls": LINES[rung % 4]}
    marker = MARKERS[rung % len(MARKERS)]
    axes.plot(rates.learning_rate, rates.excess, marker=marker, **look)
    best = rates[rates.best]
    colour, marker = (ALARM, "s") if best.run_edge.ne("").any() else (INK, "o")
    look = {"color": colour, "ls": "", "mfc": "none", "ms": 10}
    axes.plot(best.learning_rate, best.excess, marker=marker, **look)


def _rates(rates: pd.Series) -> list[float]:
    """The rates tried, as ticks: at most five."""
    tried = sorted(set(rates))
    return tried[:: max(1, math.ceil(len(tried) / 5))]


def said(view: View) -> list[str]:
    if view.analysis.tuning.empty:
        return []
    cells = view.rows("cells")
    several = cells[cells.rates > 1]
    edges = int(several.edge.ne("").sum())
    return [
        f"{len(several)} of {len(cells)} cells were tried at two or more rates; in "
        f"{edges} of these the best rate is at the edge of its grid. The other cells "
        "use the rate tuned there."
    ]


def _built(view: View, figure: Placed) -> str:
    analysis = view.analysis
    notes = markup.about(analysis, "tuning")
    if analysis.tuning.empty:
        what = "tuning runs: one rate per cell"
        return markup.absent(analysis, what, "tuning") + notes
    lead = markup.paragraph(*said(view)) + figure("tuning")
    return lead + notes + markup.fold("All rates", analysis.tuning, counted=False)


def answers(view: View) -> list[Sentence]:
    """How many cells tried more than one rate, and in how many the last was best."""
    cells = of_target(view.analysis.cells, view.target)
    tried = of_target(view.analysis.settings, view.target)
    if cells.empty:
        return []
    rates = tried[tried.setting == "learning rate"]
    if rates.empty:
        return [Sentence(UNTUNED, 80, LIMIT)]
    text = f"The learning rate was tuned in {len(rates)} of {len(cells)} cells"
    edge = int(rates.edge.ne("").sum())
    if edge:
        text += f"; in {edge} the best rate was the lowest or the highest tried"
    return [Sentence(f"{text}.", 80, LIMIT)]


PLACE = ["family", "corpus", "params", "tokens", "unique_tokens"]


def notes(view: View) -> list[Note]:
    analysis = view.analysis
    tuned = of_cells(analysis.cells, analysis.settings)
    return [*tuned, *of_optima(analysis.rate_optima)]


def of_cells(cells: pd.DataFrame, tried: pd.DataFrame) -> list[Note]:
    """Best settings at the edge of what was tried, and unequal tuning effort.

    Args:
      tried: the settings of the cells, as in `Analysis.settings`.
    """
    tuned = cells.drop_duplicates(PLACE)
    out = list(_edges(tried.drop_duplicates([*PLACE, "setting"]))) if len(tried) else []
    counts = tuned.groupby("family").settings.sum()
    if counts.nunique() > 1:
        given = ", ".join(f"{family} {count}" for family, count in counts.items())
        text = (
            "Families had unequal tuning effort (settings tried over all cells): "
            f"{given}."
        )
        out.append(Note("warning", "tuning", text))
    tries = tuned.settings.value_counts().sort_index()
    if len(tries) > 1:
        given = ", ".join(
            f"{count} in {cells} cell{'s' * (cells > 1)}"
            for count, cells in tries.items()
        )
        text = (
            f"Cells tried unequal numbers of settings ({given}): trying more settings "
            "lowers the best loss by chance."
        )
        out.append(Note("warning", "tuning", text))
    if len(tuned) and (tuned.rates <= 1).all():
        out.append(Note("undetermined", "tuning", UNTUNED))
    return out


UNTUNED = "No cell tried two learning rates: how well each is tuned is not known."


def _edges(tried: pd.DataFrame) -> Iterator[Note]:
    """The numeric settings whose best value is the least or the most that was tried."""
    for (family, setting), part in tried.groupby(["family", "setting"], sort=False):
        edge = part[part.edge != ""]
        if edge.empty:
            continue
        named = some(
            f"{row.edge} end at {row.value} ({scale(row.params, row.tokens)})"
            for row in edge.itertuples()
        )
        text = (
            f"The best {setting} of {family} lies at the edge of its grid in "
            f"{len(edge)} of {len(part)} tuned cells: {named}; a wider grid may find a "
            "lower loss."
        )
        yield Note("edge", "tuning", text)


def of_optima(frame: pd.DataFrame) -> Iterator[Note]:
    """Cells in which a quadratic in the log rate has no optimum among the rates."""
    cells = frame.drop_duplicates(["family", "corpus", "params", "tokens"])
    for family, part in cells.groupby("family"):
        warned = part[part.warning != ""].warning.value_counts()
        if warned.empty:
            continue
        given = ", ".join(f"{text} ({count})" for text, count in warned.items())
        text = (
            f"A quadratic in the log rate gives {family} no optimum in {warned.sum()} "
            f"of {len(part)} cells with two rates or more: {given}."
        )
        yield Note("warning", "tuning", text)


QUESTION = Question(
    name="tuning",
    title="Tuning: was every family given its best rate?",
    place=180,
    said=said,
    answers=answers,
    figures={
        "tuning": Drawing(
            draw_tuning,
            "Loss against the learning rate, above the best of each size. A best rate "
            "at the edge of its grid (red square) may not be the best there is.",
        )
    },
    build=_built,
    measures=measures,
    notes=notes,
)
