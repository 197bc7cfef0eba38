"""From a table of runs to everything a report shows: one pass, one typed result.

`Analysis` (results.py) is the hand-over between the numbers and their presentation
(analysis/report/): frames and notes. A frame that a design cannot give is empty and its
reason stands in `notes`. Questions are known by their interface alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd

from analysis import forks, progress, schema
from analysis.design import factors
from analysis.design.swaps import Described
from analysis.fitting.fit import DELTA
from analysis.formatting import worded
from analysis.inference import intervals
from analysis.pictures.groups import pictured
from analysis.predictions.groups import comparison
from analysis.questions._asked import Asked, Measured, Whole
from analysis.questions._question import Answer, questions
from analysis.results import Analysis, Note
from analysis.surfaces import nested
from analysis.surfaces.surfaces import fit_all
from analysis.tables import exclusions
from analysis.tables.table import Table
from scaling.errors import UserError

DRAWS = 300


# Parts of frames by name, and notes, in the order in which they were found.
Part = tuple[dict[str, list[pd.DataFrame]], list[Note]]


def analyse(
    table: Table,
    draws: int = DRAWS,
    seed: int = 0,
    delta: float = DELTA,
    hold_out: bool = True,
    bootstrap: str = "wild",
    processes: int = 1,
    shown: bool = False,
) -> Analysis:
    """Fits every law to every target and says what architecture and data did.

    Args:
      table: from `analysis.load` or `analysis.from_frame`.
      draws: bootstrap draws behind every interval.
      seed: keys the draws and the random starts; the same seed gives the same result.
      delta: Huber's threshold in log loss; infinity is least squares.
      hold_out: set the largest cell of each family and corpus aside before fitting.
      bootstrap: "wild" or "pairs"; see analysis/intervals.py.
      processes: cores to use, each target in a process of its own; the result is the
        same.
      shown: say on standard error which stage the work is at.

    Returns:
      All frames of all questions, and notes on how far to believe them.

    Raises:
      UserError: draws, delta or bootstrap out of range.

    >>> result = analysis.analyse(table, draws=40)  # doctest: +SKIP
    >>> result.targets
    ('loss',)
    """
    intervals.check_draws(draws)
    if not delta > 0:
        raise UserError("delta", delta, "give a number above zero, or inf")
    every = table.runs.run_id
    table, described = factors.fold(exclusions.brief(table))
    unlisted = every[~exclusions.among(every, table.runs.run_id)]
    one_target = functools.partial(
        _target, table, described, draws, seed, delta, hold_out, bootstrap, shown
    )
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in schema.frames()}
    found: list[Note] = []
    for several, said in _each(one_target, table.targets, processes):
        found += said
        for name, some in several.items():
            frames[name] += some
    answers = [
        *_of_predictions(table, described, draws, seed),
        *_of_pictures(table, described, draws, seed),
    ]
    for parts, reported in answers:
        found += reported
        for name, part in parts.items():
            frames[name].append(part)
    known = schema.frames()
    whole = Analysis(
        title=table.title,
        unit=table.unit,
        counted=table.counted,
        targets=table.targets,
        frames={name: known[name].join(parts) for name, parts in frames.items()},
        notes=tuple(found),
    )
    return _noted(_concluded(Whole(table, whole, unlisted, seed)))


def _concluded(whole: Whole) -> Analysis:
    """With the frames of the questions that stand on those of all others.

    From the end of the report to its beginning, since what stands first there is what
    others lead to.
    """
    known = schema.frames()
    analysis, notes = whole.analysis, list[Note]()
    for question in reversed(questions()):
        if question.concludes is None:
            continue
        now = Whole(whole.table, analysis, whole.unlisted, whole.seed)
        parts, said = question.concludes(now)
        frames = {name: known[name].join([part]) for name, part in parts.items()}
        analysis = analysis.replace(**frames)
        notes += said
    return analysis.replace(notes=(*notes, *analysis.notes))


def _noted(analysis: Analysis) -> Analysis:
    """With the notes that questions make of the frames, each note once."""
    reported = [note for one in questions() for note in one.notes(analysis.view)]
    every = dict.fromkeys(
        dataclasses.replace(note, text=worded(note.text, analysis.counted))
        for note in (*analysis.notes, *reported)
    )
    return analysis.replace(notes=tuple(every))


def _of_predictions(
    table: Table, described: Described, draws: int, seed: int
) -> Iterator[Answer]:
    """What the questions that are about predictions answer, at each probe set."""
    for probed in table.predictions:
        asked = comparison(table, described, probed, draws, seed)
        for question in questions():
            if question.compares is not None:
                yield question.compares(asked)


def _of_pictures(
    table: Table, described: Described, draws: int, seed: int
) -> Iterator[Answer]:
    """The same of those that are about samples, at each set of them."""
    for made in table.pictures:
        shown = pictured(table, described, made, draws, seed)
        for question in questions():
            if question.pictures is not None:
                yield question.pictures(shown)


def _each(
    one_target: Callable[[str], Part], targets: Sequence[str], processes: int
) -> Iterator[Part]:
    """The parts of all targets, in order."""
    context = forks.context(min(processes, len(targets)))
    if context is None:
        yield from map(one_target, targets)
        return
    workers = forks.at_a_time(len(targets), processes)
    with forks.pool(context, workers) as pool:
        yield from pool.map(one_target, targets)


# What the work on a target begins with; a stage for each question follows.
STAGES = (
    "cells and settings",
    "laws, with every draw",
    "nested laws, to choose the one that leads",
)


def _target(
    table: Table,
    described: Described,
    draws: int,
    seed: int,
    delta: float,
    hold_out: bool,
    bootstrap: str,
    shown: bool,
    target: str,
) -> Part:
    """One target's part of every frame, and its notes."""
    measured = Measured(table, described, target, hold_out, seed)
    asking = [one for one in questions() if one.compute is not None]
    title = f"{target} ({len(measured.frame)} losses, {draws} draws)"
    with progress.stages(title, len(STAGES) + len(asking), shown) as begin:
        begin(STAGES[0])
        frames: dict[str, list[pd.DataFrame]] = {name: [] for name in schema.frames()}
        why = _unfitted(measured)
        if len(measured.frame):
            for question in questions():
                if question.measures is not None:
                    _add(frames, question.measures(measured))
        if why is not None:
            return frames, [why]
        data = intervals.sample(measured.fitted)
        drawn = intervals.draw(data, draws, seed, bootstrap)
        begin(STAGES[1])
        surfaces = fit_all(drawn, delta, seed)
        begin(STAGES[2])
        leading = nested.lead(surfaces, delta, seed)
        asked = Asked(measured, surfaces, leading, delta)
        for question in asking:
            assert question.compute is not None
            begin(question.title)
            _add(frames, question.compute(asked))
        return frames, [note for one in questions() for note in one.warns(asked)]


def _unfitted(measured: Measured) -> Note | None:
    """Why no law is fitted to a target's runs; nothing where laws are."""
    if measured.frame.empty:
        text = f"No run has a usable loss on target {measured.target}."
        return Note("undetermined", "table", text)
    if measured.fitted.empty:
        text = (
            f"Every run on target {measured.target} repeats its data, and the laws "
            "here are of one epoch."
        )
        return Note("refused", "fits", text)
    return None


def _add(
    frames: dict[str, list[pd.DataFrame]], parts: Mapping[str, pd.DataFrame]
) -> None:
    for name, part in parts.items():
        frames[name].append(part)
