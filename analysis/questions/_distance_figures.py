"""Figures of distances between predictions: a ladder of swaps, and a map of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.formatting import number
from analysis.questions._view import probed
from analysis.report.style import (
    FAINT,
    INK,
    PALETTE,
    Nothing,
    corpora_of,
    families_of,
    forest_axis,
    key,
    legend,
    looks,
    reach,
    resize,
    side_note,
    whisker,
)
from analysis.results import Analysis

# What a swap is of, for the ladder: the model or the data.
OF_DATA = ("order", "data", "quality", "damage", "corpus")


# Rungs of the ladder that one figure has room for.
MOST_RUNGS = 26


def draw_ladder(figure: Figure, analysis: Analysis, target: str) -> None:
    """Distances at one place, of swaps of the data and of the model, on one axis."""
    reported = probed(analysis.distances)
    if reported.empty:
        raise Nothing
    frame = reported[reported.distance.notna()].sort_values("distance")
    if len(frame) > MOST_RUNGS:
        # The nearest and the farthest, and those between them in even steps.
        steps = np.linspace(0, len(frame) - 1, MOST_RUNGS).round().astype(int)
        frame = frame.iloc[steps]
    resize(figure, 1.3 + 0.27 * len(frame))
    axes = figure.subplots()
    axes.set_xlim(*reach(frame.low, frame.high, [0.0]))
    labels = []
    for y, row in enumerate(frame.to_dict("records")):
        shown = {"value": row["distance"], "low": row["low"], "high": row["high"]}
        kind = _rung(row["kind"])
        whisker(axes, y, shown, *LOOKS[kind])
        if row["kind"] == "seeds":
            labels.append(f"two seeds: {row['baseline']}, {row['fixed']}")
        else:
            swap = f"{row['baseline']} → {row['alternative']}"
            labels.append(f"{row['kind']}: {swap} ({row['fixed']})")
            if not math.isnan(row["floor"]):
                axes.plot(row["floor"], y, marker="|", color=FAINT, ms=8)
            if not math.isnan(row["excess"]):
                low, high = (number(row[f"excess_{end}"], 2) for end in ENDS)
                ends = f"{low} to {high}"
                side_note(axes, y, f"excess {number(row['excess'], 2)}\n({ends})")
    forest_axis(axes, labels, range(len(frame)))
    axes.axvline(0, color=INK, lw=0.8)
    axes.grid(True, axis="x")
    axes.set_xlabel("mean Jensen-Shannon divergence (nats/token)")
    kinds = dict.fromkeys(_rung(kind) for kind in frame.kind)
    handles = [key(name, *LOOKS[name]) for name in LOOKS if name in kinds]
    legend(figure, [*handles, key("two seeds of either", FAINT, "|")])


ENDS = ("low", "high")


LOOKS = {
    "seeds": (FAINT, "D"),
    "the model": (PALETTE[0], "o"),
    "the data": (PALETTE[1], "s"),
}


def _rung(kind: str) -> str:
    if kind == "seeds":
        return "seeds"
    return "the data" if kind in OF_DATA else "the model"


def draw_map(figure: Figure, analysis: Analysis, target: str) -> None:
    """Every run at one place, on the plane that shows their distances best."""
    frame = probed(analysis.function_map)
    if frame.empty:
        raise Nothing
    families, corpora = families_of(analysis), corpora_of(analysis)
    families = families or sorted(set(frame.family))
    resize(figure, 5.0)
    axes = figure.subplots()
    for (family, corpus), runs in frame.groupby(["family", "corpus"], sort=False):
        colour = _colour(families, family)
        marker = looks(corpora, corpus)[1] if corpus in corpora else "o"
        axes.scatter(runs.x, runs.y, color=colour, marker=marker, s=28, alpha=0.85)
    names = sorted(set(frame.family))
    handles = [key(name, _colour(families, name), "o") for name in names]
    several = sorted(set(frame.corpus))
    if len(several) > 1:
        marks = {c: looks(corpora, c)[1] if c in corpora else "o" for c in several}
        handles += [key(c, INK, mark) for c, mark in marks.items()]
    legend(figure, handles)
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.set_xlabel("root of nats")
    share = 100 * float(frame.shown.iloc[0])
    axes.set_title(f"the plane shows {share:.0f}% of the squared distances")


def _colour(families: Sequence[str], family: str) -> str:
    base = family if family in families else family.split(", ")[0]
    return looks(families, base)[0] if base in families else INK
