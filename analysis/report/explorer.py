"""The explorer: every run in the page, to be filtered, compared and looked up.

Vega draws it, offline: its text (BSD-3-Clause; the folder vega/ has the licence) stands
in the page, compressed as the runs are, and is run only when the explorer is opened. It
is kept here, at the version in its name, since no package of PyPI holds it but
vl-convert-python, 84 MB for these 0.5; `make vega` gets it again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.report import markup, samples
from analysis.report.style import PALETTE, corpora_of, families_of
from analysis.results import Analysis

VEGA = "vega/vega-6.2.0.min.js"
# Points of all learning curves together, and of one: a page is to stay small.
MOST_POINTS, MOST_OF_A_CURVE = 30_000, 60
DIGITS = 6
# Columns that are not shown of a run that is picked.
HIDDEN = {"trajectory", "usable", "used"}


def section(analysis: Analysis) -> str:
    """The explorer's HTML, or why there is none."""
    if analysis.runs.empty:
        return '<p class="none">There are no runs to explore.</p>'
    body = json.dumps(data(analysis), separators=(",", ":"), allow_nan=False)
    html, script, code = map(markup.asset, ("explorer.html", "explorer.js", VEGA))
    held = markup.held("explorer-data", body) + markup.held("explorer-vega", code)
    return f"{html}{held}<script>{script}</script>{samples.section(analysis)}"


def data(analysis: Analysis) -> dict[str, Any]:
    """What the explorer draws, by column; names stand once and are counted from 0."""
    runs = analysis.runs.reset_index(drop=True)
    shown = [name for name in runs if name not in HIDDEN]
    families, corpora = families_of(analysis), corpora_of(analysis)
    return {
        "unit": analysis.unit,
        "counted": analysis.counted,
        "targets": list(analysis.targets),
        "families": [str(name) for name in families],
        "corpora": [str(name) for name in corpora],
        "palette": list(PALETTE),
        "runs": {name: _column(runs[name]) for name in shown},
        "used": [bool(value) for value in runs.used],
        "laws": _laws(analysis, families, corpora),
        "residuals": _residuals(analysis, families, corpora),
        "paths": _paths(analysis, runs),
    }


def _column(column: pd.Series) -> dict[str, Any]:
    """Numbers as they are, all else as levels and their places."""
    if pd.api.types.is_numeric_dtype(column) and column.dtype != bool:
        return {"values": _numbers(column)}
    codes, levels = pd.factorize(column.astype(object).fillna("").map(str))
    return {"levels": [str(level) for level in levels], "codes": codes.tolist()}


def _numbers(values: Sequence[float] | pd.Series) -> list[float | None]:
    """To six digits, which no eye distinguishes from all; what is no number is null."""
    out: list[float | None] = []
    for value in np.asarray(values, float):
        short = float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
        out.append(int(short) if short is not None and short.is_integer() else short)
    return out


def _known(
    frame: pd.DataFrame, analysis: Analysis, families: Any, corpora: Any
) -> pd.DataFrame:
    """Rows of the report's targets and of runs in it; not those of the law of all."""
    known = frame.family.isin(families) & frame.corpus.isin(corpora)
    return frame[known & frame.target.isin(analysis.targets)]


def _coded(
    frame: pd.DataFrame, analysis: Analysis, families: Any, corpora: Any
) -> dict[str, Any]:
    places = {"family": families, "corpus": corpora, "target": analysis.targets}
    return {
        name: [list(levels).index(level) for level in frame[name]]
        for name, levels in places.items()
    }


def _laws(analysis: Analysis, families: Any, corpora: Any) -> dict[str, Any]:
    """Fitted laws with their bands, a line for each family, corpus, target and size."""
    frame = analysis.curves
    frame = _known(frame, analysis, families, corpora)
    out = _coded(frame, analysis, families, corpora)
    names = ("params", "tokens", "loss", "low", "high")
    return out | {name: _numbers(frame[name]) for name in names}


def _residuals(analysis: Analysis, families: Any, corpora: Any) -> dict[str, Any]:
    """How far the fitted runs lie from the law that leads, in percent of the loss."""
    frame = analysis.residuals
    lead = frame.groupby("target").law.transform("first") if len(frame) else frame.law
    frame = frame[frame.law == lead]
    frame = _known(frame, analysis, families, corpora)
    out = _coded(frame, analysis, families, corpora)
    out["law"] = [str(law) for law in frame.law.unique()]
    out["residual"] = _numbers(100.0 * frame.residual)
    return out | {name: _numbers(frame[name]) for name in ("params", "tokens")}


def _paths(analysis: Analysis, runs: pd.DataFrame) -> dict[str, Any]:
    """Learning curves, thinned evenly in the log of the tokens."""
    frame = analysis.paths
    if frame.empty:
        return {"run": [], "tokens": [], "loss": []}
    place = {name: row for row, name in enumerate(runs.run_id)}
    frame = frame[frame.run_id.isin(place)]
    curves = list(frame.groupby("run_id", sort=False))
    each = max(8, min(MOST_OF_A_CURVE, MOST_POINTS // max(1, len(curves))))
    parts = []
    for name, curve in curves:
        curve = curve.sort_values("tokens")
        wanted = np.geomspace(1, len(curve), each).round().astype(int) - 1
        parts.append(curve.iloc[np.unique(wanted)].assign(run=place[name]))
    thin = pd.concat(parts)
    numbers = {name: _numbers(thin[name]) for name in ("tokens", "loss")}
    return {"run": thin.run.tolist()} | numbers
