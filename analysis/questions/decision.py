"""Which system to train at a target compute; does a small comparison show it?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.design.cells import shared
from analysis.effects import frontier
from analysis.effects.frontier import Frontier
from analysis.formatting import UNDETERMINED, number, on, percent, scale
from analysis.inference.intervals import interval
from analysis.inference.verdict import DECIDES
from analysis.laws import Array
from analysis.questions._question import Absent, Drawing, Question, Sentence, Table
from analysis.questions._view import View, leading
from analysis.report.style import (
    FAINT,
    banded,
    families_of,
    key,
    legend,
    log_axis,
    looks,
    panels_of,
    plain,
    resize,
    rows_of,
    span,
    trained,
)
from analysis.results import Analysis, Note
from analysis.schema import LOSS, Column, declare, stacked

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "decisions",
        "The families by their compute-optimal loss.",
        "family corpus target compute loss low high",
        Column("rank", "1 for the lowest loss"),
        Column("p_best", "share of draws in which it is the best on the corpus"),
        Column("regret", "mean loss above the best", LOSS),
        Column("small_rank", "its rank in the smallest cell that all share"),
        Column("small_params", "that cell's parameters", "count"),
        Column("small_tokens", "that cell's tokens", "count"),
        "method",
    ),
)


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    computes = frontier.computes(asked.surfaces.data.frame)
    cells, corpora = asked.measured.places, asked.surfaces.corpora
    parts = [
        decisions_frame(
            reached, cells, asked.comparable, corpora, computes, asked.target, method
        )
        for method, reached in asked.frontiers.items()
    ]
    return {"decisions": stacked(parts)}


def warns(asked: Asked) -> Iterator[Note]:
    return of_compute(asked.surfaces.data.frame, asked.target)


def of_compute(fitted: pd.DataFrame, target: str) -> Iterator[Note]:
    """Families that no comparison at equal compute can take in."""
    known = fitted.dropna(subset="flops")
    for family in sorted(set(known.family) - set(frontier.comparable(known))):
        mine = known[known.family == family].flops.max()
        text = (
            f"At equal compute {family} is not compared on target {target}: its "
            f"largest fitted run took {number(mine, 2)} FLOPs, the largest of all "
            f"{number(known.flops.max(), 2)}."
        )
        yield Note("undetermined", "compute", text)


def best_share(losses: Array) -> Array:
    """Share of draws in which each row of [systems, B] is the lowest; ties are split.

    Draws in which some system has no estimate are left out; NaN where none is left.
    """
    known = losses[:, ~np.isnan(losses).any(axis=0)]
    if not known.size:
        return np.full(len(losses), np.nan)
    lowest = known == known.min(axis=0)
    return np.asarray((lowest / lowest.sum(axis=0)).mean(axis=1))


def decisions_frame(
    reached: Frontier,
    cells: pd.DataFrame,
    families: Sequence[str],
    corpora: Sequence[str],
    computes: Sequence[float],
    target: str,
    method: str,
) -> pd.DataFrame:
    """Probability of each family being best at a compute, on each corpus.

    Beside it the rank in one small comparison, the smallest cell that all families
    share on that corpus, as a reader of small runs alone would take it, and the
    expected regret: how much more loss than the best the family has, over the draws.

    Args:
      cells: one row a cell, of one target, with `level` and `budget`.
    """
    rows = []
    for corpus, compute in itertools.product(corpora, computes):
        losses = np.array([reached.at(f, corpus, compute) for f in families])
        reported = ~np.isnan(losses[:, 0])
        if reported.sum() < 2:
            continue
        named = [f for f, known in zip(families, reported, strict=True) if known]
        losses = losses[reported]
        chance = best_share(losses[:, 1:])
        low, high = interval(losses[:, 1:].T)
        ranks, small = small_ranks(cells, named, corpus)
        regret = _regret(losses[:, 1:])
        order = losses[:, 0].argsort().argsort() + 1
        for k, family in enumerate(named):
            rows.append(
                {
                    "family": family,
                    "corpus": corpus,
                    "target": target,
                    "compute": compute,
                    "loss": float(losses[k, 0]),
                    "low": float(low[k]),
                    "high": float(high[k]),
                    "rank": int(order[k]),
                    "p_best": float(chance[k]),
                    "regret": float(regret[k]),
                    "small_rank": ranks.get(family, np.nan),
                    "small_params": small[0],
                    "small_tokens": small[1],
                    "method": method,
                }
            )
    return pd.DataFrame(rows)


def _regret(losses: np.ndarray) -> np.ndarray:
    """[families, draws] to the mean loss of each above the best of its draw.

    Over draws in which the loss of every family is known; NaN where there is none.
    """
    known = losses[:, np.isfinite(losses).all(axis=0)]
    if not known.size:
        return np.full(len(losses), np.nan)
    return np.asarray((known - known.min(axis=0)).mean(axis=1))


def small_ranks(
    cells: pd.DataFrame, families: Sequence[str], corpus: str
) -> tuple[dict[str, float], tuple[float, float]]:
    """Ranks at the smallest (size, budget) that all families have, and its N and D."""
    common = shared(cells, families, corpus)
    if common.empty:
        return {}, (np.nan, np.nan)
    place = common.groupby(level=["level", "budget"]).flops.mean().idxmin()
    smallest = common.loc[[place]]
    ranks = dict(zip(smallest.family, smallest.loss.rank(), strict=True))
    return ranks, (float(smallest.params.mean()), float(smallest.tokens.mean()))


def sentences(frame: pd.DataFrame) -> list[str]:
    """The best family of each corpus at the largest compute that was run."""
    if frame.empty:
        return []
    sentences = []
    # Computes are 0.1, 1, 10 and 100 times that of the largest run.
    at = sorted(frame.compute.unique())[min(1, frame.compute.nunique() - 1)]
    for corpus, rows in frame[frame.compute == at].groupby("corpus", sort=False):
        if len(rows) < 2:
            continue
        best = max(rows.itertuples(), key=lambda row: row.p_best)
        where = f"At {number(at)} FLOPs{on(corpus)}"
        share = f"{percent(best.p_best)} of draws"
        if best.p_best >= DECIDES:
            of = f"best of {len(rows)}" if len(rows) > 2 else "better of the two"
            text = f"{where}, {best.family} is the {of} families ({share})"
        else:
            text = f"{where}, which family is best {UNDETERMINED}"
            text += f": {best.family} in {share}"
        if not math.isnan(best.small_rank) and best.small_rank > 1:
            place = scale(best.small_params, best.small_tokens)
            text += f"; in the smallest cell, {place}, it ranked {best.small_rank:.0f}"
        sentences.append(f"{text}.")
    return sentences


def draw_decisions(figure: Figure, analysis: Analysis, target: str) -> None:
    """Loss of each family at its compute-optimal split, a panel per corpus."""
    frame = leading(rows_of(analysis.decisions, target))
    families = families_of(analysis)
    corpora = sorted(set(frame.corpus))
    resize(figure, 3.2, 1.8 + 2.8 * max(2, len(corpora)))
    panels = panels_of(figure, 1, len(corpora), sharex=True)[0]
    limits = span(frame.compute, pad=0.1), span(frame.loss, pad=0.1)
    for axes, corpus in zip(panels, corpora, strict=True):
        log_axis(axes.xaxis, lambda c: number(c, 1), limits[0])
        log_axis(axes.yaxis, plain, limits[1])
        axes.set_title(trained(corpus).strip())
        for family in families:
            mine = frame[(frame.family == family) & (frame.corpus == corpus)]
            mine = mine.sort_values("compute")
            banded(axes, mine.compute, mine.loss, mine, looks(families, family))
        largest = analysis.cells[analysis.cells.corpus == corpus].flops.max()
        if limits[0][0] < largest < limits[0][1]:
            axes.axvline(largest, color=FAINT, lw=0.9, ls="--")
    panels[0].set_ylabel(f"compute-optimal loss\n({analysis.unit})")
    figure.supxlabel("training FLOPs (dashed: the largest run)", fontsize=8.5)
    legend(figure, [key(f, *looks(families, f)) for f in families])


def answers(view: View) -> list[Sentence]:
    found = leading(view.own("decisions"))
    return [Sentence(text, 60) for text in sentences(found)]


QUESTION = Question(
    name="decision",
    title="Which family is best at which compute",
    place=60,
    absent=Absent(
        "ranking of families", ("decisions",), ("effects", "joint", "compute")
    ),
    said=lambda view: sentences(leading(view.rows("decisions"))),
    answers=answers,
    figures={
        "decisions": Drawing(
            draw_decisions,
            "Compute-optimal loss of each family, with its 95% interval. Beyond the "
            "dashed line nothing was run.",
        )
    },
    about=("compute",),
    tables=(Table("All computes and targets", "decisions"),),
    compute=compute,
    warns=warns,
)
