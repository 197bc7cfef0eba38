"""The way in: a workdir, a file or a frame becomes a `Table`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables import columns, files, headers, subsample, usable, workdir
from analysis.tables.table import Table
from scaling.errors import UserError
from scaling.record import Store

# What a table's losses are taken to be in, where nobody says.
UNIT = "nats/token"


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
    if rows < usable.LEAST_ROWS:
        raise UserError("rows", rows, f"give at least {usable.LEAST_ROWS}")
    if Path(path).suffix.lower() in files.READERS:
        if study is not None or embeddings:
            given = "study" if study is not None else "embeddings"
            raise UserError(given, study or embeddings, "only a workdir knows that")
        frame = files.read(path)
        return from_frame(frame, mapping, Path(path).stem, unit or UNIT, rows)
    store = Store(path)
    if not store.path("records").exists():
        expected = "give a workdir with records/, or a .csv, .parquet or .jsonl file"
        raise UserError("table", path, expected)
    if mapping or unit:
        given = "map" if mapping else "unit"
        raise UserError(given, mapping or unit, "a workdir's records need none")
    return workdir.load_workdir(store, study, embeddings, rows)


def from_frame(
    frame: pd.DataFrame,
    mapping: Mapping[str, str] | None = None,
    title: str = "table",
    unit: str = UNIT,
    rows: int = subsample.MOST,
) -> Table:
    """As `load`, from a frame that is in memory already; it is not changed."""
    if frame.empty:
        raise UserError("table", title, "at least one row under the header")
    frame = frame.set_axis(headers.stripped(frame.columns), axis=1)
    given, mapping = mapping or {}, columns.guess_mapping(list(frame.columns), mapping)
    mapping, names = columns.without_names(frame, mapping, given)
    found, said, unread = columns.numbers(frame, mapping, given)
    unused = [ours for ours in mapping if ours in columns.NUMBERS and ours not in found]
    mapping = {ours: c for ours, c in mapping.items() if ours not in unused}
    losses = {columns.target_of(key): key for key in found if key.startswith("loss")}
    runs, excluded = columns.standard(frame, mapping, found)
    parts = []
    for target, key in losses.items():
        values, text = found[key].values, found[key].wrong
        column = frame[mapping[key]]
        excluded.append(columns.text_rows(runs.run_id, "loss", column, text, target))
        parts.append(
            pd.DataFrame({"run_id": runs.run_id, "target": target, "loss": values})
        )
    readings = pd.concat(parts, ignore_index=True)
    readings["se"] = np.nan
    whole = Table(
        title=title,
        unit=unit,
        targets=tuple(losses),
        runs=runs,
        readings=readings,
        exclusions=pd.concat(excluded, ignore_index=True),
        mapping=mapping,
        warnings=names + unread,
        said=said,
        counting="as the table gives them",
    )
    table = usable.select(whole, rows)
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
