"""Which runs are seeds of each other, and which groups of seeds differ in one thing.

A group is a cell of the design at its best setting: one family, corpus, size, budget
and amount of unique data, all of whose runs are seeds. The best of the settings tried
is that of the lowest mean loss, on the evaluation set that the probes belong to where
runs were scored on it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.design.cells import REPEATED, target_frame
from analysis.design.levels import BUDGET, level_codes
from analysis.design.swaps import Described, Swap, swaps
from analysis.inference.intervals import sample, select
from analysis.predictions.contrasts import Compared
from analysis.predictions.load import BEST, Point, Predictions
from analysis.tables.table import Table

# What a group is at: levels of size, of tokens seen and of unique tokens.
PLACE = ["level", "budget", "unique"]
# Two rows of groups.
Pair = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Groups of seeds, and which of them differ in one thing.

    Attributes:
      groups: a row a group and fraction of training: group (its number), fraction
        (BEST for the best scoring), family and corpus (with other factors folded in,
        as in `described`), level, budget, unique (codes), params, tokens (of the whole
        training), seen (after that fraction), unique_tokens, epochs (seen by then; of
        BEST those of the whole training), seeds, run_id (of the first).
      members: the runs of each row of `groups`.
      described: what families and corpora are made of; see design/swaps.py.
      own: the corpus that runs are compared on; "" where that is not known.
      settings: how many runs were left out for a better setting of their cell.
      seeds: of each run, what says which seed it is: of the weights, and of the data.
    """

    groups: pd.DataFrame
    members: Mapping[int, Sequence[Point]]
    described: Described
    own: str = ""
    settings: int = 0
    seeds: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def ends(self) -> pd.DataFrame:
        """The groups at the end of their training."""
        return self.groups[self.groups.fraction == 1.0]

    @functools.cached_property
    def stopped(self) -> pd.DataFrame:
        """The groups at the best scoring of each of their runs."""
        return self.groups[self.groups.fraction == BEST]

    @property
    def ordered(self) -> bool:
        """Whether groups of one cell are apart by the order of their data."""
        return bool(self.ends.duplicated(["cell"]).any())

    @functools.cached_property
    def swaps(self) -> list[Swap]:
        """Pairs of family and corpus that differ in one factor alone."""
        families = sorted(set(self.groups.family))
        corpora = sorted(set(self.groups.corpus))
        # The corpus that the probes are of comes first, so that others are swapped in.
        corpora.sort(key=lambda name: name != self.own)
        return swaps(families, corpora, self.described)

    @functools.cached_property
    def place(self) -> tuple[int, ...]:
        """PLACE that sentences are about: the largest at which most can be said.

        Where two architectures have two seeds each, else where there are two of either
        or two seeds of one; then where it is on the probes' own text. Of several such
        places the one of the largest budget, and of these of the largest size.
        """
        ranks = []
        for _, row in self.ends.iterrows():
            ranks.append((False, row.seeds > 1, row))
        for swap in self.swaps:
            if swap.kind == "architecture":
                for before, after in self.pairs(self.ends, swap):
                    seeds = min(before.seeds, after.seeds) > 1
                    ranks.append((seeds, True, after))

        def rank(one: tuple[bool, bool, Any]) -> tuple[Any, ...]:
            *known, row = one
            order = (row[name] for name in ("budget", *PLACE))
            return (*known, row.corpus == self.own, *order)

        best = max(ranks, key=rank)[-1]
        return tuple(int(best[name]) for name in PLACE)

    def reported(self, row: Any) -> bool:
        """Whether a row of `groups` is at the place that sentences are about."""
        return tuple(int(row[name]) for name in PLACE) == self.place

    def pairs(self, rows: pd.DataFrame, swap: Swap) -> list[Pair]:
        """Rows before and after a swap that share size, data and fraction."""
        keys = [*PLACE, "fraction"]
        sides = []
        for family, corpus in (swap.before, swap.after):
            mine = rows[(rows.family == family) & (rows.corpus == corpus)]
            sides.append(mine)
        shared = (
            sides[0][keys]
            .reset_index()
            .merge(
                sides[1][keys].reset_index(), on=keys, suffixes=("_before", "_after")
            )
        )
        return [
            (rows.loc[one], rows.loc[two])
            for one, two in zip(shared.index_before, shared.index_after, strict=True)
        ]

    def steps(self, rows: pd.DataFrame, by: str, rest: Sequence[str]) -> list[Pair]:
        """Each row and that of the most of `by` among those that share all else.

        Args:
          by: one of PLACE, or data_seed.
          rest: columns that are shared beside family and corpus.
        """
        found = []
        for _, some in rows.groupby(["family", "corpus", *rest], sort=True):
            *fewer, last = (
                row for _, row in some.sort_values([by, "group"]).iterrows()
            )
            found += [(row, last) for row in fewer if row[by] != last[by]]
        return found

    def points(self, row: Any) -> Sequence[Point]:
        """The runs of a row of `groups`."""
        return self.members[int(row.name)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison(Grouped):
    """All that a question may ask of one probe set.

    Attributes:
      predictions: what runs predicted there.
      compared: distances between groups, each computed once.
    """

    predictions: Predictions
    compared: Compared


def comparison(
    table: Table,
    described: Described,
    predictions: Predictions,
    draws: int,
    seed: int = 0,
) -> Comparison:
    """Groups of the runs with predictions.

    Args:
      table: with optimisers and damage folded into families and corpora.
    """
    own = str(predictions.probes.facts.get("corpus", ""))
    found = grouped(table, described, own, predictions.fractions, predictions.stopped)
    compared = Compared(predictions, draws, seed)
    return Comparison(**vars(found), predictions=predictions, compared=compared)


def grouped(
    table: Table,
    described: Described,
    key: str,
    fractions: Mapping[str, Sequence[float]],
    stopped: Mapping[str, float],
    own: str | None = None,
) -> Grouped:
    """Groups of the runs that kept something at fractions of their training.

    Args:
      table: with optimisers and damage folded into families and corpora.
      key: the corpus that they are compared on, by whose losses settings are chosen.
      fractions: by run_id.
      stopped: by run_id, the fraction at which the best scoring was, of those with it.
      own: what `Grouped.own` is, where it is not the key.
    """
    own = key if own is None else own
    frame = target_frame(table, _target(table, key))
    frame = frame[frame.run_id.isin(fractions)].reset_index(drop=True)
    if frame.empty:
        return Grouped(_nothing(), {}, described, own)
    best = seeds_of_cells(frame)
    rows, members = [], {}
    for group, runs in best.groupby("group", sort=True):
        first = runs.iloc[0]
        kept = [set(fractions[i]) for i in runs.run_id]
        for fraction in sorted(set.intersection(*kept)):
            share = fraction
            if fraction == BEST:
                share = float(np.mean([stopped[i] for i in runs.run_id]))
            seen = share * first.tokens
            names = ["family", "corpus", *PLACE, "params", "tokens", "unique_tokens"]
            row = {"group": group, "fraction": fraction}
            row |= {name: first[name] for name in names}
            # Of the best scoring what counts is how long the run was given.
            read = first.tokens if fraction == BEST else seen
            row |= {"seen": seen, "epochs": read / first.unique_tokens}
            row |= {"data_seed": first.data_seed, "cell": first.cell}
            rows.append(row | {"seeds": len(runs), "run_id": first.run_id})
            members[len(rows) - 1] = [(i, fraction) for i in sorted(runs.run_id)]
    groups = pd.DataFrame(rows) if rows else _nothing()
    left = int(len(frame) - len(best))
    each = zip(best.seed.astype(str), best.data_seed.astype(str), strict=True)
    seeds = dict(zip(best.run_id, each, strict=True))
    return Grouped(groups, members, described, own, left, seeds)


def seeds_of_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of a target at the best setting of their cell, the seeds.

    Args:
      frame: as target_frame gives it, a row a run.

    Returns its rows with group (codes of cells, apart by the data's seed where that
    repeats) and unique (codes of the amount of unique data).
    """
    # A setting that was tried once says nothing of seeds: one of several comes first.
    tried = frame.groupby(["cell", "setting"]).run_id.transform("size")
    most = tried.groupby(frame.cell).transform("max")
    data = sample(frame[(tried > 1) | (most < 2)])
    chosen = select(data, np.ones((1, data.loss.size)))[0] > 0
    best = data.frame.assign(group=_groups(data.frame, data.cell))[chosen]
    return best.assign(unique=level_codes(best.unique_tokens.to_numpy(float), BUDGET))


def _nothing() -> pd.DataFrame:
    names = ["group", "fraction", "family", "corpus", *PLACE, "params", "tokens"]
    names += ["unique_tokens", "seen", "epochs", "data_seed", "cell", "seeds", "run_id"]
    return pd.DataFrame(columns=names)


def _target(table: Table, key: str) -> str:
    """The evaluation set of a corpus, or the first."""
    for target in table.targets:
        keys = {name.rsplit(":", 1)[0] for name in table.parts.get(target, {})}
        if keys == {key}:
            return target
    return table.targets[0]


def _groups(frame: pd.DataFrame, cell: np.ndarray) -> np.ndarray:
    """Codes [n] of groups: cells, apart by the data's seed where that repeats.

    Where every run of a cell has a data seed of its own, the runs differ in their
    initial weights and their data, and both are the floor.
    """
    rows = frame.assign(cell=cell)
    most = rows.groupby(["cell", "data_seed"]).run_id.transform("size")
    several = most.groupby(rows.cell).transform("max") > 1
    apart = rows.data_seed.where(several, "")
    return rows.assign(apart=apart).groupby(["cell", "apart"]).ngroup().to_numpy()


def one_epoch(groups: pd.DataFrame) -> pd.Series:
    """Which groups saw no data twice in all of their training."""
    return groups.tokens <= REPEATED * groups.unique_tokens
