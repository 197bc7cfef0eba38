"""Seeds: the noise level beside the lack of fit."""

from __future__ import annotations

from analysis.schema import Column, declare

FRAMES = (
    declare(
        "noise",
        "The spread between seeds of a cell.",
        "family corpus target params tokens",
        Column("seeds", "how many there are"),
        Column("sd_log", "standard deviation of log loss between them"),
    ),
    declare(
        "fitness",
        "How far the runs lie from the leading law, beside the noise of seeds.",
        "target",
        Column("lack_of_fit", "standard deviation of the log residuals"),
        Column("seed_noise", "pooled standard deviation of log loss between seeds"),
        Column("ratio", "the first over the second"),
        "law",
        Column("runs", "how many runs the law saw"),
        Column("box", "the range of their N and D"),
    ),
    declare(
        "seed_checks",
        "The leading law's fitted density beside the seeds.",
        "target law",
        Column("sd_density", "standard deviation of the fitted density"),
        Column("sd_seeds", "standard deviation between seeds"),
        Column("freedom", "degrees of freedom of the seeds"),
        Column("ratio", "the first over the second"),
        "low high",
    ),
)
