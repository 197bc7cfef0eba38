"""Engines: where packs of runs are trained. Their result is the records they write.

An engine is `run(packs, store, events)`: it takes packs as places for them are free,
trains them, and reports typed progress. Nothing here imports JAX: the process that
plans and shows progress must start at once and never hold an accelerator.

    local.py   this machine: one child process at a time
    fleet.py   many machines: a pack for each that is free, and what becomes of it
    ray.py     the machines of a Ray cluster
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from scaling.engines.stop import Stop
from scaling.families import Spec
from scaling.packs import Event, Packs
from scaling.run import Run
from scaling.store import Store


class Engine(Protocol):
    """Trains packs. A context manager: nothing that it started outlives it."""

    stop: Stop

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def run(self, packs: Packs, store: Store, events: Callable[[Event], None]) -> None:
        """Trains every pack; returns when each run has a record or a failed attempt."""

    def probe(self) -> dict[str, Any]:
        """The "platform", number of "devices" and "kind" of device of its machines."""

    def describe(
        self, runs: Sequence[Run], specs: Sequence[Spec]
    ) -> list[dict[str, Any]]:
        """What each run costs: the fields of `cost.Cost`."""
