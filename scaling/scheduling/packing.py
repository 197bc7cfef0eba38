"""The layout that a program's packs would have on a machine that is not here.

It is what the search of `layouts.choose` finds where a step takes as long as the
roofline says and not as long as a measurement does. A layout is first judged by a model
of its step; the one that is chosen is compiled, what was compiled corrects the model,
and so on until the choice is a compiled one: mostly after one or two compilations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from scaling.layout import Layout
from scaling.planning import estimates, hardware
from scaling.planning.estimates import Step
from scaling.planning.hardware import Hardware
from scaling.run import Run
from scaling.scheduling import layouts


def chosen(
    run: Run,
    cost: Mapping[str, Any],
    machine: Hardware,
    base: Layout,
    runs: int,
    compiled: Callable[[Layout], Step],
) -> tuple[Step, Layout]:
    """The layout of `run`'s program on `machine`, and its step there.

    Args:
      cost: fields of `cost.Cost`.
      base: one run over all devices.
      runs: that may be trained at once.
      compiled: the step in a layout.
    """
    known: dict[Layout, Step] = {}

    def rate(layout: Layout) -> float | None:
        """Tokens/s, None where it does not work: as `engines.Local.measure`."""
        if any(step.reason and not step.memory for step in known.values()):
            return None  # not for want of memory, which another layout could mend
        step = known.get(layout) or _like(known, cost, layout)
        if step.host or not fits(step, machine.memory):
            return None
        seconds = step_seconds(machine, layout, step, cost)
        return layout.width * run.tokens_per_step / seconds

    while True:
        tried = layouts.choose(base, run.batch, runs, rate, base.scan_layers)
        layout = tried[-1][0]
        if layout in known:
            return known[layout], layout
        known[layout] = compiled(layout)


def fits(step: Step, there: float) -> bool:
    return not step.reason and 0 < step.memory <= there


def step_seconds(
    machine: Hardware, layout: Layout, step: Step, cost: Mapping[str, Any]
) -> float:
    """The time of a pack's step by roofline. cost: fields of `cost.Cost`."""
    where = hardware.lookup("cpu") if step.host else machine
    if where.kind == "cpu" and (on_core := hardware.core_seconds(cost)):
        return on_core * layout.width / layout.devices
    moved = step.moved
    if step.host:
        moved = cost["memory"]
    elif where.kind == "cpu":
        moved = cost["memory"] * layout.width / layout.devices
    return hardware.step_seconds(
        where, layout.precision, step.flops, moved, step.sent, step.starts
    )


def _like(
    known: Mapping[Layout, Step], cost: Mapping[str, Any], layout: Layout
) -> Step:
    """The model of a step, corrected by the last one that was compiled."""
    model = estimates.modelled(cost, layout)
    if not known:
        return model
    near, step = list(known.items())[-1]
    if not step.memory:  # it says nothing
        return model
    of_near = estimates.modelled(cost, near)
    return dataclasses.replace(
        model,
        memory=model.memory * step.memory / of_near.memory,
        flops=model.flops * step.flops / of_near.flops if step.flops else model.flops,
        moved=model.moved * step.moved / of_near.moved if step.moved else model.moved,
        starts=step.starts,
        host=step.host,
    )
