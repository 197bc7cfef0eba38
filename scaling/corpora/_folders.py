"""Folders of prepared corpora: whole or not there, written by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(folder: Path, key: str, progress: bool) -> Iterator[None]:
    """One process at a time; the system lets go of the lock of one that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(progress, f"{key}: another process prepares it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes its place when it is complete. Needs the lock."""
    partial = folder.with_name(f"{folder.name}.partial")
    if partial.exists():  # of a process that was killed: the lock is ours
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial)
        raise
    for path in partial.rglob("*"):
        if path.is_file():
            _sync(path)
    os.replace(partial, folder)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def say(progress: bool, line: str) -> None:
    if progress:
        print(line, file=sys.stderr, flush=True)
