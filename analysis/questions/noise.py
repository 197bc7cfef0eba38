"""Seed noise and lack of fit."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from analysis.formatting import (
    UNDETERMINED,
    count,
    interval_text,
    levels_text,
    number,
    percent_error,
)
from analysis.inference.verdict import verdict
from analysis.questions._question import LIMIT, Drawing, Placed, Question, Sentence
from analysis.questions._view import View, of_target
from analysis.report import markup
from analysis.report.style import (
    INK,
    families_of,
    forest_axis,
    looks,
    reach,
    resize,
    rows_of,
    side_note,
    tint,
)
from analysis.results import Analysis
from analysis.schema import Column, declare

FRAMES = (
    declare(
        "noise",
        "The spread between seeds of a cell.",
        "family corpus target params tokens",
        Column("seeds", "how many there are"),
        Column("sd_log", "standard deviation of log loss between them"),
    ),
    declare(
        "fitness",
        "How far the runs lie from the leading law, beside the noise of seeds.",
        "target",
        Column("lack_of_fit", "standard deviation of the log residuals"),
        Column("seed_noise", "pooled standard deviation of log loss between seeds"),
        Column("ratio", "the first over the second"),
        "law",
        Column("runs", "how many runs the law saw"),
        Column("box", "the range of their N and D"),
    ),
    declare(
        "seed_checks",
        "The leading law's fitted density beside the seeds.",
        "target law",
        Column("sd_density", "standard deviation of the fitted density"),
        Column("sd_seeds", "standard deviation between seeds"),
        Column("freedom", "degrees of freedom of the seeds"),
        Column("ratio", "the first over the second"),
        "low high",
    ),
)


def fitness(row: Any) -> str:
    """Lack of fit beside seed noise, both as relative error, and of which runs."""
    miss, noise = percent_error(row.lack_of_fit), percent_error(row.seed_noise)
    text = f"The {row.law} law misses the {row.runs:.0f} runs it is fitted to"
    text += f" ({row.box}) by {miss}"
    if math.isnan(row.ratio):
        return f"{text}; seed noise is not measured."
    return f"{text}, {number(row.ratio, 2)} times the seed noise of {noise}."


def seeds(row: Any) -> str:
    """The fitted density's spread beside that of the seeds."""
    lie = verdict(row.low, row.high, 1.0)
    meaning = {
        "above": "the law misses something that the seeds repeat",
        "below": "the fitted density is narrower than the seeds' spread",
        "undetermined": f"whether the law misses anything {UNDETERMINED}",
    }[lie]
    return (
        f"The spread of the {row.law} law's density is {number(row.ratio)} times that "
        f"of the seeds ({interval_text(row.low, row.high)}): {meaning}."
    )


def draw_noise(figure: Figure, analysis: Analysis, target: str) -> None:
    """Spread between seeds of the same cell, next to the residuals of the laws."""
    frame = rows_of(analysis.noise, target)
    fitness = analysis.fitness[analysis.fitness.target == target]
    families = families_of(analysis)
    resize(figure, 1.2 + 0.24 * len(frame))
    axes = figure.subplots()
    labels = []
    for y, row in enumerate(frame.itertuples()):
        colour, marker, _ = looks(families, row.family)
        axes.plot([0, 100 * row.sd_log], [y, y], color=tint(colour, 0.4), lw=1)
        axes.plot(100 * row.sd_log, y, color=colour, marker=marker)
        side_note(axes, y, f"{row.seeds} seeds")
        where = f"{count(row.params)}, {count(row.tokens)} tokens"
        labels.append(levels_text(row.family, row.corpus, where))
    forest_axis(axes, labels, range(len(frame)))
    for row in fitness.itertuples():
        for name, value, line in (
            ("seed noise, pooled", row.seed_noise, "-"),
            ("lack of fit", row.lack_of_fit, "--"),
        ):
            if math.isfinite(value):
                axes.axvline(100 * value, color=INK, lw=1, ls=line, label=name)
    axes.set_xlim(0, reach(100 * frame.sd_log, 100 * fitness.seed_noise, [0.0])[1])
    axes.set_xlabel("standard deviation of the loss (%)")
    axes.grid(True, axis="x")
    if len(fitness):
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside upper left", ncols=2
        )


def said(view: View) -> list[str]:
    lead = [fitness(row) for row in view.rows("fitness").itertuples()]
    return lead + [seeds(row) for row in view.rows("seed_checks").itertuples()]


def _built(view: View, figure: Placed) -> str:
    analysis, lead = view.analysis, markup.paragraph(*said(view))
    if analysis.noise.empty:
        what = "noise level: no cell has two seeds"
        return markup.absent(analysis, what, "noise") + lead
    return "".join(
        [
            lead,
            figure("noise"),
            markup.about(analysis, "noise"),
            markup.fold("Lack of fit beside the seeds", analysis.fitness),
            markup.fold("The density's spread beside the seeds", analysis.seed_checks),
            markup.fold("Seeds of every cell", analysis.noise),
        ]
    )


def answers(view: View) -> list[Sentence]:
    found = of_target(view.told.fitness, view.target).dropna(subset="lack_of_fit")
    said = [Sentence(fitness(row), 40) for row in found.itertuples()]
    if view.analysis.noise.empty:
        text = "No cell has two seeds, so whether the laws miss more than noise "
        return [*said, Sentence(f"{text}{UNDETERMINED}.", 75, LIMIT)]
    noise = of_target(view.analysis.noise, view.target)
    cells = len(of_target(view.analysis.cells, view.target))
    if len(noise):
        spread = math.sqrt((noise.sd_log**2).mean())
        text = f"{len(noise)} of {cells} cells were trained with more than one seed, "
        text += f"which spread by {percent_error(spread)}; the others are one run each."
        said.append(Sentence(text, 75, LIMIT))
    return said


QUESTION = Question(
    name="noise",
    title="Seed noise and lack of fit",
    place=140,
    said=said,
    answers=answers,
    figures={
        "noise": Drawing(
            draw_noise,
            "Spread between seeds of the same cell. Where the lack of fit is well "
            "above the noise, the laws miss something that is there.",
        )
    },
    build=_built,
)
