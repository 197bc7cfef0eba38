"""Does the caption matter to a picture, and how much?

Held-out pictures are scored with their own caption, with none, and with that of another
picture. What the right caption saves is paired picture by picture, so that its interval
is much narrower than those of the losses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import UNDETERMINED, few, interval_text, number, on
from analysis.inference.intervals import interval
from analysis.inference.verdict import verdict
from analysis.laws import Array
from analysis.predictions.contrasts import Contrasts, Resampling, no_distance
from analysis.predictions.groups import seeds_of_cells
from analysis.questions._asked import Measured
from analysis.questions._question import (
    Absent,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._same_picture_words import place_text
from analysis.questions._view import View
from analysis.report.style import (
    INK,
    PALETTE,
    forest_axis,
    key,
    legend,
    reach,
    resize,
    rows_of,
    whisker,
)
from analysis.results import Analysis
from analysis.schema import LOSS, Column, declare, measured
from scaling.quantities import CAPTIONS

# Columns of scores beside the right caption's.
NONE, WRONG = CAPTIONS
DRAWS = 300
FRAMES = (
    declare(
        "captions",
        "What the right caption saves of the loss, beside none and a wrong one.",
        "target family corpus params tokens unique_tokens",
        Column("seeds", "how many runs there are"),
        "loss",
        *measured("over_none", "loss with no caption less that with the right", LOSS),
        *measured("over_wrong", "loss with a wrong one less that with the right", LOSS),
    ),
)


def measures(asked: Measured) -> Mapping[str, pd.DataFrame]:
    """A row for each group of seeds whose runs were scored without captions, too."""
    frame = asked.frame
    if frame.empty:
        return {}
    known = [run for run in frame.run_id if _saved(asked, run, NONE) is not None]
    mine = frame[frame.run_id.isin(known)].reset_index(drop=True)
    if mine.empty:
        return {}
    rows = []
    for _, runs in seeds_of_cells(mine).groupby("group", sort=True):
        first, points = runs.iloc[0], [(i, 1.0) for i in sorted(runs.run_id)]
        names = ("family", "corpus", "params", "tokens", "unique_tokens")
        row = {"target": asked.target, **{name: first[name] for name in names}}
        row |= {"seeds": len(runs), "loss": float(runs.loss.mean())}
        for name, how in (("over_none", NONE), ("over_wrong", WRONG)):
            row |= _gain(
                name, points, [_saved(asked, i, how) for i, _ in points], asked
            )
        rows.append(row)
    return {"captions": pd.DataFrame(rows)}


# What each group of pictures loses more than with the right caption, and its size.
Saved = tuple[Array, Array]


def _saved(asked: Measured, run_id: str, how: str) -> Saved | None:
    """Of every part of the target; None where a part was not scored so."""
    documents = asked.table.documents.get(run_id, {})
    more, sizes = [], []
    for part, weight in asked.table.parts.get(asked.target, {}).items():
        right, other = documents.get(part), documents.get(f"{part}:{how}")
        if right is None or other is None or len(right[0]) != len(other[0]):
            return None
        share = weight / right[1].sum()
        more.append(share * (other[0] - right[0]))
        sizes.append(share * right[1])
    return (np.concatenate(more), np.concatenate(sizes)) if more else None


def _gain(
    name: str,
    points: list[tuple[str, float]],
    saved: list[Saved | None],
    asked: Measured,
) -> dict[str, float]:
    """Mean over runs, with groups of pictures and seeds in its interval."""
    ends = (name, f"{name}_low", f"{name}_high")
    known = [one for one in saved if one is not None]
    if len(known) < len(saved) or len({len(sums) for sums, _ in known}) != 1:
        return dict.fromkeys(ends, math.nan)
    count = len(known[0][0])
    resampling = Resampling.over(np.arange(count), np.ones(count), DRAWS, asked.seed)
    weights = resampling.weights
    own = [(weights @ sums) / (weights @ sizes) for sums, sizes in known]
    draws = Contrasts(resampling, no_distance).mean(points, np.array(own))
    low, high = interval(draws[1:])
    return dict(zip(ends, (float(draws[0]), float(low), float(high)), strict=True))


# --- Words ---------------------------------------------------------------------------


def caption_text(row: Any, unit: str) -> str:
    """What the right caption saves a family."""
    parts = []
    for name, than in (("over_none", "no caption"), ("over_wrong", "a wrong one")):
        value, low, high = (getattr(row, name + end) for end in ("", "_low", "_high"))
        if math.isnan(value):
            continue
        amount = f"{number(value)} {unit} ({interval_text(low, high)})"
        lie = verdict(low, high, 0.0)
        parts.append(
            {
                "above": f"{amount} less than with {than}",
                "below": f"no less than with {than}: {amount}",
                "undetermined": f"whether less than with {than} {UNDETERMINED}: "
                f"{amount}",
            }[lie]
        )
    who = f"{row.family}{on(row.corpus)}"
    return f"with the right caption {who} loses {' and '.join(parts)}"


def largest(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each family and corpus the most data, the longest and the largest."""
    order = ["unique_tokens", "tokens", "params"]
    frame = frame.sort_values(order, ascending=False, kind="stable")
    return frame.drop_duplicates(["family", "corpus"])


