"""Packs of runs, which engines train, and the events by which they report progress."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Protocol

from scaling.families import Spec
from scaling.layout import Layout
from scaling.record import Cause
from scaling.run import Program, Run

# Default time between the checkpoints of a pack.
CHECKPOINT_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Pack:
    """Runs of one program, to be trained together, `layout.width` at a time.

    ahead: a run of the program that is likely next, and its layout; it is compiled
    while this pack trains. digests: by `Part.key`, of the texts that the runs are of;
    empty for what each text is now.
    """

    runs: tuple[Run, ...]
    run_ids: tuple[str, ...]
    layout: Layout
    ahead: tuple[Run, Layout] | None = None
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Machine:
    """A kind of machine: those of one kind share their layouts.

    Attributes:
      platform: as JAX names it.
      devices: that a pack has there.
      kind: of the devices, in JAX's words.
    """

    platform: str
    devices: int
    kind: str


@dataclasses.dataclass(eq=False)
class Place:
    """Where one pack at a time is trained: a machine, or a slice of several hosts.

    program: what it trained last, whose compiled calls it may still have.
    """

    name: str
    machine: Machine
    program: Program | None = None


Rates = list[tuple[Layout, float | None]]


@dataclasses.dataclass(frozen=True)
class Search:
    """The work of choosing the layout of a program, by measuring it.

    Attributes:
      run: one of the program; spec: of what it reads.
      choose: given what measures a layout (tokens/s, None where it does not work),
        returns every layout that it tried, the chosen one last.
    """

    run: Run
    spec: Spec
    choose: Callable[[Callable[[Layout], float | None]], Rates]


class Packs(Protocol):
    """What is to be trained. One engine iterates; one with many places asks for each.

    A pack that was given out is trained by nobody else until `ended` is called with it.
    """

    def __iter__(self) -> Iterator[Pack]: ...

    def take(self, place: Place, places: int) -> Pack | Search | None:
        """Work for a free place, None where it has to wait; `places` are there now."""
        ...

    def ended(self, pack: Pack) -> None:
        """The pack is trained no more, and every event of it was passed on."""
        ...

    def chosen(self, search: Search, place: Place, rates: Rates) -> None:
        """The outcome of a search; empty where it was cut off."""
        ...


@dataclasses.dataclass(frozen=True)
class Event:
    """Progress of one run.

    kind: "started"; "step" (with step, steps, loss and tokens_per_second of the pack
    so far); "done" (status "done" or "diverged": its record stands); "failed" (this
    attempt ended with `cause`; message and log tail are in the attempt's file); "note"
    (`message` is a line for the user, such as why a checkpoint is not used).
    host: the machine, "" for this one.
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
    host: str = ""


def pack_to_json(pack: Pack) -> dict[str, Any]:
    return {
        "runs": [run.to_json() for run in pack.runs],
        "run_ids": list(pack.run_ids),
        "layout": pack.layout.to_json(),
        "ahead": pack.ahead and [part.to_json() for part in pack.ahead],
        "digests": dict(pack.digests),
    }


def pack_from_json(body: Mapping[str, Any]) -> Pack:
    """The inverse of `pack_to_json`."""
    runs = tuple(Run.from_json(run) for run in body["runs"])
    ahead = None
    if body["ahead"]:
        run, layout = body["ahead"]
        ahead = Run.from_json(run), Layout(**layout)
    layout, digests = Layout(**body["layout"]), body["digests"]
    return Pack(runs, tuple(body["run_ids"]), layout, ahead, digests)
