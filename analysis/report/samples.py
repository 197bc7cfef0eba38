"""Samples over training: a slider below the explorer, where runs kept such samples."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pandas as pd

from analysis.formatting import count, percent
from analysis.report import markup
from analysis.results import Analysis

# Characters of pictures that a page holds at most, of all sets of samples together.
MOST = 500_000
ID = 6  # letters of a run_id, where runs are alike but for a seed


def section(analysis: Analysis) -> str:
    """The slider's HTML; "" where no run kept samples of several fractions."""
    runs = data(analysis)
    if not runs:
        return ""
    html, script = markup.asset("samples.html"), markup.asset("samples.js")
    held = markup.held("samples-data", json.dumps(runs, separators=(",", ":")))
    return f"{html}{held}<script>{script}</script>"


def data(analysis: Analysis) -> list[dict[str, Any]]:
    """Run by run, as samples.js reads them; [] where no run kept several samples."""
    frame, left = analysis.picture_steps, MOST
    out: list[dict[str, Any]] = []
    if frame.empty:
        return []
    for _, rows in frame.groupby(["samples", "run_id"], sort=False):
        left -= int(rows.pixels.str.len().sum())
        if out and left < 0:
            break
        out.append(_run(rows))
    alike = Counter((run["samples"], run["title"]) for run in out)
    for run in out:
        if alike[run["samples"], run["title"]] > 1:
            run["title"] += f", {run['run_id'][:ID]}"
    return out


def _run(rows: pd.DataFrame) -> dict[str, Any]:
    one = rows.iloc[0]
    height, width, channels = (int(one[n]) for n in ("height", "width", "channels"))
    size = len(one.pixels) // 4 * 3 - one.pixels.count("=")
    return {
        "samples": one.samples,
        "run_id": one.run_id,
        "title": f"{one.family}, {one.corpus}: {count(one.params)} parameters, "
        f"{count(one.unique_tokens)} pictures",
        "count": size // (height * width * channels),
        "height": height,
        "width": width,
        "channels": channels,
        "fixed": _strips(rows[rows.fraction.isna()]),
        "steps": [
            {
                "title": f"{percent(float(fraction))}: "
                f"{count(float(fraction) * one.tokens)} pictures seen",
                "rows": _strips(some),
            }
            for fraction, some in rows.groupby("fraction", sort=True)
        ],
    }


def _strips(rows: pd.DataFrame) -> list[dict[str, str]]:
    return [{"what": row.what, "pixels": row.pixels} for row in rows.itertuples()]
