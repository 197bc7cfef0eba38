"""Tables as text: commas, semicolons, tabs or bars, in any usual encoding."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator

import pandas as pd

from analysis.tables import numbers, widths
from scaling.errors import UserError

EXPECTED = "text with a header and commas, semicolons, tabs or bars between columns"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
BLANKS = r"\s+"
# Lines by which the separator is told.
LINES = 50
# A header of more bytes than this has too many columns.
HEADER_BYTES = 1 << 22
BOMS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
CONTROL = re.compile(rb"[\x01-\x08\x0b\x0e-\x1f]")


def decoded(data: bytes, path: str) -> tuple[bytes, tuple[str, ...]]:
    """A text file as UTF-8 with plain line ends, and what to say about its encoding.

    Raises UserError for what is not text.
    """
    for beginning, encoding in BOMS.items():
        if data.startswith(beginning):
            return _recoded(data, encoding, path), ()
    encoding = _two_bytes(data[:4096])
    if encoding:
        name = f"read as {encoding.upper()}, which it does not say that it is"
        return _recoded(data, encoding, path), (name,)
    if b"\0" in data:
        raise UserError("table", path, f"{EXPECTED}; this file is binary")
    try:
        data.decode("utf-8")
        return _lines(data), ()
    except UnicodeDecodeError as error:
        if CONTROL.search(data[:4096]):
            expected = f"{EXPECTED}; this file is binary"
            raise UserError("table", path, expected) from error
    said = "it is not UTF-8 and is read as Windows-1252 (latin-1)"
    return _recoded(data, "cp1252", path), (said,)


def _recoded(data: bytes, encoding: str, path: str) -> bytes:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        expected = f"{EXPECTED}; as {encoding} it is damaged at byte {error.start}"
        raise UserError("table", path, expected) from error
    if "\0" in text:
        raise UserError("table", path, f"{EXPECTED}; this file is binary")
    return _lines(text.encode("utf-8", "replace"))


def _two_bytes(head: bytes) -> str:
    """UTF-16 without its mark: every other byte of plain text is zero then."""
    half = len(head) // 2
    if half < 4:
        return ""
    even, odd = head[0 : 2 * half : 2].count(0), head[1 : 2 * half : 2].count(0)
    if odd > 0.9 * half and not even:
        return "utf-16-le"
    return "utf-16-be" if even > 0.9 * half and not odd else ""


def _lines(data: bytes) -> bytes:
    if b"\r" not in data:
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def read(data: bytes, path: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A frame from text in UTF-8, and what to say about how it was read.

    Raises UserError, with the line, for what is not one table.
    """
    data, separator = _prepared(data, path)
    head = list(_head(data))
    if not head:
        raise UserError("table", path, f"{EXPECTED}; it has no line")
    widths.check_width(path, max(head[0].count(s) for s in SEPARATORS) + 1)
    separator = separator or _separator(head, path)
    if separator == BLANKS:
        names = head[0].split()
    else:
        try:
            names = next(csv.reader([head[0]], delimiter=separator, strict=True))
        except csv.Error as error:
            expected = f"{EXPECTED}; in its header: {error}"
            raise UserError("table", path, expected) from error
    widths.check_doubled(name.strip() for name in names if name.strip())
    frame = _parsed(data, separator, len(names), path)
    said = [] if separator == "," else [_named(separator)]
    return _with_doubtful_points(frame, data, separator), tuple(said)


def _named(separator: str) -> str:
    return f"columns are separated by {SEPARATORS.get(separator, 'blanks')}"


def _prepared(data: bytes, path: str) -> tuple[bytes, str]:
    """The text without comments, which become blank lines so that lines keep their
    numbers, and the separator where the file names it."""
    separator = ""
    named = re.match(rb"sep=(.)\n", data, re.IGNORECASE)
    if named:  # as spreadsheets write it
        separator = named[1].decode()
        data = b"\n" + data[named.end() :]
    if data.startswith(b"#") or b"\n#" in data:
        data = _without_comments(data)
    if data.lstrip().startswith(b"|"):
        data = _without_bars(data)
        separator = "|"
    return data, separator


def _without_comments(data: bytes) -> bytes:
    lines = data.split(b"\n")
    first = next((i for i, x in enumerate(lines) if x.strip() and x[:1] != b"#"), None)
    if first is not None and _all_numbers(lines[first]):
        # The header itself is a comment, as numpy writes it.
        last = next((i for i in range(first - 1, -1, -1) if lines[i].strip()), None)
        if last is not None:
            lines[last] = lines[last].lstrip(b"# ")
    return b"\n".join(b"" if line[:1] == b"#" else line for line in lines)


