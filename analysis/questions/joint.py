"""Joint law: multipliers of families and corpora."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import interval_text, number
from analysis.questions._question import Absent, Drawing, Question, Table
from analysis.report.style import (
    INK,
    Nothing,
    corpora_of,
    factor_axis,
    families_of,
    forest_axis,
    looks,
    resize,
    rows_of,
    side_note,
    span,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare
from analysis.surfaces.surfaces import joint_frame

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "joint",
        "The parameters of the joint law.",
        "target law parameter",
        Column("kind", "shared, family or corpus: what the parameter belongs to"),
        Column("level", "the family or corpus"),
        "value low high",
        Column("bound", "whether it, or an end of its interval, is on a bound"),
        Column("reference", "whether it is 1 by definition"),
    ),
)


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    return {"joint": joint_frame(asked.surfaces, asked.target)}


def warns(asked: Asked) -> Iterator[Note]:
    """Combinations that were not run, which the joint law fills in."""
    surfaces = asked.surfaces
    wanted = len(surfaces.families) * len(surfaces.corpora)
    if len(surfaces.single) < wanted:
        text = (
            f"{wanted - len(surfaces.single)} of {wanted} combinations of family and "
            f"corpus have no runs on target {asked.target}: the joint law's "
            "multipliers stand in for them."
        )
        yield Note("warning", "joint", text)


def draw_joint(figure: Figure, analysis: Analysis, target: str) -> None:
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
            ends = interval_text(row["low"], row["high"])
            side_note(axes, y, f"{number(row['value'])} ({ends})")
        forest_axis(axes, list(group.level), range(len(group)))
        axes.set_title(f"{_multiplier(parameter)}, by {kind}")
        axes.tick_params(axis="x", labelbottom=axes is panels[-1])
    panels[-1].set_xlabel("multiplier: one token or parameter counts as so many")


def _multiplier(parameter: str) -> str:
    known = {"rhoN": "ρN: effective parameters", "rhoD": "ρD: effective data"}
    return known.get(parameter, parameter)


QUESTION = Question(
    name="joint",
    title="Joint law: multipliers of families and corpora",
    place=110,
    absent=Absent("joint law", ("joint",), ("joint",)),
    figures={
        "joint": Drawing(
            draw_joint,
            "Multipliers of the joint law. A family whose multiplier of data is 0.5 "
            "needs twice the data of the reference for the same loss.",
        )
    },
    about=("joint",),
    tables=(Table("Parameters of the joint law", "joint"),),
    compute=compute,
    warns=warns,
)
