"""Measures how fast a layout trains, to choose between layouts."""

from __future__ import annotations

import time

import jax
import numpy as np

from scaling import families
from scaling.layout import Layout
from scaling.run import Run
from scaling.training import mesh, programs


def tokens_per_second(
    run: Run, layout: Layout, spec: families.Spec, seconds: float = 1.0
) -> float | None:
    """Training tokens/s of a full pack of such runs, compiling left out.

    None for a family that is fitted: no layout is better than another.

    Args:
      seconds: to measure for, at least; the fastest call counts, which what else the
        machine does disturbs least.
    """
    if families.fitted(run.model.family):
        return None
    calls = programs.compiled(run.program(), layout, spec)
    width, steps = layout.width, programs.STEPS_PER_CALL
    taken: list[float] = []
    draw = np.random.default_rng(0)
    shape = (width, steps, run.batch, spec.row)
    ids = spec.vocab if isinstance(spec, families.Tokens) else 2
    with jax.set_mesh(calls.mesh):
        on_slots = mesh.slots(calls.mesh)
        values = {n: np.full(width, value) for n, value in run.values().items()}
        values, fresh = mesh.put((values, np.ones(width, bool)), on_slots)
        state = calls.refill(calls.empty(), values, fresh)
        while mesh.agreed(sum(taken[1:]) < seconds):  # the first call warms up
            started = time.monotonic()
            until = np.full(width, (len(taken) + 1) * steps, np.int32)
            batches = draw.integers(0, ids, shape, np.int32)
            state, losses = calls.advance(
                state,
                values,
                mesh.put(until, on_slots),
                mesh.put(batches, mesh.batches(calls.mesh)),
            )
            jax.block_until_ready(losses)
            taken.append(time.monotonic() - started)
    rate = width * steps * run.tokens_per_step / min(taken[1:])
    return float(mesh.agreed(rate))  # on which all processes of a mesh choose
