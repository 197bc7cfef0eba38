"""Names of families and corpora as figures can show them: the long ones shortened.

A table may call a family by a whole sentence, which no panel's title or axis label has
room for. Figures then show its two ends; the page, its tables and the JSON have all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from analysis.results import Analysis

# Letters of the longest name that every figure has room for.
MOST = 24
# Columns in which a name stands, alone or beside others ("a -> b", "a, adam").
COLUMNS = (
    *(
        "family",
        "corpus",
        "target",
        "baseline",
        "alternative",
        "fixed",
        "level",
        "against",
    ),
    *("architecture", "first", "second", "factor"),
)


def shortened(analysis: Analysis) -> Analysis:
    """The analysis under names of at most `MOST` letters, or as it is."""
    names = {*analysis.targets, *analysis.runs.family, *analysis.runs.corpus}
    # Where another factor is a part of a family's name, swaps have it without that.
    for frame in analysis.frames.values():
        for column in frame.columns.intersection(["baseline", "alternative"]):
            names |= set(frame[column])
    short = short_names(map(str, names))
    if not short:
        return analysis
    frames = {name: _renamed(frame, short) for name, frame in analysis.frames.items()}
    targets = tuple(short.get(target, target) for target in analysis.targets)
    return analysis.replace(targets=targets, **frames)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """A short form for each of the names that are too long; no two are the same."""
    short: dict[str, str] = {}
    for name in sorted({name for name in names if len(name) > MOST}):
        half = (MOST - 1) // 2
        found = f"{name[:half].strip()}…{name[-half:].strip()}"
        number = 1
        while found in short.values():
            number += 1
            found = f"{name[: half - 2].strip()}…{number}…{name[2 - half :].strip()}"
        short[name] = found
    return short


def _renamed(frame: pd.DataFrame, short: Mapping[str, str]) -> pd.DataFrame:
    changed = {}
    # Of names that contain each other the longest is replaced first.
    longest_first = sorted(short, key=len, reverse=True)
    for column in frame.columns.intersection(COLUMNS):
        if pd.api.types.is_numeric_dtype(frame[column]):
            continue
        texts = frame[column].astype(object)
        found = {}
        for text in {text for text in texts if isinstance(text, str)}:
            out = text
            for name in longest_first:
                out = out.replace(name, short[name])
            found[text] = out
        changed[column] = texts.map(lambda text, found=found: found.get(text, text))
    return frame.assign(**changed)
