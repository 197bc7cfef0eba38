"""The largest cells, set aside before any fit and predicted by every law afterwards."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.intervals import CELL, interval
from analysis.laws import Array

# A family and corpus with fewer cells has none to spare.
LEAST_CELLS = 8


def largest(frame: pd.DataFrame) -> Array:
    """Marks the runs [n] of the largest cell, by FLOPs, of each family and corpus.

    A cell is set aside whole, with all its rates and seeds. A family and corpus with
    fewer than `LEAST_CELLS` cells keeps all of them.
    """
    out = pd.Series(False, index=frame.index)
    for _, part in frame.groupby(["family", "corpus"]):
        cells = part.groupby(CELL, dropna=False).ngroup()
        if cells.nunique() < LEAST_CELLS:
            continue
        out[part.index[cells == cells[part.flops.idxmax()]]] = True
    return out.to_numpy()


def prediction(
    curve: Array, residuals: Array, parameters: int, seed: int = 0
) -> tuple[Array, Array]:
    """95% interval of a new run: the curve's draws and a run's own residual.

    Args:
      curve: predicted losses [B, k], a row a bootstrap draw.
      residuals: log residuals of the fit, [n]; drawn from with replacement, scaled by
        sqrt(n / (n - parameters)) for the freedom that the fit used up.
    """
    rng = np.random.default_rng(seed)
    freedom = max(1, residuals.size - parameters)
    scale = np.sqrt(residuals.size / freedom)
    noise = rng.choice(residuals, size=curve.shape) * scale
    return interval(curve * np.exp(noise))
