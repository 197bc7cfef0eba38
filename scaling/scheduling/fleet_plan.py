"""How long a study takes on several machines, by the real queue and on paper.

The queue that gives packs to the machines of a fleet gives them to simulated ones here,
which take as long for each as the forecasts of its runs say. Nothing fails on paper.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

from scaling.layout import Layout
from scaling.packs import Event, Machine, Pack, Place
from scaling.planning.hardware import START
from scaling.run import Program, Run
from scaling.scheduling.preflight import Forecast
from scaling.scheduling.queue import Queue
from scaling.scheduling.study_plan import Entry, StudyPlan


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Packs on machines: seconds until the last one ends, and busy seconds of all."""

    seconds: float
    busy: float
    packs: int


@dataclasses.dataclass(frozen=True)
class Fleet:
    """What the runs that are left take on `machines` of the target.

    Attributes:
      scheduled: as the queue gives packs out; one: on a single machine; whole: with
        every program's runs in one pack, on one machine.
      compiling: seconds in `scheduled.busy` in which machines compile.
      hours: of all machines together, until the last run ends; cost: of their chips, at
        the price of a chip-hour, None without one.
      starting: the share of the training time in which operations start.
      runs: in it; left_out: that are left and not in it, as their program was not
        compiled or does not fit.
    """

    machines: int
    scheduled: Schedule
    one: Schedule
    whole: Schedule
    compiling: float
    hours: float
    cost: float | None
    starting: float
    runs: int
    left_out: int


def fleet(forecasts: Sequence[Forecast], machines: int, price: float | None) -> Fleet:
    """The plan of the runs that are left, on so many machines."""
    left = [f for f in forecasts if f.entry.state in ("left", "provisional")]
    known = [f for f in left if f.seconds is not None and f.fits is not False]
    scheduled = schedule(known, machines)
    hours = machines * scheduled.seconds / 3600
    chips = forecasts[0].machine.chips
    seconds = sum(f.seconds or 0.0 for f in known)
    starting = sum(_starting(f) * (f.seconds or 0.0) for f in known)
    bare = schedule(known, machines, compiling=False)
    return Fleet(
        machines=machines,
        scheduled=scheduled,
        one=schedule(known, 1),
        whole=schedule(known, machines, cut=False),
        compiling=scheduled.busy - bare.busy,
        hours=hours,
        cost=None if price is None else hours * chips * price,
        starting=starting / seconds if seconds else 0.0,
        runs=len(known),
        left_out=len(left) - len(known),
    )


def _starting(forecast: Forecast) -> float:
    """The share of a step in which operations start."""
    if forecast.step.host or not forecast.step_seconds:
        return 0.0
    start = START[forecast.machine.kind]
    return forecast.step.starts * start / forecast.step_seconds


def schedule(
    forecasts: Sequence[Forecast],
    machines: int,
    cut: bool = True,
    compiling: bool = True,
) -> Schedule:
    """When packs of these runs end on so many machines.

    Args:
      cut: whether runs of one program may be cut into packs for several machines.
      compiling: whether a machine that begins another program compiles it first, as
        long as it took here.
    """
    if not forecasts:
        return Schedule(0.0, 0.0, 0)
    paper = _Paper(forecasts)
    packs = Queue(cast(StudyPlan, paper), retry_oom=True)
    places = [Place(str(number), paper.here) for number in range(machines)]
    ends: list[tuple[float, int, Place, Pack]] = []
    order, now, busy, count = itertools.count(), 0.0, 0.0, 0
    while True:
        while places:
            before = places[-1].program
            pack = packs.take(places[-1], machines if cut else 1, search=False)
            if not isinstance(pack, Pack):  # nor is there any for the others
                break
            place, count = places.pop(), count + 1
            again = not compiling or before == place.program
            took = paper.seconds(pack) + (0.0 if again else paper.compiling(pack))
            heapq.heappush(ends, (now + took, next(order), place, pack))
            busy += took
        if not ends:
            return Schedule(now, busy, count)
        now, _, place, pack = heapq.heappop(ends)
        for run_id in pack.run_ids:
            packs.note(Event("done", run_id, status="done"))
        paper.done |= set(pack.run_ids)
        packs.ended(pack)
        places.append(place)


class _Paper:
    """What the queue asks of a plan, without a workdir.

    The runs that wait for results of others come once all others are done.
    """

    settled = True

    def __init__(self, forecasts: Sequence[Forecast]):
        self.of = {f.entry.run_id: f for f in forecasts}
        self.layouts = _Layouts({f.entry.run.program(): f.layout for f in forecasts})
        self.progress, self.done = _Nobody(), set[str]()
        there = forecasts[0].machine
        self.here = Machine(there.kind, there.devices, there.device)

    def layouts_of(self, machine: Machine) -> _Layouts:
        return self.layouts

    def remember(self) -> list[Entry]:
        entries = [f.entry for i, f in self.of.items() if i not in self.done]
        certain = [e for e in entries if e.state == "left"]
        return certain or [dataclasses.replace(e, state="left") for e in entries]

    def seconds(self, pack: Pack) -> float:
        """Each slot trains run after run, for as long as steps of the whole pack take.

        The steps of a shared trunk are trained once, with the longest of its runs.
        """
        slots = [0.0] * pack.layout.width
        for run_id in pack.run_ids:
            forecast = self.of[run_id]
            cost, run = forecast.entry.cost, forecast.entry.run
            scoring = cost["evaluation_flops"] / cost["flops"]
            steps = (run.steps - forecast.entry.shared) * (1.0 + scoring)
            each = forecast.step_seconds or 0.0
            heapq.heapreplace(slots, slots[0] + steps * each)
        return max(slots)

    def compiling(self, pack: Pack) -> float:
        step = self.of[pack.run_ids[0]].step
        return step.seconds if step.how == "compiled" else 0.0


class _Layouts:
    """The layouts of the forecasts, in the place of those that are measured."""

    def __init__(self, layouts: Mapping[Program, Layout]):
        self._layouts = layouts

    def known(self, run: Run) -> Layout:
        return self._layouts[run.program()]

    def of(self, run: Run, *_: int) -> Layout:
        return self.known(run)


class _Nobody:
    """Progress that nobody is shown."""

    def __call__(self, event: Event) -> None: ...

    def expect(self, *_: Any) -> None: ...
