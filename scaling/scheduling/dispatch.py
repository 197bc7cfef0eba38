"""From a study to its records: what is left to do, packed, tried, tried again.

The plan is made afresh after every pack, from the records alone, so that a study which
was killed anywhere goes on from what it finds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from scaling import corpora, plugins, study, trunks
from scaling.corpora import Prepared, _truth
from scaling.engines import Event, Pack
from scaling.engines.local import Local, Settings, Stop, disk_error
from scaling.layout import Layout
from scaling.planning import estimates, hardware
from scaling.planning.estimates import Estimate
from scaling.record import Record, Store, write_atomic
from scaling.run import EvaluationSet, Program, Run, canonical
from scaling.scheduling import layouts
from scaling.scheduling.lock import locked
from scaling.scheduling.progress import Progress, describe
from scaling.training.worker import DISK

BYTES = 257  # ids of the byte tokenizer, the separator included
TRIES = 3  # attempts at a run without a newer checkpoint between them

# What a platform's speed is guessed from until the workdir has measured runs.
TYPICAL = {"cpu": "cpu", "gpu": "a100", "tpu": "v4-8"}

# What of a run's cost a study cannot be scheduled without.
NEEDED = ("flops", "memory", "depth")

State = Literal["done", "diverged", "left", "provisional"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
      study: path of the study file.
      workdir: where records go, local or gs://.
      settings: how children are started.
      families: train only these; empty for all.
      retry_oom: try again what ran out of memory alone.
      layout: the user's own, as `layouts.parse` reads it; "" to have it measured.
    """

    study: str
    workdir: str
    settings: Settings
    families: tuple[str, ...] = ()
    retry_oom: bool = False
    layout: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One planned run.

    Attributes:
      cost: has the fields of `cost.Cost`.
      seconds: a guess, of training the whole run.
      shared: steps of it that another run of the study trains too, before both decay;
        0 for what has a record, and for the longest run of a trunk.
    """

    run: Run
    run_id: str
    state: State
    cost: Mapping[str, Any]
    seconds: float
    shared: int = 0


class Desk:
    """One study in one workdir: its runs, checked, prepared, priced."""

    def __init__(
        self, options: Options, engine: Local, store: Store, progress: Progress
    ):
        self.options, self.engine, self.store = options, engine, store
        self.progress = progress
        self.study = study.load(options.study, options.families)
        self._digests: dict[str, dict[str, str]] = {}  # by tokenizer, by corpus key
        self._train_tokens: dict[str, dict[str, int]] = {}
        self._vocab: dict[str, int] = {}
        self._prepared: dict[str, dict[str, Prepared]] = {}
        self._truths: dict[tuple[EvaluationSet, int], _truth.Truth] = {}
        self._records: dict[str, Record] = {}
        self._costs = _CostCache(store)
        self._admitted: set[Run] = set()
        self._predicted: set[str] = set()

    def open(self) -> None:
        """Checks and prepares everything that is known at the start."""
        for path, wrong in self.store.records()[1].items():
            moved = self.store.set_aside(path)
            self.progress.note(
                f"corrupt record {path} ({wrong}): set aside as {moved}; its run is "
                "trained again"
            )
        self._records = {r.run_id: r for r in self.store.records()[0]}
        self.store.studies()
        for _ in self.store.attempts():
            pass  # read for what is wrong with them
        self._complain()
        runs = self.study.runs(study.Results(lambda run: None))
        study.validate(runs)
        self.layouts = self._layouts()
        self._admit(runs)

    def _complain(self) -> None:
        for line in self.store.complaints():
            self.progress.note(line)

    def entries(self) -> list[Entry]:
        """All runs of the study as the records stand now."""
        runs = self.study.runs(study.Results(self._find))
        self._admit(runs)
        return _with_shared(self._calibrated([self._entry(run) for run in runs]))

    def remember(self) -> list[Entry]:
        """As `entries`; also keeps the study's membership in the workdir."""
        entries = self.entries()
        certain = [e for e in entries if e.state != "provisional"]
        planned = {entry.run_id: entry.run.to_json() for entry in certain}
        before = self.store.studies().get(self.study.name, {})
        if self.options.families:  # a part of the study does not forget the rest
            planned = before.get("planned", {}) | planned
        body = {
            "path": str(self.study.path),
            "about": (self.study.module.__doc__ or "").strip(),
            "runs": list(planned),
            "planned": planned,
            "provisional": len(entries) - len(certain),
            "included": plugins.included(),
            "truth": self._truth(before.get("truth", []), certain),
        }
        if body != before:
            self.store.write_study(self.study.name, json.loads(json.dumps(body)))
        self.predict(entries)
        return entries

    def _truth(
        self, before: Sequence[Mapping[str, Any]], entries: Sequence[Entry]
    ) -> list[Mapping[str, Any]]:
        """What is known of the sets that the runs are scored on, or was before."""
        facts = {(fact["evaluation"], fact["length"]): fact for fact in before}
        for held_out, length in _truth.sets(entry.run for entry in entries):
            if (held_out, length) not in self._truths:
                prepared = self._prepared[_truth.TOKENIZER]
                made = _truth.of_set(held_out, length, prepared)
                self._truths[held_out, length] = made
            fact = dataclasses.asdict(self._truths[held_out, length])
            facts[held_out.name, length] = fact
        return list(facts.values())

    def predict(self, entries: Sequence[Entry]) -> None:
        """Keeps the first guess of each run's time, to be compared with its record."""
        machine = hardware.lookup(TYPICAL[self.layouts.base.platform])
        measured = {r.run["model.family"] for r in self._records.values()}
        new = {
            entry.run_id: Estimate(
                run_id=entry.run_id,
                target=machine.name,
                device=machine.device,
                devices=machine.chips,
                how="guess scaled by the family's earlier runs"
                if entry.run.model.family in measured
                else "guess before any run of the family",
                seconds=entry.seconds,
                memory=entry.cost["memory"],
            )
            for entry in entries
            if entry.state == "left" and entry.run_id not in self._predicted
        }
        if new:
            estimates.keep(self.store, new.values())
            self._predicted |= set(new)

    def _layouts(self) -> layouts.Layouts:
        probed = self.engine.probe()
        base = layouts.assumed(probed["platform"], probed["devices"])
        given = self.options.layout
        if given:
            base = layouts.parse(given, base)
        note = self.progress.note
        return layouts.Layouts(
            self.store, base, self._measure, note, self._depth, bool(given)
        )

    def _depth(self, run: Run) -> int:
        depth: int = self._costs.get(run, self.vocab(run))["depth"]
        return depth

    def _measure(self, run: Run, layout: Layout) -> float | None:
        self.progress.note(f"measuring {layouts.words(layout)}")
        return self.engine.measure(run, self._vocab[run.data.tokenizer], layout)

    def _admit(self, runs: Sequence[Run]) -> None:
        """Checks, prices and prepares runs that were not seen before."""
        new = [run for run in runs if run not in self._admitted]
        study.validate(new)
        study.check_layout(new, self.layouts.base)
        # Finds wrong names before anything is prepared; another vocabulary's price is
        # asked for as soon as that is known.
        self._costs.add(new, BYTES, self.engine.describe)
        for tokenizer in sorted({run.data.tokenizer for run in new}):
            mine = [run for run in new if run.data.tokenizer == tokenizer]
            self._prepare(mine, tokenizer)
            study.check_budgets(mine, self._train_tokens[tokenizer])
            study.check_damaged(mine, self._prepared[tokenizer])
            self._costs.add(mine, self._vocab[tokenizer], self.engine.describe)
        self._admitted |= set(new)

    def _prepare(self, runs: Iterable[Run], tokenizer: str) -> None:
        digests = self._digests.setdefault(tokenizer, {})
        tokens = self._train_tokens.setdefault(tokenizer, {})
        wanted = {part.key: part for run in runs for part in run.corpora()}
        parts = [part for key, part in wanted.items() if key not in digests]
        if not parts:
            return
        data_dir = self.options.settings.data_dir
        with self.engine.stop.at_once():
            made = corpora.prepare(parts, data_dir, tokenizer, True)
        for key, prepared in made.items():
            self._tell_others(key, tokenizer, prepared.digest)
        digests |= {key: prepared.digest for key, prepared in made.items()}
        tokens |= {key: prepared.train_tokens for key, prepared in made.items()}
        self._prepared.setdefault(tokenizer, {}).update(made)
        self._vocab[tokenizer] = next(iter(made.values())).vocab

    def _tell_others(self, key: str, tokenizer: str, digest: str) -> None:
        """Says what is there of an older text of this name: it is not trained again."""
        same = [r for r in self._records.values() if key in r.digests]
        same = [r for r in same if r.run.get("data.tokenizer") == tokenizer]
        if others := sum(record.digests[key] != digest for record in same):
            self.progress.note(
                f"{others} of the records in {self.options.workdir} have another text "
                f"of {key}: they stay, and count for nothing here"
            )

    def vocab(self, run: Run) -> int:
        """Ids of the run's tokenizer."""
        return self._vocab[run.data.tokenizer]

    def _run_id(self, run: Run) -> str:
        return run.run_id(self._digests[run.data.tokenizer])

    def _entry(self, run: Run) -> Entry:
        cost = self._costs.get(run, self.vocab(run))
        machine = hardware.lookup(TYPICAL[self.layouts.base.platform])
        rough = hardware.seconds(cost, machine)
        return Entry(run, self._run_id(run), self._state(run), cost, rough)

    def _calibrated(self, entries: list[Entry]) -> list[Entry]:
        """Times scaled by what each family's records took against their rough times."""
        measured = dict.fromkeys((e.run.model.family for e in entries), 0.0)
        guessed = dict(measured)
        for entry in entries:
            record = self._records.get(entry.run_id)
            if record:
                measured[entry.run.model.family] += record.wall_seconds
                guessed[entry.run.model.family] += entry.seconds
        ratios = {f: measured[f] / guessed[f] if guessed[f] else 1.0 for f in guessed}
        return [
            dataclasses.replace(e, seconds=e.seconds * ratios[e.run.model.family])
            for e in entries
        ]

    def _find(self, run: Run) -> Record | None:
        digests = self._digests.get(run.data.tokenizer, {})
        if any(part.key not in digests for part in run.corpora()):
            return None
        run_id = self._run_id(run)
        if run_id not in self._records and self.store.exists(run_id):
            self._records[run_id] = self.store.read(run_id)
        return self._records.get(run_id)

    def _state(self, run: Run) -> State:
        if run.provisional:
            return "provisional"
        record = self._find(run)
        return record.status if record else "left"


