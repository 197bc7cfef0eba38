"""The queue of packs: which runs are trained next, and which are tried again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from scaling.layout import Layout
from scaling.packs import Event, Pack
from scaling.run import Program, Run
from scaling.scheduling.study_plan import Entry, StudyPlan

TRIES = 3  # attempts at a run without a newer checkpoint between them


class Queue:
    """Yields packs until nothing is left that can be trained.

    Runs of one program make a pack. The program that was just compiled continues first,
    so that each is compiled once; then comes the program with the most FLOPs left, so
    that a program which does not fit or is too slow shows early, and no large pack is
    left for the end.
    """

    def __init__(self, plan: StudyPlan, retry_oom: bool):
        self.plan, self.progress = plan, plan.progress
        self.given_up: dict[str, str] = {}
        self._tries: dict[str, int] = {}
        self._step: dict[str, int] = {}
        self._again: list[Pack] = []
        self._failed: list[Event] = []
        self._program: Program | None = None
        self._left = 0  # runs without a record, as the last plan had them
        if not retry_oom:
            for attempt in plan.store.attempts():
                if attempt.cause == "out of memory" and attempt.together == 1:
                    self.given_up[attempt.run_id] = attempt.cause
                else:
                    self.given_up.pop(attempt.run_id, None)

    def __iter__(self) -> Iterator[Pack]:
        while (pack := self._next()) is not None:
            self._failed.clear()
            yield pack
            self._sort_failures(pack)

    def note(self, event: Event) -> None:
        """To be called with every event of the engine."""
        if event.kind == "failed":
            self._failed.append(event)
        self.progress(event)

    def _next(self) -> Pack | None:
        entries = self.plan.remember()
        self._show(entries)
        self._left = sum(e.state in ("left", "provisional") for e in entries)
        left = {
            entry.run_id: entry
            for entry in entries
            if entry.state == "left" and entry.run_id not in self.given_up
        }
        while self._again:
            pack = _only(self._again.pop(0), left)
            if pack.runs:
                return pack
        groups: dict[Program, list[Entry]] = {}
        for entry in left.values():
            groups.setdefault(entry.run.program(), []).append(entry)
        if not groups:
            return None
        load = lambda p: sum(entry.cost["flops"] for entry in groups[p])
        if self._program not in groups:
            self._program = max(groups, key=load)
        assert self._program is not None
        entries = groups.pop(self._program)
        after = groups[max(groups, key=load)] if groups else []
        return self._pack(entries, after)

    def _pack(self, entries: Sequence[Entry], after: Sequence[Entry]) -> Pack:
        """All of `entries`; `after`: those of the program that is likely next."""
        longest = sorted(entries, key=lambda entry: -entry.run.steps)
        layout = self.plan.layouts.of(longest[0].run, len(longest), self._left)
        layout = _as_asked(layout, longest[0].run)
        ahead = None
        if after:
            run = after[0].run
            ahead = run, _as_asked(self.plan.layouts.known(run), run)
        runs = tuple(entry.run for entry in longest)
        return Pack(runs, tuple(entry.run_id for entry in longest), layout, ahead)

    def _show(self, entries: Sequence[Entry]) -> None:
        certain = [entry for entry in entries if entry.state != "provisional"]
        self.progress.expect(
            {entry.run_id: entry.run for entry in certain},
            {entry.run_id: entry.cost["flops"] for entry in certain},
            {entry.run_id: entry.shared for entry in certain},
            [entry.run_id for entry in certain if entry.state != "left"],
            len(entries) - len(certain),
        )

    def _sort_failures(self, pack: Pack) -> None:
        """Decides what is tried again after a pack failed, and how."""
        failed = {event.run_id: event for event in self._failed}
        if any(event.cause == "out of memory" for event in failed.values()):
            if _alone(pack):
                self.given_up[pack.run_ids[0]] = "out of memory"
            else:
                self._again = halve(pack) + self._again
            return
        for run_id, event in failed.items():
            fresh = event.step > self._step.get(run_id, 0)
            self._tries[run_id] = 1 if fresh else self._tries.get(run_id, 0) + 1
            self._step[run_id] = event.step
            if self._tries[run_id] >= TRIES:
                self.given_up[run_id] = event.cause or "crash"
        if len(failed) > 1:  # each alone, so that one does not take the others along
            self._again += [_only(pack, [run_id]) for run_id in failed]


def _as_asked(layout: Layout, run: Run) -> Layout:
    """In the precision that the run names, if it names one."""
    if run.precision == "auto":
        return layout
    return dataclasses.replace(layout, precision=run.precision)


def _only(pack: Pack, run_ids: Iterable[str]) -> Pack:
    """The pack without the runs that are not listed."""
    kept = set(run_ids)
    pairs = [(r, i) for r, i in zip(pack.runs, pack.run_ids, strict=True) if i in kept]
    return Pack(tuple(r for r, _ in pairs), tuple(i for _, i in pairs), pack.layout)


def halve(pack: Pack) -> list[Pack]:
    """Half the slots, and half the runs in each: what to try when memory was short."""
    width = max(1, pack.layout.width // 2)
    run = width if width < pack.layout.run else pack.layout.run
    layout = dataclasses.replace(pack.layout, width=width, run=run)
    middle = (len(pack.runs) + 1) // 2
    halves = (slice(0, middle), slice(middle, None))
    packs = [Pack(pack.runs[h], pack.run_ids[h], layout) for h in halves]
    return [part for part in packs if part.runs]


def _alone(pack: Pack) -> bool:
    return len(pack.runs) == 1 and pack.layout.width == 1
