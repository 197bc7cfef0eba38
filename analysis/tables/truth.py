"""The true losses that studies know of their evaluation sets.

Only a corpus made from a known source has one; see scaling/corpora/_truth.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

# Of each target whose truth is known, by the windows' length, in the unit.
FACTS = ["target", "unit", "length", "truth", "se", "entropy", "entropy_se"]
# Of studies that were written before pictures had a truth.
UNIT = {"unit": "nats/token"}


def facts(studies: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """What studies say of their evaluation sets, columns FACTS."""
    found = [UNIT | dict(fact) for body in studies for fact in body.get("truth", ())]
    names = {"target": "evaluation", "truth": "loss"}
    frame = pd.DataFrame(found, columns=[names.get(name, name) for name in FACTS])
    frame.columns = pd.Index(FACTS)
    return frame.drop_duplicates(["target", "unit", "length"], ignore_index=True)


def bits_of_pictures(known: pd.DataFrame) -> dict[str, float]:
    """By target, the bits/dim that the true chances of its pictures need."""
    mine = known[known.unit == "nats/dim"]
    return dict(zip(mine.target, mine.truth / math.log(2.0), strict=True))
