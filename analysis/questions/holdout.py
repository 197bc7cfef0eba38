"""The largest cells, set aside before any fit and predicted by every law afterwards.

Each cell is predicted by its family's own additive law, by the joint law, and by the
mixture of all laws of size and data that its runs identify (see surfaces/mixture.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import (
    count,
    joined,
    law_text,
    levels_text,
    percent_error,
    range_text,
    scored,
)
from analysis.inference.intervals import interval
from analysis.questions._question import Absent, Drawing, Question, Sentence, Table
from analysis.questions._view import View, of_target
from analysis.report.style import (
    INK,
    forest_axis,
    key,
    legend,
    looks,
    ordered,
    reach,
    resize,
    rows_of,
    side_note,
    tint,
)
from analysis.results import Analysis, Note
from analysis.schema import LOSS, Column, declare
from analysis.surfaces import backtests
from analysis.surfaces.mixture import Mixture, Prediction, candidates
from analysis.surfaces.surfaces import Surfaces

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "holdout",
        "The largest cells, set aside before fitting, and their predictions; the law "
        "mixture stands for all of `extrapolation`.",
        "family corpus target params tokens",
        Column("observed", "measured loss", LOSS),
        Column("predicted", "predicted loss", LOSS),
        Column("low", "lower end of the 95% interval of a new run", LOSS),
        Column("high", "upper end of the 95% interval of a new run", LOSS),
        Column("inside", "whether the measured loss is inside"),
        "law",
        Column("curve_low", "lower end of the 95% interval of the curve alone", LOSS),
        Column("curve_high", "upper end of the 95% interval of the curve alone", LOSS),
    ),
    declare(
        "extrapolation",
        "How well each law, fitted to the cheaper of the runs, predicts the others.",
        "family corpus target law",
        Column("error", "RMS log error on these, over all back-tests"),
        Column("score", "sum over the back-tests of the mean log density it gave them"),
        Column("weight", "its weight in the mixture, mean over the cells set aside"),
        Column("widening", "factor on the mixture's interval, for what all laws miss"),
    ),
)

MIXTURE = "mixture"
# Laws of the pair that are shown beside the mixture.
SHOWN = ("chinchilla", "joint")


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    measured = asked.measured
    runs = measured.frame.run_id[measured.aside]
    held = measured.cells[measured.cells.run_id.isin(runs)]
    predicted, used = predict(
        asked.surfaces, held, asked.target, asked.delta, asked.seed
    )
    return {"holdout": predicted, "extrapolation": used}


def predict(
    surfaces: Surfaces, held: pd.DataFrame, target: str, delta: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells set aside, predicted, and the laws that did: two frames.

    Args:
      held: a row a cell: family, corpus, params, tokens, loss.

    The first has a row for each cell and law (the pair's own, the joint one and the
    mixture), the second a row for each law in a mixture; see `Analysis`.
    """
    rows, used = [], []
    draws = surfaces.draws
    joint = backtests.tried(surfaces.joint, draws, delta, seed) if len(held) else None
    for (family, corpus), cells in held.groupby(["family", "corpus"]):
        if family not in surfaces.families or corpus not in surfaces.corpora:
            continue
        found = candidates(surfaces, family, corpus, delta, seed, joint)
        if not found:
            continue
        mixed = Mixture.of(found)
        columns = backtests.columns(cells, draws)
        together = mixed.at(columns, len(draws), seed)
        head = {"family": family, "corpus": corpus, "target": target}
        used += _used(mixed, together, head)
        for one in found:
            law = one.fitted.law.name
            if law in SHOWN:
                alone = dataclasses.replace(
                    mixed, laws=[one], scores=np.zeros(1), widening=1.0
                )
                said = alone.at(columns, len(draws), seed)
                rows += _rows(said, cells, head | {"law": law})
        rows += _rows(together, cells, head | {"law": MIXTURE})
    return pd.DataFrame(rows), pd.DataFrame(used)


def _used(
    mixed: Mixture, together: Prediction, head: Mapping[str, object]
) -> list[dict[str, object]]:
    """A row a law of the mixture."""
    parts = zip(mixed.laws, mixed.scores, together.weights, strict=True)
    return [
        dict(head)
        | {
            "law": one.fitted.law.name,
            "error": one.error,
            "score": float(score) if np.isfinite(score) else np.nan,
            "weight": float(weights.mean()),
            "widening": mixed.widening,
        }
        for one, score, weights in parts
    ]


