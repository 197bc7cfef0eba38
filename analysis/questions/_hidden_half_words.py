"""Sentences on lower halves that models expect, from rows of Analysis.hidden_halves."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from analysis.formatting import (
    UNDETERMINED,
    capitalised,
    count,
    few,
    interval_text,
    number,
    on,
)
from analysis.inference.verdict import verdict
from analysis.pictures.groups import ACROSS, ARCHITECTURE, HALVES, SEEDS
from analysis.questions._question import Sentence
from analysis.questions._same_picture_words import who_text
from analysis.questions._view import View
from analysis.results import Analysis

ORDER = {ACROSS: 0, ARCHITECTURE: 1, HALVES: 2, SEEDS: 3}
BOTH = "pixels in order and diffusion"


def _ends(row: Any, name: str) -> str:
    low, high = (getattr(row, f"{name}_{end}") for end in ("low", "high"))
    return f"{number(getattr(row, name))} ({interval_text(low, high)})"


def distance_text(row: Any) -> str:
    """How far apart the two are, beside the floor, the null and the linear one."""
    text = (
        f"what they expect of lower halves is {_ends(row, 'distance')} squared errors "
        "apart"
    )
    beside = f"lower halves of other pictures are {number(row.null)} apart"
    if not math.isnan(row.linear):
        beside += f" and the best linear ones {number(row.linear)} from the two"
    if row.kind in (SEEDS, HALVES):
        return f"{text}, which is a floor of what others are compared with; {beside}"
    if math.isnan(row.excess):
        return f"{text}; there is no floor to compare; {beside}"
    more = _ends(row, "excess")
    floor = f"the {number(row.floor)} of two {row.floor_of} of one architecture"
    lie = {
        "above": f"{more} more than {floor}",
        "below": f"no more than {floor}: by {more}",
        "undetermined": f"whether that is more than {floor} {UNDETERMINED}: {more}",
    }[verdict(row.excess_low, row.excess_high, 0.0)]
    return f"{text}, {lie}; {beside}"


def beyond_text(row: Any) -> str:
    """The agreement beyond linear, beside its floor and its null."""
    if math.isnan(row.beyond_linear):
        return "what lies beyond linear is not known"
    text = f"beyond linear they agree {_ends(row, 'beyond_linear')}"
    null = f"with other pictures {number(row.null_beyond, 2)}"
    if row.kind in (SEEDS, HALVES):
        return f"{text}, {null}"
    if math.isnan(row.shortfall):
        return f"{text}, {null}; there is no floor to compare"
    less = _ends(row, "shortfall")
    floor = f"the {number(row.floor_beyond)} of two {row.floor_of} of one architecture"
    lie = {
        "above": f"{less} less than {floor}",
        "below": f"no less than {floor}: by {less}",
        "undetermined": f"whether that is less than {floor} {UNDETERMINED}: {less}",
    }[verdict(row.shortfall_low, row.shortfall_high, 0.0)]
    return f"{text}, {lie}; {null}"


def pair_text(row: Any) -> str:
    return f"{who_text(row)}: {distance_text(row)}; {beyond_text(row)}"


def error_text(row: Any) -> str:
    """How well one family does, beside the best linear function and the truth."""
    over = verdict(row.over_linear_low, row.over_linear_high, 1.0)
    share = _ends(row, "over_linear")
    text = {
        "below": f"errs less than the best linear function, by a factor of {share}",
        "above": f"errs more than the best linear function, by a factor of {share}",
        "undetermined": f"errs as much as the best linear function times {share}: "
        f"whether that is less {UNDETERMINED}",
    }[over]
    text = f"{row.family}{on(row.corpus)} {text}"
    if math.isnan(row.over_linear):
        text = (
            f"{row.family}{on(row.corpus)} errs by {number(row.error)}, squared, of "
            "pixels over 255"
        )
    if math.isnan(row.truth):
        return text
    return f"{text}, and is {number(row.truth)} of its error from the truth"


def most(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Rows of the first set of samples at the largest size and most data of each."""
    if frame.empty:
        return frame
    frame = frame[frame.samples == frame.samples.iloc[0]]
    order = ["unique_tokens", "tokens", "params"]
    frame = frame.sort_values(order, ascending=False, kind="stable")
    return frame.drop_duplicates(by)


def pairs(analysis: Analysis) -> pd.DataFrame:
    """Of each pair the place with the most data: both kinds of models first."""
    by = ["kind", "baseline", "alternative", "fixed"]
    frame = most(analysis.hidden_halves, by)
    if frame.empty:
        return frame
    order = frame.assign(
        one_kind=frame["of"] != BOTH, order=frame.kind.map(ORDER)
    ).sort_values(["one_kind", "order", "distance"], kind="stable")
    return frame.loc[order.index]


def place_text(row: Any) -> str:
    return (
        f"Given the upper half of {count(row.pictures)} held-out pictures, at "
        f"{count(row.params)} parameters, {count(row.unique_tokens)} different ones of "
        f"{count(row.tokens)} read"
    )


def said(view: View) -> list[str]:
    frame = pairs(view.analysis)
    errors = most(view.analysis.hidden_half_errors, ["family", "corpus"])
    if frame.empty and errors.empty:
        return []
    first = next((frame if len(frame) else errors).itertuples())
    texts = [f"{pair_text(row)}." for row in frame.itertuples()]
    wrong = [f"{error_text(row)}." for row in errors.itertuples()]
    lines = few(texts) + few(wrong)
    return [f"{place_text(first)}, {lines[0]}", *map(capitalised, lines[1:])]


def answers(view: View) -> list[Sentence]:
    frame = pairs(view.analysis)
    if frame.empty:
        return []
    row = next(frame.itertuples())
    return [Sentence(f"{place_text(row)}, {pair_text(row)}.", 51)]
