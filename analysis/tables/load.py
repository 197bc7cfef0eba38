"""The way in: a workdir, a file or a frame becomes a `Table`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.design import settings
from analysis.tables import (
    columns,
    exclusions,
    files,
    flags,
    formulas,
    guesses,
    headers,
    long_form,
    losses,
    nested,
    scored,
    subsample,
    totals,
    trackers,
    usable,
    varied,
    workdir,
)
from analysis.tables import where as conditions_
from analysis.tables.numbers import Numbers
from analysis.tables.table import Table
from scaling.errors import UserError
from scaling.store import Store


def load(
    source: str | os.PathLike[str],
    mapping: Mapping[str, str | None] | None = None,
    study: str | None = None,
    embeddings: bool = False,
    unit: str | None = None,
    rows: int = subsample.MOST,
    where: Sequence[str] = (),
    text: str = "",
    target: str | None = None,
) -> Table:
    """Loads a workdir (a folder, local or gs://) or a file with a table.

    Tables are text (commas, semicolons, tabs, bars), JSON, JSON lines or Parquet,
    packed or not; what a file is, its first bytes say and not its name.

    Args:
      source: the folder or the file.
      mapping: our column -> the table's, for those that are not to be guessed, or ""
        for one that the table has not; several losses as "loss:TARGET", an error as
        "1 - ACCURACY". Tables only.
      study: one study of the workdir; by default all its records. Workdirs only.
      embeddings: count parameters with the embedding table and the output head.
        Workdirs only.
      unit: of every loss of a table, by default what its column says or else
        nats/token; of "perplexity" the logarithm is taken. Tables only.
      rows: how many usable runs are fitted at most; see subsample.py for which.
      where: conditions that every row must meet, such as "subset == hot"; see where.py.
        Of a workdir the columns are those of `Table.runs` and what its runs differ in
        besides, such as "length == 256".
      text: beginning of the digest of the text whose records are taken, where a
        workdir has records of several texts under one name. Workdirs only.
      target: with one column of losses and several corpora: "shared" where all runs
        were scored on the same text, "own" where each was on its own corpus. While it
        is not said each corpus is a target of its own. Tables only.

    Returns:
      The runs that can be used, and every row that was left out with its reason.

    Raises:
      UserError: nothing there, not what its name says, no row that can be used, or an
        option that does not apply.

    >>> table = analysis.load("runs.csv", {"params": "N"}, where=["arch == lstm"])
    >>> len(table.readings), len(table.exclusions)
    (16, 16)
    """
    path = os.fspath(source)
    if rows < usable.LEAST_ROWS:
        raise UserError("rows", rows, f"give at least {usable.LEAST_ROWS}")
    if files.is_table(path):
        _only_workdirs(study=study, embeddings=embeddings, text=text)
        frame, said = files.read(path)
        frame, curves = trackers.last_of_each(frame, mapping or {})
        said += tuple(f"{os.path.basename(path)}: {text}" for text in curves)
        name = files.title(path)
        try:
            table = from_frame(frame, mapping, name, unit, rows, where, target)
        except UserError as error:
            # A column of lists is no column, and may be the one that is missed.
            lists = [text for text in said if nested.LISTS in text]
            if error.value or not lists:
                raise
            expected = f"{error.expected} ({lists[0]})"
            raise UserError(error.field, error.value, expected) from error
        return dataclasses.replace(table, said=said + table.said)
    store = Store(path)
    if not is_workdir(path):
        if not os.path.isdir(path):
            expected = (
                "a workdir with records/, a file with a table, or a folder of runs"
            )
            raise UserError("table", path, expected)
        _only_workdirs(study=study, embeddings=embeddings, text=text)
        return _load_runs(path, mapping, unit, rows, where, target)
    options = {"map": mapping, "unit": unit, "target": target}
    for option, value in options.items():
        if value:
            raise UserError(option, value, "a workdir's records need none")
    return workdir.load_workdir(store, study, embeddings, rows, text, where)


def _only_workdirs(**options: str | bool | None) -> None:
    """Raises UserError for an option that was given and is of workdirs alone."""
    for name, asked in options.items():
        if asked:
            raise UserError(name, asked, "only a workdir knows that")


def is_workdir(path: str | os.PathLike[str]) -> bool:
    """Whether a folder, local or gs://, holds the records of studies."""
    return bool(Store(os.fspath(path)).path("records").exists())


def _load_runs(
    folder: str,
    mapping: Mapping[str, str | None] | None,
    unit: str | None,
    rows: int,
    where: Sequence[str],
    target: str | None,
) -> Table:
    """A folder of runs as a tracker left it."""
    found = trackers.read(folder)
    name = os.path.basename(os.path.abspath(folder))
    try:
        table = from_frame(found.frame, mapping, name, unit, rows, where, target)
    except UserError as error:
        ours = error.field.removeprefix("map ")
        if error.value or ours not in (*columns.NEEDED, "loss"):
            raise
        expected = (
            f"{error.expected}; where none of these is it, put {trackers.SIDECAR} into "
            f"{folder}, with the columns run ({found.frame.run_id[0]}, ...) and {ours}"
        )
        raise UserError(error.field, error.value, expected) from error
    said = tuple(f"{name}: {text}" for text in found.said)
    return dataclasses.replace(table, paths=found.paths, said=said + table.said)


def from_frame(
    frame: pd.DataFrame,
    mapping: Mapping[str, str | None] | None = None,
    title: str = "table",
    unit: str | None = None,
    rows: int = subsample.MOST,
    where: Sequence[str] = (),
    target: str | None = None,
) -> Table:
    """As `load`, from a frame that is in memory already; it is not changed.

    Args:
      frame: a row a run; column names are guessed as those of a file are.
      mapping, unit, rows, where, target: as of `load`.
      title: of the report.

    Returns:
      The runs that can be used, and every row that was left out with its reason.

    Raises:
      UserError: no row, or none that can be used, or an option out of range.

    >>> table = analysis.from_frame(pd.DataFrame(rows), {"family": "arch"})
    >>> table.runs.family.unique().tolist()
    ['lstm', 'transformer']
    """
    if frame.empty:
        raise UserError("table", title, "at least one row under the header")
    scored.check(target)
    frame = frame.set_axis(headers.stripped(frame.columns), axis=1)
    files.check_doubled(frame.columns)
    frame = frame.reset_index(drop=True)
    frame, made_of = formulas.added(frame, mapping or {})
    conditions = [conditions_.parse(text) for text in where]
    reason = _left_out(frame, conditions, mapping or {})
    kept = reason == ""
    guess = guesses.guess_mapping(frame[kept], mapping)
    given = [ours for ours, theirs in (mapping or {}).items() if theirs]
    found, said, unread = columns.numbers(frame, guess.mapping, given)
    used = {k: v for k, v in guess.mapping.items() if not _unread(k, found)}
    runs, excluded, missing = columns.standard(frame, used, found, given)
    excluded.insert(0, exclusions.excluded(runs.run_id[~kept], reason[~kept]))
    readings, measured, texts = _readings(frame, used, found, runs.run_id)
    readings, unit_, converted = losses.read(readings, measured, unit)
    taken = {c for theirs in used.values() for c in _columns(theirs, frame)}
    taken |= {condition.column for condition in conditions} | {*made_of}
    apart = _apart(frame[kept], runs[kept], taken, mapping or {})
    whole = Table(
        title=title,
        unit=unit_,
        targets=tuple(dict.fromkeys(readings.target)),
        runs=runs.join(columns.kept_apart(frame, apart)),
        readings=readings,
        exclusions=pd.concat([*excluded, *texts], ignore_index=True),
        mapping=used | {settings.APART + name: name for name in apart},
        warnings=(*(*guess.said, *unread, *missing, *flags.said(frame[kept], taken)),),
        said=(*said, *converted, *_put_in(used)),
        counting="as the table gives them",
    )
    whole, kept = _by_target(whole, frame, target, taken)
    found_apart = varied.experiments(frame[kept], apart, used)
    table = usable.select(whole, rows, found_apart)
    _check_varies(table)
    _check_scale(table)
    return table if unit else _with_doubts(table, measured)


def _left_out(
    frame: pd.DataFrame,
    conditions: Sequence[conditions_.Condition],
    mapping: Mapping[str, str | None],
) -> np.ndarray:
    """Why each row is left out before any column is read, "" for those that are not."""
    unmet = conditions_.left_out(frame, conditions, mapping)
    summed = totals.reasons(frame)
    return np.where(summed == "", unmet, summed)


def _with_doubts(table: Table, measured: Sequence[losses.Column]) -> Table:
    """The table, warning of losses whose column says no unit and that look odd."""
    odd = [c for c in measured if not losses.unit_of(c)]
    names = {c.target: c.name for c in odd}
    asked = table.readings if odd else table.readings[:0]
    doubts = losses.check(asked, table.runs, names)
    return dataclasses.replace(table, warnings=table.warnings + doubts)


def _columns(theirs: str, frame: pd.DataFrame) -> list[str]:
    """The table's columns that something of ours is made of."""
    difference = columns.less(theirs, frame.columns)
    return [difference[1] if difference else theirs]


def _put_in(mapping: Mapping[str, str]) -> list[str]:
    """What the table lacks and is computed instead."""
    if "flops" in mapping:
        return []
    return ["flops: the table has none; 6 x parameters x tokens is put in"]


def _apart(
    frame: pd.DataFrame,
    runs: pd.DataFrame,
    taken: Collection[str],
    mapping: Mapping[str, str | None],
) -> list[str]:
    """Unused columns in which rows differ, but for those that the reader unmapped."""
    unmapped = {ours for ours, theirs in mapping.items() if not theirs}
    names = varied.columns(frame, runs, taken)
    return [name for name in names if settings.APART + name not in unmapped]


def _by_target(
    table: Table, frame: pd.DataFrame, target: str | None, taken: Collection[str]
) -> tuple[Table, np.ndarray]:
    """The table with its targets, and which rows its runs are."""
    long = "target" in table.mapping and len(table.targets) == 1
    table = _retargeted(table, frame, target)
    if long:
        return long_form.joined(table, frame, taken)
    return table, np.ones(len(frame), bool)


def _retargeted(table: Table, frame: pd.DataFrame, target: str | None) -> Table:
    """The table with a target for each evaluation set, or for each corpus."""
    if len(table.targets) > 1:
        return table
    asked: tuple[str, ...] = ()
    if "target" in table.mapping:
        column = frame[table.mapping["target"]]
        of = column.astype(str).where(column.notna(), "not said")
    else:
        gone = table.runs.run_id.isin(table.exclusions.run_id)
        of, asked = scored.targets(table.runs, ~gone, target)
    if of is None:
        return table
    by_run = dict(zip(table.runs.run_id, of, strict=True))
    readings, left = table.readings.copy(), table.exclusions.copy()
    readings["target"] = readings.run_id.map(by_run)
    mine = left.target != ""
    left.loc[mine, "target"] = left.run_id[mine].map(by_run)
    targets = tuple(sorted(set(readings.target) - {""}))
    return dataclasses.replace(
        table, readings=readings, exclusions=left, targets=targets, asked=asked
    )


def _unread(ours: str, found: Mapping[str, Numbers]) -> bool:
    """Whether a column should hold numbers and is not used since it does not."""
    return (ours in columns.NUMBERS or ours.startswith("loss")) and ours not in found


def _readings(
    frame: pd.DataFrame,
    mapping: Mapping[str, str],
    found: Mapping[str, Numbers],
    run_ids: pd.Series,
) -> tuple[pd.DataFrame, list[losses.Column], list[pd.DataFrame]]:
    """The losses of all targets, their columns, and the rows with something else."""
    parts, measured, excluded = [], [], []
    for key in found:
        if not key.startswith("loss"):
            continue
        target, numbers = columns.target_of(key), found[key]
        difference = columns.less(mapping[key], frame.columns)
        whole, theirs = difference or (0.0, mapping[key])
        text = columns.text_rows(run_ids, "loss", frame[theirs], numbers.wrong, target)
        loss = whole - numbers.values if difference else numbers.values
        parts.append(pd.DataFrame({"run_id": run_ids, "target": target, "loss": loss}))
        error = difference is not None
        measured.append(losses.Column(target, theirs, numbers.unit, error))
        excluded.append(text)
    readings = pd.concat(parts, ignore_index=True).assign(se=np.nan)
    return readings, measured, excluded


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
