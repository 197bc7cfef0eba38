"""Pieces of the page: text, lists, notes, tables and what is folded away."""

from __future__ import annotations

import base64
import gzip
import html
import importlib.resources
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis import schema
from analysis.formatting import TOKENS, among, count, number, worded
from analysis.questions._question import Absent, Finding, Placed, Question
from analysis.questions._view import View
from analysis.results import Analysis, Note


def text_of(value: Any) -> str:
    return html.escape(str(value))


def paragraph(*sentences: str) -> str:
    return f"<p>{text_of(' '.join(sentences))}</p>" if sentences else ""


def bullets(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{text_of(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


# What changes a verdict stands in sight; the rest is folded under its number.
KINDS = {
    "asked": "needs your answer",
    "refused": "cannot be fitted",
    "disagree": "disagreements",
    "undetermined": "undetermined",
    "warning": "warnings",
    "edge": "best rate at the edge of its grid",
    "bound": "parameters on a bound",
    "read": "how the table was read",
    "excluded": "left out",
}


FOREMOST = ("asked", "refused", "disagree", "undetermined")


def notes_of(notes: Iterable[Note]) -> str:
    """A line a kind, what changes a verdict first; all but its first note folded."""
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for note in notes:
        kinds.setdefault(note.kind, []).append(text_of(note.text))
    items, minor = [], []
    for kind, texts in kinds.items():
        if not texts:
            continue
        head = f'<span class="kind">{text_of(KINDS.get(kind, kind))}</span>'
        if kind in FOREMOST:
            fold = _folded(f"{len(texts) - 1} more", texts[1:])
            items.append(f"<li>{head}{texts[0]}{fold}</li>")
        else:
            minor.append(f"<li>{head}{_folded(f'{len(texts)}', texts)}</li>")
    every = "".join(items + minor)
    return f'<ul class="notes">{every}</ul>' if every else ""


def _folded(title: str, texts: Sequence[str]) -> str:
    if not texts:
        return ""
    inner = "".join(f"<li>{text}</li>" for text in texts)
    return f"<details><summary>{title}</summary><ul>{inner}</ul></details>"


def about(analysis: Analysis, *about: str) -> str:
    return notes_of(note for note in analysis.notes if note.about in about)


def absent(analysis: Analysis, what: str, *about: str) -> str:
    """The reason why a section has no numbers, never silence."""
    return absent_of(Absent(what, (), about), analysis.view)


def absent_of(missing: Absent, view: View) -> str:
    """The same, of what a question declares."""
    reason = " ".join(reasons(missing, view)) or missing.reason
    return f'<p class="none">No {text_of(missing.what)}. {text_of(reason)}</p>'


def reasons(missing: Absent, view: View) -> list[str]:
    """What notes say of why a question has no answer; none where it was not asked."""
    return [
        note.text
        for note in view.analysis.notes
        if note.about in missing.about
        and note.kind in ("asked", "refused", "undetermined")
    ]


# Counts read better with a suffix; what is exact stays in the sort key and the JSON.
COUNTS = {"params", "params_total", "tokens", "unique_tokens", "flops", "size"}
COUNTS |= {"compute", "small_params", "small_tokens", "fit_params", "fit_tokens"}


# At so many significant digits of every parameter a prediction changes by less than
# 1e-6 of itself: an exponent is multiplied by a logarithm of at most about 30.
DIGITS = 8


EXACT = {"value"}
# What is longer than a name and may go over several lines.
SENTENCES = {"reason", "box", "known from", "says", "looks at"}


def table(frame: pd.DataFrame, caption: str = "", limit: int = 500) -> str:
    """A sortable table of all columns; the JSON holds what is beyond `limit`."""
    numeric = {
        name: pd.api.types.is_numeric_dtype(frame[name])
        and not pd.api.types.is_bool_dtype(frame[name])
        for name in frame
    }
    heads = "".join(
        f'<th scope="col"{" class=num" if numeric[name] else ""}>'
        f"{text_of(schema.heading(str(name)))}</th>"
        for name in frame
    )
    rows = [
        "".join(_cell(name, value, numeric[name]) for name, value in row.items())
        for row in frame.head(limit).to_dict("records")
    ]
    if len(frame) > limit:
        caption += f" The first {limit} of {len(frame)} rows; all are in report.json."
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    named = f"<caption>{text_of(caption)}</caption>" if caption else ""
    return (
        f'<div class="table"><table>{named}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def _cell(name: str, value: Any, numeric: bool) -> str:
    if not numeric:
        shown = {True: "yes", False: "no"}.get(value, value)
        missing = isinstance(value, float) and math.isnan(value)
        wrap = ' class="wrap"' if name in SENTENCES else ""
        return f"<td{wrap}>{'' if missing else text_of(shown)}</td>"
    amount = float(value)
    key = "" if math.isnan(amount) else repr(amount).replace("inf", "Infinity")
    if name in COUNTS:
        shown = count(amount)
    elif amount == int(amount) if math.isfinite(amount) else False:
        shown = f"{int(amount)}" if abs(amount) < 1e6 else number(amount)
    else:
        shown = number(amount, DIGITS if name in EXACT else 4)
    return f'<td class="num" data-v="{key}">{shown}</td>'


# A table of more rows is not printed, and is kept compressed until it is unfolded: the
# page of thousands of runs is to stay small enough to send.
MOST_PLAIN = 40


def packed(inner: str, at_once: bool = False) -> str:
    """HTML that the page holds compressed; its script puts it in place.

    Args:
      at_once: soon after the page has loaded, and not when its fold is opened.
    """
    kind = "packed now" if at_once else "packed"
    held = f'<script type="text/plain" class="{kind}">{squeezed(inner)}</script>'
    return f"{held}<noscript>Scripts are needed to show this.</noscript>"


def held(name: str, text: str) -> str:
    """Text that the page holds for a script, compressed, and does not run."""
    return f'<script type="text/plain" id="{name}">{squeezed(text)}</script>'


def asset(name: str) -> str:
    """A file of this folder that goes into the page."""
    folder = importlib.resources.files("analysis.report")
    return folder.joinpath(name).read_text("utf-8")


def squeezed(text: str) -> str:
    """Text as gzip in base64, the same on every day."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


_PACKED = re.compile(r'(<script type="text/plain" class="packed[^>]*>)([^<]+)')


def worded_html(inner: str, counted: str) -> str:
    """HTML whose text, packed or not, speaks of what its table's budgets count."""
    if counted == TOKENS:
        return inner
    inner = re.sub(
        r"(<(?:style|script)\b.*?</(?:style|script)>)|(?:^|>)[^<]+",
        lambda found: found[0] if found[1] else worded(found[0], counted),
        inner,
        flags=re.DOTALL,
    )
    return _PACKED.sub(lambda found: found[1] + _repacked(found[2], counted), inner)


def _repacked(held: str, counted: str) -> str:
    plain = gzip.decompress(base64.b64decode(held)).decode()
    return squeezed(worded_html(plain, counted))


def fold(
    title: str, frame: pd.DataFrame, caption: str = "", counted: bool = True
) -> str:
    """A table folded away under its title; nothing where it has no rows."""
    if frame.empty:
        return ""
    rows = "1 row" if len(frame) == 1 else f"{len(frame)} rows"
    head = text_of(title) + f" ({rows})" * counted
    inner = table(frame, caption)
    if len(frame) > MOST_PLAIN:
        inner = packed(inner)
    return f"<details><summary>{head}</summary>{inner}</details>"


def side_by_side(found: Sequence[Sequence[Finding]]) -> str:
    """Findings that seem to disagree, a row each, with what each looks at."""
    rows = [
        {
            "swap": f"{one.baseline} → {one.alternative}{among(one.fixed)}",
            "known from": one.way,
            "says": one.text,
            "looks at": one.why,
        }
        for group in found
        for one in group
    ]
    if not rows:
        return ""
    caption = (
        "These seem to disagree: in direction, or beyond their intervals. Each answers "
        "its own question; what was measured needs no law."
    )
    return table(pd.DataFrame(rows), caption)


def elsewhere(view: View, figure: Placed, *names: str) -> str:
    """The same figures on the other targets, folded away."""
    folds = []
    for target in view.analysis.targets[1:]:
        inner = "".join(figure(name, target) for name in names)
        if inner:
            head = f"<summary>Scored on {text_of(target)}</summary>"
            folds.append(f"<details>{head}{packed(inner, at_once=True)}</details>")
    return "".join(folds)


def section(question: Question, view: View, figure: Placed) -> str:
    """A question's section: sentences, figures, notes and folded tables."""
    if question.build is not None:
        return question.build(view, figure)
    if question.absent is not None and question.absent.holds(view):
        return absent_of(question.absent, view)
    said = question.said(view)
    parts = [paragraph(*said) if question.prose else bullets(said)]
    for name, drawing in question.figures.items():
        otherwise = [drawing.otherwise] if drawing.otherwise else []
        parts.append(figure(name) or paragraph(*otherwise))
        parts.append(elsewhere(view, figure, name) if drawing.every else "")
    parts.append(about(view.analysis, *question.about) if question.about else "")
    folds = (
        fold(one.title, one.rows(view), one.caption, one.counted)
        for one in question.tables
    )
    return "".join([*parts, *folds])
