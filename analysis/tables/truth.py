"""The true losses that studies know of their evaluation sets.

Only a corpus made from a known source has one; see scaling/corpora/_truth.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

# Of each target whose truth is known, by the windows' length; nats/token.
FACTS = ["target", "length", "truth", "se", "entropy", "entropy_se"]


def facts(studies: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """What studies say of their evaluation sets, columns FACTS."""
    found = [fact for body in studies for fact in body.get("truth", ())]
    names = {"target": "evaluation", "truth": "loss"}
    frame = pd.DataFrame(found, columns=[names.get(name, name) for name in FACTS])
    frame.columns = pd.Index(FACTS)
    return frame.drop_duplicates(["target", "length"], ignore_index=True)
