"""The predictions that a workdir's runs kept, as a table knows them.

One `Predictions` a probe set: the positions, which runs kept predictions there and
after which fractions of their training, and a way to read them one at a time. Nothing
is held in memory but the positions.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from analysis.laws import Array
from analysis.tables import exclusions
from scaling import intact, probe_file
from scaling.probe_file import ProbeSet
from scaling.record import Record
from scaling.store import Store

# A run and the fraction of its training after which it predicted, or BEST.
Point = tuple[str, float]
# Stands in place of a fraction for a run's best scoring, where early stopping ends it.
BEST = -1.0
# Exclusions of predictions are about this, and not about a target's losses.
ABOUT = "predictions at {}"
SHORT = 8  # digits of a digest that people read


class Source(Protocol):
    """Where the predictions of one probe set come from."""

    def __call__(self, run_id: str, fraction: float) -> Array:
        """Natural logs of probabilities [positions, vocab], as they were kept."""


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What runs predicted at one probe set.

    Attributes:
      probes: the positions, their classes and weights.
      fractions: by run_id, those after which its predictions were kept, rising; BEST
        among them where those of its best scoring are.
      source: gives one run's.
      stopped: by run_id, the fraction of its training at which its best scoring was.
      truth: the true chances, natural logs [positions, vocab]; None where not known.
    """

    probes: ProbeSet
    fractions: Mapping[str, tuple[float, ...]]
    source: Source
    truth: Array | None = None
    stopped: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.probes.name

    @property
    def runs(self) -> tuple[str, ...]:
        """run_id of those that kept any, in order."""
        return tuple(self.fractions)

    @property
    def positions(self) -> int:
        return len(self.probes.at)

    @property
    def bits_per_byte(self) -> float:
        """What one nat per token is, in bits per byte."""
        return 1.0 / (math.log(2.0) * self.probes.bytes_per_token)

    def read(self, run_id: str, fraction: float = 1.0) -> Array:
        """float32 [positions, vocab]: natural logs that add up to 1 once more.

        What is kept is rounded to float16, so its sums are not 1 to the last digits.

        Raises:
          KeyError: the run has none after that fraction.
        """
        if fraction not in self.fractions[run_id]:
            raise KeyError(f"{run_id} kept no predictions after {fraction:g}")
        return normalised(self.source(run_id, fraction))

    def losses(self, points: Sequence[Point]) -> Array:
        """float64 [points, positions]: nats that each lost on what stands there."""
        place = np.arange(self.positions), self.probes.target
        return -np.stack([self.read(*point)[place] for point in points]).astype(float)


def normalised(logs: Array) -> Array:
    """Logs [..., vocab] less the log of the sum of what they are logs of; float32."""
    logs = np.asarray(logs, np.float32)
    return logs - np.log(np.exp(logs).sum(axis=-1, keepdims=True))


class Held:
    """Predictions held in memory, by (run_id, fraction)."""

    def __init__(self, arrays: Mapping[Point, Array]):
        self.arrays = arrays

    def __call__(self, run_id: str, fraction: float) -> Array:
        return self.arrays[run_id, fraction]


def held(
    probes: ProbeSet,
    arrays: Mapping[Point, Array],
    truth: Array | None = None,
    stopped: Mapping[str, float] | None = None,
) -> Predictions:
    """Predictions that are in memory and in no workdir."""
    fractions: dict[str, tuple[float, ...]] = {}
    for run_id, fraction in sorted(arrays):
        fractions[run_id] = (*fractions.get(run_id, ()), fraction)
    return Predictions(probes, fractions, Held(arrays), truth, stopped or {})


# --- Of a workdir ----------------------------------------------------------------


class Files:
    """Predictions as artifacts of a workdir; the file's sum is checked each time."""

    def __init__(self, store: Store, records: Mapping[str, Record], name: str):
        self.store, self.records, self.name = store, records, name

    def __call__(self, run_id: str, fraction: float) -> Array:
        file = opened(self.store, self.records[run_id])
        return file.log_probabilities(self.name, _moment(fraction))


