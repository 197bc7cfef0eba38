"""Samples of the same noises after more and more of a run's training."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.laws import Array
from analysis.pictures.groups import Pictured
from analysis.pictures.load import LINEAR
from analysis.questions._picture_grid import NEAREST, SAMPLE, levels
from analysis.schema import Column, declare

# Of one set of samples: noises, runs and fractions that are kept at most, and bytes of
# pixels, of all and of one run; a run has at least a few noises. A page shows what a
# person looks at, and stays small.
NOISES, RUNS, FRACTIONS, BYTES = 8, 24, 9, 400_000
OF_RUN, LEAST = 64_000, 3
STEPS = declare(
    "picture_steps",
    "Samples of the first noises after each fraction of a run's training.",
    Column("samples", "the set of noises"),
    "run_id family corpus params tokens unique_tokens",
    Column("fraction", "of the training; none of the linear sample"),
    Column("what", "sample, nearest training picture, or linear sample"),
    Column("height", "of a picture", "pixels"),
    Column("width", "of a picture", "pixels"),
    Column("channels", "of a pixel"),
    Column("pixels", "levels of 256 in base64, picture by picture, row by row"),
)


def steps(asked: Pictured) -> list[dict[str, Any]]:
    """Rows of the frame, run by run; of any objective."""
    made, left = asked.pictures, BYTES
    out: list[dict[str, Any]] = []
    for run in _chosen(asked).to_dict("records"):
        names = ("run_id", "family", "corpus", "params", "tokens", "unique_tokens")
        head = {"samples": made.name, **{name: run[name] for name in names}}
        some = [head | row for row in _of_run(asked, run["run_id"])]
        left -= sum(len(row["pixels"]) for row in some) * 3 // 4
        if out and left < 0:
            break
        out += some
    return out


def _chosen(asked: Pictured) -> pd.DataFrame:
    """Runs with samples of several fractions: of each family and corpus in turn, first
    those of the most pictures, the longest training and the largest size."""
    made = asked.pictures
    runs = made.runs[[len(made.fractions[i]) > 1 for i in made.runs.run_id]]
    most = ["unique_tokens", "tokens", "params"]
    runs = runs.sort_values([*most, "run_id"], ascending=[False] * 3 + [True])
    turn = runs.groupby(["family", "corpus"], sort=False).cumcount()
    return runs.assign(turn=turn).sort_values("turn", kind="stable").head(RUNS)


def _of_run(asked: Pictured, run_id: str) -> Iterator[dict[str, Any]]:
    made = asked.pictures
    kept = made.fractions[run_id]
    at = np.unique(np.linspace(0, len(kept) - 1, FRACTIONS).round().astype(int))
    size = levels(made.real[0]).size
    noises = min(NOISES, max(LEAST, OF_RUN // (size * (2 * len(at) + 1))))
    for fraction in (kept[i] for i in at):
        samples = made.read(run_id, "pictures", fraction)
        yield _row(fraction, SAMPLE, samples[:noises])
        near = made.get(run_id, "nearest", fraction)
        if near is not None:
            yield _row(fraction, NEAREST, near[:noises] / 255.0)
    linear = made.get(run_id, LINEAR)
    if linear is not None:
        yield _row(math.nan, f"{LINEAR} sample", linear[:noises])


def _row(fraction: float, what: str, pictures: Array) -> dict[str, Any]:
    shown = np.stack([levels(picture) for picture in pictures])
    _, height, width, channels = shown.shape
    pixels = base64.b64encode(shown.tobytes()).decode()
    shape = {"height": height, "width": width, "channels": channels}
    return {"fraction": fraction, "what": what, **shape, "pixels": pixels}
