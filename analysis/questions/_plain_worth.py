"""What the best swap of each kind is worth, for a person who is no statistician."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.formatting import UNDETERMINED, number
from analysis.inference.verdict import verdict
from analysis.questions._question import FRONT, Sentence
from analysis.questions._view import View, reported_once


def foremost_of(view: View, kind: str) -> pd.DataFrame:
    """The answer's swaps of a kind, trained on the target where that was done."""
    found = view.headline[view.headline.kind == kind]
    found = reported_once(found, found.factor)
    found = found[worth_told(found)]
    own = found[found.fixed == view.target]
    return own if len(own) else found


def worth_told(found: pd.DataFrame) -> pd.Series:
    """Which rows say what a swap is worth: those with a law, or with an interval."""
    return found.factor.notna() & (found.low.notna() | (found.method != "paired"))


# What the swap of a kind is called on the front page.
EXCHANGE = {
    "architecture": "Replacing {baseline} by {alternative}",
    "corpus": "Training on {alternative} instead of {baseline}",
}


def plainly(view: View) -> list[Sentence]:
    """What the best swap of each kind is worth, for a person who is no statistician."""
    said = []
    for kind in dict.fromkeys(("architecture", "corpus", *view.headline.kind)):
        found = foremost_of(view, kind)
        if found.empty:
            continue
        lies = np.array([verdict(r.low, r.high, 1.0) for r in found.itertuples()])
        gained = found[lies == "above"]
        text = f"Whether any swap of {kind} is worth any data {UNDETERMINED}."
        if len(gained):
            text = _plain_worth(gained, found, kind)
        said.append(Sentence(text, 80, FRONT))
    return said


def _plain_worth(gained: pd.DataFrame, found: pd.DataFrame, kind: str) -> str:
    """The largest gain among those that are decided, and of how many."""
    largest = gained.low if kind == "corpus" else gained.factor
    best = gained.loc[largest.idxmax()]
    lead = EXCHANGE.get(kind, "Going from {baseline} to {alternative}")
    lead = lead.format(baseline=best.baseline, alternative=best.alternative)
    same = found[
        (found.baseline == best.baseline) & (found.alternative == best.alternative)
    ]
    place = ""
    if len(same) > 1:
        decided = same.index.intersection(gained.index)
        every = len(decided) == len(same)
        one, many = (
            ("family", "families") if kind == "corpus" else ("corpus", "corpora")
        )
        fixed = f"every {one}" if every else f"{len(decided)} of {len(same)} {many}"
        place = f" for {fixed}"
        best = gained.loc[decided].sort_values("low").iloc[0]
    ends = f"({number(best.low)} to {number(best.high)})"
    worth = f"is worth {number(best.factor)} times the data{place} {ends}"
    if math.isinf(best.high) or len(same) > 1:
        worth = f"is worth at least {number(best.low)} times the data{place}"
    rest = len(found.drop(same.index))
    helping = len(gained.drop(same.index, errors="ignore"))
    if not rest:
        return f"{lead} {worth}."
    return f"{lead} {worth}; {_others(helping, rest, kind)}."


def _others(helping: int, every: int, kind: str) -> str:
    """How many of the other swaps of a kind are gains by their intervals."""
    if helping == every:
        which = {1: "the other swap", 2: "both other swaps"}.get(
            every, f"all {every} other swaps"
        )
        return f"{which} of {kind} {'helps' if every == 1 else 'help'} as well"
    if not helping:
        which = "the other swap" if every == 1 else f"any of the {every} other swaps"
        return f"whether {which} of {kind} helps {UNDETERMINED}"
    helps = "helps" if helping == 1 else "help"
    clearly = f"{helping} of the {every} other swaps of {kind} {helps} as well"
    open_ = "whether the rest do" if every - helping > 1 else "whether the last does"
    return f"{clearly}, and {open_} {UNDETERMINED}"
