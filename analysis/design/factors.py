"""More factors than family and corpus: the optimiser and the quality of the data.

The laws know families and corpora. Where a table varies another factor, its levels
become part of theirs ("gru, muon"; "prose, quality 0.5"), so that no law mixes what
differs, and the swaps of that factor alone are effects in the same currency. Damaged
training text is always kept apart from sound text ("prose, random_bytes 0.5").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import pandas as pd

from analysis.design.swaps import Described
from analysis.tables.table import Table

# A column, and what its levels are folded into.
INTO = {"optimiser": "family", "quality": "corpus", "damage": "corpus"}
NAMES = {"family": "architecture", "corpus": "corpus", "damage": "quality"}
# A column with more levels than this is a scale, which a law may read, and no factor.
MOST_LEVELS = 6
SOUND = "sound"


def fold(
    table: Table, factors: Collection[str] = tuple(INTO)
) -> tuple[Table, Described]:
    """The table with every varied factor in its family or corpus, and their meaning.

    Args:
      factors: those of `INTO` to fold.
    """
    runs = table.runs.copy()
    described: dict[str, dict[str, dict[str, str]]] = {}
    for factor, into in INTO.items():
        levels = runs[factor].map(_level)
        if factor not in factors or not _varied(factor, runs):
            continue
        base = runs[into].astype(str)
        runs[into] = base + levels.map(lambda level, of=factor: _said(of, level))
        if factor == "damage":
            levels = levels.replace("", SOUND)
        described[into] = _meanings(runs[into], base, levels, into, factor)
    return dataclasses.replace(table, runs=runs), described


def _varied(factor: str, runs: pd.DataFrame) -> bool:
    damaged = (runs.damage != "").any()
    if factor == "damage":
        return damaged
    if factor == "quality" and damaged:  # its share of sound text says less
        return False
    return 1 < runs[factor].map(_level).nunique() <= MOST_LEVELS


def _said(factor: str, level: str) -> str:
    """What a level adds to the name of its family or corpus."""
    if not level and factor == "damage":
        return ""
    return f", quality {level}" if factor == "quality" else f", {level}"


def _level(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _meanings(
    folded: pd.Series, base: pd.Series, levels: pd.Series, into: str, factor: str
) -> dict[str, dict[str, str]]:
    name = NAMES.get(factor, factor)
    rows = zip(folded, base, levels, strict=True)
    return {whole: {NAMES[into]: one, name: level} for whole, one, level in set(rows)}
