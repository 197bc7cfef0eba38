"""Many machines: gives a pack to each that is free, and decides what became of it.

How work reaches a machine and what it says is the affair of a `Cluster`; engines/ray.py
is one, and a simulation in the tests another. Here is what is the same for all: which
machine is of which kind, what is tried again, and when there is nothing left to do.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

from scaling import chaos
from scaling.engines.child import STOP_SECONDS, Failed
from scaling.engines.local import Local, failed
from scaling.engines.stop import Stop
from scaling.errors import Ended, UserError
from scaling.families import Spec
from scaling.packs import Event, Machine, Pack, Packs, Place, Search
from scaling.record import Cause
from scaling.run import Run
from scaling.store import Store

LOOK_SECONDS = 2.0  # between two looks at which machines are there
SAY_SECONDS = 60.0  # for which no machine may be there before that is said
FAULTS = 3  # in a row, after which a machine is set aside


@dataclasses.dataclass(frozen=True)
class Probe:
    """The work of saying what devices a machine has."""


@dataclasses.dataclass(eq=False)
class Job:
    """Work on one machine, and what is known of it.

    started, done: ids of runs.
    """

    host: str
    work: Pack | Search | Probe
    started: set[str] = dataclasses.field(default_factory=set)
    done: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass(frozen=True)
class Result:
    """The work was carried out: the reply to a probe, the rates of a search."""

    value: Any = None


@dataclasses.dataclass(frozen=True)
class Gone:
    """The work was cut off; `lost` with its machine, or only with its process."""

    message: str
    lost: bool = False


Said = Event | Result | Gone | UserError


class Cluster(Protocol):
    """Machines that come and go."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def hosts(self) -> Mapping[str, str]:
        """The machines that are there: what their kind has in common, by name."""
        ...

    def start(self, job: Job) -> None:
        """Begins a job on its host, which has no other."""
        ...

    def wait(self, seconds: float) -> Iterable[tuple[Job, Said]]:
        """What jobs said since the last call; waits so long for the first word.

        After a Result, Gone or UserError the job is over.
        """
        ...

    def ask_to_stop(self) -> None:
        """Asks all jobs to save their work and to end."""
        ...


@dataclasses.dataclass(eq=False)
class _Host:
    """A machine.

    number: in the order in which they joined.
    faults: jobs in a row that were cut off there while the machine stayed. useful:
    whether the last one was not. What goes wrong in the child is the run's affair.
    """

    kind: str
    number: int
    place: Place | None = None
    job: Job | None = None
    faults: int = 0
    useful: bool = False


