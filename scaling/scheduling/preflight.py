"""Compiles every program of a study for a target machine: does it fit, how long?

The layout is the one that the search on that machine would choose if steps took as long
as the roofline says (`packing.py`); the training step is compiled in it. Two child
processes compile at a time; results are cached by content beside the prepared data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from etils import epath

from scaling.canonical import canonical
from scaling.engines.child import Child, Failed
from scaling.engines.stop import Stop
from scaling.errors import Ended, UserError, disk_errors
from scaling.families import Spec, spec_to_json
from scaling.layout import Layout
from scaling.planning import estimates, hardware
from scaling.planning.estimates import Estimate, Step
from scaling.planning.hardware import Hardware
from scaling.run import Program, Run
from scaling.scheduling import layouts, packing
from scaling.scheduling.commands import opened
from scaling.scheduling.cost_cache import code_digest
from scaling.scheduling.paper import Work
from scaling.scheduling.progress import Progress, describe
from scaling.scheduling.queue import at_once
from scaling.scheduling.study_plan import Entry, Options, StudyPlan
from scaling.writing import write_atomic

CHILDREN = 2
# Seconds a layout of a program: that of a U-Net of 300 million parameters takes seven
# minutes of a core of its own.
TIMEOUT = 1800.0
# Times its memory, beyond which a step that fits a slice is not tried on a smaller one.
FAR = 2.0


@dataclasses.dataclass(frozen=True)
class Forecast:
    """The time, memory and cost of one planned run on the target.

    Attributes:
      step: of a whole pack, on one device; step_seconds: its time by roofline.
      memory_there: bytes that each device has; fits: None where it is not known.
      seconds: of the run alone, its share of the packs it trains in.
      smallest: the smallest slice of the type that it fits, "" where not known.
      cost: at the price given, None without one.
    """

    entry: Entry
    machine: Hardware
    layout: Layout
    step: Step
    memory_there: float
    fits: bool | None
    step_seconds: float | None
    seconds: float | None
    smallest: str
    cost: float | None

    def estimate(self) -> Estimate:
        """What is kept of it, to be compared with the run's record."""
        return Estimate(
            run_id=self.entry.run_id,
            target=self.machine.name,
            device=self.machine.device,
            devices=self.machine.devices,
            how=f"{self.step.how} step, roofline",
            seconds=self.seconds,
            memory=self.step.memory or None,
            compiling=self.compiling,
            width=self.layout.width,
        )

    @property
    def compiling(self) -> float:
        """Seconds that compiling its program took here; 0 where it was not done."""
        return self.step.seconds if self.step.how == "compiled" else 0.0

    def work(self) -> Work:
        """What a schedule on paper knows of it."""
        return Work(self.entry, self.layout, self.seconds or 0.0, self.compiling)


def plan(
    options: Options,
    target: str,
    price: float | None,
    progress: Progress,
    machines: int = 1,
) -> list[Forecast]:
    """Forecasts of every run of a study; keeps them in the workdir.

    Args:
      target: a name of hardware.py.
      price: of a chip-hour, in any currency.
      machines: like the target, over which the runs are spread.

    Raises:
      UserError: the target does not exist or cannot be compiled for on this machine.
    """
    machine = hardware.lookup(target)
    _check(machine)
    if price is not None and not price >= 0:
        raise UserError("price", price, "give what a chip-hour costs, 0 or more")
    with (
        disk_errors(),
        Stop() as stop,
        opened(options, stop, progress) as study,
    ):
        entries = study.entries()
        steps = Steps(study, machine, stop, progress)
        steps.find(entries, machines)
        if stop:
            line = "stopped: what was compiled is kept for the next plan"
            raise Ended(line, 128 + stop.signal)
        forecasts = [_forecast(entry, machine, steps, price) for entry in entries]
        known = [f.estimate() for f in forecasts if f.seconds is not None]
        estimates.keep(study.store, known, replace=True)
    return forecasts


