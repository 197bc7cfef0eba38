"""Which parameters are shared across families, and which across corpora?

The joint law is fitted with each parameter freed in turn, and with the one it frees by
default (the floor E by corpus) held. Freed against fixed is a nested pair: the
likelihood ratio is set against its distribution under the smaller law (parametric
bootstrap), beside AICc, BIC and the error on the largest scale, left out of the fit.
Since no single law is certain, every multiplier is given under every law within 4 AICc
of the best (Burnham and Anderson 2002, section 2.6).

Effects are read from the law that the runs choose. That choice is uncertain too: it is
made again in every bootstrap draw, from laws fitted to that same draw, so that an
interval is one of the procedure "choose, then read" (Efron 2014, "Estimation and
accuracy after model selection").
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.fitting.fit import Refusal
from analysis.formatting import joined, number, percent
from analysis.inference.intervals import Draws
from analysis.inference.likelihood import (
    Likelihood,
    Ratio,
    compare,
    likelihood,
    ratio_tests,
)
from analysis.laws import Array
from analysis.questions import effects
from analysis.questions._question import (
    ASSUMPTIONS,
    Absent,
    Question,
    Sentence,
    Table,
)
from analysis.questions.effects import Equivalents, Swap
from analysis.schema import Column, declare, stacked
from analysis.surfaces.backtests import held_out_error
from analysis.surfaces.choice import choose
from analysis.surfaces.surfaces import (
    PLAIN,
    Choice,
    Fitted,
    Form,
    Surfaces,
    fit_joint,
)

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

BASE = "joint"
OUTER = "an outer exponent"
# Draws behind a threshold; fewer than elsewhere, since there are a dozen laws to fit.
RATIO_DRAWS = 60
# Laws this far above the lowest AICc are still to be reckoned with.
WITHIN = 4.0
# Laws this far above it are not fitted to the draws, since hardly one would choose
# them: of an AICc difference of x between two laws the spread is about 2 sqrt(x).
FAR = 40.0
LEVEL = 0.05


class Freed(NamedTuple):
    """A parameter that may be shared, and the two laws that differ in it.

    Attributes:
      across: "families", "corpora", or "cells" for a pair of a family and a corpus
        that gets more than the product of its two multipliers.
      needs: the kinds of level of which there must be two.
    """

    parameter: str
    across: str
    fixed: str
    freed: str
    needs: tuple[str, ...]


MODELS: dict[str, Form] = {
    BASE: PLAIN,
    "one E": Form(options={"floor": ()}),
    "E by family": Form(options={"floor": ("family", "corpus")}),
    "alpha by family": Form(options={"alpha": ("family",)}),
    "alpha by corpus": Form(options={"alpha": ("corpus",)}),
    "beta by family": Form(options={"beta": ("family",)}),
    "beta by corpus": Form(options={"beta": ("corpus",)}),
    "rhoN by cell": Form(options={"crossed": ("params",)}),
    "rhoD by cell": Form(options={"crossed": ("tokens",)}),
    OUTER: Form("joint_outer"),
}
QUESTIONS = (
    Freed("E", "families", BASE, "E by family", ("family",)),
    Freed("E", "corpora", "one E", BASE, ("corpus",)),
    Freed("alpha", "families", BASE, "alpha by family", ("family",)),
    Freed("alpha", "corpora", BASE, "alpha by corpus", ("corpus",)),
    Freed("beta", "families", BASE, "beta by family", ("family",)),
    Freed("beta", "corpora", BASE, "beta by corpus", ("corpus",)),
    Freed("rhoN", "cells", BASE, "rhoN by cell", ("family", "corpus")),
    Freed("rhoD", "cells", BASE, "rhoD by cell", ("family", "corpus")),
)


@dataclasses.dataclass(frozen=True)
class Nested:
    """The laws that could be fitted, and the questions that the design can ask.

    Attributes:
      fitted, models: by name, the fit with its draws, and its likelihood.
      errors: by name, RMS log error on the largest scale, predicted from the rest; NaN
        where the rest cannot identify the law.
      refused: by name, why a law could not be fitted.
      choice: the laws under the same draws, and which of them each draw chooses; None
        where the joint law itself could not be fitted.
    """

    surfaces: Surfaces
    draws: Draws
    delta: float
    fitted: dict[str, Fitted]
    models: dict[str, Likelihood]
    errors: dict[str, float]
    refused: dict[str, str]
    questions: tuple[Freed, ...]
    choice: Choice | None


def fit_nested(surfaces: Surfaces, delta: float, seed: int) -> Nested:
    """Fits every law that the design's levels give a meaning to."""
    levels = {"family": surfaces.families, "corpus": surfaces.corpora}
    asked = tuple(
        q for q in QUESTIONS if all(len(levels[kind]) > 1 for kind in q.needs)
    )
    names = dict.fromkeys(
        [BASE, *(n for q in asked for n in (q.fixed, q.freed)), OUTER]
    )
    none = dataclasses.replace(surfaces.draws, factors=surfaces.draws.factors[:0])
    fitted, models, errors, refused = {}, {}, {}, {}
    for name in names:
        found = fit_joint(none, delta, seed, MODELS[name])
        reason = _undetermined(found, surfaces.joint)
        if reason:
            refused[name] = reason
            continue
        fitted[name] = found
        models[name] = likelihood_of(found, surfaces.draws, delta)
        errors[name] = held_out_error(
            surfaces.draws,
            partial(fit_joint, delta=delta, seed=seed, form=MODELS[name]),
        )
    asked = tuple(q for q in asked if {q.fixed, q.freed} <= set(models))
    choice = _choice(fitted, models, surfaces, delta) if BASE in models else None
    return Nested(
        surfaces, surfaces.draws, delta, fitted, models, errors, refused, asked, choice
    )


