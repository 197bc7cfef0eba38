"""Quantities that a claim may name: a column of a frame, and the rows meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from analysis import schema
from analysis.inference.margins import Interval
from analysis.pictures.groups import ACROSS
from analysis.questions import excess
from analysis.questions._view import at_largest, headline
from analysis.results import Analysis
from scaling import claim as rules
from scaling.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A column of a frame, and the rows that are meant where a claim names none.

    Attributes:
      where: values by column; a claim's own replace them.
      choose: the rows to choose from, where equality of columns cannot say it.
    """

    frame: str
    column: str
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    choose: Callable[[Analysis], pd.DataFrame] | None = None


def _multipliers(analysis: Analysis) -> pd.DataFrame:
    """The leading method's data-equivalents, each swap stated once, as it helps."""
    return headline(analysis.equivalents, analysis.targets[0])


NAMED = {
    # Jensen-Shannon divergence of two families' predictions beyond that of seeds.
    "excess": Quantity(
        "distances", "excess", {"kind": "architecture", "reported": True, "own": True}
    ),
    # The same at the best scoring of each run, of the longest that was allowed.
    "excess stopped early": Quantity(
        "function_trends", "last", {"axis": excess.EARLY, "own": True}
    ),
    # The same at the end of training, and where it tends to as training goes on.
    "excess at the end": Quantity(
        "function_trends", "last", {"axis": "training", "own": True}
    ),
    "excess in the limit": Quantity(
        "function_trends", "floor", {"axis": "training", "own": True}
    ),
    # Agreement of samples from the same noises beyond linear ones: of two architectures
    # that share no picture, and what they lack of two halves of one architecture.
    "same picture": Quantity(
        "same_pictures", "beyond_linear", {"kind": ACROSS, "reported": True}
    ),
    "shortfall of pictures": Quantity(
        "same_pictures", "shortfall", {"kind": ACROSS, "reported": True}
    ),
    # Squared distance of their denoised pictures beyond that, in errors.
    "excess of scores": Quantity(
        "score_distances", "excess", {"kind": ACROSS, "reported": True}
    ),
    # Times the data that one family needs for the loss of another.
    "multiplier": Quantity(
        "equivalents", "factor", {"kind": "architecture"}, _multipliers
    ),
    # Of the variance of the modelled loss over the grid's box.
    "share of architecture": Quantity("variance", "share", {"factor": "architecture"}),
    "share of corpus": Quantity("variance", "share", {"factor": "corpus"}),
}


def quantity(name: str) -> Quantity:
    """By its name, or FRAME.COLUMN.

    Raises:
      UserError: there is none.
    """
    if name in NAMED:
        return NAMED[name]
    frame, _, column = name.partition(".")
    frames = schema.frames()
    if not column:
        raise unknown("quantity", name, [*NAMED, "FRAME.COLUMN"])
    if frame not in frames:
        raise unknown("frame", frame, frames)
    if column not in frames[frame].names:
        raise unknown("column", column, frames[frame].names)
    return Quantity(frame, column)


def rows_of(claim: Mapping[str, Any], analysis: Analysis) -> pd.DataFrame:
    """The rows that a claim is about, of the first target unless it names one.

    Raises:
      UserError: the claim names what there is not.
    """
    asked = quantity(claim["quantity"])
    frame = analysis.frames[asked.frame]
    if asked.choose is not None and not frame.empty:
        frame = asked.choose(analysis)
    where = {**asked.where, **claim.get("where", {})}
    if "target" in frame and "target" not in where:
        where["target"] = analysis.targets[0]
    for name, wanted in where.items():
        if name not in frame:
            raise unknown("column", name, frame.columns)
        values = wanted if isinstance(wanted, list | tuple) else [wanted]
        frame = frame[frame[name].isin(values)]
    frame = frame[frame[asked.column].notna()]
    placed = {"params", "tokens"} <= set(frame.columns)
    if claim.get("at", rules.LARGEST) == rules.LARGEST and placed and len(frame):
        frame = at_largest(frame) if frame.params.notna().any() else frame
    return frame


def intervals(asked: Quantity, frame: pd.DataFrame) -> list[Interval]:
    """Value, and ends of the 95% and the 90% interval, of each row.

    COLUMN_low and COLUMN_high where the frame has them, else low and high where these
    stand right behind the column, and so are of it.

    Raises:
      UserError: no interval of the column is known.
    """
    column, names = asked.column, schema.frames()[asked.frame].names
    wide = [f"{column}_low", f"{column}_high"]
    if not set(wide) <= set(names):
        wide = ["low", "high"]
        follows = names[names.index(column) + 1 :][:2]
        if follows != wide:
            raise UserError("column", column, "no interval of it is known")
    narrow = [f"{end}_90" for end in wide]
    if not set(narrow) <= set(names):
        narrow = wide
    every = frame[[column, *wide, *narrow]].astype(float)
    return [Interval(*row) for row in every.itertuples(index=False)]
