"""Held-out loss over epochs, family by family."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.formatting import count
from analysis.questions._exhausted import EARLY, FINAL
from analysis.report.style import (
    Nothing,
    banded,
    key,
    legend,
    log_axis,
    looks,
    ordered,
    reach,
    resize,
    span,
    trained,
)
from analysis.results import Analysis

MOST_PANELS = 4


def draw_exhausted(figure: Figure, analysis: Analysis, target: str) -> None:
    """A panel a corpus, at its largest unique data and the size of most families."""
    frame = analysis.exhausted
    if frame.empty:
        raise Nothing
    corpora = ordered(frame.corpus)[:MOST_PANELS]
    families = ordered(frame.family)
    resize(figure, 3.4, max(4.6, 1.0 + 2.7 * len(corpora)))
    # Each with a scale of its own: losses of two texts are not to be compared.
    panels = figure.subplots(1, len(corpora), squeeze=False)[0]
    for axes, corpus in zip(panels, corpora, strict=True):
        mine = frame[frame.corpus == corpus]
        mine = mine[mine.unique_tokens == mine.unique_tokens.max()]
        sizes = mine.groupby("family").params.transform("max")
        mine = mine[mine.params == sizes]
        log_axis(axes.xaxis, lambda v: f"{v:g}", span(mine.epochs))
        axes.set_ylim(*reach(mine.loss, mine.low.dropna(), mine.high.dropna()))
        for family in families:
            some = mine[mine.family == family].sort_values("epochs")
            early, final = (some[some.reading == r] for r in (EARLY, FINAL))
            if some.empty:
                continue
            look = looks(families, family)
            banded(axes, early.epochs, early.loss, early, look)
            axes.plot(final.epochs, final.loss, ls=":", lw=1.0, color=look[0])
            _floor(axes, analysis, early.iloc[-1], look[0])
        axes.set_title(f"{trained(corpus)}{count(mine.unique_tokens.iloc[0])} tokens")
        axes.set_xlabel("epochs")
        axes.grid(True)
    panels[0].set_ylabel(f"held-out loss ({analysis.unit})")
    legend(figure, [key(name, *looks(families, name)) for name in families])


def _floor(axes, analysis: Analysis, row, colour: str) -> None:
    floors = analysis.exhausted_floors
    same = (floors.axis == "epochs") & (floors.reading == EARLY)
    for name in ("family", "corpus", "params", "unique_tokens"):
        same &= floors[name] == row[name]
    for one in floors[same & (floors.refused == "")].itertuples():
        ends = np.array([[one.floor - one.low], [one.high - one.floor]])
        axes.errorbar(
            [1.03],
            [one.floor],
            yerr=np.maximum(ends, 0.0),
            fmt="_",
            color=colour,
            clip_on=False,
            ms=7,
            transform=axes.get_yaxis_transform(),
        )
