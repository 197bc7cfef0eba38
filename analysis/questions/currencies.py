"""What a swap is worth in parameters and in compute."""

from __future__ import annotations

from analysis.schema import Column, declare

FRAMES = (
    declare(
        "multipliers",
        "The swaps of `equivalents` in other currencies.",
        "kind source to held target",
        Column(
            "currency",
            "params (at the same N and D) or compute (along the compute-optimal path "
            "of both, at `compute`)",
        ),
        "params tokens compute",
        Column("factor", "factor on the currency of `source` for the loss of `to`"),
        "low high p_infinite",
    ),
    declare(
        "crossovers",
        "From how much compute on the one swapped in is the better.",
        "kind source to held target",
        Column("compute", "0 where it always is, infinite where it never is", "FLOPs"),
        "low high",
        Column("p_none", "share of draws without a crossing within the range"),
        Column("range_low", "least compute looked at", "FLOPs"),
        Column("range_high", "most compute looked at", "FLOPs"),
    ),
    declare(
        "costs",
        "What a swap costs on matched cells, beside its overall data-equivalent.",
        "kind source to target",
        Column("cells", "how many matched cells"),
        Column("flops_ratio", "FLOPs of `to` over those of `source`"),
        Column("flops_low", "lower end of its 95% interval"),
        Column("flops_high", "upper end of its 95% interval"),
        Column("wall_ratio", "wall time of `to` over that of `source`"),
        Column("wall_low", "lower end of its 95% interval"),
        Column("wall_high", "upper end of its 95% interval"),
        "factor low high p_infinite",
    ),
)
