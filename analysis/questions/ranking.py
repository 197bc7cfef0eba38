"""How every family stands: measured at the largest cell they share, and by the law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.design.cells import shared
from analysis.inference.intervals import interval
from analysis.questions.effects import Equivalents, share
from analysis.questions.matched_cells import DocumentError, Noise, margin
from analysis.schema import LOSS, Column, declare

FRAMES = (
    declare(
        "standings",
        "Each family at the largest cell that all share.",
        "family corpus target params tokens",
        Column("flops", "training compute", "FLOPs"),
        "learning_rate",
        Column("edge", "low or high where the best rate is at that end of its grid"),
        Column("seeds", "how many seeds the cell has"),
        Column("rank", "1 for the lowest loss"),
        "loss",
        Column("against", "the family of rank 1"),
        Column("above", "loss above that one's", LOSS),
        Column("above_low", "lower end by seed noise and documents", LOSS),
        Column("above_high", "upper end by seed noise and documents", LOSS),
        Column("factor", "data it needs for the loss of that one, over its own"),
        "low high p_infinite",
        Column("fit_params", "where that is read: parameters", "count"),
        Column("fit_tokens", "where that is read: tokens", "count"),
    ),
)

MEASURED = (
    *("family", "corpus", "target", "params", "tokens", "flops", "learning_rate"),
    *("edge", "seeds", "loss"),
)


def standings_frame(
    cells: pd.DataFrame,
    model: Equivalents | None,
    families: Sequence[str],
    corpora: Sequence[str],
    noise: Noise,
    document_se: DocumentError,
) -> pd.DataFrame:
    """A row each family and corpus, the lowest measured loss first.

    Columns, beside those of a cell: rank; against (the family of rank 1); above (by how
    much the loss is above that one's, as measured, with above_low and above_high by
    paired.margin); factor (how many times its own data the family needs for the loss of
    that one, by the law, with low, high and p_infinite, at fit_params and fit_tokens).

    Args:
      cells: one row a cell, of one target, with `level` and `budget`.
      model: of one point, the largest that the law was fitted up to; None for none.
    """
    rows = []
    for corpus in corpora:
        common = shared(cells, families, corpus)
        if len(families) < 2 or common.empty:
            continue
        place = common.groupby(level=["level", "budget"]).flops.mean().idxmax()
        ordered: list[Any] = list(common.loc[[place]].sort_values("loss").itertuples())
        best = ordered[0]
        for rank, cell in enumerate(ordered, 1):
            rows.append(
                {name: getattr(cell, name) for name in MEASURED}
                | {"rank": rank, "against": best.family}
                | _above(cell, best, noise, document_se)
                | (_needs(model, cell.family, best.family, corpus) if model else {})
            )
    return pd.DataFrame(rows, columns=FRAMES[0].names)


def _above(
    cell: Any, best: Any, noise: Noise, document_se: DocumentError
) -> dict[str, float]:
    above, reach = cell.loss - best.loss, math.nan
    if cell is not best:
        reach = best.loss * margin(best, cell, noise, document_se)
    return {"above": above, "above_low": above - reach, "above_high": above + reach}


def _needs(model: Equivalents, family: str, best: str, corpus: str) -> dict[str, Any]:
    """Of the best itself a factor of 1 with no interval, where the law tells it."""
    ((params, tokens),) = model.points
    logs = model.log_factors((family, corpus), (best, corpus))[:, 0]
    low, high = (float(np.exp(end[0])) for end in interval(logs[1:, None]))
    factor = float(np.exp(logs[0]))
    if family == best:
        factor, low, high = 1.0 + 0.0 * factor, math.nan, math.nan
    return {
        "factor": factor,
        "low": low,
        "high": high,
        "p_infinite": share(np.isposinf(logs[1:]), logs[1:]),
        "fit_params": params,
        "fit_tokens": tokens,
    }
