"""The best size at each compute, by methods that know no law, beside the law's path."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.effects.frontier import Rate
from analysis.formatting import count, interval_text, joined, levels_text, number, on
from analysis.inference.verdict import ENDS
from analysis.questions._question import Absent, Drawing, Question, Table
from analysis.questions._view import View
from analysis.report.style import (
    INK,
    Nothing,
    corpora_of,
    families_of,
    key,
    legend,
    log_axis,
    looks,
    panels_of,
    resize,
    rows_of,
    span,
    trained,
)
from analysis.results import Analysis
from analysis.schema import Column, declare, measured
from analysis.surfaces import best_sizes
from analysis.surfaces.best_sizes import Optima
from analysis.surfaces.surfaces import Surfaces
from scaling.errors import UserError

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "optima",
        "Compute-optimal sizes without a law.",
        "family corpus target",
        Column("law", "the law that they stand beside"),
        Column("method", "parabola, interpolation or envelope"),
        "compute",
        *measured("params", "best size; NaN where the budget shows none", "count"),
        "tokens loss",
        Column("sizes", "how many the budget has"),
        Column("warning", "what is wrong with the budget, or empty"),
    ),
    declare(
        "powers",
        "Power laws of the optima in compute.",
        "family corpus target",
        Column("law", "the law that they stand beside"),
        Column("method", "parabola, interpolation, envelope or law"),
        Column("of", "params or tokens"),
        Column("exponent", "power of compute"),
        "low high",
        Column("r2", "of the straight line in logs"),
        Column("budgets", "how many there are"),
    ),
)

# Draws behind an optimum.
DRAWS = 100
# An envelope needs three sizes between the smallest and the largest.
LEAST_SIZES = 5


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    surfaces = asked.chosen
    head = {"target": asked.target, "law": surfaces.joint.law.name}
    best, power = _found(surfaces, asked.rate, asked.seed)
    made = {"optima": best, "powers": power}
    return {name: rows.assign(**head) for name, rows in made.items() if len(rows)}


def _found(
    surfaces: Surfaces, rate: Rate, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute-optimal sizes by three methods that know no law, and their powers."""
    rows: list[pd.DataFrame] = []
    powers: list[dict[str, object]] = []
    best = surfaces.data.frame[surfaces.draws.chosen > 0]
    for (family, corpus), part in best.groupby(["family", "corpus"]):
        # One count of FLOPs for every method, and for the law's own path.
        flops = rate(str(family), part.params.to_numpy()) * part.params * part.tokens
        part = part.assign(flops=flops)
        head = {"family": family, "corpus": corpus}
        for found in _estimates(part, seed):
            rows.append(_budgets(found).assign(**head))
            for axis in ("params", "tokens"):
                power = getattr(found, axis)
                if power is not None:
                    named = {"method": found.method, "of": axis}
                    named |= {"exponent": power.exponent, "low": power.low}
                    powers.append(
                        head
                        | named
                        | {"high": power.high, "r2": power.r2}
                        | {"budgets": power.budgets}
                    )
    filled = [part for part in rows if len(part)]
    joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return joined, pd.DataFrame(powers)


def _estimates(part: pd.DataFrame, seed: int) -> Iterable[Optima]:
    yield best_sizes.parabola(part, DRAWS, seed)
    yield best_sizes.interpolation(part, None, DRAWS, seed)
    # The budgets of one size are points of one curve. The smallest and the largest
    # size are never an envelope's optimum, and one line needs three that are.
    if part.level.nunique() < LEAST_SIZES:
        return
    curves = part.groupby(["level", "tokens"], as_index=False).mean(numeric_only=True)
    try:
        yield best_sizes.envelope(curves.assign(trajectory=curves.level), DRAWS, seed)
    except UserError:
        return  # Fewer than three sizes with two budgets: there is no envelope.


def _budgets(found: Optima) -> pd.DataFrame:
    """A row a budget: its optimum, or the reason why it shows none."""
    rows = []
    for one in found.budgets:
        low, high = np.nan, np.nan
        kept = one.draws[~np.isnan(one.draws)]
        if kept.size >= DRAWS // 2:
            low, high = np.quantile(kept, ENDS)
        rows.append(
            {"method": found.method, "compute": one.flops, "params": one.params}
            | {"params_low": low, "params_high": high, "tokens": one.tokens}
            | {"loss": one.loss, "sizes": one.runs, "warning": "; ".join(one.warnings)}
        )
    return pd.DataFrame(rows)