class Fleet:
    """Trains packs on the machines of a cluster. Use as a context manager."""

    def __init__(
        self,
        cluster: Cluster,
        here: Local,
        store: Store,
        stop: Stop,
        note: Callable[[str], None] = lambda line: None,
    ):
        """Args:
        here: this machine, for what needs no accelerator.
        note: is given lines for the user.
        """
        self.cluster, self.here, self.store = cluster, here, store
        self.stop, self.note = stop, note
        self._hosts: dict[str, _Host] = {}
        # Without a job, by kind: a heap by faults and by when they joined. With
        # thousands of machines a look at each after every event would take most time.
        self._free: dict[str, list[tuple[int, int, str]]] = {}
        self._joined = itertools.count()
        self._jobs: set[Job] = set()
        self._machines: dict[str, Machine] = {}  # by what a kind has in common
        self._probed: set[str] = set()  # kinds for which that is under way
        self._aside: set[str] = set()
        self._looked = self._seen = -1e9
        self._last: Place | None = None  # that was given work

    def __enter__(self) -> Fleet:
        self.here.__enter__()
        self.cluster.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.cluster.__exit__(*error)
        self.here.__exit__(*error)

    # --- What a plan asks -------------------------------------------------------

    def probe(self) -> dict[str, Any]:
        """The devices of the first machine that is there; waits for one.

        Raises:
          Ended: the study is stopped, or the devices cannot be listed.
        """
        while not self._machines:
            if self.stop:
                raise self.stop.ended()
            self._look()
            self._give_out(None)
            self._listen(None, lambda event: None)
        return dataclasses.asdict(next(iter(self._machines.values())))

    def describe(
        self, runs: Sequence[Run], specs: Sequence[Spec]
    ) -> list[dict[str, Any]]:
        """What each run costs, found on this machine; see `Local.describe`."""
        return self.here.describe(runs, specs)

    # --- Training ---------------------------------------------------------------

    def run(self, packs: Packs, store: Store, events: Callable[[Event], None]) -> None:
        """Trains every pack; see `engines.Engine`. Returns early once `stop` is set."""
        assert store is self.store
        while not self.stop:
            self._look()
            idle = self._give_out(packs)
            if not self._jobs and (idle or self._nothing_left(packs)):
                return
            self._listen(packs, events)
        self._wind_up(packs, events)

    def _listen(self, packs: Packs | None, events: Callable[[Event], None]) -> None:
        for job, said in self.cluster.wait(1.0):
            self._hear(job, said, packs, events)

    def _look(self) -> None:
        """Takes note of the machines that came and went."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked, there = now, self.cluster.hosts()
        for name in [n for n in there if n not in self._hosts]:
            if name not in self._aside:
                self._hosts[name] = _Host(there[name], next(self._joined))
                self._set_free(name)
        for name in [n for n in self._hosts if n not in there]:
            if self._hosts[name].job is None:  # else its job says so first
                del self._hosts[name]
        if self._hosts:
            self._seen = now
        elif now - self._seen > SAY_SECONDS:
            self._seen = now
            self.note("no machine is in the cluster now: waiting for one")

    def _give_out(self, packs: Packs | None) -> bool:
        """Work for every machine that is free; whether some found none."""
        nothing = False
        for kind, free in self._free.items():
            without: list[tuple[int, int, str]] = []
            while free and len(without) < 2:  # for two, there is none for the others
                _, number, name = free[0]
                host = self._hosts.get(name)
                if host is not None and host.number == number:
                    work = self._work_for(name, host, packs)
                    if work is None:
                        without.append(free[0])
                    else:
                        self._begin(host, Job(name, work))
                heapq.heappop(free)
            for item in without:
                heapq.heappush(free, item)
            nothing |= bool(without) and kind in self._machines
        return nothing

    def _begin(self, host: _Host, job: Job) -> None:
        host.job, self._last = job, host.place or self._last
        self._jobs.add(job)
        self.cluster.start(job)
        chaos.point("command: pack given")

    def _work_for(
        self, name: str, host: _Host, packs: Packs | None
    ) -> Pack | Search | Probe | None:
        machine = self._machines.get(host.kind)
        if machine is None:
            if host.kind in self._probed:
                return None
            self._probed.add(host.kind)
            return Probe()
        host.place = host.place or Place(name, machine)
        return None if packs is None else packs.take(host.place, len(self._hosts))

    def _set_free(self, name: str) -> None:
        host = self._hosts[name]
        free = self._free.setdefault(host.kind, [])
        heapq.heappush(free, (host.faults, host.number, name))

    def _hear(
        self,
        job: Job,
        said: Said,
        packs: Packs | None,
        events: Callable[[Event], None],
    ) -> None:
        if isinstance(said, Event):
            if said.kind == "started":
                job.started.add(said.run_id)
            elif said.kind == "done":
                job.done.add(said.run_id)
            elif said.cause == "preemption" and not self.stop:
                said = dataclasses.replace(said, cause="lost")  # the machine is going
            events(dataclasses.replace(said, host=job.host))
            return
        host = self._hosts[job.host]
        host.job = None
        self._jobs.discard(job)
        if isinstance(job.work, Pack):
            assert packs is not None
            if isinstance(said, Gone):
                self._blame(job, job.work, said, events)
            chaos.point("command: pack ended")
            packs.ended(job.work)
        elif isinstance(job.work, Search):
            assert packs is not None and host.place is not None
            rates = said.value if isinstance(said, Result) else []
            packs.chosen(job.work, host.place, rates)
        elif isinstance(said, Result):
            self._machines[host.kind] = Machine(**said.value)
        else:
            self._probed.discard(host.kind)
        if isinstance(said, UserError):
            raise said
        self._judge(job, host, said)
        if job.host in self._hosts:
            self._set_free(job.host)

    def _blame(
        self, job: Job, pack: Pack, gone: Gone, events: Callable[[Event], None]
    ) -> None:
        """Keeps an attempt for each run that was cut off."""
        cause: Cause = "lost" if gone.lost else "crash"
        failure = Failed(cause, gone.message)
        left = [i for i in pack.run_ids if i not in job.done]
        missing = [i for i in left if not self.store.exists(i)]
        for run_id in set(left) - set(missing):  # it had no time to say so
            events(Event("done", run_id, status="done"))
        at_fault = [i for i in missing if i in job.started]
        if not at_fault and not gone.lost:
            at_fault = missing
        for run_id in at_fault:
            events(failed(self.store, run_id, pack, failure))

    def _judge(self, job: Job, host: _Host, said: Result | Gone) -> None:
        """Sets a machine aside where jobs are cut off that are not on another one."""
        if isinstance(said, Gone) and said.lost:
            self.note(f"{job.host} is lost: {said.message.partition('. ')[0]}")
            self._aside.add(job.host)  # what joins again has another name
            del self._hosts[job.host]
            return
        if isinstance(said, Result):
            host.faults, host.useful = 0, True
            return
        host.faults, host.useful = host.faults + 1, False
        if host.faults < FAULTS:
            return
        if any(other.useful for other in self._hosts.values()):
            self.note(f"{job.host} is set aside: {FAULTS} times, {said.message}")
            self._aside.add(job.host)
            del self._hosts[job.host]
        elif not isinstance(job.work, Pack) and self._all_at_fault():
            raise Ended(f"no machine is of use: {said.message}", 1)

    def _all_at_fault(self) -> bool:
        return all(host.faults >= FAULTS for host in self._hosts.values())

    # --- The end ----------------------------------------------------------------

    def _nothing_left(self, packs: Packs) -> bool:
        """Whether there would be no work if a machine were there; with none there."""
        if self._hosts or self._last is None:
            return False
        place, self._last = self._last, None  # asked once
        work = packs.take(place, 1)
        if isinstance(work, Pack):
            packs.ended(work)
        elif work is not None:
            packs.chosen(work, place, [])
        return work is None

    def _wind_up(self, packs: Packs, events: Callable[[Event], None]) -> None:
        """Waits for what the jobs save, after a request to stop."""
        self.cluster.ask_to_stop()
        late = time.monotonic() + STOP_SECONDS + 30.0
        while self._jobs and not self.stop.now and time.monotonic() < late:
            for job, said in self.cluster.wait(1.0):
                self._hear(job, said, packs, events)
