"""Two ladders in one unit: what swaps of the data, and of the model, change.

A rung is a class of swaps, such as another seed, another family or another text; its
distance is the mean over all swaps of that class at one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.predictions.positions import is_counted
from analysis.schema import Column, declare, measured

NATS = "nats/token"
MODEL, DATA = "model", "data"
FRAME = declare(
    "function_ladder",
    "What classes of swaps change, of the model and of the data, on one scale.",
    "probes params tokens unique_tokens",
    Column("side", "what is swapped: model or data"),
    Column("rung", "the class of swaps"),
    Column("pairs", "swaps of that class"),
    Column("distance", "mean over them, of a run of one from a run of the other", NATS),
    "low high",
    Column("nearest", "the smallest of them", NATS),
    Column("farthest", "the largest of them", NATS),
    *measured("excess", "mean of what lies beyond two seeds", NATS),
)
# Kinds of swaps that have one rung each.
RUNGS = {
    "seeds": (MODEL, "another seed"),
    "size": (MODEL, "another size"),
    "optimiser": (MODEL, "another optimiser"),
    "order": (DATA, "the text in another order"),
    "data": (DATA, "more of the text"),
    "corpus": (DATA, "another text"),
}


class Pair(Protocol):
    """A pair of groups; see distance.Found."""

    @property
    def head(self) -> Mapping[str, Any]: ...
    @property
    def distance(self) -> Array: ...
    @property
    def excess(self) -> Array: ...


def rung(head: Mapping[str, Any]) -> tuple[str, str]:
    """Side and class of a swap. Damage has a rung a level."""
    kind, one, two = (head[name] for name in ("kind", "baseline", "alternative"))
    if kind in RUNGS:
        return RUNGS[kind]
    if kind != "architecture":
        return DATA, f"{kind}: {one} → {two}"
    if is_counted(one) != is_counted(two):
        return MODEL, "n-grams for a trained family"
    if one.split("[")[0] == two.split("[")[0]:
        return MODEL, "a variant of one family"
    return MODEL, "another family"


def rows(
    here: Sequence[Pair], own: Sequence[bool], where: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Rows of the frame, nearest first.

    Args:
      own: of each pair, whether it has to do with the probes' own corpus. Where some
        have, the others are of texts that the probes are not.
      where: the place, and the probe set.
    """
    rungs: dict[tuple[str, str], list[Pair]] = {}
    for one, mine in zip(here, own, strict=True):
        if np.isfinite(one.distance[0]) and (mine or not any(own)):
            rungs.setdefault(rung(one.head), []).append(one)
    out = []
    for (side, name), several in rungs.items():
        distance = np.mean([one.distance for one in several], axis=0)
        known = [one.excess for one in several if np.isfinite(one.excess[0])]
        excess = np.mean(known, axis=0) if known else np.full(distance.shape, np.nan)
        ends = [one.distance[0] for one in several]
        row = {**where, "side": side, "rung": name, "pairs": len(several)}
        for value, names in (
            (distance, ("distance", "low", "high")),
            (excess, ("excess", "excess_low", "excess_high")),
        ):
            both = map(float, interval(value[1:]))
            row |= dict(zip(names, (float(value[0]), *both), strict=True))
        out.append(row | {"nearest": min(ends), "farthest": max(ends)})
    return sorted(out, key=lambda row: row["distance"])
