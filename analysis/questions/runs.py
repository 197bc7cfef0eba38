"""Runs, and what was left out."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.formatting import count, joined, number
from analysis.questions._question import LIMIT, Placed, Question, Sentence
from analysis.questions._view import View, of_target
from analysis.report import markup
from analysis.results import Analysis
from analysis.schema import Column, declare

FRAMES = (
    declare(
        "counts",
        "What became of the rows with a usable loss.",
        "target",
        Column("usable", "how many there are"),
        Column("repeated", "repeat data, for which these laws are not"),
        Column("aside", "of a largest cell that is set aside"),
        Column("other_settings", "not at their cell's best setting"),
        Column("fitted", "the rest, which the laws saw"),
    ),
    declare(
        "runs",
        "Every run that some target's fits may see or that `exclusions` names; a "
        "column loss:TARGET for each target follows.",
        "run_id family corpus",
        Column("size", "the size asked for, or its label"),
        "params",
        Column("params_total", "parameters with embeddings", "count"),
        "tokens",
        Column("unique_tokens", "different training tokens", "count"),
        Column("epochs", "tokens seen over different ones"),
        Column("quality", "share of the training text that is sound"),
        Column("damage", "what was done to the rest of it"),
        Column("flops", "training compute", "FLOPs"),
        Column("optimiser", "the update rule"),
        "learning_rate",
        Column("batch", "sequences of a step", "count"),
        Column("seed", "keys the initial weights"),
        Column("data_seed", "keys the order of the data"),
        Column("status", "done or diverged"),
        Column("trajectory", "runs that share one are resampled together"),
        Column("wall_seconds", "time of training", "s"),
        Column("used", "whether a fit saw it"),
    ),
    declare(
        "exclusions",
        "Every row that no fit saw, up to a limit for each reason and target.",
        "run_id target",
        Column("reason", "why it was left out"),
    ),
    declare(
        "excluded",
        "What was left out, counted; target is empty where it holds for all.",
        "target",
        Column("reason", "why, without what it quotes"),
        Column("rows", "how many rows it left out"),
        Column("listed", "how many of them `exclusions` has"),
        Column(
            "unnamed",
            "how many are not in `runs` either, each counted under its first reason",
        ),
    ),
)


def counts(row: Any, lawless: bool = False) -> str:
    """What became of a target's usable rows, from a row of Analysis.counts.

    Args:
      lawless: no law could be fitted to those that are left.
    """
    left = [
        f"{value:.0f} {are if value > 1 else is_} {what}"
        for value, is_, are, what in (
            (row.other_settings, "is", "are", "not at the best setting of their cell"),
            (row.aside, "is", "are", "set aside to be predicted"),
            (
                row.repeated,
                "repeats",
                "repeat",
                "data, and these laws are of one epoch",
            ),
        )
        if value
    ]
    rows_ = f"{row.fitted:.0f} of {row.usable:.0f} usable"
    text = f"Rows fitted on {row.target}: {rows_}"
    if lawless:
        text = f"Rows compared without a law on {row.target}: {rows_}"
    return text + (f"; {joined(left)}." if left else ".")


# From this share of a table on, data that is repeated is what the table is about.
MOSTLY = 0.5


REPEATED_LAW = "data_constrained"


def repeats(row: Any) -> list[str]:
    """Which law takes the rows that repeat data, where they are most of the table."""
    if not row.usable or row.repeated < MOSTLY * row.usable:
        return []
    return [
        f"{row.repeated:.0f} of {row.usable:.0f} rows on {row.target} read some data "
        "more than once: the law made for that takes all of them, by "
        f"`scaling-analysis fit TABLE --law {REPEATED_LAW}`."
    ]


def unnamed(analysis: Analysis) -> int:
    """Rows of the table that are counted but not listed."""
    return int(analysis.excluded.unnamed.sum())


def _built(view: View, figure: Placed) -> str:
    analysis = view.analysis
    more = unnamed(analysis)
    ids = analysis.exclusions.run_id.nunique() + more
    lead = (
        f"The table has {len(analysis.runs) + more} runs. {ids} runs, those that were "
        "planned and not trained among them, are left out of at least one fit."
    )
    return "".join(
        [
            markup.paragraph(lead),
            markup.fold("Left out, counted by reason", analysis.excluded),
            markup.fold("Left out, each with its reason", analysis.exclusions),
            markup.about(analysis, "table"),
            markup.fold("All runs", analysis.runs),
        ]
    )


def rows(analysis: Analysis, target: str) -> list[str]:
    """How many rows the fits of a target saw, and which law takes repeated data."""
    mine = of_target(analysis.counts, target)
    fitted = (analysis.fits, analysis.joint)
    lawless = all(of_target(frame, target).empty for frame in fitted)
    said = ((counts(row, lawless), *repeats(row)) for row in mine.itertuples())
    return [text for texts in said for text in texts]


def answers(view: View) -> list[Sentence]:
    said = [Sentence(text, 30) for text in rows(view.analysis, view.target)]
    others = [name for name in view.analysis.targets if name != view.target]
    if others and said:
        text = f"These sentences are about {view.target}; {joined(others)} "
        text += f"{'has' if len(others) == 1 else 'have'} rows in the tables."
        said.append(Sentence(text, 29))
    used = view.analysis.runs[view.analysis.runs.used.astype(bool)]
    if used.empty:
        return said
    sizes, budgets = (
        _span(used[name], unit)
        for name, unit in (("params", "parameters"), ("tokens", "tokens"))
    )
    text = (
        f"Nothing outside {sizes} and {budgets} was measured: what the laws say beyond "
        "is extrapolation."
    )
    return [*said, Sentence(f"{text} {_scored(view)}", 90, LIMIT)]


def _scored(view: View) -> str:
    """What was trained on and scored, where it is little."""
    corpora, targets = view.analysis.runs.corpus.nunique(), len(view.analysis.targets)
    trained = "one corpus" if corpora == 1 else f"{corpora} corpora"
    scored = f"one evaluation set ({view.target})"
    if targets > 1:
        scored = f"{targets} evaluation sets; this page begins with {view.target}"
    return f"The runs read {trained} and are scored on {scored}."


def _span(values: pd.Series, unit: str) -> str:
    """The range of what was run, and the factor between its ends."""
    low, high = values.min(), values.max()
    if count(low) == count(high):
        return f"{count(low)} {unit}"
    factor = number(high / low, 2)
    return f"{count(low)} to {count(high)} {unit} (a factor of {factor})"


QUESTION = Question(
    name="runs",
    title="Runs, and what was left out",
    place=200,
    answers=answers,
    build=_built,
)
