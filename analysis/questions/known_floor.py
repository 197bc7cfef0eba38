"""The fitted floors of the laws beside the truth, where a target's truth is known.

E of a law is what infinite size and data would leave of the loss. Only a corpus made
from a known source says what that is; see scaling/corpora/_truth.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.formatting import interval_text, joined, number
from analysis.questions._question import Absent, Answer, Placed, Question
from analysis.questions._view import View
from analysis.report import markup
from analysis.schema import LOSS, Column, declare

if TYPE_CHECKING:
    from analysis.questions._asked import Whole

FRAMES = (
    declare(
        "truth",
        "Fitted floors beside the truth, where a target's is known.",
        "family corpus target law",
        Column("length", "of the windows", "tokens"),
        Column("floor", "the law's E", LOSS),
        "low high",
        Column("bound", "whether the floor is on a bound of the search"),
        Column("truth", "loss of the true chances on the target", LOSS),
        Column("se", "of it as an estimate of the entropy", LOSS),
        Column("entropy", "of the source", LOSS),
        Column("entropy_se", "0 where it is exact", LOSS),
        Column("lowest", "the lowest measured loss", LOSS),
        Column("own", "whether it was trained on what the target is made of"),
        Column("interval", "where it lies: below the truth, above it, or contains it"),
    ),
)


def concludes(whole: Whole) -> Answer:
    table, found = whole.table, whole.analysis
    beside = frame(table.truth, table.parts, found.cells, found.fits, found.joint)
    return {"truth": beside}, []


def frame(
    known: pd.DataFrame,
    parts: Mapping[str, Mapping[str, float]],
    cells: pd.DataFrame,
    fits: pd.DataFrame,
    joint: pd.DataFrame,
) -> pd.DataFrame:
    """A row a fitted floor and truth; see `Analysis.truth`.

    Args:
      known: as in Table.truth.
      parts: by target, the keys in it (CORPUS:TOKENS) and their weights.
    """
    if known.empty or cells.empty:
        return pd.DataFrame()
    pairs = ["family", "corpus", "target"]
    floors = pd.concat([_of_fits(fits), _of_joint(joint)], ignore_index=True)
    floors = floors.astype(dict.fromkeys(pairs, object))  # none at all count as numbers
    lowest = cells.groupby(pairs, as_index=False).loss.min()
    lowest = lowest.rename(columns={"loss": "lowest"})
    every = floors.merge(lowest, "outer", pairs).merge(known, on="target")
    own = {target: _corpus(keys) for target, keys in parts.items()}
    every["own"] = every.corpus == every.target.map(own)
    alone = cells.groupby("target").corpus.nunique().eq(1)
    only = every.target.map(alone).eq(True) & every.corpus.eq("*")
    trained = cells.drop_duplicates("target").set_index("target").corpus
    every["own"] |= only & (every.target.map(trained) == every.target.map(own))
    below, above = every.high < every.truth, every.low > every.truth
    reported = np.select([below, above], ["below", "above"], "contains")
    every["interval"] = np.where(every.low.isna() | every.high.isna(), "", reported)
    return every


def _of_fits(fits: pd.DataFrame) -> pd.DataFrame:
    """The floors of laws over all sizes; one at one size has its own floor."""
    mine = fits[(fits.parameter == "E") & fits.params.isna()]
    names = ["family", "corpus", "target", "law", "value", "low", "high", "bound"]
    return mine[names].rename(columns={"value": "floor"})


def _of_joint(joint: pd.DataFrame) -> pd.DataFrame:
    """The floors of the joint law: one, or one a corpus; family "*" as they share it.

    A family's own floor, in a law that has such, comes under its name.
    """
    split = joint.parameter.astype(str).str.startswith("E[")
    split &= joint.kind.isin(("family", "corpus"))
    mine = joint[split | (joint.parameter == "E")]
    level = mine.level.astype(str)
    return pd.DataFrame(
        {
            "family": level.where(mine.kind == "family", "*"),
            "corpus": level.where(mine.kind == "corpus", "*"),
            "target": mine.target,
            "law": mine.law,
            "floor": mine.value,
            "low": mine.low,
            "high": mine.high,
            "bound": mine.bound,
        }
    )


# More families' floors than this on one target are counted and not told one by one.
MOST_FLOORS = 4


def _corpus(keys: Mapping[str, float]) -> str:
    """The one corpus that a target is made of, or none."""
    names = [key.rsplit(":", 1)[0] for key in keys]
    return names[0] if len(names) == 1 else ""


def sentences(rows: pd.DataFrame, unit: str) -> list[str]:
    """A sentence a floor that was fitted where the truth is known; many share one."""
    reported: list[str] = []
    if rows.empty:
        return reported
    own = rows[rows.own].groupby(["target", "law"], sort=False, dropna=False)
    for (target, law), some in own:
        if len(some) > MOST_FLOORS:
            reported.append(_counted(some, str(target), str(law), unit))
        else:
            reported += [_said(row, unit) for row in some.itertuples()]
    return reported


def _counted(rows: pd.DataFrame, target: str, law: str, unit: str) -> str:
    """Where the intervals of many floors lie, and the narrowest of them."""
    parts = []
    for lie, of in (
        ("contains", "contain it"),
        ("below", "lie below it"),
        ("above", "lie above it"),
        ("", "are not known"),
    ):
        some = rows[rows.interval == lie]
        named = f" ({joined(some.family)})" * (len(some) < len(rows) / 2)
        parts += [f"{len(some)} {of}{named}"] * bool(len(some))
    truth = f"{number(rows.truth.iloc[0], 4)} {unit}"
    text = (
        f"On {target}, where the truth is {truth}, of the intervals of {len(rows)} "
        f"families' floors by {law} {joined(parts)}."
    )
    wide = (rows.high - rows.low).dropna()
    if len(wide):
        best = rows.loc[wide.idxmin()]
        ends = interval_text(best.low, best.high)
        floor = number(best.floor, 4)
        text += f" The narrowest is {best.family}'s, {floor} ({ends})."
    return text


def _said(row: Any, unit: str) -> str:
    who = row.family if row.family != "*" else "all families"
    truth = f"{number(row.truth, 4)} {unit} on {row.target}"
    lowest = ""
    if not np.isnan(row.lowest):
        lowest = f"; the lowest loss measured is {number(row.lowest, 4)}"
    if np.isnan(row.floor):
        return f"No floor was fitted to {who}; the truth is {truth}{lowest}."
    where = {
        "below": f"is {number(row.truth - row.floor)} below the truth",
        "above": f"is {number(row.floor - row.truth)} above the truth",
        "contains": "has an interval that contains the truth",
        "": "has no interval to set beside the truth",
    }[row.interval]
    fitted = f"{number(row.floor, 4)} ({interval_text(row.low, row.high)})"
    if row.bound is True or row.bound == 1:
        lowest += "; it, or an end of its interval, is on a bound of the fit"
    return f"The floor of {who} by {row.law}, {fitted}, {where}, {truth}{lowest}."


def said(view: View) -> list[str]:
    return sentences(view.analysis.truth, view.analysis.unit)


def _built(view: View, figure: Placed) -> str:
    if ABSENT.holds(view):
        return markup.absent_of(ABSENT, view)
    lead = (
        "What infinite size and data would leave of the loss, by the laws, beside the "
        "loss of the true chances on the same documents:"
    )
    return "".join(
        [
            markup.paragraph(lead),
            markup.bullets(said(view)),
            markup.fold("Fitted floors beside the truth", view.analysis.truth),
        ]
    )


ABSENT = Absent(
    "evaluation set with a known true loss",
    ("truth",),
    (),
    "Only a corpus that is made from a known source has one.",
)
QUESTION = Question(
    name="known_floor",
    title="Fitted floors beside the true loss",
    place=105,
    absent=ABSENT,
    said=said,
    build=_built,
    concludes=concludes,
)
