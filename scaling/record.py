"""Records of finished runs, the contract of training and analysis, and their store.

A record has what a run computed (every field of `Run`), its results (readings) and
where it was trained. It is written once, atomically, after its artifacts. A failed
attempt (crash, out of memory, preemption) is not a fact about the run and is kept in a
file of its own.

A workdir, local or gs://, holds
    studies/NAME.json      the ids of a study's runs
    layout.json            how runs are laid out on this machine
    records/RUN_ID.json    the records
    artifacts/RUN_ID/      nats per document, loss curve, predictions, samples
    probes/DIGEST.npz      positions at which predictions are kept (probe_file.py)
    samples/DIGEST.npz     noises and pictures of samples (corpora/_samples.py)
    frozen/NAME.json       the plan of a study before it trained (frozen.py)
    attempts/RUN_ID/N.json failed attempts
    checkpoints/RUN_ID/    of unfinished runs; where two attempts at a run may write at
                           once, as in a cluster, each in a folder of its own there

What two attempts both write is decided by the disk or the bucket: a record or attempt
is made only where there is none of that name, and an artifact of other bytes than the
one that is there gets another name, so that a record's artifacts are its own.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from etils import epath

from scaling import intact
from scaling.address import absolute
from scaling.writing import write_atomic, write_once

SCHEMA = 1
OF_ATTEMPT = "attempt-"  # begins the name of a folder of one attempt's checkpoints

# The file of what a family that no gradient trains has fitted to its text.
FIT = "fit.npz"

Status = Literal["done", "diverged"]
# Of a failed attempt; "lost" says that the machine went, with all that ran on it.
Cause = Literal["out of memory", "crash", "preemption", "lost"]


class Newer(ValueError):
    """A record of a later schema, of which this version knows nothing."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """The result of a run on one evaluation set.

    Attributes:
      evaluation: name of the evaluation set.
      quantity: "loss" in nats/token, "bits_per_byte", or one of quantities.py.
      kind: "final", or "best" over the run's scorings, with its `step`.
      value: in `unit`; None where the run diverged.
      se: standard error, clustered by document; same unit.
      unit: such as "nats/token" or "bits/byte".
      count: tokens scored, or values of pixels; pictures of a denoiser.
    """

    evaluation: str
    quantity: str
    kind: Literal["final", "best"]
    value: float | None
    se: float | None
    unit: str
    count: int
    step: int


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A file beside the record: `path` is relative to the workdir."""

    name: str
    path: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run: what it computed, its results, and where it was trained.

    Attributes:
      run_id: identity of what was computed.
      status: "done" or "diverged": a fact about the run.
      run: every field of Run, flattened with dotted names.
      digests: content digest by corpus key.
      trajectory: hash of what fixes a shared trunk; by default the run_id. Runs of
        one trajectory are not independent, so intervals resample them together.
      params_total, params_active, params_embedding: exact counts; embedding is the
        input table plus the output head, once if tied.
      tokens: seen; unique_tokens: in the repeated prefix; epochs: their ratio.
      damage: share of the bytes of the unique tokens that data.quality changed.
      data_unit: what `tokens` and the other counts of data are: "tokens" or "pictures".
      flops: of training, analytic. flops_xla: counted by XLA, None with the reason in
        flops_xla_reason where XLA cannot count.
      readings: keyed (evaluation, quantity, kind).
      artifacts: files written before the record.
      attempt: which attempt finished, from 1.
      layout: mesh, pack width, precision: how it was run.
      wall_seconds: training and evaluation, without compilation.
      finished: UTC time, ISO 8601.

    >>> record = Record(
    ...     run_id="0123456789abcdef",
    ...     status="done",
    ...     run={"model.family": "lstm", "model.size": 24_000},
    ...     digests={"kjv": "9f2c"},
    ...     trajectory="0123456789abcdef",
    ...     params_total=40_120,
    ...     params_active=40_120,
    ...     params_embedding=16_448,
    ...     steps=195,
    ...     tokens=99_840,
    ...     unique_tokens=99_840,
    ...     epochs=1.0,
    ...     flops=2.4e10,
    ...     flops_xla=None,
    ...     flops_xla_reason="an example",
    ...     readings=(
    ...         Reading("kjv", "loss", "final", 1.53, 0.01, "nats/token", 65_536, 195),
    ...     ),
    ...     artifacts=(),
    ...     attempt=1,
    ...     layout={"platform": "cpu"},
    ...     wall_seconds=4.5,
    ...     finished="2026-11-28T12:00:00+00:00",
    ...     host="laptop",
    ...     device="cpu",
    ...     versions={},
    ...     commit="",
    ... )
    >>> record.run["model.family"], record.reading("kjv").value
    ('lstm', 1.53)
    >>> Record.from_json(record.to_json()) == record
    True
    """

    run_id: str
    status: Status
    run: Mapping[str, Any]
    digests: Mapping[str, str]
    trajectory: str
    params_total: int
    params_active: int
    params_embedding: int
    steps: int
    tokens: int
    unique_tokens: int
    epochs: float
    flops: float
    flops_xla: float | None
    flops_xla_reason: str
    readings: tuple[Reading, ...]
    artifacts: tuple[Artifact, ...]
    attempt: int
    layout: Mapping[str, Any]
    wall_seconds: float
    finished: str
    host: str
    device: str
    versions: Mapping[str, str]
    commit: str
    schema: int = SCHEMA
    damage: float = 0.0
    data_unit: str = "tokens"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Record:
        """Raises ValueError naming what is missing, unknown or of another schema.

        A field with a default may be missing, since older records lack it. Raises Newer
        for a later schema.
        """
        given = body.get("schema")
        if isinstance(given, int) and given > SCHEMA:
            raise Newer(
                f"was written by a newer version (schema {given}; this one reads "
                f"{SCHEMA}): it is left as it is and not used"
            )
        if given != SCHEMA:
            raise ValueError(f"schema {given!r}, not {SCHEMA}")
        names, defaults = _fields()
        kept = {**defaults, **body}
        if kept.keys() != names:
            raise ValueError(f"fields differ: {sorted(kept.keys() ^ names)}")
        kept["readings"] = tuple(Reading(**entry) for entry in body["readings"])
        kept["artifacts"] = tuple(Artifact(**entry) for entry in body["artifacts"])
        return cls(**kept)

    @property
    def trained(self) -> bool:
        """Whether gradient steps trained it; what is fitted at once leaves `FIT`."""
        return all(not artifact.path.endswith(f"/{FIT}") for artifact in self.artifacts)

    def reading(
        self, evaluation: str, kind: str = "final", quantity: str = "loss"
    ) -> Reading:
        """One reading on one evaluation set. Raises KeyError where there is none."""
        wanted = (evaluation, kind, quantity)
        for entry in self.readings:
            if (entry.evaluation, entry.kind, entry.quantity) == wanted:
                return entry
        raise KeyError(f"{self.run_id} has no {kind} {quantity} on {evaluation!r}")


@functools.cache
def _fields() -> tuple[frozenset[str], dict[str, Any]]:
    """Names of a record's fields, and the defaults of those that may be missing."""
    fields = {field.name: field.default for field in dataclasses.fields(Record)}
    given = {n: x for n, x in fields.items() if x is not dataclasses.MISSING}
    return frozenset(fields), given


