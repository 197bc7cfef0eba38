"""The plan of a study in a workdir: its runs, their cost, and which are done.

The plan is made again after every pack, from the records alone, so that a study that
was killed at any point resumes from its records.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from scaling import corpora, families, frozen, plugins, study, trunks
from scaling.corpora import Prepared, _truth, spec_of
from scaling.engines import Engine
from scaling.engines.child import Settings
from scaling.engines.local import Local
from scaling.errors import UserError
from scaling.layout import Layout
from scaling.packs import Machine
from scaling.planning import estimates, hardware
from scaling.planning.estimates import Estimate
from scaling.record import Record
from scaling.run import EvaluationSet, Run
from scaling.scheduling import layouts, probe_sets, sample_sets
from scaling.scheduling.cost_cache import CostCache
from scaling.scheduling.progress import Progress
from scaling.store import Store

BYTES = 257  # ids of the byte tokenizer, the separator included

# FLOP/s assumed for each platform until the workdir has measured runs.
TYPICAL = {"cpu": "cpu", "gpu": "a100", "tpu": "v4-8"}

RunState = Literal["done", "diverged", "left", "provisional"]


@dataclasses.dataclass(frozen=True)
class Options:
    """The arguments of the command line.

    Attributes:
      study: path of the study file.
      workdir: where records go, local or gs://.
      settings: how children are started.
      families: train only these; empty for all.
      cut: the smaller study of the file that is meant; "" for `study` itself.
      retry_oom: try again what ran out of memory alone.
      layout: the user's own, as `layouts.parse` reads it; "" to have it measured.
      tracker: where runs are logged too, one of `trackers.NAMES`; "" for nowhere.
      engine: "local" for this machine, "ray" for a cluster, whose head is at `address`
        ("" for the one that Ray finds).
    """

    study: str
    workdir: str
    settings: Settings
    families: tuple[str, ...] = ()
    retry_oom: bool = False
    layout: str = ""
    cut: str = ""
    engine: str = "local"
    address: str = ""
    tracker: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One planned run.

    Attributes:
      cost: has the fields of `cost.Cost`.
      seconds: a guess, of training the whole run.
      predictions, samples: bytes that they take on disk at most.
      shared: steps of it that another run of the study trains too, before both decay;
        0 for what has a record, and for the longest run of a trunk.
    """

    run: Run
    run_id: str
    state: RunState
    cost: Mapping[str, Any]
    seconds: float
    predictions: int = 0
    samples: int = 0
    shared: int = 0


