"""Of many swaps the few that figures and sentences tell; tables have all.

Twelve families make 66 pairs. Told are those with the family that stands first on the
target (Analysis.standings), which say how far each is from the best; of damaged texts
those with the sound one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pandas as pd

from analysis.analyse import Analysis
from analysis.factors import SOUND

# More pairs of families than this are told by those with the first alone.
MOST_PAIRS = 10

FRAMES = (
    *("equivalents", "multipliers", "crossovers", "interactions", "agreement"),
    *("costs", "ratios", "verdicts"),
)


def centres(analysis: Analysis) -> dict[str, str]:
    """The family by which each target's many pairs are told; none where pairs are few.

    It is the first on the target's own text, where families were trained on that.
    """
    out = {}
    for target, frame in analysis.standings.groupby("target", sort=False):
        own = frame[frame.corpus == target]
        first = (own if len(own) else frame).iloc[0]
        families = frame.family.nunique()
        if families * (families - 1) // 2 > MOST_PAIRS:
            out[str(target)] = str(first.against)
    return out


def foremost(analysis: Analysis) -> Analysis:
    """The analysis with no swaps but those that are told."""
    by_target = centres(analysis)
    narrowed = {name: _told(getattr(analysis, name), by_target) for name in FRAMES}
    return dataclasses.replace(analysis, **narrowed)


def _told(frame: pd.DataFrame, centre: Mapping[str, str]) -> pd.DataFrame:
    if frame.empty:
        return frame
    kind, source, to = _swaps(frame)
    first = frame.target.map(centre)
    apart = (kind == "architecture") & first.notna() & (source != first) & (to != first)
    for name in sorted(set(kind) - {"architecture", "corpus"}):
        sound = (source == SOUND) | (to == SOUND)
        if sound[kind == name].any():
            apart |= (kind == name) & ~sound
    return frame[~apart]


def _swaps(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Kind, source and to of each row, however the frame names them."""
    if "architecture" in frame:
        pairs = frame.architecture
    elif "question" in frame:
        pairs = frame.source.where(frame.question == "architecture or corpus")
    else:
        return frame.kind, frame.source, frame.to
    ends = pairs.str.split(" -> ", n=1, expand=True).reindex(columns=[0, 1])
    if "question" not in frame:
        return pd.Series("architecture", index=frame.index), ends[0], ends[1]
    kind = frame.question.replace("architecture or corpus", "architecture")
    return kind, ends[0].fillna(frame.source), ends[1].fillna(frame.to)
