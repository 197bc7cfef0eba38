"""Files that hold a table, by what is in them: text, JSON, Parquet, Arrow; packed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables import delimited, nested, unpacked, wandb_export
from analysis.tables.widths import check_doubled, check_width
from scaling.errors import UserError

# Names that are files of tables, whether they are there or not.
ENDINGS = (
    *(".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".json", ".md", ".tex"),
    *(".feather", ".arrow"),
)
# What the first bytes of a file say that no reader here reads.
OTHERS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet; save its table as .csv",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls); save its table as .csv",
    b"\x89HDF": "an HDF5 file; save its table as .parquet or .csv",
    b"SQLite format 3": "a database; save its table as .csv",
    b"\x93NUMPY": "a NumPy array, which has no names of columns; save it as .csv",
    b"7z\xbc\xaf": "a 7-Zip archive; take the table out of it",
    b"Rar!": "a RAR archive; take the table out of it",
    b"%PDF": "a PDF document; save its table as .csv",
}
Read = tuple[pd.DataFrame, tuple[str, ...]]


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a file of a table, there or by its name."""
    known = Path(unpacked_name(path)).suffix.lower() in ENDINGS
    return not os.path.isdir(path) and (known or os.path.isfile(path))


def title(path: str | os.PathLike[str]) -> str:
    """What a table is called: its file without its endings."""
    return Path(unpacked_name(path)).stem


def unpacked_name(path: str | os.PathLike[str]) -> str:
    """A file's name without the ending that says how it is packed."""
    name = os.fspath(path)
    packed = name.lower().endswith(unpacked.ENDINGS)
    return name.rsplit(".", 1)[0] if packed else name


def read(path: str) -> Read:
    """A table with a header, one row a run, and a line for what is not plain about it.

    Raises UserError for wrong input.
    """
    if not Path(path).is_file():
        raise UserError("table", path, "no such file")
    data = unpacked.read(path)
    if not data.strip():
        raise UserError(
            "table", path, "the file is empty; a header and rows are needed"
        )
    for beginning, what in OTHERS.items():
        if data.startswith(beginning):
            raise UserError(
                "table", path, f"a table of text or Parquet; this is {what}"
            )
    if data.startswith(b"PAR1"):
        frame, said = _read_parquet(data, path)
    elif data.startswith(b"ARROW1"):
        frame, said = _read_arrow(data, path)
    else:
        data, said = delimited.decoded(data, path)
        frame, more = _text_reader(data)(data, path)
        said += more
    check_width(path, len(frame.columns))
    frame, opened = nested.opened(frame)
    check_width(path, len(frame.columns))
    frame, adapted = wandb_export.adapted(frame)
    every = (*said, *opened, *adapted)
    return frame, tuple(f"{Path(path).name}: {text}" for text in every)


def _text_reader(data: bytes) -> Callable[[bytes, str], Read]:
    head = data[:4096].lstrip()
    if head.startswith(b"[") or head.startswith(b"{"):
        return _read_json
    return delimited.read


def _line(error: Exception) -> str:
    """An error of a reader as one line."""
    return " ".join(str(error).split())


def _read_parquet(data: bytes, path: str) -> Read:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        check_width(path, len(names))
        check_doubled(names)
        return _flat(file.read())
    except (pa.ArrowException, OSError) as error:
        expected = f"a Parquet file ({_line(error)})"
        raise UserError("table", path, expected) from error


def _read_arrow(data: bytes, path: str) -> Read:
    """A file of Arrow's IPC format, of which Feather is one."""
    import pyarrow as pa

    try:
        with pa.ipc.open_file(io.BytesIO(data)) as file:
            names = file.schema.names
            check_width(path, len(names))
            check_doubled(names)
            return _flat(file.read_all())
    except (pa.ArrowException, OSError) as error:
        expected = f"a Feather or Arrow file ({_line(error)})"
        raise UserError("table", path, expected) from error


def _flat(table: Any) -> Read:
    """An Arrow table with dotted names for what is nested, and without its lists."""
    import pyarrow as pa

    types = pa.types
    while any(types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    lists = [
        field.name
        for field in table.schema
        if types.is_nested(field.type) and not types.is_struct(field.type)
    ]
    table = table.drop_columns(lists)
    frame = table.to_pandas()
    # The index of a frame that pandas wrote may be columns, or the names of the runs.
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index(level=named) if named else frame, nested.left_out(lists)


def _read_json(data: bytes, path: str) -> Read:
    """One JSON document, or one object a line."""
    first, _, rest = data.lstrip().partition(b"\n")
    try:
        body = json.loads(first, object_pairs_hook=nested.unique_keys)
        many = isinstance(body, dict) and bool(rest.strip())
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        many = False
    if many:
        check_width(path, len(body))
        return _read_lines(data, path)
    try:
        body = json.loads(data, object_pairs_hook=nested.unique_keys)
        return nested.from_json(body, path)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        expected = f"a JSON document or one object a line ({_line(error)})"
        raise UserError("table", path, expected) from error


def _read_lines(data: bytes, path: str) -> Read:
    """By Arrow, ten times as fast; by json what Arrow has no one type for."""
    import pyarrow as pa
    import pyarrow.json as pj

    # An object may be as long as a block.
    options = pj.ReadOptions(block_size=1 << 24)
    try:
        found = pj.read_json(io.BytesIO(data), read_options=options)
    except pa.ArrowException:
        return _parsed_lines(data, path)
    # Arrow reads text that looks like a date as one.
    if any(pa.types.is_temporal(kind) for kind in found.schema.types):
        return _parsed_lines(data, path)
    return _flat(found)


def _parsed_lines(data: bytes, path: str) -> Read:
    rows = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            expected = f"one JSON object a line; line {number}: {_line(error)}"
            raise UserError("table", path, expected) from error
        if not isinstance(row, dict):
            expected = f"one JSON object a line; line {number} is none"
            raise UserError("table", path, expected)
        rows.append(row)
    return nested.records(rows)
