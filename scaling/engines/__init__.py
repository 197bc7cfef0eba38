"""Engines carry out packs of runs somewhere; what counts is the records they leave.

An engine is `run(packs, store, events)`: it takes packs as they become ready, trains
them, and reports typed progress. Nothing here imports JAX: the process that plans and
shows progress must start at once and never hold an accelerator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from scaling.layout import Layout
from scaling.record import Cause, Store
from scaling.run import Run

# Between the checkpoints of a pack, unless the user says otherwise.
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


class Engine(Protocol):
    def run(
        self, packs: Iterable[Pack], store: Store, events: Callable[[Event], None]
    ) -> None:
        """Trains every pack; returns when each run has a record or a failed attempt."""
