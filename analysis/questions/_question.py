"""What a question is: all that the report says of one thing, in one file.

A file of a question declares `QUESTION`, and `FRAMES` where it answers with frames of
its own. Questions are found by import: a new one is one new file, here or a user's own
(`--include`).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from analysis import questions as folder
from analysis.formatting import worded
from analysis.questions._view import View
from analysis.report.style import Draw
from analysis.results import Note

if TYPE_CHECKING:
    from analysis.pictures.groups import Pictured
    from analysis.predictions.groups import Comparison
    from analysis.questions._asked import Asked, Measured, Whole
    from analysis.results import Analysis

# Parts of the report that sentences of every question meet in: the front page, what it
# does not show, and the answer in full.
FRONT, LIMIT, ANSWER = "front", "limit", "answer"


@dataclasses.dataclass(frozen=True)
class Sentence:
    """What a question says outside its own section.

    Attributes:
      text: a whole sentence.
      weight: how much a reader loses without it, 0 to 100. Sentences of a part stand in
        falling order of weight, and the front page has room for the first few.
      part: FRONT, for a person who is no statistician; LIMIT, what the data at hand
        cannot show; ANSWER, with all that stands behind it.
    """

    text: str
    weight: float
    part: str = ANSWER


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one way of looking says of a swap, to be set beside the other ways.

    Attributes:
      baseline, alternative: the swap; of two findings either may be the baseline.
      fixed: what is held fixed.
      way: how it is known: by what law, at what cells.
      text: the number, its unit and its interval.
      low, high: of the gain, 95%; above 0 the alternative is the better.
      unit: of the gain; intervals of one unit alone are compared.
      why: what this way looks at that another does not.
      disputed: whether a test finds it apart from what was measured.
    """

    baseline: str
    alternative: str
    fixed: str
    way: str
    text: str
    low: float
    high: float
    unit: str
    why: str
    disputed: bool = False

    def toward(self, alternative: str) -> tuple[float, float]:
        """The interval of the gain for one of the two."""
        if alternative == self.alternative:
            return self.low, self.high
        return -self.high, -self.low


# Entries of the checklist (report/checklist.py) that questions answer in sentences.
ASSUMPTIONS = "assumptions that were tested"
CHOICES = "other choices and what they move"

# Gives a figure of the report as HTML by its name, on the target named or the first.
Placed = Callable[..., str]


def _unfound(view: View) -> Sequence[Finding]:
    return ()


def _no_more(analysis: Analysis, target: str) -> str:
    return ""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure of the report.

    Attributes:
      draw: draws it on a matplotlib Figure; raises `Nothing` where there is nothing.
      caption: what it shows, for whoever sees it alone.
      more: adds to the caption what depends on the analysis and the target.
      every: it is drawn for all targets and not for the first alone.
      scored: losses in it are read on the target, which the caption then names.
      otherwise: what the page says in its place where it is not drawn.
      front: how well it answers on the front page, which shows the highest of all that
        have something to show; 0 for not at all.
    """

    draw: Draw
    caption: str
    more: Callable[[Analysis, str], str] = _no_more
    every: bool = False
    scored: bool = True
    otherwise: str = ""
    front: float = 0.0


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that the page folds away; one without rows is left out.

    Attributes:
      title: what unfolds it.
      frame: the name of a frame, or what gives the rows.
      caption: stands over the table once it is unfolded.
      counted: the title says how many rows there are.
    """

    title: str
    frame: str | Callable[[View], pd.DataFrame]
    caption: str = ""
    counted: bool = True

    def rows(self, view: View) -> pd.DataFrame:
        if callable(self.frame):
            return self.frame(view)
        return view.analysis.frames[self.frame]


@dataclasses.dataclass(frozen=True)
class Absent:
    """What is said where all of a question's frames are empty.

    Attributes:
      what: what there is none of.
      frames: by name; one with rows is enough for an answer.
      about: the notes that hold the reason are about one of these.
      reason: what is said where no note holds one.
    """

    what: str
    frames: tuple[str, ...]
    about: tuple[str, ...]
    reason: str = "The runs of this table do not allow it."

    def holds(self, view: View) -> bool:
        return all(view.analysis.frames[name].empty for name in self.frames)


# The reason why a question about predictions has no answer, unless a note gives one.
UNKEPT = (
    "The runs of this table kept no predictions; a study of text keeps them at probes, "
    "see docs/studies.md."
)

# The same of a question about samples.
UNSAMPLED = (
    "The runs of this table kept no samples; a study of pictures keeps them by "
    "samples=(Samples(...),), see docs/pictures.md."
)


# Frames by name, and what a reader must know before believing them.
Answer = tuple[Mapping[str, pd.DataFrame], Sequence[Note]]


def _unwarned(asked: Asked) -> Sequence[Note]:
    return ()


