"""What a frame of results holds: its columns, each with its unit and its meaning.

A question declares its frames once, beside the code that fills them, as `FRAMES`; the
Analysis, the JSON, the report's tables and `Analysis.describe` read them from there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a frame.

    Attributes:
      meaning: for a reader who sees the column's name alone.
      unit: "" for names, shares, counts of things and ratios.
    """

    name: str
    meaning: str
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Frame:
    """A table of results, by the name that it has in an Analysis.

    Attributes:
      more: columns that the table's own make may follow, as its meaning says.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    more: bool = False

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def join(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """One frame of all parts, with these columns; empty ones have them too.

        Columns of numbers and None, where a fit was refused, become float64 with NaN.
        """
        frame = stacked(parts)
        if frame.empty:
            return pd.DataFrame(columns=self.names, dtype=float)
        names = self.names
        if self.more:
            names += [name for name in frame if name not in names]
        return frame.reindex(columns=names).apply(_typed)


def stacked(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One frame of all parts that have rows, with all of their columns.

    Empty ones are left out: their columns have no type that would be right.
    """
    filled = [part for part in parts if not part.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _typed(column: pd.Series) -> pd.Series:
    if column.dtype != object or column.map(type).isin((str, bool, np.bool_)).any():
        return column
    return column.astype(float)


LOSS = "unit of the losses"
# Columns that mean the same wherever they stand.
COMMON = {
    column.name: column
    for column in (
        Column("run_id", "the run"),
        Column("family", "the model family; * for the law of all"),
        Column("corpus", "what was trained on; * for the law of all"),
        Column("target", "the evaluation set that losses are read on"),
        Column("law", "the law, a file of analysis/laws or a name in `models`"),
        Column("params", "parameters without embeddings", "count"),
        Column("tokens", "training tokens seen", "count"),
        Column("unique_tokens", "unique training tokens", "count"),
        Column("probes", "the probe set that predictions are compared at"),
        Column("told", "whether it is at the place that sentences are about"),
        Column("loss", "measured or fitted loss", LOSS),
        Column("compute", "training compute", "FLOPs"),
        Column("low", "lower end of the 95% interval"),
        Column("high", "upper end of the 95% interval"),
        Column("kind", "what is swapped: architecture, corpus or another factor"),
        Column("baseline", "what is swapped out"),
        Column("alternative", "what is swapped in"),
        Column("fixed", "the level of the other factor; * over all of them"),
        Column(
            "factor",
            "factor on the data of `baseline` that gives the loss of `alternative`",
        ),
        Column("p_infinite", "share of draws in which no amount is enough"),
        Column("learning_rate", "learning rate"),
        Column("parameter", "the parameter, as in the law's equation"),
        Column("value", "its estimate"),
        Column(
            "method",
            "how it was estimated; of effects: preferred (by a law that widens the "
            "joint one, where the fitted runs prefer it by more than 4 AICc), joint, "
            "family, paired",
        ),
        Column(
            "fitted",
            "whether every family and corpus has fitted runs at least as large, so "
            "that the row is no extrapolation",
        ),
    )
}


def measured(name: str, meaning: str, unit: str = "") -> tuple[Column, Column, Column]:
    """A value and the ends of its 95% interval, NAME_low and NAME_high."""
    return (
        Column(name, meaning, unit),
        Column(f"{name}_low", "lower end of its 95% interval", unit),
        Column(f"{name}_high", "upper end of its 95% interval", unit),
    )


def declare(
    name: str, meaning: str, *columns: str | Column, more: bool = False
) -> Frame:
    """A frame; a string names columns of COMMON, separated by spaces."""
    chosen: list[Column] = []
    for column in columns:
        if isinstance(column, Column):
            chosen.append(column)
        else:
            chosen += [COMMON[word] for word in column.split()]
    return Frame(name, meaning, tuple(chosen), more)


def frames() -> dict[str, Frame]:
    """Every frame of every question, by name, those of included files too.

    Raises:
      ValueError: two questions declare frames of one name.
    """
    from analysis import questions

    return _frames(questions.key())


@functools.cache
def _frames(included: object) -> dict[str, Frame]:
    from analysis import questions

    known: dict[str, Frame] = {}
    for file in questions.files():
        for frame in getattr(file, "FRAMES", ()):
            if frame.name in known:
                raise ValueError(f"two questions declare the frame {frame.name!r}")
            known[frame.name] = frame
    return known
