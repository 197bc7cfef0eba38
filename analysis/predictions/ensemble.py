"""Ensembles, from kept predictions and at no training: the mean of the chances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.laws import Array
from analysis.predictions.load import Point, Predictions


def log_mean(predictions: Predictions, points: Sequence[Point]) -> Array:
    """Natural logs of the mean chances of several runs, float32 [positions, vocab].

    Runs are read one at a time.

    Raises:
      ValueError: no run is given.
    """
    if not points:
        raise ValueError("a mean of no runs")
    total = np.exp(predictions.read(*points[0]).astype(np.float64))
    for point in points[1:]:
        total += np.exp(predictions.read(*point).astype(np.float64))
    with np.errstate(divide="ignore"):  # no run gives it a chance: the log is -inf
        return np.log(total / len(points)).astype(np.float32)
