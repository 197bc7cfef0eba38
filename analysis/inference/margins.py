"""Where intervals put a quantity about a margin: the rules by which claims are decided.

With an interval [low, high] of 95% and one of 90%,

    within    supported if the 90% interval lies inside the margin: two one-sided tests
              at 5% (Schuirmann 1987); refuted if the 95% interval lies outside of it
    outside   the same, the other way about
    above     supported if low is above the margin's upper end, refuted if high is below
    below     supported if high is below its lower end, refuted if low is above

and undetermined else: an interval that holds 0 shows no equivalence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from analysis.inference import quantiles
from analysis.inference.verdict import DECIDES
from scaling import claim as rules

SUPPORTED, REFUTED, OPEN = "supported", "refuted", "undetermined"

Margin = tuple[float, float]


class Interval(NamedTuple):
    """A value, and the ends of its 95% and of its 90% interval.

    Where the latter is not known it is the former: equivalence is then asked of that,
    which is stricter.
    """

    value: float
    low: float
    high: float
    low_90: float
    high_90: float


def judge(rule: str, margin: Margin, row: Interval) -> str:
    """Where one interval puts its quantity; see the file's docstring."""
    if any(map(math.isnan, row[1:])):
        return OPEN
    (least, most), low, high = margin, row.low, row.high
    inside = least <= row.low_90 and row.high_90 <= most
    outside = low > most or high < least
    yes, no = {
        rules.WITHIN: (inside, outside),
        rules.OUTSIDE: (outside, inside),
        rules.ABOVE: (low > most, high < most),
        rules.BELOW: (high < least, low > least),
    }[rule]
    return SUPPORTED if yes else REFUTED if no else OPEN


def decide(
    rule: str, margin: Margin, rows: Sequence[Interval], over: str
) -> tuple[str, int]:
    """The verdict over all rows, and the row that decides.

    A claim about every row is supported where each of them is (an intersection-union
    test, which needs no correction), and refuted where one is by an interval widened
    for so many (Bonferroni). A claim about any row is the other way about.
    """
    alone = [judge(rule, margin, row) for row in rows]
    among = [judge(rule, margin, _widened(row, len(rows))) for row in rows]
    # What one row is enough for, and what needs all of them.
    one, whole = (REFUTED, SUPPORTED) if over == rules.EVERY else (SUPPORTED, REFUTED)
    far = [_distance(rule, margin, row.value, whole) for row in rows]

    def farthest(rows: Sequence[int]) -> int:
        return max(rows, key=far.__getitem__)

    if one in among:
        return one, farthest([k for k, verdict in enumerate(among) if verdict == one])
    unsure = [k for k, verdict in enumerate(alone) if verdict != whole]
    if unsure:
        return OPEN, farthest(unsure)
    return whole, farthest(range(len(rows)))


def _widened(row: Interval, rows: int) -> Interval:
    """The row with its intervals as wide as `rows` of them together ask."""
    ends = []
    for end, level in zip(row[1:], (DECIDES, DECIDES, 0.95, 0.95), strict=True):
        more = -quantiles.normal((1.0 - level) / rows) / quantiles.normal(level)
        finite = math.isfinite(end) and math.isfinite(row.value)
        ends.append(row.value + more * (end - row.value) if finite else end)
    return Interval(row.value, *ends)


def _distance(rule: str, margin: Margin, value: float, wanted: str) -> float:
    """How far a value lies from where `wanted` would have it; more is farther."""
    least, most = margin
    within = max(value - most, least - value)
    away = {
        rules.WITHIN: within,
        rules.OUTSIDE: -within,
        rules.ABOVE: most - value,
        rules.BELOW: value - least,
    }[rule]
    away = -math.inf if math.isnan(away) else away
    return away if wanted == SUPPORTED else -away


def times_narrower(rule: str, margin: Margin, row: Interval) -> float:
    """How many times narrower an interval that decides nothing must be to decide.

    The value is taken to stay where it is; infinite where it lies on the margin's end.
    """
    inside = margin[0] < row.value < margin[1] and rule in (rules.WITHIN, rules.OUTSIDE)
    low, high = (row.low_90, row.high_90) if inside else (row.low, row.high)
    if inside:
        sides = list(margin)
    elif rule in (rules.WITHIN, rules.OUTSIDE):
        sides = [margin[1] if row.value >= margin[1] else margin[0]]
    else:
        sides = [margin[1] if rule == rules.ABOVE else margin[0]]
    more = 1.0
    for side in sides:
        half = high - row.value if side > row.value else row.value - low
        gap = abs(side - row.value)
        more = max(more, half / gap if gap else math.inf)
    return more
