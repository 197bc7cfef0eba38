"""A table of runs in a notebook: fit a law, look at it, ask it, compare two families.

Every block stands for a cell. The table here is made; put `analysis.load("runs.csv")`
in the place of `analysis.from_frame(...)` for your own.
"""

# %% A table: one row a run.
import numpy as np
import pandas as pd

import analysis

rng = np.random.default_rng(0)
rows = [
    {"arch": arch, "N": N, "D": D, "loss": loss * np.exp(rng.normal(0, 0.003))}
    for arch, gain in (("lstm", 1.0), ("transformer", 2.0))
    for N in (1e6, 4e6, 16e6, 64e6)
    for D in (1e8, 4e8, 16e8, 64e8)
    for loss in [1.7 + 300 * N**-0.34 + 400 * (gain * D) ** -0.28]
]
table = analysis.from_frame(pd.DataFrame(rows))
print(table.mapping)

# %% One law, its parameters with 95% intervals, and what it predicts.
fit = analysis.fit_law(table, "chinchilla", draws=100)
print(fit.parameters)
print(fit.predict(params=1e9, tokens=2e10))

# %% Everything at once: is it the architecture?
result = analysis.analyse(table, draws=100)
print(result)
print(result.describe("equivalents"))
reported = result.equivalents.query("kind == 'architecture' and fitted")
print(reported[["baseline", "alternative", "factor", "low", "high"]])