def _with_shared(entries: list[Entry]) -> list[Entry]:
    given: dict[Run, int] = {}
    for state in ("left", "provisional"):  # the latter wait for the former to end
        given |= trunks.shared(e.run for e in entries if e.state == state)
    return [dataclasses.replace(e, shared=given.get(e.run, 0)) for e in entries]


class _CostCache:
    """Costs by everything they depend on, the code too; kept in the workdir."""

    def __init__(self, store: Store):
        self._path = store.path("costs.json")
        self._code = code_digest()
        self._costs: dict[str, Any] = {}
        for key, costs in store.cached("costs.json").items():  # it can be made again
            whole = isinstance(costs, dict) and set(NEEDED) <= costs.keys()
            if whole and all(isinstance(n, int | float) for n in costs.values()):
                self._costs[key] = costs

    def get(self, run: Run, vocab: int) -> Mapping[str, Any]:
        return self._costs[self._key(run, vocab)]

    def add(
        self,
        runs: Iterable[Run],
        vocab: int,
        describe_all: Callable[[Sequence[Run], int], list[dict[str, Any]]],
    ) -> None:
        """Asks for the costs that are not known yet."""
        missing = {self._key(run, vocab): run for run in runs}
        missing = {key: run for key, run in missing.items() if key not in self._costs}
        if missing:
            answers = describe_all(list(missing.values()), vocab)
            self._costs |= dict(zip(missing, answers, strict=True))
            write_atomic(self._path, json.dumps(self._costs, indent=1).encode())

    def _key(self, run: Run, vocab: int) -> str:
        body = [self._code, canonical(run.program()), run.steps, vocab]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]


