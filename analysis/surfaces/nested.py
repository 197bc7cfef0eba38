"""The law that effects are read from, chosen among joint laws nested in each other.

The joint law is fitted with each parameter freed in turn, and with the one it frees by
default (the floor E by corpus) held. The choice between them is uncertain: it is made
again in every bootstrap draw, from laws fitted to that same draw, so that an interval
is one of the procedure "choose, then read" (Efron 2014, "Estimation and accuracy after
model selection").
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import numpy as np

from analysis.fitting.fit import Refusal
from analysis.formatting import joined
from analysis.inference.intervals import Draws
from analysis.inference.likelihood import Likelihood, likelihood
from analysis.laws import Array
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

BASE = "joint"
OUTER = "an outer exponent"
# Laws this far above the lowest AICc are still to be reckoned with.
WITHIN = 4.0
# Laws this far above it are not fitted to the draws, since hardly one would choose
# them: of an AICc difference of x between two laws the spread is about 2 sqrt(x).
FAR = 40.0


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


@dataclasses.dataclass(frozen=True)
class Leading:
    """The law that effects are reported by, and the joint law beside it.

    Attributes:
      model: its name in nested.MODELS.
      surfaces: with that law as the joint one, chosen again in every draw.
      nested: all laws that it was chosen from; None where there was no choice.
    """

    model: str
    surfaces: Surfaces
    nested: Nested | None

    @property
    def plain(self) -> bool:
        return self.model == BASE


def lead(surfaces: Surfaces, delta: float, seed: int) -> Leading:
    """Chooses among the joint laws on the fitted runs, and again in every draw."""
    if surfaces.joint.theta is None:
        return Leading(BASE, surfaces, None)
    fits = fit_nested(surfaces, delta, seed)
    model = preferred(fits)
    if fits.choice is not None:
        joint = surfaces.joint
        if model != BASE:
            joint = fits.choice.fits[model]
        surfaces = dataclasses.replace(surfaces, joint=joint, choice=fits.choice)
    return Leading(model, surfaces, fits)
