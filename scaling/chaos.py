"""Points with names at which a process can be made to die, for the soaks of faults.

Off unless $SCALING_CHAOS names a folder. The first process that comes to a point whose
name a file there has removes the file and kills itself, as a fault would at the worst
moment: once for each file, whichever process of whichever machine it is.
"""

from __future__ import annotations

import contextlib
import os
import signal

FOLDER = os.environ.get("SCALING_CHAOS", "")

# Where a process of a study dies: the child (trainer, checkpoint), a task of a cluster,
# or the command that gives out packs.
POINTS = (
    "child: checkpoint without manifest",
    "child: artifacts without record",
    "child: record with checkpoints",
    "task: begun",
    "task: ended",
    "command: pack given",
    "command: pack ended",
)
# Where `scaling-launch` dies, between its calls to a cloud.
LAUNCHER = (
    "launcher: source uploaded",
    "launcher: hours granted",
    "launcher: machine asked for",
    "launcher: deletion asked for",
    "launcher: fleet deleted",
)


def point(name: str) -> None:
    """Dies here if that was asked for."""
    if FOLDER:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(FOLDER, name))
            os.kill(os.getpid(), signal.SIGKILL)