def _check(machine: Hardware) -> None:
    if machine.kind != "tpu":
        return
    hardware.topology(machine)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "target",
            machine.name,
            "its compiler comes with libtpu: pip install 'jax[tpu]' (no TPU is needed)",
        )


def alone_there(run: Run, machine: Hardware, here: layouts.Layouts) -> Layout:
    """One run over all of `machine`; on a CPU as this workdir's layouts say."""
    layout = here.known(run)
    if machine.kind != "cpu" or layout.platform != "cpu":
        layout = layouts.assumed(machine.kind, machine.devices)
        layout = dataclasses.replace(layout, scan_layers=here.deep(run))
    if run.precision != "auto":
        layout = dataclasses.replace(layout, precision=run.precision)
    return layout


def memory_there(machine: Hardware, layout: Layout) -> float:
    """Bytes that a device has; those of a CPU share the machine's."""
    if machine.kind == "cpu":
        return machine.memory * machine.devices / layout.devices
    return machine.memory


def _forecast(
    entry: Entry, machine: Hardware, steps: Steps, price: float | None
) -> Forecast:
    run = entry.run
    step, smallest, layout = steps.of(run)
    there = memory_there(machine, layout)
    seconds = step_seconds = money = None
    if not step.reason:
        step_seconds = packing.step_seconds(machine, layout, step, entry.cost)
        scoring = entry.cost["evaluation_flops"] / entry.cost["flops"]
        seconds = step_seconds * run.steps / layout.width * (1.0 + scoring)
        if price is not None:
            money = seconds / 3600 * machine.chips * price
    fits = packing.fits(step, there) if step.memory else None
    return Forecast(
        entry,
        machine,
        layout,
        step,
        there,
        fits,
        step_seconds,
        seconds,
        smallest,
        money,
    )


class Found(NamedTuple):
    """The step of a program's packs, the smallest slice that it fits, the layout."""

    step: Step
    smallest: str
    layout: Layout


