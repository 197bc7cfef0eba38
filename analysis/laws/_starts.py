"""Starting points of laws that are no plain sum of powers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from analysis.laws import Array, Columns

Predict = Callable[[Array, Columns], Array]


def grid(size: int, values: Mapping[int, Sequence[float] | Array]) -> Array:
    """Every combination of values of some coordinates, [S, size]; others at zero."""
    combinations = list(itertools.product(*values.values()))
    theta = np.zeros((len(combinations), size))
    theta[:, list(values)] = combinations
    return theta


def best(
    predict: Predict,
    linear: Sequence[int],
    candidates: Array,
    columns: Columns,
    loss: Array,
    keep: int,
) -> Array:
    """The candidates nearest to the losses, [keep, P], by least squares on ratios.

    Args:
      linear: coordinates c in whose exp(c) the loss is linear: solved for, and so are
        starts from which each part can still grow.
      candidates: [S, P].
    """
    filled = np.array(candidates, np.float64)
    small = 1e-3 * float(np.median(loss))
    errors = np.empty(len(filled))
    for row, theta in enumerate(filled):
        parts = np.repeat(theta[None], len(linear), axis=0)
        parts[:, linear] = -700.0  # exp() of it is nothing beside a loss
        parts[np.arange(len(linear)), linear] = 0.0
        basis = predict(parts, columns).T / loss[:, None]
        amplitude = nonnegative(basis, np.ones_like(loss))
        theta[list(linear)] = np.log(np.maximum(amplitude, small))
        errors[row] = np.sum((basis @ amplitude - 1.0) ** 2)
    order = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable")
    return filled[order[:keep]]


def nonnegative(basis: Array, target: Array) -> Array:
    """Non-negative least squares: basis [n, k], target [n] -> [k]; zeros if it fails.

    Columns are scaled first: parts of a loss differ by many orders of magnitude.
    """
    from scipy.optimize import nnls

    scale = np.maximum(np.linalg.norm(basis, axis=0), 1e-300)
    if not np.isfinite(basis).all():
        return np.zeros(basis.shape[1])
    return nnls(basis / scale, target)[0] / scale