def code_digest() -> str:
    """Of the files that fix what a run costs, the user's own among them."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    digest = hashlib.sha256(json.dumps(plugins.included(), sort_keys=True).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


# --- Packs ------------------------------------------------------------------


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


# --- Queue -------------------------------------------------------------------


class Queue:
    """Hands out packs until nothing is left that can be trained.

    Runs of one program make a pack. The program that was just compiled goes on first,
    so that each is compiled once; then the program with the most FLOPs left: what
    does not fit or takes too long shows early, and no large pack is left for the end.
    """

    def __init__(self, desk: Desk, retry_oom: bool):
        self.desk, self.progress = desk, desk.progress
        self.given_up: dict[str, str] = {}
        self._tries: dict[str, int] = {}
        self._step: dict[str, int] = {}
        self._again: list[Pack] = []
        self._failed: list[Event] = []
        self._program: Program | None = None
        self._left = 0  # runs without a record, as the last plan had them
        if not retry_oom:
            for attempt in desk.store.attempts():
                if attempt.cause == "out of memory" and attempt.together == 1:
                    self.given_up[attempt.run_id] = attempt.cause
                else:
                    self.given_up.pop(attempt.run_id, None)

    def __iter__(self) -> Iterator[Pack]:
        while (pack := self._next()) is not None:
            self._failed.clear()
            yield pack
            self._judge(pack)

    def note(self, event: Event) -> None:
        """To be called with every event of the engine."""
        if event.kind == "failed":
            self._failed.append(event)
        self.progress(event)

    def _next(self) -> Pack | None:
        entries = self.desk.remember()
        self._tell(entries)
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
        layout = self.desk.layouts.of(longest[0].run, len(longest), self._left)
        layout = _as_asked(layout, longest[0].run)
        ahead = None
        if after:
            run = after[0].run
            ahead = run, _as_asked(self.desk.layouts.known(run), run)
        runs = tuple(entry.run for entry in longest)
        return Pack(runs, tuple(entry.run_id for entry in longest), layout, ahead)

    def _tell(self, entries: Sequence[Entry]) -> None:
        certain = [entry for entry in entries if entry.state != "provisional"]
        self.progress.expect(
            {entry.run_id: entry.run for entry in certain},
            {entry.run_id: entry.cost["flops"] for entry in certain},
            {entry.run_id: entry.shared for entry in certain},
            [entry.run_id for entry in certain if entry.state != "left"],
            len(entries) - len(certain),
        )

    def _judge(self, pack: Pack) -> None:
        """What the failures of a pack mean for the next ones."""
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
    """In the precision that the run asks for, if it does."""
    if run.precision == "auto":
        return layout
    return dataclasses.replace(layout, precision=run.precision)


def _only(pack: Pack, run_ids: Iterable[str]) -> Pack:
    """The pack without the runs that are not listed."""
    kept = set(run_ids)
    pairs = [(r, i) for r, i in zip(pack.runs, pack.run_ids, strict=True) if i in kept]
    return Pack(tuple(r for r, _ in pairs), tuple(i for _, i in pairs), pack.layout)


# --- Commands ----------------------------------------------------------------


@contextlib.contextmanager
def opened(options: Options, stop: Stop, progress: Progress) -> Iterator[Desk]:
    """The desk of a study, with the engine that trains it."""
    for path in options.settings.include:
        plugins.include(path)
    store = Store(options.workdir)
    with Local(options.settings, store, stop, progress.note) as engine:
        desk = Desk(options, engine, store, progress)
        try:
            desk.open()
            yield desk
        finally:
            progress.close()


def plan(options: Options, progress: Progress) -> list[Entry]:
    """What a study would train, and what of it is done."""
    with disk_errors(), Stop() as stop, opened(options, stop, progress) as desk:
        entries = desk.entries()
        desk.predict(entries)
        return entries


def run(options: Options, progress: Progress) -> int:
    """Trains what has no record yet; returns the exit code.

    0: every run has a record; 1: some have none; 128 + signal: stopped.

    Raises:
      Ended: stopped before it trained, or the child could not be used.
    """
    with (
        disk_errors(),
        locked(options.workdir),
        Stop() as stop,
        opened(options, stop, progress) as desk,
    ):
        queue = Queue(desk, options.retry_oom)
        desk.engine.run(queue, desk.store, queue.note)
        entries = desk.remember()
        if stop:
            progress.note(
                f"stopped: {_done(entries)} of {len(entries)} runs are done; the "
                "same command goes on from here"
            )
            return 128 + stop.signal
        return _summary(entries, queue.given_up, options, progress)


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


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turns a full or unwritable disk into one line that says so."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise disk_error(str(error)) from error