def _undetermined(found: Fitted, base: Fitted) -> str:
    """Why a law is no candidate: refused, or what it adds to the base is on a bound."""
    if isinstance(found.outcome, Refusal):
        return found.outcome.reason
    added = set(found.outcome.at_bound) - set(base.law.names)
    # A floor of nothing is a finding; the joint law's own may be on that bound too.
    held = [name for name in sorted(added) if not name.startswith("E")]
    return f"the runs do not tell {joined(held)}: on a bound" if held else ""


def _choice(
    fitted: dict[str, Fitted],
    models: dict[str, Likelihood],
    surfaces: Surfaces,
    delta: float,
) -> Choice:
    """The laws that a draw might choose, under draws around the best of them."""
    criteria = {name: model.aicc for name, model in models.items()}
    best = min(criteria, key=lambda name: criteria[name])
    near = [
        name
        for name in fitted
        if name == BASE or not criteria[name] - criteria[best] > FAR
    ]
    base = near.index(BASE)
    return choose(
        {name: fitted[name] for name in near},
        criteria,
        best,
        surfaces.joint if best == BASE else None,
        surfaces.draws,
        delta,
        lambda found: picked(found, base),
    )


def picked(criteria: Array, base: int = 0) -> Array:
    """The law that effects are read from: by AICc [laws, B], its place in each column.

    The joint law (`base`), unless the AICc of another is lower by more than `WITHIN`;
    then the one with the lowest.
    """
    with np.errstate(invalid="ignore"):  # too few trajectories: all are infinite
        above = criteria[base] - criteria.min(axis=0)
    return np.where(above > WITHIN, criteria.argmin(axis=0), base)


def preferred(nested: Nested | None) -> str:
    """The law that effects are reported by: of those fitted, by these runs alone."""
    if nested is None or BASE not in nested.models:
        return BASE
    names = list(nested.models)
    aicc = np.array([[nested.models[name].aicc] for name in names])
    return names[int(picked(aicc, names.index(BASE))[0])]


def likelihood_of(found: Fitted, draws: Draws, delta: float) -> Likelihood:
    """Of the runs at their cell's best rate, which the fit saw."""
    assert not isinstance(found.outcome, Refusal)
    seen = draws.chosen > 0
    columns = {name: values[seen] for name, values in found.columns.items()}
    data = draws.data
    return likelihood(
        found.outcome, columns, data.loss[seen], data.cluster[seen], delta
    )


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
        logs = effects.log_factors(Equivalents(surfaces.of_joint, points), found)
        frame = effects.equivalents_frame(logs, points, target, "joint")
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
    named = [
        ("the plain joint law" if row.model == BASE else f"the one with {row.model}")
        + f" in {percent(row.chosen)}"
        for row in ranked.itertuples()
    ]
    if len(named) == 1:
        name = named[0].rsplit(" in ", 1)[0]
        return [f"The law was chosen again in every draw: each time {name}."]
    return [
        f"The law was chosen again in every draw, {joined(named)}; the intervals of "
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
)
