"""Estimated against measured: how good the plan's times were, by family.

The rows come with the table; see analysis/tables/run_times.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis.questions._question import Absent, Answer, Question, Table
from analysis.schema import Column, declare

if TYPE_CHECKING:
    from analysis.questions._asked import Whole

FRAMES = (
    declare(
        "estimates",
        "How good the plan's times were.",
        "family",
        Column("target", "the machine"),
        Column("how", "how the time was estimated"),
        Column("runs", "how many runs"),
        Column("ratio", "measured over estimated seconds, the median"),
        Column("low", "the least of them"),
        Column("high", "the greatest of them"),
    ),
)


def concludes(whole: Whole) -> Answer:
    return {"estimates": whole.table.estimates}, []


def sentences(frame: pd.DataFrame) -> list[str]:
    """One a row: by how much the runs took longer or shorter than was expected."""
    said = []
    for row in frame.itertuples():
        verb = "took longer than" if row.low > 1 else "took less than"
        if row.low <= 1 <= row.high:
            verb = "scattered around"
        spread = f"{row.low:.2g} to {row.high:.2g}"
        said.append(
            f"{row.runs} run{'s' * (row.runs > 1)} of {row.family} {verb} the estimate "
            f"for {row.target} ({row.how}): {row.ratio:.2g} times as long at the "
            f"median, {spread} over all."
        )
    return said


QUESTION = Question(
    name="run_times",
    title="How long runs took, beside the plan",
    place=210,
    absent=Absent(
        "estimates of run times",
        ("estimates",),
        (),
        "`scaling plan` and `scaling run` keep them in a study's workdir.",
    ),
    said=lambda view: sentences(view.analysis.estimates),
    tables=(Table("Measured over estimated time", "estimates"),),
    concludes=concludes,
)
