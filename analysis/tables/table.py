"""Tables of runs: a study's workdir, or any table that somebody else measured.

Whatever comes in, one typed thing goes on: a row per run, a row per run and target with
its final loss, and every row that was left out with the reason.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.questions import known_floor, run_times
from analysis.tables import subsample
from scaling.errors import UserError, unknown
from scaling.record import Reading, Record, Store
from scaling.run import Part, label

# Nats and tokens of each held-out document, by corpus key.
Documents = Mapping[str, tuple[np.ndarray, np.ndarray]]

COLUMNS = (
    "run_id",
    "family",
    "corpus",
    "size",
    "params",
    "params_total",
    "tokens",
    "unique_tokens",
    "epochs",
    "quality",
    "damage",
    "flops",
    "optimiser",
    "learning_rate",
    "batch",
    "seed",
    "data_seed",
    "status",
    "trajectory",
    "wall_seconds",
)
# What others call our columns, in the order of preference; matched without case.
ALIASES = {
    "params": ("params", "n", "n_params", "parameters", "num_params", "model_size"),
    "params_total": ("params_total", "total_params"),
    "tokens": ("tokens", "d", "n_tokens", "tokens_seen", "num_tokens", "train_tokens"),
    "unique_tokens": ("unique_tokens", "u"),
    "quality": ("quality", "data_quality"),
    "optimiser": ("optimiser", "optimizer"),
    "loss": ("loss", "final_loss", "val_loss", "validation_loss", "eval_loss"),
    "family": ("family", "architecture", "arch", "model"),
    "corpus": ("corpus", "dataset", "data"),
    "size": ("size",),
    "flops": ("flops", "c", "compute"),
    "learning_rate": ("learning_rate", "lr"),
    "batch": ("batch", "batch_size"),
    "seed": ("seed", "init_seed"),
    "data_seed": ("data_seed",),
    "status": ("status",),
    "trajectory": ("trajectory", "cluster"),
    "run_id": ("run_id", "run", "id"),
    "wall_seconds": ("wall_seconds",),
}
NUMBERS = (
    "size",
    "params",
    "params_total",
    "tokens",
    "unique_tokens",
    "quality",
    "flops",
    "learning_rate",
    "batch",
    "wall_seconds",
)
MOST_COLUMNS = 10_000
# What a table's losses are taken to be in, where nobody says.
UNIT = "nats/token"
# Readers are given as many points of a loss curve as a figure can show.
CURVE_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Table:
    """Runs that somebody trained, ready for fitting.

    Attributes:
      unit: of every loss.
      targets: evaluation sets; with a foreign table, its loss columns.
      runs: one row a run, columns `COLUMNS` and `loss:TARGET` for each target. quality
        is the share of the training text that is sound; damage names what was done to
        the rest, "" for nothing or for what a foreign table does not say.
      readings: run_id, target, loss, se: final losses that are fit for fitting.
      exclusions: run_id, target ("" for all of them), reason.
      mapping: our column -> the table's, as used; empty for a workdir.
      warnings: one sentence each.
      paths: run_id, step, tokens, loss: training-loss curves, thinned.
      documents: by run_id, nats and tokens of each held-out document.
      parts: by target, the keys in it (CORPUS:TOKENS) and their weights.
      counting: how `params` were counted.
      estimates: measured over estimated times, as in analysis/questions/run_times.py.
      truth: the targets whose true loss is known, columns `floors.FACTS`.
    """

    title: str
    unit: str
    targets: tuple[str, ...]
    runs: pd.DataFrame
    readings: pd.DataFrame
    exclusions: pd.DataFrame
    mapping: Mapping[str, str]
    warnings: tuple[str, ...]
    paths: pd.DataFrame
    documents: Mapping[str, Documents]
    parts: Mapping[str, Mapping[str, float]]
    counting: str
    estimates: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
    truth: pd.DataFrame = dataclasses.field(
        default_factory=lambda: known_floor.facts(())
    )


def load(
    source: str | os.PathLike[str],
    mapping: Mapping[str, str] | None = None,
    study: str | None = None,
    embeddings: bool = False,
    unit: str | None = None,
    rows: int = subsample.MOST,
) -> Table:
    """Loads a workdir (a folder, local or gs://) or a table (.csv, .parquet, .jsonl).

    Args:
      mapping: our column -> the table's, for those that are not to be guessed; several
        losses as "loss:TARGET". Tables only.
      study: one study of the workdir; by default all its records. Workdirs only.
      embeddings: count parameters with the embedding table and the output head.
        Workdirs only.
      unit: of every loss of a table, by default nats/token. Tables only.
      rows: how many usable runs are fitted at most; see subsample.py for which.

    Raises:
      UserError: nothing there, not what its name says, no row that can be used, or an
        option that does not apply.
    """
    path = os.fspath(source)
    if rows < LEAST_ROWS:
        raise UserError("rows", rows, f"give at least {LEAST_ROWS}")
    if Path(path).suffix.lower() in READERS:
        if study is not None or embeddings:
            given = "study" if study is not None else "embeddings"
            raise UserError(given, study or embeddings, "only a workdir knows that")
        return load_table(path, mapping, unit or UNIT, rows)
    store = Store(path)
    if not store.path("records").exists():
        expected = "give a workdir with records/, or a .csv, .parquet or .jsonl file"
        raise UserError("table", path, expected)
    if mapping or unit:
        given = "map" if mapping else "unit"
        raise UserError(given, mapping or unit, "a workdir's records need none")
    return load_workdir(store, study, embeddings, rows)


def load_workdir(
    store: Store,
    study: str | None = None,
    embeddings: bool = False,
    rows: int = subsample.MOST,
) -> Table:
    """A study's records. Raises UserError where none has a usable reading."""
    studies = store.studies()
    if study is not None and study not in studies:
        raise unknown("study", study, studies)
    chosen = {study: studies[study]} if study is not None else studies
    wanted = [i for body in chosen.values() for i in body.get("runs", ())]
    records, corrupt = store.records()
    if study is not None:
        records = [r for r in records if r.run_id in set(wanted)]
    if not records:
        raise UserError("table", str(store.root), "no record yet: run the study first")
    runs = pd.DataFrame([_run_row(r, embeddings) for r in records])
    reasons = [f"corrupt record: {why}" for why in corrupt.values()]
    excluded = [_excluded(list(corrupt), reasons)]
    excluded.append(_missing(store, wanted, {r.run_id for r in records}))
    targets = tuple(dict.fromkeys(x.evaluation for r in records for x in _losses(r)))
    readings, bad = _final_readings(records)
    units = {x.unit for r in records for x in _losses(r)}
    if len(units) > 1:
        raise UserError("table", sorted(units), "losses of one unit only")
    table = _finish(
        title=" + ".join(chosen) or Path(os.fspath(store.root)).name,
        unit=units.pop() if units else "nats/token",
        targets=targets,
        runs=runs,
        readings=readings,
        excluded=[*excluded, bad],
        paths=_paths(store, records),
        documents={r.run_id: _documents(store, r) for r in records},
        parts=_parts(records),
        counting="with embeddings" if embeddings else "without embeddings",
        most=rows,
    )
    return dataclasses.replace(
        table,
        estimates=run_times.compared(store, records),
        truth=known_floor.facts(chosen.values()),
    )


def _run_row(record: Record, embeddings: bool) -> dict[str, Any]:
    body = record.run
    outside = 0 if embeddings else record.params_embedding
    parts = tuple(_part(entry) for entry in body["data.corpus"])
    return {
        "run_id": record.run_id,
        "family": _family(body),
        "corpus": label(parts),
        "size": body["model.size"],
        "params": float(record.params_total - outside),
        "params_total": float(record.params_total),
        "tokens": float(record.tokens),
        "unique_tokens": float(record.unique_tokens),
        "epochs": float(record.epochs),
        "quality": 1.0 - record.damage,
        "damage": _damage(body),
        "flops": float(record.flops),
        "optimiser": body["optimiser.name"],
        "learning_rate": float(body["optimiser.learning_rate"]),
        "batch": body["batch"],
        "seed": str(body["init_seed"]),
        "data_seed": str(body["data.seed"]),
        "status": record.status,
        "trajectory": record.trajectory,
        "wall_seconds": record.wall_seconds,
    }


def _part(entry: Mapping[str, Any]) -> Part:
    options = tuple((key, value) for key, value in entry.get("options", ()))
    return Part(entry["name"], entry["weight"], options)


def _family(body: Mapping[str, Any]) -> str:
    """The family with its options: two variants of one family are two levels."""
    chosen = ",".join(f"{key}={value}" for key, value in body.get("model.options", ()))
    return f"{body['model.family']}[{chosen}]" if chosen else body["model.family"]


def _damage(body: Mapping[str, Any]) -> str:
    """What was done to the training text, and how much of it."""
    if not body.get("data.quality_level"):
        return ""
    return f"{body['data.quality']} {body['data.quality_level']:g}"


EXCLUSION = ["run_id", "target", "reason"]


def _excluded(run_ids: Any, reasons: Any, target: str = "") -> pd.DataFrame:
    """Rows of `exclusions`: run ids, and for each or for all of them the reason."""
    columns = {"run_id": run_ids, "target": target, "reason": reasons}
    return pd.DataFrame(columns, columns=EXCLUSION, dtype=object)


def _missing(store: Store, wanted: Iterable[str], present: set[str]) -> pd.DataFrame:
    """Runs that a study names and that have no record, with their last failure."""
    absent = [i for i in dict.fromkeys(wanted) if i not in present]
    last = {a.run_id: a for a in store.attempts()} if absent else {}
    reasons = []
    for run_id in absent:
        attempt = last.get(run_id)
        why = (
            "no record: not trained yet, or provisional until its tuning runs are done"
        )
        if attempt is not None:
            why = f"failed: {attempt.cause} in attempt {attempt.number}"
        reasons.append(why)
    return _excluded(absent, reasons)


def _losses(record: Record) -> list[Reading]:
    """The readings that are losses; a record may hold other quantities beside them."""
    return [x for x in record.readings if x.quantity == "loss"]


def _final_readings(records: list[Record]) -> tuple[pd.DataFrame, pd.DataFrame]:
    kept, bad = [], {}
    for record in records:
        finals = [x for x in _losses(record) if x.kind == "final"]
        if record.status == "diverged":
            bad[record.run_id] = "diverged"
            continue
        if not finals:
            bad[record.run_id] = "no final reading"
        for x in finals:
            loss = np.nan if x.value is None else x.value
            se = np.nan if x.se is None else x.se
            kept.append((record.run_id, x.evaluation, loss, se))
    readings = pd.DataFrame(kept, columns=["run_id", "target", "loss", "se"])
    readings = readings.drop_duplicates(["run_id", "target"], ignore_index=True)
    return readings, _excluded(list(bad), list(bad.values()))


def _parts(records: list[Record]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for record in records:
        for entry in record.run.get("evaluation", ()):
            parts = [_part(part) for part in entry["parts"]]
            total = sum(part.weight for part in parts)
            # One corpus may be cut to several lengths, so its documents' key has both.
            found[entry["name"]] = {
                f"{p.key}:{entry['tokens']}": p.weight / total for p in parts
            }
    return found


def _artifact(store: Store, record: Record, name: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz artifact; none where the record has no such artifact."""
    for artifact in record.artifacts:
        if artifact.name == name and store.path(artifact.path).exists():
            data = store.path(artifact.path).read_bytes()
            with np.load(io.BytesIO(data)) as arrays:
                return {key: arrays[key] for key in arrays.files}
    return {}


def _documents(store: Store, record: Record) -> Documents:
    arrays = _artifact(store, record, "nats")
    keys = [key.removesuffix(":nats") for key in arrays if key.endswith(":nats")]
    return {
        key: (
            arrays[f"{key}:nats"].astype(np.float64),
            arrays[f"{key}:tokens"].astype(np.float64),
        )
        for key in keys
    }


def _paths(store: Store, records: list[Record]) -> pd.DataFrame:
    frames = []
    for record in records:
        arrays = _artifact(store, record, "loss_curve")
        if "step" not in arrays or "loss" not in arrays or not arrays["step"].size:
            continue
        last = arrays["step"].size - 1
        at = np.unique(np.linspace(0, last, CURVE_POINTS).round().astype(int))
        step = arrays["step"][at]
        frame = {"run_id": record.run_id, "step": step}
        frame["tokens"] = step * (record.tokens / max(1, record.steps))
        frame["loss"] = arrays["loss"][at].astype(np.float64)
        frames.append(pd.DataFrame(frame))
    if not frames:
        return pd.DataFrame(columns=["run_id", "step", "tokens", "loss"])
    return pd.concat(frames, ignore_index=True)


# What the first bytes of a file say it is, whatever its name says.
MAGIC = {
    b"PAR1": "a Parquet file; name it .parquet",
    b"\x1f\x8b": "packed by gzip; unpack it first",
    b"PK\x03\x04": "a zip archive or a spreadsheet; save its table as .csv",
    b"\xfd7zXZ": "packed by xz; unpack it first",
    b"(\xb5/\xfd": "packed by zstd; unpack it first",
}
# A header of more bytes than this has too many columns.
HEADER_BYTES = 1 << 22


def _first_line(path: str, expected: str) -> str:
    """The header of a text file. Raises UserError for one that is not text."""
    with open(path, "rb") as file:
        line = file.readline(HEADER_BYTES)
    for magic, what in MAGIC.items():
        if line.startswith(magic):
            raise UserError("table", path, f"{expected}; this is {what}")
    if b"\0" in line:
        raise UserError("table", path, f"{expected}; this file is binary")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        expected = f"{expected} in UTF-8 ({error.reason})"
        raise UserError("table", path, expected) from error


def _read_csv(path: str) -> pd.DataFrame:
    expected = "text with commas and a header"
    header = _first_line(path, expected)
    _check_width(path, header.count(",") + 1)
    try:
        names = next(csv.reader([header], strict=True), [])
        _check_doubled(names)
        if len(names) == 1 and re.search(r"[;\t|]", header):
            raise UserError("table", header.strip(), f"{expected}; there is no comma")
        with warnings.catch_warnings():
            # Fields beyond the header would be dropped with a warning alone.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, low_memory=False, index_col=False)
    except (
        *(csv.Error, UnicodeDecodeError, OverflowError, pd.errors.EmptyDataError),
        *(pd.errors.ParserError, pd.errors.ParserWarning),
    ) as error:
        raise UserError("table", path, f"{expected} ({_line(error)})") from error


def _line(error: Exception) -> str:
    """An error of a reader as one line."""
    return " ".join(str(error).split())


def _read_parquet(path: str) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        _check_width(path, len(names))
        _check_doubled(names)
        return file.read().to_pandas()
    except (pa.ArrowException, OSError) as error:
        expected = f"a Parquet file ({_line(error)})"
        raise UserError("table", path, expected) from error


def _read_jsonl(path: str) -> pd.DataFrame:
    expected = "one JSON object a line, columns as its keys"
    header = _first_line(path, expected)
    if not header.lstrip().startswith("{"):
        raise UserError("table", path, f"{expected}; it begins with {header[:20]!r}")
    try:
        names = json.loads(
            header, object_pairs_hook=lambda pairs: [k for k, _ in pairs]
        )
        _check_width(path, len(names))
        _check_doubled(names)
        frame = _parsed_jsonl(path)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError("table", path, f"{expected} ({_line(error)})") from error
    _check_width(path, len(frame.columns))
    return frame


def _parsed_jsonl(path: str) -> pd.DataFrame:
    """By Arrow, ten times as fast; by pandas what Arrow has no one type for."""
    import pyarrow as pa
    import pyarrow.json as pj

    # An object may be as long as a block.
    options = pj.ReadOptions(block_size=1 << 24)
    try:
        found = pj.read_json(path, read_options=options)
    except pa.ArrowException:
        return pd.read_json(path, lines=True, dtype=False)
    # Arrow reads text that looks like a date as one.
    if any(pa.types.is_temporal(kind) for kind in found.schema.types):
        return pd.read_json(path, lines=True, dtype=False)
    return found.to_pandas()


READERS = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_jsonl}


def _check_width(path: str, columns: int) -> None:
    if columns > MOST_COLUMNS:
        expected = f"at most {MOST_COLUMNS} columns; {path} has {columns}"
        raise UserError("table", columns, expected)


def _check_doubled(names: Iterable[str]) -> None:
    counts = collections.Counter(names)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise UserError("table", doubled[0], "each column name only once")


def load_table(
    path: str,
    mapping: Mapping[str, str] | None = None,
    unit: str = UNIT,
    rows: int = subsample.MOST,
) -> Table:
    """A table with a header, one row a run. Raises UserError for wrong input."""
    if not Path(path).is_file():
        raise UserError("table", path, "no such file")
    if not os.path.getsize(path):
        raise UserError(
            "table", path, "the file is empty; a header and rows are needed"
        )
    frame = READERS[Path(path).suffix.lower()](path)
    return from_frame(frame, mapping, title=Path(path).stem, unit=unit, rows=rows)


def from_frame(
    frame: pd.DataFrame,
    mapping: Mapping[str, str] | None = None,
    title: str = "table",
    unit: str = UNIT,
    rows: int = subsample.MOST,
) -> Table:
    """As `load_table`, from a frame that is in memory already; it is not changed."""
    if frame.empty:
        raise UserError("table", title, "at least one row under the header")
    frame = frame.set_axis([str(column) for column in frame.columns], axis=1)
    given, mapping = mapping or {}, guess_mapping(list(frame.columns), mapping)
    mapping, names = _without_names(frame, mapping, given)
    losses = {_target(key): c for key, c in mapping.items() if key.startswith("loss")}
    runs, excluded = _standard(frame, mapping)
    parts = []
    for target, column in losses.items():
        values, text = _numbers(frame[column])
        excluded.append(_text_rows(runs.run_id, "loss", frame[column], text, target))
        parts.append(
            pd.DataFrame({"run_id": runs.run_id, "target": target, "loss": values})
        )
    readings = pd.concat(parts, ignore_index=True)
    readings["se"] = np.nan
    table = _finish(
        title=title,
        unit=unit,
        targets=tuple(losses),
        runs=runs,
        readings=readings,
        excluded=excluded,
        paths=pd.DataFrame(columns=["run_id", "step", "tokens", "loss"]),
        documents={},
        parts={},
        counting="as the table gives them",
        mapping=mapping,
        most=rows,
        warned=names,
    )
    _check_varies(table)
    _check_scale(table)
    return table


# Of so few runs it may be chance that their losses are the same.
FEW = 4


def _check_varies(table: Table) -> None:
    """Raises UserError where all losses of a target are one number."""
    for target, part in table.readings.groupby("target"):
        if len(part) >= FEW and part.loss.nunique() == 1:
            said = (
                f"all {len(part)} usable losses of {target} are {part.loss.iloc[0]:g}"
            )
            raise UserError("table", table.title, f"{said}: nothing is to be explained")


# Floors of laws are looked for between 1e-4 and 1e4, whatever the unit.
LEAST_LOSS, MOST_LOSS = 1e-3, 1e4


def _check_scale(table: Table) -> None:
    """Raises UserError where the losses of a target are beyond what laws allow."""
    for target, loss in table.readings.groupby("target").loss:
        middle = float(loss.median())
        if LEAST_LOSS <= middle <= MOST_LOSS:
            continue
        factor = 10.0 ** -np.floor(np.log10(middle))
        said = f"losses of {target} have a median of {middle:g}"
        expected = (
            f"losses between {LEAST_LOSS:g} and {MOST_LOSS:g}: multiply them by "
            f"{factor:g} and name the unit with --unit"
        )
        raise UserError("table", said, expected)


def guess_mapping(
    columns: list[str], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Our columns -> the table's: what is given, and the rest by usual names.

    Raises:
      UserError: an unknown column on either side, a doubled one, or no params, tokens
        or loss.
    """
    given = dict(given or {})
    _check_doubled(columns)
    for ours, theirs in given.items():
        if ours.split(":")[0] != "loss" and ours not in ALIASES:
            raise unknown("map", ours, ALIASES)
        if theirs not in columns:
            raise unknown(f"map {ours}", theirs, columns)
        if list(given.values()).count(theirs) > 1:
            raise UserError(f"map {ours}", theirs, "each column for one thing only")
    out = dict(given)
    for column in columns:
        if column.startswith("loss:") and not any(k.startswith("loss") for k in given):
            out[column] = column
    by_name: dict[str, list[str]] = {}
    for column in columns:
        by_name.setdefault(column.lower(), []).append(column)
    for ours, names in ALIASES.items():
        if ours in out or (ours == "loss" and any(k[:4] == "loss" for k in out)):
            continue
        free = [c for n in names for c in by_name.get(n, ()) if c not in out.values()]
        alike = [column for column in free if column.lower() == free[0].lower()]
        if len(alike) > 1:
            expected = f"name one: {ours}={alike[0]} or {ours}={alike[1]}"
            raise UserError(f"map {ours}", ", ".join(alike), expected)
        if free:
            out[ours] = free[0]
    for ours in ("params", "tokens", "loss"):
        if not any(key.split(":")[0] == ours for key in out):
            known = ", ".join(columns[:20])
            expected = f"name its column; the table has {known}"
            raise UserError(f"map {ours}", "", expected)
    return out


# More families or corpora than this have more pairs than anyone compares.
MOST_LEVELS = 40


def _without_names(
    frame: pd.DataFrame, mapping: Mapping[str, str], given: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The mapping less what was guessed for a factor and has the names of runs.

    Returns it and a warning for each. Raises UserError where the column was given.
    """
    out, warned = dict(mapping), []
    for ours in ("family", "corpus"):
        theirs = mapping.get(ours)
        if theirs is None:
            continue
        levels = len(set(frame[theirs].dropna().map(str)))
        if levels <= MOST_LEVELS:
            continue
        said = f"{theirs} has {levels} different values, more than {MOST_LEVELS}"
        if ours in given:
            expected = f"{said}; give a column with the {ours} and not the run"
            raise UserError(f"map {ours}", theirs, expected)
        warned.append(f"{said}, and is not taken for the {ours}: name it with --map")
        del out[ours]
    return out, tuple(warned)


def _target(key: str) -> str:
    return key.removeprefix("loss:")


def _numbers(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """As float64 [n], and which rows [n] hold something else that is not missing."""
    kind = column.dtype
    if pd.api.types.is_bool_dtype(kind) or not (
        pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind)
    ):
        missing = column.isna()
        # Of objects only text and numbers may be numbers: no list, flag or date.
        plain = column.map(_number_or_none, na_action="ignore")
        values = plain.to_numpy(np.float64, na_value=np.nan)
        return values, (np.isnan(values) & ~missing).to_numpy()
    return column.to_numpy(np.float64, na_value=np.nan), np.zeros(len(column), bool)


def _number_or_none(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _text_rows(
    run_ids: pd.Series, name: str, column: pd.Series, text: np.ndarray, target: str = ""
) -> pd.DataFrame:
    """Exclusions of the rows whose number is something else, which is quoted."""
    said = column.reset_index(drop=True)[text].map(lambda value: repr(value)[:60])
    reasons = [f"{name} is not a number: {value}" for value in said]
    return _excluded(run_ids[text].to_numpy(), reasons, target)


def _standard(
    frame: pd.DataFrame, mapping: Mapping[str, str]
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The table under our column names, with what it does not say filled in."""
    out = pd.DataFrame(index=range(len(frame)))
    if "run_id" in mapping:
        out["run_id"] = frame[mapping["run_id"]].astype(str).to_numpy()
    if "run_id" not in mapping or out.run_id.duplicated().any():
        out["run_id"] = [f"row {i + 1}" for i in range(len(frame))]
    excluded = []
    for name in NUMBERS:
        if name not in mapping:
            continue
        out[name], text = _numbers(frame[mapping[name]])
        excluded.append(_text_rows(out.run_id, name, frame[mapping[name]], text))
    texts = {"family": "all", "corpus": "all", "seed": "", "data_seed": ""}
    for name, default in (texts | {"optimiser": "", "status": "done"}).items():
        if name not in mapping:
            out[name] = default
            continue
        column = frame[mapping[name]].reset_index(drop=True)
        out[name] = column.astype(str).where(column.notna(), "")
        if name in ("family", "corpus", "status"):
            gone = out.run_id[out[name] == ""]
            excluded.append(_excluded(gone.to_numpy(), f"{name} is missing"))
    out["damage"] = ""
    out["trajectory"] = out.run_id
    if "trajectory" in mapping:
        column = frame[mapping["trajectory"]].reset_index(drop=True)
        out["trajectory"] = column.astype(str).where(column.notna(), out.run_id)
    fill = {"params_total": out.params, "unique_tokens": out.tokens}
    fill |= {"quality": 1.0, "size": out.params, "flops": 6.0 * out.params * out.tokens}
    for name, values in fill.items():
        out[name] = out[name].fillna(values) if name in out else values
    for name in ("learning_rate", "batch", "wall_seconds"):
        if name not in out:
            out[name] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        out["epochs"] = out.tokens / out.unique_tokens
    return out, excluded


def _finish(
    title: str,
    unit: str,
    targets: tuple[str, ...],
    runs: pd.DataFrame,
    readings: pd.DataFrame,
    excluded: list[pd.DataFrame],
    paths: pd.DataFrame,
    documents: Mapping[str, Documents],
    parts: Mapping[str, Mapping[str, float]],
    counting: str,
    most: int,
    mapping: Mapping[str, str] | None = None,
    warned: tuple[str, ...] = (),
) -> Table:
    """Leaves out what cannot be fitted, says so, and widens the readings."""
    runs = runs[list(COLUMNS)].reset_index(drop=True)
    # Names are looked up once: with a million of them each look-up takes a second.
    names = pd.Index(runs.run_id)
    place = names.get_indexer(readings.run_id)
    for target in targets:
        mine = (readings.target == target).to_numpy()
        column = np.full(len(runs), np.nan)
        column[place[mine]] = readings.loss[mine]
        runs[f"loss:{target}"] = column
    whole = pd.concat(excluded, ignore_index=True)
    known = whole[whole.target == ""]
    gone = names.isin(known.run_id)
    unusable = _unusable_runs(runs[~gone])
    gone |= names.isin(unusable.run_id)
    reasons = _unusable_losses(readings)
    bad = (reasons != "").to_numpy()
    listed = readings[bad].assign(reason=reasons[bad])
    listed = pd.concat([whole[whole.target != ""], listed[EXCLUSION]])
    # A run that is left out of all targets is not listed for each besides.
    listed = listed[~listed.run_id.isin(names[gone])]
    used = ~bad & ~gone[place]
    thinned = _thinned(runs, np.unique(place[used]), most)
    used &= ~np.isin(place, thinned)
    left = [known, unusable, listed, _excluded(names[thinned], THINNED)]
    # The first reason of each row is enough.
    exclusions = pd.concat(left).drop_duplicates(EXCLUSION[:2], ignore_index=True)
    readings = readings[used].reset_index(drop=True)
    if readings.empty:
        first = exclusions.reason.iloc[0] if len(exclusions) else "no reading"
        raise UserError("table", title, f"no row can be used; the first: {first}")
    warned += _unit_warnings(runs) + _thin_warnings(
        thinned.size, readings.run_id.nunique()
    )
    return Table(
        title=title,
        unit=unit,
        targets=targets,
        runs=runs,
        readings=readings,
        exclusions=exclusions,
        mapping=dict(mapping or {}),
        warnings=warned,
        paths=paths,
        documents=documents,
        parts=parts,
        counting=counting,
    )


THINNED = "thinned: runs alike are fitted in its place"
# Fewer would leave no design; nothing that small needs thinning.
LEAST_ROWS = 100


def _thinned(runs: pd.DataFrame, usable: np.ndarray, most: int) -> np.ndarray:
    """Places of the usable runs (by place) beyond `most`; see subsample.py."""
    kept = subsample.chosen(runs.iloc[usable], most)
    return usable[~kept]


def _thin_warnings(thinned: int, kept: int) -> tuple[str, ...]:
    if not thinned:
        return ()
    text = (
        f"{thinned + kept} usable runs are more than can be fitted in minutes: {kept} "
        "are, as many of each that are alike in family, corpus, size, budget and rate; "
        "intervals are wider than all would give (--rows fits more)"
    )
    return (text,)


NEEDED = ("params", "tokens", "unique_tokens")


def _unusable_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs whose status, size or budget cannot be used, and exact duplicates."""
    reason = pd.Series("", index=runs.index)
    for name in (*NEEDED, "size", "flops", "learning_rate"):
        values = runs[name]
        if name in NEEDED:
            reason[(reason == "") & values.isna()] = f"{name} is missing"
        reason[(reason == "") & np.isinf(values)] = f"{name} is not finite"
        reason[(reason == "") & (values <= 0)] = f"{name} is not above zero"
    range_ = (runs.quality > 0) & (runs.quality <= 1)
    reason[(reason == "") & ~range_] = "quality is not above 0 and at most 1"
    other = (reason == "") & (runs.status != "done")
    reason[other] = "status is " + runs.status[other].astype(str)
    reason[(reason == "") & _copies(runs)] = "duplicate of an earlier row"
    bad = reason != ""
    return _excluded(runs.run_id[bad].to_numpy(), reason[bad].to_numpy())


def _copies(runs: pd.DataFrame) -> pd.Series:
    """Marks the rows that say what an earlier one says, but for their names."""
    same = [c for c in runs.columns if c not in ("run_id", "trajectory")]
    # All columns are compared only where the losses and budgets are the same already.
    first = ["tokens", *(c for c in same if c.startswith("loss:"))]
    alike = runs.duplicated(first, keep=False)
    copies = runs[alike].duplicated(same)
    return copies.reindex(runs.index, fill_value=False)


def _unusable_losses(readings: pd.DataFrame) -> pd.Series:
    reason = pd.Series("", index=readings.index)
    loss = readings.loss
    reason[loss.isna()] = "loss is missing or NaN"
    reason[np.isinf(loss)] = "loss is infinite"
    reason[loss == 0] = "loss is zero"
    reason[(loss < 0) & np.isfinite(loss)] = "loss is negative"
    return reason


# No model has fewer parameters, and none is trained on fewer tokens.
FEWEST = 1000


def _unit_warnings(runs: pd.DataFrame) -> tuple[str, ...]:
    """Counts that look like millions or billions, in all rows or in some."""
    out = []
    for name in ("params", "tokens"):
        values = runs[name][np.isfinite(runs[name]) & (runs[name] > 0)]
        small = values < FEWEST
        if values.empty or not small.any():
            continue
        if values.median() < FEWEST:
            out.append(
                f"{name} has a median of {values.median():g}: if the table gives it in "
                "millions or billions, multiply it out, or every multiplier below is "
                "off"
            )
        else:
            first = ", ".join(runs.run_id[values[small].index[:3]])
            out.append(
                f"{name} is below {FEWEST} in {small.sum()} of {len(values)} rows and "
                f"has a median of {values.median():g}: units look mixed (first {first})"
            )
    return tuple(out)
