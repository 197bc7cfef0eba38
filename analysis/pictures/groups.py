"""Groups of seeds whose samples are compared, and the pairs of groups that are."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis.design.swaps import Described, Swap
from analysis.formatting import count
from analysis.laws import Array
from analysis.pictures.agreement import MEASURES, Samples, Scores
from analysis.pictures.load import DENOISE, Pictures
from analysis.predictions.contrasts import Contrasts, Resampling
from analysis.predictions.groups import PLACE, Grouped, grouped
from analysis.tables.table import Table

# Kinds of pairs of groups. HALVES read disjoint halves of a corpus; ACROSS are two
# architectures, each on the half that the other does not read.
SEEDS, HALVES, ARCHITECTURE = "seeds", "halves", "architecture"
ACROSS, SIZE, DATA = "architecture across halves", "size", "data"
HALF = ", half "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictured(Grouped):
    """All that a question may ask of one set of samples.

    The groups are those of the runs that denoise and are in the table.

    Attributes:
      pictures: what runs made.
      others: the sets of the same name in other tokenizers.
      draws, seed: of every interval.
    """

    pictures: Pictures
    others: tuple[Pictures, ...] = ()
    draws: int
    seed: int = 0

    @functools.cached_property
    def noises(self) -> Resampling:
        """Draws of the noises."""
        count = self.pictures.count
        return Resampling.over(np.arange(count), np.ones(count), self.draws, self.seed)

    @functools.cached_property
    def held_out(self) -> Resampling:
        """Draws of the groups of the held-out pictures."""
        groups = self.pictures.groups
        return Resampling.over(groups, np.ones(len(groups)), self.draws, self.seed)

    @functools.cached_property
    def samples(self) -> Samples:
        return Samples(self.pictures)

    @functools.cached_property
    def measured(self) -> Mapping[str, Contrasts]:
        """1 less the agreement of samples, by its measure."""
        of = self.samples.distances
        return {m: Contrasts(self.noises, functools.partial(of, m)) for m in MEASURES}

    @functools.cached_property
    def scores(self) -> Sequence[tuple[Scores, Contrasts]]:
        """By level: distances of denoised pictures in units of their error."""
        every = [Scores(self.pictures, k) for k in range(len(self.pictures.sigmas))]
        return [(one, Contrasts(self.held_out, one.distances)) for one in every]

    @functools.cached_property
    def pairs_of_groups(self) -> Sequence[Compare]:
        """Every pair of groups that differ in one thing, after every fraction."""
        found = [_seeds(row) for _, row in self.groups.iterrows() if row.seeds > 1]
        for swap in self.swaps:
            for before, after in self.pairs(self.groups, swap):
                if before.data_seed == after.data_seed or not self.ordered:
                    found.append(_swapped(swap, before, after))
        return [*found, *self._across(), *self._steps()]

    def _across(self) -> Iterator[Compare]:
        """Two architectures, each on the half that the other does not read."""
        rows = self.groups.assign(half=self.groups.corpus.map(half_of))
        for _, some in rows.groupby([*PLACE, "fraction"], sort=True):
            firsts, seconds = (some[some.half == half] for half in ("1", "2"))
            for _, one in firsts.iterrows():
                for _, two in seconds.iterrows():
                    if one.family == two.family or stem(one.corpus) != stem(two.corpus):
                        continue
                    before, after = (
                        (one, two) if one.family < two.family else (two, one)
                    )
                    names = (before.family, after.family)
                    fixed = f"{before.corpus} and half {half_of(after.corpus)}"
                    yield Compare(ACROSS, *names, fixed, before, after)

    def _steps(self) -> Iterator[Compare]:
        """Smaller models and fewer pictures against the most of either."""
        more = ["data_seed"] if self.ordered else []
        for kind, by, of, what in (
            (SIZE, "level", "params", "parameters"),
            (DATA, "unique", "unique_tokens", "pictures"),
        ):
            rest = [name for name in PLACE if name != by] + more
            for row, last in self.steps(self.ends, by, rest):
                less, most = (f"{count(one[of])} {what}" for one in (row, last))
                fixed = f"{row.family}, {row.corpus}"
                yield Compare(kind, less, most, fixed, row, last)

    def contrasted(self, pair: Compare, contrasts: Contrasts) -> Apart:
        """How far apart two groups are in one measure, beside their floor.

        Of two seeds the distance is the floor itself. Across halves the floor is that
        of two halves of one architecture, else that of two seeds; where one side alone
        has a floor, it is that side's.
        """
        f, g = self.points(pair.before), self.points(pair.after)
        nothing = np.full(self.draws + 1, np.nan)
        if pair.kind == SEEDS:
            within = contrasts.within(f)
            return Apart(within, within, nothing)
        distance = self._between(pair.before, pair.after, contrasts)
        if pair.kind == ACROSS:
            floors = [self._halves(row, contrasts) for row in pair[-2:]]
        else:
            floors = [contrasts.within(f), contrasts.within(g)]
        known = [one for one in floors if np.isfinite(one[0])]
        floor = np.mean(known, axis=0) if known else nothing
        if pair.kind == ARCHITECTURE and len(known) == 2:
            return Apart(distance, floor, contrasts.excess(f, g))
        return Apart(distance, floor, distance - floor)

    def _halves(self, row: Any, contrasts: Contrasts) -> Array:
        """Distance of two halves of one architecture; NaN where one was read alone."""
        other = self.of_half(row, "2" if half_of(row.corpus) == "1" else "1")
        if other is None:
            return np.full(self.draws + 1, np.nan)
        return self._between(row, other, contrasts)

    def _between(self, one: Any, two: Any, contrasts: Contrasts) -> Array:
        """Of runs that do not begin with the same weights, where there are such."""
        f, g = self.points(one), self.points(two)
        apart = self.started_apart(one, two)
        return contrasts.between(f, g, apart if apart.any() else None)

    def started_apart(self, one: Any, two: Any) -> Array:
        """bool [f, g]: which pairs of runs begin with different weights.

        Two models of one shape and seed begin with the same weights, which brings them
        nearer to each other than two seeds are.
        """
        start = [
            [
                (row.family, row.params, self.seeds[run][0])
                for run, _ in self.points(row)
            ]
            for row in (one, two)
        ]
        return np.array([[a != b for b in start[1]] for a in start[0]])

    def of_half(self, row: Any, half: str) -> Any | None:
        """The group like a row that read a half; None where there is none."""
        rows, same = self.groups, ("family", *PLACE, "fraction")
        mine = rows.corpus == stem(row.corpus) + HALF + half
        for name in same:
            mine &= rows[name] == row[name]
        found = rows[mine]
        return found.iloc[0] if len(found) else None


class Apart(NamedTuple):
    """Of a pair of groups, [1 + draws] each: the distance, its floor and the excess."""

    distance: Array
    floor: Array
    excess: Array


class Compare(NamedTuple):
    """Two groups, rows of `Grouped.groups`, and what they differ in."""

    kind: str
    baseline: str
    alternative: str
    fixed: str
    before: Any
    after: Any

    @property
    def floor_of(self) -> str:
        """What the floor is of that it is compared with."""
        return "halves" if self.kind == ACROSS else "seeds"

    def head(self) -> dict[str, Any]:
        """The columns of frames that say which pair it is, and where."""
        names = ("kind", "baseline", "alternative", "fixed")
        head: dict[str, Any] = {name: getattr(self, name) for name in names}
        head |= {n: float(self.after[n]) for n in ("params", "tokens", "unique_tokens")}
        return head | {"fraction": float(self.after.fraction)}


def _seeds(row: Any) -> Compare:
    return Compare(SEEDS, row.family, row.family, row.corpus, row, row)


def _swapped(swap: Swap, before: Any, after: Any) -> Compare:
    names = (swap.baseline, swap.alternative, swap.fixed)
    disjoint = stem(before.corpus) == stem(after.corpus) and HALF in after.corpus
    kind = HALVES if swap.kind == "corpus" and disjoint else swap.kind
    return Compare(kind, *names, before, after)


def stem(corpus: str) -> str:
    """The corpus without its half."""
    return corpus.partition(HALF)[0]


def half_of(corpus: str) -> str:
    """ "1" or "2"; "" of a whole corpus."""
    return corpus.partition(HALF)[2][:1]


def pictured(
    table: Table,
    described: Described,
    pictures: Pictures,
    draws: int,
    seed: int = 0,
) -> Pictured:
    """Groups of the runs that denoise and kept samples.

    Args:
      table: with optimisers and damage folded into families and corpora.
    """
    first = f"{pictures.corpus}{HALF}1"
    own = first if first in set(table.runs.corpus) else pictures.corpus
    fractions = pictures.of(DENOISE)
    found = grouped(table, described, pictures.corpus, fractions, {}, own)
    others = [
        one
        for one in table.pictures
        if one.name == pictures.name and one is not pictures
    ]
    known = dict(vars(found))
    return Pictured(
        **known, pictures=pictures, others=tuple(others), draws=draws, seed=seed
    )
