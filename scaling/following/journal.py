"""The journal of a study that trains: what `scaling watch` reads, line by line.

`progress/` of the workdir has one file for each start of `scaling run`; in a bucket,
where nothing can be appended, one for each half minute. A line is a JSON object with
the time `t` (seconds since 1970) and its `kind`:

    began     of the command
    started   run, step, steps, host
    step      run, step, loss, rate (tokens/s of all that its machine trains)
    done      run, step, status, loss
    failed    run, cause, why
    note      why: a line that the user was shown
    left      seconds: of work for one machine, as far as is known
    ended     of the command

Of a run's steps it has about POINTS. Records are what counts: a journal may be cut off,
or deleted.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from typing import Any

from scaling import intact
from scaling.address import unanswered
from scaling.packs import Event
from scaling.run import Run
from scaling.store import Store
from scaling.writing import write_atomic

FOLDER = "progress"
POINTS = 32  # of the loss curve of a run
LEFT_SECONDS = 10.0  # between two lines of what is left
LOCAL_SECONDS, BUCKET_SECONDS = 1.0, 30.0  # between two writes


class Journal:
    """Writes the journal; see `listeners.Listener`."""

    def __init__(
        self,
        store: Store,
        left: Callable[[], float | None],
        note: Callable[[str], None] = lambda line: None,
    ):
        """Args:
        left: seconds of work for one machine, None where unknown.
        note: is given a line where the journal cannot be written.
        """
        self._name = f"{time.time():.3f}-{uuid.uuid4().hex[:8]}"
        self._store, self._left, self._note = store, left, note
        self._remote = intact.is_remote(store.root)
        self._every = BUCKET_SECONDS if self._remote else LOCAL_SECONDS
        self._lines: list[str] = []
        self._written = self._told = 0.0
        self._files = 0
        self._steps: dict[str, int] = {}  # last one that was kept, by run
        self._over = False
        self._add("began")
        self._write()

    def event(self, event: Event, run: Run | None) -> None:
        kind, run_id = event.kind, event.run_id
        if kind == "started":
            self._steps[run_id] = event.step
            at = {"step": event.step, "steps": event.steps, "host": event.host}
            self._add(kind, run=run_id, **at)
        elif kind == "step":
            if event.step - self._steps.get(run_id, 0) >= event.steps / POINTS:
                self._steps[run_id] = event.step
                rate = round(event.tokens_per_second, 1)
                self._add(kind, run=run_id, step=event.step, loss=event.loss, rate=rate)
        elif kind == "done":
            status = event.status or "done"
            at = {"step": event.step, "status": status, "loss": event.loss}
            self._add(kind, run=run_id, **at)
        elif kind == "failed":
            self._add(kind, run=run_id, cause=event.cause, why=event.message)
        now = time.monotonic()
        if now - self._told > LEFT_SECONDS and (left := self._left()) is not None:
            self._told = now
            self._add("left", seconds=round(left, 1))
        if now - self._written > self._every:
            self._write()

    def note(self, line: str) -> None:
        self._add("note", why=line)

    def close(self) -> None:
        self._add("ended")
        self._write()
        self._over = True

    def _add(self, kind: str, **body: Any) -> None:
        line = {"t": round(time.time(), 2), "kind": kind, **body}
        self._lines.append(json.dumps(line) + "\n")

    def _write(self) -> None:
        if self._over:
            return
        text, self._lines = "".join(self._lines).encode(), []
        self._written = time.monotonic()
        try:
            if self._remote:
                name = f"{self._name}-{self._files:06d}.jsonl"
                write_atomic(self._store.path(FOLDER, name), text)
                self._files += 1
            else:
                path = os.fspath(self._store.path(FOLDER, f"{self._name}.jsonl"))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "ab") as file:
                    file.write(text)
        except unanswered() as error:  # a full disk, a bucket that does not answer
            self._over = True
            self._note(f"the journal is written no more, the study goes on: {error}")
