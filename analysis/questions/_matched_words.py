"""Sentences on effects measured on matched cells, without a law."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from analysis.formatting import (
    UNDETERMINED,
    UNNAMED,
    few,
    interval_text,
    number,
    percent_error,
    range_text,
    swap_text,
)
from analysis.questions._view import reported_once

# What stands before the level that is fixed, of an architecture's swap and of others.
_HELD = {"architecture": "on"}


def disputed(agreement: pd.DataFrame) -> list[str]:
    """What was measured on swaps for which the leading law says something else.

    Args:
      agreement: as in Analysis; each swap is stated once, as it helps when measured.
    """
    if agreement.empty:
        return []
    apart = agreement[~agreement.agrees.astype(bool)]
    sentences = []
    for row in reported_once(apart, -apart.measured).itertuples():
        fixed = (
            "" if row.fixed == UNNAMED else f" {_HELD.get(row.kind, 'for')} {row.fixed}"
        )
        sentences.append(
            f"Measured on {row.cells} matched cells, {swap_text(row)}{fixed} "
            f"changes the log loss by {number(row.measured)} "
            f"({interval_text(row.low, row.high)}). The leading law disagrees: "
            f"{number(row.modelled)} ({interval_text(row.model_low, row.model_high)})."
        )
    return few(sentences)


def changes(frame: pd.DataFrame) -> list[tuple[str, bool]]:
    """What each swap does to the loss on its matched cells, and whether that decides.

    Args:
      frame: rows of Analysis.measured, of one target.
    """
    said = []
    for row in reported_once(frame, -frame.log_ratio).itertuples():
        cells = "one matched cell" if row.cells == 1 else f"{row.cells} matched cells"
        over = f"over {cells}{_trained(row)} ({_cells(row)})"
        swap = swap_text(row)
        if not (math.isfinite(row.low) and math.isfinite(row.high)):
            text = f"{swap} changes the loss by {_percents(row)[0]} {over}, too few "
            said.append((text + "for an interval.", False))
            continue
        mean, low, high = _percents(row)
        ends = f"{mean} ({low} to {high})"
        if row.low <= 0.0 <= row.high:
            text = f"Whether {swap} changes the loss {UNDETERMINED}: {ends} {over}."
            said.append((text, False))
            continue
        does = "lowers" if row.high < 0.0 else "raises"
        said.append((f"{swap} {does} the loss: {ends} {over}.", True))
    return said


def _trained(row: Any) -> str:
    """` trained on CORPUS`; the two corpora of a swap are named by the swap."""
    if row.kind == "corpus" or row.corpora == UNNAMED:
        return ""
    return f" trained on {row.corpora}"


def measured_sentences(frame: pd.DataFrame) -> list[str]:
    """Architecture against corpus on matched cells, where no law can compare them.

    Args:
      frame: rows of Analysis.measured, of one target.
    """
    sentences = []
    for one in frame[frame.kind == "architecture"].itertuples():
        for two in frame[frame.kind == "corpus"].itertuples():
            least, most = _size(one), _size(two)
            swap = swap_text(one) + _trained(one)
            both = f"architecture ({swap}) {_change(one)} and the corpus"
            both += f" ({swap_text(two)}) {_change(two)}"
            if least[0] > most[1]:
                larger = "the architecture moves the loss more"
            elif most[0] > least[1]:
                larger = "the corpus moves the loss more"
            else:
                larger = f"which moves the loss more {UNDETERMINED}"
            cells = f"{one.cells} and {two.cells} matched cells"
            text = f"Measured without a law on {cells} ({_cells(one, two)}), the {both}"
            sentences.append(f"{text}: {larger}.")
    return few(sentences)


def _change(row: Any) -> str:
    """What a swap does to the loss, in percent of it."""
    mean, low, high = _percents(row)
    known = math.isfinite(row.low) and math.isfinite(row.high)
    ends = f"{low} to {high}" if known else "interval not known"
    return f"changes the loss by {mean} ({ends})"


def _percents(row: Any) -> tuple[str, str, str]:
    """The change of the loss and its interval's ends, in percent of the loss."""
    logs = (row.log_ratio, row.low, row.high)
    mean, low, high = (percent_error(math.expm1(log)) for log in logs)
    return mean, low, high


def _size(row: Any) -> tuple[float, float]:
    """The interval of a change whatever its sign; unknown ends decide nothing."""
    if not (math.isfinite(row.low) and math.isfinite(row.high)):
        return 0.0, math.inf
    ends = sorted((abs(row.low), abs(row.high)))
    return (0.0 if row.low <= 0.0 <= row.high else ends[0]), ends[1]


def _cells(*rows: Any) -> str:
    ends = {
        "params": [end for row in rows for end in (row.params_low, row.params_high)],
        "tokens": [end for row in rows for end in (row.tokens_low, row.tokens_high)],
    }
    return range_text(pd.DataFrame(ends))
