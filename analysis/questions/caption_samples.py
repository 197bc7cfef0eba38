"""Do samples show what their captions ask for?

Samples are conditioned on the captions of held-out pictures. What a sample shows is
taken to be what the caption of the nearest real picture says, as
scaling/training/naming.py has it. How often that is right of the held-out pictures
themselves stands beside it, and how often it would be right by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import (
    UNDETERMINED,
    capitalised,
    few,
    on,
    percent,
    percent_error,
)
from analysis.inference.intervals import interval, interval_of_share
from analysis.inference.verdict import verdict
from analysis.laws import Array
from analysis.pictures.groups import Pictured
from analysis.predictions.contrasts import Contrasts, no_distance
from analysis.questions._caption_grid import GRID, draw_grid, grid
from analysis.questions._question import (
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._same_picture_words import of_first, place_text
from analysis.questions._view import View
from analysis.report.style import (
    FAINT,
    INK,
    PALETTE,
    Nothing,
    forest_axis,
    key,
    legend,
    resize,
    whisker,
)
from analysis.results import Analysis
from analysis.schema import Column, declare, measured

PARTS = ("subject", "style")
FRAMES = (
    GRID,
    declare(
        "caption_samples",
        "Samples that show what their caption asks for, by the nearest real picture.",
        Column("samples", "the set of noises and captions"),
        Column("part", "of the caption: its subject, or the style before a colon"),
        "family corpus params tokens unique_tokens",
        Column("seeds", "how many runs there are"),
        Column("pictures", "how many samples a run made"),
        *measured("right", "share of samples that show it"),
        *measured("over_chance", "that share less what captions of others would give"),
        *measured("real", "the same share of the held-out pictures themselves"),
        Column("chance", "share that captions of other pictures would give"),
    ),
)
PLACE = ["family", "corpus", "params", "tokens", "unique_tokens"]


def pictures(asked: Pictured) -> Answer:
    """The frame of one set of samples: a row a group of runs and part of a caption."""
    rows, shown = [], []
    for _, runs in asked.pictures.runs.groupby(PLACE, sort=True):
        best = runs[runs.setting == runs.loc[runs.bits.fillna(np.inf).idxmin()].setting]
        for part in PARTS:
            found = [i for i in best.run_id if _kept(asked, i, part) is not None]
            if found:
                rows.append(_row(asked, best.iloc[0], sorted(found), part))
                shown.append({**best.iloc[0], "run_id": min(found), "part": part})
    chosen = largest(pd.DataFrame(shown)) if shown else pd.DataFrame()
    chosen = chosen.drop_duplicates("family") if shown else chosen
    runs = sorted(chosen.to_dict("records"), key=lambda run: str(run["family"]))
    frames = {"caption_samples": pd.DataFrame(rows)}
    return frames | {"caption_grid": pd.DataFrame(grid(asked, runs))}, []


def _kept(asked: Pictured, run_id: str, part: str) -> Array | None:
    return asked.pictures.get(run_id, f"right_{part}", 1.0)


def _row(asked: Pictured, first: Any, runs: Sequence[str], part: str) -> dict[str, Any]:
    made, points = asked.pictures, [(i, 1.0) for i in runs]
    right = np.stack([made.read(i, f"right_{part}", 1.0) for i in runs])
    chance = np.stack([made.read(i, f"chance_{part}", 1.0) for i in runs])
    real = np.stack([made.read(i, f"real_{part}") for i in runs])
    row = {"samples": made.name, "part": part, **{n: first[n] for n in PLACE}}
    row |= {"seeds": len(runs), "pictures": right.shape[1]}
    for name, each in (
        ("right", right),
        ("over_chance", right - chance),
        ("real", real),
    ):
        row |= _share(asked, name, points, each)
    return row | {"chance": float(chance.mean())}


def _share(
    asked: Pictured, name: str, points: list[tuple[str, float]], each: Array
) -> dict[str, float]:
    """Mean over runs and pictures [runs, n], with runs and groups in its interval."""
    contrasts = Contrasts(asked.held_out, no_distance)
    own = np.stack([contrasts.over_documents(one) for one in each])
    draws = contrasts.mean(points, own)
    if name == "over_chance":
        low, high = (float(end) for end in interval(draws[1:]))
    else:
        low, high = interval_of_share(draws, len(np.unique(asked.pictures.groups)))
    names = (name, f"{name}_low", f"{name}_high")
    return dict(zip(names, (float(draws[0]), low, high), strict=True))


# --- Words ---------------------------------------------------------------------------


def right_text(row: Any) -> str:
    """How many samples of a family show what was asked for, beside real pictures."""
    ends = f"{percent(row.right_low)} to {percent(row.right_high)}"
    share = f"{percent(row.right)} ({ends}) of the samples of {row.family}"
    real = (
        f"{percent(row.real)} of the held-out pictures themselves do, and by chance "
        f"{percent(row.chance)} would"
    )
    low, high = row.over_chance_low, row.over_chance_high
    lie = verdict(low, high, 0.0)
    text = f"by the nearest real picture {share}{on(row.corpus)} show"
    if lie == "undetermined":
        more = f"whether more than by chance {UNDETERMINED}: "
        more += f"by {percent_error(low)} to {percent_error(high)} of all samples"
        return f"{text} the {row.part} of their caption; {real}; {more}"
    none = "" if lie == "above" else "no more often than by chance "
    return f"{text} {none}the {row.part} of their caption; {real}"


def largest(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each family and part the most data, the longest and the largest."""
    order = ["unique_tokens", "tokens", "params"]
    frame = frame.sort_values(order, ascending=False, kind="stable")
    return frame.drop_duplicates(["family", "corpus", "part"])


