"""Your own text: a folder or glob of .txt, .jsonl and .parquet files.

.txt and .jsonl may be compressed (.gz, .zst). For example
`Part("files", options=options(path="~/texts", field="body"))`.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet

from scaling.errors import UserError

LICENCE = "the user's own"
SOURCE = "the user's own files"

KINDS = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz", ".txt.zst", ".jsonl.zst", ".parquet")
UNITS = ("file", "paragraph", "line")


def version(
    path: str, field: str = "text", column: str = "text", unit: str = "file"
) -> str:
    """Hash of the files' names, sizes and times of change."""
    del field, column, unit  # are in the part's key already
    states = [(file.name, file.stat()) for file in _found(path)]
    body = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def documents(
    path: str, field: str = "text", column: str = "text", unit: str = "file"
) -> Iterator[tuple[str, bytes]]:
    """One document a line of .jsonl, a row of .parquet or a `unit` of .txt.

    Args:
      path: a folder, read with all below it, or a glob.
      field: of .jsonl, the field with the text.
      column: of .parquet, the column with the text.
      unit: of .txt, what is one document: "file", "paragraph" (blank lines part
        them) or "line".

    Raises:
      UserError: nothing to read, a missing field or column, text that is not UTF-8.
    """
    if unit not in UNITS:
        raise UserError("data.corpus unit", unit, f"give one of {', '.join(UNITS)}")
    for file in _found(path):
        if file.suffix == ".parquet":
            yield from _parquet(file, column)
            continue
        with _opened(file) as stream:
            if ".jsonl" in file.suffixes:
                yield from _jsonl(file, stream, field)
            else:
                yield from _plain(file, stream, unit)


def _found(path: str) -> list[Path]:
    place = Path(path).expanduser()
    names = place.rglob("*") if place.is_dir() else map(Path, _globbed(place))
    found = sorted(p for p in names if p.name.endswith(KINDS) and p.is_file())
    if not found:
        raise UserError(
            "data.corpus path", path, f"give a folder or glob of {', '.join(KINDS)}"
        )
    return found


def _globbed(place: Path) -> list[str]:
    return glob.glob(str(place), recursive=True)


def _opened(file: Path) -> io.BufferedIOBase:
    if file.suffix == ".gz":
        return gzip.open(file, "rb")
    if file.suffix == ".zst":
        try:
            import zstandard
        except ModuleNotFoundError:
            raise UserError(
                "data.corpus path",
                str(file),
                "reading .zst needs: pip install 'datalaw[zstd]'",
            ) from None
        return io.BufferedReader(zstandard.open(file, "rb"))  # it reads no lines
    return open(file, "rb")


def _jsonl(
    file: Path, stream: io.BufferedIOBase, field: str
) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        key = f"{file.name}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError("data.corpus path", key, f"is not JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            row = row if isinstance(row, dict) else {}
            known = sorted(name for name, value in row.items() if type(value) is str)
            raise UserError(
                "data.corpus field", field, f"the text fields of {key} are {known}"
            )
        yield key, _encoded(row[field])


def _parquet(file: Path, column: str) -> Iterator[tuple[str, bytes]]:
    with pyarrow.parquet.ParquetFile(file) as table:
        if column not in table.schema_arrow.names:
            raise UserError(
                "data.corpus column",
                column,
                f"the columns of {file.name} are {table.schema_arrow.names}",
            )
        number = 0
        for batch in table.iter_batches(batch_size=1024, columns=[column]):
            for text in batch.column(0).to_pylist():
                if text is not None:
                    yield f"{file.name}:{number}", _encoded(text)
                number += 1


def _plain(
    file: Path, stream: io.BufferedIOBase, unit: str
) -> Iterator[tuple[str, bytes]]:
    if unit == "file":
        yield file.name, _checked(file.name, stream.read())
        return
    paragraph: list[bytes] = []
    number = 0
    for line in stream:
        number += 1
        if line.strip() and unit == "paragraph":
            paragraph.append(line)
            continue
        text = line if unit == "line" else b"".join(paragraph)
        if text.strip():
            yield _checked_pair(file, number, text)
        paragraph = []
    if paragraph:
        yield _checked_pair(file, number, b"".join(paragraph))


def _checked_pair(file: Path, number: int, text: bytes) -> tuple[str, bytes]:
    key = f"{file.name}:{number}"
    return key, _checked(key, text.rstrip(b"\r\n"))


def _checked(key: str, text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise UserError("data.corpus path", key, f"is not UTF-8: {error}") from error
    return text


def _encoded(text: str) -> bytes:
    # JSON can escape half of a surrogate pair, which no UTF-8 stands for.
    return text.encode("utf-8", "replace")
