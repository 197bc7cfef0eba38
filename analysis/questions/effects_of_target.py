"""All effects of one target: from its fitted surfaces to the frames of an Analysis."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.design import levels
from analysis.design.cells import points as points_of_interest
from analysis.questions import (
    decision,
    effects,
    frontier,
    interaction,
    matched_cells,
    model_choice,
    ranking,
    sensitivity,
    variance,
)
from analysis.questions.effects import Described, Equivalents, Swap
from analysis.questions.matched_cells import DocumentError, Noise
from analysis.surfaces.surfaces import Surfaces

# Crossovers are looked for from the least compute that was run to this many times the
# most.
CROSSOVER_REACH = 100.0

Frames = dict[str, pd.DataFrame]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the effects of one target are asked of.

    Attributes:
      surfaces: every law, fitted under the same draws.
      frame: one-epoch runs of the target, those set aside included, with `level` and
        `budget`; a row a run.
      cells: of those runs, one for each family, corpus, size level and budget.
      matched: the same, one besides for each experiment that the table keeps apart.
      runs: of the table, for wall time.
      described: what the levels are made of; see effects.swaps.
      leading: the law that effects are reported by.
      delta: Huber's threshold of the fits.
    """

    target: str
    surfaces: Surfaces
    leading: Leading
    frame: pd.DataFrame
    cells: pd.DataFrame
    matched: pd.DataFrame
    runs: pd.DataFrame
    noise: Noise
    document_se: DocumentError
    described: Described
    delta: float
    seed: int


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
    nested: model_choice.Nested | None

    @property
    def plain(self) -> bool:
        return self.model == model_choice.BASE


def lead(surfaces: Surfaces, delta: float, seed: int) -> Leading:
    """Chooses among the joint laws on the fitted runs, and again in every draw."""
    if surfaces.joint.theta is None:
        return Leading(model_choice.BASE, surfaces, None)
    fits = model_choice.fit_nested(surfaces, delta, seed)
    model = model_choice.preferred(fits)
    if fits.choice is not None:
        joint = surfaces.joint
        if model != model_choice.BASE:
            joint = fits.choice.fits[model]
        surfaces = dataclasses.replace(surfaces, joint=joint, choice=fits.choice)
    return Leading(model, surfaces, fits)


def answers(asked: Asked) -> Frames:
    """The frames of effects, by their names in Analysis."""
    surfaces, leading, target = asked.surfaces, asked.leading, asked.target
    chosen = leading.surfaces
    where = points_of_interest(asked.frame)
    every = effects.swaps(surfaces.families, surfaces.corpora, asked.described)
    first = Equivalents(chosen.of_joint, where)
    alone = Equivalents(surfaces.of_single, where)
    found = effects.gains(first, effects.gains(alone, every))
    logs = effects.log_factors(first, found)
    own = effects.log_factors(alone, found)
    matched = matched_cells.matches(asked.matched, found)
    method = "joint" if leading.plain else "preferred"
    foremost = effects.equivalents_frame(logs, where, target, method)
    parts = [foremost]
    if not leading.plain:
        joint = effects.log_factors(Equivalents(surfaces.of_joint, where), found)
        parts.append(effects.equivalents_frame(joint, where, target, "joint"))
    parts.append(effects.equivalents_frame(own, where, target, "family"))
    parts.append(
        matched_cells.paired_frame(matched, target, asked.noise, asked.document_se)
    )
    out = {
        "equivalents": pd.concat(parts, ignore_index=True),
        "agreement": matched_cells.agreement_frame(chosen.of_joint, matched, target),
        "measured": matched_cells.measured_frame(matched, target),
        "costs": matched_cells.costs_frame(matched, asked.runs, foremost, target),
        "ratios": effects.ratios_frame(logs, where, target).assign(law=leading.model),
        "interactions": pd.concat(
            [
                interaction.modelled_frame(own, where, target, "family"),
                interaction.measured_frame(matched, target),
            ],
            ignore_index=True,
        ),
        "doubling": effects.doubling_frame(
            chosen.of_joint, surfaces.families, surfaces.corpora, where, target
        ),
        "shares": variance.measured_frame(asked.cells, target, asked.seed),
        "variance": variance.variance_frame(
            chosen.of_joint,
            surfaces.families,
            surfaces.corpora,
            variance.box_of(surfaces.data.frame),
            target,
        ),
    }
    inner = covered(where, surfaces.data.frame)
    for name in ("equivalents", "doubling", "ratios"):
        out[name] = _within(out[name], inner)
    out["standings"] = ranking.standings_frame(
        asked.cells,
        Equivalents(chosen.of_joint, [max(inner)]) if inner else None,
        surfaces.families,
        surfaces.corpora,
        asked.noise,
        asked.document_se,
    )
    more = _compute(asked, leading, found, where)
    return out | more | _checks(asked, leading, found, where)


