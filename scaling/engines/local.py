"""The engine of one machine: one child process at a time carries out packs.

The child is kept from pack to pack, so that importing JAX and compiling are paid once;
it is replaced after a failure, or when the layout asks for more devices. This process
watches it: its memory, its end, and the signals that ask the study to stop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import os
import platform
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from scaling.engines import CHECKPOINT_SECONDS, Event, Pack
from scaling.errors import Ended, UserError
from scaling.layout import Layout
from scaling.record import Attempt, Cause, Store
from scaling.run import Run
from scaling.training.worker import pack_to_json

POLL_SECONDS = 0.1
STOP_SECONDS = 60.0  # for the checkpoint that a stopped child writes
LOG_TAIL_BYTES = 4000

Events = Callable[[Event], None]


def cores() -> int:
    """CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Failed(Exception):
    """The child could not carry out a request.

    died: it ended without a word, as a child does that somebody kills.
    """

    def __init__(
        self, cause: Cause, message: str, log_tail: str = "", died: bool = False
    ):
        super().__init__(message)
        self.cause, self.message, self.log_tail = cause, message, log_tail
        self.died = died


class Stop:
    """Catches SIGTERM and Ctrl-C: the first asks to stop, the second to stop now."""

    def __init__(self) -> None:
        self.signal = 0
        self.now = False
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.signal != 0

    def __enter__(self) -> Stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _caught(self, number: int, _: FrameType | None) -> None:
        self.now = self.signal != 0
        self.signal = self.signal or number
        if self._at_once:
            raise self.ended()

    def ended(self) -> Ended:
        """What a command that is stopped before it trains says."""
        return Ended("stopped; the same command goes on from here", 128 + self.signal)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """For long work of this process that has nothing to save.

        Raises:
          Ended: a signal has come, or comes meanwhile.
        """
        self._at_once = True
        try:
            if self:
                raise self.ended()
            yield
        finally:
            self._at_once = False


@dataclasses.dataclass(frozen=True)
class Settings:
    """How children are started.

    Attributes:
      data_dir: where prepared corpora are.
      cache: JAX's persistent compilation cache.
      include: the user's own plug-in files.
      memory_limit_gb: resident memory (10^9 bytes) a child may use; 0 for no limit.
      checkpoint_seconds: between the checkpoints of unfinished runs.
      worker: module that `python -m` runs.
    """

    data_dir: str
    cache: str
    include: tuple[str, ...] = ()
    memory_limit_gb: float = 0.0
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    worker: str = "scaling.training.worker"


