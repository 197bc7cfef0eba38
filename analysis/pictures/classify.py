"""Can pictures of two kinds be told apart? A linear classifier, cross-validated.

The share that a classifier assigns to the right one of two sets of pictures is a half
where the two have one distribution, and is a lower bound to how far apart they are
(Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests"). It is ridge
regression on the pixels, their squares and the products of neighbours, which see means,
variances and edges; its penalty is chosen within the known folds by the closed form of
leaving one out. Pictures of one group are in one fold.
"""

from __future__ import annotations

import numpy as np

from analysis.laws import Array

FOLDS = 5
# Of the mean square of the features, over which the penalty is chosen.
PENALTIES = np.geomspace(1e-3, 1e3, 13)


def features(pictures: Array) -> Array:
    """[n, features] of pictures [n, height, width, channels]."""
    x = np.asarray(pictures, float)
    centred = x - x.mean()
    parts = [
        x,
        centred**2,
        centred[:, 1:] * centred[:, :-1],
        centred[:, :, 1:] * centred[:, :, :-1],
    ]
    return np.concatenate([part.reshape(len(x), -1) for part in parts], axis=1)


def right(one: Array, two: Array, groups: tuple[Array, Array], seed: int = 0) -> Array:
    """[n + m], 1 where a picture is assigned to its own set and 0 where not.

    Args:
      one, two: pictures [n, ...] and [m, ...].
      groups: of each, [n] and [m]; pictures of one group, in whichever set, are judged
        together by what the others say.
      seed: keys the folds.
    """
    x = features(np.concatenate([one, two]))
    y = np.repeat([-1.0, 1.0], [len(one), len(two)])
    _, group = np.unique(np.concatenate(groups), return_inverse=True)
    count = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(count) % min(FOLDS, count))[group]
    out = np.zeros(len(y))
    for k in np.unique(fold):
        mine = fold == k
        if len(np.unique(y[~mine])) < 2:
            out[mine] = 0.5
            continue
        score = _scored(x[~mine], y[~mine], x[mine])
        out[mine] = np.where(score == 0, 0.5, np.sign(score) == y[mine])
    return out


def _scored(known: Array, y: Array, asked: Array) -> Array:
    """Ridge regression's predictions for `asked`, from standardised features."""
    middle, spread = known.mean(axis=0), known.std(axis=0)
    used = spread > 1e-9 * max(float(spread.max()), 1e-300)
    scale = spread[used] * np.sqrt(used.sum())
    known, asked = ((a[:, used] - middle[used]) / scale for a in (known, asked))
    # The threshold lies between the means, also where one kind has more pictures.
    target = y - y.mean()
    values, vectors = np.linalg.eigh(known @ known.T)
    values = np.maximum(values, 0.0)
    along = vectors.T @ target
    best = (np.inf, PENALTIES[-1])
    for penalty in PENALTIES * values.mean():
        share = values / (values + penalty)
        # The mean is fitted too: it has a leverage of 1 / n of its own.
        leverage = (vectors**2) @ share + 1.0 / len(y)
        left = target - vectors @ (share * along)
        lost = float(np.mean((left / np.maximum(1.0 - leverage, 1e-6)) ** 2))
        best = min(best, (lost, penalty))
    weights = vectors @ (along / (values + best[1]))
    found = asked @ (known.T @ weights)
    ends = [float((known @ (known.T @ weights))[y == of].mean()) for of in (-1.0, 1.0)]
    return np.asarray(found - 0.5 * (ends[0] + ends[1]))


def halves(groups: Array, seed: int = 0) -> Array:
    """bool [n]: about half of the pictures, whole groups at random."""
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    order = np.random.default_rng(seed).permutation(count)
    return (order < count // 2)[group]


def quantised(pictures: Array, levels: int) -> Array:
    """Pictures over 255 in so many levels, each at its middle level of 256."""
    wide = 256 // levels
    number = np.rint(255.0 * np.clip(pictures, 0.0, 1.0)) // wide
    return ((number + 0.5) * wide - 0.5) / 255.0
