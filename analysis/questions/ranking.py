"""Ranking of the families: measured at the largest cell they share, and by the law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.design.cells import shared
from analysis.effects.data_equivalents import Equivalents, share
from analysis.effects.matched_cells import DocumentError, Noise, margin
from analysis.formatting import UNNAMED, interval_text, number, percent, scale
from analysis.inference.intervals import interval
from analysis.inference.verdict import verdict
from analysis.questions._question import Drawing, Placed, Question
from analysis.questions._view import View
from analysis.report import markup
from analysis.report.style import (
    PALETTE,
    WIDTH,
    factor_axis,
    forest_axis,
    panels_of,
    reach,
    resize,
    rows_of,
    side_note,
    span,
    trained,
    whisker,
)
from analysis.results import Analysis
from analysis.schema import LOSS, Column, declare

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "standings",
        "Each family at the largest cell that all share.",
        "family corpus target params tokens",
        Column("flops", "training compute", "FLOPs"),
        "learning_rate",
        Column("edge", "low or high where the best rate is at that end of its grid"),
        Column("seeds", "how many seeds the cell has"),
        Column("rank", "1 for the lowest loss"),
        "loss",
        Column("against", "the family of rank 1"),
        Column("above", "loss above that one's", LOSS),
        Column("above_low", "lower end by seed noise and documents", LOSS),
        Column("above_high", "upper end by seed noise and documents", LOSS),
        Column("factor", "data it needs for the loss of that one, over its own"),
        "low high p_infinite",
        Column("fit_params", "where that is read: parameters", "count"),
        Column("fit_tokens", "where that is read: tokens", "count"),
    ),
)


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    measured, surfaces = asked.measured, asked.surfaces
    where = [max(asked.covered)] if asked.covered else []
    frame = standings_frame(
        measured.places,
        Equivalents(asked.chosen.of_joint, where) if where else None,
        surfaces.families,
        surfaces.corpora,
        measured.noise,
        measured.document_se,
    )
    return {"standings": frame}


MEASURED = (
    *("family", "corpus", "target", "params", "tokens", "flops", "learning_rate"),
    *("edge", "seeds", "loss"),
)


def standings_frame(
    cells: pd.DataFrame,
    model: Equivalents | None,
    families: Sequence[str],
    corpora: Sequence[str],
    noise: Noise,
    document_se: DocumentError,
) -> pd.DataFrame:
    """A row each family and corpus, the lowest measured loss first.

    Columns, beside those of a cell: rank; against (the family of rank 1); above (by how
    much the loss is above that one's, as measured, with above_low and above_high by
    paired.margin); factor (how many times its own data the family needs for the loss of
    that one, by the law, with low, high and p_infinite, at fit_params and fit_tokens).

    Args:
      cells: one row a cell, of one target, with `level` and `budget`.
      model: of one point, the largest that the law was fitted up to; None for none.
    """
    rows = []
    for corpus in corpora:
        common = shared(cells, families, corpus)
        if len(families) < 2 or common.empty:
            continue
        place = common.groupby(level=["level", "budget"]).flops.mean().idxmax()
        ordered: list[Any] = list(common.loc[[place]].sort_values("loss").itertuples())
        best = ordered[0]
        for rank, cell in enumerate(ordered, 1):
            rows.append(
                {name: getattr(cell, name) for name in MEASURED}
                | {"rank": rank, "against": best.family}
                | _above(cell, best, noise, document_se)
                | (_needs(model, cell.family, best.family, corpus) if model else {})
            )
    return pd.DataFrame(rows, columns=FRAMES[0].names)


def _above(
    cell: Any, best: Any, noise: Noise, document_se: DocumentError
) -> dict[str, float]:
    above, reach = cell.loss - best.loss, math.nan
    if cell is not best:
        reach = best.loss * margin(best, cell, noise, document_se)
    return {"above": above, "above_low": above - reach, "above_high": above + reach}


def _needs(model: Equivalents, family: str, best: str, corpus: str) -> dict[str, Any]:
    """Of the best itself a factor of 1 with no interval, where the law gives it."""
    ((params, tokens),) = model.points
    logs = model.log_factors((family, corpus), (best, corpus))[:, 0]
    low, high = (float(np.exp(end[0])) for end in interval(logs[1:, None]))
    factor = float(np.exp(logs[0]))
    if family == best:
        factor, low, high = 1.0 + 0.0 * factor, math.nan, math.nan
    return {
        "factor": factor,
        "low": low,
        "high": high,
        "p_infinite": share(np.isposinf(logs[1:]), logs[1:]),
        "fit_params": params,
        "fit_tokens": tokens,
    }


def sentence(frame: pd.DataFrame, unit: str) -> str:
    """What the table of standings on one corpus shows, and where."""
    first, last = frame.iloc[0], frame.iloc[-1]
    measured = scale(first.params, first.tokens)
    needed = ""
    if frame.factor.notna().sum() > 1:
        fitted = scale(first.fit_params, first.fit_tokens)
        needed = (
            " Data needed: how many times its own data a family needs to match "
            f"{first.family}, by the law at {fitted}.{_order(frame, unit)}"
        )
    trained = "With" if first.corpus == UNNAMED else f"Trained on {first.corpus} with"
    every = "both" if len(frame) == 2 else f"all {len(frame)}"
    return (
        f"{trained} {measured}, the largest cell that {every} families share, the "
        f"measured loss ranges from "
        f"{number(first.loss)} ({first.family}) to {number(last.loss)} {unit} "
        f"({last.family}).{needed}"
    )


def _order(frame: pd.DataFrame, unit: str) -> str:
    """Families that the law puts before the one with the lowest measured loss."""
    first = frame.iloc[0]
    texts = []
    for row in frame.iloc[1:].itertuples():
        if verdict(row.low, row.high, 1.0) != "below":
            continue
        ends = interval_text(row.above_low, row.above_high)
        open_ = verdict(row.above_low, row.above_high, 0.0) == "undetermined"
        why = "an interval that includes 0" if open_ else "at another cell than the law"
        texts.append(
            f" The law has {row.family} ahead of {first.family}, with "
            f"{number(row.factor)} times the data "
            f"({interval_text(row.low, row.high)}), although its measured loss is "
            f"higher by {number(row.above)} {unit} ({ends}): {why}."
        )
    return "".join(texts)


def draw_standings(figure: Figure, analysis: Analysis, target: str) -> None:
    """Measured loss of each family, and the data it needs for the lowest of them."""
    frame = rows_of(analysis.standings, target)
    own = frame[frame.corpus == target]
    frame = own if len(own) else frame[frame.corpus == frame.corpus.iloc[0]]
    ys = range(len(frame))
    resize(figure, 0.9 + 0.26 * len(frame), WIDTH + 0.6)
    reported = frame.factor.notna().sum() > 1
    left, *rest = panels_of(figure, 1, 2 if reported else 1)[0]
    lowest = frame.loss.min()
    measured = pd.DataFrame(
        {
            "value": frame.loss,
            "low": lowest + frame.above_low,
            "high": lowest + frame.above_high,
        }
    )
    left.set_xlim(*reach(measured, pad=0.04))
    left.grid(True, axis="x")
    left.set_axisbelow(True)
    for y, row in zip(ys, measured.to_dict("records"), strict=True):
        whisker(left, y, row, PALETTE[0], "o")
    forest_axis(left, list(frame.family), ys)
    elsewhere = trained(frame.corpus.iloc[0]).strip() if own.empty else ""
    elsewhere = f"\n{elsewhere}" * bool(elsewhere)
    left.set_xlabel(f"measured loss ({analysis.unit}){elsewhere}")
    for right in rest:
        ends = frame.low.clip(lower=0.05), frame.high.clip(upper=100)
        factor_axis(right, span(frame.factor, *ends, [0.9]))
        for y, row in zip(ys, frame.to_dict("records"), strict=True):
            whisker(right, y, row | {"value": row["factor"]}, PALETTE[0], "o")
            if row["p_infinite"] > 0:
                side_note(right, y, f"∞ in {percent(row['p_infinite'])}")
        right.tick_params(axis="y", length=0)
        right.set_xlabel(f"times the data\nfor the loss of {frame.against.iloc[0]}")


# In place of the standings on the first target.
NO_STANDING = (
    "No ranking: it needs two families and a cell of new data that all of them have "
    "runs in."
)


def _first(view: View) -> pd.DataFrame:
    """The families on the target's own text, or on the first that they were read on."""
    own = view.own("standings")
    return own[own.corpus.isin(own.corpus[:1])]


