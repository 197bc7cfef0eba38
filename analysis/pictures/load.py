"""The samples that a workdir's runs kept, as a table knows them.

One `Pictures` a set of samples and tokenizer: the held-out pictures, which runs kept
samples and after which fractions of their training. Arrays are in pixels over 255; what
they are is said in scaling/training/samples.py.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from analysis.laws import Array
from analysis.tables import exclusions
from scaling import intact
from scaling.record import Record
from scaling.store import Store

ABOUT = "samples of {}"
DENOISE, NEXT_TOKEN = "denoise", "next_token"
LEVELS = 256  # of a pixel as it is
SHORT = 8  # digits of a digest that people read
MOST = 1 << 31  # bytes of a file of samples
# Known denoisers of a run's training pictures or of the truth.
LINEAR, COPIES, EXACT = "linear", "copies", "exact"
_BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, OSError, EOFError)


class Source(Protocol):
    """Where the arrays of runs come from."""

    def __call__(self, run_id: str, name: str) -> Array | None:
        """One of a run's by its name in the set; None where there is none."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What runs made of one set of noises and held-out pictures.

    Attributes:
      name: of the set.
      corpus: key of the corpus that the held-out pictures are of.
      real: float64 [n, height, width, channels], the held-out pictures.
      sigmas: noise levels at which they were denoised, in a corpus deviation of 0.5.
      groups: [n], the group of each.
      levels: of 256 into which the held-out pictures' values are cut.
      runs: a row a run: run_id, objective, family, corpus, params, tokens,
        unique_tokens (family with the levels that it reads, where these are fewer
        than 256), setting (what was tried of it), bits (per dimension; a bound of
        denoisers), bits_se, scored (the evaluation set that they are of).
      fractions: by run_id, those after which samples were kept, rising.
      source: gives a run's arrays.
      captions: of the held-out pictures, which samples are asked for; () without.
      truth: by evaluation set, where it is known, the bits per dimension that the true
        chances of its pictures need.
    """

    name: str
    corpus: str
    real: Array
    sigmas: Array
    groups: Array
    levels: int
    runs: pd.DataFrame
    fractions: Mapping[str, tuple[float, ...]]
    source: Source
    captions: tuple[str, ...] = ()
    truth: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def count(self) -> int:
        """Of the noises."""
        return len(self.real)

    def of(self, objective: str) -> dict[str, tuple[float, ...]]:
        """`fractions` of the runs of one objective."""
        mine = set(self.runs.run_id[self.runs.objective == objective])
        return {i: kept for i, kept in self.fractions.items() if i in mine}

    def read(self, run_id: str, what: str, fraction: float | None = None) -> Array:
        """float64: an array of a run, after a fraction of its training if given.

        Raises:
          KeyError: it has none.
        """
        found = self.get(run_id, what, fraction)
        if found is None:
            raise KeyError(f"{run_id} kept no {what} of {self.name}")
        return found

    def get(
        self, run_id: str, what: str, fraction: float | None = None
    ) -> Array | None:
        """The same; None where it has none."""
        name = what if fraction is None else f"{fraction:g}:{what}"
        found = self.source(run_id, name)
        return None if found is None else np.asarray(found, np.float64)


# --- Of a workdir --------------------------------------------------------------------


class Files:
    """Samples as artifacts of a workdir; the last files that were read stay open."""

    OPEN = 128

    def __init__(self, store: Store, records: Mapping[str, Record], name: str):
        self.store, self.records, self.name = store, records, name
        self._open: collections.OrderedDict[str, Any] = collections.OrderedDict()

    def __call__(self, run_id: str, name: str) -> Array | None:
        if run_id not in self._open:
            self._open[run_id] = opened(self.store, self.records[run_id])
            while len(self._open) > self.OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(run_id)
        return array(self._open[run_id], f"{self.name}:{name}")


def opened(store: Store, record: Record) -> Any:
    """A record's file of samples. Raises Unreadable where it cannot be used."""
    body = store.artifact(record, "samples", MOST)
    if body is None:
        raise intact.Unreadable("is not kept")
    return _npz(body)


def _npz(body: bytes) -> Any:
    try:
        file = np.load(io.BytesIO(body), allow_pickle=False)
    except _BROKEN as error:
        raise intact.Unreadable(f"is no .npz file ({error})") from error
    if not hasattr(file, "files"):
        raise intact.Unreadable("is no .npz file but one array")
    return file


def array(file: Any, name: str) -> Array | None:
    """An array of an open file; None where it has none. Raises Unreadable."""
    if name not in file.files:
        return None
    try:
        return np.asarray(file[name])
    except (*_BROKEN, RuntimeError, NotImplementedError) as error:
        raise intact.Unreadable(f"has no valid array {name} ({error})") from error


