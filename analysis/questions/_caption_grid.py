"""Samples by their captions: a row a family, a column a caption."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.pictures.groups import Pictured
from analysis.questions._picture_grid import PIXELS, SAMPLE, draw_rows, levels_of
from analysis.results import Analysis
from analysis.schema import Column, declare

COLUMNS = 8  # captions that there is room for
LINE = 13  # letters of a caption beside each other
REAL = "held-out picture"
GRID = declare(
    "caption_grid",
    "Held-out pictures, and what each family makes of their captions.",
    Column("samples", "the set of noises and captions"),
    Column("what", "held-out picture, or sample"),
    "run_id family corpus params tokens unique_tokens",
    Column("column", "number of the picture"),
    Column("caption", "of the picture, as far as models read it"),
    *PIXELS,
)


def grid(asked: Pictured, runs: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows of the frame, of pictures of as many groups.

    Args:
      runs: rows of `Pictures.runs`, one a family.
    """
    made = asked.pictures
    if not made.captions:
        return []
    _, first = np.unique(made.groups, return_index=True)
    shown = np.sort(first)[:COLUMNS]
    names = ("run_id", "family", "corpus", "params", "tokens", "unique_tokens")
    lines = [(REAL, run, made.real) for run in runs[:1]]
    lines += [(SAMPLE, r, made.read(r["run_id"], "pictures", 1.0)) for r in runs]
    return [
        {"samples": made.name, "what": what}
        | {name: run[name] for name in names}
        | {"column": n, "caption": made.captions[n]}
        | levels_of(pictures[n])
        for what, run, pictures in lines
        for n in shown
    ]


def draw_grid(figure: Figure, analysis: Analysis, target: str) -> None:
    """The pictures, with their captions above."""
    frame = draw_rows(figure, analysis.caption_grid, _name)
    (axes,) = figure.axes
    first = frame[frame.what == REAL]
    steps = first.width.to_numpy(int) + 1
    centres = np.cumsum(steps) - steps / 2 - 1
    wrapped = [textwrap.fill(text, LINE) for text in first.caption]
    axes.set_xticks(centres, wrapped, fontsize=5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.5)


def _name(row: pd.Series) -> str:
    return REAL if row.what == REAL else str(row.family)
