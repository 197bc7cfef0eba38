"""Packs of runs, which engines train, and the events by which they report progress."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from scaling.layout import Layout
from scaling.record import Cause
from scaling.run import Run

# Default time between the checkpoints of a pack.
CHECKPOINT_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Pack:
    """Runs of one program, to be trained together, `layout.width` at a time.

    ahead: a run of the program that is likely next, and its layout; it is compiled
    while this pack trains.
    """

    runs: tuple[Run, ...]
    run_ids: tuple[str, ...]
    layout: Layout
    ahead: tuple[Run, Layout] | None = None


@dataclasses.dataclass(frozen=True)
class Event:
    """Progress of one run.

    kind: "started"; "step" (with step, steps, loss and tokens_per_second of the pack
    so far); "done" (status "done" or "diverged": its record stands); "failed" (this
    attempt ended with `cause`; message and log tail are in the attempt's file); "note"
    (`message` is a line for the user, such as why a checkpoint is not used).
    """

    kind: Literal["started", "step", "done", "failed", "note"]
    run_id: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens_per_second: float = 0.0
    status: str = ""
    cause: Cause | None = None
    message: str = ""


def pack_to_json(pack: Pack) -> dict[str, Any]:
    return {
        "runs": [run.to_json() for run in pack.runs],
        "run_ids": list(pack.run_ids),
        "layout": pack.layout.to_json(),
        "ahead": pack.ahead and [part.to_json() for part in pack.ahead],
    }


def pack_from_json(body: Mapping[str, Any]) -> Pack:
    """The inverse of `pack_to_json`."""
    runs = tuple(Run.from_json(run) for run in body["runs"])
    ahead = None
    if body["ahead"]:
        run, layout = body["ahead"]
        ahead = Run.from_json(run), Layout(**layout)
    return Pack(runs, tuple(body["run_ids"]), Layout(**body["layout"]), ahead)
