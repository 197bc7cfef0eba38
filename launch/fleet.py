"""A fleet from nothing to nothing: asks for its machines, follows them, deletes them.

Every turn looks at what is there and takes the next step of each machine, so that it
does not matter what went before: where a launcher was killed, the next one goes on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from launch.budget import Budget
from launch.machines import Api, LaunchError, Lost, Refused, Seen, Want, note
from scaling import chaos

# Waits after the first and the last refusal in a row, in units of --poll_seconds.
BACKOFF, LONGEST = 1, 32
# Failures of one kind in a row after which a machine is not asked for again.
ASIDE = 3
# Looks without an answer that end `up`, where they come in a row, and `down`.
SILENT = 10
# Looks of `down` at what it deleted before it says that something stays, and those
# after which it asks again, as a request to delete may itself be lost.
LOOKS, AGAIN = 120, 10
# How a study may have ended, by its exit code; see `source.study_script`.
HOW = {
    0: "the study has ended",
    1: "the study has failed on every start (`scaling status` says what is missing)",
    2: "the study cannot run (see logs)",  # a mistake, which no machine mends
}

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Fleet:
    """A fleet's name and the services in which its things may be.

    Attributes:
      options: of the command line, which identify it in printed commands.
    """

    name: str
    options: str
    apis: tuple[Api, ...]

    @property
    def ending(self) -> str:
        return f"to delete all of it: scaling-launch down {self.options}"

    def look(self) -> list[Seen]:
        return [thing for api in self.apis for thing in api.find(self.name)]

    def api(self, name: str) -> Api:
        return next(api for api in self.apis if api.name == name)


@dataclasses.dataclass
class _Place:
    """What `up` knows of one machine that it wants."""

    api: Api
    want: Callable[[float], Want]  # for so many hours
    name: str
    hosts: int  # 0: the head, which the budget does not count
    shown: str = ""
    seen: bool = False  # since it was asked for last
    refusals: int = 0
    not_before: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    @property
    def aside(self) -> bool:
        """Whether it failed to start so often in the same way that it is given up."""
        last = self.failures[-ASIDE:]
        return len(last) == ASIDE and len(set(last)) == 1


class Word(Protocol):
    """What the machines of a fleet say, as `launch.bucket.Folder` reads it."""

    def begin(self) -> None:
        """No machine is there, and none has said anything."""

    def ended(self) -> int | None:
        """The exit code of the study, None while it runs."""

    def failures(self) -> dict[str, str]:
        """For each machine that could not start, what failed."""

    def forget(self, machine: str) -> None:
        """Removes what a machine said of a failure."""


class Up:
    """Keeps a fleet's machines running until its study has ended.

    Args:
      places: for each machine its service, name, number of hosts (0 for the head) and
        what to ask for, given its hours.
      word: what the machines say: how the study ended, and what failed on them.
      head_hours: after which the cloud deletes the head.
      wait_hours: how long to go on without one running worker.
    """

    def __init__(
        self,
        fleet: Fleet,
        places: Sequence[tuple[Api, str, int, Callable[[float], Want]]],
        budget: Budget,
        word: Word,
        *,
        head_hours: float,
        wait_hours: float,
        poll_seconds: float,
    ):
        self.fleet, self.budget, self.word = fleet, budget, word
        self.places = [_Place(a, w, n, h) for a, n, h, w in places]
        self.head_hours, self.wait_hours = head_hours, wait_hours
        self.poll = poll_seconds
        self.known: set[str] = set(budget.grants)

    def run(self) -> int:
        """Returns 0 once the study has ended well and everything is deleted.

        Raises:
          LaunchError: with the reason; what may exist is named in it.
        """
        with self._explained():
            seen = self._look()
            # The study may have ended on its machines while no launcher looked.
            if all(thing.state == "refused" for thing in seen):
                self._answered(self.word.begin)
            self._settle_old(seen)
            alone_since = time.monotonic()
            while True:
                code = self._answered(self.word.ended)
                if code is not None:
                    return self._finish(code)
                self.failed = self._answered(self.word.failures)
                self._delete(_first(self._strangers(seen)))
                states = [self._turn(place, seen) for place in self.places]
                workers = [
                    s for s, p in zip(states, self.places, strict=True) if p.hosts
                ]
                if "running" in workers:
                    alone_since = time.monotonic()
                if all(state in ("spent", "aside") for state in workers):
                    self._end(self._exhausted())
                if "aside" in states and self.places[states.index("aside")].hosts == 0:
                    self._end(f"no head: {self.places[0].failures[-1]}")
                if time.monotonic() - alone_since > 3600 * self.wait_hours:
                    self._end(
                        f"no machine was to be had for {self.wait_hours:g} hours "
                        "(--wait_hours)"
                    )
                time.sleep(self.poll)
                seen = self._look()

    def _look(self) -> list[Seen]:
        seen = self._answered(self.fleet.look)
        self.known |= {thing.machine for thing in seen}
        return seen

    def _answered(self, look: Callable[[], T]) -> T:
        """What there is to see; a look without an answer is taken again, SILENT times.

        One may be refused too: a cloud also has quotas of requests in a minute.
        """
        for number in range(SILENT):
            try:
                return look()
            except (Lost, Refused):
                if number + 1 == SILENT:
                    raise
                time.sleep(self.poll)
        raise AssertionError("the last look returns or raises")

    def _strangers(self, seen: Sequence[Seen]) -> list[Seen]:
        """What an earlier `up` asked for, with a larger --count."""
        wanted = {place.name for place in self.places}
        return [
            thing
            for thing in seen
            if thing.machine not in wanted and thing.state not in ("ending", "refused")
        ]

    def _settle_old(self, seen: Sequence[Seen]) -> None:
        """Counts the hours of machines that ended while no launcher looked."""
        there = {thing.machine for thing in seen}
        for machine in set(self.budget.grants) - there:
            self.budget.settle(machine)

    def _turn(self, place: _Place, seen: Sequence[Seen]) -> str:
        """Takes one step for a machine; returns its state."""
        things = [t for t in seen if t.machine == place.name]
        refused = [t for t in things if t.state == "refused"]
        main = [t for t in things if t.state not in ("part", "refused")]
        if refused:
            self._refuse(place, refused[0].why)
            return "refused"
        if not things:
            return self._absent(place)
        place.seen = True
        if main:
            self.budget.there(place.name)
        states = {t.state for t in main}
        self._show(place, main)
        if place.name in self.failed and "running" in states:
            self._fail(place)
            self._delete(main)
            return "ended"
        if "ended" in states:
            self._later(place)
            self._delete(main)
            return "ended"
        if not main:  # its parts alone: left by a launcher that was killed, or a delete
            self._delete(_first(things))
            return "ending"
        if "running" in states:
            place.refusals = 0
            if place.hosts and self.budget.over(place.name):
                note(f"{place.name}: its hours are used; deleting it")
                self._delete(main)
            return "running"
        # Of a slice whose hosts come one by one, those that run are billed.
        if "waiting" in states and not any(t.said == "running" for t in things):
            self.budget.waits(place.name)
        return next(iter(states))

    def _absent(self, place: _Place) -> str:
        if place.seen:  # it was there, and is gone
            place.seen = False
            self._show(place, ())
            self.budget.settle(place.name)
        if place.aside:
            return "aside"
        if time.monotonic() < place.not_before:
            return "later"
        hours = self.head_hours
        if place.hosts:
            without = sum(
                1 for p in self.places if p.hosts and p.name not in self.budget.grants
            )
            hours = self.budget.grant(place.name, place.hosts, max(1, without))
            if not hours:
                return "spent"
        chaos.point("launcher: hours granted")
        self.known.add(place.name)
        if place.name in self.failed:  # of its life before
            self._answered(lambda: self.word.forget(place.name))
        try:
            place.api.ask(place.want(hours))
        except Lost as error:  # it may have been made, as the next look says
            note(f"{place.name}: {error}")
            self._later(place)
            return "later"
        except Refused as error:
            self._refuse(place, str(error))
            return "refused"
        chaos.point("launcher: machine asked for")
        return "waiting"

    def _fail(self, place: _Place) -> None:
        """It could not start; what fails there in the same way is set aside."""
        place.failures.append(self.failed[place.name])
        self._answered(lambda: self.word.forget(place.name))
        again = "deleting it and asking again"
        if place.aside:
            again = f"set aside after {ASIDE} times the same"
        note(f"{place.name}: it could not start: {place.failures[-1]}; {again}")

    def _refuse(self, place: _Place, why: str) -> None:
        """It was not made: nothing was billed, and it is asked for again later."""
        self.budget.refused(place.name)
        seconds = self._later(place)
        note(f"{place.name}: refused: {why}; asking again in {seconds:.0f} s")

    def _later(self, place: _Place) -> float:
        if time.monotonic() < place.not_before:
            return place.not_before - time.monotonic()
        seconds = self.poll * min(LONGEST, BACKOFF * 2**place.refusals)
        place.refusals += 1
        place.not_before = time.monotonic() + seconds
        return seconds

    def _show(self, place: _Place, main: Sequence[Seen]) -> None:
        said = "; ".join(f"{t.said} ({t.why})" if t.why else t.said for t in main)
        if (said or "gone") != place.shown:
            place.shown = said or "gone"
            note(f"{place.name}: {place.shown}")

    def _delete(self, things: Sequence[Seen]) -> None:
        for thing in things:
            try:
                self.fleet.api(thing.api).delete(thing)
            except LaunchError as error:  # it is still there at the next look
                note(str(error))

    def _exhausted(self) -> str:
        aside = [p for p in self.places if p.aside]
        if aside:
            why = "; ".join(f"{p.name}: {p.failures[-1]}" for p in aside)
            return f"no machine is left: set aside: {why}"
        return f"the budget of {self.budget.total:g} machine-hours is used"

    def _finish(self, code: int) -> int:
        how = HOW.get(code, f"the study ended with exit code {code}")
        note(f"{self.fleet.name}: {how}; deleting its machines")
        self._down()
        return 0 if code == 0 else 1

    def _down(self) -> None:
        down(self.fleet, self.poll)
        for machine in list(self.budget.grants):
            self.budget.settle(machine)

    def _end(self, why: str) -> None:
        self._down()
        raise Gone(
            f"{self.fleet.name}: {why}: everything is deleted and nothing is billed; "
            "the same `up` goes on from the records"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Adds to any error and signal what may be billed and how to end it."""
        try:
            yield
        except (Gone, Left):
            raise
        except LaunchError as error:
            raise LaunchError(f"{error}{self._billed('; ')}") from error
        except BaseException:
            if text := self._billed(""):
                note(f"scaling-launch: {text}")
            raise

    def _billed(self, before: str) -> str:
        names = ", ".join(sorted(self.known))
        if not names:
            return ""
        return f"{before}these may exist and be billed: {names}; {self.fleet.ending}"


