"""Sentences on what swaps are worth in data, from rows of Analysis.equivalents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.formatting import (
    MOST_SENTENCES,
    UNDETERMINED,
    UNNAMED,
    capitalised,
    few,
    interval_text,
    joined,
    number,
    percent,
    swap_text,
)
from analysis.inference.verdict import verdict
from analysis.questions._view import reported_once


def equivalence(row: Any) -> str:
    """One sentence on one swap, from a row of Analysis.equivalents."""
    fixed = row.fixed or UNNAMED
    place = f" for {fixed}" if row.kind != "architecture" else f" on {fixed}"
    place = place if fixed != UNNAMED else ""
    lie = verdict(row.low, row.high, 1.0)
    span = f"({interval_text(row.low, row.high)}{_never(row)})"
    if math.isnan(row.factor):
        return f"{swap_text(row)}{place} has no data-equivalent on this grid."
    if lie == "above" and math.isinf(row.factor):
        what = row.baseline if row.kind == "corpus" else f"data{place}"
        reaches = f"reaches the loss of {row.alternative}" + (
            place if row.kind == "corpus" else f" with {row.baseline}"
        )
        share = percent(row.p_infinite)
        return f"No amount of {what} {reaches} (in {share} of draws)."
    if lie == "above":
        beside = {
            "above": ", more than a doubling",
            "below": ", less than a doubling",
            "undetermined": "",
        }[verdict(row.low, row.high, 2.0)]
        worth = f"is worth {number(row.factor)} times the data {span}{beside}"
        return f"{swap_text(row)}{place} {worth}."
    if lie == "below":
        less = f"{row.baseline} matches it with {number(row.factor)} times the data"
        return f"{swap_text(row)}{place} is a loss: {less} {span}."
    value = "no finite amount of" if math.isinf(row.factor) else number(row.factor)
    worth = f"{value} times the data" if math.isfinite(row.factor) else f"{value} data"
    open_ = f"whether {swap_text(row)}{place} helps {UNDETERMINED}"
    return capitalised(f"{open_}: {worth} {span}.")


def _never(row: Any) -> str:
    """The share of draws in which no amount of data is enough, where there are any."""
    if math.isnan(row.p_infinite) or row.p_infinite == 0:
        return ""
    return f"; infinite in {percent(row.p_infinite)} of draws"


def _merged(rows: Sequence[Any]) -> list[str]:
    """Sentences of one corpus swap; families for which nothing differs share one."""
    never = [row for row in rows if math.isinf(row.factor) and row.low > 1]
    if len(never) < 2:
        return [equivalence(row) for row in rows]
    first, least = never[0], min(row.p_infinite for row in never)
    fixed = joined((row.fixed for row in never), "or")
    text = f"No amount of {first.baseline} reaches the loss of {first.alternative} "
    text += f"for {fixed}"
    share = f"in {'at least ' * (least < 1)}{percent(least)} of draws"
    rest = [equivalence(row) for row in rows if row not in never]
    return [f"{text} ({share}).", *rest]


def equivalences(frame: pd.DataFrame, target: str) -> list[str]:
    """Short sentences on the swaps of one kind at one scale, the target's own first.

    What is trained on another text than the one that is scored, and is undetermined,
    shares one sentence. Many swaps share theirs.
    """
    gained = reported_once(frame, frame.factor)
    gained = gained[gained.factor.notna()]
    kinds = set(gained.kind)
    if len(gained) > MOST_SENTENCES and kinds <= {"architecture", "corpus"}:
        return _together(gained, target)
    if (gained.kind == "corpus").any():
        groups = [
            list(g.itertuples()) for _, g in gained.groupby(["baseline", "alternative"])
        ]
        return few([text for rows in groups for text in _merged(rows)])
    own = gained[gained.fixed == target] if (gained.fixed == target).any() else gained
    sentences = [equivalence(row) for row in own.itertuples()]
    for fixed, rows in gained.drop(own.index).groupby("fixed", sort=False):
        open_ = []
        for row in rows.itertuples():
            if verdict(row.low, row.high, 1.0) == "undetermined":
                open_.append(swap_text(row))
            else:
                sentences.append(equivalence(row))
        if open_:
            text = f"Trained on {fixed}, whether these help {UNDETERMINED}"
            sentences.append(f"{text}: {joined(open_)}.")
    return few(sentences)


def _together(frame: pd.DataFrame, target: str) -> list[str]:
    """A sentence for all swaps to or from one family, or all of one pair of corpora."""
    ordered = frame.sort_values("factor", kind="stable")
    ordered = ordered.sort_values("fixed", key=lambda h: h != target, kind="stable")
    if (frame.kind == "corpus").any():
        groups = ordered.groupby(["baseline", "alternative"], sort=False)
        return few([_sentence(rows, "fixed") for _, rows in groups])
    # Each swap beside those with which it shares an end: the one that more have.
    by_to, by_source = (
        ordered.groupby(["fixed", end]).factor.transform("size")
        for end in ("alternative", "baseline")
    )
    from_one = by_source > by_to
    groups = [
        *ordered[~from_one].groupby(["fixed", "alternative"], sort=False),
        *ordered[from_one].groupby(["fixed", "baseline"], sort=False),
    ]
    texts = [
        (
            key[0],
            _sentence(rows, "alternative" if from_one[rows.index[0]] else "baseline"),
        )
        for key, rows in groups
    ]
    order = list(dict.fromkeys(ordered.fixed))
    texts.sort(key=lambda pair: order.index(pair[0]))
    return few([text for _, text in texts])


def _sentence(rows: pd.DataFrame, differs: str) -> str:
    """One sentence on swaps that differ in one of fixed, baseline and alternative."""
    if len(rows) == 1:
        return equivalence(next(rows.itertuples()))
    first, known, open_ = rows.iloc[0], [], []
    for row in rows.itertuples():
        level = str(getattr(row, differs))
        known.append(
            f"{level} {number(row.factor)} "
            f"({interval_text(row.low, row.high)}{_never(row)})"
        )
        if verdict(row.low, row.high, 1.0) == "undetermined":
            open_.append(level)
    named = first.fixed != UNNAMED
    place, the = (f"On {first.fixed}, ", "the") if named else ("", "The")
    lead = {
        "fixed": f"What {first.baseline} → {first.alternative} is worth, in multiples "
        "of the data: for",
        "baseline": f"{place}{the} data needed to match {first.alternative}, as a "
        "multiple of its own:",
        "alternative": f"{place}{the} data that {first.baseline} needs to match "
        "others, as a multiple of its own: for",
    }[differs]
    text = f"{lead} {joined(known)}."
    if open_:
        which = "any of these" if len(open_) == len(known) > 1 else joined(open_, "or")
        text += f" Whether {which} differs {UNDETERMINED}."
    return text
