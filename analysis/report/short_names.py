"""Names of families and corpora as figures can show them: the long ones shortened.

A table may call a family by a whole sentence, which no panel's title or axis label has
room for. Of a name with options, such as "glyphs[captions=40,new=characters,size=8]",
figures then show those that tell it from the other names, "glyphs[new=characters]"; of
any other name its two ends. The page, its tables and the JSON have all.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

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
    every = sorted(set(names))
    short: dict[str, str] = {}
    for name in every:
        if len(name) > MOST:
            taken = {*every, *short.values()}
            short[name] = _telling(name, every, taken) or _ends(name, taken)
    return short


def _ends(name: str, taken: Collection[str]) -> str:
    """Both ends of a name, with a number where that is taken."""
    half = (MOST - 1) // 2
    found = f"{name[:half].strip()}…{name[-half:].strip()}"
    number = 1
    while found in taken:
        number += 1
        found = f"{name[: half - 2].strip()}…{number}…{name[2 - half :].strip()}"
    return found


def _telling(name: str, every: Sequence[str], taken: Collection[str]) -> str:
    """A name with options, without some that it shares with others; "" if none fits.

    No other name has all of the parts that are left, so that nobody can take it for
    that. Of several such the one with the most parts, and of these the first; where
    none fits, one without its beginning: "…0.1 of captions dropped".
    """
    base, parts = _parts(name)
    known = [_parts(one) for one in every if one != name]
    others = [set(some) for start, some in known if start == base]
    kept = [
        some
        for count in range(len(parts) - 1, -1, -1)
        for some in itertools.combinations(parts, count)
        if not any(other.issuperset(some) for other in others)
    ]
    texts = [*(_joined(base, some) for some in kept)]
    texts += [f"…{','.join(some).removeprefix(', ')}" for some in kept if some]
    fits = (text for text in texts if len(text) <= MOST and text not in taken)
    return next(fits, "")


def _joined(base: str, parts: Sequence[str]) -> str:
    options = ",".join(part for part in parts if not part.startswith(", "))
    added = "".join(part for part in parts if part.startswith(", "))
    return f"{base}[{options}]{added}" if options else base + added


def _parts(name: str) -> tuple[str, list[str]]:
    """ "glyphs[new=characters,size=8], half 1": glyphs, and its options and additions.

    A name without options has no parts.
    """
    found = re.fullmatch(r"([^\[\],]+)(?:\[([^\[\]]*)\])?((?:, [^,\[\]]+)*)", name)
    if found is None or found[2] is None:
        return name, []
    added = [f", {part}" for part in found[3].split(", ")[1:]]
    return found[1], [*found[2].split(","), *added]


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
