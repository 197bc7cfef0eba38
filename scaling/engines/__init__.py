"""Engines carry out packs of runs somewhere; what counts is the records they leave.

An engine is `run(packs, store, events)`: it takes packs as they become ready, trains
them, and reports typed progress. Nothing here imports JAX: the process that plans and
shows progress must start at once and never hold an accelerator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from scaling.record import Cause, Store
from scaling.run import Run

Remat = Literal["none", "dots", "full"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where and how a pack runs. Recorded, never part of a run's identity.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      run, data, model: sizes of the mesh axes; their product is the devices used.
        The pack's run axis is sharded over `run`, batch and parameters over `data`,
        tensor parallelism over `model`.
      replicate: copies parameters to every device of the data axis instead of sharding
        them over it; faster where they fit many times over.
      width: slots of a pack, a multiple of `run`; empty ones are masked.
      precision: "float32" or "bfloat16" compute; parameters are always float32.
      accumulate: micro-batches that a step's batch is cut into, one after the other;
        their gradients are averaged.
      remat: what a layer's backward pass computes again instead of keeping: "none";
        "dots", all but its products with weights; "full", all but its input.
      scan_layers: like layers are one loop instead of one after the other: compiles
        in a time that does not grow with depth, for a copy of the parameters.
    """

    platform: str = "cpu"
    run: int = 1
    data: int = 1
    model: int = 1
    replicate: bool = False
    width: int = 1
    precision: str = "float32"
    accumulate: int = 1
    remat: Remat = "none"
    scan_layers: bool = False

    @property
    def devices(self) -> int:
        return self.run * self.data * self.model

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


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
    attempt ended with `cause`; message and log tail are in the attempt's file).
    """

    kind: Literal["started", "step", "done", "failed"]
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