def _unnoted(view: View) -> Sequence[Note]:
    return ()


def _silent(view: View) -> Sequence[str]:
    return ()


def _unheard(view: View) -> Sequence[Sentence]:
    return ()


@dataclasses.dataclass(frozen=True)
class Question:
    """One thing that a reader wants to know.

    Attributes:
      name: of its place in the page, for links.
      title: the section's heading.
      place: sections stand in this order; no two questions have the same.
      absent: what to say is missing; None where there is always something.
      said: the sentences, from the numbers and their intervals alone; none where the
        frames behind them are empty.
      answers: what it adds to the front page, to what cannot be concluded and to the
        answer in full, by weight.
      findings: swaps as it sees them, which the report sets beside those of others.
      figures: by name, in order. No two questions have figures of one name.
      about: notes about these are listed under the figures.
      tables: folded away at the end.
      prose: the sentences are one paragraph and not a list.
      build: the section's HTML, where it does not have the usual order.
      checks: the sentences that answer an entry of the checklist, by its name.
      measures: rows of the file's own FRAMES on one target, by frame, from its runs as
        they were measured: where no law is needed, and so where none can be fitted too.
      compute: the same from the laws that were fitted to the target.
      warns: what a reader must know of one target's design and fits before believing
        the rows, and what no row says: a law that is refused has none.
      compares: its frames from the predictions kept at one probe set, for questions
        that are about predictions and not about losses.
      pictures: its frames from the samples that runs made of one set of noises.
      concludes: its frames from the table and from what was answered on all targets.
        Questions conclude in turn, the last of the report first.
      notes: what a reader must know before believing the rows, as they say themselves.
    """

    name: str
    title: str
    place: float
    absent: Absent | None = None
    said: Callable[[View], Sequence[str]] = _silent
    answers: Callable[[View], Sequence[Sentence]] = _unheard
    findings: Callable[[View], Sequence[Finding]] = _unfound
    figures: Mapping[str, Drawing] = dataclasses.field(default_factory=dict)
    about: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    prose: bool = False
    build: Callable[[View, Placed], str] | None = None
    checks: Mapping[str, Callable[[View], Sequence[str]]] = dataclasses.field(
        default_factory=dict
    )
    measures: Callable[[Measured], Mapping[str, pd.DataFrame]] | None = None
    compute: Callable[[Asked], Mapping[str, pd.DataFrame]] | None = None
    warns: Callable[[Asked], Iterable[Note]] = _unwarned
    compares: Callable[[Comparison], Answer] | None = None
    pictures: Callable[[Pictured], Answer] | None = None
    concludes: Callable[[Whole], Answer] | None = None
    notes: Callable[[View], Iterable[Note]] = _unnoted


def questions() -> tuple[Question, ...]:
    """Every question, in the order of the report, those of included files too.

    Raises:
      ValueError: two questions have one place.
    """
    return _questions(folder.key())


@functools.cache
def _questions(included: object) -> tuple[Question, ...]:
    placed: dict[float, Question] = {}
    for file in folder.files():
        question: Question | None = getattr(file, "QUESTION", None)
        if question is None:
            continue
        other = placed.setdefault(question.place, question)
        if other is not question:
            names = f"{other.name} and {question.name}"
            raise ValueError(f"{names} share place {question.place}")
    return tuple(placed[place] for place in sorted(placed))


def drawings() -> dict[str, Drawing]:
    """Every figure of every question, by name, in the order of the report."""
    return {
        name: drawing
        for question in questions()
        for name, drawing in question.figures.items()
    }


def at_odds(view: View) -> list[tuple[Finding, ...]]:
    """Findings of one swap that differ in direction, or beyond their intervals.

    All findings of such a swap, in the order of the questions.
    """
    groups: dict[tuple[frozenset[str], str], list[Finding]] = {}
    for question in questions():
        for one in question.findings(view):
            swap = frozenset((one.baseline, one.alternative)), one.fixed
            groups.setdefault(swap, []).append(one)
    return [
        tuple(found)
        for found in groups.values()
        if any(one.disputed for one in found)
        or any(_apart(*pair) for pair in itertools.combinations(found, 2))
    ]


def _apart(one: Finding, two: Finding) -> bool:
    low, high = two.toward(one.alternative)
    opposed = one.low > 0 > high or low > 0 > one.high
    disjoint = one.low > high or low > one.high
    return opposed or (one.unit == two.unit and disjoint)


def sentences(view: View, part: str, more: Sequence[Sentence] = ()) -> list[str]:
    """What all questions say for a part of the report, the weightiest first.

    Args:
      more: what is to stand among it.
    """
    mine = [one for one in (*view.answers, *more) if one.part == part]
    counted = view.analysis.counted
    return [worded(s.text, counted) for s in sorted(mine, key=lambda s: -s.weight)]
