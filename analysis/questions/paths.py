"""Loss curves of all runs."""

from __future__ import annotations

from analysis.schema import LOSS, Column, declare

FRAMES = (
    declare(
        "paths",
        "Training-loss curves, thinned.",
        "run_id",
        Column("step", "training step"),
        "tokens",
        Column("loss", "training loss at that step", LOSS),
    ),
)
