"""Tables copied out of documents: Markdown with text around it, and LaTeX.

Lines that are no part of the table become blank, so that lines keep their numbers.
"""

from __future__ import annotations

import csv
import io
import re

from scaling.errors import UserError

# The line under a Markdown header: | --- | :-: |
RULE = re.compile(rb"[|:\-+=\s]+")
LATEX = re.compile(
    rb"\\begin\{(?P<kind>tabularx?\*?|longtable)\}(?P<rows>.*?)\\end\{(?P=kind)\}",
    re.DOTALL,
)
LINES = re.compile(
    r"\\(?:toprule|midrule|bottomrule|hline|endhead|endfirsthead|centering"
    r"|(?:cmidrule|cline)(?:\([^)]*\))?\{[^}]*\}|addlinespace(?:\[[^\]]*\])?)"
)
# What documents put around a number or a name, and what is left of it.
MARKUP = (
    (re.compile(r"\\(?:text|math)(?:bf|it|rm|tt|sc|sf|up)\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:emph|underline|num)\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:bf|bfseries|it|itshape|boldmath)\b\s*"), ""),
    (re.compile(r"\\times"), "x"),
    (re.compile(r"\\(?:pm)\b"), "±"),
    (re.compile(r"\\(?:sim|approx)\b"), "~"),
    (re.compile(r"10\^\{(-?\d+)\}"), r"10^\1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;:! ]|~(?!\d)"), " "),
    (re.compile(r"\\([%&_#$])"), r"\1"),
    (re.compile(r"\*\*([^*]+)\*\*|__([^_]+)__|`([^`]+)`"), r"\1\2\3"),
    (re.compile(r"\$([^$]*)\$"), r"\1"),
)


def plain(text: str) -> str:
    """A cell or a header without the marks of Markdown and LaTeX around it."""
    if not any(mark in text for mark in "\\$*_`{"):
        return text
    for pattern, left in MARKUP:
        text = pattern.sub(left, text)
    return text.strip()


def read(data: bytes, path: str) -> tuple[bytes, str]:
    """The table in a text, one line a row, and its separator; "" where it names none.

    Raises UserError where the text has several tables.
    """
    if b"\\begin{" in data:
        found = list(LATEX.finditer(data))
        if len(found) > 1:
            raise _several(path, len(found), "LaTeX")
        if found:
            return _from_latex(found[0]["rows"].decode(), path), ","
    return _from_markdown(data, path)


def _several(path: str, count: int, kind: str) -> UserError:
    expected = f"one table in a file; this one has {count} in {kind}"
    return UserError("table", path, expected)


def _from_markdown(data: bytes, path: str) -> tuple[bytes, str]:
    lines = data.split(b"\n")
    barred = [line.strip().startswith(b"|") for line in lines]
    rules = [
        i
        for i, line in enumerate(lines)
        if b"-" in line and b"|" in line and RULE.fullmatch(line)
    ]
    starts = [i for i, bar in enumerate(barred) if bar and not (i and barred[i - 1])]
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    framed = bool(starts) and (starts[0] == first or any(barred[i] for i in rules))
    if not framed:
        return data, ""
    if len(starts) > 1 and len([i for i in rules if barred[i]]) > 1:
        raise _several(path, len(starts), "Markdown")
    out = []
    for line, bar in zip(lines, barred, strict=True):
        line = line.strip()
        rule = RULE.fullmatch(line) and b"-" in line
        kept = line.removeprefix(b"|").removesuffix(b"|").strip()
        out.append(kept if bar and not rule else b"")
    return b"\n".join(out), "|"


def _from_latex(text: str, path: str) -> bytes:
    """Rows of a tabular as lines with commas."""
    # The columns' alignment, which may hold braces of its own: {l@{}rr}
    depth, start = 0, 0
    for i, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if not depth and letter == "}" and not text[i + 1 :].lstrip().startswith("{"):
            start = i + 1
            break
    text = re.sub(r"(?<!\\)%.*", "", LINES.sub("", text[start:]))
    if r"\multi" in text:
        expected = r"a LaTeX table without \multicolumn and \multirow"
        raise UserError("table", path, expected)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in re.split(r"\\\\(?:\[[^\]]*\])?", text):
        if row.strip():
            cells = re.split(r"(?<!\\)&", " ".join(row.split()))
            writer.writerow([plain(cell.strip()) for cell in cells])
    return out.getvalue().encode()