def _all_numbers(line: bytes) -> bool:
    cells = re.split(rb"[,;\t| ]+", line.strip())
    return all(
        re.fullmatch(rb'"?[+-]?[\d.]+(?:[eE][+-]?\d+)?"?', cell) for cell in cells
    )


RULE = re.compile(rb"[|:\-+\s]+")


def _without_bars(data: bytes) -> bytes:
    """A table with bars around it, as in Markdown, without them and its rule."""
    lines = []
    for line in data.split(b"\n"):
        line = line.strip()
        rule = RULE.fullmatch(line) and b"-" in line
        lines.append(
            b"" if rule else line.removeprefix(b"|").removesuffix(b"|").strip()
        )
    return b"\n".join(lines)


def _head(data: bytes) -> Iterator[str]:
    """The first lines that are not blank."""
    start, found = 0, 0
    while found < LINES and start < len(data):
        end = data.find(b"\n", start, start + HEADER_BYTES)
        end = min(len(data), start + HEADER_BYTES) if end < 0 else end
        line = data[start:end].decode("utf-8", "replace")
        start = end + 1
        if line.strip():
            found += 1
            yield line


def _separator(head: list[str], path: str) -> str:
    """What stands between columns: it is in the header, and as often in every line."""
    scores: dict[str, tuple[float, int]] = {}
    for mark in SEPARATORS:
        try:
            rows = [len(row) for row in csv.reader(head, delimiter=mark) if row]
        except csv.Error:
            continue
        if rows and rows[0] > 1:
            scores[mark] = (sum(n == rows[0] for n in rows) / len(rows), rows[0])
    if scores:
        return max(scores, key=lambda mark: scores[mark])
    counts = {len(line.split()) for line in head}
    if len(head) > 1 and len(counts) == 1 and counts.pop() > 1:
        return BLANKS
    expected = f"{EXPECTED}; its header has none of these"
    raise UserError("table", f"{path}: {head[0].strip()[:60]}", expected)


def _parsed(data: bytes, separator: str, width: int, path: str) -> pd.DataFrame:
    options = {"sep": separator, "low_memory": False, "index_col": False}
    options["skipinitialspace"] = separator not in ("\t", BLANKS)
    try:
        with warnings.catch_warnings():
            # Fields beyond the header would be dropped with a warning alone.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(io.BytesIO(data), **options)
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        _refuse_ragged(data, separator, width, path)
        expected = f"{EXPECTED} ({_line(error)})"
        raise UserError("table", path, expected) from error
    except (UnicodeDecodeError, OverflowError, pd.errors.EmptyDataError) as error:
        raise UserError("table", path, f"{EXPECTED} ({_line(error)})") from error
    if len(frame) and frame.iloc[:, -1].isna().any():
        # A line that ends too early looks like missing cells.
        _refuse_ragged(data, separator, width, path)
    return frame


def _line(error: Exception) -> str:
    """An error of a reader as one line."""
    return " ".join(str(error).split())


def _refuse_ragged(data: bytes, separator: str, width: int, path: str) -> None:
    """Raises UserError for the first line of another number of columns."""
    if separator == BLANKS:
        rows = enumerate((x.split() for x in data.decode().split("\n")), 1)
        for number, row in rows:
            if row and len(row) != width:
                raise _ragged(path, number, width, len(row))
        return
    reader = csv.reader(io.StringIO(data.decode()), delimiter=separator)
    try:
        for row in reader:
            blank = not row or (len(row) == 1 and not row[0].strip())
            if len(row) != width and not (blank and width > 1):
                raise _ragged(path, reader.line_num, width, len(row))
    except csv.Error as error:
        expected = f"{EXPECTED}; line {reader.line_num}: {error}"
        raise UserError("table", path, expected) from error


def _ragged(path: str, line: int, width: int, found: int) -> UserError:
    expected = (
        f"{width} columns, as its header has, in each line; line {line} has {found}"
    )
    return UserError("table", path, expected)


def _with_doubtful_points(
    frame: pd.DataFrame, data: bytes, separator: str
) -> pd.DataFrame:
    """The frame with columns as text whose point need not be a decimal one.

    In a table that has decimal commas 350.000 may be 350000: pandas has read it as 350.
    """
    if numbers.COMMA not in numbers.proved(frame):
        return frame
    floats = [c for c in frame.columns if pd.api.types.is_float_dtype(frame[c].dtype)]
    if not floats:
        return frame
    text = pd.read_csv(
        io.BytesIO(data),
        sep=separator,
        index_col=False,
        usecols=floats,
        dtype=str,
        skipinitialspace=separator not in ("\t", BLANKS),
    )
    out = frame.copy()
    for column in floats:
        cells = text[column].dropna().drop_duplicates()
        points = [cell for cell in cells if numbers.POINT in cell]
        if points and all(numbers.EITHER.fullmatch(cell.strip()) for cell in points):
            out[column] = text[column]
    return out
