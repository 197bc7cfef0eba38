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


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All that a question may ask of one probe set.

    Attributes:
      predictions: what runs predicted there.
      compared: distances between groups, each computed once.
      groups: a row a group and fraction of training: group (its number), fraction
        (BEST for the best scoring), family and corpus (with other factors folded in,
        as in `described`), level, budget, unique (codes), params, tokens (of the whole
        training), seen (after that fraction), unique_tokens, epochs (seen by then; of
        BEST those of the whole training), seeds, run_id (of the first).
      members: the runs of each row of `groups`.
      described: what families and corpora are made of; see design/swaps.py.
      settings: how many runs were left out for a better setting of their cell.
      seeds: of each run, what says which seed it is: of the weights, and of the data.
    """

    predictions: Predictions
    compared: Compared
    groups: pd.DataFrame
    members: Mapping[int, Sequence[Point]]
    described: Described
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

    @functools.cached_property
    def swaps(self) -> list[Swap]:
        """Pairs of family and corpus that differ in one factor alone."""
        families = sorted(set(self.groups.family))
        corpora = sorted(set(self.groups.corpus))
        # The corpus that the probes are of comes first, so that others are swapped in.
        corpora.sort(key=lambda name: name != self.own)
        return swaps(families, corpora, self.described)

    @property
    def own(self) -> str:
        """The corpus that the probes are text of; "" where that is not known."""
        return str(self.predictions.probes.facts.get("corpus", ""))

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

    def pairs(self, rows: pd.DataFrame, swap: Swap) -> list[tuple[Any, Any]]:
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

    def points(self, row: Any) -> Sequence[Point]:
        """The runs of a row of `groups`."""
        return self.members[int(row.name)]


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
    frame = target_frame(table, _target(table, predictions))
    frame = frame[frame.run_id.isin(predictions.runs)].reset_index(drop=True)
    compared = Compared(predictions, draws, seed)
    if frame.empty:
        return Comparison(predictions, compared, _nothing(), {}, described)
    best = seeds_of_cells(frame)
    rows, members = [], {}
    for group, runs in best.groupby("group", sort=True):
        first = runs.iloc[0]
        kept = [set(predictions.fractions[i]) for i in runs.run_id]
        for fraction in sorted(set.intersection(*kept)):
            share = fraction
            if fraction == BEST:
                share = float(np.mean([predictions.stopped[i] for i in runs.run_id]))
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
    return Comparison(predictions, compared, groups, members, described, left, seeds)


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


def _target(table: Table, predictions: Predictions) -> str:
    """The evaluation set of the probes' corpus, or the first."""
    key = str(predictions.probes.facts.get("corpus", ""))
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
