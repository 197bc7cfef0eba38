"""How much the best of several noisy settings is low by luck alone.

The lowest of k measured losses lies below the loss that its setting would give again,
the more so the more settings are nearly as good. What is fitted is the loss of a tuned
run, so that luck is taken off each cell before any law sees it.

Given the noise of a run, the true gaps of the settings are the measured ones less the
luck of the best, and not below zero; the luck is the mean of the least of the true gaps
with noise added. The two are found together. Settings far from the best add nothing.

The noise is that of seeds where enough repeat a setting. Else it is what remains of the
losses after each cell's level and each setting's own effect, which may change in
proportion to ln N and ln D: exact where the loss is a parabola in the log rate whose
lowest point moves as a power of size and data.
"""

from __future__ import annotations

import numpy as np

from analysis.laws import Array

# Fewer degrees of freedom than these say too little of the noise: of seeds, which need
# no model, and of what remains of the settings' effects.
SEEDS, REMAINS = 10, 5
# Normal draws of the noise of a cell's settings, and rounds until gaps and luck agree.
DRAWS, ROUNDS = 400, 12


def of_best(logs: Array, cell: Array, group: Array, setting: Array, at: Array) -> Array:
    """ln of the best loss as measured over what it would be again, [n], at most 0.

    Args:
      logs: ln loss [n], rows in the order of cells and groups.
      cell, group: codes [n] of cells and of the settings within them.
      setting: codes [n] of settings, the same in all cells.
      at: ln N and ln D, [n, 2].
    """
    first = np.unique(group, return_index=True)[1]
    count = np.bincount(group)
    mean = np.bincount(group, logs) / count
    of_cell = cell[first]
    several = np.bincount(of_cell) > 1
    out = np.zeros(several.size)
    if several.any():
        noise = _noise(logs, group, mean, count, of_cell, setting[first], at[first])
        if noise > 0:
            for size in np.unique(np.bincount(of_cell)[several]):
                mine = np.flatnonzero(np.bincount(of_cell) == size)
                rows = np.isin(of_cell, mine)
                shape = (mine.size, int(size))
                error = noise / np.sqrt(count[rows].reshape(shape))
                out[mine] = _luck(mean[rows].reshape(shape), error)
    return out[cell]


def _luck(mean: Array, error: Array) -> Array:
    """Of cells [c] with k settings each: their means and standard errors [c, k]."""
    gaps = mean - mean.min(axis=1, keepdims=True)
    normal = np.random.default_rng(0).normal(size=(DRAWS, 1, mean.shape[1]))
    normal = normal - normal.mean(axis=0)
    luck = np.zeros((len(mean), 1))
    for _ in range(ROUNDS):
        true = np.maximum(gaps + luck, 0.0)
        luck = (true + error * normal).min(axis=2).mean(axis=0)[:, None]
        luck = np.minimum(luck, 0.0)
    return luck[:, 0]


def _noise(
    logs: Array,
    group: Array,
    mean: Array,
    count: Array,
    cell: Array,
    setting: Array,
    at: Array,
) -> float:
    """Standard deviation of one run's ln loss; 0 where nothing shows it."""
    freedom = logs.size - count.size
    if freedom >= SEEDS:
        return float(np.sqrt(((logs - mean[group]) ** 2).sum() / freedom))
    kept = (np.bincount(cell) > 1)[cell]
    mean, setting, at, count = mean[kept], setting[kept], at[kept], count[kept]
    _, cell = np.unique(cell[kept], return_inverse=True)
    known, code = np.unique(setting, return_inverse=True)
    if 3 * known.size >= mean.size:
        return 0.0
    which = (code[:, None] == np.arange(known.size)).astype(np.float64)
    scale = np.column_stack([np.ones(len(at)), at - at.mean(axis=0)])
    effects = (which[:, :, None] * scale[:, None, :]).reshape(len(at), -1)
    left, effects = _within(mean[:, None], cell)[:, 0], _within(effects, cell)
    solved, _, rank, _ = np.linalg.lstsq(effects, left, rcond=1e-9)
    freedom = mean.size - int(cell.max()) - 1 - int(rank)
    if freedom < REMAINS:
        return 0.0
    left = (left - effects @ solved) * np.sqrt(count * mean.size / freedom)
    # Settings near divergence are noisy as no tuned run is: not by squares.
    return float(1.4826 * np.median(np.abs(left)))


def _within(values: Array, cell: Array) -> Array:
    """Values [n, p] less their mean over each cell."""
    total = np.zeros((int(cell.max()) + 1, values.shape[1]))
    np.add.at(total, cell, values)
    return values - (total / np.bincount(cell)[:, None])[cell]
