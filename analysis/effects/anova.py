"""Analysis of variance: the share of the scatter of measured losses of each factor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.effects.shapley import shapley
from analysis.laws import Array

# Resamples of the residuals behind the intervals of the raw runs' shares.
RESAMPLES = 400


def terms_of(codes: Mapping[str, Array], interactions: bool) -> dict[str, Array]:
    """Indicator columns [n, levels - 1] of each term, centred."""
    main = {}
    for name, code in codes.items():
        columns = (code[:, None] == np.arange(1, code.max() + 1)).astype(float)
        main[name] = columns - columns.mean(axis=0)
    out = dict(main)
    if interactions:
        for one, two in itertools.combinations(main, 2):
            product = main[one][:, :, None] * main[two][:, None, :]
            out[f"{one} x {two}"] = product.reshape(len(product), -1)
    return out


def _basis(columns: Sequence[Array], rows: int) -> Array:
    """Orthonormal basis [n, rank] of the mean and the columns."""
    stacked = np.concatenate([np.ones((rows, 1)), *columns], axis=1)
    u, s, _ = np.linalg.svd(stacked, full_matrices=False)
    return np.asarray(u[:, s > 1e-9 * s[0]])


def _left(columns: Sequence[Array], losses: Array) -> Array:
    """Residual sum of squares of each row of losses [B, n]."""
    basis = _basis(columns, losses.shape[1])
    residual = losses - (losses @ basis) @ basis.T
    return np.asarray((residual**2).sum(axis=1))


def resampled(terms: Mapping[str, Array], loss: Array, seed: int) -> Array | None:
    """The losses, then the fit plus resampled residuals, [1 + RESAMPLES, n].

    None where the model leaves no freedom for residuals.
    """
    basis = _basis(list(terms.values()), loss.size)
    freedom = loss.size - basis.shape[1]
    if freedom < 1:
        return None
    fitted = basis @ (basis.T @ loss)
    residual = (loss - fitted) * math.sqrt(loss.size / freedom)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(residual, size=(RESAMPLES, loss.size))
    return np.concatenate([loss[None], fitted + drawn])


def omega_squared(terms: Mapping[str, Array], losses: Array) -> Array:
    """omega^2 of each term and what is left, [B, terms + 1]; type II sums of squares.

    A term's sum of squares is what it adds to all terms that do not contain it.
    omega^2 = (SS - df MS_error) / (SS_total + MS_error), not below zero.
    """
    size = losses.shape[1]
    rank = {name: _basis([x], size).shape[1] - 1 for name, x in terms.items()}
    error = _left(list(terms.values()), losses)
    mean_error = error / (size - 1 - sum(rank.values()))
    total = ((losses - losses.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    shares = []
    for name in terms:
        without = [
            x
            for other, x in terms.items()
            if not set(name.split(" x ")) <= set(other.split(" x "))
        ]
        gained = _left(without, losses) - _left([*without, terms[name]], losses)
        share = (gained - rank[name] * mean_error) / (total + mean_error)
        shares.append(np.maximum(share, 0.0))
    return np.stack([*shares, 1.0 - np.sum(shares, axis=0)], axis=1)


def shapley_r2(terms: Mapping[str, Array], losses: Array) -> Array:
    """Shapley values of R^2 of each term and what no term explains, [B, terms + 1]."""
    columns = list(terms.values())
    total = ((losses - losses.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)

    def explained(chosen: frozenset[int]) -> Array:
        return 1.0 - _left([columns[k] for k in sorted(chosen)], losses) / total

    shares = shapley(explained, len(columns))
    return np.concatenate([shares, 1.0 - shares.sum(axis=1, keepdims=True)], axis=1)
