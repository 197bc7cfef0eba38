"""Columns of flags: diverged, outlier, excluded, and states of a run.

A flag says that somebody would not use a row. One that says a run diverged is its
status; every other is named with the condition that leaves its rows out, and costs no
row by itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np
import pandas as pd

from analysis.tables import typed

# Words of a column's name by which it marks rows that somebody left out.
MARKS = frozenset(
    (
        *("outlier", "outliers", "exclude", "excluded", "drop", "dropped", "ignore"),
        *(
            "ignored",
            "skip",
            "skipped",
            "bad",
            "invalid",
            "broken",
            "failed",
            "failure",
        ),
        *("crashed", "crash", "diverged", "divergence", "nan", "oom", "killed"),
        *("discard", "discarded", "spike", "unstable"),
    )
)
STATES = ("state", "status", "run_state", "run_status", "outcome")
TRUE = frozenset(("1", "1.0", "true", "yes", "y", "t"))
FALSE = frozenset(("0", "0.0", "false", "no", "n", "f"))
DONE = frozenset(
    (
        *("done", "finished", "complete", "completed", "success", "succeeded", "ok"),
        "converged",
    )
)
NOT_DONE = frozenset(
    (
        *("diverged", "failed", "failure", "crashed", "crash", "error", "nan", "oom"),
        *("killed", "running", "provisional", "pending", "queued", "aborted"),
        *("cancelled", "canceled", "preempted", "stopped", "interrupted", "timeout"),
        *("excluded", "outlier"),
    )
)


def is_flag(column: pd.Series) -> bool:
    """Whether a column holds yes and no, in whatever words, and nothing else."""
    known = _words(column.dropna())
    return len(known) > 0 and known.isin(TRUE | FALSE).all()


def is_status(column: pd.Series) -> bool:
    """Whether a column says of each run that it is done, or why it is not."""
    known = _known_states(column.dropna())
    return is_flag(column) or bool(known.isin(DONE | NOT_DONE).all())


def status(column: pd.Series, name: str) -> np.ndarray:
    """The status [n] of each run: "done", or what a flag or state says instead.

    Args:
      name: of the column: what a flag of it says.
    """
    words = _words(column)
    if is_flag(column):
        good = FALSE if is_mark(name) or words.isin(FALSE).all() else TRUE
        flag = np.where(words.isin(good), "done", name.strip().lower())
        return np.where(column.isna(), "done", flag)
    plain = column.astype(str).where(column.notna(), "")
    return np.where(words.isin(DONE), "done", plain)


def said(frame: pd.DataFrame, used: Collection[str]) -> list[str]:
    """One sentence on each column of flags that is not used, with what would use it."""
    out = []
    stated = any(name.strip().lower() in STATES for name in used)
    for name in frame.columns:
        if name in used or (stated and name.strip().lower() in STATES):
            continue
        if is_mark(name) and is_flag(frame[name]):
            out += _flag(name, frame[name])
        elif name.strip().lower() in STATES and _is_text(frame[name]):
            out += _state(name, frame[name])
    return out


def _flag(name: str, column: pd.Series) -> list[str]:
    """Which rows a flag marks."""
    words = _words(column)
    marked = int(words.isin(TRUE).sum())
    if not marked:
        return []
    unmarked, marks = column[words.isin(FALSE)], column[words.isin(TRUE)]
    rest = typed.condition(name, str(marks.iloc[0]), "!=")
    if len(unmarked) and column.notna().all():
        rest = typed.condition(name, str(unmarked.iloc[0]))
    if marked == 1:
        return [f"{name} marks 1 row, which is kept; {rest} leaves it out"]
    return [f"{name} marks {marked} rows, which are kept; {rest} leaves them out"]


def _state(name: str, column: pd.Series) -> list[str]:
    """What states there are."""
    levels = column.dropna().astype(str)
    if levels.nunique() < 2:
        return []
    done = levels[_words(levels).isin(DONE)]
    chosen = typed.condition(name, (done if len(done) else levels).iloc[0])
    return [f"{name} has {_shown(levels)}, and all are kept; {chosen} keeps one alone"]


def is_mark(name: str) -> bool:
    """Whether a column's name is that of a flag."""
    return bool(MARKS & set(re.split(r"[\W_]+", name.strip().lower())))


def _words(column: pd.Series) -> pd.Series:
    return column.astype(str).str.strip().str.lower()


def _known_states(column: pd.Series) -> pd.Series:
    """What each state says, in one word where it has one: diverged at step 200."""
    return _words(column).map(_in_one_word)


def _in_one_word(text: str) -> str:
    if text in DONE | NOT_DONE:
        return text
    words = re.findall(r"[a-z]+", text)
    return next((word for word in words if word in NOT_DONE), text)


def _is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column.dtype)


def _shown(levels: pd.Series, most: int = 4) -> str:
    names = list(dict.fromkeys(levels))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