def _moment(fraction: float) -> probe_file.Moment:
    """A fraction, or BEST, as files have it."""
    return probe_file.BEST if fraction == BEST else fraction


def opened(store: Store, record: Record) -> probe_file.Predictions:
    """A record's file of predictions. Raises Unreadable where it cannot be used."""
    name = probe_file.PREDICTIONS.split(".")[0]
    body = store.artifact(record, name, probe_file.MOST)
    if body is None:
        raise intact.Unreadable("is not kept")
    return probe_file.Predictions(body)


def of_workdir(
    store: Store, records: Iterable[Record], listed: Collection[str] = ()
) -> tuple[tuple[Predictions, ...], pd.DataFrame]:
    """Every probe set of the records with what was predicted there.

    Of several probe sets of one name one is taken: that of the runs which a study of
    the workdir names today and, of several such, that of the run that finished last.

    Args:
      listed: run_id of the runs that the workdir's studies name.

    Returns the probe sets, by name, and as rows of `Table.exclusions` each finished run
    that is left out of one, with its reason.
    """
    done = {r.run_id: r for r in records if r.status == "done"}
    asked = {i: _asked(r) for i, r in done.items() if _asked(r)}
    names = sorted({name for wanted in asked.values() for name in wanted})
    if not names:
        return (), exclusions.excluded([], [])
    files, wrong = _files(store, done, asked)
    kept, out = [], []
    for name in names:
        found_here, reasons = _one(store, name, done, asked, files, wrong, listed)
        kept += [found_here] if found_here is not None else []
        about = ABOUT.format(name)
        out.append(exclusions.excluded(list(reasons), list(reasons.values()), about))
    return tuple(kept), pd.concat(out, ignore_index=True)


def _asked(record: Record) -> tuple[str, ...]:
    """Names of the probe sets at which a run was to keep predictions."""
    entries = record.run.get("probes", ())
    return tuple(str(entry["name"]) for entry in entries)


class Kept(NamedTuple):
    """What a run's file says of one probe set: its digest, fractions, and best step."""

    digest: str
    fractions: tuple[float, ...]
    best_step: int | None


# Of each run's file, by probe set.
Inside = Mapping[str, Kept]


def _files(
    store: Store, done: Mapping[str, Record], asked: Collection[str]
) -> tuple[dict[str, Inside], dict[str, str]]:
    """What stands in the runs' files, and for each that cannot be used the reason."""
    inside: dict[str, Inside] = {}
    wrong: dict[str, str] = {}
    for run_id in asked:
        try:
            file = opened(store, done[run_id])
            inside[run_id] = {
                name: _kept(file, name, digest) for name, digest in file.digests.items()
            }
        except intact.Unreadable as error:
            wrong[run_id] = f"its file of predictions {error}"
    return inside, wrong


def _kept(file: probe_file.Predictions, name: str, digest: str) -> Kept:
    step, fractions = file.best_step(name), file.fractions(name)
    return Kept(digest, fractions if step is None else (BEST, *fractions), step)


