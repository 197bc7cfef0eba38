"""What a frame of results holds: its columns, each with its unit and its meaning.

A question declares its frames once, beside the code that fills them, as `FRAMES`; the
Analysis, the JSON, the report's tables and `Analysis.describe` read them from there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a frame.

    Attributes:
      meaning: for a reader who sees the column's name alone.
      unit: "" for names, shares, counts of things and ratios.
    """

    name: str
    meaning: str
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Frame:
    """A table of results, by the name that it has in an Analysis.

    Attributes:
      more: columns that the table's own make may follow, as its meaning says.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    more: bool = False

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def join(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """One frame of all parts, with these columns; empty ones have them too.

        Columns of numbers and None, where a fit was refused, become float64 with NaN.
        """
        frame = stacked(parts)
        if frame.empty:
            return pd.DataFrame(columns=self.names, dtype=float)
        names = self.names
        if self.more:
            names += [name for name in frame if name not in names]
        return frame.reindex(columns=names).apply(_typed)


def stacked(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One frame of all parts that have rows, with all of their columns.

    Empty ones are left out: their columns have no type that would be right.
    """
    filled = [part for part in parts if not part.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _typed(column: pd.Series) -> pd.Series:
    if column.dtype != object or column.map(type).isin((str, bool, np.bool_)).any():
        return column
    return column.astype(float)


LOSS = "unit of the losses"
# Columns that mean the same wherever they stand.
COMMON = {
    column.name: column
    for column in (
        Column("run_id", "the run"),
        Column("family", "the model family; * for the law of all"),
        Column("corpus", "what was trained on; * for the law of all"),
        Column("target", "the evaluation set that losses are read on"),
        Column("law", "the law, a file of analysis/laws or a name in `models`"),
        Column("params", "parameters without embeddings", "count"),
        Column("tokens", "training tokens seen", "count"),
        Column("unique_tokens", "unique training tokens", "count"),
        Column("probes", "the probe set that predictions are compared at"),
        Column("reported", "whether it is at the place that sentences are about"),
        Column("loss", "measured or fitted loss", LOSS),
        Column("compute", "training compute", "FLOPs"),
        Column("low", "lower end of the 95% interval"),
        Column("high", "upper end of the 95% interval"),
        Column("kind", "what is swapped: architecture, corpus or another factor"),
        Column("baseline", "what is swapped out"),
        Column("alternative", "what is swapped in"),
        Column("fixed", "the level of the other factor; * over all of them"),
        Column(
            "factor",
            "factor on the data of `baseline` that gives the loss of `alternative`",
        ),
        Column("p_infinite", "share of draws in which no amount is enough"),
        Column("learning_rate", "learning rate"),
        Column("parameter", "the parameter, as in the law's equation"),
        Column("value", "its estimate"),
        Column(
            "method",
            "how it was estimated; of effects: preferred (by a law that widens the "
            "joint one, where the fitted runs prefer it by more than 4 AICc), joint, "
            "family, paired",
        ),
        Column(
            "fitted",
            "whether every family and corpus has fitted runs at least as large, so "
            "that the row is no extrapolation",
        ),
    )
}


# What a reader sees over a column; every other column reads as its name does.
HEADINGS = {
    "above": "loss above the first",
    "aicc": "AICc",
    "agrees": "intervals overlap",
    "anchor": "run of n-grams",
    "aside": "set aside",
    "at": "compared at",
    "beyond": "beyond the null",
    "bic": "BIC",
    "bound": "on a bound",
    "box": "range",
    "by_params": "power of size",
    "by_tokens": "power of tokens",
    "ceiling": "of two seeds",
    "chance": "by chance",
    "check": "loss less entropy and KL",
    "check_se": "its standard error",
    "chosen": "share of draws chosen",
    "closed": "fall of the shortfall",
    "condition": "condition number",
    "copied": "copies of what was read",
    "copied_other": "copies of the other half",
    "data_needed": "times the data needed",
    "delta": "Huber threshold",
    "delta_aicc": "ΔAICc",
    "delta_bic": "ΔBIC",
    "differs": "differs from zero",
    "distance_bits": "distance in bits",
    "edge": "at the edge of its grid",
    "ensemble": "loss of the ensemble",
    "entropy_se": "its standard error",
    "error": "RMS log error",
    "excess_bits": "excess in bits",
    "factor": "factor",
    "first": "at the first",
    "fit_params": "law read at parameters",
    "fit_tokens": "law read at tokens",
    "fitted": "within the fit",
    "fixed": "held fixed",
    "flagged": "outlier",
    "flops": "FLOPs",
    "flops_ratio": "FLOPs, ratio",
    "freedom": "degrees of freedom",
    "from_x": "from",
    "given": "explained by n-grams",
    "high": "95% high",
    "high_90": "90% high",
    "identified": "share of draws identified",
    "information": "bits told",
    "inside": "inside the interval",
    "kl": "KL from the truth",
    "lambda": "Λ",
    "last": "at the last",
    "log_ratio": "change of ln loss",
    "low": "95% low",
    "low_90": "90% low",
    "lowest": "lowest loss",
    "margin_high": "margin, upper end",
    "margin_low": "margin, lower end",
    "measured": "change of ln loss, measured",
    "model_high": "by the law, 95% high",
    "model_low": "by the law, 95% low",
    "modelled": "change of ln loss, by the law",
    "most": "bits of the label",
    "near_other": "nearest of the other half",
    "nearer": "nearer to what was read",
    "null_high": "highest null",
    "objective_gap": "objective above the best start",
    "once": "gap after one epoch",
    "one_run": "of single runs",
    "other_alternative": "other, swapped in",
    "other_baseline": "other, swapped out",
    "other_kind": "other swap exchanges",
    "other_params": "its parameters",
    "other_loss": "its loss",
    "own": "on the target's own text",
    "p": "p-value",
    "p_architecture": "P(|architecture| > |corpus|)",
    "p_architecture_infinite": "P(architecture ∞)",
    "p_best": "P(best)",
    "p_corpus_infinite": "P(corpus ∞)",
    "p_doubling": "P(more than a doubling)",
    "p_infinite": "P(∞)",
    "p_larger": "P(moves the line more)",
    "p_none": "P(no crossing)",
    "params": "parameters",
    "params_total": "parameters with embeddings",
    "permuted": "with permuted labels",
    "psnr": "PSNR",
    "r2": "R²",
    "range_high": "most compute looked at",
    "range_low": "least compute looked at",
    "raw_null": "correlation at other noises",
    "refused": "why not",
    "reading": "read at",
    "reported": "stated in the report",
    "residual": "ln observed less ln predicted",
    "right": "share predicted right",
    "rmse_log": "RMS log error",
    "rows": "rows",
    "rung": "class of swaps",
    "same_budget": "at equal budget",
    "scatter": "scatter of seeds",
    "sd_density": "sd of the fitted density",
    "sd_log": "sd of ln loss",
    "sd_seeds": "sd of seeds",
    "se": "standard error",
    "seed_noise": "sd of seeds",
    "settings": "settings tried",
    "small_params": "parameters of the smallest cell",
    "small_rank": "rank in the smallest cell",
    "small_tokens": "tokens of the smallest cell",
    "starts_agreeing": "starts that agree",
    "started": "began with other weights",
    "stated": "when it was stated",
    "step": "last step",
    "target": "scored on",
    "tends": "shortfall in the limit",
    "threshold": "95% quantile",
    "to_x": "to",
    "tried_loss": "loss at the best tried rate",
    "truth": "true loss",
    "unnamed": "not named",
    "usable": "has a loss that can be used",
    "used": "seen by a fit",
    "wall_ratio": "wall time, ratio",
    "wall_seconds": "wall time (s)",
}
# Ends of the interval of the column that they stand behind.
ENDS = {"_low": "95% low", "_high": "95% high"}
ENDS |= {"_low_90": "90% low", "_high_90": "90% high"}


def heading(name: str) -> str:
    """What the page has over a column; CSV and JSON keep the column's name.

    >>> heading("params_total"), heading("excess_low_90"), heading("loss:code")
    ('parameters with embeddings', 'excess, 90% low', 'loss on code')
    """
    if name in HEADINGS:
        return HEADINGS[name]
    for end, said in ENDS.items():
        if name.endswith(end):
            return f"{heading(name.removesuffix(end))}, {said}"
    kind, colon, rest = name.partition(":")
    if colon:
        return f"{kind} on {rest}" if kind == "loss" else rest
    return name.replace("_", " ")


def measured(name: str, meaning: str, unit: str = "") -> tuple[Column, Column, Column]:
    """A value and the ends of its 95% interval, NAME_low and NAME_high."""
    return (
        Column(name, meaning, unit),
        Column(f"{name}_low", "lower end of its 95% interval", unit),
        Column(f"{name}_high", "upper end of its 95% interval", unit),
    )


def declare(
    name: str, meaning: str, *columns: str | Column, more: bool = False
) -> Frame:
    """A frame; a string names columns of COMMON, separated by spaces."""
    chosen: list[Column] = []
    for column in columns:
        if isinstance(column, Column):
            chosen.append(column)
        else:
            chosen += [COMMON[word] for word in column.split()]
    return Frame(name, meaning, tuple(chosen), more)


def frames() -> dict[str, Frame]:
    """Every frame of every question, by name, those of included files too.

    Raises:
      ValueError: two questions declare frames of one name.
    """
    from analysis import questions

    return _frames(questions.key())


@functools.cache
def _frames(included: object) -> dict[str, Frame]:
    from analysis import questions

    known: dict[str, Frame] = {}
    for file in questions.files():
        for frame in getattr(file, "FRAMES", ()):
            if frame.name in known:
                raise ValueError(f"two questions declare the frame {frame.name!r}")
            known[frame.name] = frame
    return known
