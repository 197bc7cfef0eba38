"""Distances and losses at each position, from which any part of them takes its means.

Classes of tokens are parts of one probe set, so that every class has the draws of
documents and seeds that the whole has: classes are compared in pairs.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.laws import Array
from analysis.predictions import pairs
from analysis.predictions.contrasts import Compared, Group, _asked, _key
from analysis.predictions.groups import Comparison
from analysis.predictions.load import Point

# The family that counts what follows what, and is the anchor of questions about it.
COUNTED = "ngram"


@dataclasses.dataclass(frozen=True)
class Positions:
    """Of some groups of runs.

    Attributes:
      compared: of the whole probe set.
      distances: by pair of runs, divergence at each position [positions], nats.
      nats: by run, what it lost there.
    """

    compared: Compared
    distances: Mapping[tuple[Point, Point], Array]
    nats: Mapping[Point, Array]

    @classmethod
    def of(cls, compared: Compared, groups: Sequence[tuple[Group, Group]]) -> Positions:
        """All that statistics of these pairs of groups are made of."""
        asked = list(dict.fromkeys(map(_key, _asked(groups))))
        points = sorted({point for f, g in groups for point in (*f, *g)})
        place = {point: k for k, point in enumerate(points)}
        ends = np.array([[place[a], place[b]] for a, b in asked]).reshape(-1, 2)
        found = pairs.by_position(compared.predictions, points, ends).T
        nats = compared.predictions.losses(points)
        return cls(
            compared,
            dict(zip(asked, found, strict=True)),
            dict(zip(points, nats, strict=True)),
        )

    def among(self, chosen: Array) -> Compared:
        """The same at the positions marked in `chosen` [positions] alone."""
        part = copy.copy(self.compared)
        weights = self.compared.resampling.weights * chosen
        part.resampling = dataclasses.replace(part.resampling, weights=weights)
        with np.errstate(invalid="ignore"):  # a draw may have none of their documents
            shares = weights / weights.sum(axis=1, keepdims=True)
        part._distance = _means(self.distances, shares)
        part._loss = _means(self.nats, shares)
        part._product = {}
        return part


def _means(values: Mapping[Any, Array], shares: Array) -> dict[Any, Array]:
    if not values:
        return {}
    every = np.stack(list(values.values())) @ shares.T
    return dict(zip(values, every, strict=True))


# What is swapped (baseline, alternative, fixed), and its two rows of groups.
Pair = tuple[dict[str, str], Any, Any]


def architectures(asked: Comparison) -> list[Pair]:
    """Swaps of architectures at the place reported, on the probes' own text if any.

    Groups that read their data in one order alone: of several orders that which most
    seeds read, since one seed gives no floor.
    """
    found: dict[Any, Pair] = {}
    for swap in asked.swaps:
        if swap.kind != "architecture":
            continue
        head = {"baseline": swap.baseline, "alternative": swap.alternative}
        head["fixed"] = swap.fixed
        for one, two in asked.pairs(asked.ends, swap):
            if one.data_seed == two.data_seed and asked.reported(two):
                place = *head.values(), two.params, two.tokens, two.unique_tokens
                before = found.get(place)
                if before is None or two.seeds > before[2].seeds:
                    found[place] = head, one, two
    own = [entry for entry in found.values() if entry[1].corpus == asked.own]
    return own or list(found.values())


def is_counted(family: str) -> bool:
    """Whether a family, with whatever options, is the n-gram model."""
    return family.split("[")[0] == COUNTED


def counted(asked: Comparison) -> Any | None:
    """The row of the n-gram model of the most text of the probes' own corpus."""
    ends = asked.ends
    mine = ends[ends.family.map(is_counted) & (ends.corpus == asked.own)]
    if mine.empty:
        return None
    return mine.sort_values(["unique_tokens", "params", "tokens"]).iloc[-1]
