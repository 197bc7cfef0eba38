"""Processes that share the work of one, forked where that is safe."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

from scaling.orphans import end_with_parent


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


@contextlib.contextmanager
def pool(
    context: BaseContext,
    processes: int,
    begin: Callable[..., None] | None = None,
    *given: Any,
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that end with this one, however it ends.

    An error or Ctrl-C within it kills them: nobody waits for what they were at.

    Args:
      begin: called with `given` in each process at its start.
    """
    before = {child.pid for child in mp.active_children()}
    ends = (os.getpid(), begin, given)
    executor = ProcessPoolExecutor(processes, context, _begin, ends)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in mp.active_children():
            if child.pid not in before:
                child.kill()
        raise
    finally:
        executor.shutdown()


def _begin(
    parent: int, begin: Callable[..., None] | None, given: tuple[Any, ...]
) -> None:
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees to Ctrl-C
    if begin is not None:
        begin(*given)
