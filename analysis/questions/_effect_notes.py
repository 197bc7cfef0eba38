"""What a reader must know of data-equivalents before believing them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from analysis.formatting import UNNAMED, range_text, scored, swaps_text
from analysis.questions._view import View
from analysis.questions.interaction import flags
from analysis.results import Note

if TYPE_CHECKING:
    from analysis.questions._asked import Asked


def warns(asked: Asked) -> Iterator[Note]:
    """Factors that the design does not vary, and how far it reaches."""
    surfaces = asked.surfaces
    for plural, names in (
        ("families", surfaces.families),
        ("corpora", surfaces.corpora),
    ):
        if len(names) < 2:
            shared = f"All runs are of {names[0]}"
            if plural == "corpora":
                shared = f"All runs were trained on {names[0]}"
            if names[0] == UNNAMED:
                shared = f"The table names no {plural}"
            text = f"{shared}: an effect of {plural} needs two."
            yield Note("undetermined", "effects", text)
    text = (
        f"The fitted runs have {range_text(surfaces.data.frame)}; beyond that every "
        "number is an extrapolation."
    )
    yield Note("warning", "effects", text)


def flagged(equivalents: pd.DataFrame, interactions: pd.DataFrame) -> pd.DataFrame:
    """The equivalents with a `flag`: what a reader of that row must know.

    "varies with ..." on a main effect says to read it per cell only.
    """
    depends = flags(interactions)

    def said(row: Mapping[str, object]) -> str:
        out = []
        low, high = float(str(row["low"])), float(str(row["high"]))
        if low <= 1.0 <= high:
            out.append("no difference shown")
        infinite = float(str(row["p_infinite"]))
        if infinite > 0:
            out.append(f"infinite in {infinite:.0%} of draws")
        key = tuple(
            str(row[k]) for k in ("target", "kind", "baseline", "alternative", "fixed")
        )
        if pd.isna(row["params"]) and key in depends:
            out.append(f"varies with {depends[key]}")  # type: ignore[index]
        return "; ".join(out)

    rows = equivalents.to_dict("records")
    return equivalents.assign(flag=[said(row) for row in rows])


def notes(view: View) -> Iterator[Note]:
    return of_equivalents(view.analysis.equivalents)


def of_equivalents(frame: pd.DataFrame) -> Iterator[Note]:
    """How many effects are open, how many data cannot match, and which are disputed.

    One sentence a target; each row says the rest in its `flag`.
    """
    whole = frame[frame.params.isna() & (frame.fixed == "*")]
    # The leading method of a target is the first that its rows have.
    leads = whole.groupby("target").method.transform("first")
    for target, part in whole[whole.method == leads].groupby("target", sort=False):
        open_ = part[(part.low <= 1.0) & (part.high >= 1.0)]
        if len(open_):
            text = (
                f"Over all cells{scored(target)}, no difference is shown for "
                f"{len(open_)} of {len(part)} swaps: {swaps_text(open_)}."
            )
            yield Note("undetermined", "swaps", text)
        never = part[part.p_infinite > 0]
        if len(never):
            text = (
                f"In some draws (up to {never.p_infinite.max():.0%}) no amount of data "
                f"makes up for {swaps_text(never)}{scored(target)}."
            )
            yield Note("warning", "effects", text)
    yield from _disputes(whole)


def _disputes(whole: pd.DataFrame) -> Iterator[Note]:
    """Overall effects on which the leading law and each family's own disagree."""
    apart = []
    keys = ["target", "kind", "baseline", "alternative"]
    for _, part in whole.groupby(keys, sort=False):
        by = part.set_index("method")
        if by.index[0] == "family" or "family" not in by.index:
            continue
        one, two = by.iloc[0], by.loc["family"]
        # A missing end settles nothing.
        if one.low > two.high or two.low > one.high:
            apart.append(one)
    for target, part in pd.DataFrame(apart, columns=whole.columns).groupby("target"):
        text = (
            "The leading law and the laws of each family alone disagree on "
            f"{swaps_text(part)}, over all cells{scored(target)}."
        )
        yield Note("disagree", "effects", text)
