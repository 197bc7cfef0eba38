"""Tables of runs: a study's workdir, or any table that somebody else measured.

Whatever comes in, one typed thing goes on: a row per run, a row per run and target with
its final loss, and every row that was left out with the reason.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

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
    "flops",
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
    "flops",
    "learning_rate",
    "batch",
    "wall_seconds",
)
MOST_COLUMNS = 10_000
# Readers are given as many points of a loss curve as a figure can show.
CURVE_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Table:
    """Runs that somebody trained, ready for fitting.

    Attributes:
      unit: of every loss.
      targets: evaluation sets; with a foreign table, its loss columns.
      runs: one row a run, columns `COLUMNS` and `loss:TARGET` for each target.
      readings: run_id, target, loss, se: final losses that are fit for fitting.
      exclusions: run_id, target ("" for all of them), reason.
      mapping: our column -> the table's, as used; empty for a workdir.
      warnings: one sentence each.
      paths: run_id, step, tokens, loss: training-loss curves, thinned.
      documents: by run_id, nats and tokens of each held-out document.
      parts: by target, the keys in it (CORPUS:TOKENS) and their weights.
      counting: how `params` were counted.
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


def load(
    source: str | os.PathLike[str],
    mapping: Mapping[str, str] | None = None,
    study: str | None = None,
    embeddings: bool = False,
) -> Table:
    """Loads a workdir (a folder, local or gs://) or a table (.csv, .parquet, .jsonl).

    Args:
      mapping: our column -> the table's, for those that are not to be guessed; several
        losses as "loss:TARGET". Tables only.
      study: one study of the workdir; by default all its records. Workdirs only.
      embeddings: count parameters with the embedding table and the output head.

    Raises:
      UserError: nothing there, not what its name says, no row that can be used.
    """
    path = os.fspath(source)
    if Path(path).suffix.lower() in READERS:
        return load_table(path, mapping)
    store = Store(path)
    if not store.path("records").exists():
        expected = "give a workdir with records/, or a .csv, .parquet or .jsonl file"
        raise UserError("table", path, expected)
    return load_workdir(store, study, embeddings)


