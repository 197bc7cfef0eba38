"""What moves the loss, and whether a swap is worth more or less as the grid grows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.formatting import UNDETERMINED, capitalised, count, joined, percent
from analysis.questions._plain_worth import foremost_of
from analysis.questions._question import (
    FRONT,
    Absent,
    Drawing,
    Question,
    Sentence,
)
from analysis.questions._view import View, headline, of_target
from analysis.questions.variance import named, plain_shares
from analysis.report.style import (
    FAINT,
    PALETTE,
    Nothing,
    banded,
    entries,
    factor_axis,
    forest_axis,
    key,
    log_axis,
    looks,
    resize,
    share_axis,
    span,
    whisker,
)
from analysis.results import Analysis

# A kind that grows along these, by the name of the frame's column.
ALONG = {"tokens": "with more data", "params": "with larger models"}
# No lines above this many times the data: what is higher is an arrow.
HIGHEST = 100.0
MOST_LINES = 4


def trends(view: View, kind: str) -> list[tuple[Any, dict[str, tuple[str, Any]]]]:
    """Of the foremost swap of a kind, what its gap does along data and size.

    Returns:
      the swap's row and by axis "grows", "closes" or "" where it is not decided, with
      the row of Analysis.interactions behind it; nothing where none was asked.
    """
    found = foremost_of(view, kind)
    found = found[found.low > 1.0]
    if found.empty:
        return []
    best = found.loc[found.low.idxmax()]
    frame = of_target(view.analysis.interactions, view.target)
    frame = frame[(frame.kind == kind) & (frame.fixed == best.fixed)]
    ends = [
        frozenset(pair) for pair in zip(frame.baseline, frame.alternative, strict=True)
    ]
    frame = frame[
        np.array([pair == {best.baseline, best.alternative} for pair in ends], bool)
    ]
    # Laws of each family and corpus alone share no multiplier and decide; without
    # them the matched cells do.
    methods = [m for m in ("family", "paired") if m in set(frame.method)]
    out: dict[str, tuple[str, Any]] = {}
    for row in frame[frame.method.isin(methods[:1])].itertuples():
        if row.by not in ALONG:
            continue
        # A gain is a data-equivalent above 1, and a log ratio of losses below 0.
        sign = 1.0 if row.quantity == "ln M_D" else -1.0
        sign *= 1.0 if row.baseline == best.baseline else -1.0
        lie = "grows" if sign * row.difference > 0 else "closes"
        lie = lie if row.differs else ""
        out[row.by] = lie, row
    return [(best, out)] if out else []


def trend(best: Any, along: dict[str, tuple[str, Any]]) -> str:
    """Whether the gap of one swap grows or closes, axis by axis."""
    gap = f"the gap between {best.baseline} and {best.alternative}"
    reported = []
    for way in ("grows", "closes"):
        where = [
            f"{ALONG[by]} ({_range(row)})"
            for by, (lie, row) in along.items()
            if lie == way
        ]
        reported += [f"{way} {joined(where)}"] if where else []
    open_ = [ALONG[by] for by, (lie, _) in along.items() if not lie]
    if not reported:
        return capitalised(
            f"whether {gap} grows or closes {joined(open_, 'or')} {UNDETERMINED}."
        )
    text = capitalised(f"{gap} {joined(reported, 'but')}")
    if open_:
        text += f"; whether it changes {joined(open_, 'or')} {UNDETERMINED}"
    return f"{text}."


def _range(row: Any) -> str:
    unit = "parameters" if row.by == "params" else "tokens"
    return f"{count(float(row.first))} to {count(float(row.second))} {unit}"


def said(view: View) -> list[str]:
    kinds = dict.fromkeys(("architecture", "corpus", *view.headline.kind))
    return [trend(*one) for kind in kinds for one in trends(view, kind)]


def answers(view: View) -> list[Sentence]:
    return [Sentence(text, 70, FRONT) for text in said(view)]


def _lines(analysis: Analysis, target: str) -> pd.DataFrame:
    """Data-equivalents of the answer's swaps by tokens, at their largest size.

    By the laws of each family and corpus alone where there are any: the joint law
    shares its multipliers and shows little change.
    """
    reported = headline(analysis.equivalents, target)
    reported = reported[(reported.low > 1.0) & reported.params.notna()]
    own = reported[(reported.kind != "architecture") | (reported.fixed == target)]
    reported = own if len(own) else reported
    reported = (
        reported.sort_values("factor").groupby("kind", sort=False).tail(MOST_LINES // 2)
    )
    keys = ["kind", "baseline", "alternative", "fixed"]
    reported = reported.rename(columns={"tokens": "at_", "factor": "led"})
    beside = reported.rename(columns={"low": "led_low", "high": "led_high"})
    beside = beside[[*keys, "at_", "led", "led_low", "led_high"]]
    frame = of_target(analysis.equivalents, target).merge(beside, on=keys)
    frame = frame[frame.params.notna() & frame.factor.notna() & frame.low.notna()]
    for method in ("family", "preferred", "joint"):
        mine = frame[frame.method == method]
        counts = mine.groupby([*keys, "params"]).tokens.nunique()
        if len(counts) and counts.max() > 1:
            break
    else:
        return frame[:0]
    most = mine.groupby(keys).params.transform("max")
    return mine[mine.params == most].sort_values("tokens")


def draw_growth(figure: Figure, analysis: Analysis, target: str) -> None:
    """Shares of the variation in loss, over what swaps are worth as data grows."""
    shares, lines = plain_shares(analysis, target), _lines(analysis, target)
    if len(shares) < 2 and lines.empty:
        raise Nothing
    heights = [0.5 + 0.3 * len(shares)] * (len(shares) > 1) + [2.9] * (len(lines) > 0)
    resize(figure, 0.5 + sum(heights), 6.2)
    panels = list(
        figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    )
    if len(shares) > 1:
        _draw_shares(panels.pop(0), shares)
    if len(lines):
        _draw_lines(figure, panels.pop(0), lines)


def _draw_shares(axes: Axes, shares: pd.DataFrame) -> None:
    share_axis(axes, shares, "")
    for y, row in enumerate(shares.to_dict("records")):
        axes.barh(y, row["share"], 0.62, color="#bcd8ea")
        whisker(axes, y, row | {"value": row["share"]}, PALETTE[0], "o")
        axes.annotate(
            percent(row["share"]),
            (max(row["share"], row["high"]), y),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xlim(axes.get_xlim()[0], 1.12 * axes.get_xlim()[1])
    forest_axis(axes, [named(name) for name in shares.factor], range(len(shares)))
    axes.set_title("share of the variation in loss between the runs")


def _draw_lines(figure: Figure, axes: Axes, lines: pd.DataFrame) -> None:
    keys = ["kind", "baseline", "alternative", "fixed"]
    limits = span(
        lines.factor.clip(upper=HIGHEST), lines.low.clip(0.2, HIGHEST), [0.9, 2.2]
    )
    log_axis(axes.xaxis, count, span(lines.tokens, pad=0.1))
    factor_axis(axes, (limits[0], min(limits[1], 1.2 * HIGHEST)), upward=True)
    axes.axhline(2, color=FAINT, lw=0.8, ls="--")
    highest = axes.get_ylim()[1]
    names = [tuple(names) for names, _ in lines.groupby(keys, sort=False)]
    for names_, mine in lines.groupby(keys, sort=False):
        look = looks(names, tuple(names_))
        shown = mine.assign(factor=mine.factor.where(mine.factor <= highest))
        # A band that leaves the axis would fill the panel and hide the others.
        shown.loc[~(mine.high <= highest), ["low", "high"]] = np.nan
        banded(axes, shown.tokens, shown.factor, shown, look)
        lead = mine.iloc[0]
        axes.plot(2 * [lead.at_], [lead.led_low, lead.led_high], color=look[0], lw=1.4)
        axes.plot(lead.at_, lead.led, look[1], color=look[0], mfc="white", ms=8)
        for row in mine[~(mine.factor <= highest)].itertuples():
            axes.plot(row.tokens, highest, "^", color=look[0], ms=6, clip_on=False)
    axes.set_xlabel("training tokens (dashed: a doubling; ▲: more than the axis has)")
    axes.set_ylabel("worth, in multiples of the data")
    handles = [key(_named(one), *looks(names, one)) for one in names]
    wide, high = figure.get_size_inches()
    wide, columns = entries(handles, wide, 2)
    resize(figure, high, wide)
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1.0 + 0.1 * math.ceil(len(names) / columns)),
        ncols=columns,
    )


def _caption(analysis: Analysis, target: str) -> str:
    """What the lower panel shows, where there is one."""
    if _lines(analysis, target).empty:
        return ""
    return (
        "Below: what swaps are worth in data, against training tokens at the largest "
        "size, by the law of each family and corpus alone where it could be fitted; a "
        "band is drawn only where its interval stays on the axis. Hollow: the numbers "
        "in the text, by the leading law."
    )


def _named(names: tuple[str, str, str, str]) -> str:
    kind, baseline, alternative, fixed = names
    return f"{baseline} → {alternative}" + (
        f" ({fixed})" if kind != "architecture" else ""
    )


QUESTION = Question(
    name="growth",
    title="What moves the loss, and does it change with scale?",
    place=15,
    absent=Absent(
        "change of an effect with scale", ("interactions", "shares"), ("effects",)
    ),
    said=said,
    answers=answers,
    figures={
        "growth": Drawing(
            draw_growth,
            "Share of the variation in loss between the runs that each factor "
            "explains. Lines: 95% intervals.",
            more=_caption,
            front=90,
        )
    },
)
