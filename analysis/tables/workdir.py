"""A study's workdir: its records as a table."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.design.settings import APART, SETTING
from analysis.formatting import TOKENS, joined
from analysis.pictures import load as pictures
from analysis.predictions import load as predictions
from analysis.tables import (
    artifacts,
    exclusions,
    promises,
    run_times,
    subsample,
    trained_again,
    truth,
    usable,
)
from analysis.tables import where as conditions_
from analysis.tables.experiments import Experiments, options
from analysis.tables.table import BEST, PATH, Documents, Table
from scaling import pooling
from scaling.errors import UserError, unknown
from scaling.quantities import CAPTIONS
from scaling.record import Reading, Record
from scaling.run import label
from scaling.store import Store

# Readers are given as many points of a loss curve as a figure can show.
CURVE_POINTS = 200


def load_workdir(
    store: Store,
    study: str | None = None,
    embeddings: bool = False,
    rows: int = subsample.MOST,
    text: str = "",
    where: Sequence[str] = (),
) -> Table:
    """A study's records, those of one text of each name; see scaling/pooling.py.

    Args:
      where: conditions on columns of the runs, or on what they differ in besides, by
        its name in a study file.

    Raises UserError where none has a usable reading.
    """
    conditions = [conditions_.parse(one) for one in where]
    studies = store.studies()
    if study is not None and study not in studies:
        raise unknown("study", study, studies)
    chosen = {study: studies[study]} if study is not None else studies
    wanted = [i for body in chosen.values() for i in body.get("runs", ())]
    records, unread = _records(store, wanted, study is not None)
    pool = pooling.choose(records, set(wanted), text)
    apart = {(a.run_id, a.target) for a in pool.apart}
    kept = [r for r in records if (r.run_id, "") not in apart]
    every = pd.DataFrame([_run_row(r, embeddings) for r in records])
    unmet = conditions_.left_out(_plainly_named(every), conditions, {})
    runs = _varied(every)
    plain = _plainly_named(runs)
    gone = runs.run_id[unmet != ""].to_numpy()
    excluded = [unread, exclusions.excluded(gone, unmet[unmet != ""])]
    excluded += [
        exclusions.excluded([a.run_id], a.reason, a.target) for a in pool.apart
    ]
    targets = tuple(dict.fromkeys(x.evaluation for r in kept for x in _losses(r)))
    readings, bad = _final_readings(kept)
    pairs = pd.MultiIndex.from_frame(readings[["run_id", "target"]])
    readings = readings[~pairs.isin(apart)].reset_index(drop=True)
    probed, unprobed = predictions.of_workdir(store, kept, set(wanted))
    scored = _scored(kept, apart)
    known = _truth(chosen.values(), scored)
    made, unmade = pictures.of_workdir(
        store, kept, runs, set(wanted), truth.bits_of_pictures(known)
    )
    met = [r for r in kept if r.run_id not in set(gone)]
    asked, unit, other, warned = _of_one_unit(met)
    whole = Table(
        title=_titled(chosen) or Path(os.fspath(store.root)).name,
        unit=unit,
        # Losses of one unit are of one kind of data.
        counted=asked[0].data_unit if asked else TOKENS,
        targets=targets,
        runs=runs,
        readings=readings,
        best=_best_readings(kept),
        exclusions=pd.concat(
            [*excluded, other, bad, unprobed, unmade], ignore_index=True
        ),
        warnings=(*map(str, pool.texts), *warned),
        parts=_parts(scored),
        counting="with embeddings" if embeddings else "without embeddings",
        estimates=run_times.compared(store, records),
        truth=known[known.unit == unit].reset_index(drop=True),
        sources={_corpus(r.run): _source(r.run) for r in kept},
        predictions=probed,
        pictures=made,
        promises=promises.of_workdir(store, chosen, records),
    )
    selected = usable.select(whole, rows, _experiments(plain, runs))
    return _with_artifacts(selected, store, kept, scored)


def _titled(studies: Mapping[str, Mapping[str, Any]]) -> str:
    """Their names, but for those whose runs are all of one larger study."""
    runs = {name: set(body.get("runs", ())) for name, body in studies.items()}
    cuts = {a for a in runs for b in runs if runs[a] < runs[b]}
    return " + ".join(name for name in runs if name not in cuts)


def _of_one_unit(
    records: Sequence[Record],
) -> tuple[list[Record], str, pd.DataFrame, tuple[str, ...]]:
    """The runs of the unit that most losses are in; that unit, the others, a warning.

    Losses of several units, as of two objectives, are not set side by side. What runs
    made, such as samples, is compared all the same.
    """
    units = {r.run_id: next((x.unit for x in _losses(r)), "") for r in records}
    count = collections.Counter(unit for unit in units.values() if unit)
    if not count:
        return list(records), "nats/token", exclusions.excluded([], []), ()
    unit = min(count, key=lambda name: (-count[name], name))
    kept = [r for r in records if units[r.run_id] in (unit, "")]
    others = [r for r in records if units[r.run_id] not in (unit, "")]
    left = exclusions.excluded(
        [r.run_id for r in others],
        [
            f"its loss is in {units[r.run_id]}, and most are in {unit}: --where "
            f"'objective == {r.run['objective']}' fits it instead"
            for r in others
        ],
    )
    if not others:
        return kept, unit, left, ()
    instead = sorted({f"--where 'objective == {r.run['objective']}'" for r in others})
    text = (
        f"{len(kept)} runs have losses in {unit} and are fitted; {len(others)} have "
        f"losses in {joined(sorted({units[r.run_id] for r in others}))}, which are not "
        f"set beside them: {joined(instead, 'or')} fits those"
    )
    return kept, unit, left, (text,)


def _with_artifacts(
    table: Table,
    store: Store,
    records: Sequence[Record],
    scored: Scored,
) -> Table:
    """The table with what lies beside the records of its runs.

    What lies beside thousands of runs that are not fitted is not read.
    """
    left = table.exclusions
    thinned = set(left.run_id[left.reason == usable.THINNED])
    kept = [r for r in records if r.run_id not in thinned]
    return dataclasses.replace(
        table,
        paths=_paths(store, kept),
        documents={r.run_id: _documents(store, r, scored) for r in kept},
        warnings=(*table.warnings, *store.complaints()),
    )


def _records(
    store: Store, wanted: Sequence[str], alone: bool
) -> tuple[list[Record], pd.DataFrame]:
    """The records that a table can be made of, and the exclusions of all others.

    Args:
      wanted: ids of the runs of the chosen studies; `alone` means of these only.

    Raises UserError where there is no such record.
    """
    records, corrupt = store.records()
    short = {r.run_id: names for r in records if (names := _lacking(r))}
    corrupt |= {i: f"its run has no {', '.join(names)}" for i, names in short.items()}
    asked = set(wanted)
    records = [
        r for r in records if r.run_id not in short and (r.run_id in asked or not alone)
    ]
    if not records:
        why = next((store.problems[path] for path in store.newer), "")
        right = why or "no record yet: run the study first"
        raise UserError("table", str(store.root), right)
    newer = [i for i in store.newer.values() if i in asked or not alone]
    reasons = [f"corrupt record: {why}" for why in corrupt.values()]
    unread = [
        exclusions.excluded(list(corrupt), reasons),
        exclusions.excluded(newer, "record of a newer version"),
        _missing(store, wanted, {r.run_id for r in records} | {*newer}),
    ]
    records, repeated = trained_again.left_out(records, asked)
    return records, pd.concat([*unread, repeated], ignore_index=True)


# The evaluation sets that a record was scored on, by its id and by their names.
Scored = Mapping[str, Mapping[str, Mapping[str, Any]]]


def _scored(records: Iterable[Record], apart: Collection[tuple[str, str]]) -> Scored:
    """Those of each record that are set beside the others'."""
    return {
        record.run_id: {
            entry["name"]: entry
            for entry in record.run.get("evaluation", ())
            if (record.run_id, entry["name"]) not in apart
        }
        for record in records
    }


