"""Children that end with the process that started them, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def end_with_parent(parent: int) -> None:
    """Has the kernel (Linux) kill this process with its parent, even mid-compile.

    Args:
      parent: process id of the parent, taken before the child was started. The thread
        that starts the child must live as long as it: the kernel goes by that.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
