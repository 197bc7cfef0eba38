"""The report: one self-contained HTML page, its figures as files, and all as JSON.

The page says nothing that the numbers do not: every verdict comes from the questions'
sentences, and a section whose frame is empty gives the reason instead. `read` gives
back from the JSON the Analysis that `write` was given, to the last bit.
"""

from __future__ import annotations

import functools
import os
import string
from collections.abc import Mapping

from etils import epath

from analysis.formatting import joined, percent
from analysis.inference.verdict import DECIDES
from analysis.questions._question import Placed, Question, at_odds, questions
from analysis.questions._view import View
from analysis.report import explorer, figures, markup, saved
from analysis.report.answer import extent, summary
from analysis.report.checklist import checklist
from analysis.report.front import figure_of, front_page, unsaid
from analysis.results import Analysis
from scaling.errors import UserError
from scaling.intact import is_remote
from scaling.writing import write_atomic

# Notes of these kinds limit what may be concluded.
LIMITS = ("asked", "refused", "undetermined", "disagree", "edge", "bound", "warning")


def write(
    analysis: Analysis, folder: str | os.PathLike[str], processes: int = 1
) -> epath.Path:
    """Writes report.html, report.json, checklist.json and figures/ into `folder`.

    The folder may be local or gs://. Returns the path of the HTML page.

    Args:
      processes: figures drawn at a time.

    Raises:
      UserError: the folder cannot be written or is full. Each file that was there
        before stays whole, and the page is the last to be replaced.
    """
    root = epath.Path(folder)
    files: dict[str, bytes] = {}
    with figures.drawing(analysis, processes) as waited:
        numbers = saved.dumped(saved.to_json(analysis))
        checked = saved.dumped(checklist(analysis))
        drawn = waited()
    for name, (svg, png) in drawn.items():
        standalone = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        files[f"figures/{name}.svg"] = standalone.encode()
        files[f"figures/{name}.png"] = png
    files["report.json"], files["checklist.json"] = numbers, checked
    vectors = {name: svg for name, (svg, _) in drawn.items()}
    files["report.html"] = page(analysis, vectors).encode()
    try:
        for name, data in files.items():
            write_atomic(root / name, data)
    except OSError as error:  # nothing but writing is done here
        raise _unwritable(folder, str(error)) from error
    return root / "report.html"


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Says before minutes of work that `write` would fail, where that can be seen.

    Raises:
      UserError: something else is in the folder's place, or nothing can be made there.
    """
    if is_remote(folder):
        return
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise _unwritable(folder, f"{place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"{place} is read-only or not yours to write")


def _unwritable(folder: str | os.PathLike[str], why: str) -> UserError:
    text = f"no report can be written there ({why}); free it or give another, --out"
    return UserError("out", os.fspath(folder), text)


# HTML


def page(analysis: Analysis, drawn: Mapping[str, str]) -> str:
    """The whole page; `drawn` are SVG elements by name."""
    placed = functools.partial(figures.captioned, analysis, drawn)
    parts = [
        (name, *(markup.worded_html(html, analysis.counted) for html in told))
        for name, *told in sections(analysis, placed)
    ]
    contents = "".join(
        f'<a href="#{name}">{place}. {title}</a>'
        for place, (name, title, _) in enumerate(parts, 1)
    )
    body = [
        f'<section id="{name}"><details class="part"><summary><h2><span class="n">'
        f"{place}</span>{title}</h2></summary>\n{inner}</details></section>"
        for place, (name, title, inner) in enumerate(parts, 1)
    ]
    first = figure_of(drawn)
    shown = figures.captioned(analysis, drawn, first, on="front") if first else ""
    return string.Template(markup.asset("report.html")).substitute(
        title=markup.text_of(analysis.title),
        dek=markup.text_of(extent(analysis)),
        css=markup.asset("report.css"),
        js=markup.asset("report.js"),
        front=front_page(analysis, markup.worded_html(shown, analysis.counted)),
        contents=contents,
        sections="\n".join(body),
    )


def sections(analysis: Analysis, figure: Placed) -> list[tuple[str, str, str]]:
    """Name, title and HTML of each section: the answer, the questions, how far."""
    view = analysis.view
    return [
        ("explorer", "Explore the runs", explorer.section(analysis)),
        ("answer", "The answer in full", answer(analysis)),
        *(
            (one.name, markup.text_of(one.title), markup.section(one, view, figure))
            for one in questions()
            if not _unasked(one, view)
        ),
        ("limits", "What cannot be concluded", limits(analysis)),
        *unasked(analysis),
        ("method", "How it was computed", method(analysis)),
    ]


def answer(analysis: Analysis) -> str:
    """The answer, with all that stands behind it."""
    first, *sentences = summary(analysis)
    lead = markup.paragraph(first)
    body = f'<div class="answer">{lead}{markup.bullets(sentences)}</div>'
    return body + markup.side_by_side(at_odds(analysis.view))


def _unasked(question: Question, view: View) -> bool:
    """Whether the runs lack what the question is about, as text lacks pictures.

    A question that was asked and refused has a note with the reason, and a section.
    """
    missing = question.absent
    return (
        missing is not None
        and missing.holds(view)
        and not markup.reasons(missing, view)
    )


def unasked(analysis: Analysis) -> list[tuple[str, str, str]]:
    """A section of the questions without one and what each would need, if any."""
    view = analysis.view
    lines = [
        f"<h3>{markup.text_of(one.title)}</h3>{markup.absent_of(one.absent, view)}"
        for one in questions()
        if one.absent is not None and _unasked(one, view)
    ]
    title = "Questions that these runs do not answer"
    return [("unasked", title, "".join(lines))] if lines else []


def limits(analysis: Analysis) -> str:
    """What the data cannot show, and the notes that say why."""
    chosen = [note for note in analysis.notes if note.kind in LIMITS]
    return markup.bullets(unsaid(analysis)) + markup.notes_of(chosen)


def method(analysis: Analysis) -> str:
    """The methods and versions behind the numbers."""
    laws = joined(dict.fromkeys(analysis.quality.law)) or "none"
    versions = ", ".join(f"{name} {value}" for name, value in saved.versions().items())
    lines = [
        "A cell is one family, corpus, size and budget; its loss is that of the best "
        "learning rate tried, chosen again inside every bootstrap draw.",
        f"Laws fitted: {laws}. Their parameters minimise the Huber loss of the log "
        "residuals, in float64 and from many starts.",
        "Intervals are 95%, from a bootstrap that draws whole training trajectories, "
        "never points of one curve. Effects are computed draw by draw, so that the two "
        "sides of a comparison share their draws.",
        "Losses are compared on one evaluation set (target) at a time; a swap of the "
        "corpus changes the training text and not the text that is scored.",
        "A data-equivalent is infinite where no amount of data reaches the loss by the "
        "law; such draws are counted, not dropped.",
        "An effect is called a gain or a loss, larger or smaller, where its 95% "
        f"interval decides it (a comparison: {percent(DECIDES)} of draws).",
        f"The figures are also in figures/, all numbers in report.json. {versions}.",
    ]
    return markup.bullets(lines)
