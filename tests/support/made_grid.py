"""Two families on a grid of sizes and budgets, fitted without their largest cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.design.cells import cells_frame, largest, target_frame
from analysis.inference import intervals
from analysis.surfaces.surfaces import Surfaces, fit_all
from analysis.tables.load import from_frame


def runs(bend: float = 0.0, noise: float = 0.002, seed: int = 0) -> pd.DataFrame:
    """Two families on 5 sizes x 5 budgets; `bend` slows the gains of more data."""
    rng = np.random.default_rng(seed)
    rows = []
    for family in ("a", "b"):
        for params in np.geomspace(5e7, 5e9, 5):
            for tokens in np.geomspace(1e9, 3e11, 5):
                loss = 1.8 + 482 * params**-0.35 + 2085 * tokens**-0.37
                loss *= np.exp(bend * np.log(tokens / 1e9) ** 2)
                loss *= np.exp(noise * rng.normal())
                row = {"family": family, "corpus": "d", "params": params}
                rows.append(row | {"tokens": tokens, "loss": loss})
    return pd.DataFrame(rows)


def split(frame: pd.DataFrame) -> tuple[Surfaces, pd.DataFrame]:
    """All laws on the runs below the largest cells, and those cells."""
    table = from_frame(frame, target="shared")
    rows = target_frame(table, table.targets[0])
    aside = largest(rows)
    drawn = intervals.draw(intervals.sample(rows[~aside]), 100)
    cells = cells_frame(intervals.sample(rows[aside]), "t")
    return fit_all(drawn, 1e-3, 0), cells