# Fields in which two trainings of the same run may differ.
CIRCUMSTANCE = ("attempt", "wall_seconds", "finished", "host", "device")


def substance(record: Record) -> dict[str, Any]:
    """The record without attempt, times, host and device; equal for equal runs."""
    body = record.to_json()
    for name in CIRCUMSTANCE:
        del body[name]
    return body


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A failed attempt at a run: a fact about the machine, not about the run.

    `step` is that of the checkpoint to go on from. `together` counts the runs or the
    slots of the pack, whichever were more: 1 means that the run was alone.
    """

    run_id: str
    number: int
    cause: Cause
    message: str
    log_tail: str
    device: str
    time: str
    step: int = 0
    together: int = 1


class Store:
    """The records of a workdir, local or gs://, each written once.

    Args:
      workdir: the folder that `scaling run --workdir` was given.
      attempt: names the folder of this process's own checkpoints, if another process
        may train the same runs.

    Raises:
      UserError: an address that no workdir can have.

    Attributes:
      root: the folder.
      problems: by path, what is wrong with a file, and what is done about it.
      newer: ids of records that a newer version wrote, as last listed, by path.

    >>> store = Store("runs/of-no-study")
    >>> store.records()  # the records, and what is wrong with files that are none
    ([], {})
    >>> store.exists("0123456789abcdef")
    False
    """

    def __init__(self, workdir: str | os.PathLike[str], attempt: str = ""):
        self.root, self.attempt = epath.Path(absolute(workdir)), attempt
        self.problems: dict[str, str] = {}
        self.newer: dict[str, str] = {}
        self._reported: set[str] = set()

    def complaints(self) -> list[str]:
        """A line for each problem that no earlier call returned."""
        new = {p: why for p, why in self.problems.items() if p not in self._reported}
        self._reported |= set(new)
        return [f"{path} {why}" for path, why in new.items()]

    def path(self, *parts: str) -> epath.Path:
        return self.root.joinpath(*parts)

    def exists(self, run_id: str) -> bool:
        return self.path("records", f"{run_id}.json").exists()

    def run_ids(self) -> set[str]:
        """Ids that have a record: one listing, where `exists` asks for each."""
        names = _listed(self.path("records"))
        return {name.removesuffix(".json") for name in names if _is_json(name)}

    def write(self, record: Record) -> bool:
        """Keeps `record`; False if one with this id is there already (it stays)."""
        text = json.dumps(record.to_json(), indent=1, sort_keys=True)
        target = self.path("records", f"{record.run_id}.json")
        return write_once(target, text.encode())

    def write_artifact(self, run_id: str, name: str, data: bytes) -> Artifact:
        """Writes a file beside the record; before the record, so none dangles."""
        sha256 = hashlib.sha256(data).hexdigest()
        stem, _, ending = name.partition(".")
        if not self._holds(self.path("artifacts", run_id, name), data):
            name = f"{stem}-{sha256[:12]}.{ending}"
            write_atomic(self.path("artifacts", run_id, name), data)
        return Artifact(stem, f"artifacts/{run_id}/{name}", sha256)

    def _holds(self, path: epath.Path, data: bytes) -> bool:
        """Whether a file has this content; it is made where there is none."""
        if write_once(path, data):
            return True
        try:
            return intact.data(path, len(data)) == data
        except (intact.Unreadable, FileNotFoundError):
            return False

    def read(self, run_id: str) -> Record:
        """The record of one run.

        Raises:
          FileNotFoundError: there is none.
          ValueError: what is there is not that run's record; says why.
        """
        return _parse(self.path("records", f"{run_id}.json"))

    def records(self) -> tuple[list[Record], dict[str, str]]:
        """All records, ordered by id, and for each corrupt file what is wrong.

        Those of a newer version are neither; see `newer` and `problems`.
        """
        good, corrupt = [], {}
        self.newer = {}
        folder = self.path("records")
        for path in _json_files(folder):
            try:
                good.append(_parse(path))
            except Newer as error:
                self.newer[str(path)] = path.stem
                self.problems[str(path)] = str(error)
            except ValueError as error:
                corrupt[str(path)] = str(error)
        for name in _listed(folder):
            other = name != "corrupt" and not _is_json(name)
            if other and (folder / name).is_dir():
                self.problems[str(folder / name)] = (
                    "is a folder: no record in it is read"
                )
        return good, corrupt

    def cached(self, *parts: str) -> dict[str, Any]:
        """A JSON object that can be recomputed; {} where it is missing or damaged."""
        path = self.path(*parts)
        try:
            return intact.json_object(path)
        except FileNotFoundError:
            return {}
        except intact.Unreadable as error:
            self.problems[str(path)] = f"{error}: not used"
            return {}

    def set_aside(self, path: str) -> epath.Path:
        """Moves a corrupt record to records/corrupt/ under a name not yet taken."""
        source = epath.Path(path)
        folder = self.path("records", "corrupt")
        if not intact.is_remote(folder):  # a bucket has no folders
            folder.mkdir(parents=True, exist_ok=True)
        here = folder.iterdir() if folder.is_dir() else ()
        taken = [path.name for path in here]
        number = sum(name.startswith(f"{source.stem}.") for name in taken)
        target = folder / f"{source.stem}.{number}.json"
        if intact.is_remote(source):
            target.write_bytes(source.read_bytes())
            source.unlink()
        else:
            os.rename(source, target)  # whatever it is: a link, a fifo, a folder
        return target

    def add_attempt(self, attempt: Attempt) -> None:
        """Keeps a failed attempt, under the next number that nobody else has taken."""
        for number in itertools.count(attempt.number):
            path = self.path("attempts", attempt.run_id, f"{number}.json")
            body = dataclasses.asdict(attempt) | {"number": number}
            if write_once(path, json.dumps(body, indent=1).encode()):
                return

    def checkpoints(self, run_id: str) -> epath.Path:
        """Where this process keeps the checkpoints of a run."""
        folder = self.path("checkpoints", run_id)
        return folder / f"{OF_ATTEMPT}{self.attempt}" if self.attempt else folder

    def all_checkpoints(self, run_id: str) -> list[epath.Path]:
        """The folders in which any attempt at a run keeps its checkpoints."""
        folder = self.path("checkpoints", run_id)
        apart = [name for name in _listed(folder) if name.startswith(OF_ATTEMPT)]
        return [folder, *(folder / name for name in sorted(apart))]

    def checkpoint_step(self, run_id: str) -> int:
        """Step of the newest checkpoint of an unfinished run, 0 where there is none."""
        names = [n for f in self.all_checkpoints(run_id) for n in _listed(f)]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def attempts(self, run_id: str | None = None) -> Iterator[Attempt]:
        """Failed attempts in order, of one run or of all."""
        root = self.path("attempts")
        if run_id is not None:
            folders = [root / run_id]
        else:
            folders = sorted(root.iterdir()) if root.is_dir() else []
        for folder in folders:
            numbered = [p for p in _json_files(folder) if p.stem.isdecimal()]
            for path in sorted(numbered, key=lambda p: int(p.stem)):
                try:
                    yield _attempt(intact.json_object(path), folder.name)
                except ValueError as error:
                    self.problems[str(path)] = f"{error}: this attempt is not counted"

    def write_study(self, name: str, body: Mapping[str, Any]) -> None:
        path = self.path("studies", f"{name}.json")
        write_atomic(path, json.dumps(body, indent=1).encode())

    def studies(self) -> dict[str, dict[str, Any]]:
        """The files of the studies by name; `runs` is the list of ids."""
        read = {}
        for path in _json_files(self.path("studies")):
            try:
                read[path.stem] = _study(intact.json_object(path))
            except ValueError as error:
                self.problems[str(path)] = (
                    f"{error}: not used; `scaling run` writes it anew"
                )
        return read

    def artifact(self, record: Record, name: str, most: int) -> bytes | None:
        """The bytes of a record's file; None where it has none of that name.

        Args:
          most: bytes that it may have.

        Raises:
          Unreadable: it lies outside the workdir, or is not what the record says.
        """
        for artifact in record.artifacts:
            if artifact.name == name:
                path = self._inside(artifact.path)
                try:
                    body = intact.data(path, most)
                except FileNotFoundError as error:
                    raise intact.Unreadable("is gone") from error
                if hashlib.sha256(body).hexdigest() != artifact.sha256:
                    raise intact.Unreadable("is not what the record was written with")
                return body
        return None

    def _inside(self, relative: str) -> epath.Path:
        """A path of the workdir. Raises Unreadable for one that leads out of it."""
        parts = relative.split("/")
        if parts[0] != "artifacts" or ".." in parts or "" in parts:
            raise intact.Unreadable("is not among the workdir's artifacts: not opened")
        path = self.path(*parts)
        if not intact.is_remote(path):
            root = os.path.realpath(self.root)
            if not os.path.realpath(path).startswith(root.rstrip("/") + "/"):
                raise intact.Unreadable("leads out of the workdir: not opened")
        return path


def _json_files(folder: epath.Path) -> list[epath.Path]:
    """Those of a folder, by name. No pattern is matched: a path may hold [ and *."""
    return [folder / name for name in sorted(_listed(folder)) if _is_json(name)]


def _listed(folder: epath.Path) -> list[str]:
    """Names in a folder; a local one is listed by the system, which is quick."""
    if not folder.is_dir():
        return []
    if intact.is_remote(folder):
        return [path.name for path in folder.iterdir()]
    return os.listdir(folder)


def _is_json(name: str) -> bool:
    return name.endswith(".json") and name != ".json"


def _parse(path: epath.Path) -> Record:
    """Raises ValueError that says what is wrong, FileNotFoundError."""
    body = intact.json_object(path)
    try:
        record = Record.from_json(body)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"not a record: {error}") from error
    _check_kinds(record)
    if record.run_id != path.stem:
        raise ValueError(f"is a copy of the record of run {record.run_id}")
    return record


_NUMBER = (int, float)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("run_id", "status", "trajectory", "finished", "device"), (str,)),
    **dict.fromkeys(("run", "digests", "layout"), (dict,)),
    **dict.fromkeys(("params_total", "params_active", "params_embedding"), _NUMBER),
    **dict.fromkeys(("steps", "tokens", "unique_tokens", "epochs"), _NUMBER),
    **dict.fromkeys(("flops", "wall_seconds", "damage"), _NUMBER),
}


def _check_kinds(record: Record) -> None:
    """Raises ValueError for a field that what reads records could not work with."""
    for name, kinds in _KINDS.items():
        value = getattr(record, name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"not a record: {name} is {value!r}"[:200])
    if record.status not in ("done", "diverged"):
        raise ValueError(f"not a record: status is {record.status!r}"[:200])
    for reading in record.readings:
        numbers = [reading.value, reading.se, reading.count, reading.step]
        words = [reading.evaluation, reading.quantity, reading.kind, reading.unit]
        if not all(n is None or isinstance(n, _NUMBER) for n in numbers) or not all(
            isinstance(word, str) for word in words
        ):
            raise ValueError(f"not a record: a reading is {reading}"[:200])
    for artifact in record.artifacts:
        values = (artifact.name, artifact.path, artifact.sha256)
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"not a record: an artifact is {artifact}"[:200])


def _attempt(body: Mapping[str, Any], run_id: str) -> Attempt:
    """Raises ValueError where it is no attempt at that run."""
    try:
        attempt = Attempt(**body)
    except TypeError as error:
        raise ValueError(f"is no attempt ({error})") from error
    whole = (attempt.number, attempt.step, attempt.together)
    words = (attempt.cause, attempt.message, attempt.time)
    if attempt.run_id != run_id or not all(
        [*(isinstance(n, int) for n in whole), *(isinstance(w, str) for w in words)]
    ):
        raise ValueError("is no attempt of this run")
    return attempt


def _study(body: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError where it lacks what a study's file holds."""
    kinds = {"runs": list, "planned": dict, "provisional": int, "truth": list}
    for name, kind in kinds.items():
        if not isinstance(body.get(name, kind()), kind):
            raise ValueError(f"is no study ({name} is {body[name]!r})"[:200])
    if not all(isinstance(run_id, str) for run_id in body.get("runs", (None,))):
        raise ValueError("is no study (it lists no runs)")
    return body