def _one(
    store: Store,
    name: str,
    done: Mapping[str, Record],
    asked: Mapping[str, Collection[str]],
    files: Mapping[str, Inside],
    wrong: Mapping[str, str],
    listed: Collection[str],
) -> tuple[Predictions | None, dict[str, str]]:
    """The probe set of a name, and by run_id why a run is left out of it."""
    reasons = {
        i: "keeps no predictions: its run names no such probe set"
        for i in done
        if name not in asked.get(i, ())
    }
    reasons |= {i: why for i, why in wrong.items() if name in asked[i]}
    by_digest = collections.defaultdict(list)
    for run_id, inside in files.items():
        if name in inside:
            by_digest[inside[name].digest].append(run_id)
        elif name in asked[run_id]:
            reasons[run_id] = "its file of predictions has none of this probe set"
    sets, unread = _sets(store, by_digest)
    for digest, why in unread.items():
        reasons |= dict.fromkeys(by_digest.pop(digest), why)
    if not by_digest:
        return None, reasons

    def newest(digest: str) -> tuple[bool, str, str]:
        last = max((i in listed, done[i].finished) for i in by_digest[digest])
        return (*last, digest)

    taken = max(by_digest, key=newest)
    for digest in set(by_digest) - {taken}:
        why = "predicts at another probe set of the same name: "
        why += f"{digest[:SHORT]}, and not {taken[:SHORT]}"
        reasons |= dict.fromkeys(by_digest[digest], why)
    fractions, stopped = {}, {}
    for run_id in sorted(by_digest[taken]):
        record, kept = done[run_id], files[run_id][name]
        if why := _unfit(store, record, sets[taken], kept):
            reasons[run_id] = why
            continue
        fractions[run_id] = kept.fractions
        if kept.best_step is not None:
            stopped[run_id] = kept.best_step / record.steps
    source = Files(store, {i: done[i] for i in fractions}, name)
    truth = _truth(store, taken, sets[taken])
    return Predictions(sets[taken], fractions, source, truth, stopped), reasons


def _sets(
    store: Store, digests: Iterable[str]
) -> tuple[dict[str, ProbeSet], dict[str, str]]:
    """The probe sets by digest, and what is wrong with the others."""
    sets, unread = {}, {}
    for digest in digests:
        try:
            sets[digest] = probe_file.read(store, digest)
        except FileNotFoundError:
            unread[digest] = f"the workdir has no probe set {digest[:SHORT]}"
        except intact.Unreadable as error:
            unread[digest] = f"its probe set {digest[:SHORT]} {error}"
    return sets, unread


def _unfit(store: Store, record: Record, probes: ProbeSet, kept: Kept) -> str:
    """Why a run's predictions cannot stand beside the others'; "" where they can."""
    mine = str(record.run.get("data.tokenizer", "bytes"))
    theirs = str(probes.facts.get("tokenizer", "bytes"))
    if mine != theirs:
        return f"predicts tokens of {mine}: the probe set's are of {theirs}"
    if not kept.fractions:
        return "its file of predictions has none of this probe set"
    if kept.best_step is not None and not 1 <= kept.best_step <= record.steps:
        return (
            f"its file of predictions names step {kept.best_step} of {record.steps} as "
            "the best"
        )
    try:
        file = opened(store, record)
        for fraction in kept.fractions:
            logs = file.log_probabilities(probes.name, _moment(fraction))
            if why := _unsound(logs, probes):
                when = f"after {fraction:g} of its training"
                when = "at its best step" if fraction == BEST else when
                return f"its predictions {when} {why}"
    except intact.Unreadable as error:
        return f"its file of predictions {error}"
    return ""


# What float16 leaves of sums of chances: logs down to -16 are off by up to 2**-7.
ROUNDED = 0.02


def _unsound(logs: Array, probes: ProbeSet) -> str:
    """Why logs are no predictions at these positions; "" where they are."""
    wanted = (len(probes.at), probes.vocab)
    if logs.shape != wanted:
        return f"are {logs.shape[:2]} and not {wanted} (positions, tokens)"
    if not np.allclose(np.exp(logs).sum(axis=1), 1.0, rtol=0, atol=ROUNDED):
        return "are no chances: they do not add up to 1"
    return ""


def _truth(store: Store, digest: str, probes: ProbeSet) -> Array | None:
    """The true chances; None where they are not known, or are of another shape."""
    try:
        truth = probe_file.read_truth(store, digest)
    except intact.Unreadable as error:
        path = store.path(probe_file.FOLDER, f"{digest}.truth.npz")
        store.problems[str(path)] = f"{error}: nothing is set beside the truth"
        return None
    if truth is not None and truth.shape != (len(probes.at), probes.vocab):
        return None
    return truth
