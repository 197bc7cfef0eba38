"""Trains families of models over grids of size, data and corpus: one record a run.

What a study file needs is here:

>>> from scaling import Data, EvaluationSet, Model, Optimiser, Run, corpus, vary
>>> run = Run(
...     model=Model("transformer", 24_000),
...     data=Data(corpus("docstrings"), tokens=100_000),
...     optimiser=Optimiser(learning_rate=5e-3),
...     batch=8,
...     length=64,
...     evaluation=(EvaluationSet("docstrings", corpus("docstrings")),),
... )
>>> run.steps, run.tokens  # budgets round to whole steps
(195, 99840)
>>> grid = vary(run, {"model.family": ("transformer", "lstm"), "init_seed": (0, 1)})
>>> [(r.model.family, r.init_seed) for r in grid]
[('transformer', 0), ('transformer', 1), ('lstm', 0), ('lstm', 1)]

`Store(workdir)` reads the records that `scaling run` leaves.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.claim import Claim as Claim
    from scaling.record import Record as Record
    from scaling.run import Data as Data
    from scaling.run import EvaluationSet as EvaluationSet
    from scaling.run import Model as Model
    from scaling.run import Optimiser as Optimiser
    from scaling.run import Probes as Probes
    from scaling.run import Run as Run
    from scaling.run import Samples as Samples
    from scaling.run import Schedule as Schedule
    from scaling.store import Store as Store
    from scaling.study import bracket as bracket
    from scaling.study import corpus as corpus
    from scaling.study import mixture as mixture
    from scaling.study import together as together
    from scaling.study import vary as vary

# Where the names live: imported on first use, so that commands start at once.
HOMES = {
    "Claim": "claim",
    "Record": "record",
    "Store": "store",
    "Data": "run",
    "EvaluationSet": "run",
    "Model": "run",
    "Optimiser": "run",
    "Probes": "run",
    "Run": "run",
    "Samples": "run",
    "Schedule": "run",
    "bracket": "study",
    "corpus": "study",
    "mixture": "study",
    "together": "study",
    "vary": "study",
}
__all__ = ["Claim", "Data", "EvaluationSet", "Model", "Optimiser", "Probes", "Record"]
__all__ += [
    "Run",
    "Samples",
    "Schedule",
    "Store",
    "bracket",
    "corpus",
    "mixture",
    "together",
    "vary",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'scaling' has no attribute {name!r}")
    return getattr(importlib.import_module(f"scaling.{HOMES[name]}"), name)
