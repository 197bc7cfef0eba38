"""Layout: the mesh, pack width and precision with which a pack of runs is trained."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

Remat = Literal["none", "dots", "full"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a pack runs: chosen by the engine, recorded, not part of a run's identity.

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
      remat: what the backward pass of a layer recomputes instead of storing: "none";
        "dots", everything but products with weights; "full", everything but the
        layer's input.
      scan_layers: runs equal layers as one loop instead of unrolling them: the compile
        time does not grow with depth, at the cost of a copy of the parameters.
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
