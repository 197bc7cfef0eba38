"""The front page: the answer for a person who is no statistician, on one screen.

What stands on it comes from the questions, by weight: their sentences for FRONT and
LIMIT and the figure with the highest weight that has something to show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from analysis.questions._question import FRONT, LIMIT, Sentence, drawings, sentences
from analysis.report import markup
from analysis.report.answer import extent
from analysis.results import Analysis

QUESTION = "Is it the architecture or the data?"
MOST_SAID, MOST_LIMITS = 5, 3
# Of what is said, so many stand first and large: the answer for any reader.
LEAD = 2


@dataclasses.dataclass(frozen=True)
class Front:
    """The front page's words.

    Attributes:
      question: what the study asks.
      said: the answer, the weightiest sentence first.
      limits: what it does not show.
    """

    question: str
    said: list[str]
    limits: list[str]


def front(analysis: Analysis) -> Front:
    """The few sentences that a reader needs first, of one target."""
    said = sentences(analysis.view, FRONT)
    return Front(QUESTION, said[:MOST_SAID], unsaid(analysis)[:MOST_LIMITS])


def brief(analysis: Analysis) -> str:
    """The front page as text: what was measured, the answer, what it does not show."""
    page = front(analysis)
    lines = [extent(analysis), *page.said]
    if page.limits:
        lines += [
            "What this does not show:",
            *(f"- {text}" for text in page.limits),
        ]
    return "\n".join(lines)


def unsaid(analysis: Analysis) -> list[str]:
    """What the data at hand cannot show, the weightiest first."""
    asked = [note.text for note in analysis.notes if note.kind == "asked"]
    more = [Sentence(text, 95, LIMIT) for text in asked]
    return sentences(analysis.view, LIMIT, more)


def figure_of(drawn: Collection[str]) -> str | None:
    """The name of the figure that answers best of those that were drawn."""
    shown = {name: one.front for name, one in drawings().items() if name in drawn}
    best = max(shown, key=shown.__getitem__, default=None)
    return best if best is not None and shown[best] > 0 else None


def front_page(analysis: Analysis, figure: str) -> str:
    """The front page's HTML; `figure` is that of its figure, or empty."""
    page = front(analysis)
    said = "".join(f"<p>{markup.text_of(text)}</p>" for text in page.said[:LEAD])
    said += markup.bullets(page.said[LEAD:])
    limits = markup.bullets(page.limits)
    if limits:
        limits = f"<h2>What this does not show</h2>{limits}"
    return (
        f'<section id="front"><div class="said">{said}</div>'
        f'<div class="shown">{figure}</div>'
        f'<div class="unsaid">{limits}</div></section>'
    )
