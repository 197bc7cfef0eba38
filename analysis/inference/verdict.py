"""The one rule by which an interval, or a share of draws, decides a comparison."""

from __future__ import annotations

import math
from typing import Any, Literal

Verdict = Literal["above", "below", "undetermined"]


# The quantiles that hold 95% between them, and how many standard deviations those of a
# normal lie from its middle.
ENDS = (0.025, 0.975)
NORMAL = 1.96
# A share of bootstrap draws this large decides a comparison: the two-sided 95% level.
DECIDES = ENDS[1]


def decided(share: Any) -> Any:
    """Whether a share of draws, or each of many, decides which of two is the larger."""
    return (share >= DECIDES) | (share <= 1 - DECIDES)


def verdict(low: float, high: float, null: float) -> Verdict:
    """Where a 95% interval lies about `null`; a missing end decides nothing."""
    if math.isnan(low) or math.isnan(high):
        return "undetermined"
    if low > null:
        return "above"
    if high < null:
        return "below"
    return "undetermined"
