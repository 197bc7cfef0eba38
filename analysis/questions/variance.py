"""How much of the variance of the loss is each factor's: three ways, one declared box.

A share is a statement about a box of N and D and about the levels in the table, never
about a factor as such: double the range of N, and its share rises.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

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

COLUMNS = ("family", "corpus", "level", "budget")
# Resamples of the residuals behind the intervals of the raw runs' shares.
RESAMPLES = 400

Box = tuple[tuple[float, float], tuple[float, float]]


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    surfaces, target = asked.surfaces, asked.target
    box = box_of(surfaces.data.frame)
    levels = surfaces.families, surfaces.corpora
    return {
        "shares": measured_frame(asked.measured.places, target, asked.seed),
        "variance": variance_frame(asked.chosen.of_joint, *levels, box, target),
    }


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
    steps: int = 7,
) -> pd.DataFrame:
    """Shares of the variance of the fitted loss over a box of N and D, in nats.

    Families and corpora weigh the same each; ln N and ln D are uniform over the box.
    What does not vary has no row: of its share nothing is known, and not that it is 0.
    """
    sizes, budgets = (np.geomspace(*side, steps) for side in box)
    params, tokens = (x.ravel() for x in np.meshgrid(sizes, budgets, indexing="ij"))
    table: list[list[Array]] = [
        [surface(family, corpus, params, tokens) for corpus in corpora]
        for family in families
    ]
    values: Array = np.moveaxis(np.array(table), 2, 0)
    shares = shapley_effects(values.reshape(*values.shape[:3], steps, steps))
    if np.isnan(shares[0]).any():
        return pd.DataFrame()
    low, high = interval(shares[1:])
    levels = (len(families), len(corpora), len(set(box[0])), len(set(box[1])))
    frame = pd.DataFrame(
        {
            "target": target,
            "factor": FACTORS,
            "share": shares[0],
            "low": low,
            "high": high,
            "box": box_text(box),
        }
    )
    return frame[np.array(levels) > 1].reset_index(drop=True)


def measured_frame(cells: pd.DataFrame, target: str, seed: int) -> pd.DataFrame:
    """Shares of the variance of the measured loss over the cells themselves.

    Balanced cells (each family, corpus, size level and budget once): analysis of
    variance of type II, with omega squared (Hays 1963), main effects and the
    interactions of two, the rest being error. Otherwise: Shapley values of R squared of
    the main effects (Lindeman, Merenda and Gold 1980; Groemping 2007), which need no
    balance, and what no factor explains. Intervals resample the residuals of the
    model, so that the design stays what it is.

    Args:
      cells: one row a cell, of one target, with `level` (of size) and `budget`.
    """
    codes = {
        factor: pd.factorize(cells[column])[0]
        for factor, column in zip(FACTORS, COLUMNS, strict=True)
    }
    codes = {name: code for name, code in codes.items() if code.max(initial=0) > 0}
    if not codes or len(cells) < 8:
        return pd.DataFrame()
    counts = pd.DataFrame(codes).value_counts()
    full = math.prod(int(code.max()) + 1 for code in codes.values())
    balanced = len(counts) == full and counts.nunique() == 1
    terms = _terms(codes, interactions=balanced)
    made = _resampled(terms, cells.loss.to_numpy(np.float64), seed)
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


def _terms(codes: Mapping[str, Array], interactions: bool) -> dict[str, Array]:
    """Indicator columns [n, levels - 1] of each term, centred."""
    main = {}
    for name, code in codes.items():
        columns = (code[:, None] == np.arange(1, code.max() + 1)).astype(float)
        main[name] = columns - columns.mean(axis=0)
    out = dict(main)
    if interactions:
        for one, two in itertools.combinations(main, 2):
            product = main[one][:, :, None] * main[two][:, None, :]
            out[f"{one} x {two}"] = product.reshape(len(product), -1)
    return out


def _basis(columns: Sequence[Array], rows: int) -> Array:
    """Orthonormal basis [n, rank] of the mean and the columns."""
    stacked = np.concatenate([np.ones((rows, 1)), *columns], axis=1)
    u, s, _ = np.linalg.svd(stacked, full_matrices=False)
    return np.asarray(u[:, s > 1e-9 * s[0]])


def _left(columns: Sequence[Array], losses: Array) -> Array:
    """Residual sum of squares of each row of losses [B, n]."""
    basis = _basis(columns, losses.shape[1])
    residual = losses - (losses @ basis) @ basis.T
    return np.asarray((residual**2).sum(axis=1))


def _resampled(terms: Mapping[str, Array], loss: Array, seed: int) -> Array | None:
    """The losses, then the fit plus resampled residuals, [1 + RESAMPLES, n].

    None where the model leaves no freedom for residuals.
    """
    basis = _basis(list(terms.values()), loss.size)
    freedom = loss.size - basis.shape[1]
    if freedom < 1:
        return None
    fitted = basis @ (basis.T @ loss)
    residual = (loss - fitted) * math.sqrt(loss.size / freedom)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(residual, size=(RESAMPLES, loss.size))
    return np.concatenate([loss[None], fitted + drawn])


def omega_squared(terms: Mapping[str, Array], losses: Array) -> Array:
    """omega^2 of each term and what is left, [B, terms + 1]; type II sums of squares.

    A term's sum of squares is what it adds to all terms that do not contain it.
    omega^2 = (SS - df MS_error) / (SS_total + MS_error), not below zero.
    """
    size = losses.shape[1]
    rank = {name: _basis([x], size).shape[1] - 1 for name, x in terms.items()}
    error = _left(list(terms.values()), losses)
    mean_error = error / (size - 1 - sum(rank.values()))
    total = ((losses - losses.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    shares = []
    for name in terms:
        without = [
            x
            for other, x in terms.items()
            if not set(name.split(" x ")) <= set(other.split(" x "))
        ]
        gained = _left(without, losses) - _left([*without, terms[name]], losses)
        share = (gained - rank[name] * mean_error) / (total + mean_error)
        shares.append(np.maximum(share, 0.0))
    return np.stack([*shares, 1.0 - np.sum(shares, axis=0)], axis=1)


def shapley_r2(terms: Mapping[str, Array], losses: Array) -> Array:
    """Shapley values of R^2 of each term and what no term explains, [B, terms + 1]."""
    columns = list(terms.values())
    total = ((losses - losses.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)

    def explained(chosen: frozenset[int]) -> Array:
        return 1.0 - _left([columns[k] for k in sorted(chosen)], losses) / total

    shares = shapley(explained, len(columns))
    return np.concatenate([shares, 1.0 - shares.sum(axis=1, keepdims=True)], axis=1)


def named(factor: str) -> str:
    """A factor, or several that go together, as a sentence has it."""
    return factor.replace("params", "parameters")


def sentence(frame: pd.DataFrame) -> str:
    """Which factor carries most of the variance, if the intervals decide it."""
    ordered = frame.sort_values("share", ascending=False)
    rows = list(ordered.itertuples())
    shares = joined(
        f"{named(row.factor)} {percent(row.share)} "
        f"({percent(row.low)} to {percent(row.high)})"
        for row in rows
    )
    box = f" over {rows[0].box}" if rows[0].box else ""
    if len(rows) == 1:
        return f"Share of the variance of the loss{box}: {shares}."
    if rows[0].low > max(row.high for row in rows[1:]):
        first = named(rows[0].factor)
        return f"Most of the variance of the loss{box} is due to {first}: {shares}."
    return (
        f"Which factor carries most of the variance of the loss{box} "
        f"{UNDETERMINED}: {shares}."
    )


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
    forest_axis(axes, factors, range(len(factors)))
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
    forest_axis(axes, list(frame.factor), range(len(frame)))


def said(view: View) -> list[str]:
    mine = of_target(view.analysis.variance, view.target)
    return [sentence(mine), *fixed(mine)] if len(mine) else []


def fixed(frame: pd.DataFrame) -> list[str]:
    """Which factors did not vary, so that the variance cannot be split among them."""
    alike = [name for name in FACTORS if name not in set(frame.factor)]
    if not alike:
        return []
    what = "them" if len(alike) > 1 else "it"
    return [
        f"{capitalised(joined(map(named, alike)))} did not vary: what share of the "
        f"variance would be due to {what} {UNDETERMINED}."
    ]


# What a factor is called on the front page.
PLAIN = {
    "architecture": "the architecture",
    "corpus": "the text trained on",
    "params": "the size of the model",
    "tokens": "the amount of data",
}


def plain_shares(analysis: Analysis, target: str) -> pd.DataFrame:
    """Shares of the factors themselves, the largest first: measured, or by the law."""
    measured = of_target(analysis.shares, target)
    frame = measured if len(measured) else of_target(analysis.variance, target)
    frame = frame[frame.factor.isin(FACTORS)]
    return frame.sort_values("share", ascending=False, kind="stable")


def answers(view: View) -> list[Sentence]:
    """What moves the loss most, if the intervals decide it, for the front page."""
    rows = list(plain_shares(view.analysis, view.target).itertuples())
    if len(rows) < 2:
        return []
    told = [f"{PLAIN[row.factor]} {percent(row.share)}" for row in rows]
    first, second = rows[:2]
    said = joined(told[1:])
    ends = f"{percent(first.low)} to {percent(first.high)}"
    if first.low > max(row.high for row in rows[1:]):
        most = "most of" if first.low > 0.5 else "the largest part of"
        text = (
            f"{capitalised(most)} the differences in loss between these runs is "
            f"explained by {PLAIN[first.factor]}: {percent(first.share)} ({ends}). "
            f"The rest: {said}"
        )
    else:
        pair = f"{PLAIN[first.factor]} or {PLAIN[second.factor]}"
        text = f"Which moves the loss more here, {pair}, {UNDETERMINED}: {joined(told)}"
        text += " of the differences between runs"
    fixed = [PLAIN[name] for name in FACTORS if name not in {r.factor for r in rows}]
    if fixed:
        text += f". {capitalised(joined(fixed))} did not vary"
    return [Sentence(f"{text}.", 90, FRONT)]


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
