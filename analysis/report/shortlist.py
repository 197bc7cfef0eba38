"""Chooses which swaps figures and text show; the tables have all of them.

Twelve families make 66 pairs. Told are those with the family that stands first on the
target (Analysis.standings), of those that a frame compares at all: they say how far
each is from the best. Of damaged texts those with the sound one are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.design.factors import SOUND
from analysis.results import Analysis

# More pairs of families than this are told by those with the first alone.
MOST_PAIRS = 10

FRAMES = (
    *("equivalents", "multipliers", "crossovers", "interactions", "agreement"),
    *("costs", "ratios", "verdicts", "measured"),
)


def centres(analysis: Analysis) -> dict[str, str]:
    """By target the family that many data-equivalents are stated against, if many."""
    frame = analysis.equivalents
    found = {
        str(target): _centre(_swaps(part), _order(analysis, target))
        for target, part in frame.groupby("target", sort=False)
    }
    return {target: first for target, first in found.items() if first}


def foremost(analysis: Analysis) -> Analysis:
    """The analysis with no swaps but those that are reported."""
    narrowed = {name: _reported(analysis, getattr(analysis, name)) for name in FRAMES}
    return analysis.replace(**narrowed)


def _reported(analysis: Analysis, frame: pd.DataFrame) -> pd.DataFrame:
    parts = []
    # In multipliers each currency compares families of its own.
    keys = [name for name in ("target", "currency") if name in frame]
    for names, part in frame.groupby(keys, sort=False):
        swaps = _swaps(part)
        first = _centre(swaps, _order(analysis, names[0]))
        ends = (swaps.baseline == first) | (swaps.alternative == first)
        apart = (swaps.kind == "architecture") & ~ends & bool(first)
        for kind in sorted(set(swaps.kind) - {"architecture", "corpus"}):
            sound = (swaps.baseline == SOUND) | (swaps.alternative == SOUND)
            if sound[swaps.kind == kind].any():
                apart |= (swaps.kind == kind) & ~sound
        parts.append(part[~apart])
    return pd.concat(parts).sort_index() if parts else frame


def _order(analysis: Analysis, target: object) -> list[str]:
    """The target's families as they stand, on its own text where that was trained on.

    A name that is made of several factors' levels stands for all of them.
    """
    frame = analysis.standings[analysis.standings.target == target]
    own = frame[frame.corpus == target]
    names = (own if len(own) else frame).family.astype(str)
    return [level for name in names for level in (name, *name.split(", "))]


def _centre(swaps: pd.DataFrame, order: Sequence[str]) -> str:
    """The first in order of the families of many pairs; "" where pairs are few."""
    mine = swaps[swaps.kind == "architecture"]
    ends = {
        frozenset(pair) for pair in zip(mine.baseline, mine.alternative, strict=True)
    }
    if len(ends) <= MOST_PAIRS:
        return ""
    known = frozenset().union(*ends)
    return next((name for name in order if name in known), "")


def _swaps(frame: pd.DataFrame) -> pd.DataFrame:
    """kind, baseline and alternative of each row, however the frame names them."""
    if "architecture" in frame:
        pairs = frame.architecture
    elif "question" in frame:
        pairs = frame.baseline.where(frame.question == "architecture or corpus")
    else:
        return frame[["kind", "baseline", "alternative"]]
    ends = pairs.astype(object).str.split(" -> ", n=1, expand=True)
    ends = ends.reindex(columns=[0, 1]).astype(object)
    out = pd.DataFrame(
        {"kind": "architecture", "baseline": ends[0], "alternative": ends[1]}
    )
    if "question" in frame:
        out["kind"] = frame.question.replace("architecture or corpus", "architecture")
        out["baseline"] = out.baseline.fillna(frame.baseline)
        out["alternative"] = out.alternative.fillna(frame.alternative)
    return out
