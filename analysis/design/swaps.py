"""Swaps: pairs of what was trained that differ in one factor alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# What levels are made of: {"family" or "corpus": {its level: {factor: level}}}.
Described = Mapping[str, Mapping[str, Mapping[str, str]]]


class Swap(NamedTuple):
    """One factor exchanged, all others held fixed.

    Attributes:
      kind: the factor: "architecture", "corpus", or another column of the table.
      fixed: the levels of the other factors, joined by commas.
      before, after: (family, corpus) as the surfaces know them.
    """

    kind: str
    baseline: str
    alternative: str
    fixed: str
    before: tuple[str, str]
    after: tuple[str, str]

    def turned(self) -> Swap:
        return Swap(
            self.kind,
            self.alternative,
            self.baseline,
            self.fixed,
            self.after,
            self.before,
        )

    def head(self, target: str) -> dict[str, Any]:
        """The columns that every frame of effects begins with."""
        return {
            "kind": self.kind,
            "baseline": self.baseline,
            "alternative": self.alternative,
            "fixed": self.fixed,
            "target": target,
        }

    @property
    def pair(self) -> tuple[str, str, str]:
        """What the swap is, whatever is held fixed."""
        return (self.kind, self.baseline, self.alternative)


def swaps(
    families: Sequence[str], corpora: Sequence[str], described: Described | None = None
) -> list[Swap]:
    """Every pair of systems that differ in one factor alone, in one direction.

    Args:
      described: what a family or corpus is made of, for tables with more factors than
        the two: {"family": {"gru, adam": {"architecture": "gru", "optimiser":
        "adam"}}}. A level without an entry is an architecture (a corpus) of its name.
    """
    known = described or {}
    systems: list[tuple[tuple[str, str], dict[str, str]]] = []
    for family, corpus in itertools.product(families, corpora):
        made = dict(known.get("family", {}).get(family, {"architecture": family}))
        made |= known.get("corpus", {}).get(corpus, {"corpus": corpus})
        systems.append(((family, corpus), made))
    out = []
    for (before, one), (after, two) in itertools.combinations(systems, 2):
        names = [name for name in (one | two) if one.get(name) != two.get(name)]
        if len(names) != 1:
            continue
        (kind,) = names
        fixed = ", ".join(level for name, level in one.items() if name != kind)
        baseline, alternative = one.get(kind, ""), two.get(kind, "")
        out.append(Swap(kind, baseline, alternative, fixed, before, after))
    return sorted(out, key=_order)


def _order(swap: Swap) -> tuple[int, str, str, str, str]:
    """Architecture first, then corpus, then other factors by name."""
    rank = {"architecture": 0, "corpus": 1}.get(swap.kind, 2)
    return (rank, swap.kind, swap.baseline, swap.alternative, swap.fixed)
