"""Measured over estimated times of a workdir's runs.

`scaling plan` and `scaling run` keep what they expect of a run before it has a record
(scaling/planning/estimates.py); the record says what it took. Only an estimate for
the machine that the run was trained on is compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from scaling.planning import estimates
from scaling.record import Record
from scaling.store import Store

COLUMNS = ["family", "target", "how", "runs", "ratio", "low", "high"]


def compared(store: Store, records: Iterable[Record]) -> pd.DataFrame:
    """Measured over estimated time, one row a family, target and kind of estimate.

    Returns: family, target, how (what the estimates rest on), runs, ratio (median),
      low and high (the least and the greatest).
    """
    kept = estimates.read(store)
    rows = [
        {
            "family": record.run["model.family"],
            "target": estimate["target"],
            "how": estimate["how"],
            "ratio": record.wall_seconds / estimate["seconds"],
        }
        for record in records
        if record.status == "done"
        for estimate in _here(kept.get(record.run_id, {}), record)
    ]
    if not rows:
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    by = pd.DataFrame(rows).groupby(["family", "target", "how"], sort=True).ratio
    frame = by.agg(runs="size", ratio="median", low="min", high="max").reset_index()
    return frame[COLUMNS]


def _here(
    targets: Mapping[str, Mapping[str, Any]], record: Record
) -> Iterator[Mapping[str, Any]]:
    """The estimates that were made for the machine of the record."""
    chips = math.prod(record.layout.get(axis, 1) for axis in ("run", "data", "model"))
    for estimate in targets.values():
        if estimate["seconds"] and estimates.is_for(estimate, record.device, chips):
            yield estimate