def _truth(studies: Iterable[Mapping[str, Any]], scored: Scored) -> pd.DataFrame:
    """What studies know of the sets that their own runs are scored on in this table.

    Of two studies that give one name to two sets, the one whose runs are left out
    says nothing of the set that is taken.
    """
    reported = []
    for body in studies:
        mine = {name for i in body.get("runs", ()) for name in scored.get(i, ())}
        known = [f for f in body.get("truth", ()) if f["evaluation"] in mine]
        reported.append({"truth": known})
    return truth.facts(reported)


def _varied(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs without the settings that all of them share."""
    beside = [c for c in runs if c.startswith((SETTING, APART))]
    same = [c for c in beside if runs[c].nunique(dropna=False) < 2]
    return runs.drop(columns=same)


def _plainly_named(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, with settings and the like under the names that a study file has."""
    names = {c: c.removeprefix(SETTING).removeprefix(APART) for c in runs}
    return runs.rename(columns=names)


def _experiments(plain: pd.DataFrame, runs: pd.DataFrame) -> Experiments | None:
    """The experiments that runs of one family and corpus are of, if several."""
    by = runs.groupby(["family", "corpus"])
    names = [
        c.removeprefix(APART)
        for c in runs
        if c.startswith(APART) and (by[c].nunique(dropna=False) > 1).any()
    ]
    if not names:
        return None
    listed = joined(names)
    differ = f"runs of one family and corpus differ in {listed}"
    instead = "give it again with each of these for the others"
    return Experiments(options(plain, names), differ, instead)


# What a row needs of a record's run.
NEEDED = (
    *("model.family", "model.size", "data.corpus", "data.seed", "batch", "init_seed"),
    *("optimiser.name", "optimiser.learning_rate"),
)


def _lacking(record: Record) -> list[str]:
    return [name for name in NEEDED if name not in record.run]


def _run_row(record: Record, embeddings: bool) -> dict[str, Any]:
    body = record.run
    outside = 0 if embeddings else record.params_embedding
    return {
        "run_id": record.run_id,
        "family": _family(body),
        "corpus": _corpus(body),
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
        "trained": record.trained,
        "wall_seconds": record.wall_seconds,
    } | _beside(body)


# What of a run is a column already, is no setting, or says nothing about the result.
NO_SETTINGS = (
    *("batch", "optimiser.name", "optimiser.learning_rate", "init_seed"),
    *("evaluation", "evaluations", "probes", "samples", "provisional"),
)
# Losses of two of these are not of one kind: no tuning makes one the better.
EXPERIMENTS = ("length", "objective")


def _beside(body: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that have no column, and what keeps runs apart."""
    out = {}
    for name, value in body.items():
        if name in NO_SETTINGS or name.startswith(("model.", "data.")):
            continue
        kind = APART if name in EXPERIMENTS else SETTING
        plain = isinstance(value, str | int | float)
        out[kind + name] = value if plain else json.dumps(value)
    return out


def _family(body: Mapping[str, Any]) -> str:
    """The family with its options: two variants of one family are two levels."""
    chosen = ",".join(f"{key}={value}" for key, value in body.get("model.options", ()))
    return f"{body['model.family']}[{chosen}]" if chosen else body["model.family"]


def _corpus(body: Mapping[str, Any]) -> str:
    """What was read; halves of a corpus's groups are two corpora.

    So are two shares of captions that are left out, which are no setting to tune.
    """
    half, dropped = body.get("data.half"), body.get("data.caption_dropout")
    name = _source(body) + (f", half {half}" if half else "")
    return name + (f", {dropped:.3g} of captions dropped" if dropped else "")


def _source(body: Mapping[str, Any]) -> str:
    """The corpus, whichever half of it was read."""
    return label(tuple(pooling.part(entry) for entry in body["data.corpus"]))


def _damage(body: Mapping[str, Any]) -> str:
    """What was done to the training text, and how much of it."""
    if not body.get("data.quality_level"):
        return ""
    return f"{body['data.quality']} {body['data.quality_level']:g}"


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
    return exclusions.excluded(absent, reasons)


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
    return readings, exclusions.excluded(list(bad), list(bad.values()))


def _best_readings(records: Iterable[Record]) -> pd.DataFrame:
    """`Table.best`: of each record and evaluation set, where it has a value."""
    rows = [
        (r.run_id, x.evaluation, x.value, x.se, x.step / r.steps * r.tokens, x.step)
        for r in records
        for x in _losses(r)
        if x.kind == "best" and x.value is not None
    ]
    frame = pd.DataFrame(rows, columns=BEST)
    kinds = {"loss": float, "se": float, "tokens": float}
    return frame.drop_duplicates(["run_id", "target"]).astype(kinds)


def _parts(scored: Scored) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for sets in scored.values():
        for name, entry in sets.items():
            parts = [pooling.part(part) for part in entry["parts"]]
            total = sum(part.weight for part in parts)
            keys = _keys(entry)
            weights = [part.weight / total for part in parts]
            found[name] = dict(zip(keys, weights, strict=True))
    return found


def _keys(entry: Mapping[str, Any]) -> list[str]:
    """What the documents of an evaluation set's parts are kept under.

    One corpus may be cut to several lengths, so the key has both.
    """
    tokens = entry["tokens"]
    return [f"{pooling.part(part).key}:{tokens}" for part in entry["parts"]]


def _documents(store: Store, record: Record, scored: Scored) -> Documents:
    arrays = artifacts.arrays(store, record, "nats")
    sets = scored[record.run_id].values()
    keys = {key for entry in sets for key in _keys(entry)}
    # Of pictures with captions the loss is known with none and with wrong ones, too.
    names = {f"{key}:nats": key for key in keys}
    names |= {f"{key}:{how}": f"{key}:{how}" for key in keys for how in CAPTIONS}
    out = {}
    for name, known in names.items():
        tokens = f"{name.rpartition(':')[0]}:tokens"
        if _alike(arrays, name, tokens):
            sums, sizes = arrays[name], arrays[tokens]
            out[known] = sums.astype(np.float64), sizes.astype(np.float64)
    return out


def _alike(arrays: Mapping[str, np.ndarray], *names: str) -> bool:
    """Whether they are lists of numbers, all there and of one length, not empty."""
    if not all(name in arrays for name in names):
        return False
    kinds = {arrays[name].dtype.kind for name in names}
    shapes = {arrays[name].shape for name in names}
    (shape,) = shapes if len(shapes) == 1 else ((),)
    return kinds <= set("iuf") and len(shape) == 1 and shape[0] > 0


def _paths(store: Store, records: list[Record]) -> pd.DataFrame:
    ids, parts = [], []
    for record in records:
        arrays = artifacts.arrays(store, record, "loss_curve")
        if not _alike(arrays, "step", "loss"):
            continue
        last = arrays["step"].size - 1
        at = np.unique(np.linspace(0, last, CURVE_POINTS).round().astype(int))
        step = arrays["step"][at]
        tokens = step * (record.tokens / max(1, record.steps))
        ids.append(record.run_id)
        parts.append((step, tokens, arrays["loss"][at].astype(np.float64)))
    if not parts:
        return pd.DataFrame(columns=PATH)
    columns = map(np.concatenate, zip(*parts, strict=True))
    counts = [len(step) for step, _, _ in parts]
    out = dict(zip(PATH[1:], columns, strict=True))
    return pd.DataFrame({"run_id": np.repeat(np.array(ids, object), counts)} | out)
