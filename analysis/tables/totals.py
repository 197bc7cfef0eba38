"""Rows that sum the others up: a total or a mean, as spreadsheets put under a table."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

WORDS = frozenset(
    (
        *("total", "totals", "sum", "grand total", "subtotal", "mean", "average"),
        *("avg", "median", "std", "stdev", "std dev", "standard deviation", "min"),
        *("max", "minimum", "maximum", "count", "summe", "mittelwert", "moyenne"),
    )
)
# A column in which more rows than this share have such words holds something else.
MOST_SHARE = 0.25
# Of fewer numbers one may be the sum of the others by chance.
LEAST_ROWS = 3
EXACT = 1e-9


def reasons(frame: pd.DataFrame) -> np.ndarray:
    """Why each row [n] is no run but sums others up, "" where it is one."""
    out = np.full(len(frame), "", dtype=object)
    for name in frame.columns:
        series = frame[name]
        if pd.api.types.is_numeric_dtype(series.dtype):
            continue
        words = series.map(_word, na_action="ignore")
        marked = words.isin(WORDS).to_numpy()
        if marked.any() and marked.sum() <= MOST_SHARE * len(frame):
            texts = [f"it sums up other rows: {name} is {v!r}" for v in series[marked]]
            out[marked] = texts
    last = _sums_up(frame[out == ""])
    if last:
        out[np.flatnonzero(out == "")[-1]] = (
            f"it sums up other rows: it is their {last}"
        )
    return out


def _word(value: object) -> str:
    return re.sub(r"[^a-z]+", " ", str(value).lower()).strip()


def _sums_up(frame: pd.DataFrame) -> str:
    """Whether the last row is the sum or the mean of those above; "" for neither."""
    if len(frame) <= LEAST_ROWS:
        return ""
    values = frame.select_dtypes("number").to_numpy(float, na_value=np.nan)
    values = values[:, np.isfinite(values).all(axis=0)]
    values = values[:, (values[:-1] != values[0]).any(axis=0)]
    above, last = values[:-1], values[-1]
    if last.size < 2:
        return ""
    # A sum beyond all numbers is no row's.
    with np.errstate(over="ignore"):
        ends = {"sum": above.sum(axis=0), "mean": above.mean(axis=0)}
    for name, end in ends.items():
        if np.allclose(last, end, rtol=EXACT, atol=0.0):
            return name
    return ""
