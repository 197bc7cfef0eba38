"""What the report shows of an analysis: of many rows those that a reader is shown.

Each swap is stated one way, by the method that leads, at the largest cell up to which
the laws were fitted, and of many swaps those with the family that stands first.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.report.shortlist import foremost
from analysis.results import Analysis

if TYPE_CHECKING:
    from analysis.questions._question import Sentence


def reported_once(frame: pd.DataFrame, gain: pd.Series) -> pd.DataFrame:
    """Rows of swaps, each stated once: the direction with the larger `gain`.

    Args:
      frame: columns baseline and alternative, and any of kind, fixed, target, params,
        tokens and method, which tell different statements about one swap apart.
      gain: by row of `frame`, a number that is larger the more the swap helps.
    """
    pair = [
        " ".join(sorted(ends))
        for ends in zip(frame.baseline, frame.alternative, strict=True)
    ]
    known = ("kind", "fixed", "target", "params", "tokens", "method")
    keys = [frame[name] for name in known if name in frame]
    order = gain.fillna(-math.inf).sort_values(ascending=False, kind="stable").index
    reported = frame.assign(_pair=pair).loc[order]
    names = [key.name for key in keys]
    return frame.loc[sorted(reported.drop_duplicates([*names, "_pair"]).index)]


# What makes rows of a frame comparable: each group has its own largest cell.
GROUPS = (
    *("target", "method", "kind", "baseline", "alternative"),
    *("fixed", "architecture", "family", "corpus"),
)


def at_largest(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest size, and there at the largest budget, of each group."""
    keys = [name for name in GROUPS if name in frame]
    largest = frame.groupby(keys, dropna=False).params.transform("max")
    frame = frame[frame.params == largest]
    most = frame.groupby(keys, dropna=False).tokens.transform("max")
    return frame[frame.tokens == most]


def at_fitted(frame: pd.DataFrame) -> pd.DataFrame:
    """The same at the largest cell up to which the laws were fitted.

    Where the design has none that all families and corpora share, the largest of all.
    """
    inside = frame[frame.fitted.astype(bool)]
    return at_largest(inside if inside.params.notna().any() else frame)


def beyond(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest cell where that is an extrapolation."""
    frame = at_largest(frame)
    return frame[~frame.fitted.astype(bool)]


# Of several estimates of one effect the first of these leads; the others check it.
METHODS = ("preferred", "joint", "family", "paired")


def leading(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the leading method that there is."""
    present = [method for method in METHODS if method in set(frame.method)]
    return frame[frame.method.isin(present[:1])]


def one_way(frame: pd.DataFrame) -> pd.DataFrame:
    """Equivalents with each swap stated in one direction: the gain, where both stand.

    On each target the leading method's largest fitted cell decides, trained on the
    target where that was done, so that all figures show the same direction.
    """
    best: dict[Any, tuple[Any, ...]] = {}
    for row in leading(at_fitted(frame)).itertuples():
        key = (row.target, frozenset((row.baseline, row.alternative)))
        rank = (row.factor > 1, row.fixed == row.target, row.factor)
        if key not in best or rank > best[key][0]:
            best[key] = (rank, (row.baseline, row.alternative))
    reported = [
        best.get((target, frozenset(ends)), (None, ends))[1] == ends
        for target, *ends_ in zip(
            frame.target, frame.baseline, frame.alternative, strict=True
        )
        for ends in [tuple(ends_)]
    ]
    return frame[np.array(reported, bool)]


def of_target(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    return frame[frame.target == target]


def headline(equivalents: pd.DataFrame, target: str) -> pd.DataFrame:
    """The leading method's equivalents at the largest fitted cell, each swap once.

    Where no law stands, those over all matched cells: no single one has an interval
    without seeds, and none at the end of a curve a factor.
    """
    mine = one_way(of_target(equivalents, target))
    lead = leading(at_fitted(mine))
    if set(lead.method) != {"paired"}:
        return lead
    return mine[(mine.method == "paired") & mine.params.isna()]


def compared(equivalents: pd.DataFrame) -> pd.DataFrame:
    """Every method at the largest fitted cell, and the rows of targets without laws."""
    reported = one_way(equivalents)
    parts = [at_fitted(reported)]
    for target in dict.fromkeys(equivalents.target):
        lead = headline(equivalents, target)
        parts.append(lead[lead.params.isna()])
    rows = pd.concat(parts)
    return reported.loc[sorted(set(rows.index))]


def probed(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows about predictions that sentences and figures are about.

    Those of the first probe set; of these the ones that are marked as reported, and of
    these the ones of the probes' own text, where the frame marks any.
    """
    if frame.empty:
        return frame
    frame = frame[frame.probes == frame.probes.iloc[0]]
    if "reported" in frame:
        frame = frame[frame.reported.astype(bool)]
    own = frame[frame.own.astype(bool)] if "own" in frame else frame[:0]
    return own if len(own) else frame


@dataclasses.dataclass(frozen=True)
class View:
    """The selection that sentences and figures share, made once; `Analysis.view`."""

    analysis: Analysis

    @property
    def target(self) -> str:
        """The evaluation set that sentences are about."""
        return self.analysis.targets[0]

    @functools.cached_property
    def reported(self) -> Analysis:
        """The analysis with no swaps but those that are reported."""
        return foremost(self.analysis)

    @functools.cached_property
    def headline(self) -> pd.DataFrame:
        """The equivalents that the answer is made of."""
        return headline(self.reported.equivalents, self.target)

    @functools.cached_property
    def answers(self) -> tuple[Sentence, ...]:
        """What every question says for any part of the report, in their order."""
        from analysis.questions._question import questions

        return tuple(one for question in questions() for one in question.answers(self))

    def rows(self, name: str) -> pd.DataFrame:
        """A frame's rows of the first target, of swaps those that are reported."""
        return of_target(self.reported.frames[name], self.target)

    def own(self, name: str) -> pd.DataFrame:
        """Rows trained on the target itself, where that was done."""
        frame = self.rows(name)
        own = frame[frame.corpus == self.target]
        return own if len(own) else frame

    @property
    def lawless(self) -> bool:
        """Whether no law over sizes and budgets could be fitted, on any target."""
        whole = self.analysis.fits[self.analysis.fits.params.isna()]
        return whole.empty and self.analysis.joint.empty

    @property
    def compared(self) -> bool:
        """Whether a law stands, or effects were measured without one."""
        return not self.lawless or len(self.analysis.measured) > 0
