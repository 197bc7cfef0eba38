"""Fewer runs where a table has more than can be fitted: of runs alike, a few."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.design.levels import BUDGET, SIZE, level_codes
from analysis.design.settings import APART, SETTING
from analysis.laws import Array

# Runs that are fitted at most, by default, so that a report ends in minutes: every law
# is fitted to all of them under every draw.
MOST = 2000
# What runs alike share, beside sizes, budgets and rates that are nearly the same.
SAME = ("family", "corpus", "optimiser", "damage", "batch")
# Columns that need only be near, by this share at first.
NEAR = {"params": SIZE, "tokens": BUDGET, "unique_tokens": BUDGET}
NEAR |= {"learning_rate": 0.05, "quality": 0.02}


def chosen(runs: pd.DataFrame, most: int) -> Array:
    """Marks the runs [n] to fit: all, or `most` of them over the whole design.

    Runs are alike that share family, corpus and whatever else a law or a cell keeps
    apart. The same number of each kind is kept, and all of the kinds that have fewer:
    seeds and checkpoints go, the few largest runs stay. Of one kind those with the most
    tokens are kept, so that families that were measured at the same budgets still are;
    among equals chance decides, never the loss. Trajectory ids are kept, so clusters
    stay together in the bootstrap. With more kinds than `most`, what is near is
    widened.

    Args:
      runs: the columns in `SAME` and `NEAR`, one row a run; params, tokens and
        unique_tokens above zero.
    """
    if len(runs) <= most:
        return np.ones(len(runs), bool)
    kind = _kinds(runs, most)
    counts = np.bincount(kind)
    share = _share(counts, most)
    chance = np.random.default_rng(0).random(len(runs))
    order = np.lexsort((chance, -runs.tokens.to_numpy(), kind))
    rank = np.empty(len(runs), int)
    rank[order] = np.arange(len(runs)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = rank < share
    # One of each kind may still be too many: then every so many kinds have one.
    number = np.cumsum(kept) - kept
    total = int(kept.sum())
    if total > most:
        kept &= (number + 1) * most // total > number * most // total
    return kept


def _kinds(runs: pd.DataFrame, most: int) -> Array:
    """Codes [n] of runs alike, at most `most` of them where widening can do that."""
    exact = np.zeros(len(runs), int)
    beside = [c for c in runs if str(c).startswith((SETTING, APART))]
    for name in (*SAME, *beside):
        exact = _both(exact, pd.factorize(runs[name], use_na_sentinel=False)[0])
    # What is not above zero, such as a rate that is not known, is a level of its own.
    known = {name: runs[name].where(runs[name] > 0).to_numpy() for name in NEAR}
    values = {name: np.unique(x, return_inverse=True) for name, x in known.items()}
    kind = exact
    # Up to levels that are wider than any range of counts.
    for wider in 2.0 ** np.arange(64):
        if exact.max() >= most:
            break
        kind = exact
        for name, share in NEAR.items():
            levels, place = values[name]
            kind = _both(kind, level_codes(levels, share * wider)[place])
        if kind.max() < most:
            break
    return kind


def _both(one: Array, two: Array) -> Array:
    """Codes [n] of pairs of codes."""
    return pd.factorize(one * (int(two.max()) + 1) + two)[0]


def _share(counts: Array, most: int) -> int:
    """How many of each kind may be kept for at most `most` in all; at least one."""
    least, beyond = 1, int(counts.max()) + 1
    while beyond - least > 1:
        middle = (least + beyond) // 2
        if np.minimum(counts, middle).sum() <= most:
            least = middle
        else:
            beyond = middle
    return least
