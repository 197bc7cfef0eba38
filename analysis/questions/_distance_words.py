"""Sentences on how far apart predictions lie, from rows of Analysis.distances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.formatting import UNDETERMINED, interval_text, number, on, scale
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
        return f"two seeds of {who} predict {apart} apart, {bits} bits per byte"
    low, high = rows.distance.min(), rows.distance.max()
    bits = interval_text(rows.distance_bits.min(), rows.distance_bits.max())
    return (
        f"two seeds of one family predict {interval_text(low, high)} nats apart "
        f"({bits} bits per byte; {len(rows)} families and corpora)"
    )


def excess_text(row: Any) -> str:
    """A swap beside its floor: farther apart than seeds, or not to be told."""
    what = f"{row.baseline} → {row.alternative} ({row.fixed})"
    if math.isnan(row.excess):
        apart = _nats(row.distance, row.low, row.high)
        return f"{what}: predictions lie {apart} apart, with no floor to set beside"
    more = _nats(row.excess, row.excess_low, row.excess_high)
    lie = verdict(row.excess_low, row.excess_high, 0.0)
    seeds = f"two seeds, which lie {number(row.floor)} apart"
    if lie == "above":
        return f"{what}: predictions lie {more} farther apart than {seeds}"
    if lie == "below":
        return f"{what}: predictions lie nearer to each other than {seeds}: {more}"
    text = f"{what}: whether predictions lie farther apart than {seeds}"
    return f"{text}, {UNDETERMINED}: {more}"


def ratio_text(row: Any) -> str:
    """One swap of architectures in the unit of another swap."""
    swap = f"{row.baseline} for {row.alternative}{on(row.fixed)}"
    other = f"swapping {row.other_baseline} for {row.other_alternative}"
    if math.isinf(row.high) and not math.isfinite(row.ratio):
        return f"swapping {swap} cannot be set beside {other}, which changes nothing "
    return (
        f"swapping {swap} changes the predictions {number(row.ratio)} times "
        f"({interval_text(row.low, row.high)}) as much as {other} does"
    )


def ratios_said(analysis: Analysis) -> list[str]:
    """Ratios to swaps that change something, the corpus first."""
    frame = analysis.function_ratios
    if frame.empty:
        return []
    known = probed(frame)
    known = known[np.isfinite(known.high)]
    told = probed(analysis.distances)
    mine = known[known.fixed.isin(told.fixed[told.kind == "architecture"])]
    mine = mine.sort_values("other_kind", key=lambda k: k != "corpus", kind="stable")
    return [f"{place_text(mine)}, {ratio_text(row)}." for row in mine.itertuples()]
