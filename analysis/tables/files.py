"""Files that hold a table: .csv, .parquet and .jsonl into a frame as they stand."""

from __future__ import annotations

import collections
import csv
import json
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from scaling.errors import UserError

MOST_COLUMNS = 10_000
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
        check_doubled(names)
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
        check_doubled(names)
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
        check_doubled(names)
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


def check_doubled(names: Iterable[str]) -> None:
    counts = collections.Counter(names)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise UserError("table", doubled[0], "each column name only once")


def read(path: str) -> pd.DataFrame:
    """A table with a header, one row a run. Raises UserError for wrong input."""
    if not Path(path).is_file():
        raise UserError("table", path, "no such file")
    if not os.path.getsize(path):
        raise UserError(
            "table", path, "the file is empty; a header and rows are needed"
        )
    return READERS[Path(path).suffix.lower()](path)
