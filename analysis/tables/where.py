"""Conditions by which a reader keeps rows: `column == value`, and no more than that.

    subset == hot
    loss < 6
    corpus in c4, rpj
    "eval set" != "openlm test"

Nothing is evaluated: a condition is one column, one comparison and one value, or a list
of values behind `in`. Text and numbers are compared as what they are.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling.errors import UserError, unknown

ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# The column is the shortest text before the first comparison, unless it is quoted.
CONDITION = re.compile(
    r"""\s*(?:"(?P<quoted>[^"]+)"|'(?P<single>[^']+)'|(?P<bare>.+?))
    \s*(?P<op>==|!=|<=|>=|<|>|(?<=\s)in(?=[\s(\[])|(?<=["'])in(?=[\s(\[]))
    \s*(?P<value>.*?)\s*""",
    re.VERBOSE | re.DOTALL,
)
VALUE = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,"']*?))\s*(?:,|$)""")
HOW = 'write COLUMN == VALUE, such as "subset == hot"; also !=, <, <=, >, >= and in'
# Flags as people write them, and what they are as numbers.
FLAGS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
MOST_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Condition:
    """One column, one comparison, and the values that it is compared with."""

    text: str
    column: str
    op: str
    values: tuple[str, ...]


def parse(text: str) -> Condition:
    """Reads a condition. Raises UserError for anything that is none."""
    found = CONDITION.fullmatch(text)
    if not found:
        raise UserError("where", text, HOW)
    column = found["quoted"] or found["single"] or found["bare"].strip()
    value, op = found["value"], found["op"]
    if op == "in" and value[:1] + value[-1:] in ("()", "[]"):
        value = value[1:-1]
    values = _values(value) if op == "in" else _values(value, alone=True)
    if values is None:
        raise UserError("where", text, HOW)
    return Condition(text.strip(), column, op, values)


def _values(text: str, alone: bool = False) -> tuple[str, ...] | None:
    """The values that are written: one, or several with commas; None for neither."""
    text = text.strip()
    if alone and not re.match(r"""["'].*["']$""", text):
        return (text,) if text else None
    out: list[str] = []
    at = 0
    while at < len(text) or not out:
        found = VALUE.match(text, at)
        if not found or found.end() == at:
            return None
        out.append(next((part for part in found.groups() if part is not None), ""))
        at = found.end()
    return None if alone and len(out) > 1 else tuple(out)


def left_out(
    frame: pd.DataFrame,
    conditions: Sequence[Condition],
    names: Mapping[str, str | None],
) -> np.ndarray:
    """Of each row [n] the first condition that it does not meet, or "".

    Raises:
      UserError: as `kept`, or where no row is left.
    """
    reason = np.full(len(frame), "", dtype=object)
    known = {ours: theirs for ours, theirs in names.items() if theirs}
    for condition in conditions:
        gone = ~kept(frame, condition, known) & (reason == "")
        reason[gone] = f"not kept by --where {condition.text}"
    if len(frame) and (reason != "").all():
        texts = " and ".join(condition.text for condition in conditions)
        raise UserError("where", texts, "a condition that some row meets")
    return reason


def kept(
    frame: pd.DataFrame, condition: Condition, names: Mapping[str, str] | None = None
) -> np.ndarray:
    """Marks the rows [n] that meet a condition.

    A missing cell equals "" alone and is neither below nor above anything.

    Args:
      names: other names of columns -> the frame's.

    Raises:
      UserError: an unknown column, a value that no row has, or an order of text.
    """
    column = condition.column
    if column not in frame.columns:
        column = (names or {}).get(column, column)
    if column not in frame.columns:
        raise unknown("where", column, list(frame.columns))
    cells = frame[column]
    if condition.op in ORDERS:
        return _ordered(cells, condition)
    hit = np.zeros(len(cells), bool)
    for value in condition.values:
        same = _equal(cells, value)
        if not same.any():
            raise UserError("where", condition.text, _known(column, cells, value))
        hit |= same
    return ~hit if condition.op == "!=" else hit


def _ordered(cells: pd.Series, condition: Condition) -> np.ndarray:
    (value,) = condition.values
    limit = _number(value)
    if math.isnan(limit):
        expected = f"a number behind {condition.op}; {value!r} is none"
        raise UserError("where", condition.text, expected)
    numbers = cells.map(_number).to_numpy(np.float64)
    if np.isnan(numbers).all():
        expected = f"a column of numbers; {condition.column} holds none"
        raise UserError("where", condition.text, expected)
    with np.errstate(invalid="ignore"):
        return np.asarray(ORDERS[condition.op](numbers, limit))


def _equal(cells: pd.Series, value: str) -> np.ndarray:
    if value == "":
        return (cells.isna() | (cells.astype(str).str.strip() == "")).to_numpy()
    same = (cells.astype(str).str.strip() == value) & cells.notna()
    number = _number(value)
    if not math.isnan(number):
        same |= cells.map(_number).astype(np.float64) == number
    return same.to_numpy(bool)


def _number(cell: Any) -> float:
    """A cell or value as a number, flags as 1 and 0; NaN where it is none."""
    if isinstance(cell, bool | np.bool_):
        return float(cell)
    if isinstance(cell, str) and cell.strip().lower() in FLAGS:
        return FLAGS[cell.strip().lower()]
    if not isinstance(cell, str | int | float | np.number):
        return math.nan
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return math.nan


def _known(column: str, cells: pd.Series, value: str) -> str:
    """What a column holds, for one who looked for something else in it."""
    levels = list(dict.fromkeys(cells.dropna().astype(str)))
    more = len(levels) - MOST_SHOWN
    shown = ", ".join(levels[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"no row's {column} is {value!r}; it has {shown or 'nothing'}"