class Kept(NamedTuple):
    """What a run's file says of one set."""

    digest: str
    fractions: tuple[float, ...]


def of_workdir(
    store: Store,
    records: Iterable[Record],
    rows: pd.DataFrame,
    listed: Collection[str] = (),
    truth: Mapping[str, float] | None = None,
) -> tuple[tuple[Pictures, ...], pd.DataFrame]:
    """Every set of samples of the records, of any objective.

    Of several sets of one name and tokenizer one is taken: that of the runs which a
    study of the workdir names today and, of several such, that of the run that finished
    last.

    Args:
      rows: family, corpus, params, tokens and unique_tokens by run_id, as the table
        names them.
      listed: run_id of the runs that the workdir's studies name.
      truth: as `Pictures.truth`.

    Returns the sets, and as rows of `Table.exclusions` each finished run that is left
    out of one, with its reason.
    """
    done = {r.run_id: r for r in records if r.status == "done"}
    asked = {i: names for i, r in done.items() if (names := _asked(r))}
    made: list[Pictures] = []
    reasons: dict[str, dict[str, str]] = {}
    for names in asked.values():
        reasons |= {name: {} for name in names if name not in reasons}
    files: dict[str, Any] = {}
    for run_id, names in asked.items():
        try:
            files[run_id] = opened(store, done[run_id])
        except intact.Unreadable as error:
            for name in names:
                reasons[name][run_id] = f"its file of samples {error}"
    for name, wrong in reasons.items():
        for run_id in set(done) - set(asked):
            wrong[run_id] = "keeps no samples: its run names no such set"
        mine = {i: done[i] for i in files if name in asked[i]}
        by = collections.defaultdict[str, dict[str, Record]](dict)
        for run_id, record in mine.items():
            tokenizer = str(record.run.get("data.tokenizer", "bytes"))
            by[tokenizer][run_id] = record
        for some in by.values():
            found = _one(store, name, some, files, wrong, rows, listed)
            if found is not None:
                made.append(dataclasses.replace(found, truth=truth or {}))
    out = [
        exclusions.excluded(list(wrong), list(wrong.values()), ABOUT.format(name))
        for name, wrong in reasons.items()
    ]
    out.append(exclusions.excluded([], []))
    # Sentences are about the first: that of the most runs.
    made.sort(key=lambda one: -len(one.fractions))
    return tuple(made), pd.concat(out, ignore_index=True)


def _asked(record: Record) -> tuple[str, ...]:
    return tuple(str(entry["name"]) for entry in record.run.get("samples", ()))


def _one(
    store: Store,
    name: str,
    records: Mapping[str, Record],
    files: Mapping[str, Any],
    wrong: dict[str, str],
    rows: pd.DataFrame,
    listed: Collection[str],
) -> Pictures | None:
    """The set of a name and tokenizer; adds to `wrong` why runs are left out."""
    kept: dict[str, Kept] = {}
    for run_id in records:
        try:
            kept[run_id] = _kept(files[run_id], name)
        except intact.Unreadable as error:
            wrong[run_id] = f"its file of samples {error}"
    if not kept:
        return None

    def newest(digest: str) -> tuple[bool, str, str]:
        mine = [i for i in kept if kept[i].digest == digest]
        return (*max((i in listed, records[i].finished) for i in mine), digest)

    taken = max({one.digest for one in kept.values()}, key=newest)
    for run_id, one in kept.items():
        if one.digest != taken:
            wrong[run_id] = (
                "its samples are of other noises or pictures of the same name: "
                f"{one.digest[:SHORT]}, and not {taken[:SHORT]}"
            )
    mine = {i: records[i] for i in sorted(kept) if kept[i].digest == taken}
    try:
        cut = _set(store, taken, next(iter(mine.values())), name)
    except intact.Unreadable as error:
        wrong |= {i: f"its set of samples {taken[:SHORT]} {error}" for i in mine}
        return None
    for run_id in list(mine):
        if why := _unfit(files[run_id], name, kept[run_id], cut):
            wrong[run_id] = f"its file of samples {why}"
            del mine[run_id]
    if not mine:
        return None
    facts = pd.DataFrame([_facts(record, rows) for record in mine.values()])
    fractions = {i: kept[i].fractions for i in mine}
    source = Files(store, mine, name)
    known = (cut.corpus, cut.real, cut.sigmas, cut.groups, cut.levels)
    return Pictures(name, *known, facts, fractions, source, cut.captions)


