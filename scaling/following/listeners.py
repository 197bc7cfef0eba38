"""Who listens to a study that trains, and how none of them can stop it."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from scaling.packs import Event
from scaling.run import Run

WAITING = 10_000  # events that may wait for a slow listener
CLOSE_SECONDS = 30.0  # that it has at the end for what waits


class Listener(Protocol):
    """Is told every event, one after the other, in a thread of its own."""

    def event(self, event: Event, run: Run | None) -> None:
        """run: that of the event, None where the plan does not know it."""
        ...

    def close(self) -> None:
        """There are no more events."""
        ...


class Apart:
    """Tells a listener in a thread of its own; after a failure it is told no more."""

    def __init__(self, name: str, make: Callable[[], Listener], note: Note):
        """Args:
        name: for the line that says what failed.
        make: the listener, in its thread.
        """
        self.name, self.note = name, note
        self._events: queue.Queue[tuple[Event, Run | None] | None]
        self._events = queue.Queue(WAITING)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, args=(make,), daemon=True)
        self._thread.start()

    def event(self, event: Event, run: Run | None) -> None:
        if self._over.is_set():
            return
        try:
            self._events.put_nowait((event, run))
        except queue.Full:
            self._fail(f"{WAITING:,} events wait for it")

    def close(self) -> None:
        with contextlib.suppress(queue.Full):
            self._events.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive() and not self._over.is_set():
            self._fail(f"it did not end within {CLOSE_SECONDS:g} s")

    def _tell(self, make: Callable[[], Listener]) -> None:
        try:
            listener = make()
            while (item := self._events.get()) is not None and not self._over.is_set():
                listener.event(*item)
            listener.close()
        # A tracker is another party's code, which talks to servers: whatever it raises,
        # sys.exit too, the study goes on without it.
        except BaseException as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            self._fail(words[0])

    def _fail(self, why: str) -> None:
        if not self._over.is_set():
            self._over.set()
            self.note(f"{self.name} is told no more, the study goes on: {why}")


Note = Callable[[str], None]


@contextlib.contextmanager
def heard(
    event: Callable[[Event], None],
    find: Callable[[str], Run | None],
    listeners: Sequence[Listener],
) -> Iterator[Callable[[Event], None]]:
    """What to call with every event of the engine.

    Args:
      event: is called first.
      find: the run of an id.
    """
    here = platform.node()

    def tell(said: Event) -> None:
        said = said if said.host else dataclasses.replace(said, host=here)
        event(said)
        for listener in listeners:
            listener.event(said, find(said.run_id))

    try:
        yield tell
    finally:
        for listener in listeners:
            listener.close()
