"""Which parameters are shared across families, and which across corpora?

See surfaces/nested.py for the laws. Freed against fixed is a nested pair: the
likelihood ratio is set against its distribution under the smaller law (parametric
bootstrap), beside AICc, BIC and the error on the largest scale, left out of the fit.
Since no single law is certain, every multiplier is given under every law within 4 AICc
of the best (Burnham and Anderson 2002, section 2.6).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.design.swaps import Swap
from analysis.effects import data_equivalents
from analysis.effects.data_equivalents import Equivalents
from analysis.formatting import joined, number, percent, scored
from analysis.inference.likelihood import (
    Ratio,
    compare,
    ratio_tests,
)
from analysis.questions._question import (
    ASSUMPTIONS,
    Absent,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View
from analysis.results import Note
from analysis.schema import Column, declare, stacked
from analysis.surfaces.nested import BASE, WITHIN, Nested, preferred

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "nested",
        "Is a parameter shared?",
        "target parameter",
        Column("across", "families, corpora or cells"),
        Column("fixed", "the model in which it is shared"),
        Column("freed", "the model in which it is not"),
        Column("statistic", "likelihood ratio"),
        Column("threshold", "its 95% quantile where the parameter is shared"),
        Column("p", "share of simulated ratios at least as large"),
        Column("draws", "how many were simulated"),
        Column("delta_aicc", "AICc of the freed model less that of the fixed"),
        Column("delta_bic", "BIC of the freed model less that of the fixed"),
        Column("fixed_error", "RMS log error on the largest scale left out, fixed"),
        Column("freed_error", "the same, freed"),
        Column("differs", "whether the ratio passes the threshold"),
    ),
    declare(
        "models",
        "The laws that the leading one was chosen from.",
        "target",
        Column("model", "name of the law"),
        Column("log_likelihood", "of the runs"),
        Column("scale", "fitted scale of the log residuals"),
        Column("parameters", "how many it has"),
        Column("runs", "how many runs it was fitted to"),
        Column(
            "trajectories", "how many trajectories, or cells of seeds, were drawn apart"
        ),
        Column("aicc", "corrected Akaike criterion"),
        Column("delta_aicc", "above the least"),
        Column("weight", "Akaike weight"),
        Column("bic", "Bayesian information criterion"),
        Column("holdout_error", "RMS log error on the largest scale left out"),
        Column("refused", "why it could not be fitted, or empty"),
        Column("preferred", "whether effects lead with it"),
        Column("chosen", "share of the draws in which it is chosen; NaN: not tried"),
    ),
    declare(
        "model_multipliers",
        "The overall `equivalents` under every model within 4 AICc of the best.",
        "target",
        Column("model", "name of the law"),
        Column("delta_aicc", "above the least"),
        Column("weight", "Akaike weight"),
        Column("draws", "draws behind the interval"),
        "kind baseline alternative fixed factor low high p_infinite",
    ),
)

# Draws behind a threshold; fewer than elsewhere, since there are a dozen laws to fit.
RATIO_DRAWS = 60
LEVEL = 0.05


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    fits, target = asked.leading.nested, asked.target
    if fits is None or not asked.swaps:
        return {}
    where = asked.points
    return {
        "models": models_frame(fits, target),
        "nested": questions_frame(fits, target, asked.seed),
        "model_multipliers": multipliers_frame(fits, asked.swaps, where, target),
    }


def models_frame(nested: Nested, target: str) -> pd.DataFrame:
    """Every law on the same runs, lowest AICc first; refused ones with the reason."""
    if not nested.models:
        return pd.DataFrame()
    frame = compare(nested.models).rename(columns={"law": "model"})
    errors = frame.model.map(nested.errors)
    frame = frame.assign(target=target, holdout_error=errors, refused="")
    frame = frame.assign(preferred=frame.model == preferred(nested))
    shares = nested.choice.shares() if nested.choice is not None else {}
    frame = frame.assign(chosen=frame.model.map(shares).astype(float))
    left = [
        {"model": name, "target": target, "refused": reason, "preferred": False}
        for name, reason in nested.refused.items()
    ]
    return pd.concat([frame, pd.DataFrame(left)], ignore_index=True)


def questions_frame(nested: Nested, target: str, seed: int) -> pd.DataFrame:
    """One row a question: is this parameter shared across families (corpora)?"""
    ratios: dict[tuple[str, str], Ratio] = {}
    for name in dict.fromkeys(asked.fixed for asked in nested.questions):
        wider = [asked.freed for asked in nested.questions if asked.fixed == name]
        larges = {other: nested.models[other] for other in wider}
        found = ratio_tests(nested.models[name], larges, RATIO_DRAWS, seed)
        ratios |= {(name, other): ratio for other, ratio in found.items()}
    rows = []
    for asked in nested.questions:
        fixed, freed = nested.models[asked.fixed], nested.models[asked.freed]
        ratio = ratios[asked.fixed, asked.freed]
        rows.append(
            {
                "target": target,
                "parameter": asked.parameter,
                "across": asked.across,
                "fixed": asked.fixed,
                "freed": asked.freed,
                "statistic": ratio.statistic,
                "threshold": ratio.threshold,
                "p": ratio.p,
                "draws": ratio.draws,
                "delta_aicc": freed.aicc - fixed.aicc,
                "delta_bic": freed.bic - fixed.bic,
                "fixed_error": nested.errors[asked.fixed],
                "freed_error": nested.errors[asked.freed],
                "differs": bool(ratio.p < LEVEL),
            }
        )
    return pd.DataFrame(rows)


def multipliers_frame(
    nested: Nested,
    found: list[Swap],
    points: list[tuple[float, float]],
    target: str,
) -> pd.DataFrame:
    """M_D over all cells under every law within 4 AICc of the best."""
    if nested.choice is None:
        return pd.DataFrame()
    table = compare(nested.models)
    near = table[~(table.delta_aicc > WITHIN)]
    parts = []
    for row in near.itertuples():
        joint = nested.choice.fits[row.law]
        surfaces = dataclasses.replace(nested.surfaces, joint=joint, choice=None)
        logs = data_equivalents.log_factors(
            Equivalents(surfaces.of_joint, points), found
        )
        frame = data_equivalents.equivalents_frame(logs, points, target, "joint")
        if frame.empty:
            continue
        whole: dict[str, Any] = {"model": row.law, "delta_aicc": row.delta_aicc}
        whole |= {"weight": row.weight, "draws": len(nested.draws)}
        parts.append(frame[frame.params.isna()].assign(**whole))
    return stacked(parts)


def chosen(models: pd.DataFrame) -> list[str]:
    """How often the draws choose each law, which the intervals of effects include.

    Args:
      models: rows of Analysis.models, of one target.
    """
    known = models[models.chosen > 0] if len(models) else models
    if known.empty:
        return []
    ranked = known.sort_values("chosen", ascending=False, kind="stable")
    names = [
        "the plain joint law" if row.model == BASE else f"the one with {row.model}"
        for row in ranked.itertuples()
    ]
    if len(names) == 1:
        return [f"Every bootstrap draw chooses its law anew: all choose {names[0]}."]
    shares = list(ranked.chosen)
    often = [
        f"{percent(share)} choose {name}"
        for share, name in zip(shares[:2], names[:2], strict=True)
    ]
    if len(names) > 2:
        others = "another" if len(names) == 3 else f"one of {len(names) - 2} others"
        often.append(f"{percent(sum(shares[2:]))} choose {others}")
    return [
        f"Every bootstrap draw chooses its law anew: {joined(often)}. The intervals of "
        "effects include this choice."
    ]


def sentences(frame: pd.DataFrame) -> list[str]:
    """Which parameters families and corpora share, by the nested models."""
    sentences = []
    for across, rows in frame.groupby("across", sort=False):
        apart = rows[rows.differs.astype(bool)]
        same = rows[~rows.differs.astype(bool)]
        said = joined(
            f"{row.parameter} (p {number(row.p, 2)})" for row in apart.itertuples()
        )
        if len(apart):
            sentences.append(f"Across {across} these differ: {said}.")
        if len(same):
            names = joined(
                f"{row.parameter} (p {number(row.p, 2)})" for row in same.itertuples()
            )
            sentences.append(f"Across {across} no difference is shown in {names}.")
    return sentences


def notes(view: View) -> Iterator[Note]:
    return of_nested(view.analysis.nested, view.analysis.models)


def of_nested(nested: pd.DataFrame, models: pd.DataFrame) -> Iterator[Note]:
    """Parameters that the joint law shares and the runs do not, and a better law."""
    # That the floor differs between corpora is what the joint law says already.
    own = nested[nested.differs.astype(bool) & (nested.fixed == BASE)]
    for target, part in own.groupby("target", sort=False):
        known = models[(models.target == target) & (models.refused == "")]
        above = known.set_index("model").delta_aicc.get(BASE, np.nan)
        if not above > WITHIN:
            continue
        best = known.loc[known.aicc.idxmin(), "model"]
        shared = ", ".join(
            f"{row.parameter} across {row.across}" for row in part.itertuples()
        )
        # So few runs may be left that the joint law has no AICc at all.
        better = "is the best of those that so few runs have an AICc for"
        if np.isfinite(above):
            better = f"has an AICc lower by {above:.0f}"
        text = (
            "The runs differ in what the joint law takes to be the same: "
            f"{shared} (parametric bootstrap{scored(target)}). The law with {best} "
            f"{better}, and effects are reported by it."
        )
        yield Note("disagree", "joint", text)


QUESTION = Question(
    name="sharing",
    title="What families and corpora share",
    place=120,
    absent=Absent("nested models", ("nested",), ("joint", "effects")),
    said=lambda view: [
        *sentences(view.rows("nested")),
        *chosen(view.rows("models")),
    ],
    answers=lambda view: [Sentence(text, 45) for text in chosen(view.rows("models"))],
    checks={ASSUMPTIONS: lambda view: sentences(view.analysis.nested)},
    tables=(Table("Likelihood ratios", "nested"), Table("Models", "models")),
    compute=compute,
    notes=notes,
)
