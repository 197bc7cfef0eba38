"""What became of the rows of a table, in words."""

from __future__ import annotations

from typing import Any

from analysis.formatting import joined, scored
from analysis.results import Analysis


def counts(row: Any, lawless: bool = False) -> str:
    """What became of a target's usable rows, from a row of Analysis.counts.

    Args:
      lawless: no law could be fitted to those that are left.
    """
    left = [
        f"{value:.0f} {one if value == 1 else many}"
        for value, one, many in (
            (
                row.other_settings,
                "is not at the best setting of its cell",
                "are not at the best setting of their cell",
            ),
            (row.aside, "is withheld to be predicted", "are withheld to be predicted"),
            (
                row.repeated,
                "repeats data, which these laws do not model",
                "repeat data, which these laws do not model",
            ),
            (
                row.references,
                "is of a reference beside the laws",
                "are of references beside the laws",
            ),
        )
        if value
    ]
    verb = "is" if row.fitted == 1 else "are"
    how = "compared without a law" if lawless else "fitted"
    text = f"Of {row.usable:.0f} usable rows{scored(row.target, ' ')}, "
    text += f"{row.fitted:.0f} {verb} {how}"
    return text + (f"; {joined(left)}." if left else ".")


# From this share of a table on, data that is repeated is what the table is about.
MOSTLY = 0.5


REPEATED_LAW = "data_constrained"


def repeats(row: Any) -> list[str]:
    """Which law takes the rows that repeat data, where they are most of the table."""
    if not row.usable or row.repeated < MOSTLY * row.usable:
        return []
    return [
        f"{row.repeated:.0f} of {row.usable:.0f} rows{scored(row.target, ' ')} read "
        "some data more than once. A law of repeated data fits all of them: "
        f"`scaling-analysis fit TABLE --law {REPEATED_LAW}`."
    ]


def rows(analysis: Analysis, target: str) -> list[str]:
    """How many rows the fits of a target saw, and which law takes repeated data."""
    mine = analysis.counts[analysis.counts.target == target]
    fitted = (analysis.fits, analysis.joint)
    lawless = not any(frame.target.eq(target).any() for frame in fitted)
    said = ((counts(row, lawless), *repeats(row)) for row in mine.itertuples())
    return [text for texts in said for text in texts]
