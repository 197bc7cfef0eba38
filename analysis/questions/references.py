"""References: families that no law fits, beside the others at the same data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.design.cells import cells_frame
from analysis.effects.matched_cells import margin
from analysis.formatting import few, joined, number, on, percent_error, scale
from analysis.inference.intervals import sample
from analysis.questions._question import Absent, Question, Sentence, Table
from analysis.questions._view import View
from analysis.schema import LOSS, Column, declare, measured

if TYPE_CHECKING:
    from analysis.questions._asked import Measured

FRAMES = (
    declare(
        "references",
        "Families that stand beside the laws, and the others at the same data.",
        "target",
        Column("family", "the reference"),
        "corpus params tokens loss",
        Column("why", "why no law fits it"),
        Column("other", "a family that is compared with it, at the nearest size"),
        Column("other_params", "parameters of that one", "count"),
        Column("other_loss", "loss of that one", LOSS),
        *measured("change", "loss of `other` over that of `family`, less 1"),
    ),
)


def measures(asked: Measured) -> dict[str, pd.DataFrame]:
    """A row for each cell of a reference and family at its corpus and budget."""
    runs = asked.frame[asked.beside & ~asked.repeats]
    if runs.empty:
        return {}
    rows: list[dict[str, Any]] = []
    for cell in cells_frame(sample(runs), asked.target).itertuples():
        head = {name: getattr(cell, name) for name in CELL}
        head |= {"target": asked.target, "why": asked.references[cell.family]}
        here = (asked.places.corpus == cell.corpus) & (
            asked.places.budget == cell.budget
        )
        for _, others in asked.places[here].groupby("family"):
            far = np.abs(np.log(others.params / cell.params))
            rows.append(head | _beside(cell, others.loc[far.idxmin()], asked))
    return {"references": pd.DataFrame(rows)}


CELL = ("family", "corpus", "params", "tokens", "loss")


def _beside(cell: Any, other: pd.Series, asked: Measured) -> dict[str, Any]:
    log_ratio = float(np.log(other.loss / cell.loss))
    reach = margin(cell, other, asked.noise, asked.document_se)
    return {
        "other": other.family,
        "other_params": other.params,
        "other_loss": other.loss,
        "change": float(np.expm1(log_ratio)),
        "change_low": float(np.expm1(log_ratio - reach)),
        "change_high": float(np.expm1(log_ratio + reach)),
    }


def said(view: View) -> list[str]:
    """The largest cell of each reference, on the target's own text if any."""
    rows = view.own("references")
    out = []
    for (family, corpus), some in rows.groupby(["family", "corpus"], sort=False):
        largest = some[some.tokens == some.tokens.max()]
        largest = largest[largest.params == largest.params.max()]
        first = largest.iloc[0]
        others = joined(map(_compared, largest.to_dict("records")))
        text = f"{family}{on(corpus)} is a reference that no law fits "
        text += f"({first.why.partition(': ')[2]}). At "
        text += f"{scale(first.params, first.tokens)} its loss is {number(first.loss)} "
        out.append(f"{text}{view.analysis.unit}; the loss changes by {others}.")
    return few(out)


def _compared(row: dict[str, Any]) -> str:
    """What another family's loss is, relative to the reference's."""
    names = ("change", "change_low", "change_high")
    mean, low, high = (percent_error(row[name]) for name in names)
    known = np.isfinite(row["change_low"]) and np.isfinite(row["change_high"])
    ends = f" ({low} to {high})" if known else ""
    return f"{mean}{ends} with {row['other']}"


def answers(view: View) -> list[Sentence]:
    return [Sentence(text, 31) for text in said(view)]


QUESTION = Question(
    name="references",
    title="References beside the laws",
    place=12,
    absent=Absent(
        "references beside the laws",
        ("references",),
        ("references",),
        "Every family of this table has sizes and data enough for a law of all, or "
        "none has.",
    ),
    said=said,
    answers=answers,
    tables=(
        Table(
            "References and the others at the same data",
            "references",
            "A family that is fitted at once, such as n-grams, or that was run at one "
            "size and one amount of data alone, has nothing to fit a law to.",
        ),
    ),
    measures=measures,
)