class Local:
    """Trains packs in a child process. Use as a context manager: it ends the child."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        stop: Stop,
        note: Callable[[str], None] = lambda line: None,
    ):
        """Args: note: is given lines for the user."""
        self.settings, self.store, self.stop = settings, store, stop
        self.note = note
        self._child: Child | None = None
        # Of a CPU. They share its threads, so that more of them than a layout uses
        # change nothing for it, and no child is replaced to have them.
        self._devices = cores()

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_child()

    def pid(self) -> int:
        """Of the child; 0 while there is none."""
        return self._child.process.pid if self._child else 0

    def run(self, packs: Iterable[Pack], store: Store, events: Events) -> None:
        """Trains every pack; see `engines.Engine`. Returns early once `stop` is set."""
        assert store is self.store
        for pack in packs:
            if not self.stop:
                self._train(pack, events)
            if self.stop:
                return

    def probe(self) -> dict[str, Any]:
        """The child's "platform", number of "devices" and "kind" of device.

        Raises:
          Ended: the study is stopped, or the child failed.
        """
        try:
            return self._ask_again("looked for devices", {"do": "probe"})
        except Failed as error:
            line = f"the devices could not be looked for: {error.message}"
            raise Ended(line, 1) from error

    def describe(self, runs: Sequence[Run], vocab: int) -> list[dict[str, Any]]:
        """What each run costs: the fields of `cost.Cost`.

        Raises:
          UserError: a name, size or option that is wrong.
          Ended: the study is stopped, or the child failed.
        """
        listed = [run.to_json() for run in runs]
        request = {"do": "describe", "runs": listed, "vocab": vocab}
        try:
            return self._ask_again("described the runs", request)
        except Failed as error:
            line = f"the runs could not be described: {error.message}"
            raise Ended(line, 1) from error

    def measure(self, run: Run, vocab: int, layout: Layout) -> float | None:
        """Training tokens/s of full packs, None where the layout does not work.

        Raises:
          Ended: the study is stopped, or the child is killed again and again: that says
            nothing of the layout.
        """
        self._use(layout)
        request = {"do": "measure", "run": run.to_json(), "vocab": vocab}
        request["layout"] = layout.to_json()
        try:
            return self._ask_again("measured a layout", request)
        except Failed as error:
            if error.died:
                line = (
                    f"no layout could be measured (give one, --layout): {error.message}"
                )
                raise Ended(line, 1) from error
            return None

    def _ask_again(self, doing: str, request: dict[str, Any]) -> Any:
        """As `_ask`, for what leaves nothing to save: a stop ends it at once.

        A child that dies without a word may have been killed by mistake; a second one
        is asked.

        Raises:
          Ended: the study is stopped.
          Failed: both children died, or one said why it failed.
        """
        for last in (False, True):
            if self.stop:
                raise self.stop.ended()
            try:
                return self._ask(request, grace=0.0)
            except Failed as error:
                if self.stop:
                    raise self.stop.ended() from error
                if last or not error.died:
                    raise
                self.note(f"while it {doing}, {error.message}; another one is asked")
        raise AssertionError  # the second child has answered or failed

    def _ask(
        self,
        request: dict[str, Any],
        events: Events = lambda event: None,
        grace: float = STOP_SECONDS,
    ) -> Any:
        if self._child is None:
            self._child = Child(self.settings, self.store, self.stop, self._devices)
        try:
            return self._child.ask(request, events, grace=grace)
        except BaseException:
            self._end_child()
            raise

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _use(self, layout: Layout) -> None:
        """CPU devices are fixed when a child starts, those of accelerators for good."""
        if layout.platform == "cpu" and layout.devices > self._devices:
            self._end_child()
            self._devices = layout.devices

    def _train(self, pack: Pack, events: Events) -> None:
        started: set[str] = set()

        def watch(event: Event) -> None:
            if event.kind == "started":
                started.add(event.run_id)
            events(event)

        self._use(pack.layout)
        failure = Failed("crash", "the trainer returned without a record")
        try:
            request = {"do": "train", "pack": pack_to_json(pack)}
            if self._ask(request, watch)["stopped"]:
                failure = Failed("preemption", "asked to stop")
                self._end_child()
        except Failed as error:
            failure = error
        missing = [i for i in pack.run_ids if not self.store.exists(i)]
        # Runs that were not begun are not at fault, unless the pack never began.
        at_fault = [i for i in missing if i in started]
        if not at_fault and failure.cause != "preemption":
            at_fault = missing
        for run_id in at_fault:
            attempt = _attempt(self.store, run_id, pack, failure)
            self.store.add_attempt(attempt)
            events(
                Event(
                    "failed",
                    run_id,
                    step=attempt.step,
                    cause=failure.cause,
                    message=failure.message,
                )
            )


def _attempt(store: Store, run_id: str, pack: Pack, failure: Failed) -> Attempt:
    return Attempt(
        run_id=run_id,
        number=1 + sum(1 for _ in store.attempts(run_id)),
        cause=failure.cause,
        message=failure.message,
        log_tail=failure.log_tail,
        device=f"{pack.layout.platform} on {platform.node()}",
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        step=store.checkpoint_step(run_id),
        together=max(len(pack.runs), pack.layout.width),
    )


class Child:
    """One child process: asks it one thing at a time and watches it meanwhile."""

    def __init__(self, settings: Settings, store: Store, stop: Stop, devices: int):
        self.stop = stop
        self.limit = settings.memory_limit_gb * 1e9
        self.log = _log_path(store)
        self._buffer = b""
        self._killed_for: Failed | None = None
        self._asked_to_stop = 0.0
        self._kernel_kills = _kernel_kills()
        self._replies, write_end = os.pipe()
        options = {
            "--parent": str(os.getpid()),
            "--replies": str(write_end),
            "--workdir": os.fspath(store.root),
            "--data_dir": settings.data_dir,
            "--devices": str(devices),
            "--cache": settings.cache,
            "--checkpoint_seconds": str(settings.checkpoint_seconds),
        }
        flat = [text for option in options.items() for text in option]
        flat += [text for path in settings.include for text in ("--include", path)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", settings.worker, *flat],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(write_end,),
            )
        os.close(write_end)

    def ask(
        self,
        request: dict[str, Any],
        events: Events = lambda event: None,
        seconds: float = math.inf,
        grace: float = STOP_SECONDS,
    ) -> Any:
        """Sends a request, passes events on, returns the reply.

        Args:
          seconds: how long the child may take; it is killed after that.
          grace: how long it may go on once asked to stop, where it has work to save.

        Raises:
          Failed: the child died or reported a failure.
          UserError: what it reported is the user's to put right.
        """
        self._send(request)
        late = time.monotonic() + seconds
        while True:
            if time.monotonic() > late and not self._killed_for:
                self._killed_for = Failed("crash", f"took longer than {seconds:g} s")
                self.process.kill()
            for message in self._messages():
                if "event" in message:
                    events(Event(**message["event"]))
                elif "reply" in message:
                    return message["reply"]
                else:
                    raise self._reported(message["failed"])
            self._watch_memory()
            self._pass_stop_on(grace)

    def end(self) -> None:
        """Ends the process, by force if it does not go by itself."""
        self._send({"do": "stop"})
        try:
            self.process.wait(timeout=1.0 if self.stop.now else 10.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        os.close(self._replies)

    def _send(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; the end of its replies says so, and the log why

    def _messages(self) -> Iterator[dict[str, Any]]:
        """The messages there are, after a short wait. Raises Failed at their end."""
        ready, _, _ = select.select([self._replies], [], [], POLL_SECONDS)
        if not ready:
            return
        chunk = os.read(self._replies, 1 << 16)
        if not chunk:
            raise self._died()
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def _watch_memory(self) -> None:
        if self.limit and not self._killed_for:
            resident = resident_bytes(self.process.pid)
            if resident > self.limit:
                self._killed_for = Failed(
                    "out of memory",
                    f"used {resident / 1e9:.2f} GB of memory, above the limit of "
                    f"{self.limit / 1e9:g} GB",
                )
                self.process.kill()

    def _pass_stop_on(self, grace: float) -> None:
        if not self.stop:
            return
        if not self._asked_to_stop:
            self._asked_to_stop = time.monotonic()
            self.process.terminate()
        late = time.monotonic() - self._asked_to_stop > grace
        if (late or self.stop.now) and not self._killed_for:
            self._killed_for = Failed("preemption", "stopped before a checkpoint")
            self.process.kill()

    def _reported(self, body: dict[str, Any]) -> Exception:
        if "user" in body:
            return UserError(*body["user"])
        if "disk" in body:
            return disk_error(body["disk"])
        return Failed(body["cause"], body["message"], self._log_tail())

    def _died(self) -> Failed:
        """Why the process is no more."""
        code = self.process.wait()
        tail = self._log_tail()
        if self._killed_for:
            cause, message = self._killed_for.cause, self._killed_for.message
            return Failed(cause, message, tail)
        if code == -signal.SIGKILL and _kernel_kills() > self._kernel_kills:
            return Failed("out of memory", "killed by the kernel for memory", tail)
        if re.search("bad_alloc|RESOURCE_EXHAUSTED", tail):
            return Failed("out of memory", "ended when no memory was left", tail)
        if -code in (signal.SIGTERM, signal.SIGINT):  # before it could catch them
            name = signal.Signals(-code).name
            return Failed("preemption", f"the child was ended by {name}", tail, True)
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        message = f"the child ended with {ended}; log: {self.log}"
        return Failed("crash", message, tail, True)

    def _log_tail(self) -> str:
        with open(self.log, "rb") as file:
            file.seek(max(0, os.path.getsize(self.log) - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")


def disk_error(message: str) -> UserError:
    """The one line for a disk that is full or not to be written."""
    return UserError(
        "workdir or data_dir",
        message,
        "it could not be written: free space there or choose another folder, then run "
        "the same command again; finished runs are kept",
    )


def _log_path(store: Store) -> Path:
    """A new log file; a remote workdir's logs stay on this machine."""
    root = os.fspath(store.root)
    folder = Path(tempfile.mkdtemp()) if "://" in root else Path(root) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return (
        folder / f"child-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6}.log"
    )


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, 0 where it is gone."""
    try:
        if sys.platform == "linux":
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        listed = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True
        )
        return 1024 * int(listed.stdout or 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _kernel_kills() -> int:
    """Processes the kernel has killed for memory so far, as far as it says."""
    found = 0
    for name in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        path = Path(name)
        if path.exists():
            lines = dict(line.split() for line in path.read_text().splitlines())
            found += int(lines.get("oom_kill", 0))
    return found
