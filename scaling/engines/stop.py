"""The signals that ask a study to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from scaling.errors import Ended


class Stop:
    """Catches SIGTERM and Ctrl-C: the first asks to stop, the second stops at once."""

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
        """The error with which a command ends that is stopped before it trains."""
        return Ended("stopped; the same command goes on from here", 128 + self.signal)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it, a signal ends the work at once; for work with nothing to save.

        Raises:
          Ended: a signal has come, or comes meanwhile.
        """
        before, self._at_once = self._at_once, True
        try:
            if self:
                raise self.ended()
            yield
        finally:
            self._at_once = before
