"""Who is it? Telling corpus and family from predictions alone.

Where the text decides what is computed, predictions reveal the text and not the
architecture. Runs are judged by the means of others, of other seeds; see
analysis/predictions/classify.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import interval_text, number, percent, scale
from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.predictions import classify
from analysis.predictions.groups import PLACE, Comparison
from analysis.questions._exhausted import EARLY
from analysis.questions._question import (
    FRONT,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View, probed
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
from analysis.results import Analysis, Note
from analysis.schema import Column, declare

END = "at the end"
SEED, ELSEWHERE = "seed", "seed and {}"
FRAMES = (
    declare(
        "identity",
        "What predictions alone tell of the corpus and of the family of a run.",
        "probes params tokens unique_tokens",
        Column("moment", f"when predictions were kept: {END}, or {EARLY}"),
        Column("what", "what is told: corpus or family"),
        Column("unseen", "what of a run no run that it is judged by shares"),
        Column("classes", "how many there are to tell apart"),
        Column("runs", "runs that are judged"),
        Column("right", "share of them told right"),
        Column("chance", "share that an even guess tells right"),
        Column("permuted", "mean share with permuted labels"),
        Column("permuted_high", "share that 5% of permutations exceed"),
        Column("p", "share of permutations that tell as many right"),
        Column("information", "about the label, at least", "bits"),
        Column("low", "lower end of its 95% interval", "bits"),
        Column("high", "upper end of its 95% interval", "bits"),
        Column("most", "what would tell every run for certain", "bits"),
    ),
)
PERMUTATIONS = 200
MOST_RUNS = 150  # of the first seeds


def compares(asked: Comparison) -> Answer:
    """The frame of one probe set."""
    rows: list[dict[str, Any]] = []
    for moment, groups in ((END, asked.ends), (EARLY, asked.stopped)):
        rows += _rows(asked, moment, groups)
    if rows:
        return {"identity": pd.DataFrame(rows)}, []
    text = f"Who a run is cannot be told from predictions at {asked.predictions.name}: "
    text += "that takes two corpora or two families with two seeds each at one place."
    return {}, [Note("undetermined", "identity", text)]


def _place(asked: Comparison, groups: pd.DataFrame) -> pd.DataFrame:
    """The groups of several seeds at the place that sentences are about."""
    at = (groups[PLACE] == list(asked.place)).all(axis=1)
    groups = groups[at & (groups.seeds > 1)]
    if groups.empty:
        return groups
    # Other orders of the data are no other corpus.
    usual = groups.data_seed.value_counts(sort=True).index[0]
    groups = groups[groups.data_seed == usual]
    return groups.drop_duplicates(["family", "corpus"])


def _rows(
    asked: Comparison, moment: str, groups: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    groups = _place(asked, groups)
    families, corpora = sorted(set(groups.family)), sorted(set(groups.corpus))
    if len(groups) < 2:
        return
    each = max(2, MOST_RUNS // len(groups))
    names = sorted(set(asked.seeds.values()))
    runs = [
        (families.index(row.family), corpora.index(row.corpus), point)
        for _, row in groups.iterrows()
        for point in sorted(asked.points(row), key=lambda p: asked.seeds[p[0]])[:each]
    ]
    points = [point for *_, point in runs]
    family, corpus = (np.array([run[k] for run in runs]) for k in (0, 1))
    seed = np.array([names.index(asked.seeds[point[0]]) for point in points])
    asked.compared.need([(points, points)])
    distance = _distances(asked, points)
    head = {"probes": asked.predictions.name, "moment": moment}
    head |= {n: groups[n].max() for n in ("params", "tokens", "unique_tokens")}
    for what, label, nuisance, other in (
        ("corpus", corpus, family, "family"),
        ("family", family, corpus, "corpus"),
    ):
        for apart in (False, True):
            task = classify.Task(label, nuisance, seed, apart)
            if task.labels < 2 or (apart and not _judged(task)):
                continue
            unseen = ELSEWHERE.format(other) if apart else SEED
            yield (
                head
                | {"what": what, "unseen": unseen}
                | _reported(asked, task, points, distance)
            )


def _judged(task: classify.Task) -> bool:
    """Whether every label of each nuisance level has runs at another level."""
    pairs = set(zip(task.label.tolist(), task.nuisance.tolist(), strict=True))
    labels = [label for label, _ in pairs]
    return all(labels.count(label) > 1 for label in set(labels))


def _distances(asked: Comparison, points: list[Any]) -> Array:
    """[1 + draws, runs, runs]."""
    count = len(points)
    out = np.zeros((len(asked.compared.resampling) + 1, count, count))
    for i in range(count):
        for j in range(i):
            apart = asked.compared.distance(points[i], points[j])
            out[:, i, j] = out[:, j, i] = apart
    return out


def _reported(
    asked: Comparison, task: classify.Task, points: list[Any], distance: Array
) -> dict[str, Any]:
    folds = classify.folds(task, distance[0])
    guess = classify.chances(task, distance, folds)
    most = math.log2(task.labels)
    bits = most - classify.surprise(task, guess)
    # Runs of one label and nuisance level are seeds of each other.
    parts: dict[Any, Array] = {}
    groups = []
    cells = task.label * (int(task.nuisance.max()) + 1) + task.nuisance
    for cell in np.unique(cells):
        mine = np.flatnonzero(cells == cell)
        own = bits[:, mine] - bits[:, mine].mean(axis=1, keepdims=True)
        parts |= {points[i]: own[:, k] / len(points) for k, i in enumerate(mine)}
        groups.append([points[i] for i in mine])
    reported = asked.compared.together(bits.mean(axis=1), parts, groups)
    low, high = interval(reported[1:])
    share, seed = classify.right(task, guess), asked.compared.resampling.seed
    null = classify.permuted(task, distance[0], folds, PERMUTATIONS, seed)
    return {
        **{"classes": task.labels, "runs": len(points), "right": share},
        **{"chance": 1.0 / task.labels, "permuted": float(null.mean())},
        **{"permuted_high": float(np.quantile(null, 0.95))},
        "p": float((1 + (null >= share).sum()) / (1 + len(null))),
        **{"information": reported[0], "low": float(low)},
        **{"high": min(float(high), most), "most": most},
    }


# --- Words and figure ----------------------------------------------------------------


def sentence(row: Any) -> str:
    """What predictions reveal of one label, beside chance and permuted labels."""
    when = "each run at its best step" if row.moment == EARLY else "at the end"
    known = f"an unseen {row.unseen}".replace("seed and", "seed and an unseen")
    text = (
        f"At {scale(row.params, row.tokens)}, {when}: predictions alone tell the "
        f"{row.what} of {percent(row.right)} of {int(row.runs)} runs of {known} (by "
        f"chance {percent(row.chance)}; with permuted labels at most "
        f"{percent(row.permuted_high)} in 95% of cases)"
    )
    reported = f"{number(row.information)} of {number(row.most)} bits"
    if row.high > row.low:  # where every run is right nothing is left to vary
        reported += f" ({interval_text(row.low, row.high)})"
    if row.low > 0:
        return f"{text}: at least {reported} about it."
    if row.high < 0:
        return f"{text}: nothing about it is shown, since an even guess does better."
    return f"{text}: whether they tell anything of it is undetermined, {reported}."


def said(view: View) -> list[str]:
    return [sentence(row) for row in probed(view.analysis.identity).itertuples()]


def answers(view: View) -> list[Sentence]:
    """Of what was not seen, in one line for corpus and family each."""
    frame = probed(view.analysis.identity)
    if frame.empty:
        return []
    frame = frame[frame.moment == frame.moment.iloc[-1]]
    hardest = frame[frame.unseen != SEED]
    frame = hardest if len(hardest) else frame
    lines = [sentence(row) for row in frame.itertuples()]
    front = [Sentence(text, 60 - 5 * k, FRONT) for k, text in enumerate(lines[:2])]
    return front + [Sentence(text, 50 - k) for k, text in enumerate(lines)]


def draw_identity(figure: Figure, analysis: Analysis, target: str) -> None:
    """Bits about corpus and family, beside what identifies every run."""
    frame = probed(analysis.identity)
    if frame.empty:
        raise Nothing
    resize(figure, 1.3 + 0.32 * len(frame))
    axes = figure.subplots()
    axes.set_xlim(min(-0.2, 1.1 * float(frame.low.min())), 1.08 * frame.most.max())
    colours = {"corpus": PALETTE[0], "family": PALETTE[1]}
    labels = []
    for y, row in enumerate(frame.to_dict("records")):
        whisker(axes, y, row | {"value": row["information"]}, colours[row["what"]], "o")
        axes.plot(row["most"], y, "|", color=INK, ms=11)
        labels.append(f"{row['what']}, {row['moment']}, unseen {row['unseen']}")
    axes.axvline(0, color=FAINT, lw=0.8)
    forest_axis(axes, labels, range(len(labels)))
    axes.set_xlabel("bits that predictions tell about it")
    axes.grid(True, axis="x")
    handles = [key(what, colour, "o") for what, colour in colours.items()]
    legend(figure, [*handles, key("for certain", INK, "|")])


QUESTION = Question(
    name="who_is_it",
    title="Who is it?",
    place=54.5,
    absent=Absent("label told from predictions", ("identity",), ("identity",)),
    said=said,
    answers=answers,
    figures={
        "identity": Drawing(
            draw_identity,
            "What predictions alone tell about the corpus that a run was trained on, "
            "and about its family, in bits, with 95% intervals by documents and seeds "
            "together. Runs are judged by others, of other seeds and where it says so "
            "of other families or corpora.",
            scored=False,
        )
    },
    about=("identity",),
    tables=(Table("Corpus and family told from predictions", "identity"),),
    compares=compares,
)