class StudyPlan:
    """The runs of a study in a workdir, checked, prepared and with their costs."""

    def __init__(
        self, options: Options, engine: Engine, store: Store, progress: Progress
    ):
        self.options, self.engine, self.store = options, engine, store
        self.progress = progress
        self.study = study.load(options.study, options.families, options.cut)
        self._digests: dict[str, dict[str, str]] = {}  # by tokenizer, by corpus key
        self._prepared: dict[str, dict[str, Prepared]] = {}
        self._probes = probe_sets.ProbeSets(store)
        self._samples = sample_sets.SampleSets(store)
        self._truths: dict[tuple[EvaluationSet, int], _truth.Truth] = {}
        self._records: dict[str, Record] = {}
        self._recorded: set[str] = set()  # ids, as the workdir was last listed
        self._costs = CostCache(store)
        self._admitted: set[Run] = set()
        self._fixed: list[Run] | None = None  # the runs, where no record changes them
        self._ids: dict[Run, str] = {}
        self._predicted: set[str] = set()
        self._elsewhere: dict[Machine, layouts.Layouts] = {}
        self._remembered = False  # the study's file is written

    def open(self) -> None:
        """Checks and prepares everything that is known at the start."""
        records, corrupt = self.store.records()
        if self.store.newer:
            # What that version trained is neither trained again nor written over.
            first = next(iter(self.store.newer))
            why = f"{first} {self.store.problems[first]}"
            right = f"{why}; use that version, or another workdir"
            raise UserError("workdir", self.options.workdir, right)
        for path, wrong in corrupt.items():
            moved = self.store.set_aside(path)
            self.progress.note(
                f"corrupt record {path} ({wrong}): set aside as {moved}; its run is "
                "trained again"
            )
        self._records = {record.run_id: record for record in records}
        self.store.studies()
        for _ in self.store.attempts():
            pass  # read for what is wrong with them
        self._complain()
        # A study's own code, or a text of terabytes, may take as long as it likes.
        with self.engine.stop.at_once():
            runs = self._runs(lambda run: None)
            study.validate(runs)
        probed = self.engine.probe()  # ends by itself: Ray lets no signal raise
        self.here = Machine(probed["platform"], probed["devices"], probed["kind"])
        with self.engine.stop.at_once():
            self.layouts = self._layouts(self.here, "layout.json")
            self._admit(runs)

    def _runs(self, find: Callable[[Run], Record | None]) -> list[Run]:
        """The study's runs; built once where they do not depend on what is done."""
        if self._fixed is not None:
            return self._fixed
        results = study.Results(find)
        runs = self.study.runs(results)
        if not results.used:
            self._fixed = runs
        return runs

    @property
    def settled(self) -> bool:
        """Whether no result changes which runs the study has."""
        return self._fixed is not None

    def _complain(self) -> None:
        for line in self.store.complaints():
            self.progress.note(line)

    def entries(self) -> list[Entry]:
        """All runs of the study, by the records of now."""
        self._recorded = self.store.run_ids()
        runs = self._runs(self._find)
        self._admit(runs)
        return self._entries(runs)

    def remember(self) -> list[Entry]:
        """As `entries`; also keeps the study's membership in the workdir."""
        entries = self.entries()
        if self.settled and self._remembered:
            self.predict(entries)
            return entries
        self._remembered = True
        certain = [e for e in entries if e.state != "provisional"]
        planned = {entry.run_id: entry.run.to_json() for entry in certain}
        before = self.store.studies().get(self.study.name, {})
        if self.options.families:  # a part of the study does not forget the rest
            planned = before.get("planned", {}) | planned
        body: dict[str, Any] = {
            "path": str(self.study.path),
            "about": (self.study.module.__doc__ or "").strip(),
            "runs": list(planned),
            "planned": planned,
            "provisional": len(entries) - len(certain),
            "included": plugins.included(),
            "truth": self._truth(before.get("truth", []), certain),
            **frozen.said(self.study.module),
        }
        self._probes.keep()
        self._samples.keep()
        body = json.loads(json.dumps(body))  # as it is read back
        if body != before:
            self.store.write_study(self.study.name, body)
        self.predict(entries)
        return entries

    def _truth(
        self, before: Sequence[Mapping[str, Any]], entries: Sequence[Entry]
    ) -> list[Mapping[str, Any]]:
        """What is known of the sets that the runs are scored on, or was before."""
        facts = {(fact["evaluation"], fact["length"]): fact for fact in before}
        for place, run in _truth.sets(entry.run for entry in entries).items():
            if place not in self._truths:
                prepared = self._prepared[_truth.TOKENIZER]
                self._truths[place] = _truth.of_set(place[0], run, prepared)
            fact = dataclasses.asdict(self._truths[place])
            facts[fact["evaluation"], fact["length"]] = fact
        return list(facts.values())

    def as_said(self) -> dict[str, Any]:
        """All that the study says of itself before it trains; see `frozen`."""
        runs = self._runs(lambda run: None)
        text: dict[str, str] = {}
        for made in self._digests.values():
            text |= made
        body = {
            "study": self.study.name,
            "runs": [run.to_json() for run in runs],
            "corpora": text,
            "probes": self._probes.digests(),
            **frozen.said(self.study.module),
        }
        plain: dict[str, Any] = json.loads(json.dumps(body))
        return plain

    def predict(self, entries: Sequence[Entry]) -> None:
        """Keeps the first guess of each run's time, to be compared with its record."""
        machine = hardware.lookup(TYPICAL[self.layouts.base.platform])
        measured = {r.run["model.family"] for r in self._records.values()}
        new = {
            entry.run_id: Estimate(
                run_id=entry.run_id,
                target=machine.name,
                device=machine.device,
                devices=machine.devices,
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

    def layouts_of(self, machine: Machine) -> layouts.Layouts:
        """The layouts of packs on another kind of machine, or on this."""
        if machine == self.here:
            return self.layouts
        if machine not in self._elsewhere:
            words = f"{machine.platform}-{machine.devices}-{machine.kind}".lower()
            file = "layout-" + re.sub("[^a-z0-9]+", "-", words) + ".json"
            self._elsewhere[machine] = self._layouts(machine, file)
        return self._elsewhere[machine]

    def _layouts(self, machine: Machine, file: str) -> layouts.Layouts:
        base = layouts.assumed(machine.platform, machine.devices)
        given = self.options.layout
        if given:
            base = layouts.parse(given, base)
        note = self.progress.note
        return layouts.Layouts(
            self.store, base, self._measure, note, self._depth, bool(given), file
        )

    def _depth(self, run: Run) -> int:
        depth: int = self._costs.get(run, self.spec(run))["depth"]
        return depth

    def _measure(self, run: Run, layout: Layout) -> float | None:
        assert isinstance(self.engine, Local)  # others search on their machines
        self.progress.note(f"measuring {layouts.words(layout)}")
        return self.engine.measure(run, self.spec(run), layout)

    def _admit(self, runs: Sequence[Run]) -> None:
        """Checks, prices and prepares runs that were not seen before."""
        if runs is self._fixed and self._admitted:
            return
        new = [run for run in runs if run not in self._admitted]
        if self._admitted:  # the first runs are checked before any machine is
            study.validate(new)
        study.check_layout(new, self.layouts.base)
        # Finds wrong names before anything is prepared; what another vocabulary costs,
        # or pictures, is asked for as soon as their size is known.
        as_bytes = lambda run: families.Tokens(BYTES, run.length)
        texts = [run for run in new if not corpora.of_pictures(run.data.corpus[0].name)]
        self._costs.add(texts, as_bytes, self.engine.describe)
        for tokenizer in sorted({run.data.tokenizer for run in new}):
            alike = [run for run in new if run.data.tokenizer == tokenizer]
            self._prepare(alike, tokenizer)
            study.check_budgets(alike, self._prepared[tokenizer])
            for run in alike:
                corpora.check_alike(run, self._prepared[tokenizer])
            corpora.check_evaluation(alike, self._prepared[tokenizer])
            study.check_damaged(alike, self._prepared[tokenizer])
            self._probes.admit(alike, self._prepared[tokenizer])
            self._samples.admit(alike, self._prepared[tokenizer])
            self._costs.add(alike, self.spec, self.engine.describe)
        self._admitted |= set(new)

    def _prepare(self, runs: Iterable[Run], tokenizer: str) -> None:
        digests = self._digests.setdefault(tokenizer, {})
        wanted = {part.key: part for run in runs for part in run.corpora()}
        parts = [part for key, part in wanted.items() if key not in digests]
        if not parts:
            return
        data_dir = self.options.settings.data_dir
        shared = self.options.settings.shared
        with self.engine.stop.at_once():
            made = corpora.prepare(parts, data_dir, tokenizer, True, shared)
        for key, prepared in made.items():
            self._tell_others(key, tokenizer, prepared.digest)
        digests |= {key: prepared.digest for key, prepared in made.items()}
        self._prepared.setdefault(tokenizer, {}).update(made)

    def _tell_others(self, key: str, tokenizer: str, digest: str) -> None:
        """Notes how many records have an older text of this name."""
        same = [r for r in self._records.values() if key in r.digests]
        same = [r for r in same if r.run.get("data.tokenizer") == tokenizer]
        if others := sum(record.digests[key] != digest for record in same):
            self.progress.note(
                f"{others} of the records in {self.options.workdir} have another text "
                f"of {key}: they are kept, and not used here"
            )

    def digests(self, run: Run) -> Mapping[str, str]:
        """Those of the study's texts by `Part.key`, in the tokenizer of a run."""
        return self._digests[run.data.tokenizer]

    def spec(self, run: Run) -> families.Spec:
        """What the run's models read."""
        return spec_of(run, self._prepared[run.data.tokenizer])

    def _images(self, run: Run) -> families.Images | None:
        """What its corpora hold; None of text."""
        return self._prepared[run.data.tokenizer][run.data.corpus[0].key].images

    def _run_id(self, run: Run) -> str:
        run_id = self._ids.get(run)
        if run_id is None:
            run_id = run.run_id(self._digests[run.data.tokenizer])
            self._ids[run] = run_id
        return run_id

    def _entries(self, runs: Sequence[Run]) -> list[Entry]:
        machine = hardware.lookup(TYPICAL[self.layouts.base.platform])
        ids = [self._run_id(run) for run in runs]
        states = list(map(self._state, runs, ids))
        costs = [self._costs.get(run, self.spec(run)) for run in runs]
        rough = [hardware.seconds(cost, machine) for cost in costs]
        shared = _shared(runs, states)
        ratios = self._ratios(runs, ids, rough)
        return [
            Entry(
                run=run,
                run_id=run_id,
                state=state,
                cost=cost,
                seconds=seconds * ratios[run.model.family],
                predictions=probe_sets.size(run, self.spec(run)),
                samples=sample_sets.size(run, self._images(run)),
                shared=steps,
            )
            for run, run_id, state, cost, seconds, steps in zip(
                runs, ids, states, costs, rough, shared, strict=True
            )
        ]

    def _ratios(
        self, runs: Sequence[Run], ids: Sequence[str], rough: Sequence[float]
    ) -> dict[str, float]:
        """By family: what its records took, over what was guessed of them."""
        measured = dict.fromkeys((run.model.family for run in runs), 0.0)
        guessed = dict(measured)
        for run, run_id, seconds in zip(runs, ids, rough, strict=True):
            if record := self._records.get(run_id):
                measured[run.model.family] += record.wall_seconds
                guessed[run.model.family] += seconds
        return {f: measured[f] / guessed[f] if guessed[f] else 1.0 for f in guessed}

    def _find(self, run: Run) -> Record | None:
        digests = self._digests.get(run.data.tokenizer, {})
        if any(part.key not in digests for part in run.corpora()):
            return None
        return self._record(self._run_id(run))

    def _record(self, run_id: str) -> Record | None:
        if run_id in self._recorded and run_id not in self._records:
            self._records[run_id] = self.store.read(run_id)
        return self._records.get(run_id)

    def _state(self, run: Run, run_id: str) -> RunState:
        if run.provisional:
            return "provisional"
        record = self._record(run_id)
        return record.status if record else "left"


def _shared(runs: Sequence[Run], states: Sequence[RunState]) -> list[int]:
    """The steps of each run that another one trains too; see `Entry.shared`."""
    steps: dict[Run, int] = {}
    for waiting in ("left", "provisional"):  # the latter wait for the former to end
        pairs = zip(runs, states, strict=True)
        steps |= trunks.shared(run for run, state in pairs if state == waiting)
    return [steps.get(run, 0) if steps else 0 for run in runs]
