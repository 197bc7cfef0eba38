"""All effects of one target: from its fitted surfaces to the frames of an Analysis."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pandas as pd

from analysis import (
    decision,
    effects,
    frontier,
    interaction,
    nested,
    paired,
    sensitivity,
    variance,
)
from analysis.cells import points as points_of_interest
from analysis.effects import Described, Equivalents, Swap
from analysis.paired import DocumentError, Noise
from analysis.surfaces import Surfaces

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
      runs: of the table, for wall time.
      described: what the levels are made of; see effects.swaps.
      delta: Huber's threshold of the fits.
    """

    target: str
    surfaces: Surfaces
    frame: pd.DataFrame
    cells: pd.DataFrame
    runs: pd.DataFrame
    noise: Noise
    document_se: DocumentError
    described: Described
    delta: float
    seed: int


def answers(asked: Asked) -> Frames:
    """The frames of effects, by their names in Analysis."""
    surfaces, target = asked.surfaces, asked.target
    where = points_of_interest(asked.frame)
    every = effects.swaps(surfaces.families, surfaces.corpora, asked.described)
    joint = Equivalents(surfaces.of_joint, where)
    alone = Equivalents(surfaces.of_single, where)
    found = effects.gains(joint, effects.gains(alone, every))
    logs = effects.log_factors(joint, found)
    own = effects.log_factors(alone, found)
    matched = paired.matches(asked.cells, found)
    equivalents = pd.concat(
        [
            effects.equivalents_frame(logs, where, target, "joint"),
            effects.equivalents_frame(own, where, target, "family"),
            paired.paired_frame(matched, target, asked.noise, asked.document_se),
        ],
        ignore_index=True,
    )
    out = {
        "equivalents": equivalents,
        "agreement": paired.agreement_frame(surfaces.of_joint, matched, target),
        "costs": paired.costs_frame(matched, asked.runs, equivalents, target),
        "ratios": effects.ratios_frame(logs, where, target),
        "interactions": pd.concat(
            [
                interaction.modelled_frame(own, where, target, "family"),
                interaction.measured_frame(matched, target),
            ],
            ignore_index=True,
        ),
        "doubling": effects.doubling_frame(
            surfaces.of_joint, surfaces.families, surfaces.corpora, where, target
        ),
        "shares": variance.measured_frame(asked.cells, target, asked.seed),
        "variance": variance.variance_frame(
            surfaces.of_joint,
            surfaces.families,
            surfaces.corpora,
            variance.box_of(surfaces.data.frame),
            target,
        ),
    }
    return out | _compute(asked, found, where) | _checks(asked, found, where)


def _compute(
    asked: Asked, found: list[Swap], where: list[tuple[float, float]]
) -> Frames:
    """Parameter- and compute-equivalents, crossovers and decisions."""
    surfaces, target = asked.surfaces, asked.target
    fitted = surfaces.data.frame
    sizes = (float(fitted.params.min()), float(fitted.params.max()))
    least, most = float(fitted.flops.min()), float(fitted.flops.max())
    computes = frontier.computes(fitted)
    rate = frontier.flop_rate(asked.frame)
    by_method = {
        method: frontier.Frontier(surface, rate, sizes, (least, computes[-1]))
        for method, surface in (
            ("joint", surfaces.of_joint),
            ("family", surfaces.of_single),
        )
    }
    size = Equivalents(surfaces.of_joint, where, "params")
    spent = frontier.compute_logs(by_method["joint"], found, computes)
    points = [{"params": params, "tokens": tokens} for params, tokens in where]
    decisions = [
        decision.decisions_frame(
            reached,
            asked.cells,
            surfaces.families,
            surfaces.corpora,
            computes,
            target,
            method,
        )
        for method, reached in by_method.items()
    ]
    return {
        "multipliers": pd.concat(
            [
                frontier.multipliers_frame(
                    effects.log_factors(size, found), points, "params", target
                ),
                frontier.multipliers_frame(
                    spent, [{"compute": c} for c in computes], "compute", target
                ),
            ],
            ignore_index=True,
        ),
        "crossovers": frontier.crossovers_frame(
            by_method["joint"], found, (least, CROSSOVER_REACH * most), target
        ),
        "decisions": pd.concat(decisions, ignore_index=True),
    }


def _checks(
    asked: Asked, found: list[Swap], where: list[tuple[float, float]]
) -> Frames:
    """Which parameters are shared, and what moves the verdict."""
    surfaces, target = asked.surfaces, asked.target
    if surfaces.joint.theta is None or not found:
        return {}
    fits = nested.fit_nested(surfaces, asked.delta, asked.seed)
    return {
        "models": nested.models_frame(fits, target),
        "nested": nested.questions_frame(fits, target, asked.seed),
        "model_multipliers": nested.multipliers_frame(
            fits, found, where, target, asked.seed
        ),
        "verdicts": sensitivity.verdicts_frame(
            surfaces, found, asked.frame, target, asked.delta, asked.seed
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
        key = tuple(str(row[k]) for k in ("target", "kind", "source", "to", "held"))
        if pd.isna(row["params"]) and key in depends:
            out.append(f"varies with {depends[key]}")  # type: ignore[index]
        return "; ".join(out)

    rows = equivalents.to_dict("records")
    return equivalents.assign(flag=[said(row) for row in rows])
