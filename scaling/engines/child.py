"""Watches one child process: its replies, its memory use, and why it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from scaling.engines.stop import Stop
from scaling.errors import DiskError, UserError
from scaling.packs import CHECKPOINT_SECONDS, Event
from scaling.record import Cause
from scaling.store import Store

POLL_SECONDS = 0.1
STOP_SECONDS = 60.0  # for the checkpoint that a stopped child writes
LOG_TAIL_BYTES = 4000

Events = Callable[[Event], None]


class Failed(Exception):
    """The child could not carry out a request.

    died: it ended without a message, as a killed process does.
    """

    def __init__(
        self, cause: Cause, message: str, log_tail: str = "", died: bool = False
    ):
        super().__init__(message)
        self.cause, self.message, self.log_tail = cause, message, log_tail
        self.died = died


@dataclasses.dataclass(frozen=True)
class Settings:
    """How children are started.

    Attributes:
      data_dir: where prepared corpora are.
      shared: folder of a bucket through which hosts share them; "" for none.
      cache: JAX's persistent compilation cache.
      include: the user's own plug-in files.
      memory_limit_gb: resident memory (10^9 bytes) a child may use; 0 for no limit.
      checkpoint_seconds: between the checkpoints of unfinished runs.
      texts: where relative paths of texts start; the study file's folder.
      worker: module that `python -m` runs.
      platforms: that JAX may use, "" for all; see JAX_PLATFORMS.
      attempt: names this attempt's own checkpoints where another one may still write;
        "" where the workdir's lock keeps others away.
      coordinator, processes, process: HOST:PORT of the first of several processes that
        train the same runs, how many they are, and the number of this one.
    """

    data_dir: str
    cache: str
    include: tuple[str, ...] = ()
    memory_limit_gb: float = 0.0
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    texts: str = ""
    worker: str = "scaling.training.worker"
    platforms: str = ""
    attempt: str = ""
    shared: str = ""
    coordinator: str = ""
    processes: int = 1
    process: int = 0


class Child:
    """One child process, which is sent one request at a time and watched meanwhile."""

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
            "--texts": settings.texts,
            "--attempt": settings.attempt,
            "--coordinator": settings.coordinator,
            "--processes": str(settings.processes),
            "--process": str(settings.process),
        }
        flat = [text for option in options.items() for text in option]
        flat += [text for path in settings.include for text in ("--include", path)]
        environment = dict(os.environ)
        if settings.platforms:
            environment["JAX_PLATFORMS"] = settings.platforms
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", settings.worker, *flat],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(write_end,),
            )
        os.close(write_end)

    def ask(
        self,
        request: dict[str, Any],
        seconds: float = math.inf,
        grace: float = STOP_SECONDS,
    ) -> Any:
        """As `asked`, for a request that has no events: its reply."""
        asked = self.asked(request, seconds, grace)
        while True:
            try:
                next(asked)
            except StopIteration as end:
                return end.value

    def asked(
        self,
        request: dict[str, Any],
        seconds: float = math.inf,
        grace: float = STOP_SECONDS,
    ) -> Generator[Event, None, Any]:
        """Sends a request, yields events as they come, returns the reply.

        Args:
          seconds: how long the child may take; it is killed after that.
          grace: how long it may continue after a request to stop, to save its work.

        Raises:
          Failed: the child died or reported a failure.
          UserError: the child reported a mistake in the user's input.
        """
        self._send(request)
        late = time.monotonic() + seconds
        while True:
            if time.monotonic() > late and not self._killed_for:
                self._killed_for = Failed("crash", f"took longer than {seconds:g} s")
                self.process.kill()
            for message in self._messages():
                if "event" in message:
                    yield Event(**message["event"])
                elif "reply" in message:
                    return message["reply"]
                else:
                    raise self._reported(message["failed"])
            self._watch_memory()
            self._pass_stop_on(grace)

    def end(self) -> None:
        """Ends the process, by force if it does not exit by itself."""
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
        """New messages, after a short wait. Raises Failed where the child has ended."""
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
            return DiskError(body["disk"])
        return Failed(body["cause"], body["message"], self._log_tail())

    def _died(self) -> Failed:
        """Why the process ended."""
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
    """How many processes the kernel has killed for memory so far, 0 where unknown."""
    kills = 0
    for name in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        path = Path(name)
        if path.exists():
            lines = dict(line.split() for line in path.read_text().splitlines())
            kills += int(lines.get("oom_kill", 0))
    return kills
