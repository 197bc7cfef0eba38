"""Tuning: was every family given its best learning rate?"""

from __future__ import annotations

from analysis.schema import LOSS, Column, declare

FRAMES = (
    declare(
        "settings",
        "Every setting that varied in a cell.",
        "family corpus target params tokens",
        Column("unique_tokens", "different training tokens", "count"),
        Column("setting", "which one"),
        Column("value", "of the cell's best run, as text"),
        Column("tried", "how many values were tried"),
        Column("edge", "low or high where the best is the least or greatest tried"),
    ),
    declare(
        "tuning",
        "The loss of every learning rate tried.",
        "family corpus target params tokens learning_rate loss",
        Column("best", "whether it is the best of its cell"),
    ),
    declare(
        "rate_optima",
        "Of cells of two rates or more, the optimum of a quadratic in the log rate, or "
        "the best tried rate under a warning.",
        "family corpus target params tokens",
        Column("rates", "how many learning rates were tried"),
        "learning_rate loss",
        Column("tried_loss", "loss at the best tried rate", LOSS),
        Column("warning", "why the quadratic was not used, or empty"),
    ),
)
