"""More factors than family and corpus: the optimiser and the quality of the data.

The laws know families and corpora. Where a table varies another factor, its levels
become part of theirs ("gru, muon"; "prose, quality 0.5"), so that no law mixes what
differs, and the swaps of that factor alone are effects in the same currency.
"""

from __future__ import annotations

import dataclasses

import pandas as pd

from analysis.effects import Described
from analysis.table import Table

# A factor, and what it is folded into.
INTO = {"optimiser": "family", "quality": "corpus"}
NAMES = {"family": "architecture", "corpus": "corpus"}
# A column with more levels than this is a scale, which a law may read, and no factor.
MOST_LEVELS = 6


def fold(table: Table) -> tuple[Table, Described]:
    """The table with every varied factor in its family or corpus, and their meaning."""
    runs = table.runs.copy()
    described: dict[str, dict[str, dict[str, str]]] = {}
    for factor, into in INTO.items():
        levels = runs[factor].map(_level)
        if not 1 < levels.nunique() <= MOST_LEVELS:
            continue
        said = levels if into == "family" else factor + " " + levels
        folded = runs[into].astype(str) + ", " + said
        described[into] = _meanings(folded, runs[into], levels, into, factor)
        runs[into] = folded
    return dataclasses.replace(table, runs=runs), described


def _level(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _meanings(
    folded: pd.Series, base: pd.Series, levels: pd.Series, into: str, factor: str
) -> dict[str, dict[str, str]]:
    rows = zip(folded, base.astype(str), levels, strict=True)
    return {name: {NAMES[into]: one, factor: level} for name, one, level in set(rows)}
