"""What a swap is worth in parameters and in compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.design.swaps import Swap
from analysis.effects import frontier
from analysis.effects.data_equivalents import Equivalents, log_factors
from analysis.effects.pooled_cells import costs_frame
from analysis.formatting import (
    UNDETERMINED,
    UNNAMED,
    few,
    interval_text,
    number,
    percent,
)
from analysis.questions._question import Absent, Drawing, Finding, Question, Table
from analysis.questions._view import View, of_target
from analysis.report.style import (
    Nothing,
    banded,
    factor_axis,
    key,
    legend,
    log_axis,
    looks,
    panels_of,
    resize,
    rows_of,
    span,
    trained,
)
from analysis.results import Analysis
from analysis.schema import Column, declare, stacked

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "multipliers",
        "The swaps of `equivalents` in other currencies.",
        "kind baseline alternative fixed target",
        Column(
            "currency",
            "params (at the same N and D) or compute (along the compute-optimal path "
            "of both, at `compute`)",
        ),
        "params tokens compute",
        Column(
            "factor",
            "factor on the currency of `baseline` for the loss of `alternative`",
        ),
        "low high p_infinite",
    ),
    declare(
        "crossovers",
        "From how much compute on the one swapped in is the better.",
        "kind baseline alternative fixed target",
        Column("compute", "0 where it always is, infinite where it never is", "FLOPs"),
        "low high",
        Column("p_none", "share of draws without a crossing within the range"),
        Column("range_low", "least compute looked at", "FLOPs"),
        Column("range_high", "most compute looked at", "FLOPs"),
    ),
    declare(
        "costs",
        "What a swap costs on matched cells, beside its overall data-equivalent.",
        "kind baseline alternative target",
        Column("cells", "how many matched cells"),
        Column("flops_ratio", "FLOPs of `alternative` over those of `baseline`"),
        Column("flops_low", "lower end of its 95% interval"),
        Column("flops_high", "upper end of its 95% interval"),
        Column("wall_ratio", "wall time of `alternative` over that of `baseline`"),
        Column("wall_low", "lower end of its 95% interval"),
        Column("wall_high", "upper end of its 95% interval"),
        "factor low high p_infinite",
    ),
)


# Crossovers are looked for from the least compute that was run to this many times the
# most.
CROSSOVER_REACH = 100.0


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    target, reached = asked.target, asked.frontiers[asked.method]
    fitted, alike = asked.surfaces.data.frame, set(asked.comparable)
    swaps = [one for one in asked.swaps if {one.before[0], one.after[0]} <= alike]
    spent = fitted.flops[fitted.family.isin(alike)]
    range_ = float(spent.min()), CROSSOVER_REACH * float(spent.max())
    return {
        "multipliers": stacked([_in_params(asked), _in_compute(asked, swaps)]),
        "crossovers": frontier.crossovers_frame(reached, swaps, range_, target),
        "costs": costs_frame(
            asked.matched, asked.measured.table.runs, asked.worth, target
        ),
    }


def _in_params(asked: Asked) -> pd.DataFrame:
    model = Equivalents(asked.chosen.of_joint, asked.points, "params")
    logs = log_factors(model, asked.swaps)
    places = [{"params": params, "tokens": tokens} for params, tokens in asked.points]
    return frontier.multipliers_frame(logs, places, "params", asked.target)


def _in_compute(asked: Asked, swaps: Sequence[Swap]) -> pd.DataFrame:
    computes = frontier.computes(asked.surfaces.data.frame)
    logs = frontier.compute_logs(asked.frontiers[asked.method], swaps, computes)
    places = [{"compute": spent} for spent in computes]
    return frontier.multipliers_frame(logs, places, "compute", asked.target)


def crossovers(frame: pd.DataFrame) -> list[str]:
    """A sentence a crossover, of many the first."""
    return few([crossover(row) for row in frame.itertuples()])


def crossover(row: Any) -> str:
    """From which compute one system is ahead of another."""
    place = f" on {row.fixed}" if row.kind == "architecture" else f" for {row.fixed}"
    place = "" if row.fixed == UNNAMED else place
    swap = f"{row.alternative} is ahead of {row.baseline}{place}"
    reach = f"{number(row.range_low)} to {number(row.range_high)} FLOPs"
    if math.isnan(row.compute):
        return f"{swap}: where it begins {UNDETERMINED}."
    if row.compute == 0:
        share = percent(row.p_none)
        return f"{swap} over all of {reach} (no crossing in {share} of draws)."
    if math.isinf(row.compute):
        share = percent(row.p_none)
        return f"{swap} nowhere from {reach} (no crossing in {share} of draws)."
    start = f"{swap} from {number(row.compute)} FLOPs on"
    if row.low == 0 and math.isinf(row.high):
        return f"{start} by the law, but where this begins {UNDETERMINED}."
    return f"{start} ({interval_text(row.low, row.high)})."


def draw_compute(figure: Figure, analysis: Analysis, target: str) -> None:
    """What each architecture swap is worth in compute, as compute grows."""
    frame = rows_of(analysis.multipliers, target)
    frame = frame[(frame.currency == "compute") & (frame.kind == "architecture")]
    frame = frame[frame.compute.notna() & (frame.fixed != "*")]
    if frame.empty or frame.compute.nunique() < 2:
        raise Nothing
    fixed = list(dict.fromkeys(frame.fixed))
    swaps = list(dict.fromkeys(zip(frame.baseline, frame.alternative, strict=True)))
    resize(figure, 3.0, 1.8 + 2.8 * max(2, len(fixed)))
    panels = panels_of(figure, 1, len(fixed), sharex=True)[0]
    limits = span(frame.factor.clip(upper=100), frame.low.clip(0.1, 1), [0.9, 2.2])
    for axes, level in zip(panels, fixed, strict=True):
        log_axis(axes.xaxis, lambda c: number(c, 1), span(frame.compute))
        factor_axis(axes, limits, upward=True)
        axes.set_title(trained(level).strip())
        for swap in swaps:
            mine = frame[
                (frame.fixed == level)
                & (frame.baseline == swap[0])
                & (frame.alternative == swap[1])
            ].sort_values("compute")
            banded(axes, mine.compute, mine.factor, mine, looks(swaps, swap))
    panels[0].set_ylabel("compute-equivalent gain\n(times the FLOPs)")
    figure.supxlabel("training FLOPs", fontsize=8.5)
    legend(figure, [key(f"{a} → {b}", *looks(swaps, (a, b))) for a, b in swaps], 4)


def _overall(view: View) -> pd.DataFrame:
    """The multipliers over all cells, where there are such."""
    every = view.analysis.multipliers
    overall = every[every.params.isna() & every.tokens.isna()]
    return every if overall.empty else overall


def findings(view: View) -> list[Finding]:
    """What swaps are worth in the most compute that was looked at."""
    frame = of_target(view.reported.multipliers, view.target)
    frame = frame[(frame.currency == "compute") & frame.compute.notna()]
    frame = frame[(frame.fixed != "*") & (frame.low > 0)]
    out = []
    keys = ["baseline", "alternative", "fixed"]
    for _, rows in frame.groupby(keys, sort=False):
        row = next(rows[rows.compute == rows.compute.max()].itertuples())
        way = f"the compute-optimal path, at {number(row.compute)} FLOPs"
        ends = interval_text(row.low, row.high)
        text = f"{number(row.factor)} times the FLOPs ({ends})"
        low, high = math.log(row.low), math.log(row.high)
        swap = (row.baseline, row.alternative, row.fixed)
        out.append(Finding(*swap, way, text, low, high, "compute", OWN_BEST))
    return out


OWN_BEST = "each side at its own best size for the FLOPs, so sizes and data differ"


QUESTION = Question(
    name="currencies",
    title="The same in parameters and in compute",
    place=40,
    absent=Absent("parameter- or compute-equivalents", ("multipliers",), ("effects",)),
    said=lambda view: crossovers(view.rows("crossovers")),
    findings=findings,
    figures={
        "compute": Drawing(
            draw_compute,
            "What an architecture swap is worth in compute, with both sides at their "
            "own compute-optimal split. Bands are 95% intervals.",
        )
    },
    about=("compute",),
    tables=(
        Table("Equivalents in parameters and in compute", _overall),
        Table("Crossovers", "crossovers"),
        Table("What each family cost: FLOPs and wall time", "costs"),
    ),
    compute=compute,
)
