"""What a workdir holds and what its journal says, read a little at a time."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from scaling import intact
from scaling.errors import UserError
from scaling.following.journal import FOLDER
from scaling.run import Run
from scaling.scheduling.progress import describe
from scaling.store import Store

RECORDS = 300  # that are read at a time, so that a large workdir shows early
NOTES = 50  # lines that are kept
BUCKET_SECONDS = 30.0  # between two listings of a bucket


@dataclasses.dataclass
class Followed:
    """A run.

    state: waiting, running, done, diverged or failed.
    rate: tokens/s of all that its machine trains; host: the machine.
    curve: [step, training loss].
    changed: the number of its last change.
    """

    words: str
    family: str
    state: str = "waiting"
    step: int = 0
    steps: int = 0
    loss: float | None = None
    rate: float = 0.0
    host: str = ""
    why: str = ""
    curve: list[tuple[int, float | None]] = dataclasses.field(default_factory=list)
    changed: int = 0


@dataclasses.dataclass
class Host:
    """A machine. running: ids; since: when the first of them began."""

    running: set[str] = dataclasses.field(default_factory=set)
    since: float = 0.0
    busy: float = 0.0
    heard: float = 0.0


class State:
    """A workdir that is followed.

    Raises:
      UserError: the folder holds no study.
    """

    def __init__(self, workdir: str):
        self.store = Store(workdir)
        self._remote = intact.is_remote(self.store.root)
        self.runs: dict[str, Followed] = {}
        self.hosts: dict[str, Host] = {}
        self.notes: list[tuple[float, str]] = []
        self.studies: list[str] = []
        self.number = 0  # of changes
        self._born = time.time()  # numbers of another State mean nothing here
        self._heard = 0.0  # the time of the last line
        self._left: float | None = None
        self._running = False
        self._offsets: dict[str, int] = {}
        self._stamps: dict[str, Any] = {}
        self._read: set[str] = set()  # ids whose record is known
        self._listed = -1e9
        if not self.store.studies():
            wrong = "; ".join(self.store.complaints())
            expected = "no study was run there; give the --workdir of a `scaling run`"
            raise UserError("workdir", workdir, wrong or expected)
        self._plan()
        self._attempts()

    # --- Reading ----------------------------------------------------------------

    def update(self) -> None:
        """Reads what has come since the last call."""
        now = time.monotonic()
        if self._remote and now - self._listed < BUCKET_SECONDS and self._all_read():
            return
        self._listed = now
        self._plan()
        for line in self._lines():
            self._line(line)
        self._records()

    def _plan(self) -> None:
        """The runs of the studies, where their files have changed."""
        folder = self.store.path("studies")
        if not self._remote:
            stamps = {e.name: e.stat().st_mtime_ns for e in os.scandir(folder)}
            if stamps == self._stamps:
                return
            self._stamps = stamps
        for name, body in self.store.studies().items():
            self.studies = sorted({*self.studies, name})
            for run_id in body["runs"]:
                if run_id not in self.runs:
                    self.runs[run_id] = _described(body.get("planned", {}).get(run_id))
                    self._touch(run_id)

    def _attempts(self) -> None:
        """What failed before there was a journal of it."""
        for attempt in self.store.attempts():
            if attempt.run_id in self.runs:
                self._ended(attempt.run_id, "failed", 0.0)
                run = self.runs[attempt.run_id]
                run.step, run.why = attempt.step, f"{attempt.cause}: {attempt.message}"

    def _records(self) -> None:
        """Runs whose end is in no journal."""
        new = [i for i in self.store.run_ids() - self._read if i in self.runs]
        for run_id in sorted(new)[:RECORDS]:
            self._read.add(run_id)
            run = self.runs[run_id]
            if run.state in ("done", "diverged"):
                continue
            try:
                record = self.store.read(run_id)
            except (ValueError, FileNotFoundError) as error:
                run.why = f"its record is not read: {error}"
                self._touch(run_id)
                continue
            self._ended(run_id, record.status, 0.0)
            run.step = run.steps = record.steps
            run.loss = record.readings[0].value if record.readings else None

    def _all_read(self) -> bool:
        done = sum(run.state in ("done", "diverged") for run in self.runs.values())
        return len(self._read) >= done

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        """The whole lines of the journal that were not read yet."""
        folder = self.store.path(FOLDER)
        if not folder.is_dir():
            return
        for name in sorted(path.name for path in folder.iterdir()):
            if not name.endswith(".jsonl"):
                continue
            begin = self._offsets.get(name, 0)
            if self._remote and begin:
                continue  # written whole
            text = self._text(name, begin)
            whole = text.rfind(b"\n") + 1
            self._offsets[name] = begin + whole
            for line in text[:whole].splitlines():
                try:
                    body = json.loads(line)
                except ValueError:  # a write that was cut off, and then gone on after
                    continue
                if isinstance(body, dict) and isinstance(body.get("t"), int | float):
                    yield body

    def _text(self, name: str, begin: int) -> bytes:
        path = self.store.path(FOLDER, name)
        if self._remote:
            return path.read_bytes()
        with open(path, "rb") as file:
            file.seek(begin)
            return file.read()

    # --- The journal's lines ------------------------------------------------------

    def _line(self, line: Mapping[str, Any]) -> None:
        now, kind, run_id = line["t"], line.get("kind"), line.get("run", "")
        self._heard = max(self._heard, now)
        if kind in ("began", "ended"):
            for i in [i for host in self.hosts.values() for i in host.running]:
                self._ended(i, "waiting", self._heard if kind == "ended" else 0.0)
            self._running = kind == "began"
        elif kind == "note":
            self.notes = [*self.notes, (now, str(line.get("why")))][-NOTES:]
        elif kind == "left":
            self._left = line.get("seconds")
        elif (run := self.runs.get(run_id)) is None:
            return  # of a study that is gone
        elif kind == "started":
            run.step, run.steps = line.get("step", 0), line.get("steps", 0)
            run.curve = [point for point in run.curve if point[0] <= run.step]
            self._started(run_id, str(line.get("host", "")), now)
        elif kind == "step":
            run.step, run.loss = line.get("step", 0), line.get("loss")
            run.rate = line.get("rate", 0.0)
            run.curve.append((run.step, run.loss))
            self._host(run_id, now)
        elif kind == "done":
            run.step, run.loss = line.get("step", run.step), line.get("loss")
            run.steps = run.steps or run.step
            self._ended(run_id, str(line.get("status", "done")), now)
        elif kind == "failed":
            self._ended(run_id, "failed", now)
            run.why = f"{line.get('cause')}: {line.get('why')}"

    def _started(self, run_id: str, host: str, now: float) -> None:
        run = self.runs[run_id]
        self._ended(run_id, "running", now)
        run.host, run.why = host, ""
        there = self.hosts.setdefault(host, Host())
        there.since = there.since if there.running else now
        there.running.add(run_id)
        there.heard = now

    def _host(self, run_id: str, now: float) -> None:
        if there := self.hosts.get(self.runs[run_id].host):
            there.heard = now
        self._touch(run_id)

    def _ended(self, run_id: str, state: str, now: float) -> None:
        """Its machine is free of it; `now` is 0 where nobody saw when that was."""
        run = self.runs[run_id]
        there = self.hosts.get(run.host)
        if there is not None and run_id in there.running:
            there.heard = max(there.heard, now)
            there.running.discard(run_id)
            if not there.running:
                there.busy += there.heard - there.since
        run.state = state
        self._touch(run_id)

    def _touch(self, run_id: str) -> None:
        self.number += 1
        self.runs[run_id].changed = self.number

    # --- What the page asks for -----------------------------------------------------

    def since(self, number: int) -> dict[str, Any]:
        """What changed after a number, all after 0; the totals; the next number."""
        runs = {
            run_id: dataclasses.asdict(run)
            for run_id, run in self.runs.items()
            if run.changed > number
        }
        counts = dict.fromkeys(("waiting", "running", "done", "diverged", "failed"), 0)
        for run in self.runs.values():
            counts[run.state] = counts.get(run.state, 0) + 1
        hosts = [self._machine(name, host) for name, host in self.hosts.items()]
        busy = sum(bool(host["running"]) for host in hosts)
        return {
            "number": self.number,
            "born": self._born,
            "studies": self.studies,
            "workdir": str(self.store.root),
            "counts": counts,
            "runs": runs,
            "machines": sorted(
                hosts, key=lambda host: (not host["running"], host["name"])
            ),
            "rate": sum(host["rate"] for host in hosts),
            "hours": sum(host["hours"] for host in hosts),
            "hours_left": None if self._left is None else self._left / 3600,
            "seconds_left": self._left / busy if self._left and busy else None,
            "heard": self._heard or None,
            "begun": self._running,
            "notes": self.notes,
        }

    def _machine(self, name: str, host: Host) -> dict[str, Any]:
        rates = [self.runs[i].rate for i in host.running if self.runs[i].rate]
        now = host.heard - host.since if host.running else 0.0
        return {
            "name": name,
            "running": len(host.running),
            "rate": sum(rates) / len(rates) if rates else 0.0,
            "hours": (host.busy + now) / 3600,
            "heard": host.heard,
        }


def _described(planned: Any) -> Followed:
    """A run as the study's file describes it."""
    try:
        run = Run.from_json(planned)
    except (TypeError, ValueError, KeyError, AttributeError):  # not as it was written
        return Followed("(not described in the study's file)", "")
    return Followed(describe(run), run.model.family, steps=run.steps)
