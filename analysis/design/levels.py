"""What counts as the same size, or the same budget: one rule for the whole analysis.

Families that are built for one size differ by some percent in their parameters, and a
budget is rounded to whole steps. A table may also have sizes or budgets that nobody
planned, as close to each other as checkpoints are.

The rule: values are put into the fewest levels of which none spans more than a
tolerance, and of all ways to do so the cuts lie in the widest gaps. Hence

- no chain of close neighbours makes one level of a whole range: two values of one
  level never lie further apart than the tolerance;
- as many values as there are levels lie further apart than the tolerance, each from
  all others, so the count says how many sizes or budgets a law can tell apart;
- a group that stands apart from others and is no wider than the tolerance is one level.
"""

from __future__ import annotations

import numpy as np

from analysis.laws import Array

# The largest over the smallest value of a level, less one. Families miss a size by a
# few percent, budgets are rounded by less. A power law of exponent 1/3 changes its term
# by under 2% over such a size, by under 1% over such a budget.
SIZE = 0.05
BUDGET = 0.02
# Values must differ by this much before they count as two of those that a law needs.
DISTINCT = 0.2


def level_codes(values: Array, apart: float = DISTINCT) -> Array:
    """Codes [n] of the levels of values [n] above zero; a larger value, a larger code.

    Args:
      apart: the largest over the smallest value of a level, less one, at most.
    """
    logs, place = np.unique(np.log(values), return_inverse=True)
    if not logs.size:
        return np.zeros(0, int)
    # A hair more, so that 1.05 is within 5% of 1.
    starts = _starts(logs, np.log1p(apart) * (1.0 + 1e-9))
    return np.searchsorted(starts, place, side="right") - 1


def count(values: Array, apart: float = DISTINCT) -> int:
    """How many levels `values` have."""
    return int(level_codes(values, apart).max(initial=-1)) + 1


def _starts(logs: Array, width: float) -> Array:
    """Where levels begin in rising, distinct logs [n].

    Filled from below, each level begins as late as the fewest levels allow; filled from
    above, as early. Between the two, and within reach of the level before, any place
    will do: the one behind the widest gap is taken.
    """
    latest = _filled(logs, width)
    ends = np.append(_filled(-logs[::-1], width)[1:], logs.size)
    earliest = np.sort(logs.size - ends)
    gaps = np.diff(logs, prepend=-np.inf)
    starts = [0]
    for late, early in zip(latest[1:], earliest[1:], strict=True):
        reach = int(np.searchsorted(logs, logs[starts[-1]] + width, "right"))
        first, last = max(early, starts[-1] + 1), min(late, reach)
        starts.append(first + int(np.argmax(gaps[first : last + 1])))
    return np.array(starts)


def _filled(logs: Array, width: float) -> Array:
    """Where levels begin when each, from the lowest on, takes all that it can."""
    starts, at = [], 0
    while at < logs.size:
        starts.append(at)
        at = int(np.searchsorted(logs, logs[at] + width, "right"))
    return np.array(starts)
