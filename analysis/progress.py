"""Progress of long fits, for people: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from tqdm import tqdm


class _Tqdm(tqdm):
    """A bar without tqdm's own thread, beside which no process could be forked."""

    monitor_interval = 0


class Begin(Protocol):
    """Says that the stage of that name begins."""

    def __call__(self, name: str) -> None: ...


@contextmanager
def stages(
    title: str, total: int, shown: bool = True, stream: TextIO | None = None
) -> Iterator[Begin]:
    """Shows which of `total` stages of the work on `title` is going on.

    Args:
      shown: nothing is written where it is False, as in a call from Python.
      stream: standard error by default; a bar where it is a terminal, else a line when
        a stage begins, with the seconds since the first, for a few seconds at a time.
    """
    stream = stream or sys.stderr
    if not shown:
        yield lambda name: None
        return
    if not stream.isatty():
        yield _lines(title, total, stream)
        return
    form = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt} of {total_fmt} [{elapsed}]"
    with _Tqdm(total=total, file=stream, leave=False, bar_format=form) as bar:
        yield _bar(title, bar)


# Stages that follow each other more quickly than this, in seconds, share one line.
SHORT = 5.0


def _lines(title: str, total: int, stream: TextIO) -> Begin:
    start, begun, last = time.monotonic(), 0, -math.inf

    def begin(name: str) -> None:
        nonlocal begun, last
        begun += 1
        seconds = time.monotonic() - start
        if seconds - last < SHORT:
            return
        last = seconds
        said = f"{title}: {begun} of {total}, {name} ({seconds:.0f} s)"
        print(said, file=stream, flush=True)

    return begin


def _bar(title: str, bar: tqdm) -> Begin:
    begun = 0

    def begin(name: str) -> None:
        nonlocal begun
        # The bar counts what is done: the stage that begins is not yet.
        bar.update(begun - bar.n)
        begun += 1
        bar.set_description_str(f"{title}: {name}")

    return begin
