"""Sentences on samples from the same noises, from rows of Analysis.same_pictures."""

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
from analysis.pictures.groups import ACROSS, ARCHITECTURE, HALVES, SEEDS, SIZE
from analysis.questions._question import FRONT, LIMIT, Sentence
from analysis.questions._view import View
from analysis.results import Analysis

# The order in which kinds are reported.
ORDER = (SEEDS, HALVES, ARCHITECTURE, ACROSS)


def of_first(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the first set of samples: those at the place that is reported."""
    if frame.empty:
        return frame
    frame = frame[frame.samples == frame.samples.iloc[0]]
    return frame[frame.reported.astype(bool)] if "reported" in frame else frame


def place_text(row: Any) -> str:
    seen = f"{count(row.unique_tokens)} different pictures of {count(row.tokens)} read"
    return f"At {count(row.params)} parameters, {seen}"


def who_text(row: Any) -> str:
    """What is compared."""
    if row.kind == SEEDS:
        return f"two seeds of {row.baseline}{on(row.fixed)}"
    if row.kind == HALVES:
        return f"{row.fixed} on {row.baseline} and on {row.alternative}"
    if row.kind == ACROSS:
        return f"{row.baseline} and {row.alternative} on disjoint halves ({row.fixed})"
    if row.kind == ARCHITECTURE:
        return f"{row.baseline} and {row.alternative}{on(row.fixed)}"
    return f"{row.fixed} with {row.baseline} and with {row.alternative}"


def beyond_text(row: Any) -> str:
    ends = interval_text(row.beyond_linear_low, row.beyond_linear_high)
    return f"{number(row.beyond_linear)} ({ends})"


def beside_text(row: Any) -> str:
    """The null, and what copying would give."""
    text = f"other noises give {number(row.null, 2)}"
    # Those that read the same pictures copy the same ones.
    if not math.isnan(row.copies) and row.kind not in (SEEDS, ARCHITECTURE, SIZE):
        text += (
            ", and denoisers that copy the training pictures of each "
            f"{number(row.copies, 2)}"
        )
    return text


def floor_text(row: Any) -> str:
    """The agreement beside its floor."""
    if row.kind == SEEDS:
        return "this is the floor of what follows"
    if math.isnan(row.shortfall):
        return "there is no floor to compare"
    ends = interval_text(row.shortfall_low, row.shortfall_high)
    floor = f"{number(row.floor)} of two {row.floor_of} of one architecture"
    less = f"{number(row.shortfall)} ({ends})"
    return {
        "above": f"{less} less than the {floor}",
        "below": f"no less than the {floor}: by {less}",
        "undetermined": f"whether that is less than the {floor} {UNDETERMINED}: {less}",
    }[verdict(row.shortfall_low, row.shortfall_high, 0.0)]


def pair_text(row: Any) -> str:
    """One pair of groups, with its floor, its null and what copies agree on."""
    if math.isnan(row.beyond_linear):
        return f"{who_text(row)}: what lies beyond linear is not known"
    agreed = f"samples of the same noises agree {beyond_text(row)} beyond linear"
    if not row.started:
        agreed += " (both began with the same weights, as no two seeds do)"
    return f"{who_text(row)}: {agreed}, {floor_text(row)}; {beside_text(row)}"


def raw_text(reported: pd.DataFrame) -> str:
    """What samples as they are show, over all pairs: little, for linear ones do it."""
    low, high = reported.correlation.min(), reported.correlation.max()
    shares = _ends(reported.r2.min(), reported.r2.max())
    others = _ends(reported.raw_null.min(), reported.raw_null.max())
    text = (
        f"As they are, samples of the same noises correlate {_ends(low, high)} and "
        f"explain {shares} of each other's variance, over all pairs; other noises "
        f"correlate {others}"
    )
    if reported.linear.isna().all():
        return text
    alone = _ends(reported.linear.min(), reported.linear.max())
    return f"{text}. With the sample of the best linear denoiser they correlate {alone}"


def _ends(low: float, high: float) -> str:
    one, two = number(low, 2), number(high, 2)
    return one if one == two else f"{one} to {two}"


AXES = {
    "data": ("with more data", "{} different pictures"),
    "training": ("with longer training", "{} pictures read"),
    "within a run": ("within one run", "{} of the training"),
    "size": ("with size", "{} parameters"),
}


def trend_text(row: Any) -> str:
    """Whether agreement grows along one axis, and whether the shortfall closes."""
    by, form = AXES[row.axis]
    value = number if row.axis == "within a run" else count
    where = f"from {form.format(value(row.from_x))} to {value(row.to_x)}"
    moved = f"{number(row.change)} ({interval_text(row.change_low, row.change_high)})"
    said = {
        "above": f"agreement beyond linear grows by {moved} {where}",
        "below": f"agreement beyond linear falls: {moved} {where}",
        "undetermined": f"whether agreement beyond linear changes {where} "
        f"{UNDETERMINED}: {moved}",
    }[verdict(row.change_low, row.change_high, 0.0)]
    text = f"{who_text(row)}, {by}: {said}, to {number(row['last'])}"
    if math.isnan(row.closed):
        return text
    closed = f"{number(row.closed)} ({interval_text(row.closed_low, row.closed_high)})"
    lie = verdict(row.closed_low, row.closed_high, 0.0)
    text += {
        "above": f"; it comes nearer to its floor by {closed}",
        "below": f"; it does not come nearer to its floor: {closed}",
        "undetermined": f"; whether it comes nearer to its floor {UNDETERMINED}: "
        f"{closed}",
    }[lie]
    if row.refused:
        return f"{text}, and where its shortfall tends to is not known: {row.refused}"
    tends = f"{number(row.tends)} ({interval_text(row.low, row.high)})"
    return f"{text}, and its shortfall from the floor tends to {tends}"


PAIR = ["kind", "baseline", "alternative", "fixed"]


def trends(analysis: Analysis, pair: Any = None) -> list[str]:
    """Of each pair and axis the longest path, at the most of all else.

    Args:
      pair: a row of `same_pictures`, where those of its pair alone are wanted.
    """
    frame = of_first(analysis.same_picture_trends)
    if frame.empty:
        return []
    order = ["points", "unique_tokens", "tokens", "params"]
    frame = frame[frame.kind != SEEDS]
    if pair is not None:
        frame = frame[(frame[PAIR] == [getattr(pair, n) for n in PAIR]).all(axis=1)]
    frame = frame.sort_values(order, ascending=False, kind="stable")
    once = frame.drop_duplicates([*PAIR, "axis"])
    rank = once.kind.map({ACROSS: 0, ARCHITECTURE: 1, HALVES: 2}).fillna(3)
    once = once.assign(rank=rank).sort_values("rank", kind="stable")
    return [f"{capitalised(trend_text(row))}." for _, row in once.iterrows()]


def said(view: View) -> list[str]:
    reported = of_first(view.analysis.same_pictures)
    reported = reported[reported.kind.isin(ORDER)] if len(reported) else reported
    if reported.empty:
        return []
    out = [f"{place_text(reported.iloc[0])}. {raw_text(reported)}."]
    for kind in ORDER:
        some = reported[reported.kind == kind]
        out += few([f"{capitalised(pair_text(row))}." for row in some.itertuples()])
    return out + few(trends(view.analysis))


def answers(view: View) -> list[Sentence]:
    """Of pairs of architectures that which agrees the least; disjoint halves first."""
    reported = of_first(view.analysis.same_pictures)
    if reported.empty:
        return []
    reported = reported[reported.beyond_linear.notna()]
    pairs = [reported[reported.kind == kind] for kind in (ACROSS, ARCHITECTURE)]
    known = next((some for some in pairs if len(some)), None)
    if known is None:
        text = "Whether two architectures make the same pictures of the same noises "
        reason = "no two of them have samples at one size and amount of data"
        return [Sentence(f"{text}{UNDETERMINED}: {reason}.", 68, LIMIT)]
    row = next(known.nsmallest(1, "beyond_linear").itertuples())
    out = [Sentence(plain_text(row, len(known)), 74, FRONT)]
    halves = reported[reported.kind == HALVES].nsmallest(1, "beyond_linear")
    rows = [*known.nsmallest(1, "beyond_linear").itertuples(), *halves.itertuples()]
    place = place_text(row)
    lines = [f"{place}, {pair_text(one)}." for one in rows]
    lines += trends(view.analysis, row)
    return out + [Sentence(text, 61 - k) for k, text in enumerate(lines)]


def plain_text(row: Any, pairs: int) -> str:
    """The same for a person who is no statistician.

    Args:
      pairs: how many there are, of which this one agrees the least.
    """
    pair = f"{row.baseline} and {row.alternative}"
    data = f"disjoint halves ({row.fixed})" if row.kind == ACROSS else row.fixed
    text = (
        f"Trained on {data}, {pair} make pictures of the same noises that agree "
        f"{beyond_text(row)} beyond what a linear denoiser gives, where 1 is the same "
        f"picture and other noises give {number(row.null, 2)}"
    )
    least = f" Of {pairs} such pairs this one agrees the least." if pairs > 1 else ""
    if math.isnan(row.floor):
        return f"{text}; how far two runs of one of them agree is not known.{least}"
    of = "halves" if row.floor_of == "halves" else "random starts"
    return f"{text}; two {of} of one of them agree {number(row.floor)}.{least}"
