"""Distances between groups of seeds, with intervals by documents and seeds together.

Let d(i, j) be the mean divergence of runs i and j. Of seeds i of f and j of g,

    D_fg = mean d(i, j),    D_ff = mean d(i, i') over i < i',
    excess = D_fg - (D_ff + D_gg) / 2:

how much farther apart the two are than seeds of one of them. The root of the
Jensen-Shannon divergence is a Hilbert-space distance (Fuglede and Topsoe 2004), so the
excess is half the energy distance of the two families' functions (Szekely and Rizzo
2013): 0 where they are one distribution over functions, and above 0 else.

An interval has two parts. Documents are drawn again, with the runs as they are. Seeds
are drawn again through what each run moves the statistic by, its Hoeffding component
(Sen 1960), times a normal number of its own, and widened as Student's t asks of so few
runs. What documents do to those components is in the first part already and is taken
out of the second, as in two-way clustered errors (Cameron, Gelbach and Miller 2011).
Every statistic of an analysis has the same draws: ratios and differences are paired.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from analysis.inference import quantiles
from analysis.laws import Array
from analysis.predictions import pairs
from analysis.predictions.load import Point, Predictions

# Runs of one family, corpus, size, data and settings, each after one fraction.
Group = Sequence[Point]


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How documents and seeds are drawn again.

    Attributes:
      weights: [1 + draws, positions]; row 0 is that of the estimate.
      seed: keys the draws.
    """

    weights: Array
    seed: int

    @classmethod
    def of(cls, predictions: Predictions, draws: int, seed: int = 0) -> Resampling:
        """Whole documents drawn with replacement, of the weights of positions."""
        probes = predictions.probes
        return cls.over(probes.document, probes.weight, draws, seed)

    @classmethod
    def over(
        cls, cluster: Array, weight: Array, draws: int, seed: int = 0
    ) -> Resampling:
        """Whole clusters drawn with replacement.

        Args:
          cluster: [positions], what is drawn together.
          weight: [positions], of each.
        """
        _, cluster = np.unique(cluster, return_inverse=True)
        count = int(cluster.max()) + 1
        rng = np.random.default_rng([seed, 0])
        times = rng.multinomial(count, np.full(count, 1.0 / count), size=draws)
        every = np.concatenate([np.ones((1, count)), times])
        return cls(every[:, cluster] * weight, seed)

    def __len__(self) -> int:
        return len(self.weights) - 1

    def normal(self, run_id: str) -> Array:
        """A run's own numbers [1 + draws], the first 0: the same in every statistic."""
        key = hashlib.sha256(f"{self.seed}/{run_id}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
        return np.append(0.0, rng.standard_normal(len(self)))

    def widened(self, freedom: float) -> Array:
        """What makes a normal number one of Student's t, [1 + draws]."""
        share = np.random.default_rng([self.seed, 1]).random(len(self))
        return np.append(1.0, np.sqrt(freedom / quantiles.chi_squared(share, freedom)))


# Of points and pairs of places among them [pairs, 2], and of weights [weightings,
# positions]: how far apart each pair is, [weightings, pairs].
Measure = Callable[[Sequence[Point], Array, Array], Array]


def no_distance(points: Sequence[Point], pairs: Array, weights: Array) -> Array:
    """The measure where each run has a number of its own: `Contrasts.mean` alone."""
    raise NotImplementedError("means of runs are no distance between them")


class Contrasts:
    """Distances between runs in one measure, each computed once and kept.

    All answers are float64 [1 + draws]: the estimate, then its draws.

    Args:
      resampling: the draws, which several measures may share.
      measure: how far apart two runs are.
    """

    def __init__(self, resampling: Resampling, measure: Measure):
        self.resampling, self._measure = resampling, measure
        self._distance: dict[tuple[Point, Point], Array] = {}
        self._normal: dict[str, Array] = {}

    def need(self, groups: Iterable[tuple[Group, Group]]) -> None:
        """Computes in one pass the distances between and within pairs of groups."""
        self._fill(self._distance, _asked(groups), self._measure)

    def _fill(self, known, asked, measure: Measure) -> None:
        new = [pair for pair in dict.fromkeys(map(_key, asked)) if pair not in known]
        points = sorted({point for pair in new for point in pair})
        place = {point: k for k, point in enumerate(points)}
        ends = np.array([[place[a], place[b]] for a, b in new]).reshape(-1, 2)
        values = measure(points, ends, self.resampling.weights).T
        known.update(zip(new, values, strict=True))

    def distance(self, one: Point, two: Point) -> Array:
        """Of two runs, over documents alone."""
        key = _key((one, two))
        if key not in self._distance:
            self._fill(self._distance, [key], self._measure)
        return self._distance[key]

    def _block(self, f: Group, g: Group) -> Array:
        """[f, g, 1 + draws]; 0 of a run and itself."""
        nothing = np.zeros(len(self.resampling) + 1)
        return np.array(
            [[self.distance(a, b) if a != b else nothing for b in g] for a in f]
        )

    # Statistics

    def between(self, f: Group, g: Group, pairs: Array | None = None) -> Array:
        """D_fg: a run of one against a run of the other.

        Args:
          pairs: bool [f, g], those that are compared; all of them by default.
        """
        self.need([(f, g)])
        block = self._block(f, g)
        if pairs is None:
            pairs = np.ones(block.shape[:2], bool)
        where = np.broadcast_to(pairs[..., None], block.shape)
        mean = block.mean(axis=(0, 1), where=where)
        parts: dict[Point, Array] = {}
        for group, axis in ((f, 1), (g, 0)):
            some = pairs.any(axis=axis)
            own = np.tile(mean, (len(group), 1))  # of none compared: it moves nothing
            own[some] = block.mean(axis=axis, where=where | ~_beside(some, axis))[some]
            parts |= _parts(group, (own - own.mean(axis=0)) / len(group))
        return self.together(mean, parts, (f, g))

    def within(self, f: Group) -> Array:
        """D_ff, the floor: two seeds of one; NaN of a single run."""
        self.need([(f, f)])
        mean, own = _floor(self._block(f, f))
        # A pair has two runs: each moves the mean of pairs twice.
        parts = _parts(f, 2.0 * own / len(f))
        return self.together(mean, parts, (f,))

    def excess(self, f: Group, g: Group) -> Array:
        """D_fg - (D_ff + D_gg) / 2; NaN where one of them is a single run."""
        self.need([(f, g)])
        block = self._block(f, g)
        value = block.mean(axis=(0, 1))
        parts: dict[Point, Array] = {}
        for group, other in ((f, block.mean(axis=1)), (g, block.mean(axis=0))):
            floor, own = _floor(self._block(group, group))
            value = value - 0.5 * floor
            moved = other - other.mean(axis=0) - own
            parts |= _parts(group, moved / len(group))
        return self.together(value, parts, (f, g))

    def apart(self, f: Group, g: Group) -> Array:
        """The excess over documents alone, of groups that may be of the same runs.

        A run and itself at another time share what is by chance in both, so that only
        pairs of different runs are taken.
        """
        self.need([(f, g)])
        differ = np.array([[a[0] != b[0] for b in g] for a in f])
        if not differ.any():
            return np.full(len(self.resampling) + 1, np.nan)
        mean = self._block(f, g)[differ].mean(axis=0)
        floors = [_floor(self._block(group, group))[0] for group in (f, g)]
        return mean - 0.5 * (floors[0] + floors[1])

    def mean(self, f: Group, own: Array) -> Array:
        """Mean over a group's runs of what each has over documents, [f, 1 + draws]."""
        mean = own.mean(axis=0)
        return self.together(mean, _parts(f, (own - mean) / len(f)), (f,))

    def over_documents(self, values: Array) -> Array:
        """Mean of what there is at each position [positions], over documents alone."""
        weights = self.resampling.weights
        return weights @ values / weights.sum(axis=1)

    def together(
        self, value: Array, parts: dict[Point, Array], groups: Collection[Group]
    ) -> Array:
        """Draws of documents and of seeds from those of documents alone.

        Args:
          value: [1 + draws], the statistic as documents are drawn again.
          parts: [1 + draws] by run, what the run adds to it, over its group adding up
            to 0.
          groups: the seeds.
        """
        gross = shared = 0.0
        noise = np.zeros(len(value))
        for group in groups:
            if len(group) < 2:
                continue
            more = len(group) / (len(group) - 1)
            for run_id, fraction in group:
                part = parts[run_id, fraction]
                gross += more * part[0] ** 2
                shared += more * float(np.var(part[1:]))
                if run_id not in self._normal:
                    self._normal[run_id] = self.resampling.normal(run_id)
                noise += math.sqrt(more) * part[0] * self._normal[run_id]
        if gross <= shared:
            return value
        freedom = sum(len(group) - 1 for group in groups)
        own = math.sqrt(1.0 - shared / gross)
        return value + own * noise * self.resampling.widened(freedom)


class Compared(Contrasts):
    """Divergences, losses and products of errors of one probe set's runs, in nats."""

    def __init__(self, predictions: Predictions, draws: int, seed: int = 0):
        resampling = Resampling.of(predictions, draws, seed)
        super().__init__(resampling, functools.partial(pairs.distances, predictions))
        self.predictions = predictions
        self._product: dict[tuple[Point, Point], Array] = {}
        self._loss: dict[Point, Array] = {}

    def need_products(self, groups: Iterable[tuple[Group, Group]]) -> None:
        """In one pass the products of what runs get wrong; see pairs.products."""
        asked = [(one, one) for f, g in groups for one in (*f, *g)]
        self._fill(self._product, [*asked, *_asked(groups)], self._products)

    def _products(self, points: Sequence[Point], ends: Array, weights: Array) -> Array:
        return pairs.products(self.predictions, points, ends, weights)

    def loss(self, f: Group) -> Array:
        """Mean loss at the probes of a group's runs, nats."""
        for point in f:
            if point not in self._loss:
                lost = self.predictions.losses([point])[0]
                self._loss[point] = self.over_documents(lost)
        own = np.array([self._loss[point] for point in f])
        return self.mean(f, own)

    def product(self, one: Point, two: Point) -> Array:
        """Mean product of what two runs get wrong, over documents alone."""
        key = _key((one, two))
        if key not in self._product:
            self._fill(self._product, [key], self._products)
        return self._product[key]


def _asked(groups: Iterable[tuple[Group, Group]]) -> list[tuple[Point, Point]]:
    """Every pair of runs that statistics of these pairs of groups are made of."""
    out = []
    for f, g in groups:
        out += [(a, b) for a in f for b in g if a != b]
        for group in (f, g):
            out += [(a, b) for a in group for b in group if a < b]
    return out


def _key(pair: tuple[Point, Point]) -> tuple[Point, Point]:
    return pair if pair[0] <= pair[1] else (pair[1], pair[0])


def _floor(block: Array) -> tuple[Array, Array]:
    """D_ff [1 + draws], and how far out each run lies beyond it [f, 1 + draws]."""
    count = len(block)
    if count < 2:
        return np.full(block.shape[2], np.nan), np.zeros(block.shape[1:])
    own = block.sum(axis=1) / (count - 1)
    # In d(i, j) = D + a(i) + a(j) + e(i, j) the mean over all others holds theirs too:
    # of a(i) it shows (count - 2) / (count - 1). A single pair shows none of it.
    mean = own.mean(axis=0)
    return mean, (own - mean) * ((count - 1) / (count - 2) if count > 2 else 0.0)


def _beside(marks: Array, axis: int) -> Array:
    """Marks of one side's runs in the shape of a block, the other side along `axis`."""
    return np.expand_dims(marks, (axis, 2))


def _parts(group: Group, values: Array) -> dict[Point, Array]:
    return dict(zip(group, values, strict=True))
