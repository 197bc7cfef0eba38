"""Architecture against corpus."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.effects.data_equivalents import ratios_frame
from analysis.formatting import (
    UNDETERMINED,
    at,
    capitalised,
    interval_text,
    joined,
    number,
    percent,
    scored,
)
from analysis.inference.verdict import DECIDES, decided
from analysis.questions._question import Absent, Drawing, Question, Sentence, Table
from analysis.questions._view import View, at_fitted, of_target
from analysis.report.style import (
    FAINT,
    INK,
    PALETTE,
    Nothing,
    forest_axis,
    resize,
    rows_of,
    side_note,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "ratios",
        "Architecture over corpus, in logs of their data-equivalents.",
        "target params tokens",
        Column("architecture", "the swap of families, a -> b"),
        Column("corpus", "the swap of corpora, d -> e"),
        Column(
            "lambda",
            "ln of the architecture's data-equivalent over ln of the corpus's, over "
            "draws in which the latter is finite",
        ),
        "low high",
        Column(
            "p_architecture",
            "share of draws in which the architecture is the larger effect",
        ),
        Column("p_architecture_infinite", "share in which the former has no end"),
        Column("p_corpus_infinite", "share in which the latter has no end"),
        Column("doublings", "doublings of the data that the architecture is worth"),
        Column("doublings_low", "lower end of their 95% interval"),
        Column("doublings_high", "upper end of their 95% interval"),
        Column("p_doubling", "share of draws in which it is worth more than one"),
        "fitted law",
    ),
)


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    frame = ratios_frame(asked.logs, asked.points, asked.target)
    return {"ratios": asked.within(frame.assign(law=asked.leading.model))}


def sentence(row: Any) -> str:
    """Architecture against data, from one row of Analysis.ratios as a dict."""
    architecture = f"the architecture ({row['architecture'].replace('->', '→')})"
    corpus = f"the corpus ({row['corpus'].replace('->', '→')})"
    share, low, high = row["p_architecture"], row["low"], row["high"]
    value = f"Λ = {number(row['lambda'])} ({interval_text(low, high)})"
    if math.isnan(row["lambda"]) and math.isnan(share):
        return capitalised(f"{architecture} against {corpus}: no ratio can be given.")
    if math.isnan(row["lambda"]) or row["lambda"] == low == high == 0:
        # An infinite effect has no ratio: the share of draws says all there is.
        if share <= 1 - DECIDES:
            more = f"{corpus} moves the loss more than {architecture}"
            more += f" ({percent(1 - share)} of draws)"
            return capitalised(f"{more}: no amount of data makes up for it.")
        value = f"the architecture in {percent(share)} of draws"
    if share >= DECIDES:
        return capitalised(
            f"{architecture} moves the loss more than {corpus}: {value}."
        )
    if share <= 1 - DECIDES:
        return capitalised(
            f"{architecture} moves the loss less than {corpus}: {value}."
        )
    pair = f"{architecture} or {corpus}"
    return f"Which moves the loss more, {pair}, {UNDETERMINED}: {value}."


def sentences(frame: pd.DataFrame) -> list[str]:
    """A sentence a pair; pairs in which the corpus's effect is infinite share one.

    Args:
      frame: rows of Analysis.ratios, all at one place.
    """
    rows = frame.to_dict("records")
    known = ~pd.isna(frame["lambda"]).to_numpy()
    shared: dict[str, list[dict[str, Any]]] = {}
    sentences = []
    for row, given in zip(rows, known, strict=True):
        if not given and row["p_architecture"] <= 1 - DECIDES:
            shared.setdefault(row["corpus"], []).append(row)
        else:
            sentences.append(sentence(row))
    for corpus, some in shared.items():
        if len(some) == 1:
            sentences.append(sentence(some[0]))
            continue
        swaps = joined((row["architecture"].replace("->", "→") for row in some), "or")
        least = min(1 - row["p_architecture"] for row in some)
        text = f"The corpus ({corpus.replace('->', '→')}) moves the loss more than the "
        text += f"architecture ({swaps}), in {percent(least)} of draws"
        text += " or more" * (least < 1)
        sentences.append(f"{text}: no amount of data makes up for it.")
    if "params" not in frame or frame.empty:
        return sentences
    place = at(next(frame.itertuples()))
    return [f"{place}, {text[:1].lower()}{text[1:]}" for text in sentences]


def draw_ratios(figure: Figure, analysis: Analysis, target: str) -> None:
    """Architecture over corpus, ln M_D by ln M_D, at the largest fitted cell.

    Pairs whose corpus effect is infinite have no ratio and no row.
    """
    frame = at_fitted(rows_of(analysis.ratios, target))
    frame = frame[np.isfinite(frame["lambda"]) & (frame.low < frame.high)]
    if frame.empty:
        raise Nothing
    rows = frame.to_dict("records")
    resize(figure, 1.1 + 0.42 * len(rows))
    axes = figure.subplots()
    far = max(2.0, min(20.0, 1.5 * np.abs(frame["lambda"]).max()))
    ends = frame[["low", "high"]].to_numpy()
    ends = ends[np.isfinite(ends) & (np.abs(ends) <= 2 * far)]
    left = min(-1.2, *ends, 0) if ends.size else -1.2
    right = max(1.2, *ends, far) if ends.size else far
    axes.set_xlim(1.05 * left, 1.05 * right)
    axes.axvspan(-1, 1, color="#f0f0f0", lw=0)
    for x in (-1, 0, 1):
        axes.axvline(x, color=INK if x == 0 else FAINT, lw=0.8, ls="-" if x else ":")
    for y, row in enumerate(rows):
        whisker(axes, y, row | {"value": row["lambda"]}, PALETTE[0], "o")
        side_note(axes, y, f"larger in {percent(row['p_architecture'])}\nof draws")
    names = [f"{row['architecture']}\nby {row['corpus']}" for row in rows]
    forest_axis(axes, [name.replace("->", "→") for name in names], range(len(rows)))
    axes.set_xlabel("Λ = ln M_D (architecture) / ln M_D (corpus); grey: corpus larger")
    axes.grid(True, axis="x")


# In place of a figure of ratios that has nothing to show.
NO_RATIO = (
    "No ratio is drawn for this target: where no amount of data makes up for the "
    "corpus, the share of draws says all there is."
)


def said(view: View) -> list[str]:
    return sentences(at_fitted(view.rows("ratios")))


def answers(view: View) -> list[Sentence]:
    found = at_fitted(of_target(view.reported.ratios, view.target))
    return [Sentence(text, 70) for text in sentences(found)]


def notes(view: View) -> Iterator[Note]:
    """Pairs for which neither architecture nor data is shown to be the larger."""
    frame = view.analysis.ratios
    for target, part in frame[frame.params.isna()].groupby("target", sort=False):
        chance = part.p_architecture
        open_ = part[chance.notna() & ~decided(chance)]
        if len(open_):
            text = (
                f"Whether architecture or corpus matters more {UNDETERMINED} for "
                f"{len(open_)} of {len(part)} pairs of swaps{scored(target)}."
            )
            yield Note("undetermined", "swaps", text)


QUESTION = Question(
    name="ratio",
    title="Architecture against corpus",
    place=30,
    absent=Absent("ratio of architecture to corpus", ("ratios",), ("effects", "joint")),
    said=said,
    answers=answers,
    figures={
        "ratios": Drawing(
            draw_ratios,
            "Architecture over corpus, in logs of their data-equivalents. Outside the "
            "grey band the architecture is the larger effect; a negative ratio means "
            "that the two swaps pull opposite ways.",
            every=True,
            otherwise=NO_RATIO,
        )
    },
    tables=(
        Table(
            "Ratios at the largest fitted cell",
            lambda view: at_fitted(view.analysis.ratios),
        ),
    ),
    compute=compute,
    notes=notes,
)
