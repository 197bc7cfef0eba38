"""Runs, and what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.design.cells import counts_frame
from analysis.formatting import UNNAMED_LOSS, count, joined, number
from analysis.questions._question import LIMIT, Answer, Placed, Question, Sentence
from analysis.questions._view import View, of_target
from analysis.report import markup
from analysis.report.rows import rows
from analysis.report.style import corpora_of
from analysis.results import Analysis, Note
from analysis.schema import Column, declare, stacked
from analysis.tables import exclusions
from analysis.tables.exclusions import excluded

if TYPE_CHECKING:
    from analysis.questions._asked import Measured, Whole
    from analysis.tables.table import Table as Runs

FRAMES = (
    declare(
        "counts",
        "What became of the rows with a usable loss.",
        "target",
        Column("usable", "how many there are"),
        Column("repeated", "repeat data, for which these laws are not"),
        Column("references", "of a family that stands beside the laws"),
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
        "tokens unique_tokens",
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
        Column("trained", "whether gradient steps trained it; n-grams are counted"),
        Column("wall_seconds", "time of training", "s"),
        Column("usable", "whether a loss of it could be used, in a fit or beside one"),
        Column("used", "whether a fit saw it"),
        more=True,
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


def measures(measured: Measured) -> dict[str, pd.DataFrame]:
    again, aside = measured.repeats, measured.aside
    seen = measured.seen.run_id
    beside = measured.beside
    counts = counts_frame(measured.frame, seen, beside, again, aside, measured.target)
    return {"counts": counts, "exclusions": _left_out(measured)}


def _left_out(measured: Measured) -> pd.DataFrame:
    """Usable runs that the point fits did not see, and why."""
    frame, again, aside = measured.frame, measured.repeats, measured.aside
    epochs = frame.tokens / frame.unique_tokens
    repeats = "repeats its data: " + epochs.map("{:.3g} epochs".format)
    reason = np.where(again, repeats + ", which these laws do not model", "")
    reason = np.where(aside, f"{measured.why_aside}: withheld to be predicted", reason)
    slower = ~again & ~aside & ~frame.run_id.isin(measured.seen.run_id)
    reason = np.where(slower, "not at its cell's best setting", reason)
    beside = [measured.references.get(family, "") for family in frame.family]
    reason = np.where(measured.beside, beside, reason)
    out = excluded(frame.run_id, reason, measured.target)
    return out[reason != ""]


def concludes(whole: Whole) -> Answer:
    table = whole.table
    every = stacked([table.exclusions, whole.analysis.exclusions])
    every = every.reindex(columns=exclusions.COLUMNS)
    frames = {
        "excluded": exclusions.counted(every, whole.unlisted),
        "exclusions": exclusions.listed(every),
        "runs": _runs(table, every),
    }
    return frames, of_table(table, every)


def _runs(table: Runs, every: pd.DataFrame) -> pd.DataFrame:
    """The table's runs, with which could be used and which some target's fits saw."""
    seen = table.readings[["run_id", "target"]]
    both = seen.merge(every[["run_id", "target"]], how="left", indicator=True)
    used = both.run_id[both["_merge"] == "left_only"]
    return table.runs.assign(
        usable=table.runs.run_id.isin(set(seen.run_id)),
        used=table.runs.run_id.isin(set(used)),
    )


def of_table(table: Runs, every: pd.DataFrame) -> list[Note]:
    """What the table looked wrong in, and how many rows each reason left out.

    Args:
      every: rows that were left out, those that are not listed too.
    """
    out = [Note("warning", "table", text) for text in table.warnings]
    out += [Note("asked", "effects", text) for text in table.asked]
    out += [Note("read", "table", text) for text in table.said]
    whole = every.assign(reason=exclusions.kinds(every))
    for reason, left in whole.groupby("reason").run_id.nunique().items():
        text = f"{left} run{'s' * (left != 1)} left out: {reason}."
        out.append(Note("excluded", "table", text))
    if len(exclusions.listed(every)) < len(every):
        text = (
            f"Of the rows that one reason left out, the first {exclusions.LISTED} are "
            "listed; all are counted."
        )
        out.append(Note("excluded", "table", text))
    return out


def unnamed(analysis: Analysis) -> int:
    """Rows of the table that are counted but not listed."""
    return int(analysis.excluded.unnamed.sum())


def _built(view: View, figure: Placed) -> str:
    analysis = view.analysis
    more = unnamed(analysis)
    ids = analysis.exclusions.run_id.nunique() + more
    every = len(analysis.runs) + more
    lead = f"The table has {every} runs. "
    lead += (
        f"{ids} {'is' if ids == 1 else 'are'} left out of at least one fit; runs that "
        "were planned and not trained count among these."
        if ids
        else "None is left out of any fit."
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


def answers(view: View) -> list[Sentence]:
    said = [Sentence(text, 30) for text in rows(view.analysis, view.target)]
    others = [name for name in view.analysis.targets if name != view.target]
    if others and said:
        text = f"These sentences are about the loss on {view.target}; the tables also "
        text += f"have {joined(others)}."
        said.append(Sentence(text, 29))
    used = view.analysis.runs[view.analysis.runs.used.astype(bool)]
    if used.empty:
        return said
    return [*said, Sentence(f"{_reach(view, used)} {_scored(view)}", 90, LIMIT)]


def _reach(view: View, used: pd.DataFrame) -> str:
    """The range of sizes and amounts of data beyond which nothing is known."""
    span = {name: used[name] for name in ("params", "tokens")}
    cells = of_target(view.analysis.measured, view.target)
    if view.lawless and len(cells):
        # Of cells that are withheld from laws, losses are compared as well.
        span = {name: _ends(cells, name) for name in span}
    sizes = _span(span["params"], "parameters")
    budgets = _span(span["tokens"], "tokens")
    if view.lawless:
        return f"Losses are compared at {sizes} and {budgets}, and nowhere else."
    return f"The laws know {sizes} and {budgets}; beyond that they extrapolate."


def _ends(cells: pd.DataFrame, name: str) -> pd.Series:
    return pd.concat([cells[f"{name}_low"], cells[f"{name}_high"]])


def _scored(view: View) -> str:
    """What was trained on and scored, where it is little."""
    corpora, targets = len(corpora_of(view.analysis)), len(view.analysis.targets)
    trained = "one corpus" if corpora == 1 else f"{corpora} corpora"
    scored = "one evaluation set"
    if view.target != UNNAMED_LOSS:
        scored += f" ({view.target})"
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
    measures=measures,
    concludes=concludes,
)
