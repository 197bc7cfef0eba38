"""The workdir as seen by several processes that train the same runs."""

from __future__ import annotations

import jax

from scaling.record import Artifact, Record
from scaling.store import Store
from scaling.training import mesh


class Together(Store):
    """The first process reads and writes for all, so that all do the same next.

    Every process has to call the same methods in the same order. Checkpoints are
    written by all of them.
    """

    def exists(self, run_id: str) -> bool:
        return bool(mesh.agreed(super().exists(run_id)))

    def checkpoint_step(self, run_id: str) -> int:
        return int(mesh.agreed(super().checkpoint_step(run_id)))

    def write(self, record: Record) -> bool:
        first = jax.process_index() == 0
        return bool(mesh.agreed(first and super().write(record)))

    def write_artifact(self, run_id: str, name: str, data: bytes) -> Artifact:
        if jax.process_index() == 0:
            return super().write_artifact(run_id, name, data)
        return Artifact(name.partition(".")[0], "", "")  # of a record that is not kept
