"""Lines on the loss surface, for drawing: equal loss, equal compute, and the path.

The compute-optimal path is the split of each compute into parameters and tokens with
the lowest loss (Hoffmann et al. 2022, section 3.3), found again in every draw.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.effects.data_equivalents import Surface
from analysis.formatting import count, levels_text, number
from analysis.inference.intervals import interval
from analysis.inference.verdict import ENDS
from analysis.laws import Array
from analysis.questions._question import Drawing, Placed, Question
from analysis.questions._view import View
from analysis.report import markup
from analysis.report.style import (
    FAINT,
    INK,
    LINES,
    MARKERS,
    MOST_COLUMNS,
    families_of,
    key,
    legend,
    log_axis,
    looks,
    plain,
    rows_of,
    span,
    trained,
    wrapped,
)
from analysis.results import Analysis
from analysis.schema import LOSS, Column, declare, stacked
from analysis.surfaces.surfaces import Surfaces

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "frontier",
        "The compute-optimal split; no row where it lies more than a factor 10 beyond "
        "the sizes that were run.",
        "family corpus target compute params",
        Column("params_low", "lower end of the 95% interval", "count"),
        Column("params_high", "upper end of the 95% interval", "count"),
        "tokens",
        Column("tokens_low", "lower end of the 95% interval", "count"),
        Column("tokens_high", "upper end of the 95% interval", "count"),
        "loss",
        Column("loss_low", "lower end of the 95% interval", LOSS),
        Column("loss_high", "upper end of the 95% interval", LOSS),
    ),
    declare(
        "isolosses",
        "Lines of equal loss by the fit.",
        "family corpus target loss params tokens",
    ),
    declare(
        "isoflops",
        "The fit along lines of equal compute.",
        "family corpus target compute params tokens loss low high",
    ),
)

# Points of a line, iso-loss lines and isoFLOP lines of each family and corpus.
POINTS = 30
LEVELS = 6
BUDGETS = 4
# Sizes are searched and drawn this far beyond those that were run.
ROOM = 10.0
# A path that leaves the searched sizes in more draws than this has no end there.
MOST_OUTSIDE = ENDS[0]


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    path, loss, flops, rate = [], [], [], asked.rate
    for family, corpus, surface, part in _systems(asked.chosen):
        head = {"family": family, "corpus": corpus, "target": asked.target}
        spent = rate(family, part.params.to_numpy()) * part.params * part.tokens
        computes = np.geomspace(spent.min(), 10.0 * spent.max(), 12)
        on = _on(surface, family, corpus)
        sizes = np.geomspace(
            part.params.min() / ROOM, part.params.max() * ROOM, 2 * POINTS
        )
        rates = rate(family, sizes)
        path.append(_path(on, rates, sizes, computes).assign(**head))
        loss.append(_equal_loss(on, part).assign(**head))
        budgets = np.geomspace(spent.min() * 2, spent.max(), BUDGETS)
        flops.append(_equal_compute(on, rates, sizes, budgets).assign(**head))
    made = {"frontier": path, "isolosses": loss, "isoflops": flops}
    return {name: stacked(parts) for name, parts in made.items()}


def _systems(
    surfaces: Surfaces,
) -> Iterator[tuple[str, str, Surface, pd.DataFrame]]:
    """Families and corpora that were run together, with the law that covers them."""
    for (family, corpus), part in surfaces.data.frame.groupby(["family", "corpus"]):
        single = surfaces.single.get((family, corpus))
        if surfaces.joint.theta is not None:
            yield family, corpus, surfaces.of_joint, part
        elif single is not None and single.theta is not None:
            yield family, corpus, surfaces.of_single, part


def _on(surface: Surface, family: str, corpus: str) -> Callable[[Array, Array], Array]:
    return lambda params, tokens: surface(family, corpus, params, tokens)


def _path(
    on: Callable[[Array, Array], Array], rates: Array, sizes: Array, computes: Array
) -> pd.DataFrame:
    """params, tokens and loss at each compute, each with its interval."""
    rows = []
    for compute in computes:
        tokens = compute / (rates * sizes)
        losses = on(sizes, tokens)
        at = losses.argmin(axis=1)
        inside = (at > 0) & (at < sizes.size - 1)
        best = _vertex(np.log(sizes), losses, np.clip(at, 1, sizes.size - 2))
        best = np.where(inside, best, np.nan)
        if not inside[0] or np.mean(~inside[1:]) > MOST_OUTSIDE:
            continue
        params = np.exp(best)
        spent = np.exp(np.interp(best, np.log(sizes), np.log(rates)))
        row = {"compute": compute}
        found = {"params": params, "tokens": compute / (spent * params)}
        for name, values in (found | {"loss": losses.min(axis=1)}).items():
            low, high = interval(values[1:, None])
            row |= {name: values[0], f"{name}_low": low[0], f"{name}_high": high[0]}
        rows.append(row)
    return pd.DataFrame(rows)


def _vertex(logs: Array, losses: Array, at: Array) -> Array:
    """The lowest point [B] of the parabola through three points about `at` [B]."""
    rows = np.arange(len(losses))
    left, middle, right = (losses[rows, at + k] for k in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = 0.5 * (left - right) / (left - 2.0 * middle + right)
    step = logs[1] - logs[0]
    return logs[at] + step * np.clip(np.nan_to_num(shift), -1.0, 1.0)


def _equal_loss(
    on: Callable[[Array, Array], Array], part: pd.DataFrame
) -> pd.DataFrame:
    """Tokens that give each of a few losses, by size, by the fit alone.

    Sizes at which no number of tokens gives the loss have no row.
    """
    sizes = np.geomspace(part.params.min() / 2, part.params.max() * 2, POINTS)
    tokens = np.geomspace(part.tokens.min() / 100, part.tokens.max() * 100, 120)
    grid = on(np.repeat(sizes, tokens.size), np.tile(tokens, sizes.size))[0]
    grid = grid.reshape(sizes.size, tokens.size)
    lowest, highest = np.quantile(part.loss.to_numpy(), (0.05, 0.95))
    levels = np.geomspace(lowest, highest, LEVELS)
    rows = []
    for level in levels:
        for size, line in zip(sizes, grid, strict=True):
            if line.min() < level < line.max():
                # Loss falls with tokens: interpolate on the turned line.
                log = np.interp(-level, -line, np.log(tokens))
                rows.append({"loss": level, "params": size, "tokens": np.exp(log)})
    return pd.DataFrame(rows)


def _equal_compute(
    on: Callable[[Array, Array], Array], rates: Array, sizes: Array, budgets: Array
) -> pd.DataFrame:
    """The curve along each compute, with its interval."""
    parts = []
    for compute in budgets:
        tokens = compute / (rates * sizes)
        losses = on(sizes, tokens)
        low, high = interval(losses[1:])
        columns = {"compute": compute, "params": sizes, "tokens": tokens}
        parts.append(
            pd.DataFrame(columns | {"loss": losses[0], "low": low, "high": high})
        )
    return stacked(parts)


# A cell belongs to an isoFLOP line whose compute is within this share of its own.
NEAR = 0.25


def draw_isoflops(figure: Figure, analysis: Analysis, target: str) -> None:
    """Loss against size along lines of equal compute, with the cells near them."""
    lines = rows_of(analysis.isoflops, target)
    cells = analysis.cells[analysis.cells.target == target]
    families, corpora = families_of(analysis), sorted(set(lines.corpus))
    margins = 0.9, 2.0
    panels = wrapped(figure, len(corpora), len(families), 2.2, margins)
    limits = span(lines.params), span(cells.loss, pad=0.15)
    for (i, corpus), (j, family) in itertools.product(
        enumerate(corpora), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, count, limits[0])
        log_axis(axes.yaxis, plain, limits[1])
        mine = lines[(lines.family == family) & (lines.corpus == corpus)]
        near = cells[(cells.family == family) & (cells.corpus == corpus)]
        for k, (compute, line) in enumerate(mine.groupby("compute")):
            colour, marker, style = looks(range(len(MARKERS)), k)
            axes.plot(line.params, line.loss, color=colour, ls=style)
            axes.fill_between(
                line.params, line.low, line.high, color=colour, alpha=0.15, lw=0
            )
            lowest = line.loc[line.loss.idxmin()]
            if line.params.min() < lowest.params < line.params.max():
                axes.plot(lowest.params, lowest.loss, "|", color=colour, ms=11)
            on = near[np.abs(np.log(near.flops / compute)) < NEAR]
            axes.plot(on.params, on.loss, marker=marker, color=colour, ls="")
        if i == 0:
            axes.set_title(levels_text(family), color=looks(families, family)[0])
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(f"{trained(corpus)}loss ({analysis.unit})")
    figure.supxlabel("parameters (bar: the lowest loss of the compute)", fontsize=8.5)
    # Systems are spent on alike, and not to the digit: a name is a range.
    ranks = lines.groupby(["family", "corpus"]).compute.rank(method="dense")
    keys = []
    for rank, some in lines.groupby(ranks):
        ends = [number(c, 2) for c in (some.compute.min(), some.compute.max())]
        named = " to ".join(dict.fromkeys(ends)) + " FLOPs"
        keys.append(key(named, *looks(range(len(MARKERS)), int(rank) - 1)))
    legend(figure, keys, 2)


def draw_isolosses(figure: Figure, analysis: Analysis, target: str) -> None:
    """Lines of equal loss over sizes and budgets, with the compute-optimal path."""
    lines = rows_of(analysis.isolosses, target)
    path = analysis.frontier[analysis.frontier.target == target]
    cells = analysis.cells[analysis.cells.target == target]
    families, corpora = families_of(analysis), sorted(set(lines.corpus))
    margins = 0.9, 1.6
    panels = wrapped(figure, len(corpora), len(families), 2.3, margins)
    x_limits = span(cells.tokens, pad=0.35)
    y_limits = span(cells.params, lines.params, pad=0.04)
    for (i, corpus), (j, family) in itertools.product(
        enumerate(corpora), enumerate(families)
    ):
        axes = panels[i, j]
        log_axis(axes.xaxis, count, x_limits)
        log_axis(axes.yaxis, count, y_limits)
        colour = looks(families, family)[0]
        mine = lines[(lines.family == family) & (lines.corpus == corpus)]
        for k, (loss, line) in enumerate(mine.groupby("loss")):
            axes.plot(line.tokens, line.params, color=FAINT, lw=0.9)
            # Labels stand clear of the axis and of its numbers.
            inside = line.tokens.between(1.5 * x_limits[0], x_limits[1])
            _label(axes, line[inside & line.params.le(y_limits[1])], f"{loss:.2f}", k)
        one = path[(path.family == family) & (path.corpus == corpus)]
        one = one.sort_values("compute")
        axes.plot(one.tokens, one.params, color=colour, lw=1.8)
        axes.fill_betweenx(
            one.params, one.tokens_low, one.tokens_high, color=colour, alpha=0.2, lw=0
        )
        run = cells[(cells.family == family) & (cells.corpus == corpus)]
        axes.plot(run.tokens, run.params, ".", color=INK, ms=3)
        if i == 0:
            axes.set_title(levels_text(family), color=colour)
        if j % MOST_COLUMNS == 0:
            axes.set_ylabel(f"{trained(corpus)}parameters")
    figure.supxlabel("training tokens", fontsize=8.5)
    legend(
        figure,
        [
            key(f"equal loss ({analysis.unit})", FAINT, None, LINES[0]),
            key("compute-optimal, with its 95% interval", INK, None, LINES[0]),
            key("run", INK, "."),
        ],
    )


def _label(axes: Axes, line: pd.DataFrame, text: str, number_: int) -> None:
    """A text on a line, which neighbouring lines have at different heights."""
    if line.empty:
        return
    ordered = line.sort_values("params")
    at = ordered.iloc[int((0.9 - 0.17 * (number_ % 3)) * (len(ordered) - 1))]
    axes.annotate(
        text,
        (at.tokens, at.params),
        fontsize=6.5,
        ha="center",
        va="center",
        bbox={"facecolor": "white", "lw": 0, "pad": 0.6},
    )


def _built(view: View, figure: Placed) -> str:
    analysis = view.analysis
    if analysis.isolosses.empty and analysis.isoflops.empty:
        return markup.absent(analysis, "fitted surface", "fits", "joint")
    return "".join(
        [
            figure("isolosses"),
            figure("isoflops"),
            markup.fold("The compute-optimal path", analysis.frontier),
        ]
    )


QUESTION = Question(
    name="surface",
    title="Equal loss, equal compute, and the best split",
    place=90,
    figures={
        "isoflops": Drawing(
            draw_isoflops,
            "Loss along lines of equal compute, by the fit, with its 95% interval; "
            "marks are cells whose compute is near the line's.",
        ),
        "isolosses": Drawing(
            draw_isolosses,
            "Lines of equal loss, by the fit, and the compute-optimal path with its "
            "95% interval. Off the dots it is extrapolation.",
        ),
    },
    build=_built,
    compute=compute,
)
