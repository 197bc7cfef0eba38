"""Locks a workdir, so that one study at a time trains in it.

On a disk the kernel holds the lock and releases it when the process ends. A bucket has
no locks, but it can create an object on the condition that none of that name exists
(gs://: x-goog-if-generation-match 0), so that exactly one of several starts succeeds.

    lock/000007.json     who holds the workdir: host, process, when it started

The highest number counts. Its holder rewrites it every BEAT_SECONDS. A lock that was
not rewritten for STALE_SECONDS, or whose process has ended on this machine, has
expired: whoever creates the next number holds the workdir. A released lock is marked
free and stays, so that a start which read an older number cannot create a number that
was used before.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import signal
import stat
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from scaling.address import absolute, unanswered
from scaling.errors import DiskError, UserError
from scaling.store import Store
from scaling.writing import write_atomic, write_once

BEAT_SECONDS = 15.0
STALE_SECONDS = 120.0
KEPT = 20  # older locks that are kept beside the newest


@contextlib.contextmanager
def locked(workdir: str) -> Iterator[None]:
    """Keeps a second study off the workdir.

    Raises:
      UserError: another one is there, or the workdir cannot be written.
    """
    workdir = absolute(workdir)
    with _in_bucket(workdir) if "://" in workdir else _on_disk(workdir):
        yield


# --- On a disk ------------------------------------------------------------------


@contextlib.contextmanager
def _on_disk(workdir: str) -> Iterator[None]:
    path = Path(workdir) / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise DiskError(str(error)) from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise UserError("workdir", str(path), "is no plain file: remove it")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(file, 100).decode(errors="replace").strip()
            raise _busy(workdir, f"process {holder}") from error
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(file)


def _busy(workdir: str, who: str) -> UserError:
    text = f"{who} is running a study there; wait for it or stop it"
    return UserError("workdir", workdir, text)


# --- In a bucket ------------------------------------------------------------------


@contextlib.contextmanager
def _in_bucket(workdir: str) -> Iterator[None]:
    folder = Store(workdir).path("lock")
    number = _newest(folder)
    if number and (holder := _holder(folder, number)):
        raise _busy(workdir, holder)
    lock = folder / _name(number + 1)
    if not write_once(lock, _body()):
        raise _busy(workdir, "a command that has just started")
    for old in range(1, number + 1 - KEPT):
        (folder / _name(old)).unlink(missing_ok=True)
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(lock, ended), daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        write_atomic(lock, _body(free=True))


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _newest(folder: epath.Path) -> int:
    """The highest number; 0 where there is none."""
    names = (path.stem for path in folder.iterdir()) if folder.is_dir() else ()
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _body(free: bool = False) -> bytes:
    pid = os.getpid()
    body = {"host": platform.node(), "pid": pid, "start": _start(pid), "free": free}
    only = {"of": uuid.uuid4().hex}  # no two are equal, see `write_once`
    return json.dumps(body | only).encode()


def _start(pid: int) -> str:
    """When a process of this machine began, in the kernel's ticks; "" if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19]


def _holder(folder: epath.Path, number: int) -> str:
    """Who holds the newest number; "" where it is free or its holder is gone."""
    path = folder / _name(number)
    try:
        body: dict[str, Any] = json.loads(path.read_text())
        host, pid, start = body["host"], int(body["pid"]), body["start"]
        free = bool(body["free"])
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError):  # no lock that this code has written
        host, pid, start, free = "an unknown machine", 0, "", False
    if free:
        return ""
    if host == platform.node():
        if _start(pid) != start or not _alive(pid):
            return ""
    elif _age(path) > STALE_SECONDS:
        return ""
    return f"process {pid} of {host}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _age(path: epath.Path) -> float:
    """Seconds since an object was written, by the clock of the bucket alone."""
    now = path.parent / f"ask-{uuid.uuid4().hex}"
    now.write_bytes(b"")
    try:
        return float(now.stat().mtime - path.stat().mtime)
    finally:
        now.unlink()


def _beat(lock: epath.Path, ended: threading.Event) -> None:
    """Rewrites the lock regularly; stops this process if another one took over."""
    while not ended.wait(BEAT_SECONDS):
        # A write that the network loses is repeated by the next beat, long before the
        # lock expires.
        with contextlib.suppress(*unanswered()):
            if _newest(lock.parent) > int(lock.stem):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            write_atomic(lock, _body())