def _rows(
    said: Prediction, cells: pd.DataFrame, head: Mapping[str, object]
) -> list[dict[str, object]]:
    """A row a cell."""
    (curve_low, curve_high), (low, high) = interval(said.curve), interval(said.run)
    out = []
    for k, cell in enumerate(cells.itertuples()):
        out.append(
            {
                "family": head["family"],
                "corpus": head["corpus"],
                "target": head["target"],
                "params": cell.params,
                "tokens": cell.tokens,
                "observed": cell.loss,
                "predicted": float(said.point[k]),
                "low": float(low[k]),
                "high": float(high[k]),
                "curve_low": float(curve_low[k]),
                "curve_high": float(curve_high[k]),
                "inside": bool(low[k] <= cell.loss <= high[k]),
                "law": head["law"],
            }
        )
    return out


def sentences(frame: pd.DataFrame) -> list[str]:
    """By law, how many withheld cells fell where they were predicted."""
    if frame.empty:
        return []
    said = []
    for law, rows in frame.groupby("law", sort=False):
        error = (rows.observed / rows.predicted - 1).abs().max()
        inside = int(rows.inside.sum())
        worst = f"largest error {percent_error(error)}"
        said.append(f"{inside} of {len(rows)} by the {law_text(law)} ({worst})")
    return [
        f"The largest cells ({range_text(frame)}) were withheld from the fits and "
        f"predicted. Inside their 95% prediction interval: {joined(said)}."
    ]


def draw_holdout(figure: Figure, analysis: Analysis, target: str) -> None:
    """The withheld largest cells against their predictions, by each law."""
    frame = rows_of(analysis.holdout, target)
    keys = ["family", "corpus", "params", "tokens"]
    groups = list(frame.groupby(keys))
    laws = ordered(frame.law)
    resize(figure, 1.2 + (0.1 + 0.2 * len(laws)) * len(groups))
    axes = figure.subplots()
    relative = frame[["low", "high", "observed"]].div(frame.predicted, axis=0) - 1
    most = 100 * reach(relative.abs(), pad=0.08)[1]
    axes.set_xlim(-most, most)
    axes.axvline(0, color=INK, lw=0.8)
    labels = []
    offsets = np.linspace(-0.2, 0.2, len(laws)) if len(laws) > 1 else [0.0]
    for y, ((family, corpus, params, tokens), group) in enumerate(groups):
        for row in group.itertuples():
            at = y + offsets[laws.index(row.law)]
            part = 100 * relative.loc[row.Index]
            colour, marker, _ = looks(laws, row.law)
            axes.plot([part.low, part.high], [at, at], color=tint(colour, 0.3), lw=5)
            face = colour if row.inside else "white"
            axes.plot(part.observed, at, color=colour, marker=marker, mfc=face, ms=5.5)
        outside = group.law[~group.inside.astype(bool)]
        side_note(axes, y, f"outside: {joined(outside)}" if len(outside) else "")
        where = f"{count(params)}, {count(tokens)} tokens"
        labels.append(levels_text(family, corpus, where))
    forest_axis(axes, labels, range(len(groups)))
    axes.set_xlabel("observed loss, % above its prediction (bars: 95% interval)")
    axes.grid(True, axis="x")
    legend(figure, [key(law_text(law), *looks(laws, law)[:2]) for law in laws])


def answers(view: View) -> list[Sentence]:
    found = of_target(view.reported.holdout, view.target)
    return [Sentence(text, 35) for text in sentences(found)]


def warns(asked: Asked) -> Iterator[Note]:
    if asked.measured.hold_out and not asked.measured.aside.any():
        text = "No cell was set aside: too few cells in every family and corpus."
        yield Note("undetermined", "holdout", text)


def notes(view: View) -> Iterator[Note]:
    """Largest cells outside their interval."""
    frame = view.analysis.holdout
    every = frame.groupby(["law", "target"]).size()
    missed = frame[~frame.inside.astype(bool)]
    for (law, target), part in missed.groupby(["law", "target"]):
        text = (
            f"{len(part)} of {every[law, target]} withheld largest cells "
            f"{'is' if len(part) == 1 else 'are'} outside the 95% interval of the "
            f"{law_text(law)}{scored(target)}."
        )
        yield Note("disagree", "holdout", text)


QUESTION = Question(
    name="holdout",
    title="The largest cells, withheld and predicted",
    place=150,
    absent=Absent("withheld cells", ("holdout",), ("holdout",)),
    said=lambda view: sentences(view.rows("holdout")),
    answers=answers,
    figures={
        "holdout": Drawing(
            draw_holdout,
            "The largest cells, set aside before fitting, against their prediction "
            "from the rest. Hollow: outside the interval.",
        )
    },
    about=("holdout",),
    tables=(
        Table("Withheld cells", "holdout"),
        Table("How well each law extrapolates", "extrapolation"),
    ),
    compute=compute,
    warns=warns,
    notes=notes,
)
