"""Processes that share the work of one, forked where that is safe."""

from __future__ import annotations

import multiprocessing as mp
import threading
from multiprocessing.context import BaseContext


def context(processes: int) -> BaseContext | None:
    """What to start so many processes with; None where one does all the work.

    A fork shares the table as it is and knows the files that a user included, for which
    a new interpreter would first import everything again, which takes longer than a
    figure does. It is safe where no other thread of Python runs, whose locks a child
    would wait for for ever. BLAS has threads too, and stops them itself for a fork.
    """
    alone = threading.active_count() == 1
    if processes < 2 or not alone or "fork" not in mp.get_all_start_methods():
        return None
    return mp.get_context("fork")


def at_a_time(tasks: int, processes: int) -> int:
    """How many of some equally long tasks to work at.

    All of them where that is less than two for a process: of three on two cores the
    last would have the cores to itself when the first two are done.
    """
    return tasks if tasks < 2 * processes else processes
