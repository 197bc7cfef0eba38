"""The trainer's own call, timed by the processor and not by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import numpy as np

from scaling.families import Spec, Tokens
from scaling.layout import Layout
from scaling.run import Run
from scaling.training import mesh, programs

Rate = Callable[[float], float]


def stepped(run: Run, layout: Layout, spec: Spec) -> Rate:
    """Examples of full packs of such runs that are trained on in a CPU-second.

    Other work on the machine changes that little, where it would halve a rate by the
    clock. The function is given the least seconds, by the clock, to measure for.
    """
    calls = programs.compiled(run.program(), layout, spec)
    width, steps = layout.width, programs.STEPS_PER_CALL
    ids = spec.vocab if isinstance(spec, Tokens) else 256
    with jax.set_mesh(calls.mesh):
        on_slots = mesh.slots(calls.mesh)
        values = {n: np.full(width, value) for n, value in run.values().items()}
        values, fresh = mesh.put((values, np.ones(width, bool)), on_slots)
        held = [calls.refill(calls.empty(), values, fresh)]
        shape = width, steps, run.batch, spec.row
        drawn = np.random.default_rng(0).integers(0, ids, shape, np.int32)
        batches = mesh.put(drawn, mesh.batches(calls.mesh))
        until = mesh.put(np.full(width, 1 << 30, np.int32), on_slots)

    def rate(seconds: float) -> float:
        start, cpu, examples = time.perf_counter(), time.process_time(), 0
        with jax.set_mesh(calls.mesh):
            while not examples or time.perf_counter() - start < seconds:
                held[0], losses = calls.advance(held[0], values, until, batches)
                jax.block_until_ready(losses)
                examples += width * steps * run.batch
        return examples / (time.process_time() - cpu)

    rate(0.0)
    return rate
