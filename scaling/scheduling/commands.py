"""The commands `scaling plan`, `freeze` and `run`."""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from scaling import corpora, frozen, intact, plugins
from scaling.engines import Engine
from scaling.engines.local import Local
from scaling.engines.stop import Stop
from scaling.errors import UserError, disk_errors
from scaling.following import trackers
from scaling.following.journal import Journal
from scaling.following.listeners import Apart, Listener, heard
from scaling.packs import Event
from scaling.scheduling.lock import locked
from scaling.scheduling.paper import Rule
from scaling.scheduling.progress import Progress, describe
from scaling.scheduling.queue import Queue
from scaling.scheduling.study_plan import Entry, Options, StudyPlan
from scaling.source import source_commit
from scaling.store import Store


@contextlib.contextmanager
def opened(options: Options, stop: Stop, progress: Progress) -> Iterator[StudyPlan]:
    """The plan of a study, with the engine that trains it."""
    for path in options.settings.include:
        plugins.include(path)
    store = Store(options.workdir)
    with (
        corpora.seen_from(options.settings.texts),
        _engine(options, store, stop, progress) as engine,
    ):
        study = StudyPlan(options, engine, store, progress)
        try:
            study.open()
            yield study
        finally:
            progress.close()


def _engine(options: Options, store: Store, stop: Stop, progress: Progress) -> Engine:
    if options.engine == "ray":
        from scaling.engines import ray

        given = (options.settings, store, stop, progress.note)
        return ray.engine(options.address, *given)
    return Local(options.settings, store, stop, progress.note)


def plan(options: Options, progress: Progress) -> list[Entry]:
    """What a study would train, and what of it is done."""
    with disk_errors(), Stop() as stop, opened(options, stop, progress) as study:
        entries = study.entries()
        study.predict(entries)
        return entries


def freeze(options: Options, progress: Progress) -> str:
    """Keeps a study's plan before it trains; returns a line about what was kept.

    Raises:
      UserError: some of it is trained already, or it was frozen with other words.
    """
    with (
        disk_errors(),
        locked(options.workdir),
        Stop() as stop,
        opened(options, stop, progress) as study,
    ):
        name, body = study.study.name, study.as_said()
        trained = sum(entry.state in ("done", "diverged") for entry in study.entries())
        before = _frozen(study.store, name)
        if before is None and trained:
            raise UserError(
                "study",
                name,
                f"{trained} of its runs are trained in {options.workdir}: freeze it "
                "before, or in another workdir",
            )
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        where = {"time": now, "commit": source_commit(), "path": options.study}
        if before is None:
            frozen.write(study.store, name, body | where)
            before = _frozen(study.store, name)
            assert before is not None
        elif before["digest"] != frozen.digest(body):
            raise UserError(
                "study",
                name,
                f"was frozen on {before['time']} with a different plan (digest "
                f"{before['digest']}), which is kept; use another workdir",
            )
    return (
        f"frozen on {before['time']}: {frozen.cells(before['runs'])} cells, "
        f"{len(before['probes'])} probe sets, {len(before['claims'])} claims, "
        f"{len(before['withheld'])} withheld; digest {before['digest']}, "
        f"{study.store.path(frozen.FOLDER, f'{name}.json')}"
    )


def _frozen(store: Store, name: str) -> dict[str, Any] | None:
    try:
        return frozen.read(store, name)
    except intact.Unreadable as error:
        path = store.path(frozen.FOLDER, f"{name}.json")
        raise UserError("workdir", str(path), f"{error}; move it away") from error


def run(options: Options, progress: Progress) -> int:
    """Trains what has no record yet; returns the exit code.

    0: every run has a record; 1: some have none; 128 + signal: stopped.

    Raises:
      Ended: stopped before it trained, or the child could not be used.
    """
    if options.tracker:
        trackers.check(options.tracker, options.workdir)
    with (
        disk_errors(),
        locked(options.workdir),
        Stop() as stop,
        opened(options, stop, progress) as study,
    ):
        queue = Queue(study, options.retry_oom, Rule(study))
        with _heard(study, queue, options, progress) as tell:
            study.engine.run(queue, study.store, tell)
        entries = study.remember()
        if stop:
            progress.note(
                f"stopped: {_done(entries)} of {len(entries)} runs are done; the "
                "same command goes on from here"
            )
            return 128 + stop.signal
        return _summary(entries, queue.given_up, options, progress)


@contextlib.contextmanager
def _heard(
    study: StudyPlan, queue: Queue, options: Options, progress: Progress
) -> Iterator[Callable[[Event], None]]:
    """What the engine calls with each event: the queue, the journal, the tracker."""
    note, name = progress.note, options.tracker
    journal = Journal(study.store, progress.machine_seconds_left, note)
    others: list[Listener] = [journal]
    if name:
        make = functools.partial(trackers.make, name, study.study.name, options.workdir)
        others.append(Apart(name, make, note))
    progress.hear = journal.note
    try:
        with heard(queue.note, progress.run, others) as tell:
            yield tell
    finally:
        progress.hear = lambda line: None


def _done(entries: Iterable[Entry]) -> int:
    return sum(entry.state in ("done", "diverged") for entry in entries)


def _summary(
    entries: Sequence[Entry],
    given_up: Mapping[str, str],
    options: Options,
    progress: Progress,
) -> int:
    diverged = sum(entry.state == "diverged" for entry in entries)
    text = f"{_done(entries)} of {len(entries)} runs are done"
    progress.note(text + (f", {diverged} of them diverged" if diverged else ""))
    missing = [entry for entry in entries if entry.state in ("left", "provisional")]
    for entry in missing:
        why = given_up.get(entry.run_id, "waits for runs that failed")
        progress.note(f"  missing: {entry.run_id} {describe(entry.run)}: {why}")
    if missing:
        progress.note(
            f"attempts and their logs: {options.workdir}/attempts; the same command "
            "tries again (--retry_oom for what ran out of memory)"
        )
    return 1 if missing else 0
