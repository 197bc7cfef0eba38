"""Your own text: a folder or glob of .txt, .jsonl and .parquet files.

.txt and .jsonl may be compressed (.gz, .xz, .zst). For example
`corpus("files", path="~/texts", field="body")`.

A file is read whole, or the study is refused with one line that names the file, the
place in it and the reason. Documents without text (null, or only white space) are left
out in all formats and counted.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow
import pyarrow.parquet

from scaling.corpora import _text_files, _unpacked
from scaling.corpora._text_files import TextFile, refuse
from scaling.errors import UserError

LICENCE = "the user's own"
SOURCE = "the user's own files"

UNITS = ("file", "paragraph", "line")
# Changes when the same files may be read as other text than before.
READER = 2
MOST_BYTES = 1 << 30  # of a document, as _builder.py has it, which imports TFDS

Document = tuple[str, bytes]


def version(
    path: str, field: str = "text", column: str = "", unit: str = "file"
) -> str:
    """Hash of the files' names, sizes and times of change."""
    del field, column, unit  # are in the part's key already
    states = [(file.name, file.state) for file in _text_files.find(path).files]
    body = [(n, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in states]
    return hashlib.sha256(json.dumps([READER, body]).encode()).hexdigest()


def remarks(
    path: str, field: str = "text", column: str = "", unit: str = "file"
) -> list[str]:
    """Notes which files were not read because they are of other kinds."""
    del field, column, unit
    return _text_files.unread(path)


def documents(
    path: str, field: str = "text", column: str = "", unit: str = "file"
) -> Iterator[Document]:
    """One document a line of .jsonl, a row of .parquet or a `unit` of .txt.

    Args:
      path: a folder, read with all below it, or a glob. Links are followed. In a study
        a relative path starts in the folder of the study file.
      field: of .jsonl, the field with the text.
      column: of .parquet, the column with the text; by default named as `field`.
      unit: of .txt, what one document is: "file", "paragraph" (separated by blank
        lines) or "line".

    Raises:
      UserError: nothing to read, a file that is cut, damaged or not what its name
        says, a missing field or column, something other than text in it, text that is
        not UTF-8.
    """
    if unit not in UNITS:
        raise UserError("data.corpus unit", unit, f"give one of {', '.join(UNITS)}")
    for file in _text_files.find(path).files:
        if file.kind in _text_files.TABLES:
            yield from _parquet(file, column or field)
            continue
        with _unpacked.opened(file) as stream:
            if file.kind.startswith(".jsonl"):
                yield from _jsonl(file, stream, field)
            else:
                yield from _PLAIN[unit](file, stream)


# --- Rows of tables ----------------------------------------------------------


def _jsonl(file: TextFile, stream: io.BufferedReader, field: str) -> Iterator[Document]:
    for number, line in _lines(file, stream):
        place = f"{file.path}:{number}"
        _check_text(place, line)
        if line.strip():
            yield _key(file, number), _field(place, line, field)


def _field(place: str, line: bytes, field: str) -> bytes:
    try:
        row = json.loads(line.decode())
    except json.JSONDecodeError as error:
        why = f"{error.msg} (at character {error.pos + 1})"
        refuse(place, f"is not one JSON object on one line: {why}")
    except (ValueError, RecursionError) as error:  # a giant number, a deep nesting
        refuse(place, f"is not JSON that can be read: {error}")
    if not isinstance(row, dict):
        refuse(place, f"is not a JSON object but {_json_kind(row)}")
    if field not in row:
        texts = sorted(name for name, value in row.items() if type(value) is str)
        raise UserError(
            "data.corpus field",
            field,
            f"{place} has no such field; its fields with text are {texts} (null is "
            "what a document without text has there)",
        )
    text = row[field]
    if text is None:
        return b""
    if not isinstance(text, str):
        refuse(place, f"has {_json_kind(text)} in the field {field!r}, not text")
    # JSON can escape half of a surrogate pair, which no UTF-8 stands for.
    return text.encode("utf-8", "replace")


def _json_kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number"}
    kinds |= {str: "a text", list: "a list", dict: "an object", type(None): "null"}
    return kinds[type(value)]


def _parquet(file: TextFile, column: str) -> Iterator[Document]:
    number = 0
    with _unpacked.opened_raw(file.path) as raw:
        _unpacked.check_beginning(file.path, raw.read(512), ".parquet")
        raw.seek(0)
        try:
            for text in _column(file, raw, column):
                yield _key(file, number), _row_text(file, number, text)
                number += 1
        # Besides its own errors pyarrow raises OSError where a page cannot be unpacked
        # and UnicodeDecodeError where a column's name is damaged.
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            why = f"is cut short or damaged, in or after row {number}: {error}"
            refuse(file.path, why)


def _column(file: TextFile, raw: io.FileIO, column: str) -> Iterator[bytes | None]:
    """The texts of a column, row by row, each as bytes."""
    with pyarrow.parquet.ParquetFile(raw, page_checksum_verification=True) as table:
        _check_column(file, table.schema_arrow, column)
        rows = 0
        for batch in table.iter_batches(batch_size=1024, columns=[column]):
            yield from _bytes(batch.column(0))
            rows += len(batch)
        if rows != table.metadata.num_rows:
            refuse(file.path, f"has {rows} rows of {table.metadata.num_rows}")


def _check_column(file: TextFile, schema: pyarrow.Schema, column: str) -> None:
    found = schema.names.count(column)
    if found != 1:
        there = "are several columns of that name" if found else "is no such column"
        raise UserError(
            "data.corpus column",
            column,
            f"in {file.path} there {there}; its columns are {schema.names}",
        )
    kind = schema.field(column).type
    held = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if not (_is_text(held) or _is_bytes(held) or pyarrow.types.is_null(held)):
        refuse(file.path, f"has {kind} in the column {column!r}, not text")


def _is_text(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    view = types.is_string_view(kind)
    return bool(types.is_string(kind) or types.is_large_string(kind) or view)


def _is_bytes(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    fixed = types.is_fixed_size_binary(kind) or types.is_binary_view(kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or fixed)


def _bytes(values: pyarrow.Array) -> list[bytes | None]:
    """The column's texts as bytes: arrow does not say whether they are UTF-8."""
    if pyarrow.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not pyarrow.types.is_null(values.type):
        values = values.cast(pyarrow.large_binary())
    found: list[bytes | None] = values.to_pylist()
    return found


def _row_text(file: TextFile, number: int, text: bytes | None) -> bytes:
    if text is None:
        return b""
    place = f"{file.path}, row {number}"
    _check_size(place, text)
    return _decoded(place, text)


# --- Plain text --------------------------------------------------------------


def _whole(file: TextFile, stream: io.BufferedReader) -> Iterator[Document]:
    text = stream.read(MOST_BYTES + 1)
    _check_size(str(file.path), text)
    _check_text(str(file.path), text)
    yield _key(file), text


def _by_line(file: TextFile, stream: io.BufferedReader) -> Iterator[Document]:
    for number, line in _lines(file, stream):
        _check_text(f"{file.path}:{number}", line)
        if line.strip():
            yield _key(file, number), line.rstrip(b"\r\n")


def _by_paragraph(file: TextFile, stream: io.BufferedReader) -> Iterator[Document]:
    paragraph: list[bytes] = []
    first = size = 0
    for number, line in _lines(file, stream):
        _check_text(f"{file.path}:{number}", line)
        if line.strip():
            first = first if paragraph else number
            size = size + len(line) if paragraph else len(line)
            if size > MOST_BYTES:
                _check_size(f"{file.path}:{first}", b"".join(paragraph) + line)
            paragraph.append(line)
        elif paragraph:
            yield _key(file, first), b"".join(paragraph).rstrip(b"\r\n")
            paragraph = []
    if paragraph:
        yield _key(file, first), b"".join(paragraph).rstrip(b"\r\n")


_PLAIN: dict[str, Callable[[TextFile, io.BufferedReader], Iterator[Document]]] = {
    "file": _whole,
    "paragraph": _by_paragraph,
    "line": _by_line,
}


def _lines(file: TextFile, stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(MOST_BYTES + 1):
        number += 1
        _check_size(f"{file.path}:{number}", line)
        yield number, line


def _key(file: TextFile, number: int | None = None) -> str:
    # A name may hold bytes that are no UTF-8, which a key has to be.
    name = os.fsencode(file.name).decode("utf-8", "replace")
    return name if number is None else f"{name}:{number}"


def _check_size(place: str, text: bytes) -> None:
    if len(text) > MOST_BYTES:
        refuse(
            place,
            f"is one document of more than {MOST_BYTES >> 30} GiB; cut it into smaller "
            f"ones (of .txt, unit= may be one of {', '.join(UNITS)})",
        )


def _check_text(place: str, text: bytes) -> None:
    """Refuses plain text that is not UTF-8 or holds a zero byte, as no text does."""
    _decoded(place, text)
    at = text.find(b"\0")
    if at >= 0:
        refuse(
            place,
            f"has a zero byte at byte {at}: a binary file, a file with a hole, or "
            "UTF-16 text, to be converted to UTF-8 first",
        )


def _decoded(place: str, text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        refuse(place, f"is not UTF-8 at byte {error.start}: {error.reason}")
    return text
