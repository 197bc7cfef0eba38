"""The engine for one machine: trains packs in one child process at a time.

The child is kept from pack to pack, so that importing JAX and compiling happen once; it
is replaced after a failure, or when the layout needs more devices. This process watches
the child's memory and exit, and the signals that ask the study to stop.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from scaling.engines.child import STOP_SECONDS, Child, Events, Failed, Settings
from scaling.engines.stop import Stop
from scaling.errors import Ended
from scaling.families import Spec, spec_to_json
from scaling.layout import Layout
from scaling.packs import Event, Pack, pack_to_json
from scaling.record import Attempt
from scaling.run import Run
from scaling.store import Store


def cores() -> int:
    """CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Local:
    """Trains packs in a child process. Use as a context manager: it ends the child."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        stop: Stop,
        note: Callable[[str], None] = lambda line: None,
    ):
        """Args: note: is given lines for the user."""
        # A bucket's lock expires when its holder is suspended, and the holder may wake.
        if "://" in os.fspath(store.root) and not settings.attempt:
            settings = dataclasses.replace(settings, attempt=uuid.uuid4().hex[:8])
        self.settings, self.store, self.stop = settings, store, stop
        self.note = note
        self._child: Child | None = None
        # Devices of a CPU share its threads. Starting with more devices than a layout
        # uses changes nothing, and the child need not be replaced for a wider layout.
        self._devices = cores()

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_child()

    def pid(self) -> int:
        """Of the child; 0 while there is none."""
        return self._child.process.pid if self._child else 0

    def run(self, packs: Iterable[Pack], store: Store, events: Events) -> None:
        """Trains every pack; see `engines.Engine`. Returns early once `stop` is set."""
        assert store is self.store
        for pack in packs:
            if not self.stop:
                for event in self.trained(pack):
                    events(event)
            if self.stop:
                return

    def probe(self) -> dict[str, Any]:
        """The child's "platform", number of "devices" and "kind" of device.

        Raises:
          Ended: the study is stopped, or the child failed.
        """
        try:
            return self._ask_again("listed the devices", {"do": "probe"})
        except Failed as error:
            line = f"the devices could not be listed: {error.message}"
            raise Ended(line, 1) from error

    def describe(
        self, runs: Sequence[Run], specs: Sequence[Spec]
    ) -> list[dict[str, Any]]:
        """What each run costs: the fields of `cost.Cost`.

        Raises:
          UserError: a name, size or option that is wrong.
          Ended: the study is stopped, or the child failed.
        """
        listed = [run.to_json() for run in runs]
        request: dict[str, Any] = {"do": "describe", "runs": listed}
        request["specs"] = [spec_to_json(spec) for spec in specs]
        try:
            return self._ask_again("described the runs", request)
        except Failed as error:
            line = f"the runs could not be described: {error.message}"
            raise Ended(line, 1) from error

    def measure(self, run: Run, spec: Spec, layout: Layout) -> float | None:
        """Training tokens/s of full packs, None where the layout does not work.

        Raises:
          Ended: the study is stopped, or the child is killed repeatedly, for reasons
            other than the layout.
        """
        self._use(layout)
        request = {"do": "measure", "run": run.to_json(), "spec": spec_to_json(spec)}
        request["layout"] = layout.to_json()
        try:
            return self._ask_again("measured a layout", request)
        except Failed as error:
            if error.died:
                line = (
                    f"no layout could be measured (give one, --layout): {error.message}"
                )
                raise Ended(line, 1) from error
            return None

    def _ask_again(self, doing: str, request: dict[str, Any]) -> Any:
        """As `_ask`, for requests with nothing to save: a stop ends them at once.

        A child that dies without a message may have been killed by mistake, so a second
        child is tried.

        Raises:
          Ended: the study is stopped.
          Failed: both children died, or one reported why it failed.
        """
        for last in (False, True):
            if self.stop:
                raise self.stop.ended()
            try:
                return self._ask(request, grace=0.0)
            except Failed as error:
                if self.stop:
                    raise self.stop.ended() from error
                if last or not error.died:
                    raise
                self.note(
                    f"while it {doing}, {error.message}; trying again in a new one"
                )
        raise AssertionError  # the loop returns or raises with the second child

    def _ask(self, request: dict[str, Any], grace: float = STOP_SECONDS) -> Any:
        asked = self._asked(request, grace)
        while True:
            try:
                next(asked)
            except StopIteration as end:
                return end.value

    def _asked(
        self, request: dict[str, Any], grace: float = STOP_SECONDS
    ) -> Generator[Event, None, Any]:
        if self._child is None:
            self._child = Child(self.settings, self.store, self.stop, self._devices)
        try:
            return (yield from self._child.asked(request, grace=grace))
        except BaseException:
            self._end_child()
            raise

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _use(self, layout: Layout) -> None:
        """The child for a layout; the number of CPU devices is fixed at its start."""
        here = -(-layout.devices // self.settings.processes)
        if layout.platform == "cpu" and here > self._devices:
            self._end_child()
            self._devices = here

    def train_along(self, pack: Pack) -> None:
        """Trains a pack together with the first process, which tells of it.

        Raises:
          Failed: the child died or reported a failure.
        """
        self._use(pack.layout)
        self._ask({"do": "train", "pack": pack_to_json(pack)})

    def trained(self, pack: Pack) -> Iterator[Event]:
        """Trains a pack; its events as they come, and how each run that began ended.

        Raises:
          Failed: with other processes of a slice, since what is wrong may be that one
            of them is gone; no attempt is kept.
        """
        started: set[str] = set()
        ended: set[str] = set()
        self._use(pack.layout)
        failure = Failed("crash", "the trainer returned without a record")
        try:
            if (yield from self._watched(pack, started, ended))["stopped"]:
                failure = Failed("preemption", "stopped on request")
                self._end_child()
        except Failed as error:
            if self.settings.processes > 1 and error.cause == "crash" and not self.stop:
                raise
            failure = error
        missing = [i for i in pack.run_ids if not self.store.exists(i)]
        # Written just before the child died, or by an attempt that was thought lost.
        for run_id in set(pack.run_ids) - set(missing) - ended:
            yield Event("done", run_id, status="done")
        # Runs that never started are not blamed, unless the whole pack never did.
        at_fault = [i for i in missing if i in started]
        if not at_fault and failure.cause != "preemption":
            at_fault = missing
        for run_id in at_fault:
            yield failed(self.store, run_id, pack, failure)

    def _watched(
        self, pack: Pack, started: set[str], ended: set[str]
    ) -> Generator[Event, None, Any]:
        """Notes which runs of a pack `started` and `ended` while it is trained."""
        asked = self._asked({"do": "train", "pack": pack_to_json(pack)})
        while True:
            try:
                event = next(asked)
            except StopIteration as end:
                return end.value
            if event.kind == "started":
                started.add(event.run_id)
            elif event.kind == "done":
                ended.add(event.run_id)
            yield event


def failed(store: Store, run_id: str, pack: Pack, failure: Failed) -> Event:
    """Keeps the attempt at a run that has failed; the event that says so."""
    attempt = _attempt(store, run_id, pack, failure)
    store.add_attempt(attempt)
    return Event(
        "failed",
        run_id,
        step=attempt.step,
        cause=failure.cause,
        message=failure.message,
    )


def _attempt(store: Store, run_id: str, pack: Pack, failure: Failed) -> Attempt:
    return Attempt(
        run_id=run_id,
        number=1 + sum(1 for _ in store.attempts(run_id)),
        cause=failure.cause,
        message=failure.message,
        log_tail=failure.log_tail,
        device=f"{pack.layout.platform} on {platform.node()}",
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        step=store.checkpoint_step(run_id),
        together=max(len(pack.runs), pack.layout.width),
    )
