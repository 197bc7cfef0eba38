"""One launcher at a time follows or deletes a fleet, as far as this computer knows.

Two that follow one fleet would each keep an account of its hours, and one that follows
makes again what another deletes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from launch.machines import LaunchError, note
from scaling.errors import UserError

# For the other launcher to end after SIGTERM, which cuts its calls off.
PATIENCE = 60.0


@contextlib.contextmanager
def alone(path: Path, fleet: str, stop_other: bool = False) -> Iterator[None]:
    """Holds a fleet; the kernel lets go of it when this process ends.

    Args:
      path: of the lock.
      stop_other: end the launcher that holds it.

    Raises:
      UserError: another launcher holds it; LaunchError: it does not end.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _held(file):
            if not stop_other:
                raise UserError(
                    "name",
                    fleet,
                    f"process {_holder(file)} follows or deletes it: wait for it, or "
                    "end it first",
                )
            _stop(file, fleet)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)


def _held(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: int) -> str:
    return os.pread(file, 20, 0).decode()


def _stop(file: int, fleet: str) -> None:
    """Ends the launcher that holds the lock; returns once this process holds it."""
    late, stopped = time.monotonic() + PATIENCE, ""
    while not _held(file):
        holder = _holder(file)
        if time.monotonic() > late:
            raise LaunchError(
                f"{fleet}: process {holder} follows it and does not end, and would "
                "make again what is deleted: end it, then give `down` again"
            )
        if holder and holder != stopped:
            note(f"{fleet}: stopping process {holder}, which follows it")
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(int(holder), signal.SIGTERM)
            stopped = holder
        time.sleep(0.1)
