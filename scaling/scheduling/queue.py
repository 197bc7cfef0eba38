"""The queue of packs: which runs are trained next, and which are tried again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from scaling import trunks
from scaling.layout import Layout
from scaling.packs import Event, Machine, Pack, Place, Rates, Search
from scaling.run import Program, Run
from scaling.scheduling.layouts import Layouts
from scaling.scheduling.study_plan import Entry, StudyPlan

TRIES = 3  # attempts at a run without a newer checkpoint between them

# A plan is made again when records have come, but a long one takes at most this share
# of the time.
PLANNING = 0.05
QUICK = 0.5  # seconds; a plan that takes less is always made again


# Given what waits, a kind of machine and how many places there are: whether the runs of
# a program are cut into packs for several of them, or stay one pack (paper.py).
Cut = Callable[[Sequence[Entry], Machine, int], bool]


class _Group:
    """The runs of one program that wait for a place, the longest first.

    Attributes:
      bundles: by trunk, the runs that share it, by id; runs without one are alone.
      load: FLOPs of all of them.
    """

    def __init__(self) -> None:
        self.bundles: dict[str, dict[str, Entry]] = {}
        self.load = 0.0
        self.size = 0

    def add(self, entry: Entry, bundle: str) -> None:
        self.bundles.setdefault(bundle, {})[entry.run_id] = entry
        self.load += entry.cost["flops"]
        self.size += 1

    def remove(self, entry: Entry, bundle: str) -> None:
        del self.bundles[bundle][entry.run_id]
        if not self.bundles[bundle]:
            del self.bundles[bundle]
        self.load -= entry.cost["flops"]
        self.size -= 1

    def first(self) -> Entry:
        return next(iter(next(iter(self.bundles.values())).values()))

    def share(self, load: float, least: int) -> list[Entry]:
        """Whole bundles of at most so much `load`, but of no fewer runs than that."""
        given: list[Entry] = []
        total = 0.0
        for bundle in self.bundles.values():
            more = sum(entry.cost["flops"] for entry in bundle.values())
            if len(given) >= least and total + more > load:
                break
            given += bundle.values()
            total += more
        return given


@dataclasses.dataclass(frozen=True)
class _Again:
    """Runs that failed and are tried again in a pack of their own.

    layout: where memory was short on a `machine`, the smaller one to try there.
    """

    run_ids: tuple[str, ...]
    machine: Machine | None = None
    layout: Layout | None = None


class Queue:
    """Gives out packs until nothing is left that can be trained; see `packs.Packs`.

    Runs of one program make a pack. The program that a place has compiled continues
    there, so that each is compiled as rarely as possible; then comes the program with
    the most FLOPs left, so that a program which does not fit or is too slow shows
    early, and no large pack is left for the end. For one place a pack is everything
    left of the program; for several it is cut where `cut` says so, see `_share`.
    """

    def __init__(
        self,
        plan: StudyPlan,
        retry_oom: bool,
        cut: Cut = lambda waiting, machine, places: True,
    ):
        self.plan, self.progress, self._cut = plan, plan.progress, cut
        self.given_up: dict[str, str] = {}
        self._tries: dict[str, int] = {}
        self._step: dict[str, int] = {}
        self._again: list[_Again] = []
        self._failed: dict[str, Event] = {}
        self._done: set[str] = set()
        self._groups: dict[Program, _Group] = {}
        self._bundles: dict[str, str] = {}  # by run_id; see _Group
        self._taken: dict[str, Entry] = {}  # runs in packs that are given out
        self._given: dict[int, Place] = {}  # by the id of each such pack
        self._crashed: dict[str, str] = {}  # by run_id: the place of its last crash
        self._searched: set[tuple[Machine, str]] = set()
        # Layouts that do not work; training says why, run by run. What is fitted has
        # none, which says nothing about the programs that would share it.
        self._unmeasured: dict[tuple[Machine, Program], Layout] = {}
        self._stale = True  # the plan is older than some record
        self._planned_until = 0.0
        self._decided: tuple[int, bool] | None = None  # for so many places: cut?
        if not retry_oom:
            for attempt in plan.store.attempts():
                if attempt.cause == "out of memory" and attempt.together == 1:
                    self.given_up[attempt.run_id] = attempt.cause
                else:
                    self.given_up.pop(attempt.run_id, None)

    def __iter__(self) -> Iterator[Pack]:
        """Packs for this machine alone; layouts are measured on the way."""
        place = Place("here", self.plan.here)
        while (pack := self.take(place, 1, search=False)) is not None:
            assert isinstance(pack, Pack)
            yield pack
            self.ended(pack)

    def note(self, event: Event) -> None:
        """To be called with every event of the engine."""
        if event.kind == "failed":
            self._failed[event.run_id] = event
        elif event.kind == "done":
            self._done.add(event.run_id)
        self.progress(event)

    def take(
        self, place: Place, places: int, search: bool = True
    ) -> Pack | Search | None:
        """Work for a free place; None where there is none now.

        With nothing given out, None for two places, or for the only one, means that
        nothing is left. What crashed is tried again at another place than that of its
        last crash, so that one bad machine does not use up the tries of a run.

        Args:
          places: that there are now, busy ones included.
          search: give out the search for a layout; measure it here where false.
        """
        self._plan()
        elsewhere = self._crashed_at(place) if places > 1 else {}
        for entry in elsewhere.values():
            self._remove(entry)
        work = self._next(place, places, search, elsewhere.keys())
        for entry in elsewhere.values():
            self._put(entry)
        return work

    def _next(
        self, place: Place, places: int, search: bool, elsewhere: Collection[str]
    ) -> Pack | Search | None:
        """See `take`; the runs with the ids `elsewhere` are kept for other places."""
        if (pack := self._retried(place, elsewhere)) is not None:
            return self._give(pack, place)
        for program in self._ordered(place):
            work = self._work(program, place, places, search)
            if isinstance(work, Pack):
                return self._give(work, place)
            if work is not None:
                return work
        return None

    def _crashed_at(self, place: Place) -> dict[str, Entry]:
        """The runs that wait and crashed last at this place, by id."""
        crashed = [i for i, name in self._crashed.items() if name == place.name]
        entries = {run_id: self._waiting(run_id) for run_id in crashed}
        return {i: entry for i, entry in entries.items() if entry is not None}

    def ended(self, pack: Pack) -> None:
        """Decides what is tried again of a pack that is trained no more, and how."""
        place = self._given.pop(id(pack))
        entries = {run_id: self._taken.pop(run_id) for run_id in pack.run_ids}
        failed = {
            run_id: self._failed.pop(run_id)
            for run_id in pack.run_ids
            if run_id in self._failed
        }
        self._stale = True
        if not failed and not self._done & entries.keys():
            # Nothing was heard of any run: whether they ended is looked up.
            self._done |= {i for i in entries if self.plan.store.exists(i)}
        if any(event.cause == "out of memory" for event in failed.values()):
            self._give_less(pack, place.machine)
        else:
            self._count(failed, place)
        for run_id, entry in entries.items():
            if run_id not in self._done and run_id not in self.given_up:
                self._put(entry)

    def chosen(self, search: Search, place: Place, rates: Rates) -> None:
        """The outcome of a search; empty where it was cut off."""
        layouts = self.plan.layouts_of(place.machine)
        self._searched.discard((place.machine, layouts.key(search.run)))
        if rates:
            layout = layouts.learn(search.run, rates)
            if rates[-1][1] is None:
                self._unmeasured[place.machine, search.run.program()] = layout

    def _plan(self) -> None:
        """Plans anew where records have come since, unless that was just done."""
        started = time.monotonic()
        if not self._stale or (self._taken and started < self._planned_until):
            return
        waits = any(group.size for group in self._groups.values())
        if self.plan.settled and (waits or self._taken):
            return  # what ended is known, and no result changes what is left
        entries = self.plan.remember()
        self._show(entries)
        self._groups = {}
        for entry in sorted(entries, key=lambda entry: -entry.run.steps):
            if (
                entry.state == "left"
                and entry.run_id not in self.given_up
                and entry.run_id not in self._taken
            ):
                self._put(entry)
        self._stale = False
        now = time.monotonic()
        if now - started > QUICK:
            self._planned_until = now + (now - started) / PLANNING

    def _put(self, entry: Entry) -> None:
        group = self._groups.setdefault(entry.run.program(), _Group())
        if entry.run_id not in self._bundles:
            self._decided = None  # there is more to do than was known
            alone = trunks.fork(entry.run) == 0
            key = entry.run_id if alone else f"{hash(trunks.trunk(entry.run))}"
            self._bundles[entry.run_id] = key
        group.add(entry, self._bundles[entry.run_id])

    def _remove(self, entry: Entry) -> None:
        group = self._groups[entry.run.program()]
        group.remove(entry, self._bundles[entry.run_id])

    def _waiting(self, run_id: str) -> Entry | None:
        """The entry of a run that waits."""
        for group in self._groups.values():
            bundle = group.bundles.get(self._bundles.get(run_id, ""), {})
            if run_id in bundle:
                return bundle[run_id]
        return None

    def _ordered(self, place: Place) -> Iterator[Program]:
        """Programs in the order in which the place should train them."""
        self._groups = {p: group for p, group in self._groups.items() if group.size}
        if place.program in self._groups:
            yield place.program
        load = lambda program: self._groups[program].load
        if len(self._groups) > 1 or place.program not in self._groups:
            yield from sorted(self._groups, key=load, reverse=True)

    def _retried(self, place: Place, elsewhere: Collection[str]) -> Pack | None:
        """The next of the packs that are tried again."""
        for again in list(self._again):
            if all(run_id in elsewhere for run_id in again.run_ids):
                continue
            self._again.remove(again)
            left = [e for e in map(self._waiting, again.run_ids) if e is not None]
            if left:
                layouts = self.plan.layouts_of(place.machine)
                layout = again.layout if again.machine == place.machine else None
                run = left[0].run
                return _packed(left, layout or _as_asked(layouts.known(run), run))
        return None

    def _work(
        self, program: Program, place: Place, places: int, search: bool
    ) -> Pack | Search | None:
        """A pack of the program or the search for its layout, None while that runs."""
        group = self._groups[program]
        run = group.first().run  # the longest
        layouts = self.plan.layouts_of(place.machine)
        everything = sum(g.load for g in self._groups.values())
        together = at_once(group.size, group.load, everything, places)
        all_runs = sum(g.size for g in self._groups.values())
        runs = together, max(1, all_runs // places)
        if not search:
            layout = layouts.of(run, *runs)
        else:
            key = (place.machine, layouts.key(run))
            kept = layouts.kept(run)
            kept = kept or self._unmeasured.get((place.machine, program))
            if kept is None and key in self._searched:
                return None
            if kept is None:
                self._searched.add(key)
                choose = layouts.search(run, *runs)
                return Search(run, self.plan.spec(run), choose)
            layout = kept
        entries = self._share(group, layout.width, place.machine, places)
        pack = _packed(entries, _as_asked(layout, run))
        if places > 1:  # the next may go elsewhere
            return pack
        return dataclasses.replace(pack, ahead=self._ahead(program, layouts))

    def _share(
        self, group: _Group, width: int, machine: Machine, places: int
    ) -> list[Entry]:
        """The runs of a program that one of `places` is given.

        All for one place, or where programs are not cut. Else half of an equal share of
        all that waits, and at least as many as are trained at once: large packs first,
        smaller ones as less is left, so that fast and slow places end together (guided
        self-scheduling, Polychronopoulos & Kuck 1987). Runs that share a trunk stay
        together.
        """
        load = sum(g.load for g in self._groups.values())
        if not self._cuts(machine, places):
            return group.share(load, group.size)
        return group.share(load / (2 * places), width)

    def _cuts(self, machine: Machine, places: int) -> bool:
        """Whether programs are cut; decided again where places doubled or halved."""
        if places == 1:
            return False
        if self._decided is None or not (
            self._decided[0] < 2 * places and places < 2 * self._decided[0]
        ):
            groups = [g.bundles.values() for g in self._groups.values()]
            waiting = [e for bundles in groups for b in bundles for e in b.values()]
            self._decided = places, self._cut(waiting, machine, places)
        return self._decided[1]

    def _ahead(self, program: Program, layouts: Layouts) -> tuple[Run, Layout] | None:
        """The program that is likely next, to be compiled meanwhile."""
        others = [p for p in self._groups if p != program]
        if not others:
            return None
        after = self._groups[max(others, key=lambda p: self._groups[p].load)]
        run = after.first().run
        return run, _as_asked(layouts.known(run), run)

    def _give(self, pack: Pack, place: Place) -> Pack:
        program = pack.runs[0].program()
        pack = dataclasses.replace(pack, digests=self.plan.digests(pack.runs[0]))
        group = self._groups[program]
        for run_id in pack.run_ids:
            self._taken[run_id] = entry = group.bundles[self._bundles[run_id]][run_id]
            self._failed.pop(run_id, None)
            self._remove(entry)
        self._given[id(pack)] = place
        place.program = program
        return pack

    def _show(self, entries: Sequence[Entry]) -> None:
        certain = [entry for entry in entries if entry.state != "provisional"]
        self.progress.expect(
            {entry.run_id: entry.run for entry in certain},
            {entry.run_id: entry.cost["flops"] for entry in certain},
            {entry.run_id: entry.shared for entry in certain},
            [entry.run_id for entry in certain if entry.state != "left"],
            len(entries) - len(certain),
        )

    def _give_less(self, pack: Pack, machine: Machine) -> None:
        """After a lack of memory: half the pack, until a run is alone."""
        if len(pack.runs) == 1 and pack.layout.width == 1:
            self.given_up[pack.run_ids[0]] = "out of memory"
            return
        halves = [_Again(p.run_ids, machine, p.layout) for p in halve(pack)]
        self._again = halves + self._again

    def _count(self, failed: dict[str, Event], place: Place) -> None:
        """After crashes: a run is given up that got no further in three attempts.

        One that was lost with its machine is not to blame, and is not counted.
        """
        failed = {i: event for i, event in failed.items() if event.cause != "lost"}
        for run_id, event in failed.items():
            fresh = event.step > self._step.get(run_id, 0)
            self._tries[run_id] = 1 if fresh else self._tries.get(run_id, 0) + 1
            self._step[run_id] = event.step
            self._crashed[run_id] = place.name
            if self._tries[run_id] >= TRIES:
                self.given_up[run_id] = event.cause or "crash"
        if len(failed) > 1:  # each alone, so that one does not take the others along
            self._again += [_Again((run_id,)) for run_id in failed]


def at_once(runs: int, load: float, everything: float, places: int) -> int:
    """The most runs of a program to train at once, so that no place is left without.

    Those in an equal share of all that waits: a wider pack, though it trains more
    tokens a second, would end later than the other places.

    Args:
      runs, load: of the program; everything: the load of all programs.
    """
    if places == 1 or not load:
        return runs
    return max(1, min(runs, round(runs * everything / places / load)))


def _packed(entries: Sequence[Entry], layout: Layout) -> Pack:
    longest = sorted(entries, key=lambda entry: -entry.run.steps)
    runs = tuple(entry.run for entry in longest)
    return Pack(runs, tuple(entry.run_id for entry in longest), layout)


def _as_asked(layout: Layout, run: Run) -> Layout:
    """In the precision that the run names, if it names one."""
    if run.precision == "auto":
        return layout
    return dataclasses.replace(layout, precision=run.precision)


def halve(pack: Pack) -> list[Pack]:
    """Half the slots, and half the runs in each: what to try when memory was short."""
    width = max(1, pack.layout.width // 2)
    run = width if width < pack.layout.run else pack.layout.run
    layout = dataclasses.replace(pack.layout, width=width, run=run)
    middle = (len(pack.runs) + 1) // 2
    halves = (slice(0, middle), slice(middle, None))
    packs = [Pack(pack.runs[h], pack.run_ids[h], layout) for h in halves]
    return [part for part in packs if part.runs]
