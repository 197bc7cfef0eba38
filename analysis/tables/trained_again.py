"""Runs that were trained again so that more of them is kept: one of each counts.

What a run keeps beside its record, samples and predictions, is a part of its identity
and moves none of its numbers. The same run under two ids is no second seed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence

import pandas as pd

from analysis.tables import exclusions
from scaling.record import Record

KEPT = ("samples", "probes")


def left_out(
    records: Sequence[Record], listed: Collection[str]
) -> tuple[list[Record], pd.DataFrame]:
    """The records without those of a run that another one has too, and these.

    Of several, that of the run which a study names today is taken, and of these the
    one that ended last.
    """
    alike = defaultdict[str, list[Record]](list)
    for record in records:
        run = {name: v for name, v in record.run.items() if name not in KEPT}
        body = [run, sorted(record.digests.items()), record.status]
        alike[json.dumps(body, sort_keys=True)].append(record)
    taken = set[str]()
    reasons = dict[str, str]()
    for same in alike.values():
        if len({_kept(record) for record in same}) == 1:
            taken |= {record.run_id for record in same}
            continue
        best = max(same, key=lambda r: (r.run_id in listed, r.finished, r.run_id))
        taken.add(best.run_id)
        why = f"trained again as {best.run_id}, of which more or less is kept"
        reasons |= {r.run_id: why for r in same if r is not best}
    kept = [record for record in records if record.run_id in taken]
    return kept, exclusions.excluded(list(reasons), list(reasons.values()))


def _kept(record: Record) -> str:
    """What a run keeps beside its record."""
    body = {name: record.run.get(name) for name in KEPT}
    return json.dumps(body, sort_keys=True)
