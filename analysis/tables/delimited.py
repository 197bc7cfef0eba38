"""Tables as text: commas, semicolons, tabs or bars, in any usual encoding."""

from __future__ import annotations

import collections
import csv
import io
import re
import warnings
from collections.abc import Iterator

import pandas as pd

from analysis.tables import columns, copied, headers, numbers, widths
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
    data, head, said = _without_titles(data, head, separator)
    separator = separator or _separator(head, path)
    data, head, more = _without_groups(data, head, separator)
    said += more
    names = _cells(head[0], separator, path)
    widths.check_doubled(name.strip() for name in names if name.strip())
    frame = _parsed(data, separator, len(names), path)
    said += [] if separator == "," else [_named(separator)]
    return _with_doubtful_points(frame, data, separator), tuple(said)


def _cells(line: str, separator: str, path: str) -> list[str]:
    if separator == BLANKS:
        return line.split()
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except csv.Error as error:
        expected = f"{EXPECTED}; in its header: {error}"
        raise UserError("table", path, expected) from error


EMPTY = " \t,;|"
# So many lines before a header are looked at: a title, a date, a blank row.
MOST_TITLES = 5


def _without_titles(
    data: bytes, head: list[str], separator: str
) -> tuple[bytes, list[str], list[str]]:
    """Without the lines of text above the header, which hold one cell at most."""
    titles = []
    for mark in [separator] if separator else SEPARATORS:
        try:
            rows = list(csv.reader(head, delimiter=mark))
        except csv.Error:
            continue
        filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
        usual = collections.Counter(filled).most_common(1)[0][0]
        lead = next((i for i, count in enumerate(filled) if count > 1), 0)
        if usual > 1 and lead <= MOST_TITLES:
            titles.append((-filled.count(usual), lead))
    lead = min(titles, default=(0, 0))[1]
    if lead >= len(head) - 1:
        return data, head, []
    said = [_dropped(line) for line in head[:lead] if line.strip(EMPTY)]
    return _blanked(data, lead), head[lead:], said


def _dropped(line: str) -> str:
    return f"a line above the header is left out: {line.strip(EMPTY)[:40]!r}"


def _without_groups(
    data: bytes, head: list[str], separator: str
) -> tuple[bytes, list[str], list[str]]:
    """Without a line of groups above the header, where only the second line is one."""
    first, second = (_known(line, separator) for line in (head * 2)[:2])
    if first or not second or separator == BLANKS:
        return data, head, []
    return _blanked(data, 1), head[1:], [_dropped(head[0])]


def _known(line: str, separator: str) -> bool:
    """Whether a line names the columns that a table cannot do without."""
    if separator == BLANKS:
        return True
    try:
        names = next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return False
    known = set(headers.known_as(names).values())
    return all(known & set(columns.ALIASES[ours]) for ours in ("params", "tokens"))


def _blanked(data: bytes, count: int) -> bytes:
    """With the first lines that are not blank made so, so that others keep numbers."""
    lines = data.split(b"\n")
    full = [i for i, line in enumerate(lines) if line.strip()]
    for i in full[:count]:
        lines[i] = b""
    return b"\n".join(lines)


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
    data, named_so = copied.read(data, path)
    return data, named_so or separator


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
    expected = f"{EXPECTED}; its header has none of these{_other(head)}"
    raise UserError("table", f"{path}: {head[0].strip()[:60]}", expected)


# How other kinds of text begin, and what they are.
OTHERS = {
    r"\s*<": "HTML or XML, which is not read: save its table as .csv",
    r"\s*(---|- ?\w+:|\w+:\s*$)": "YAML, which is not read: save it as JSON",
}


def _other(head: list[str]) -> str:
    known = (what for begin, what in OTHERS.items() if re.match(begin, head[0]))
    return next((f"; it looks like {what}" for what in known), "")


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
