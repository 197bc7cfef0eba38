"""How much of the variance of the loss is each factor's: three ways, one declared box.

A share is a statement about a box of N and D and about the levels in the table, never
about a factor as such: double the range of N, and its share rises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.design.swaps import Described
from analysis.effects.anova import omega_squared, resampled, shapley_r2, terms_of
from analysis.effects.data_equivalents import Surface
from analysis.effects.shapley import FACTORS, shapley
from analysis.formatting import UNDETERMINED, capitalised, count, joined, percent
from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.questions._question import FRONT, Drawing, Placed, Question, Sentence
from analysis.questions._view import View, of_target
from analysis.report import markup
from analysis.report.style import (
    PALETTE,
    forest_axis,
    key,
    legend,
    looks,
    ordered,
    resize,
    rows_of,
    share_axis,
    tint,
    whisker,
)
from analysis.results import Analysis
from analysis.schema import Column, declare

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "variance",
        "Share of the variance of the modelled loss over a box of sizes and budgets.",
        "target",
        Column("factor", "the factor"),
        Column("share", "its share"),
        "low high",
        Column("box", "the range of N and D that is meant"),
    ),
    declare(
        "shares",
        "Share of the variance of the measured losses.",
        "target",
        Column("factor", "a factor, a pair of factors, or unexplained"),
        Column("share", "its share"),
        "low high",
        Column("method", "type II, omega squared; or Shapley R2"),
        Column("cells", "how many cells"),
        Column("box", "the range of N and D that is meant"),
    ),
)

# The columns of a cell's size level and budget.
SIZES = {"params": "level", "tokens": "budget"}

Box = tuple[tuple[float, float], tuple[float, float]]


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    surfaces, target = asked.surfaces, asked.target
    box = box_of(surfaces.data.frame)
    levels, described = (surfaces.families, surfaces.corpora), asked.measured.described
    law = variance_frame(asked.chosen.of_joint, *levels, box, target, described)
    places = asked.measured.places
    return {
        "shares": measured_frame(places, target, asked.seed, described),
        "variance": law,
    }


def _factors(
    column: str, levels: Sequence[str], described: Described
) -> dict[str, Array]:
    """The factors that a column's levels are made of, each with a code [n] a level.

    A table that varies the optimiser has it folded into its families ("gru, adam");
    here the two are told apart again.
    """
    meaning = described.get(column)
    name = {"family": "architecture"}.get(column, column)
    parts = [dict(meaning[x]) if meaning else {name: x} for x in levels]
    return {
        factor: pd.factorize(np.array([part[factor] for part in parts], object))[0]
        for factor in parts[0]
    }


def _axes(
    column: str, levels: Sequence[str], described: Described
) -> tuple[list[str], Array]:
    """Names of the axes that a column's levels span, and its levels on their grid.

    Where some combination of the factors was not run there is no grid: one axis then
    stands for all of them together.
    """
    codes = _factors(column, levels, described)
    shape = [int(code.max()) + 1 for code in codes.values()]
    if math.prod(shape) != len(levels):
        return [" and ".join(codes)], np.arange(len(levels))
    grid = np.zeros(shape, int)
    grid[tuple(codes.values())] = np.arange(len(levels))
    return list(codes), grid


def shapley_effects(values: Array) -> Array:
    """Shares of the variance of a full table by axis, [B, ...] -> [B, axes].

    Shapley values of the game in which a set of axes earns the variance of the mean
    over all other axes (closed Sobol index; Song, Nelson and Staum 2016, "Shapley
    effects for global sensitivity analysis"); they add up to 1. All cells of the table
    weigh the same.
    """
    axes = range(1, values.ndim)

    def explained(chosen: frozenset[int]) -> Array:
        others = tuple(a for a in axes if a - 1 not in chosen)
        mean = values.mean(axis=others, keepdims=True)
        return np.asarray(mean.reshape(len(values), -1).var(axis=1))

    total = values.reshape(len(values), -1).var(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return shapley(explained, len(axes)) / total[:, None]


def box_of(frame: pd.DataFrame) -> Box:
    """The range of N and D of the fitted runs."""
    low, high = frame[["params", "tokens"]].min(), frame[["params", "tokens"]].max()
    return (low.params, high.params), (low.tokens, high.tokens)


def box_text(box: Box) -> str:
    (n_low, n_high), (d_low, d_high) = box
    size = f"{count(n_low)} to {count(n_high)} parameters"
    return f"{size}, {count(d_low)} to {count(d_high)} tokens"


def variance_frame(
    surface: Surface,
    families: Sequence[str],
    corpora: Sequence[str],
    box: Box,
    target: str,
    described: Described | None = None,
    steps: int = 7,
) -> pd.DataFrame:
    """Shares of the variance of the fitted loss over a box of N and D, in nats.

    Families and corpora weigh the same each; ln N and ln D are uniform over the box.
    What does not vary has no row: of its share nothing is known, and not that it is 0.

    Args:
      described: what families and corpora are made of, as `factors.fold` gives it.
    """
    sizes, budgets = (np.geomspace(*side, steps) for side in box)
    params, tokens = (x.ravel() for x in np.meshgrid(sizes, budgets, indexing="ij"))
    table: list[list[Array]] = [
        [surface(family, corpus, params, tokens) for corpus in corpora]
        for family in families
    ]
    values: Array = np.moveaxis(np.array(table), 2, 0)
    of_family, families_grid = _axes("family", families, described or {})
    of_corpus, corpora_grid = _axes("corpus", corpora, described or {})
    values = values[:, families_grid.ravel()][:, :, corpora_grid.ravel()]
    shape = (*families_grid.shape, *corpora_grid.shape, steps, steps)
    shares = shapley_effects(values.reshape(len(values), *shape))
    if np.isnan(shares[0]).any():
        return pd.DataFrame()
    low, high = interval(shares[1:])
    levels = (*shape[:-2], len(set(box[0])), len(set(box[1])))
    frame = pd.DataFrame(
        {
            "target": target,
            "factor": [*of_family, *of_corpus, "params", "tokens"],
            "share": shares[0],
            "low": low,
            "high": high,
            "box": box_text(box),
        }
    )
    return frame[np.array(levels) > 1].reset_index(drop=True)


def measured_frame(
    cells: pd.DataFrame, target: str, seed: int, described: Described | None = None
) -> pd.DataFrame:
    """Shares of the variance of the measured loss over the cells themselves.

    Balanced cells (each family, corpus, size level and budget once): analysis of
    variance of type II, with omega squared (Hays 1963), main effects and the
    interactions of two, the rest being error. Otherwise: Shapley values of R squared of
    the main effects (Lindeman, Merenda and Gold 1980; Groemping 2007), which need no
    balance, and what no factor explains. Intervals resample the residuals of the
    model, so that the design stays what it is.

    Args:
      cells: one row a cell, of one target, with `level` (of size) and `budget`.
      described: as in `variance_frame`.
    """
    if cells.empty:
        return pd.DataFrame()
    codes = {
        factor: code
        for column in ("family", "corpus")
        for factor, code in _factors(
            column, list(cells[column]), described or {}
        ).items()
    }
    codes |= {name: pd.factorize(cells[of])[0] for name, of in SIZES.items()}
    codes = {name: code for name, code in codes.items() if code.max(initial=0) > 0}
    if not codes or len(cells) < 8:
        return pd.DataFrame()
    counts = pd.DataFrame(codes).value_counts()
    full = math.prod(int(code.max()) + 1 for code in codes.values())
    balanced = len(counts) == full and counts.nunique() == 1
    terms = terms_of(codes, interactions=balanced)
    made = resampled(terms, cells.loss.to_numpy(np.float64), seed)
    if made is None:
        return pd.DataFrame()
    shares = omega_squared(terms, made) if balanced else shapley_r2(terms, made)
    low, high = interval(shares[1:])
    method = "type II, omega squared" if balanced else "Shapley R2"
    return pd.DataFrame(
        {
            "target": target,
            "factor": [*terms, "unexplained"],
            "share": shares[0],
            "low": low,
            "high": high,
            "method": method,
            "cells": len(cells),
            "box": box_text(box_of(cells)),
        }
    )


# What a factor is called in sentences and figures.
PLAIN = {
    "architecture": "the architecture",
    "optimiser": "the optimiser",
    "corpus": "the text trained on",
    "quality": "the quality of the text",
    "params": "the size of the model",
    "tokens": "the amount of data",
}


def named(factor: str) -> str:
    """A factor, or several that go together, as a sentence has it."""
    return joined(PLAIN.get(part, part) for part in factor.split(" and "))


def _label(factor: str) -> str:
    """A factor, a pair of factors or the rest, as a figure has it."""
    parts = (named(part).removeprefix("the ") for part in factor.split(" x "))
    return " × ".join(parts)


def sentence(frame: pd.DataFrame) -> str:
    """Which factor carries most of the variance, if the intervals decide it."""
    ordered = frame.sort_values("share", ascending=False)
    rows = list(ordered.itertuples())
    shares = joined(f"{named(row.factor)} {_share(row)}" for row in rows)
    box = f" over {rows[0].box}" if rows[0].box else ""
    if len(rows) == 1:
        return f"Share of the variance of the loss{box}: {shares}."
    if rows[0].low > max(row.high for row in rows[1:]):
        first = named(rows[0].factor)
        most = "Most" if rows[0].low > 0.5 else "The largest part"
        return f"{most} of the variance of the loss{box} is due to {first}: {shares}."
    return (
        f"Which factor carries most of the variance of the loss{box} "
        f"{UNDETERMINED}: {shares}."
    )


def _share(row: Any) -> str:
    """A share with its interval, which shows nothing where all of it is under 1%."""
    low, high = percent(row.low), percent(row.high)
    rare = low == high and low.startswith("under")
    return percent(row.share) + ("" if rare else f" ({low} to {high})")


def draw_variance(figure: Figure, analysis: Analysis, target: str) -> None:
    """Shares of the variance of the loss by factor, on each target."""
    rows_of(analysis.variance, target)
    frame = analysis.variance
    targets = [target, *(t for t in ordered(frame.target) if t != target)]
    factors = ordered(frame[frame.target == target].factor)
    resize(figure, 1.0 + (0.16 + 0.17 * len(targets)) * len(factors))
    axes = figure.subplots()
    height = 0.8 / len(targets)
    share_axis(axes, frame, "share of the variance of the loss")
    for k, name in enumerate(targets):
        colour, marker, _ = looks(targets, name)
        mine = frame[frame.target == name].set_index("factor").reindex(factors)
        ys = np.arange(len(factors)) - 0.4 + height * (k + 0.5)
        axes.barh(ys, mine.share, 0.86 * height, color=tint(colour, 0.55))
        for y, row in zip(ys, mine.to_dict("records"), strict=True):
            whisker(axes, y, row | {"value": row["share"]}, colour, marker)
    forest_axis(axes, [_label(factor) for factor in factors], range(len(factors)))
    if len(targets) > 1:
        legend(figure, [key(f"on {t}", *looks(targets, t)[:2]) for t in targets])


def draw_shares(figure: Figure, analysis: Analysis, target: str) -> None:
    """Shares of the variance of the measured losses, with what is unexplained."""
    frame = rows_of(analysis.shares, target)
    resize(figure, 0.9 + 0.24 * len(frame))
    axes = figure.subplots()
    share_axis(axes, frame, "share of the variance of the measured losses")
    for y, row in enumerate(frame.to_dict("records")):
        axes.barh(y, row["share"], 0.6, color="#bcd8ea")
        whisker(axes, y, row | {"value": row["share"]}, PALETTE[0], "o")
    forest_axis(axes, [_label(factor) for factor in frame.factor], range(len(frame)))


def said(view: View) -> list[str]:
    mine = of_target(view.analysis.variance, view.target)
    return [sentence(mine), *fixed(view.analysis, mine)] if len(mine) else []


def fixed(analysis: Analysis, frame: pd.DataFrame) -> list[str]:
    """Which factors did not vary, so that nothing is known of their share."""
    known = {part for factor in frame.factor for part in factor.split(" and ")}
    alike = [name for name in (*FACTORS, "optimiser") if name not in known]
    used = analysis.runs[analysis.runs.used.astype(bool)]
    named_ones = used.get("optimiser", pd.Series(dtype=str)).astype(str)
    optimisers = set(named_ones) if "optimiser" in alike else set()
    unnamed = optimisers <= {""}
    if unnamed or len(optimisers) > 1:
        alike = [name for name in alike if name != "optimiser"]
    parts = [f"{joined(map(named, alike))} did not vary"] if alike else []
    if optimisers and unnamed:
        parts.append("the table does not name the optimiser")
    one = len(alike) + len(parts) - bool(alike) == 1
    they = "it explains" if one else "they explain"
    out = (
        [f"{capitalised(joined(parts))}: how much {they} is unknown."] if parts else []
    )
    if not unnamed and len(optimisers) > 1:
        out.append(
            f"The optimiser has {len(optimisers)} values and is not separated from the "
            "other factors."
        )
    return out


def plain_shares(analysis: Analysis, target: str) -> pd.DataFrame:
    """Shares of the factors themselves, the largest first: measured, or by the law."""
    measured = of_target(analysis.shares, target)
    frame = measured if len(measured) else of_target(analysis.variance, target)
    parts = (str(factor).split(" and ") for factor in frame.factor)
    frame = frame[np.array([set(some) <= set(PLAIN) for some in parts], bool)]
    return frame.sort_values("share", ascending=False, kind="stable")


def answers(view: View) -> list[Sentence]:
    """What moves the loss most, if the intervals decide it, for the front page."""
    plain = plain_shares(view.analysis, view.target)
    rows = list(plain.itertuples())
    if len(rows) < 2:
        return []
    shares = [f"{named(row.factor)} {percent(row.share)}" for row in rows]
    first, second = rows[:2]
    if first.low > max(row.high for row in rows[1:]):
        most = "most of" if first.low > 0.5 else "the largest part of"
        text = (
            f"{capitalised(most)} the variation in loss between these runs is "
            f"explained by {named(first.factor)}: {_share(first)}. "
            f"Then {'come' if len(shares) > 2 else 'comes'} {joined(shares[1:])}."
        )
    else:
        pair = f"{named(first.factor)} or {named(second.factor)}"
        text = (
            f"Which moves the loss more here, {pair}, {UNDETERMINED}: {joined(shares)}"
        )
        text += " of the variation between runs."
    text = " ".join([text, *fixed(view.analysis, plain)])
    return [Sentence(text, 90, FRONT)]


def _built(view: View, figure: Placed) -> str:
    analysis = view.analysis
    if analysis.variance.empty:
        return markup.absent(analysis, "shares of variance", "variance")
    box = "The shares hold for the stated range of sizes and budgets alone."
    return "".join(
        [
            markup.paragraph(*said(view)),
            figure("variance"),
            markup.about(analysis, "variance"),
            markup.table(analysis.variance, box),
            figure("shares"),
            markup.fold("Shares of the measured losses", analysis.shares),
        ]
    )


QUESTION = Question(
    name="variance",
    title="Share of the variance by factor",
    place=130,
    said=said,
    answers=answers,
    figures={
        "variance": Drawing(
            draw_variance,
            "Share of the variance of the loss by factor, over the box of sizes and "
            "budgets stated in the table; lines are 95% intervals.",
        ),
        "shares": Drawing(
            draw_shares,
            "Share of the variance of the measured losses by factor and by pairs of "
            "factors, with what stays unexplained.",
        ),
    },
    build=_built,
    compute=compute,
)
