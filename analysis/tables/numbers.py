"""Numbers as people write them: 6.7B, 1,000,000, 1,5, 3.2e18 FLOPs, 12.5%.

A column is read in one way as a whole, never cell by cell: what a comma or point means
is decided by all of its cells and, where these leave two meanings, by the other columns
of the table. Where two are still left the column is not read at all.
"""

from __future__ import annotations

import dataclasses
import decimal
import functools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables import copied, headers

# What people write where they have no number, and where it has no end.
MISSING = frozenset(
    (
        *("", "na", "n/a", "nan", "null", "none", "nil", "-", "--", "—", "–", "?"),
        *(".", "missing", "#n/a", "<na>", "#na", "tbd"),
    )
)
INFINITE = {"inf": math.inf, "infinity": math.inf, "∞": math.inf}
POINT, COMMA = ".", ","
MARKS = (POINT, COMMA)
# One sign for all that look alike: no-break, thin, narrow and figure space, minus.
ALIKE = str.maketrans(
    dict.fromkeys("\u00a0\u2009\u202f\u2007", " ")
    | dict.fromkeys("\u2212\ufe63\uff0d", "-")
    | {"\u2019": "'"}
)
SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
# 1.5 x 10^9, 1.5·10⁹, 10^9
TEN = re.compile(
    r"(?:^|(?<=\d)\s*[x×*·]\s*)10(?:(?:\^|\*\*)\s*([+-]?\d{1,2})|(⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,2}))"
)
CELL = re.compile(
    r"(?P<sign>[+-]?)\s?(?P<digits>\d(?:[\d.,_' ]*[\d.])?|[.,]\d+)"
    r"(?P<exponent>[eE][+-]?\d{1,3})?\s*(?P<unit>[^\d\s.,].*)?"
)
# Digits before the decimal mark, in groups; commas may group by twos (12,34,567).
GROUPED = re.compile(
    r"\d{1,3}(?:([ '.])\d{3}(?:\1\d{3})*|(?:,\d{2,3})*,\d{3})|\d+(?:_\d+)+"
)
# 2^20, 3 x 2^20
TWO = re.compile(r"(?:(\d+)\s*[x×*·]\s*)?2(?:\^|\*\*)(\d{1,2})")
# What people add to a number, and which changes it not: about, an error, a footnote.
ABOUT = re.compile(r"^(?:[~≈∼≃]|ca\.)\s*", re.IGNORECASE)
ERROR = re.compile(
    r"(?<=[\d%])\s*(?:(?:±|\+/-|\+-)\s*[\d.][\d.,]*(?:[eE]-?\d+)?"
    r"|\((?:±|\+/-|sd|se)?\s*\d[\d.,]*\)"
    r"|[\[(]\s*[\d.]+\s*(?:,|;|-|–|to)\s*[\d.]+\s*[\])])(?=$|\s|%)"
)
FOOTNOTE = re.compile(r"(?<=[\w%)])\s*[*†‡§¶]+$")
EITHER = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")
# A median of so much is not in millions or billions.
LARGE = 1e7


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A column as numbers.

    Attributes:
      values: float64 [n], NaN where there is none.
      wrong: marks the cells [n] that hold something else and are not missing.
      unit: as the header or the cells name it, "" for none.
      said: how the column was read, where that is not plain; "" otherwise.
      refused: why the column as a whole is not read, and what would make it readable;
        "" where it is. All its cells that are not missing are wrong then.
    """

    values: np.ndarray
    wrong: np.ndarray
    unit: str = ""
    said: str = ""
    refused: str = ""


@dataclasses.dataclass(frozen=True)
class _Cell:
    """A number before it is known what its comma or point means."""

    text: str
    sign: str
    digits: str
    shift: int
    scaled: bool
    unit: str

    @functools.cached_property
    def mark(self) -> str:
        """The decimal mark that the cell proves, "?" for either, "" for none."""
        return _mark(self.digits)

    def value(self, mark: str) -> float:
        """The number where `mark` is the decimal mark; NaN where it cannot be."""
        whole, _, fraction = self.digits.partition(mark)
        if not whole.isdigit() and whole:
            if not GROUPED.fullmatch(whole):
                return math.nan
            whole = re.sub(r"\D", "", whole)
        if fraction and not fraction.isdigit():
            return math.nan
        # As text, so that 190.1M is the float nearest to 190100000.
        return float(f"{self.sign}{whole or 0}.{fraction or 0}e{self.shift}")


def read(frame: pd.DataFrame, column: str, count: bool = False) -> Numbers:
    """The numbers of a column.

    Args:
      frame: the whole table; its other columns of text decide what a comma is where the
        column's own cells do not.
      column: which one. A unit in its header, as in `tokens [B]`, multiplies a count.
      count: whether it counts something, so that m is million and never milli.
    """
    series, header = frame[column], headers.read(column)
    if is_number(series):
        values = series.to_numpy(np.float64, na_value=np.nan)
        found = Numbers(values, np.zeros(len(values), bool), header.unit)
        return _multiplied(found, column, header, []) if count else found
    plain = _plain_text(series)
    rest = np.ones(len(series), bool) if plain is None else np.isnan(plain)
    codes, unique = pd.factorize(series[rest].map(_plain).to_numpy(dtype=object))
    others = [] if plain is None else _witnesses(series[~rest])
    answer, cells = _read(frame, column, list(unique) + others, count)
    # A missing cell has the code -1, and so the last value.
    values = np.full(len(series), np.nan) if plain is None else plain.copy()
    wrong = np.full(len(series), bool(answer.refused))
    values[rest] = np.append(answer.values, np.nan)[codes]
    wrong[rest] = np.append(answer.wrong, False)[codes]
    values[wrong] = np.nan
    unit = answer.unit or header.unit
    found = dataclasses.replace(answer, values=values, wrong=wrong, unit=unit)
    return _multiplied(found, column, header, cells) if count else found


def _plain_text(series: pd.Series) -> np.ndarray | None:
    """Values [n] of text that any program reads, NaN for other text.

    None where the column is not all text, or where a comma in it may say that the point
    of the others is no decimal point. Only for speed: of a million cells few are odd.
    """
    if pd.api.types.infer_dtype(series, skipna=True) != "string":
        return None
    values = pd.to_numeric(series, errors="coerce").to_numpy(
        np.float64, na_value=np.nan
    )
    odd = series[np.isnan(values)].drop_duplicates()
    return None if odd.astype(str).str.contains(",|[.].*[.]").any() else values


def _witnesses(texts: pd.Series) -> list[str]:
    """The plain texts that show what a point is, of a column without commas."""
    points = (text.strip() for text in texts if POINT in text)
    first = [text.strip() for text in texts.iloc[:1]]
    either = []
    for text in points:
        if not EITHER.fullmatch(text):
            return [*first, text]
        either = [text]
    return first + either


def is_number(series: pd.Series) -> bool:
    """Whether a column holds numbers already; flags and complex numbers are none."""
    kind = series.dtype
    return pd.api.types.is_numeric_dtype(kind) and not (
        pd.api.types.is_bool_dtype(kind) or pd.api.types.is_complex_dtype(kind)
    )


def _plain(value: Any) -> Any:
    """Text without outer space, a float, None for a missing cell, or a tuple for what
    can be no number (which a dict would hold to be one: True is 1)."""
    if isinstance(value, str):
        text = value.strip().strip("\"'").translate(ALIKE).strip()
        return None if text.lower() in MISSING else text
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(
        value, int | float | np.integer | np.floating | decimal.Decimal
    ):
        return (repr(value)[:60],)
    try:
        number = float(value)
    except OverflowError:
        return (repr(value)[:60],)
    return None if math.isnan(number) else number


def _cells(unique: Sequence[Any], count: bool) -> tuple[np.ndarray, list[_Cell | None]]:
    """The values [u] that are plain to any program, and cells for the rest."""
    texts = [value if isinstance(value, str) else None for value in unique]
    as_text = pd.Series(texts, dtype=object)
    plain = pd.to_numeric(as_text, errors="coerce").to_numpy(np.float64, copy=True)
    cells: list[_Cell | None] = [None] * len(unique)
    for i, value in enumerate(unique):
        if isinstance(value, float):
            plain[i] = value
        elif isinstance(value, str) and math.isnan(plain[i]):
            sign, word = (-1.0, value[1:]) if value[:1] == "-" else (1.0, value)
            if word.lower() in INFINITE:
                plain[i] = sign * INFINITE[word.lower()]
            else:
                cells[i] = _cell(value, count)
    return plain, cells


def _cell(text: str, count: bool) -> _Cell | None:
    """A number with marks, a scale or a unit taken apart; None for other text."""
    body = FOOTNOTE.sub("", ABOUT.sub("", copied.plain(text)))
    body, shift = ERROR.sub("", body), 0
    ten, two = TEN.search(body), TWO.fullmatch(body)
    if two:
        body = str(int(two[1] or 1) << int(two[2]))
    elif ten:
        shift = int(ten[1] or ten[2].translate(SUPERSCRIPT))
        # Nothing before it: 10^9 is 1 x 10^9.
        body = body[: ten.start()] + ("" if ten.start() else "1") + body[ten.end() :]
    found = CELL.fullmatch(body)
    if found is None:
        return None
    unit = (found["unit"] or "").strip()
    first = unit.split()[0] if unit else ""
    power: int | None = 0
    if unit == "%":
        power = -2
    elif unit and unit.lower() not in headers.MEASURED:
        power = headers.scale(unit)
        # Where nothing is counted m may be milli, b bytes or bits, g grams.
        if not count and first in headers.POWERS and len(first) == 1 and first != "k":
            power = None if first.islower() else power
    if power is None:
        return None
    shift += power + int((found["exponent"] or "e0")[1:])
    words = unit.lower().split()
    word = words[-1] if words and words[-1] not in headers.POWERS else ""
    if headers.FLOPS.fullmatch(word):
        word = "flop"
    elif headers.GLUED.fullmatch(word):
        word = ""
    digits = found["digits"].rstrip()
    word = word.rstrip("s") if word in headers.COUNTED else word
    cell = _Cell(text, found["sign"], digits, shift, power not in (0, -2), word)
    # 1.2.3 is a number under neither mark.
    return None if all(math.isnan(cell.value(mark)) for mark in MARKS) else cell


def _mark(digits: str) -> str:
    points, commas = digits.count(POINT), digits.count(COMMA)
    if points and commas:
        return max(POINT, COMMA, key=digits.rfind)
    if points + commas > 1:
        return COMMA if points else POINT
    if not points + commas:
        return ""
    return "?" if EITHER.fullmatch(digits) else POINT if points else COMMA


def _read(
    frame: pd.DataFrame, column: str, unique: list[Any], count: bool
) -> tuple[Numbers, list[_Cell | None]]:
    """The unique values [u] of a column under its one reading, and their cells."""
    values, cells = _cells(unique, count)
    known = [cell for cell in cells if cell is not None]
    pairs = zip(unique, values, strict=True)
    texts = [v for v, x in pairs if isinstance(v, str) and not math.isnan(x)]
    mark, why = _decided(frame, column, known, texts)
    why = why or _mixed_units(known, texts)
    for i, (text, cell) in enumerate(zip(unique, cells, strict=True)):
        if cell is not None and not why:
            values[i] = cell.value(mark)
        elif mark == COMMA and isinstance(text, str) and POINT in text:
            # 1.234 beside 1,5 is 1234.
            grouped = _cell(text, count)
            values[i] = math.nan if grouped is None else grouped.value(COMMA)
    wrong = np.isnan(values)
    if not why and len(unique) and wrong.all():
        first = unique[0][0] if isinstance(unique[0], tuple) else unique[0]
        why = f"it holds text, such as {str(first)[:40]!r}, and no numbers"
    if why:
        nothing = np.full(len(values), np.nan)
        return Numbers(nothing, np.ones(len(values), bool), refused=why), cells
    units = sorted({cell.unit for cell in known if cell.unit})
    said = _said(column, known, mark)
    return Numbers(values, wrong, units[0] if units else "", said), cells


def _decided(
    frame: pd.DataFrame, column: str, cells: list[_Cell], texts: list[str]
) -> tuple[str, str]:
    """The decimal mark of a column, and why it is not known ("" where it can)."""
    certain: dict[str, str] = {}
    either: dict[str, str] = {}
    for cell in cells:
        kind = cell.mark
        if kind == "?":
            either.setdefault(COMMA if COMMA in cell.digits else POINT, cell.text)
        elif kind:
            certain.setdefault(kind, cell.text)
    for text in texts:
        if POINT in text and POINT not in certain:
            if EITHER.fullmatch(text):
                either.setdefault(POINT, text)
            else:
                certain[POINT] = text
    if len(certain) == 2:
        return "", (
            f"{certain[COMMA]!r} has a decimal comma and {certain[POINT]!r} a decimal "
            "point: write all of its numbers with a point and without separators"
        )
    if certain:
        return next(iter(certain)), ""
    if not either:
        return POINT, ""
    outside = proved(frame, column)
    if COMMA not in either and COMMA not in outside:
        return POINT, ""
    if len(either) == 1 and len(outside) == 1 and COMMA in either:
        return outside.pop(), ""
    text = either.get(COMMA) or either[POINT]
    whole, point = re.sub(r"[.,]", "", text), text.replace(COMMA, POINT)
    return "", (
        f"{text!r} is {whole} or {point}, and nothing else in the table tells which: "
        f"write it as {whole} or as {point}{'0' if POINT in text else ''}"
    )


def proved(frame: pd.DataFrame, beside: str | None = None) -> set[str]:
    """Decimal marks that the columns of numbers as text prove, all but one column."""
    found: set[str] = set()
    for name in frame.columns:
        series = frame[name]
        if name == beside or is_number(series):
            continue
        unique = series.dropna().drop_duplicates().head(SAMPLE).map(_plain)
        texts = [v for v in unique if v is not None]
        if not all(isinstance(v, str) for v in texts):
            continue
        cells = [_cell(v, True) for v in texts]
        if all(cell is not None for cell in cells):
            found |= {cell.mark for cell in cells if cell} - {"", "?"}
    return found


# Cells of another column that are asked what a comma is.
SAMPLE = 1000


def _mixed_units(cells: list[_Cell], texts: Iterable[str]) -> str:
    """Why the units of a column leave no one reading; "" where they do."""
    units = {cell.unit: cell.text for cell in cells}
    named = [unit for unit in units if unit]
    bare = units.get("") or next(iter(texts), None)
    if len(named) > 1:
        first, second = (units[unit] for unit in sorted(named)[:2])
        return f"it mixes {first!r} and {second!r}: give all of them in one unit"
    if named == ["%"] and bare is not None:
        return f"it mixes {units['%']!r} and {bare!r}: write all of them alike"
    return ""


def _said(column: str, cells: list[_Cell], mark: str) -> str:
    """How a cell was read that a program would not read by itself."""
    for cell in cells:
        value = cell.value(mark)
        if value == value:
            return f"{column}: {cell.text} is {short(value)}"
    return ""


def short(value: float) -> str:
    """A number as a person writes it: 1.9e8, 2.841, 350000."""
    if abs(value) >= 1e6 or 0 < abs(value) < 1e-4:
        digits, exponent = f"{value:.5e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.6g}"


def _multiplied(
    found: Numbers, column: str, header: headers.Header, cells: list[_Cell | None]
) -> Numbers:
    """A count, times what its header says that it is given in."""
    finite = found.values[np.isfinite(found.values)]
    scaled = any(cell is not None and cell.scaled for cell in cells)
    if not header.shift or not finite.size or found.refused:
        return found
    if scaled:
        said = f"{found.said}; the header's {header.unit} is not counted again"
        return dataclasses.replace(found, said=said)
    middle = float(np.median(np.abs(finite)))
    if middle >= LARGE:
        why = (
            f"its header says {header.unit}, and its median is {short(middle)}: take "
            f"{header.unit} out of the header, or give the numbers in it"
        )
        nothing = np.full(len(found.values), np.nan)
        wrong = found.wrong | ~np.isnan(found.values)
        return dataclasses.replace(found, values=nothing, wrong=wrong, refused=why)
    values = found.values * 10.0**header.shift
    first = float(finite[0])
    said = f"{column}: {short(first)} is {short(first * 10.0**header.shift)}"
    return dataclasses.replace(found, values=values, said=said)