class Steps:
    """The training steps of a study's programs, each compiled once in a child."""

    def __init__(
        self, study: StudyPlan, machine: Hardware, stop: Stop, progress: Progress
    ):
        self.study, self.machine, self.stop = study, machine, stop
        self.progress = progress
        self._folder = epath.Path(study.options.settings.data_dir) / "preflight"
        self._code = code_digest()
        self._mine = threading.local()
        self._children: list[Child] = []
        self._found: dict[Program, Found] = {}

    def of(self, run: Run) -> Found:
        return self._found[run.program()]

    def find(self, entries: Sequence[Entry], machines: int = 1) -> None:
        """Compiles what is not known yet, the programs with the most work first.

        Args:
          machines: like the target, over which the runs are spread.
        """
        groups: dict[Program, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(entry.run.program(), []).append(entry)
        ordered = sorted(groups.values(), key=lambda group: -group[0].run.model.size)
        most = _at_once(ordered, machines)
        with ThreadPoolExecutor(CHILDREN) as pool:
            try:
                steps = pool.map(lambda group: self._find(group, most), ordered)
                for group, found in zip(ordered, steps, strict=True):
                    self._found[group[0].run.program()] = found
                    self._show(group[0].run, len(ordered))
            finally:
                # Before the threads end: a child goes with the thread that began it.
                for child in self._children:
                    child.end()

    def _show(self, run: Run, programs: int) -> None:
        step, _, layout = self.of(run)
        compiled = f"{step.how} in {step.seconds:.1f} s, {layouts.words(layout)}"
        result = f"not compiled: {step.reason}" if step.reason else compiled
        name = ", ".join(describe(run).split(", ")[:1])
        count = f"[{len(self._found)}/{programs}]"
        self.progress.note(f"{count} {name} for {self.machine.name}: {result}")

    def _find(self, group: Sequence[Entry], most: Mapping[Program, int]) -> Found:
        run, machine = group[0].run, self.machine
        base = alone_there(run, machine, self.study.layouts)
        if machine.kind == "cpu":  # what is measured here, or assumed
            step, layout = self._step(run, machine, base), base
        else:
            step, layout = packing.chosen(
                run,
                group[0].cost,
                machine,
                base,
                most[run.program()],
                lambda layout: self._step(run, machine, layout),
            )
        return Found(step, self._smallest(run, step, layout), layout)

    def _smallest(self, run: Run, step: Step, layout: Layout) -> str:
        """The name of the smallest slice of the target's type that one run fits.

        All devices of a smaller slice together need no more than all of this one, so
        it is compiled for another slice only where that does not settle the question,
        nor is far from fitting there.
        """
        machine = self.machine
        fits_here = packing.fits(step, memory_there(machine, layout))
        if not step.memory:
            return ""
        share = layout.devices / layout.width  # devices of a run
        for other in hardware.slices(machine):
            if other.chips == machine.chips:
                if fits_here:
                    return other.name
                continue
            alone = dataclasses.replace(
                alone_there(run, other, self.study.layouts),
                remat=layout.remat,
                accumulate=layout.accumulate,
            )
            there, spread = memory_there(other, alone), share / other.devices
            together = other.devices * layout.accumulate
            if run.batch % together or step.state * spread > there:
                continue
            if other.chips < machine.chips:
                if not fits_here:
                    continue
                if step.memory * spread <= there:
                    return other.name
                if step.memory * spread > FAR * there:
                    continue
            elif step.memory * spread > there:
                continue
            if packing.fits(self._step(run, other, alone), there):
                return other.name
        return "none"

    def _step(self, run: Run, machine: Hardware, layout: Layout) -> Step:
        spec = self.study.spec(run)
        path = self._folder / f"{self._key(run, layout, spec, machine)}.json"
        if path.exists():
            return Step(**json.loads(path.read_text()))
        if self.stop:
            return Step(reason="stopped")
        request = {
            "do": "preflight",
            "run": run.to_json(),
            "spec": spec_to_json(spec),
            "layout": layout.to_json(),
            "target": machine.name,
        }
        try:
            child = self._child(layout)
            step = Step(**child.ask(request, seconds=TIMEOUT, grace=0.0))
        except Failed as error:  # too slow, out of memory, stopped: not the program's
            self._mine.child = None
            return Step(reason=error.message)
        if not step.reason or step.memory:
            write_atomic(path, json.dumps(dataclasses.asdict(step)).encode())
        return step

    def _child(self, layout: Layout) -> Child:
        """This thread's child; a new one after a failure."""
        if getattr(self._mine, "child", None) is None:
            settings, store = self.study.options.settings, self.study.store
            devices = layout.devices if layout.platform == "cpu" else 1
            self._mine.child = Child(settings, store, self.stop, devices)
            self._children.append(self._mine.child)
        return self._mine.child

    def _key(self, run: Run, layout: Layout, spec: Spec, machine: Hardware) -> str:
        body: Sequence[Any] = [
            self._code,
            _versions(),
            canonical(run.program()),
            layout.to_json(),
            spec,
            machine.name,
        ]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]


def _at_once(groups: Sequence[Sequence[Entry]], machines: int) -> dict[Program, int]:
    """By program: how many of its runs may be trained at once; as the queue has it."""
    waiting = [[e for e in g if e.state in ("left", "provisional")] for g in groups]
    loads = [sum(entry.cost["flops"] for entry in group) for group in waiting]
    everything = sum(loads)
    return {
        group[0].run.program(): at_once(len(left) or 1, load, everything, machines)
        for group, left, load in zip(groups, waiting, loads, strict=True)
    }


@functools.cache
def _versions() -> dict[str, str]:
    """Versions of the packages that compile, without importing them."""
    versions = {}
    for name in ("jax", "jaxlib", "flax", "optax", "libtpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
