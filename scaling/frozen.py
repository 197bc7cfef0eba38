"""What a study said before it trained: grid, targets, probes, claims, withheld cells.

`scaling freeze STUDY` writes frozen/STUDY.json in the workdir, once, with a digest of
all that it says. What is decided after a look at the results shows as a change.

A study file may define

    claims = (...)      sentences that the study is to decide, each a frozen dataclass
                        with its quantity, margin of equivalence and decision rule
    withheld = (...)    cells that no fit may see before its prediction of them stands,
                        as frozen dataclasses or plain values

Both stand, as JSON, in frozen/STUDY.json and, as they are now, in studies/STUDY.json;
the analysis reads them there and never the study file. Of a dataclass the name of the
class is kept as `is`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from scaling import intact
from scaling.errors import UserError
from scaling.record import Store
from scaling.writing import write_once

FOLDER = "frozen"
SAID = ("claims", "withheld")  # of a study file


def said(module: ModuleType) -> dict[str, list[Any]]:
    """What a study file says beside its runs, as JSON.

    Raises:
      UserError: it says it in another form than a tuple or list of values that JSON
        has, or dataclasses of such.
    """
    body = {}
    for name in SAID:
        given = getattr(module, name, ())
        if not isinstance(given, tuple | list):
            raise UserError(name, given, "give a tuple of them")
        body[name] = [_plain(name, entry) for entry in given]
    return body


def _plain(name: str, entry: Any) -> Any:
    value = entry
    if dataclasses.is_dataclass(entry) and not isinstance(entry, type):
        value = {"is": type(entry).__name__, **dataclasses.asdict(entry)}
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        expected = f"give text, numbers and dataclasses of them ({error})"
        raise UserError(name, entry, expected) from error


def digest(body: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of all that a frozen study says, but when and where."""
    what = {key: value for key, value in body.items() if key not in _CIRCUMSTANCE}
    text = json.dumps(what, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_CIRCUMSTANCE = ("digest", "time", "commit", "path")


def write(store: Store, name: str, body: Mapping[str, Any]) -> bool:
    """Keeps what a study says; False where something is kept already (it stays)."""
    text = json.dumps({**body, "digest": digest(body)}, indent=1, sort_keys=True)
    return write_once(store.path(FOLDER, f"{name}.json"), text.encode())


def read(store: Store, name: str) -> dict[str, Any] | None:
    """What a study said before it trained; None where it was not frozen.

    Raises:
      Unreadable: the file is damaged, or was changed since it was written.
    """
    try:
        body = intact.json_object(store.path(FOLDER, f"{name}.json"))
    except FileNotFoundError:
        return None
    if body.get("digest") != digest(body):
        raise intact.Unreadable("was changed since it was written: its digest differs")
    return body


def changes(frozen: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How a study departs from what it said before it trained; a line each.

    A rate or decay that tuning was to choose is no change.

    Args:
      frozen: as `read` gives it.
      now: the study as studies/STUDY.json has it, with `planned`, `claims`, `withheld`.
    """
    lines = []
    for name in SAID:
        if now.get(name, []) != frozen[name]:
            before, after = len(frozen[name]), len(now.get(name, []))
            lines.append(f"its {name} were changed ({before} before, {after} now)")
    cells = {_cell(run) for run in frozen["runs"]}
    planned = {_cell(run) for run in now.get("planned", {}).values()}
    if added := len(planned - cells):
        lines.append(f"{added} cells were added to its grid")
    if not now.get("provisional") and (dropped := len(cells - planned)):
        lines.append(f"{dropped} cells of its grid were dropped")
    return lines


def _cell(run: Mapping[str, Any]) -> str:
    """A run without what tuning chooses: equal for all trials of a cell."""
    kept = {k: v for k, v in run.items() if k not in ("optimiser", "provisional")}
    return json.dumps(kept, sort_keys=True)


def cells(runs: Iterable[Mapping[str, Any]]) -> int:
    """Different runs but for their optimiser's settings."""
    return len({_cell(run) for run in runs})
