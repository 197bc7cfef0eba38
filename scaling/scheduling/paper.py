"""The real queue on paper: packs on simulated machines, on which nothing fails.

A plan asks it how long a study takes on several machines, and the queue itself whether
the runs of a program are cut into packs for several of them: that gives a machine work
that would have none, but each machine that begins a program compiles it first.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

from scaling.layout import Layout
from scaling.packs import Event, Machine, Pack, Place
from scaling.planning import estimates
from scaling.run import Program, Run
from scaling.scheduling.progress import timed
from scaling.scheduling.queue import Queue
from scaling.scheduling.study_plan import Entry, StudyPlan

HERE = Machine("paper", 1, "paper")


@dataclasses.dataclass(frozen=True)
class Work:
    """A run that is left, as far as its time matters.

    Attributes:
      seconds: its share of the time of the packs that it trains in.
      compiling: seconds that a machine takes to compile its program.
    """

    entry: Entry
    layout: Layout
    seconds: float
    compiling: float = 0.0


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Packs on machines: seconds until the last one ends, and busy seconds of all."""

    seconds: float
    busy: float
    packs: int


def schedule(
    left: Sequence[Work], machines: int, cut: bool = True, compiling: bool = True
) -> Schedule:
    """When packs of these runs end on so many machines.

    Args:
      cut: whether the runs of one program are cut into packs for several machines.
      compiling: whether a machine that begins another program compiles it first.
    """
    if not left:
        return Schedule(0.0, 0.0, 0)
    paper = Paper(left)
    packs = Queue(cast(StudyPlan, paper), True, lambda waiting, machine, places: cut)
    return played(packs, paper, machines, compiling)


def played(
    packs: Queue, paper: Paper, machines: int, compiling: bool = True
) -> Schedule:
    """What becomes of a queue's packs, where they take as long as `paper` says."""
    here = packs.plan.here
    places = [Place(str(number), here) for number in range(machines)]
    ends: list[tuple[float, int, Place, Pack]] = []
    order, now, busy, count = itertools.count(), 0.0, 0.0, 0
    while True:
        while places:
            before = places[-1].program
            pack = packs.take(places[-1], machines, search=False)
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


@dataclasses.dataclass(frozen=True)
class Both:
    """The two ways to give out packs.

    Attributes:
      cut: with the runs of a program in packs for several machines.
      whole: with those of each program in one pack.
    """

    cut: Schedule
    whole: Schedule

    @classmethod
    def of(cls, left: Sequence[Work], machines: int) -> Both:
        return cls(schedule(left, machines), schedule(left, machines, cut=False))

    @property
    def cuts(self) -> bool:
        """Whether the queue cuts: where that ends the study no later."""
        return self.cut.seconds <= self.whole.seconds

    def words(self) -> str:
        """Which of them the queue takes, and what the other one would cost."""
        later = timed(abs(self.whole.seconds - self.cut.seconds))
        if not self.cuts:
            return (
                "the runs of each program are one pack: cut into packs for several "
                f"machines they would end the study {later} later"
            )
        said = "runs of one program are cut into packs for several machines: "
        if self.cut.seconds == self.whole.seconds:
            return said + "one pack a program would end it at the same time"
        return said + f"with one pack a program the study would end {later} later"


class Rule:
    """Decides for a queue whether it cuts; see `queue.Cut`.

    What a plan for such machines has kept in the workdir (`scaling plan --target`) says
    how long each run and each program's compilation take. A run that it did not know,
    such as one whose rate was chosen since, takes its time by the FLOPs of another one
    of the program. Without a plan, a run takes as long as is guessed, and that it costs
    to compile a program is not known.
    """

    def __init__(self, plan: StudyPlan):
        self.plan = plan
        self._kept: dict[str, dict[str, dict[str, Any]]] | None = None
        # Of each kind of machine: by program, one of its runs, as the plan knew it.
        self._known: dict[tuple[Machine, Program], Work] = {}

    def __call__(self, left: Sequence[Entry], machine: Machine, places: int) -> bool:
        if self._kept is None:
            self._kept = estimates.read(self.plan.store)
        for entry in left:
            if (planned := self._planned(entry, machine)) is not None:
                self._known.setdefault((machine, entry.run.program()), planned)
        work = [self._work(entry, machine) for entry in left]
        # Beginning a program elsewhere costs nothing as far as is known.
        if not any(run.compiling for run in work):
            return True
        both = Both.of(work, places)
        self.plan.progress.note(both.words())
        return both.cuts

    def _planned(self, entry: Entry, machine: Machine) -> Work | None:
        """A run as a plan for such machines has it."""
        assert self._kept is not None
        layouts = self.plan.layouts_of(machine)
        layout = layouts.known(entry.run)
        for kept in self._kept.get(entry.run_id, {}).values():
            if kept["seconds"] and estimates.is_for(
                kept, machine.kind, machine.devices
            ):
                if layouts.kept(entry.run) is None:  # the plan's, until it is measured
                    width = int(kept.get("width") or layout.width)
                    layout = dataclasses.replace(layout, width=width)
                seconds, compiling = kept["seconds"], kept.get("compiling") or 0.0
                return Work(entry, layout, seconds, compiling)
        return None

    def _work(self, entry: Entry, machine: Machine) -> Work:
        if (planned := self._planned(entry, machine)) is not None:
            return planned
        like = self._known.get((machine, entry.run.program()))
        if like is None:
            layout = self.plan.layouts_of(machine).known(entry.run)
            return Work(entry, layout, entry.seconds)
        share = entry.cost["flops"] / like.entry.cost["flops"]
        return dataclasses.replace(like, entry=entry, seconds=like.seconds * share)


class Paper:
    """What the queue asks of a plan, without a workdir.

    The runs that wait for results of others come once all others are done.
    """

    settled = True

    def __init__(self, left: Sequence[Work]):
        self.of = {work.entry.run_id: work for work in left}
        self.layouts = _Layouts({w.entry.run.program(): w.layout for w in left})
        self.progress, self.done = Nobody(), set[str]()
        self.here = HERE

    def layouts_of(self, machine: Machine) -> _Layouts:
        return self.layouts

    def remember(self) -> list[Entry]:
        entries = [w.entry for i, w in self.of.items() if i not in self.done]
        certain = [e for e in entries if e.state == "left"]
        return certain or [dataclasses.replace(e, state="left") for e in entries]

    def digests(self, run: Run) -> Mapping[str, str]:
        return {}

    def seconds(self, pack: Pack) -> float:
        """Each slot trains run after run, for as long as steps of the whole pack take.

        The steps of a shared trunk are trained once, with the longest of its runs.
        """
        slots = [0.0] * pack.layout.width
        for run_id in pack.run_ids:
            work = self.of[run_id]
            own = 1.0 - work.entry.shared / work.entry.run.steps
            each = work.seconds * pack.layout.width * own
            heapq.heapreplace(slots, slots[0] + each)
        return max(slots)

    def compiling(self, pack: Pack) -> float:
        return self.of[pack.run_ids[0]].compiling


class _Layouts:
    """The layouts of the work, in the place of those that are measured."""

    def __init__(self, layouts: Mapping[Program, Layout]):
        self._layouts = layouts

    def known(self, run: Run) -> Layout:
        return self._layouts[run.program()]

    def of(self, run: Run, *_: int) -> Layout:
        return self.known(run)


class Nobody:
    """Progress that nobody is shown."""

    def __call__(self, event: Event) -> None: ...

    def expect(self, *_: Any) -> None: ...
