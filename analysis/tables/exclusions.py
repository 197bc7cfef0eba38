"""What no fit saw, of tables of any length: counted by reason, named up to a limit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from analysis.tables.table import Table

# Columns of `Table.exclusions`.
COLUMNS = ["run_id", "target", "reason"]
# Of the rows that one reason leaves out of one target, so many are named.
LISTED = 5000


def excluded(run_ids: Any, reasons: Any, target: str = "") -> pd.DataFrame:
    """Rows of `exclusions`: run ids, and for each or for all of them the reason."""
    columns = {"run_id": run_ids, "target": target, "reason": reasons}
    return pd.DataFrame(columns, columns=COLUMNS, dtype=object)


def kinds(exclusions: pd.DataFrame) -> pd.Series:
    """The reasons without what they quote: what stands before the first colon."""
    codes, reasons = pd.factorize(exclusions.reason.astype(str))
    heads = pd.Series(reasons, dtype=object).str.split(":", n=1).str[0]
    return heads.take(codes).set_axis(exclusions.index)


def among(ids: pd.Series, names: pd.Series) -> pd.Series:
    """Which ids [n] are names; as objects, ten times quicker than pandas' strings."""
    return ids.astype(object).isin(names.astype(object))


def listed(exclusions: pd.DataFrame) -> pd.DataFrame:
    """The first `LISTED` rows of each reason and target, in their order."""
    if len(exclusions) <= LISTED:
        return exclusions
    place = exclusions.groupby([exclusions.target, kinds(exclusions)]).cumcount()
    return exclusions[place < LISTED].reset_index(drop=True)


def counted(exclusions: pd.DataFrame, gone: pd.Series) -> pd.DataFrame:
    """How many rows each reason left out, and how many of them are named.

    Args:
      exclusions: all of them: run_id, target, reason.
      gone: run_id of the rows of the table that `brief` has not.

    Returns: target ("" for all), reason (without what it quotes), rows, listed, unnamed
      (those of `gone`, each under its first reason alone).
    """
    if exclusions.empty:
        return pd.DataFrame()
    unnamed = among(exclusions.run_id, gone) & ~exclusions.run_id.duplicated()
    whole = exclusions.assign(reason=kinds(exclusions), unnamed=unnamed)
    by = whole.groupby(["target", "reason"], sort=False)
    frame = by.agg(rows=("run_id", "size"), unnamed=("unnamed", "sum")).reset_index()
    return frame.assign(listed=frame["rows"].clip(upper=LISTED))


def brief(table: Table) -> Table:
    """The table with the runs that some fit may see and those that are listed."""
    named = pd.concat([table.readings.run_id, listed(table.exclusions).run_id])
    runs = table.runs[among(table.runs.run_id, named)]
    return dataclasses.replace(table, runs=runs.reset_index(drop=True))
