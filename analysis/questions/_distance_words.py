"""Sentences on how far apart predictions lie, from rows of Analysis.distances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.formatting import (
    UNDETERMINED,
    UNNAMED,
    capitalised,
    interval_text,
    joined,
    number,
    on,
    scale,
)
from analysis.inference.verdict import verdict
from analysis.questions._view import probed
from analysis.results import Analysis


def place_text(frame: pd.DataFrame) -> str:
    row = frame.iloc[0]
    return f"At {scale(row.params, row.tokens)}"


def _nats(value: float, low: float, high: float) -> str:
    return f"{number(value)} nats ({interval_text(low, high)})"


def floors_text(rows: pd.DataFrame) -> str:
    """Two seeds of one family; of many families the range."""
    if len(rows) == 1:
        row = rows.iloc[0]
        apart = _nats(row.distance, row.low, row.high)
        who = f"{row.baseline}{on(row.fixed)}"
        bits = number(row.distance_bits)
        return (
            f"the predictions of two seeds of {who} are {apart} apart, {bits} bits/byte"
        )
    low, high = rows.distance.min(), rows.distance.max()
    bits = interval_text(rows.distance_bits.min(), rows.distance_bits.max())
    return (
        f"the predictions of two seeds of one family are {interval_text(low, high)} "
        f"nats apart ({bits} bits/byte; over {len(rows)} families and corpora)"
    )


def excess_text(row: Any) -> str:
    """A swap beside its floor: farther apart than two seeds, or undetermined."""
    what = f"{row.baseline} → {row.alternative} ({row.fixed})"
    if math.isnan(row.excess):
        apart = _nats(row.distance, row.low, row.high)
        return f"{what}: predictions are {apart} apart; there is no floor to compare"
    more = _nats(row.excess, row.excess_low, row.excess_high)
    lie = verdict(row.excess_low, row.excess_high, 0.0)
    seeds = f"those of two seeds, which are {number(row.floor)} apart"
    if lie == "above":
        return f"{what}: predictions are {more} farther apart than {seeds}"
    if lie == "below":
        return f"{what}: predictions are closer to each other than {seeds}: {more}"
    text = f"{what}: whether predictions are farther apart than {seeds}"
    return f"{text}, {UNDETERMINED}: {more}"


def plain_excess(row: Any) -> str:
    """The same for a person who is no statistician, as a whole sentence.

    That no difference is shown is never called the same function: how large a
    difference would matter is for a claim of the study to say.
    """
    pair = f"{row.baseline} and {row.alternative}"
    trained = f"Trained on {row.fixed}, " if row.fixed not in ("", UNNAMED) else ""
    seeds = (
        "those of two runs of one architecture that differ only in their random start"
    )
    much = "more than"
    if row.floor > 0:
        much = f"{number(row.distance / row.floor, 2)} times as much as"
    ends = interval_text(row.excess_low, row.excess_high)
    beside = (
        f"({number(row.excess)} nats beyond the {number(row.floor, 2)} between such "
        f"runs; {ends})"
    )
    text = {
        "above": f"{pair} do not make the same predictions: theirs differ {much} "
        f"{seeds}",
        "below": f"the predictions of {pair} differ no more than {seeds}",
        "undetermined": f"whether the predictions of {pair} differ more than {seeds} "
        f"{UNDETERMINED}",
    }[verdict(row.excess_low, row.excess_high, 0.0)]
    return f"{capitalised(trained + text)} {beside}."


def ratio_text(row: Any) -> str:
    """One swap of architectures in the unit of another swap."""
    swap = f"{row.baseline} by {row.alternative}{on(row.fixed)}"
    other = f"replacing {row.other_baseline} by {row.other_alternative}"
    if math.isinf(row.high) and not math.isfinite(row.ratio):
        return (
            f"replacing {swap} cannot be compared with {other}, for which no change of "
            "the predictions is shown"
        )
    return (
        f"replacing {swap} changes the predictions {number(row.ratio)} times "
        f"({interval_text(row.low, row.high)}) as much as {other}"
    )


def ratios_said(analysis: Analysis) -> list[str]:
    """Ratios to swaps that change something, the corpus first."""
    frame = analysis.function_ratios
    if frame.empty:
        return []
    known = probed(frame)
    known = known[np.isfinite(known.high)]
    reported = probed(analysis.distances)
    mine = known[known.fixed.isin(reported.fixed[reported.kind == "architecture"])]
    mine = mine.sort_values("other_kind", key=lambda k: k != "corpus", kind="stable")
    return [f"{place_text(mine)}, {ratio_text(row)}." for row in mine.itertuples()]


def ladder_said(analysis: Analysis) -> list[str]:
    """Classes of swaps of model and data from the nearest to the farthest."""
    frame = analysis.function_ladder
    if frame.empty:
        return []
    frame = frame[frame.probes == frame.probes.iloc[0]]
    if frame.side.nunique() < 2:
        return []
    rungs = [
        f"{row.rung} {number(row.distance)} ({interval_text(row.low, row.high)})"
        for row in frame.itertuples()
    ]
    text = f"{place_text(frame)}, what changes the predictions by how many nats, the "
    return [f"{text}least first: {joined(rungs)}."]
