"""Samples by their captions: a row a family, a column a caption."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.pictures.groups import Pictured
from analysis.questions._picture_grid import SAMPLE, draw_strips, levels_of
from analysis.report.style import Nothing
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
    Column("height", "of the picture", "pixels"),
    Column("width", "of the picture", "pixels"),
    Column("channels", "of a pixel"),
    Column("pixels", "its levels of 256 in base64, row by row"),
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
    out: list[dict[str, Any]] = []
    for k, run in enumerate(runs):
        names = ("run_id", "family", "corpus", "params", "tokens", "unique_tokens")
        head = {"samples": made.name} | {name: run[name] for name in names}
        samples = made.read(run["run_id"], "pictures", 1.0)
        for what, pictures in ((REAL, made.real), (SAMPLE, samples)):
            if what == REAL and k > 0:
                continue
            out += [
                head
                | {"what": what, "column": n, "caption": made.captions[n]}
                | levels_of(pictures[n])
                for n in shown
            ]
    return out


def draw_grid(figure: Figure, analysis: Analysis, target: str) -> None:
    """The pictures, with their captions above."""
    frame = analysis.caption_grid
    if frame.empty:
        raise Nothing
    frame = frame[frame.samples == frame.samples.iloc[0]]
    lines = [part for _, part in frame.groupby(["what", "run_id"], sort=False)]
    named = [(_name(part.iloc[0]), 3, part) for part in lines]
    draw_strips(figure, named)
    (axes,) = figure.axes
    first = lines[0]
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
