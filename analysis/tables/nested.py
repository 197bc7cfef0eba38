"""Nested records as flat columns: {"config": {"lr": 1}} has the column config.lr."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from scaling.errors import UserError


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads, which keeps the last of two keys that are the same."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError("table", twice, "each column name only once")
    return found


def flat(
    record: Mapping[str, Any], lists: set[str], prefix: str = ""
) -> dict[str, Any]:
    """A record with dotted names; names of lists, which are left out, go to `lists`."""
    out: dict[str, Any] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            # As W&B keeps a configuration: {"lr": {"desc": null, "value": 0.001}}.
            if set(value) in ({"desc", "value"}, {"value"}):
                value = {"": value["value"]}
                out |= flat(value, lists, name)
            else:
                out |= flat(value, lists, f"{name}.")
        elif isinstance(value, list | tuple | set):
            lists.add(name)
        else:
            out[name] = value
    return out


def records(rows: Iterable[Mapping[str, Any]]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A frame of records, a row each, and what to say about it."""
    lists: set[str] = set()
    frame = pd.DataFrame([flat(row, lists) for row in rows])
    return frame, left_out(lists - set(frame.columns))


LISTS = "lists are left out"


def left_out(lists: Iterable[str]) -> tuple[str, ...]:
    names = sorted(lists)
    if not names:
        return ()
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (f"{LISTS}: {', '.join(names[:5])}{more}",)


def from_json(body: Any, path: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A frame from one JSON document, in any of the forms in which tables are kept."""
    if isinstance(body, list):
        if _is_sheet(body):
            return _split({"columns": body[0], "data": body[1:]}, path)
        if not all(isinstance(row, dict) for row in body):
            raise UserError("table", path, "a JSON list of objects, one a run")
        return records(body)
    if not isinstance(body, dict):
        raise UserError("table", path, "a JSON list of objects, or columns by name")
    if {"columns", "data"} <= set(body) and isinstance(body["columns"], list):
        return _split(body, path)
    inner = list(body.values())
    lists = {k: v for k, v in body.items() if isinstance(v, list)}
    rows = [
        k for k, v in lists.items() if v and all(isinstance(row, dict) for row in v)
    ]
    if len(rows) == 1:
        frame, said = records(body[rows[0]])
        return frame, (f"the rows are what stands under {rows[0]!r}", *said)
    if lists and len(lists) == len(inner) and len(set(map(len, inner))) == 1:
        return pd.DataFrame(
            {k: pd.Series(v, dtype=object) for k, v in body.items()}
        ).infer_objects(), ()
    if inner and all(isinstance(value, dict) for value in inner):
        # By column and then by row, as pandas writes it, or by run.
        if all(key.isdigit() for value in inner for key in value):
            return pd.DataFrame(body), ()
        frame, said = records(inner)
        if "run_id" not in frame:
            frame.insert(0, "run_id", list(body))
        return frame, said
    return records([body])


def _is_sheet(body: list[Any]) -> bool:
    """Whether a list is of rows, the first of which has the names of the columns."""
    rows = bool(body) and all(isinstance(row, list) for row in body)
    return rows and bool(body[0]) and all(isinstance(name, str) for name in body[0])


def _split(body: Mapping[str, Any], path: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    names, rows = body["columns"], body["data"]
    if not isinstance(rows, list) or any(
        not isinstance(row, list) or len(row) != len(names) for row in rows
    ):
        raise UserError("table", path, "rows under `data` as long as `columns`")
    return records(dict(zip(map(str, names), row, strict=True)) for row in rows)


def opened(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A frame whose cells that hold whole records, as text, are columns of their own.

    Trackers export configurations and summaries so: as JSON, or as Python prints it.
    """
    parts: list[pd.DataFrame] = []
    said: list[str] = []
    for column in frame.columns:
        series = frame[column]
        found = _cells(series)
        if found is None:
            parts.append(series.to_frame())
            continue
        inner, more = records(found)
        inner = inner.set_axis([f"{column}.{name}" for name in inner.columns], axis=1)
        parts.append(inner.set_index(frame.index))
        said += more
    if all(
        part.columns.equals(frame.columns[i : i + 1]) for i, part in enumerate(parts)
    ):
        return frame, tuple(said)
    return pd.concat(parts, axis=1), tuple(said)


def _cells(series: pd.Series) -> list[dict[str, Any]] | None:
    """The records in a column's cells; None where it has anything else."""
    if pd.api.types.is_numeric_dtype(series.dtype):
        return None
    present = series.dropna()
    if present.empty or not isinstance(first := present.iloc[0], str | dict):
        return None
    if isinstance(first, str) and not first.lstrip().startswith("{"):
        return None
    found = []
    for cell in series:
        body = {} if _absent(cell) else _record(cell)
        if body is None:
            return None
        found.append(body)
    return found


def _absent(cell: Any) -> bool:
    return (
        cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))
    )


def _record(cell: Any) -> dict[str, Any] | None:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            cell = _literal(cell)
    return cell if isinstance(cell, dict) else None


class _Numbers(ast.NodeTransformer):
    """nan and inf, which Python prints and cannot read back."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        known = {"nan": math.nan, "inf": math.inf, "null": None, "true": True}
        if node.id in known:
            return ast.copy_location(ast.Constant(known[node.id]), node)
        return node


def _literal(text: str) -> Any:
    try:
        tree = _Numbers().visit(ast.parse(text.strip(), mode="eval"))
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
