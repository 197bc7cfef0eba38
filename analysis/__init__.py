"""Scaling laws from a table of runs: which part is the architecture, which the data?

A table goes in and pandas frames come out. With a made table of two families:

>>> import numpy as np, pandas as pd, analysis
>>> rows = []
>>> for family, gain in (("lstm", 1.0), ("transformer", 2.0)):
...     for N in (1e6, 4e6, 16e6, 64e6):
...         for D in (1e8, 4e8, 16e8, 64e8):
...             loss = 1.7 + 300 * N**-0.34 + 400 * (gain * D) ** -0.28
...             rows.append({"N": N, "D": D, "val_loss": loss, "arch": family})
>>> table = analysis.from_frame(pd.DataFrame(rows))
>>> print(table.mapping)  # columns are guessed; name them where the guess is wrong
{'params': 'N', 'tokens': 'D', 'loss': 'val_loss', 'family': 'arch'}
>>> len(table.readings), len(table.exclusions)  # used, and left out with a reason
(32, 0)
>>> fit = analysis.fit_law(table, "chinchilla", draws=40)
>>> beta = fit.parameters.query("family == 'lstm' and parameter == 'beta'")
>>> print(round(beta.value.item(), 3))
0.28
>>> print(fit.predict(params=1e9, tokens=2e10).loss.round(3).tolist())
[2.483, 2.391]
>>> result = analysis.analyse(table, draws=40)
>>> swap = result.equivalents.query("alternative == 'transformer'")
>>> print(swap.query("method == 'joint'").factor.round(2).unique().tolist())
[2.0]

>>> result  # doctest: +ELLIPSIS
<Analysis 'table': 32 runs, targets loss, ... frames with rows; print it for the answer>
>>> result.describe("doubling").query("column == 'gain'").meaning.item()
'loss saved'

Both kinds of results have `summary`, `to_frame`, `describe`, `plot` and `save`:
`print(result)` gives the answer in about ten sentences and `result.summary()` in full,
`result.plot("equivalents")` a matplotlib Figure, `result.write_report("folder")` a
page, and `result.save("result.json")` a file that `analysis.read` gives back. `load`
reads a file or a study's workdir.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.pipeline import analyse as analyse
    from analysis.report.saved import read as read
    from analysis.results import Analysis as Analysis
    from analysis.surfaces.lawfit import LawFit as LawFit
    from analysis.surfaces.lawfit import fit_law as fit_law
    from analysis.tables.load import from_frame as from_frame
    from analysis.tables.load import load as load
    from analysis.tables.table import Table as Table

# Names of the Python interface, and where they live: pandas and scipy are imported on
# first use, so that `scaling-analysis --help` is quick.
HOMES = {
    "Analysis": ("analysis.results", "Analysis"),
    "LawFit": ("analysis.surfaces.lawfit", "LawFit"),
    "Table": ("analysis.tables.table", "Table"),
    "analyse": ("analysis.pipeline", "analyse"),
    "fit_law": ("analysis.surfaces.lawfit", "fit_law"),
    "from_frame": ("analysis.tables.load", "from_frame"),
    "load": ("analysis.tables.load", "load"),
    "read": ("analysis.report.saved", "read"),
}
__all__ = ["Analysis", "LawFit", "Table", "analyse", "fit_law"]
__all__ += ["from_frame", "load", "read"]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    module, attribute = HOMES[name]
    return getattr(importlib.import_module(module), attribute)
