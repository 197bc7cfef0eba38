"""Compiles one program's training step ahead of time for a machine that is not here.

Runs in a child process (a compile may take long, or all memory). The TPU compiler needs
no TPU: it comes with libtpu, the `tpu` extra. Nothing compiles for GPUs without one, so
theirs is a model: the memory and products of cost.py, fully sharded traffic, and the
number of operations that the same step has when compiled for one device of a CPU.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from scaling import families
from scaling.errors import UserError
from scaling.layout import Layout
from scaling.planning import cost, hardware, hlo_traffic
from scaling.planning.estimates import Step, modelled
from scaling.run import Program, Run
from scaling.training import programs


def step(run: Run, spec: families.Spec, layout: Layout, target: str) -> Step:
    """The training step of `run`'s program on `layout`, on the machine `target`.

    A program that cannot be compiled there gives a step with the `reason`.
    """
    machine = hardware.lookup(target)
    if families.fitted(run.model.family):
        return _fitted(run, spec)
    # The accelerators of this machine, if any, are not used.
    jax.config.update("jax_platforms", "cpu")
    if machine.kind == "gpu":
        return _modelled(run, spec, layout)
    started = time.monotonic()
    try:
        done = _compiled(run, spec, layout, _devices(machine))
    except UserError as error:
        return Step(reason=str(error))
    except jax.errors.JaxRuntimeError as error:
        memory = _needed(str(error))
        reason = " ".join(str(error).split("\n")[0].split())
        return Step(
            memory=memory, seconds=time.monotonic() - started, reason=reason[:200]
        )
    return dataclasses.replace(done, seconds=time.monotonic() - started)


def _devices(machine: hardware.Hardware) -> Sequence[Any]:
    if machine.kind == "cpu":
        return jax.devices()
    jax.config.update("jax_enable_compilation_cache", False)  # it cannot load them
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # no metadata server to wait for
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # no TPU that two would fight for
    shape = hardware.topology(machine)
    return topologies.get_topology_desc(
        platform="tpu",
        topology_name=shape.name,
        chips_per_host_bounds=shape.host,
        chip_config_name=shape.config,
    ).devices


def _compiled(
    run: Run, spec: families.Spec, layout: Layout, devices: Sequence[Any]
) -> Step:
    lowered = programs.lowered(run.program(), layout, spec, devices)
    compiled = lowered.compile()
    used = compiled.memory_analysis()
    assert used is not None, "the CPU and TPU compilers state memory"
    steps = programs.STEPS_PER_CALL
    flops, why = cost.flops_xla(lowered, steps)
    if flops is None:
        return Step(reason=why)
    moved = hlo_traffic.count(compiled.as_text() or "")
    state = used.alias_size_in_bytes
    return Step(
        memory=used.argument_size_in_bytes
        + used.output_size_in_bytes
        - state
        + used.temp_size_in_bytes
        + used.generated_code_size_in_bytes,
        state=state,
        flops=flops / layout.devices,
        moved=moved.moved / steps,
        sent=moved.sent / steps,
        starts=moved.starts / steps,
    )


def _modelled(run: Run, spec: families.Spec, layout: Layout) -> Step:
    """As `estimates.modelled`, with the operations of one device."""
    described = cost.describe(run, spec, precision=layout.precision)
    one = Layout(precision=layout.precision, scan_layers=layout.scan_layers)
    starts = _starts(run.program(), spec, one)
    return dataclasses.replace(
        modelled(dataclasses.asdict(described), layout), starts=starts
    )


@functools.cache
def _starts(program: Program, spec: families.Spec, layout: Layout) -> float:
    """Operations of a step on one device of a CPU."""
    compiled = programs.lowered(program, layout, spec, jax.devices()).compile()
    counted = hlo_traffic.count(compiled.as_text() or "")
    return counted.starts / programs.STEPS_PER_CALL


def _fitted(run: Run, spec: families.Spec) -> Step:
    """The host's work on a step's tokens, which no accelerator shares."""
    described = cost.describe(run, spec)
    return Step(
        memory=described.memory,
        state=described.state,
        flops=described.flops / described.steps,
        host=True,
        how="modelled",
    )


def _needed(message: str) -> float:
    """Bytes that the compiler asked for, 0 where it does not state them."""
    match = re.search(r"(?:\(|Used )(\d+(?:\.\d+)?)([KMGT])\b", message)
    powers = {"K": 10, "M": 20, "G": 30, "T": 40}
    return float(match[1]) * 2.0 ** powers[match[2]] if match else 0.0
