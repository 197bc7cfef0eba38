"""One of the processes of a mesh over loopback: trains and prints its losses.

    python two_processes.py RANK PROCESSES PORT DEVICES

PROCESSES x DEVICES CPU devices train a tiny program with fully sharded parameters.
"""

from __future__ import annotations

import json
import sys

import jax
import numpy as np

from scaling.families import Tokens
from scaling.layout import Layout
from scaling.run import VALUES, Data, Model, Optimiser, Part, Run, Schedule
from scaling.training import mesh, programs

RUN = Run(
    model=Model("lstm", 8_000),
    data=Data(corpus=(Part("made"),), tokens=16 * 64),
    optimiser=Optimiser(learning_rate=3e-3),
    schedule=Schedule(warmup_tokens=64),
    batch=4,
    length=16,
    evaluation=(),
)


def losses() -> tuple[list[float], list[float]]:
    """Losses of the run's steps, and the trained model's nats on the last batch."""
    program = programs.compiled(RUN.program(), Layout(data=2), Tokens(257, RUN.length))
    on_slots = mesh.slots(program.mesh)
    values = {
        name: np.full(1, value, VALUES[name]) for name, value in RUN.values().items()
    }
    shape = (1, programs.STEPS_PER_CALL, RUN.batch, RUN.length)
    batches = np.random.default_rng(0).integers(0, 257, shape).astype(np.int32)
    with jax.set_mesh(program.mesh):
        values = mesh.put(values, on_slots)
        fresh, until = mesh.put((np.ones(1, bool), np.full(1, 8, np.int32)), on_slots)
        state = program.refill(program.empty(), values, fresh)
        state, found = program.advance(
            state, values, until, mesh.put(batches, mesh.batches(program.mesh))
        )
        rows = batches[0, -1]
        given = (rows, np.zeros(len(rows), np.int32))
        windows, at = mesh.put(given, mesh.windows(program.mesh))
        nats, _ = program.read(program.select(state, 0).model, windows, at)
        return mesh.get(found)[0].tolist(), mesh.get(nats).mean(1).tolist()


def main() -> None:
    rank, processes, port, devices = map(int, sys.argv[1:])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", processes, rank)
    print(json.dumps(losses()))


if __name__ == "__main__":
    main()