def powers(frame: pd.DataFrame) -> list[str]:
    """What the methods without a law say of the compute-optimal size."""
    sentences = []
    for (family, corpus), rows in frame[frame.of == "params"].groupby(
        ["family", "corpus"]
    ):
        said = joined(
            f"{row.method} {number(row.exponent)} ({interval_text(row.low, row.high)})"
            for row in rows.itertuples()
        )
        sentences.append(
            f"The best size of {family}{on(corpus)} grows as compute to the power: "
            f"{said}."
        )
    return sentences


def no_optimum(frame: pd.DataFrame) -> list[str]:
    """Why no budget shows a best size by itself; nothing where one does."""
    if frame.empty or frame.params.notna().any():
        return []
    budgets = frame.drop_duplicates(["family", "corpus", "compute"])
    reasons = frame.warning.str.replace(r"\d", "", regex=True)
    common = frame.warning[reasons == reasons.mode().iloc[0]].iloc[0]
    return [
        f"Methods without a law find no best size at any of {len(budgets)} budgets; "
        f"the most common reason: {common}."
    ]


def draw_optima(figure: Figure, analysis: Analysis, target: str) -> None:
    """Compute-optimal sizes by methods without a law, beside the law's own path."""
    frame = rows_of(analysis.optima, target)
    frame = frame[np.isfinite(frame.params)]
    if frame.empty:
        raise Nothing
    path = analysis.frontier[analysis.frontier.target == target]
    families, corpora = families_of(analysis), corpora_of(analysis)
    resize(figure, 0.9 + 2.2 * len(corpora), 1.6 + 2.3 * max(1, len(families)))
    panels = panels_of(figure, len(corpora), len(families), sharex=True)
    limits = span(frame.compute, pad=0.1), span(frame.params, path.params, pad=0.1)
    methods = [method for method in METHODS if method in set(frame.method)]
    # Side by side: where methods agree, one mark would hide the other.
    aside = (limits[0][1] / limits[0][0]) ** 0.02
    for (i, corpus), (j, family) in itertools.product(
        enumerate(corpora), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, lambda c: number(c, 1), limits[0])
        log_axis(axes.yaxis, count, limits[1])
        line = path[(path.family == family) & (path.corpus == corpus)]
        axes.plot(line.compute, line.params, color=INK, lw=1.2)
        mine = frame[(frame.family == family) & (frame.corpus == corpus)]
        for k, method in enumerate(methods):
            colour, marker, _ = looks(METHODS, method)
            moved = aside ** (k - (len(methods) - 1) / 2)
            for doubted, face in ((False, colour), (True, "white")):
                some = mine[(mine.method == method) & ((mine.warning != "") == doubted)]
                x, y = some.compute * moved, some.params
                axes.plot(x, y, marker, color=colour, mfc=face, ms=4)
        if i == 0:
            axes.set_title(levels_text(family), color=looks(families, family)[0])
        if j == 0:
            axes.set_ylabel(f"{trained(corpus)}best size")
    figure.supxlabel("training FLOPs (hollow: with a warning)", fontsize=8.5)
    keys = [key(method, *looks(METHODS, method)[:2]) for method in methods]
    legend(figure, [*keys, key("the law", INK, None, "-")])


METHODS = ("parabola", "interpolation", "envelope")


def said(view: View) -> list[str]:
    return powers(view.rows("powers")) + no_optimum(view.analysis.optima)


QUESTION = Question(
    name="optima",
    title="The best size at each compute, without a law",
    place=92,
    absent=Absent("best sizes without a law", ("optima",), ("fits", "joint")),
    said=said,
    figures={
        "optima": Drawing(
            draw_optima,
            "The best size at each compute by methods without a law, beside the path "
            "of the fitted law. These methods look at each budget alone, so the law "
            "uses more of the data.",
        )
    },
    tables=(
        Table("Best sizes by methods without a law", "optima"),
        Table("Their powers of compute", "powers"),
    ),
    compute=compute,
)