def load_workdir(
    store: Store, study: str | None = None, embeddings: bool = False
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
    excluded = [
        _excluded(path, f"corrupt record: {why}") for path, why in corrupt.items()
    ]
    excluded += _missing(store, wanted, {r.run_id for r in records})
    targets = tuple(dict.fromkeys(x.evaluation for r in records for x in _losses(r)))
    readings, bad = _final_readings(records)
    units = {x.unit for r in records for x in _losses(r)}
    if len(units) > 1:
        raise UserError("table", sorted(units), "losses of one unit only")
    return _finish(
        title=" + ".join(chosen) or Path(os.fspath(store.root)).name,
        unit=units.pop() if units else "nats/token",
        targets=targets,
        runs=runs,
        readings=readings,
        excluded=excluded + bad,
        paths=_paths(store, records),
        documents={r.run_id: _documents(store, r) for r in records},
        parts=_parts(records),
        counting="with embeddings" if embeddings else "without embeddings",
    )


def _run_row(record: Record, embeddings: bool) -> dict[str, Any]:
    body = record.run
    outside = 0 if embeddings else record.params_embedding
    parts = tuple(_part(entry) for entry in body["data.corpus"])
    return {
        "run_id": record.run_id,
        "family": _family(body),
        "corpus": _corpus(body, label(parts)),
        "size": body["model.size"],
        "params": float(record.params_total - outside),
        "params_total": float(record.params_total),
        "tokens": float(record.tokens),
        "unique_tokens": float(record.unique_tokens),
        "epochs": float(record.epochs),
        "flops": float(record.flops),
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


def _corpus(body: Mapping[str, Any], name: str) -> str:
    """The corpus with the damage done to it: damaged text is another corpus."""
    if not body.get("data.quality"):
        return name
    return f"{name} ({body['data.quality']} {body['data.quality_level']:g})"


def _excluded(run_id: str, reason: str, target: str = "") -> dict[str, str]:
    return {"run_id": run_id, "target": target, "reason": reason}


def _missing(store: Store, wanted: Iterable[str], present: set[str]) -> list[Any]:
    """Runs that a study names and that have no record, with their last failure."""
    absent = [i for i in dict.fromkeys(wanted) if i not in present]
    if not absent:
        return []
    last = {attempt.run_id: attempt for attempt in store.attempts()}
    rows = []
    for run_id in absent:
        attempt = last.get(run_id)
        why = (
            "no record: not trained yet, or provisional until its tuning runs are done"
        )
        if attempt is not None:
            why = f"failed: {attempt.cause} in attempt {attempt.number}"
        rows.append(_excluded(run_id, why))
    return rows


def _losses(record: Record) -> list[Reading]:
    """The readings that are losses; a record may hold other quantities beside them."""
    return [x for x in record.readings if x.quantity == "loss"]


def _final_readings(records: list[Record]) -> tuple[pd.DataFrame, list[Any]]:
    kept, bad = [], []
    for record in records:
        finals = [x for x in _losses(record) if x.kind == "final"]
        if record.status == "diverged":
            bad.append(_excluded(record.run_id, "diverged"))
            continue
        if not finals:
            bad.append(_excluded(record.run_id, "no final reading"))
        for x in finals:
            loss = np.nan if x.value is None else x.value
            se = np.nan if x.se is None else x.se
            kept.append((record.run_id, x.evaluation, loss, se))
    return pd.DataFrame(kept, columns=["run_id", "target", "loss", "se"]), bad


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


def _read_csv(path: str) -> pd.DataFrame:
    with open(path, "rb") as file:
        head = file.readline(1 << 22)
    if b"\0" in head:
        raise UserError("table", path, "text with commas; this file is binary")
    _check_width(path, head.count(b",") + 1)
    try:
        return pd.read_csv(path, low_memory=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as e:
        raise UserError("table", path, f"a CSV file with a header ({e})") from e


def _read_parquet(path: str) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        _check_width(path, len(file.schema_arrow.names))
        return file.read().to_pandas()
    except pa.ArrowException as e:
        raise UserError("table", path, f"a Parquet file ({e})") from e


def _read_jsonl(path: str) -> pd.DataFrame:
    try:
        frame = pd.read_json(path, lines=True)
    except (ValueError, AttributeError) as e:
        expected = f"one JSON object a line, columns as its keys ({e})"
        raise UserError("table", path, expected) from e
    _check_width(path, len(frame.columns))
    return frame


READERS = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_jsonl}


def _check_width(path: str, columns: int) -> None:
    if columns > MOST_COLUMNS:
        expected = f"at most {MOST_COLUMNS} columns; {path} has {columns}"
        raise UserError("table", columns, expected)


def load_table(path: str, mapping: Mapping[str, str] | None = None) -> Table:
    """A table with a header, one row a run. Raises UserError for wrong input."""
    if not Path(path).is_file():
        raise UserError("table", path, "no such file")
    if not os.path.getsize(path):
        raise UserError("table", path, "the file is empty")
    frame = READERS[Path(path).suffix.lower()](path)
    return from_frame(frame, mapping, title=Path(path).stem)


def from_frame(
    frame: pd.DataFrame, mapping: Mapping[str, str] | None = None, title: str = "table"
) -> Table:
    """As `load_table`, from a frame that is in memory already."""
    if frame.empty:
        raise UserError("table", title, "at least one row under the header")
    frame.columns = [str(column) for column in frame.columns]
    mapping = guess_mapping(list(frame.columns), mapping)
    losses = {_target(key): c for key, c in mapping.items() if key.startswith("loss")}
    runs, excluded = _standard(frame, mapping)
    parts = []
    for target, column in losses.items():
        values, text = _numbers(frame[column])
        excluded += [
            _excluded(runs.run_id.iloc[i], f"loss is not a number: {text[i]!r}", target)
            for i in text
        ]
        part = pd.DataFrame({"run_id": runs.run_id, "target": target, "loss": values})
        parts.append(part.drop(index=part.index[list(text)]))
    readings = pd.concat(parts, ignore_index=True)
    readings["se"] = np.nan
    return _finish(
        title=title,
        unit="nats/token",
        targets=tuple(losses),
        runs=runs,
        readings=readings,
        excluded=excluded,
        paths=pd.DataFrame(columns=["run_id", "step", "tokens", "loss"]),
        documents={},
        parts={},
        counting="as the table gives them",
        mapping=mapping,
    )


def guess_mapping(
    columns: list[str], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Our columns -> the table's: what is given, and the rest by usual names.

    Raises:
      UserError: an unknown column on either side, a doubled one, or no params, tokens
        or loss.
    """
    given = dict(given or {})
    doubled = sorted({c for c in columns if columns.count(c) > 1})
    if doubled:
        raise UserError("table", doubled[0], "each column name only once")
    for ours, theirs in given.items():
        if ours.split(":")[0] != "loss" and ours not in ALIASES:
            raise unknown("map", ours, ALIASES)
        if theirs not in columns:
            raise unknown(f"map {ours}", theirs, columns)
    lower: dict[str, str] = {}
    for column in columns:
        lower.setdefault(column.lower(), column)
    out = dict(given)
    for column in columns:
        if column.startswith("loss:") and not any(k.startswith("loss") for k in given):
            out[column] = column
    for ours, names in ALIASES.items():
        taken = ours in out or (ours == "loss" and any(k[:4] == "loss" for k in out))
        found = [lower[name] for name in names if name in lower]
        if not taken and found and found[0] not in out.values():
            out[ours] = found[0]
    for ours in ("params", "tokens", "loss"):
        if not any(key.split(":")[0] == ours for key in out):
            known = ", ".join(columns[:20])
            raise UserError(
                f"map {ours}", "", f"name its column; the table has {known}"
            )
    return out


def _target(key: str) -> str:
    return key.removeprefix("loss:")


def _numbers(column: pd.Series) -> tuple[np.ndarray, dict[int, Any]]:
    """As float64 [n], and by row the entries that are text instead."""
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(np.float64, na_value=np.nan), {}
    values = pd.to_numeric(column, errors="coerce")
    wrong = (values.isna() & column.notna()).to_numpy().nonzero()[0]
    return values.to_numpy(np.float64), {int(i): column.iloc[i] for i in wrong}


def _standard(
    frame: pd.DataFrame, mapping: Mapping[str, str]
) -> tuple[pd.DataFrame, list[Any]]:
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
        values, text = _numbers(frame[mapping[name]])
        out[name] = values
        excluded += [
            _excluded(out.run_id[i], f"{name} is not a number: {text[i]!r}")
            for i in text
        ]
    texts = {"family": "all", "corpus": "all", "seed": "", "data_seed": ""}
    for name, default in (texts | {"status": "done"}).items():
        known = name in mapping
        column = frame[mapping[name]] if known else None
        out[name] = default if column is None else column.astype(str).to_numpy()
    source = (
        frame[mapping["trajectory"]].astype(str) if "trajectory" in mapping else None
    )
    out["trajectory"] = out.run_id if source is None else source.to_numpy()
    fill = {"params_total": out.params, "unique_tokens": out.tokens}
    fill |= {"size": out.params, "flops": 6.0 * out.params * out.tokens}
    for name, values in fill.items():
        out[name] = out[name].fillna(values) if name in out else values
    for name in ("learning_rate", "batch", "wall_seconds"):
        if name not in out:
            out[name] = np.nan
    out["epochs"] = out.tokens / out.unique_tokens
    return out, excluded


def _finish(
    title: str,
    unit: str,
    targets: tuple[str, ...],
    runs: pd.DataFrame,
    readings: pd.DataFrame,
    excluded: list[Any],
    paths: pd.DataFrame,
    documents: Mapping[str, Documents],
    parts: Mapping[str, Mapping[str, float]],
    counting: str,
    mapping: Mapping[str, str] | None = None,
) -> Table:
    """Leaves out what cannot be fitted, says so, and widens the readings."""
    runs = runs[list(COLUMNS)].reset_index(drop=True)
    wide = readings.pivot_table("loss", "run_id", "target", dropna=False)
    for target in targets:
        column = wide[target] if target in wide else pd.Series(dtype=float)
        runs[f"loss:{target}"] = runs.run_id.map(column)
    bad_runs = excluded + _unusable_runs(
        runs, {e["run_id"] for e in excluded if not e["target"]}
    )
    out = {e["run_id"] for e in bad_runs if not e["target"]}
    readings = readings[~readings.run_id.isin(out)]
    reasons = _unusable_losses(readings)
    listed = readings[reasons != ""].assign(reason=reasons[reasons != ""])
    exclusions = pd.concat(
        [
            pd.DataFrame(bad_runs, columns=["run_id", "target", "reason"]),
            listed[["run_id", "target", "reason"]],
        ],
        ignore_index=True,
    )
    readings = readings[reasons == ""].reset_index(drop=True)
    if readings.empty:
        first = exclusions.reason.iloc[0] if len(exclusions) else "no reading"
        raise UserError("table", title, f"no row can be used; the first: {first}")
    return Table(
        title=title,
        unit=unit,
        targets=targets,
        runs=runs,
        readings=readings,
        exclusions=exclusions,
        mapping=dict(mapping or {}),
        warnings=_unit_warnings(runs),
        paths=paths,
        documents=documents,
        parts=parts,
        counting=counting,
    )


def _unusable_runs(runs: pd.DataFrame, known: set[str]) -> list[Any]:
    """Runs whose status, size or budget cannot be used, and exact duplicates."""
    reason = pd.Series("", index=runs.index)
    for name in ("params", "tokens", "unique_tokens"):
        values = runs[name]
        reason[(reason == "") & values.isna()] = f"{name} is missing"
        reason[(reason == "") & ~np.isfinite(values)] = f"{name} is not finite"
        reason[(reason == "") & (values <= 0)] = f"{name} is not above zero"
    other = (reason == "") & (runs.status != "done")
    reason[other] = "status is " + runs.status[other].astype(str)
    same = [c for c in runs.columns if c not in ("run_id", "trajectory")]
    copies = runs.duplicated(same)
    reason[(reason == "") & copies] = "duplicate of an earlier row"
    bad = runs.run_id[(reason != "") & ~runs.run_id.isin(known)]
    return [_excluded(runs.run_id[i], reason[i]) for i in bad.index]


def _unusable_losses(readings: pd.DataFrame) -> pd.Series:
    reason = pd.Series("", index=readings.index)
    loss = readings.loss
    reason[loss.isna()] = "loss is missing or NaN"
    reason[np.isinf(loss)] = "loss is infinite"
    reason[loss == 0] = "loss is zero"
    reason[(loss < 0) & np.isfinite(loss)] = "loss is negative"
    return reason


def _unit_warnings(runs: pd.DataFrame) -> tuple[str, ...]:
    """Counts that look like millions or billions of something."""
    out = []
    for name in ("params", "tokens"):
        middle = float(runs[name].median())
        if middle < 1000:
            out.append(
                f"{name} has a median of {middle:g}: if the table gives it in millions "
                "or billions, multiply it out, or every multiplier below is off"
            )
    return tuple(out)
