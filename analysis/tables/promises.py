"""What the studies of a workdir said before they trained, and whether it was kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from scaling import frozen, intact
from scaling.record import Record
from scaling.store import Store


@dataclasses.dataclass(frozen=True)
class Promise:
    """What one study says it will decide.

    Attributes:
      study: its name.
      claims: as scaling.claim.Claim has them, each with `stated`: when.
      frozen: when it was frozen, as text; "" where it was not.
      changes: how it departs from what was frozen, a line each.
      withheld: each cell that no fit is to see, as text, and the runs that it names.
    """

    study: str
    claims: tuple[Mapping[str, Any], ...]
    frozen: str = ""
    changes: tuple[str, ...] = ()
    withheld: tuple[tuple[str, tuple[str, ...]], ...] = ()


def of_workdir(
    store: Store,
    studies: Mapping[str, Mapping[str, Any]],
    records: Iterable[Record],
) -> tuple[Promise, ...]:
    """A promise for each study that states claims, withholds cells or was frozen."""
    runs = {record.run_id: record.run for record in records}
    every = (_of_study(store, name, body, runs) for name, body in studies.items())
    return tuple(p for p in every if p.claims or p.withheld or p.frozen or p.changes)


BEFORE, UNFROZEN, AFTER = "before training", "not frozen", "after it was frozen"


def _of_study(
    store: Store, name: str, body: Mapping[str, Any], runs: Mapping[str, Any]
) -> Promise:
    now = list(body.get("claims", ()))
    try:
        kept = frozen.read(store, name)
    except intact.Unreadable as error:
        changes = (f"frozen/{name}.json {error}",)
        return Promise(name, _stated(now, UNFROZEN), "", changes, _cells(body, runs))
    if kept is None:
        return Promise(name, _stated(now, UNFROZEN), "", (), _cells(body, runs))
    before = kept["claims"]
    later = [claim for claim in now if claim not in before]
    return Promise(
        name,
        (*_stated(before, BEFORE), *_stated(later, AFTER)),
        str(kept.get("time", "")),
        tuple(frozen.changes(kept, body)),
        _cells(kept, runs),
    )


def _stated(claims: Iterable[Any], when: str) -> tuple[Mapping[str, Any], ...]:
    """Claims with when they were stated; one in another form says only what it is."""
    return tuple(
        {**(c if isinstance(c, dict) else {"sentence": str(c)}), "stated": when}
        for c in claims
    )


def _cells(body: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]) -> Any:
    """Withheld cells with their runs: a cell names values of a run's fields."""
    out = []
    for cell in body.get("withheld", ()):
        fields = dict(cell) if isinstance(cell, dict) else {}
        fields.pop("is", None)
        mine = [i for i, run in runs.items() if fields and _matches(run, fields)]
        text = ", ".join(f"{name} {_plain(value)}" for name, value in fields.items())
        out.append((text or _plain(cell), tuple(mine)))
    return tuple(out)


def _matches(run: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return all(name in run and run[name] == value for name, value in fields.items())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
