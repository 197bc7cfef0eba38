"""Runs, and what was left out."""

from __future__ import annotations

from analysis.schema import Column, declare

FRAMES = (
    declare(
        "counts",
        "What became of the rows with a usable loss.",
        "target",
        Column("usable", "how many there are"),
        Column("repeated", "repeat data, for which these laws are not"),
        Column("aside", "of a largest cell that is set aside"),
        Column("other_settings", "not at their cell's best setting"),
        Column("fitted", "the rest, which the laws saw"),
    ),
    declare(
        "runs",
        "Every run that some target's fits may see or that `exclusions` names; a "
        "column loss:TARGET for each target follows.",
        "run_id family corpus",
        Column("size", "the size asked for, or its label"),
        "params",
        Column("params_total", "parameters with embeddings", "count"),
        "tokens",
        Column("unique_tokens", "different training tokens", "count"),
        Column("epochs", "tokens seen over different ones"),
        Column("quality", "share of the training text that is sound"),
        Column("damage", "what was done to the rest of it"),
        Column("flops", "training compute", "FLOPs"),
        Column("optimiser", "the update rule"),
        "learning_rate",
        Column("batch", "sequences of a step", "count"),
        Column("seed", "keys the initial weights"),
        Column("data_seed", "keys the order of the data"),
        Column("status", "done or diverged"),
        Column("trajectory", "runs that share one are resampled together"),
        Column("wall_seconds", "time of training", "s"),
        Column("used", "whether a fit saw it"),
    ),
    declare(
        "exclusions",
        "Every row that no fit saw, up to a limit for each reason and target.",
        "run_id target",
        Column("reason", "why it was left out"),
    ),
    declare(
        "excluded",
        "What was left out, counted; target is empty where it holds for all.",
        "target",
        Column("reason", "why, without what it quotes"),
        Column("rows", "how many rows it left out"),
        Column("listed", "how many of them `exclusions` has"),
        Column(
            "unnamed",
            "how many are not in `runs` either, each counted under its first reason",
        ),
    ),
)
