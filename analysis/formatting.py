"""Numbers and lists as a person reads them, the same in every sentence and figure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

UNDETERMINED = "is undetermined on this grid"


def number(value: float, digits: int = 3) -> str:
    """`digits` significant digits, without an exponent where that stays readable.

    >>> number(0.12345), number(179875.2), number(2.5e7)
    ('0.123', '180,000', '2.50e7')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    value += 0.0  # no minus before a zero
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    places = 0 if value == 0 else digits - 1 - math.floor(math.log10(abs(value)))
    if abs(value) >= 10_000:
        return f"{round(value, places):,.0f}".replace("-", "−")
    return f"{value:.{max(0, places)}f}".replace("-", "−")


def count(value: float) -> str:
    """Parameters, tokens, FLOPs: 8.2k, 24k, 1.02M, 3B, 2.5e15."""
    if not math.isfinite(value):
        return number(value)
    for unit, suffix in ((1e12, ""), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # As printed: 999,999,999.9 is 1B and not 1e+03M.
        if abs(float(f"{value:.3g}")) >= unit:
            return f"{value / unit:.3g}{suffix}" if suffix else number(value)
    return f"{value:.3g}"


def percent(share: float) -> str:
    """A share in whole percent; never 0% or 100% of what is merely rare or common."""
    if math.isnan(share):
        return "–"
    if 0 < share < 0.01:
        return "under 1%"
    if 0.99 < share < 1:
        return "over 99%"
    return f"{100 * share:.0f}%"


def interval_text(low: float, high: float) -> str:
    """Both ends; one that is the rounding of zero, beside the other, is zero.

    >>> interval_text(0.5, 2), interval_text(2, math.inf), interval_text(-7e-30, 0.4)
    ('0.500 to 2.00', 'at least 2.00', '0 to 0.400')
    """
    if math.isnan(low) or math.isnan(high):
        return "interval not known"
    if math.isinf(high):
        return f"at least {number(low)}" if math.isfinite(low) else "no upper end"
    least = ROUNDING * max(abs(low), abs(high))
    low, high = (0.0 if abs(end) < least else end for end in (low, high))
    return f"{number(low)} to {number(high)}"


def joined(parts: Iterable[str], last: str = "and") -> str:
    """a; a and b; a, b and c."""
    items = list(parts)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def scale(params: float, tokens: float) -> str:
    """Where on the grid a statement holds."""
    places = []
    if not math.isnan(params):
        places.append(f"{count(params)} parameters")
    if not math.isnan(tokens):
        places.append(f"{count(tokens)} tokens")
    return joined(places)


# What budgets count, unless a table says otherwise.
TOKENS = "tokens"


def worded(text: str, counted: str) -> str:
    """A sentence, label or heading in the words of what its table's budgets count.

    Args:
      text: speaks of tokens, as all questions do.
      counted: "tokens", "pictures" and the like.

    >>> worded("At 20k parameters and 64 tokens, each token once", "pictures")
    'At 20k parameters and 64 pictures, each picture once'
    """
    if counted == TOKENS:
        return text
    words = {"tokens": counted, "token": counted.removesuffix("s")} | _NO_TEXT
    for one, other in words.items():
        text = re.sub(rf"\b{one}\b", other, text)
        text = re.sub(rf"\b{capitalised(one)}\b", capitalised(other), text)
    return text


# What is said of a text, of what is none.
_NO_TEXT = {"text": "data", "texts": "corpora", "documents": "groups"}
_NO_TEXT |= {"document": "group"}


def at(row: Any) -> str:
    """`At ...` for a row's params and tokens, and whether the fits reach as far.

    A row over all cells has neither.
    """
    if math.isnan(row.params) and math.isnan(row.tokens):
        return "Over all cells"
    reached = getattr(row, "fitted", True)
    beyond = "" if reached else " (an extrapolation)"
    return f"At {scale(row.params, row.tokens)}{beyond}"


def on(corpus: str) -> str:
    """` on CORPUS`, or nothing where the table names no corpus."""
    return "" if corpus == UNNAMED else f" on {corpus}"


def levels_text(*levels: str) -> str:
    """The levels that the table names, between commas."""
    return ", ".join(level for level in levels if level != UNNAMED)


def among(level: str) -> str:
    """` (LEVEL)`, or nothing where the table does not name it."""
    return "" if level == UNNAMED else f" ({level})"


# The one family or corpus of a table that has no column for it.
UNNAMED = "all"


def range_text(frame: pd.DataFrame) -> str:
    """The range of params and tokens of a frame's rows."""
    ends = []
    for name, what in (("params", "parameters"), ("tokens", "tokens")):
        low, high = count(frame[name].min()), count(frame[name].max())
        ends.append(f"{low} {what}" if low == high else f"{low} to {high} {what}")
    return joined(ends)


# Relative errors below this are not shown as numbers: where a fit meets its runs
# exactly, the rest is rounding of float64 and not a measurement.
LEAST_ERROR = 1e-5
# An end of an interval this much smaller than the other is rounding, too.
ROUNDING = 1e-12


def percent_error(log_error: float) -> str:
    """A standard deviation of logs, or another relative change, in percent.

    >>> percent_error(0.0123), percent_error(5.7e-16), percent_error(0.0)
    ('1.2%', 'under 0.001%', '0%')
    """
    if math.isnan(log_error):
        return "–"
    if 0.0 < abs(log_error) < LEAST_ERROR:
        return f"under {number(100 * LEAST_ERROR, 1)}%"
    return f"{number(100 * log_error, 2)}%"


def law_text(law: str) -> str:
    """A law as a sentence has it.

    >>> law_text("chinchilla"), law_text("joint_outer"), law_text("joint (E by family)")
    ('chinchilla law', 'joint law with an outer exponent', 'joint law with E by family')
    """
    if law == "mixture":
        return "mixture of laws"
    base, _, freed = law.partition(" (")
    if base.endswith("_outer"):
        base, freed = base.removesuffix("_outer"), "an outer exponent)"
    return f"{base} law" + (f" with {freed.removesuffix(')')}" if freed else "")


# The target of a table whose one column of losses names no text.
UNNAMED_LOSS = "loss"


def scored(target: str, before: str = ", ") -> str:
    """`, scored on TARGET`, or nothing where the table does not say what was scored."""
    return "" if target == UNNAMED_LOSS else f"{before}scored on {target}"


def swap_text(row: Any) -> str:
    """What is compared: `baseline`, given more data, with `alternative`."""
    return f"{row.baseline} → {row.alternative}"


def some(names: Iterable[str]) -> str:
    """Names without repeats, the first few of many."""
    every = list(dict.fromkeys(names))
    more = len(every) - MOST_NAMED
    return ", ".join(every[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def named(names: Iterable[str]) -> str:
    """`a, b and c`, or of many names the first few and how many more there are.

    >>> named("ab"), named("abcdef")
    ('a and b', 'a, b, c, d and 2 more')
    """
    every = list(dict.fromkeys(names))
    return joined(every) if len(every) <= MOST_NAMED else some(every)


def swaps_text(frame: pd.DataFrame) -> str:
    """The swaps of a frame's rows, the first few by name."""
    ends = zip(frame.baseline, frame.alternative, strict=True)
    return some(f"{baseline} to {alternative}" for baseline, alternative in ends)


def few(sentences: list[str]) -> list[str]:
    more = len(sentences) - MOST_SENTENCES
    if more <= 1:
        return sentences
    return [*sentences[:MOST_SENTENCES], f"{more} more are in the tables."]


# So many names of a longer list are given.
MOST_NAMED = 4
# So many sentences on one kind of swap are read; a table is better for more.
MOST_SENTENCES = 6
