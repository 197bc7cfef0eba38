"""Loss curves of all runs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import count, levels_text
from analysis.questions._question import Absent, Answer, Drawing, Question
from analysis.report.style import (
    ALARM,
    MOST_COLUMNS,
    Nothing,
    corpora_of,
    families_of,
    key,
    legend,
    log_axis,
    looks,
    plain,
    shade,
    sizes_of,
    span,
    trained,
    wrapped,
)
from analysis.results import Analysis
from analysis.schema import LOSS, Column, declare

if TYPE_CHECKING:
    from analysis.questions._asked import Whole

FRAMES = (
    declare(
        "paths",
        "Training-loss curves, thinned.",
        "run_id",
        Column("step", "training step"),
        "tokens",
        Column("loss", "training loss at that step", LOSS),
    ),
)


def concludes(whole: Whole) -> Answer:
    runs, paths = whole.table.runs, whole.table.paths
    # A run that ended well without a loss that can be used was left out of the report,
    # as one of the other objective is, whose losses have another unit.
    known = set(whole.table.readings.run_id)
    shown = runs.run_id[runs.run_id.isin(known) | (runs.status != "done")]
    return {"paths": paths[paths.run_id.isin(shown)].reset_index(drop=True)}, []


def draw_paths(figure: Figure, analysis: Analysis, target: str) -> None:
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
        log_axis(axes.xaxis, count, x_limits)
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
            axes.set_title(levels_text(family), color=looks(families, family)[0])
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(trained(corpus).strip())
    figure.supylabel(f"training loss ({analysis.unit})", fontsize=8.5)
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


QUESTION = Question(
    name="paths",
    title="Loss curves of all runs",
    place=190,
    absent=Absent(
        "loss curves",
        ("paths",),
        (),
        "A study's workdir keeps them; other tables have final losses alone.",
    ),
    # The training loss is on the training text, whatever the target.
    figures={"paths": Drawing(draw_paths, "Training loss of every run.", scored=False)},
    concludes=concludes,
)
