"""One law for all: multipliers of families and corpora."""

from __future__ import annotations

from analysis.schema import Column, declare

FRAMES = (
    declare(
        "joint",
        "The parameters of the joint law.",
        "target law parameter",
        Column("kind", "shared, family or corpus: what the parameter belongs to"),
        Column("level", "the family or corpus"),
        "value low high",
        Column("bound", "whether it, or an end of its interval, is on a bound"),
        Column("reference", "whether it is 1 by definition"),
    ),
)
