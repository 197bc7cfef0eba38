"""Records of finished runs: the contract of training and analysis.

A record has what a run computed (every field of `Run`), its results (readings) and
where it was trained. It is written once, atomically, after its artifacts. A failed
attempt (crash, out of memory, preemption) is not a fact about the run and is kept in a
file of its own. `store.py` keeps both in a workdir.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

from etils import epath

from scaling import intact

SCHEMA = 1

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


def parsed(path: epath.Path) -> Record:
    """The record that a file holds.

    Raises ValueError that says what is wrong, FileNotFoundError."""
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


def attempt_of(body: Mapping[str, Any], run_id: str) -> Attempt:
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
