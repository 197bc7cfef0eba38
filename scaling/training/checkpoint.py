"""Checkpoints of unfinished runs: the only file that imports orbax.

A checkpoint belongs to one run, not to a pack, so that a run can go on in any slot, at
another pack width or on other devices. It holds the run's train state and its progress
so far (loss curve, readings, seconds). Only the step is kept of the data: batches are a
pure function of it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from scaling.record import Store

# What orbax and tensorstore raise on a checkpoint that is cut short or overwritten.
_CORRUPT = (ValueError, OSError, KeyError, TypeError, json.JSONDecodeError)


@dataclasses.dataclass(frozen=True)
class Saved:
    """A restored run: its train state, its step and its progress."""

    step: int
    state: Any
    progress: dict[str, Any]


def _manager(store: Store, run_id: str) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.LatestN(2),
        enable_async_checkpointing=False,  # the next step donates the buffers
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(store.path("checkpoints", run_id), options=options)


def save(
    store: Store, run_id: str, step: int, state: Any, progress: dict[str, Any]
) -> None:
    """Keeps the state of one run (no run axis) at `step`; the two latest stay."""
    arguments = ocp.args.Composite(
        state=ocp.args.StandardSave(_by_name(state)),
        progress=ocp.args.JsonSave(progress),
    )
    with _manager(store, run_id) as manager:
        if step not in manager.all_steps():
            manager.save(step, args=arguments, force=True)


def restore(store: Store, run_id: str, abstract: Any, shardings: Any) -> Saved | None:
    """The newest checkpoint that can be read; None where there is none.

    A checkpoint that cannot be read is skipped for the one before, and said so.

    Args:
      abstract: shapes and dtypes of one run's train state.
      shardings: a tree like it; need not be those it was saved with.
    """
    if not store.path("checkpoints", run_id).exists():
        return None
    target = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding
        ),
        abstract,
        shardings,
    )
    arguments = ocp.args.Composite(
        state=ocp.args.StandardRestore(_by_name(target)),
        progress=ocp.args.JsonRestore(),
    )
    with _manager(store, run_id) as manager:
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                found = manager.restore(step, args=arguments)
            except _CORRUPT as error:
                logging.warning(
                    "checkpoint %d of run %s cannot be read (%s); trying an older one",
                    step,
                    run_id,
                    str(error).splitlines()[0],
                )
                continue
            leaves = [leaf for _, leaf in sorted(found["state"].items())]
            state = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
            return Saved(step, state, found["progress"])
    return None


def delete(store: Store, run_id: str) -> None:
    """Drops the checkpoints of a finished run."""
    folder = store.path("checkpoints", run_id)
    if folder.exists():
        folder.rmtree()


def _by_name(tree: Any) -> dict[str, Any]:
    """Leaves by their number: survives renamed classes and keeps the order."""
    return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}
