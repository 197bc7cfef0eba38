"""Telling what a run is of from its predictions alone: nearest means, cross-validated.

The root of the Jensen-Shannon divergence is a Hilbert-space distance, so the squared
distance of a run x from the mean of the runs j of a cell is

    s(x) = mean_j d(x, j) - 1/2 mean_jk d(j, k)

of divergences d alone. The chance of a cell is proportional to exp(-s / t), that of a
label the sum over its cells, mixed with a little of an even guess. The temperature t is
chosen on the runs of the fold that are known, of which parts are left out in the same
way.
What is gained on an even guess, log2 K less the mean surprise at the right one of K
labels, is a lower bound to the information of predictions about the label (Barber and
Agakov 2003).

A run is never judged by one of its own seed; nor, where the label is to be predicted
for what was not seen, by one of its own nuisance level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from analysis.laws import Array

EVEN = 0.02  # share of an even guess in every chance
TEMPERATURES = np.geomspace(0.01, 3.0, 12)  # in mean distances within the known


@dataclasses.dataclass(frozen=True)
class Task:
    """Which label is to be predicted for which runs.

    Attributes:
      label: int [runs], what is to be predicted.
      nuisance: int [runs], what else differs between them.
      seed: int [runs].
      apart: whether runs of a run's own nuisance level are unknown too.
    """

    label: Array
    nuisance: Array
    seed: Array
    apart: bool

    @property
    def labels(self) -> int:
        return int(self.label.max()) + 1


@dataclasses.dataclass(frozen=True)
class Fold:
    """Runs that are judged, bool [runs], those they are judged by, and how sharply."""

    mine: Array
    known: Array
    heat: float


def folds(task: Task, distance: Array) -> list[Fold]:
    """The folds of a task, the temperature of each chosen on what is known in it.

    Args:
      distance: [runs, runs], mean divergences.
    """
    levels = np.unique(task.nuisance) if task.apart else [None]
    out = []
    for seed in np.unique(task.seed):
        for level in levels:
            mine = task.seed == seed
            known = ~mine
            if level is not None:
                mine = mine & (task.nuisance == level)
                known &= task.nuisance != level
            if mine.any() and known.any():
                out.append(Fold(mine, known, _temperature(task, distance, known)))
    return out


def chances(task: Task, distance: Array, several: Sequence[Fold]) -> Array:
    """[draws, runs, labels]: the chance of every label of each run.

    Args:
      distance: [draws, runs, runs].
    """
    out = np.full((*distance.shape[:2], task.labels), np.nan)
    for fold in several:
        predicted = _predicted(task, distance, fold.mine, fold.known, fold.heat)
        out[:, fold.mine] = predicted
    return out


def _predicted(
    task: Task, distance: Array, mine: Array, known: Array, heat: float
) -> Array:
    """Chances [draws, mine, labels] of some runs from others."""
    cells = np.stack([task.label, task.nuisance], 1)[known]
    cells, place = np.unique(cells, axis=0, return_inverse=True)
    share = np.zeros((len(cells), int(known.sum())))
    share[place.ravel(), np.arange(share.shape[1])] = 1.0
    share /= share.sum(axis=1, keepdims=True)
    across = np.einsum("bxj,cj->bxc", distance[:, mine][:, :, known], share)
    within = distance[:, known][:, :, known]
    own = 0.5 * np.einsum("bjk,cj,ck->bc", within, share, share)
    score = -(across - own[:, None, :]) / heat
    score = np.exp(score - score.max(axis=-1, keepdims=True))
    of_label = np.eye(task.labels)[cells[:, 0]]
    summed = score @ of_label
    summed /= summed.sum(axis=-1, keepdims=True)
    return (1.0 - EVEN) * summed + EVEN / task.labels


def _temperature(task: Task, distance: Array, known: Array) -> float:
    """That of the least surprise at known runs, judged as the unknown ones will be."""
    inside = distance[np.ix_(known, known)]
    usual = float(inside[~np.eye(len(inside), dtype=bool)].mean()) or 1.0
    parts = []
    for seed in np.unique(task.seed[known]):
        mine, rest = known & (task.seed == seed), known & (task.seed != seed)
        levels = np.unique(task.nuisance[known])
        if task.apart and len(levels) > 1:
            at = [task.nuisance == level for level in levels]
            parts += [(mine & here, rest & ~here) for here in at]
        else:
            parts.append((mine, rest))
    parts = [(mine, rest) for mine, rest in parts if mine.any() and rest.any()]
    if not parts:
        return usual * float(np.median(TEMPERATURES))
    best = (np.inf, usual)
    for heat in usual * TEMPERATURES:
        lost = 0.0
        for mine, rest in parts:
            guess = _predicted(task, distance[None], mine, rest, heat)[0]
            lost -= float(np.log(guess[np.arange(len(guess)), task.label[mine]]).sum())
        best = min(best, (lost, heat))
    return best[1]


def surprise(task: Task, guess: Array) -> Array:
    """[draws, runs]: bits that each run's right label surprises by."""
    return -np.log2(guess[:, np.arange(len(task.label)), task.label])


def right(task: Task, guess: Array) -> float:
    """Share of runs whose likeliest label is the right one, by the first draw."""
    return float((guess[0].argmax(axis=1) == task.label).mean())


def permuted(
    task: Task, distance: Array, several: Sequence[Fold], times: int, seed: int
) -> Array:
    """[times]: shares predicted right where labels say nothing.

    Labels are exchanged between the runs of one seed and nuisance level: what the
    nuisance explains stays.
    """
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(times):
        label = task.label.copy()
        for one in np.unique(task.seed):
            for level in np.unique(task.nuisance):
                here = (task.seed == one) & (task.nuisance == level)
                label[here] = rng.permutation(label[here])
        mixed = dataclasses.replace(task, label=label)
        out.append(right(mixed, chances(mixed, distance[None], several)))
    return np.array(out)
