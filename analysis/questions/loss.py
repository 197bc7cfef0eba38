"""Loss against data."""

from __future__ import annotations

from analysis.schema import LOSS, Column, declare

FRAMES = (
    declare(
        "cells",
        "The best run of each family, corpus, size and budget.",
        "family corpus target params",
        Column("params_total", "parameters with embeddings", "count"),
        "tokens",
        Column("unique_tokens", "different training tokens", "count"),
        Column("epochs", "tokens seen over different ones"),
        Column("flops", "training compute", "FLOPs"),
        "loss",
        Column("se", "standard error by documents", LOSS),
        "learning_rate",
        Column("batch", "sequences of a step", "count"),
        Column("rates", "how many learning rates were tried"),
        Column("settings", "how many other settings were tried, the batch among them"),
        Column(
            "edge",
            "low or high where the best rate is at that end of a grid of two or more",
        ),
        Column("seeds", "how many runs the best setting has"),
        "run_id",
    ),
    declare(
        "curves",
        "The fitted law on a fine grid of tokens for each size, for drawing.",
        "family corpus target params tokens loss low high law",
    ),
)