def said(view: View) -> list[str]:
    frame = view.analysis.captions
    if frame.empty:
        return []
    out = []
    for target, some in frame.groupby("target", sort=False):
        texts = [
            f"Scored on {target}, {caption_text(row, view.analysis.unit)}."
            for row in largest(some).itertuples()
        ]
        out += few(texts)
    return out


def answers(view: View) -> list[Sentence]:
    frame = view.rows("captions")
    if frame.empty:
        return []
    row = next(largest(frame).itertuples())
    text = f"{place_text(row)}, {caption_text(row, view.analysis.unit)}."
    return [Sentence(text, 51)]


# --- Figure --------------------------------------------------------------------------

LOOKS = {
    "over_none": ("than with no caption", PALETTE[0], "o"),
    "over_wrong": ("than with a wrong one", PALETTE[1], "s"),
}


def draw_captions(figure: Figure, analysis: Analysis, target: str) -> None:
    """What the right caption saves of each family's loss."""
    frame = largest(rows_of(analysis.captions, target))
    resize(figure, 1.3 + 0.42 * len(frame))
    axes = figure.subplots()
    ends = [frame[f"{name}_{end}"] for name in LOOKS for end in ("low", "high")]
    axes.set_xlim(*reach(*ends, [0.0]))
    for y, row in enumerate(frame.to_dict("records")):
        for k, (name, (_, colour, marker)) in enumerate(LOOKS.items()):
            shown = {"value": row[name]}
            shown |= {end: row[f"{name}_{end}"] for end in ("low", "high")}
            whisker(axes, y + 0.2 * (k - 0.5), shown, colour, marker)
    labels = [f"{row.family}, {row.corpus}" for row in frame.itertuples()]
    forest_axis(axes, labels, range(len(frame)))
    axes.axvline(0.0, color=INK, lw=0.8)
    axes.grid(True, axis="x")
    axes.set_xlabel(f"loss saved by the right caption ({analysis.unit})")
    legend(figure, [key(*look) for look in LOOKS.values()])


QUESTION = Question(
    name="captions",
    title="Does the caption matter?",
    place=57.7,
    absent=Absent(
        "comparison of captions",
        ("captions",),
        ("captions",),
        "It needs runs of pictures with captions, scored with none and with wrong ones "
        "too; see docs/pictures.md.",
    ),
    said=said,
    answers=answers,
    figures={
        "captions": Drawing(
            draw_captions,
            "How much lower the loss of held-out pictures is with their own caption "
            "than with none and than with that of another picture, of each family at "
            "its most data; 95% intervals by groups of pictures and seeds together.",
            every=True,
        ),
    },
    about=("captions",),
    tables=(Table("What captions save", "captions"),),
    measures=measures,
)