def of_captions(analysis: Analysis) -> pd.DataFrame:
    """Rows of the first set of samples that has captions, subjects first."""
    frame = analysis.caption_samples
    if frame.empty:
        return frame
    frame = largest(of_first(frame))
    by = ["part", "family"]
    return frame.sort_values(by, ascending=[False, True], kind="stable")


def said(view: View) -> list[str]:
    frame = of_captions(view.analysis)
    if frame.empty:
        return []
    out, last = [], ""
    for row in frame.itertuples():
        # Families may have read for longer or shorter than others.
        place, text = place_text(row), right_text(row)
        out.append(f"{capitalised(text) if place == last else f'{place}, {text}'}.")
        last = place
    return few(out)


def answers(view: View) -> list[Sentence]:
    frame = of_captions(view.analysis)
    if frame.empty:
        return []
    row = next(
        frame[frame.part == frame.part.iloc[0]].nlargest(1, "right").itertuples()
    )
    return [Sentence(f"{place_text(row)}, {right_text(row)}.", 50)]


# --- Figure --------------------------------------------------------------------------


def draw_right(figure: Figure, analysis: Analysis, target: str) -> None:
    """Share of samples that show what was asked for, of each family."""
    frame = of_captions(analysis)
    if frame.empty:
        raise Nothing
    resize(figure, 1.3 + 0.36 * len(frame))
    axes = figure.subplots()
    axes.set_xlim(0.0, 1.0)
    for y, row in enumerate(frame.to_dict("records")):
        shown = {"value": row["right"], "low": row["right_low"]}
        whisker(axes, y, shown | {"high": row["right_high"]}, PALETTE[0], "o")
        axes.plot(row["real"], y, marker="D", color=PALETTE[1], ls="")
        axes.plot(row["chance"], y, marker="|", color=FAINT, ls="", ms=12)
    labels = [f"{row.family}, {row.part}" for row in frame.itertuples()]
    forest_axis(axes, labels, range(len(frame)))
    axes.grid(True, axis="x")
    axes.set_xlabel("share right, by the nearest real picture")
    legend(
        figure,
        [
            key("samples", PALETTE[0], "o"),
            key("held-out pictures", PALETTE[1], "D"),
            key("by chance", INK, "|"),
        ],
    )


QUESTION = Question(
    name="caption_samples",
    title="Do samples show what their captions ask for?",
    place=57.8,
    absent=Absent(
        "test of what samples show",
        ("caption_samples",),
        ("captions", "pictures"),
        "It needs runs that make samples of captioned pictures; see docs/pictures.md.",
    ),
    said=said,
    answers=answers,
    figures={
        "caption_samples": Drawing(
            draw_right,
            "How many samples are nearest to a real picture of the style, or of the "
            "subject, that their caption asks for; the same of the held-out pictures "
            "with these captions, which no run has read; and what the captions of "
            "others would give. 95% intervals by groups of pictures and seeds.",
            scored=False,
        ),
        "caption_grid": Drawing(
            draw_grid,
            "Held-out pictures that no run has read, under their captions as far as "
            "models read them, and a sample of each family for the same captions. "
            "Samples of denoisers begin with one noise a column.",
            scored=False,
        ),
    },
    about=("captions", "pictures"),
    tables=(Table("Samples by their captions", "caption_samples"),),
    pictures=pictures,
)
