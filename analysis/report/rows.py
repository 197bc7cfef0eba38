"""What became of the rows of a table, in words."""

from __future__ import annotations

from typing import Any

from analysis.formatting import joined
from analysis.results import Analysis


def counts(row: Any, lawless: bool = False) -> str:
    """What became of a target's usable rows, from a row of Analysis.counts.

    Args:
      lawless: no law could be fitted to those that are left.
    """
    left = [
        f"{value:.0f} {are if value > 1 else is_} {what}"
        for value, is_, are, what in (
            (row.other_settings, "is", "are", "not at the best setting of their cell"),
            (row.aside, "is", "are", "set aside to be predicted"),
            (
                row.repeated,
                "repeats",
                "repeat",
                "data, and these laws are of one epoch",
            ),
        )
        if value
    ]
    rows_ = f"{row.fitted:.0f} of {row.usable:.0f} usable"
    text = f"Rows fitted on {row.target}: {rows_}"
    if lawless:
        text = f"Rows compared without a law on {row.target}: {rows_}"
    return text + (f"; {joined(left)}." if left else ".")


# From this share of a table on, data that is repeated is what the table is about.
MOSTLY = 0.5


REPEATED_LAW = "data_constrained"


def repeats(row: Any) -> list[str]:
    """Which law takes the rows that repeat data, where they are most of the table."""
    if not row.usable or row.repeated < MOSTLY * row.usable:
        return []
    return [
        f"{row.repeated:.0f} of {row.usable:.0f} rows on {row.target} read some data "
        "more than once: the law made for that takes all of them, by "
        f"`scaling-analysis fit TABLE --law {REPEATED_LAW}`."
    ]


def rows(analysis: Analysis, target: str) -> list[str]:
    """How many rows the fits of a target saw, and which law takes repeated data."""
    mine = analysis.counts[analysis.counts.target == target]
    fitted = (analysis.fits, analysis.joint)
    lawless = not any(frame.target.eq(target).any() for frame in fitted)
    said = ((counts(row, lawless), *repeats(row)) for row in mine.itertuples())
    return [text for texts in said for text in texts]
