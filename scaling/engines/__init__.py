"""Engines: where packs of runs are trained. Their result is the records they write.

An engine is `run(packs, store, events)`: it takes packs as they become ready, trains
them, and reports typed progress. Nothing here imports JAX: the process that plans and
shows progress must start at once and never hold an accelerator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from scaling.packs import Event, Pack
from scaling.record import Store


class Engine(Protocol):
    def run(
        self, packs: Iterable[Pack], store: Store, events: Callable[[Event], None]
    ) -> None:
        """Trains every pack; returns when each run has a record or a failed attempt."""
