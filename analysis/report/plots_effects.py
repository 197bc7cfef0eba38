"""Figures of decisions: compute, what moves a verdict, and which factors interact."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.report import words
from analysis.report.plots import (
    ALARM,
    FAINT,
    PALETTE,
    WIDTH,
    Nothing,
    banded,
    factor_axis,
    families_of,
    forest_axis,
    key,
    leading,
    legend,
    log_axis,
    looks,
    panels_of,
    plain,
    reach,
    resize,
    rows_of,
    share_axis,
    side_note,
    span,
    trained,
    whisker,
)
from analysis.results import Analysis


def decisions(figure: Figure, analysis: Analysis, target: str) -> None:
    """Loss of each family at its compute-optimal split, a panel per corpus."""
    frame = leading(rows_of(analysis.decisions, target))
    families = families_of(analysis)
    corpora = sorted(set(frame.corpus))
    resize(figure, 3.2, 1.8 + 2.8 * max(2, len(corpora)))
    panels = panels_of(figure, 1, len(corpora), sharex=True)[0]
    limits = span(frame.compute, pad=0.1), span(frame.loss, pad=0.1)
    for axes, corpus in zip(panels, corpora, strict=True):
        log_axis(axes.xaxis, lambda c: words.number(c, 1), limits[0])
        log_axis(axes.yaxis, plain, limits[1])
        axes.set_title(trained(corpus).strip())
        for family in families:
            mine = frame[(frame.family == family) & (frame.corpus == corpus)]
            mine = mine.sort_values("compute")
            banded(axes, mine.compute, mine.loss, mine, looks(families, family))
        largest = analysis.cells[analysis.cells.corpus == corpus].flops.max()
        if limits[0][0] < largest < limits[0][1]:
            axes.axvline(largest, color=FAINT, lw=0.9, ls="--")
    panels[0].set_ylabel(f"compute-optimal loss\n({analysis.unit})")
    figure.supxlabel("training FLOPs (dashed: the largest run)", fontsize=8.5)
    legend(figure, [key(f, *looks(families, f)) for f in families])


def standings(figure: Figure, analysis: Analysis, target: str) -> None:
    """Measured loss of each family, and the data it needs for the lowest of them."""
    frame = rows_of(analysis.standings, target)
    own = frame[frame.corpus == target]
    frame = own if len(own) else frame[frame.corpus == frame.corpus.iloc[0]]
    ys = range(len(frame))
    resize(figure, 0.9 + 0.26 * len(frame), WIDTH + 0.6)
    told = frame.factor.notna().sum() > 1
    left, *rest = panels_of(figure, 1, 2 if told else 1)[0]
    lowest = frame.loss.min()
    measured = pd.DataFrame(
        {
            "value": frame.loss,
            "low": lowest + frame.above_low,
            "high": lowest + frame.above_high,
        }
    )
    left.set_xlim(*reach(measured, pad=0.04))
    left.grid(True, axis="x")
    left.set_axisbelow(True)
    for y, row in zip(ys, measured.to_dict("records"), strict=True):
        whisker(left, y, row, PALETTE[0], "o")
    forest_axis(left, list(frame.family), ys)
    elsewhere = trained(frame.corpus.iloc[0]).strip() if own.empty else ""
    elsewhere = f"\n{elsewhere}" * bool(elsewhere)
    left.set_xlabel(f"measured loss ({analysis.unit}){elsewhere}")
    for right in rest:
        ends = frame.low.clip(lower=0.05), frame.high.clip(upper=100)
        factor_axis(right, span(frame.factor, *ends, [0.9]))
        for y, row in zip(ys, frame.to_dict("records"), strict=True):
            whisker(right, y, row | {"value": row["factor"]}, PALETTE[0], "o")
            if row["p_infinite"] > 0:
                side_note(right, y, f"∞ in {words.percent(row['p_infinite'])}")
        right.tick_params(axis="y", length=0)
        right.set_xlabel(f"times the data\nfor the loss of {frame.against.iloc[0]}")


def compute(figure: Figure, analysis: Analysis, target: str) -> None:
    """What each architecture swap is worth in compute, as compute grows."""
    frame = rows_of(analysis.multipliers, target)
    frame = frame[(frame.currency == "compute") & (frame.kind == "architecture")]
    frame = frame[frame.compute.notna() & (frame.held != "*")]
    if frame.empty or frame.compute.nunique() < 2:
        raise Nothing
    held = list(dict.fromkeys(frame.held))
    swaps = list(dict.fromkeys(zip(frame.source, frame.to, strict=True)))
    resize(figure, 3.0, 1.8 + 2.8 * max(2, len(held)))
    panels = panels_of(figure, 1, len(held), sharex=True)[0]
    limits = span(frame.factor.clip(upper=100), frame.low.clip(0.1, 1), [0.9, 2.2])
    for axes, level in zip(panels, held, strict=True):
        log_axis(axes.xaxis, lambda c: words.number(c, 1), span(frame.compute))
        factor_axis(axes, limits, upward=True)
        axes.set_title(trained(level).strip())
        for swap in swaps:
            mine = frame[
                (frame.held == level)
                & (frame.source == swap[0])
                & (frame.to == swap[1])
            ].sort_values("compute")
            banded(axes, mine.compute, mine.factor, mine, looks(swaps, swap))
    panels[0].set_ylabel("compute-equivalent gain\n(times the FLOPs)")
    figure.supxlabel("training FLOPs", fontsize=8.5)
    legend(figure, [key(f"{a} → {b}", *looks(swaps, (a, b))) for a, b in swaps], 4)


def verdicts(figure: Figure, analysis: Analysis, target: str) -> None:
    """Each overall effect under other choices; what moves its verdict is red."""
    frame = rows_of(analysis.verdicts, target)
    frame = frame[frame.question != "architecture or corpus"]
    if frame.empty:
        raise Nothing
    settings = list(dict.fromkeys(frame.setting))
    swaps = list(dict.fromkeys(zip(frame.source, frame.to, strict=True)))
    columns = min(3, len(swaps))
    lines = math.ceil(len(swaps) / columns)
    resize(figure, 0.6 + lines * (0.6 + 0.22 * len(settings)), WIDTH + 0.6)
    panels = panels_of(figure, lines, columns).ravel()
    for axes, swap in itertools.zip_longest(panels, swaps):
        if swap is None:
            axes.set_axis_off()
            continue
        mine = frame[(frame.source == swap[0]) & (frame.to == swap[1])]
        low, high = span(
            mine.value, mine.low.clip(lower=0.05), mine.high.clip(upper=50), [0.9, 1.1]
        )
        factor_axis(axes, (max(low, 0.04), min(high, 60)))
        rows = mine.drop_duplicates("setting").set_index("setting").reindex(settings)
        for y, row in enumerate(rows.to_dict("records")):
            colour = ALARM if row["moves"] is True else PALETTE[0]
            whisker(axes, y, row, colour, "s" if row["moves"] is True else "o")
            if math.isinf(row["value"]):
                side_note(axes, y, "∞")
        forest_axis(axes, settings, range(len(settings)))
        axes.set_title(f"{swap[0]} → {swap[1]}")
    figure.supxlabel(
        "data-equivalent over all cells (red: another verdict)", fontsize=8.5
    )


def shares(figure: Figure, analysis: Analysis, target: str) -> None:
    """Shares of the variance of the measured losses, with what is unexplained."""
    frame = rows_of(analysis.shares, target)
    resize(figure, 0.9 + 0.24 * len(frame))
    axes = figure.subplots()
    share_axis(axes, frame, "share of the variance of the measured losses")
    for y, row in enumerate(frame.to_dict("records")):
        axes.barh(y, row["share"], 0.6, color="#bcd8ea")
        whisker(axes, y, row | {"value": row["share"]}, PALETTE[0], "o")
    forest_axis(axes, list(frame.factor), range(len(frame)))


def interactions(figure: Figure, analysis: Analysis, target: str) -> None:
    """How each swap's data-equivalent changes with what is held, size and budget.

    What has no interval tells nothing, and is left to the table.
    """
    frame = rows_of(analysis.interactions, target)
    frame = frame[(frame.quantity == "ln M_D") & np.isfinite(frame.difference)]
    frame = frame[frame.low.notna() & frame.high.notna()]
    if frame.empty:
        raise Nothing
    ratio = pd.DataFrame(
        {
            "value": np.exp(frame.difference),
            "low": np.exp(frame.low),
            "high": np.exp(frame.high),
            "differs": frame.differs,
        }
    )
    resize(figure, 0.9 + 0.24 * len(frame))
    axes = figure.subplots()
    low, high = span(ratio.value, ratio.low.clip(0.1, 10), ratio.high.clip(0.1, 10))
    factor_axis(axes, (min(low, 0.9), max(high, 1.1)))
    for y, row in enumerate(ratio.to_dict("records")):
        colour = ALARM if row["differs"] else PALETTE[0]
        whisker(axes, y, row, colour, "s" if row["differs"] else "o")
    names = [words.compared(row) for row in frame.itertuples()]
    forest_axis(axes, names, range(len(frame)))
    axes.set_xlabel("times the data-equivalent (red: its interval leaves out 1)")
