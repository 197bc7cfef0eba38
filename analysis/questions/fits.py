"""The law of each family and corpus."""

from __future__ import annotations

from analysis.schema import Column, declare

FRAMES = (
    declare(
        "fits",
        "The fitted parameters of each law.",
        "family corpus target law parameter value low high",
        Column("bound", "whether it, or an end of its interval, is on a bound"),
        Column("params", "the size, of a law at one size; else NaN", "count"),
    ),
    declare(
        "quality",
        "How well each law fits, one row a fit.",
        "family corpus target law",
        Column("runs", "how many runs it was fitted to"),
        Column("objective", "Huber loss of the log residuals, the sum"),
        Column("gradient_norm", "norm of its gradient at the estimate"),
        Column("gap", "objective above the best of all starts"),
        Column("agree", "share of the starts that end at the best"),
        Column("condition", "condition number of the curvature"),
        Column("r2", "share of the variance of log loss"),
        Column("rmse_log", "root mean square of the log residuals"),
        Column("identified", "share of draws that could identify the law"),
        Column("flag", "doubts about the fit, or empty"),
        Column("params", "the size, of a law at one size; else NaN", "count"),
    ),
)
