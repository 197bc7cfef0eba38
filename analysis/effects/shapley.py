"""Shapley values: what several causes of one thing share among them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from analysis.laws import Array

# What a loss is said to be due to.
FACTORS = ("architecture", "corpus", "params", "tokens")


def shapley(worth: Callable[[frozenset[int]], Array], players: int) -> Array:
    """Shapley values of a game, [B, players].

    Args:
      worth: coalition -> what it earns, [B]; asked once for each of the 2^players.
    """
    earned = {
        frozenset(chosen): worth(frozenset(chosen))
        for size in range(players + 1)
        for chosen in itertools.combinations(range(players), size)
    }
    values = np.zeros((len(earned[frozenset()]), players))
    for coalition, player in itertools.product(earned, range(players)):
        if player in coalition:
            continue
        size = len(coalition)
        orders = math.factorial(size) * math.factorial(players - size - 1)
        gain = earned[coalition | {player}] - earned[coalition]
        values[:, player] += orders / math.factorial(players) * gain
    return values