class Gone(LaunchError):
    """The fleet was given up and deleted: nothing is billed."""


class Left(LaunchError):
    """Something could not be deleted."""


def down(fleet: Fleet, poll_seconds: float) -> list[str]:
    """Deletes everything of a fleet; returns what there was.

    Raises:
      Left: what could not be deleted, or not looked for, and may be billed.
    """
    deleted: dict[tuple[str, str], int] = {}  # and the look at which it was last
    silent = 0
    for number in range(LOOKS):
        things, troubles, answered = _found(fleet)
        silent += not answered
        for thing in _first(things):
            key = (thing.kind, thing.name)
            if number - deleted.get(key, -AGAIN) < AGAIN:
                continue
            deleted[key] = number
            try:
                fleet.api(thing.api).delete(thing)
            except LaunchError as error:
                troubles[thing.name] = str(error)
            chaos.point("launcher: deletion asked for")
        if not things and (answered or silent >= SILENT):
            break
        time.sleep(poll_seconds)
    if things:
        names = ", ".join(f"{t.name} ({t.kind}, {t.said or t.state})" for t in things)
        troubles["left"] = f"these still exist and may be billed: {names}"
    if troubles:
        raise Left(f"{'; '.join(troubles.values())}; {fleet.ending}")
    return [f"{name} ({kind})" for kind, name in deleted]


def _found(fleet: Fleet) -> tuple[list[Seen], dict[str, str], bool]:
    """Everything of a fleet, and for each service that could not be asked the reason.

    Also whether all that may be asked have answered.
    """
    things: list[Seen] = []
    troubles, answered = {}, True
    for api in fleet.apis:
        try:
            things += [t for t in api.find(fleet.name) if t.state != "refused"]
        except LaunchError as error:
            troubles[api.name] = f"could not look in {api.name}: {error}"
            answered &= not isinstance(error, Lost)
    return things, troubles, answered


def _first(things: Sequence[Seen]) -> list[Seen]:
    """What can be deleted now: a group before its hosts, template and policy."""
    whole = {t.machine for t in things if not t.after}
    return [
        t for t in things if (t.machine not in whole if t.after else t.state != "part")
    ]
