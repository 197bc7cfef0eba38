"""Lines on the loss surface, for drawing: equal loss, equal compute, and the path.

The compute-optimal path is the split of each compute into parameters and tokens with
the lowest loss (Hoffmann et al. 2022, section 3.3), found again in every draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.questions.effects import Surface
from analysis.questions.frontier import Rate
from analysis.schema import LOSS, Column, declare
from analysis.surfaces.surfaces import Surfaces

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
MOST_OUTSIDE = 0.025


def frames(surfaces: Surfaces, rate: Rate, target: str) -> dict[str, pd.DataFrame]:
    """The frames `frontier`, `isolosses` and `isoflops` of one target."""
    path, loss, flops = [], [], []
    for family, corpus, surface, part in _systems(surfaces):
        head = {"family": family, "corpus": corpus, "target": target}
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
    return {name: _joined(parts) for name, parts in made.items()}


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


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
    return _joined(parts)