def said(view: View) -> list[str]:
    first = _first(view)
    return [sentence(first, view.analysis.unit)] if len(first) else []


def _built(view: View, figure: Placed) -> str:
    first = _first(view)
    rest = view.analysis.standings.drop(first.index)
    named = {"factor": "data_needed"}
    known = ["corpus", "target", "fit_params", "fit_tokens", "against", "rank"]
    lead = f'<p class="none">{markup.text_of(NO_STANDING)}</p>'
    if len(first):
        lead = markup.paragraph(*said(view)) + figure("standings")
    shown = first.drop(columns=known).rename(columns=named)
    return "".join(
        [
            lead,
            markup.elsewhere(view, figure, "standings"),
            markup.table(shown) * bool(len(first)),
            markup.fold("On the other corpora and targets", rest.rename(columns=named)),
        ]
    )


QUESTION = Question(
    name="standings",
    title="Ranking of the families",
    place=10,
    said=said,
    figures={
        "standings": Drawing(
            draw_standings,
            "Left: the measured loss of each family at the largest cell that all "
            "share, with the 95% interval of its difference to the lowest, over seeds "
            "and documents. Right: how many times its data a family needs to reach "
            "the lowest, by the law at the largest fitted cell, with its 95% interval.",
            every=True,
        )
    },
    build=_built,
    compute=compute,
)
