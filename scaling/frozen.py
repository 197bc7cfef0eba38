"""Preregistration: the plan of a study, frozen in its workdir before it trains.

`scaling freeze STUDY` writes frozen/STUDY.json once, with the grid, evaluation sets,
probes, claims and withheld cells of the study and a digest of them all. A decision that
is made after a look at the results shows as a change.

A study file may define

    claims = (...)      sentences that the study is meant to decide, each a frozen
                        dataclass with its quantity, margin and decision rule
    withheld = (...)    cells that are kept out of all fits and then predicted, as
                        frozen dataclasses or plain values

Both are kept as JSON in frozen/STUDY.json and, in their current form, in
studies/STUDY.json; the analysis reads them there and never runs the study file. The
class name of a dataclass is kept as `is`.
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
from scaling.store import Store
from scaling.writing import write_once

FOLDER = "frozen"
SAID = ("claims", "withheld")  # of a study file


def said(module: ModuleType) -> dict[str, list[Any]]:
    """The claims and withheld cells of a study file, as JSON.

    Raises:
      UserError: they are not a tuple or list of JSON values or dataclasses of these.
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
    """16 hexadecimal digits of a frozen plan, without the time and place of it."""
    what = {key: value for key, value in body.items() if key not in _CIRCUMSTANCE}
    text = json.dumps(what, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_CIRCUMSTANCE = ("digest", "time", "commit", "path")


def write(store: Store, name: str, body: Mapping[str, Any]) -> bool:
    """Keeps the plan of a study; False where one is kept already, which stays."""
    text = json.dumps({**body, "digest": digest(body)}, indent=1, sort_keys=True)
    return write_once(store.path(FOLDER, f"{name}.json"), text.encode())


def read(store: Store, name: str) -> dict[str, Any] | None:
    """The frozen plan of a study; None where it was not frozen.

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
    """Differences between a study and its frozen plan, one line each.

    A learning rate or weight decay that tuning was meant to choose is not a change.

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