def _kept(file: Any, name: str) -> Kept:
    digest = array(file, f"{name}:digest")
    if digest is None or digest.dtype.kind != "U" or digest.shape:
        raise intact.Unreadable("has none of this set")
    parts = [full.split(":") for full in file.files]
    try:
        at = [
            float(p[1]) for p in parts if len(p) == 3 and p[::2] == [name, "pictures"]
        ]
    except ValueError as error:
        raise intact.Unreadable(f"names no fraction ({error})") from error
    if not at:
        raise intact.Unreadable("has none of this set")
    return Kept(str(digest), tuple(sorted(at)))


class Cut(NamedTuple):
    """What the workdir has of a set, as `Pictures` has it."""

    corpus: str
    real: Array
    sigmas: Array
    groups: Array
    levels: int
    captions: tuple[str, ...]


def _set(store: Store, digest: str, record: Record, name: str) -> Cut:
    """Raises Unreadable where the workdir has no such set, or a damaged one."""
    path = store.path("samples", f"{digest}.npz")
    if not path.exists():
        raise intact.Unreadable("is not in the workdir")
    file = _npz(path.read_bytes())
    noise, rows, sigmas, groups = (
        array(file, of) for of in ("noise", "rows", "sigmas", "groups")
    )
    if noise is None or rows is None or sigmas is None or groups is None:
        raise intact.Unreadable("is damaged: it lacks noises or pictures")
    size = math.prod(noise.shape[1:])
    if noise.ndim != 4 or rows.shape[:1] != noise.shape[:1] or rows.shape[1] < size:
        raise intact.Unreadable(f"is damaged: noises are of shape {noise.shape}")
    levels = _levels(record)
    real = ((rows[:, :size] + 0.5) * (256 / levels) - 0.5) / 255.0
    entry = next(e for e in record.run["samples"] if e["name"] == name)
    part = entry["parts"][0]
    shaped = real.reshape(noise.shape)
    # Behind the pixels there may be a label, and then a caption's bytes.
    options = dict(part["options"])
    labels = bool(options.get("labels") or options.get("label"))
    captions = tuple(map(_text, rows[:, size + labels :]))
    found = captions if any(captions) else ()
    return Cut(_key(part), shaped, sigmas.astype(float), groups, levels, found)


def _text(row: Array) -> str:
    """A caption of bytes, which larger numbers follow where it is shorter."""
    return bytes(row[row < 256].astype(np.uint8)).decode("utf-8", "replace")


def _levels(record: Record) -> int:
    """Into which the values of pixels are cut that a run reads."""
    tokenizer = str(record.run.get("data.tokenizer", "bytes"))
    return int(tokenizer.rpartition(":")[2]) if ":" in tokenizer else LEVELS


def _key(part: Mapping[str, Any]) -> str:
    from scaling import pooling

    return pooling.part(part).key


def _unfit(file: Any, name: str, kept: Kept, cut: Cut) -> str:
    """Why a run's arrays cannot be compared with others'; "" where they can."""
    wanted = {f"{f:g}:pictures": cut.real.shape for f in kept.fractions}
    levels = (len(cut.sigmas), *cut.real.shape)
    wanted |= {f"{f:g}:denoised": levels for f in kept.fractions}
    for what, shape in wanted.items():
        try:
            found = array(file, f"{name}:{what}")
        except intact.Unreadable as error:
            return str(error)
        if found is None:
            continue
        if found.shape != shape:
            return f"has {what} of shape {found.shape}, and not {shape}"
        if found.dtype.kind != "f" or not np.isfinite(found).all():
            return f"has {what} that are no finite numbers"
    return ""


def _facts(record: Record, rows: pd.DataFrame) -> dict[str, Any]:
    """A row of `Pictures.runs`."""
    row = rows[rows.run_id == record.run_id].iloc[0]
    bits = [
        x
        for x in record.readings
        if x.kind == "final" and x.quantity in ("bits_per_dim", "bits_per_dim_bound")
    ]
    first = bits[0] if bits else None
    names = ("family", "corpus", "params", "tokens", "unique_tokens", "seed")
    known = {name: row[name] for name in names}
    # Models of other levels are no seeds of each other, and their bits are fewer.
    if (levels := _levels(record)) != LEVELS:
        known["family"] = f"{known['family']} of {levels} levels"
    known["setting"] = f"{row.learning_rate:g}, {row.batch}, {row.optimiser}"
    return {"run_id": record.run_id, "objective": str(record.run["objective"])} | {
        **known,
        "scored": "" if first is None else first.evaluation,
        "bits": math.nan if first is None or first.value is None else first.value,
        "bits_se": math.nan if first is None or first.se is None else first.se,
    }
