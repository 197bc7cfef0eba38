"""Tables with a row for each run and evaluation set: the rows of a run become one run.

Without this a table of 104 models that were scored on 8 sets counts as 832 runs, and no
model's loss on one set can be set beside its loss on another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np
import pandas as pd

from analysis.laws import Array
from analysis.tables.table import Table


def joined(
    table: Table, frame: pd.DataFrame, taken: Collection[str]
) -> tuple[Table, Array]:
    """The table with one run for the rows that differ in the evaluation set alone.

    Rows are of one run where all that is known of the run is the same and each was
    scored on another set. Where a set occurs twice among them they are several runs,
    such as seeds that the table does not name, and which row belongs to which is not
    known: they stay apart. So do rows that cannot be used.

    Args:
      table: a run a row, with the targets of its readings.
      frame: its rows as they were read.
      taken: columns of `frame` that are read as something.

    Returns: the table, and bool [rows], which rows its runs are.
    """
    runs = table.runs
    group = _groups(runs, frame, taken)
    target = runs.run_id.map(table.readings.set_index("run_id").target)
    rows = pd.DataFrame({"group": group, "target": target, "run_id": runs.run_id})
    rows = rows[~rows.run_id.isin(table.exclusions.run_id) & rows.target.notna()]
    twice = rows.group[rows.duplicated(["group", "target"])]
    rows = rows[~rows.group.isin(twice)]
    first = dict(
        zip(rows.run_id, rows.groupby("group").run_id.transform("first"), strict=True)
    )
    renamed = runs.run_id.map(first).fillna(runs.run_id)
    kept = (renamed == runs.run_id).to_numpy()
    if kept.all():
        return table, kept
    readings = table.readings
    readings = readings.assign(run_id=readings.run_id.replace(first))
    said = (
        f"runs: {len(runs)} rows are {kept.sum()} runs, whose rows differ in the "
        "evaluation set alone"
    )
    return dataclasses.replace(
        table,
        runs=runs[kept].reset_index(drop=True),
        readings=readings,
        said=(*table.said, said),
    ), kept


def _groups(runs: pd.DataFrame, frame: pd.DataFrame, taken: Collection[str]) -> Array:
    """int [rows]: equal where all that is known of two runs is the same."""
    own = runs.trajectory == runs.run_id  # no column says what shares a trajectory
    facts = runs.drop(columns="run_id")
    facts["trajectory"] = runs.trajectory.mask(own, "")
    # Numbers that are read as nothing may be measured; words name something.
    words = [
        name
        for name in frame.columns
        if name not in taken and not pd.api.types.is_numeric_dtype(frame[name])
    ]
    whole = facts.join(frame[words].add_prefix("word:"))
    codes = [pd.factorize(whole[name], use_na_sentinel=False)[0] for name in whole]
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].ravel()
