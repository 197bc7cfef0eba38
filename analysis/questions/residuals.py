"""What the laws miss: residuals of the fits."""

from __future__ import annotations

import itertools
import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.formatting import count, law_text, levels_text
from analysis.questions._question import Absent, Drawing, Question, Table
from analysis.questions._view import View
from analysis.report.style import (
    INK,
    LABEL,
    MOST_COLUMNS,
    corpora_of,
    families_of,
    key,
    legend,
    log_axis,
    looks,
    ordered,
    rows_of,
    span,
    wrapped,
)
from analysis.results import Analysis
from analysis.schema import LOSS, Column, declare
from analysis.surfaces.surfaces import residuals

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "residuals",
        "Measured against fitted loss of every run that a law was fitted to.",
        "family corpus target params tokens",
        Column("observed", "measured loss", LOSS),
        Column("predicted", "fitted loss", LOSS),
        Column("residual", "log observed less log predicted"),
        "law",
    ),
)


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    fitted = [asked.surfaces.joint, *asked.surfaces.single.values()]
    if not asked.leading.plain:
        fitted = [asked.chosen.joint, *fitted]
    parts = [residuals(one, asked.surfaces.draws) for one in fitted]
    every = pd.concat(parts, ignore_index=True)
    return {"residuals": every.assign(target=asked.target)}


def draw_residuals(figure: Figure, analysis: Analysis, target: str) -> None:
    """Residuals of the fits against data, with the seed noise behind."""
    frame = rows_of(analysis.residuals, target)
    fitness = analysis.fitness[analysis.fitness.target == target]
    families, corpora = families_of(analysis), corpora_of(analysis)
    laws = [law for law in ordered(frame.law) if _whole(analysis, law)]
    margins = 0.9, 1.4
    panels = wrapped(figure, len(laws), len(families), 2.0, margins, narrowest=2)
    widest = math.log(frame.params.max() / frame.params.min()) or 1.0
    for (i, law), (j, family) in itertools.product(
        enumerate(laws), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, count, span(frame.tokens, pad=0.1))
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
            axes.set_title(levels_text(family), color=looks(families, family)[0])
        if j % MOST_COLUMNS == 0:
            name = textwrap.fill(law_text(law), LABEL)
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


def _largest_first(view: View) -> pd.DataFrame:
    frame = view.analysis.residuals
    return frame.loc[frame.residual.abs().sort_values(ascending=False).index]


QUESTION = Question(
    name="residuals",
    title="Residuals",
    place=160,
    absent=Absent("residuals", ("residuals",), ("fits",)),
    figures={
        "residuals": Drawing(
            draw_residuals,
            "Residuals of the fits. A pattern along the axis shows a law of the wrong "
            "shape; the grey band is the noise between seeds.",
        )
    },
    tables=(
        Table(
            "All residuals",
            _largest_first,
            "Residuals, the largest first.",
            counted=False,
        ),
    ),
    compute=compute,
)
