"""Which runs share a cell, and which of them share a setting in it.

A cell is what a law sees as one point: a family and corpus at one size and budget. What
else varies between its runs is a setting that somebody tuned (the learning rate, the
batch, the schedule, the decay), of which the analysis takes the best, or a seed. Runs
of one setting are repeats of each other and show the noise; runs of two settings never
do. What a table keeps apart besides (a context, a shape) makes cells of their own.
"""

from __future__ import annotations

import pandas as pd

from analysis.design.levels import BUDGET, SIZE, level_codes
from analysis.laws import Array

# Beginnings of the names of columns of a table's runs: a setting beyond those below,
# and what makes runs different experiments whatever their settings.
SETTING, APART = "setting:", "apart:"
# The rate comes first: of two settings that are equally good the lower rate is taken.
SETTINGS = ("learning_rate", "batch", "optimiser")
CELL = ("family", "corpus", "size", "params", "quality", "damage")
COUNTS = ("tokens", "unique_tokens")


def names(runs: pd.DataFrame) -> list[str]:
    """The columns of settings, the learning rate first."""
    return [c for c in SETTINGS if c in runs] + [
        c for c in runs if str(c).startswith(SETTING)
    ]


def plain(name: str) -> str:
    """The name of a setting's column as a person would write it."""
    return name.removeprefix(SETTING).replace("_", " ")


def coded(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs [n] with codes of what they share.

    Adds level (of size) and budget, by the rule of levels.py; cell; setting (all of
    them together) and beside (all settings but the learning rate).
    """
    tuned = names(frame)
    cell = _cells(frame)
    return frame.assign(
        level=level_codes(frame["size"].to_numpy(float), SIZE),
        budget=level_codes(frame.tokens.to_numpy(float), BUDGET),
        cell=cell,
        setting=_codes(frame, tuned),
        beside=_codes(frame, [name for name in tuned if name != "learning_rate"]),
    )


def _cells(frame: pd.DataFrame) -> Array:
    """Codes [n] of cells.

    A budget is rounded to whole batches, and so to other counts of tokens at another
    batch. Counts that are one budget are one cell where each batch has a single count;
    where one batch has several, they are different points, of a trajectory perhaps.
    """
    rest = [c for c in CELL if c in frame]
    rest += [c for c in frame if str(c).startswith(APART)]
    exact = _codes(frame, [*rest, *COUNTS])
    if "batch" not in frame or frame.batch.nunique() < 2:
        return exact
    near = {c: level_codes(frame[c].to_numpy(float), BUDGET) for c in COUNTS}
    place = _codes(frame.assign(**near), [*rest, *COUNTS])
    by = frame.assign(place=place).groupby(["place", "batch"])
    rounded = by[list(COUNTS)].nunique().eq(1).all(axis=1).groupby("place").all()
    first = pd.Series(exact).groupby(place).transform("min")
    whole = pd.Series(place).map(rounded).eq(True)
    return first.where(whole, exact).to_numpy()


def _codes(frame: pd.DataFrame, columns: list[str]) -> Array:
    """Codes [n] of the rows that are alike in all of the columns, in their order."""
    if not columns:
        return pd.Series(0, index=frame.index).to_numpy()
    return frame.groupby(columns, dropna=False).ngroup().to_numpy()
