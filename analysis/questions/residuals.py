"""What the laws miss: residuals of the fits."""

from __future__ import annotations

from analysis.schema import LOSS, Column, declare

FRAMES = (
    declare(
        "residuals",
        "Measured against fitted loss of every run that a law was fitted to.",
        "family corpus target params tokens",
        Column("observed", "measured loss", LOSS),
        Column("predicted", "fitted loss", LOSS),
        Column("residual", "log observed less log predicted"),
        "law",
    ),
)