def covered(
    where: Sequence[tuple[float, float]], fitted: pd.DataFrame
) -> set[tuple[float, float]]:
    """The points up to which every family and corpus has fitted runs.

    Where some have none that large, the effect of a swap there is extrapolated.

    Args:
      fitted: family, corpus, params, tokens of the runs that the laws saw.
    """
    # Within a level families differ by some percent, and budgets by a step.
    size, budget = 1.0 + levels.SIZE, 1.0 + levels.BUDGET
    parts = [part for _, part in fitted.groupby(["family", "corpus"])]
    return {
        (params, tokens)
        for params, tokens in where
        if all(
            ((part.params * size >= params) & (part.tokens * budget >= tokens)).any()
            for part in parts
        )
    }


def _within(frame: pd.DataFrame, inner: set[tuple[float, float]]) -> pd.DataFrame:
    """The frame with `fitted`: no extrapolation, at its own point or over all."""
    if frame.empty:
        return frame
    at = zip(frame.params, frame.tokens, strict=True)
    return frame.assign(fitted=[np.isnan(p) or (p, t) in inner for p, t in at])


def _compute(
    asked: Asked,
    leading: Leading,
    found: list[Swap],
    where: list[tuple[float, float]],
) -> Frames:
    """Parameter- and compute-equivalents, crossovers and decisions."""
    surfaces, target = asked.surfaces, asked.target
    chosen = leading.surfaces.of_joint
    fitted = surfaces.data.frame
    families = frontier.comparable(fitted)
    alike = [s for s in found if {s.before[0], s.after[0]} <= set(families)]
    sizes = (float(fitted.params.min()), float(fitted.params.max()))
    spent = fitted.flops[fitted.family.isin(families)]
    least, most = float(spent.min()), float(spent.max())
    computes = frontier.computes(fitted)
    rate = frontier.flop_rate(asked.frame)
    method = "joint" if leading.plain else "preferred"
    by_method = {
        name: frontier.Frontier(surface, rate, sizes, (least, computes[-1]))
        for name, surface in ((method, chosen), ("family", surfaces.of_single))
    }
    size = Equivalents(chosen, where, "params")
    worth = frontier.compute_logs(by_method[method], alike, computes)
    points = [{"params": params, "tokens": tokens} for params, tokens in where]
    decisions = [
        decision.decisions_frame(
            reached,
            asked.cells,
            families,
            surfaces.corpora,
            computes,
            target,
            name,
        )
        for name, reached in by_method.items()
    ]
    return {
        "multipliers": pd.concat(
            [
                frontier.multipliers_frame(
                    effects.log_factors(size, found), points, "params", target
                ),
                frontier.multipliers_frame(
                    worth, [{"compute": c} for c in computes], "compute", target
                ),
            ],
            ignore_index=True,
        ),
        "crossovers": frontier.crossovers_frame(
            by_method[method], alike, (least, CROSSOVER_REACH * most), target
        ),
        "decisions": pd.concat(decisions, ignore_index=True),
    }


def _checks(
    asked: Asked,
    leading: Leading,
    found: list[Swap],
    where: list[tuple[float, float]],
) -> Frames:
    """Which parameters are shared, and what moves the verdict."""
    fits, target = leading.nested, asked.target
    if fits is None or not found:
        return {}
    simpler = None if leading.plain else asked.surfaces.of_joint
    return {
        "models": model_choice.models_frame(fits, target),
        "nested": model_choice.questions_frame(fits, target, asked.seed),
        "model_multipliers": model_choice.multipliers_frame(fits, found, where, target),
        "verdicts": sensitivity.verdicts_frame(
            leading.surfaces,
            found,
            asked.frame,
            target,
            asked.delta,
            asked.seed,
            model_choice.MODELS[leading.model],
            simpler,
        ),
    }


def flagged(equivalents: pd.DataFrame, interactions: pd.DataFrame) -> pd.DataFrame:
    """The equivalents with a `flag`: what a reader of that row must know.

    "varies with ..." on a main effect says to read it per cell only.
    """
    depends = interaction.flags(interactions)

    def said(row: Mapping[str, object]) -> str:
        out = []
        low, high = float(str(row["low"])), float(str(row["high"]))
        if low <= 1.0 <= high:
            out.append("no difference shown")
        infinite = float(str(row["p_infinite"]))
        if infinite > 0:
            out.append(f"infinite in {infinite:.0%} of draws")
        key = tuple(
            str(row[k]) for k in ("target", "kind", "baseline", "alternative", "fixed")
        )
        if pd.isna(row["params"]) and key in depends:
            out.append(f"varies with {depends[key]}")  # type: ignore[index]
        return "; ".join(out)

    rows = equivalents.to_dict("records")
    return equivalents.assign(flag=[said(row) for row in rows])
