"""What runs expect of the lower half of a held-out picture, given its upper half.

Here models of pixels in order and denoisers can be compared picture by picture. Let a
and b be what two runs expect of the lower half r, with variances u and v by chance (of
the draws that they were estimated from), and L and M what the best linear functions of
their training pictures expect. All squares are means over a lower half's values.

    error          |a - r|^2 - u
    distance       (|a - b|^2 - u - v) over the mean error of the two
    beyond linear  the partial correlation of a and b given L and M, all four about
                   their mean, with u and v taken off the squares of a and of b

Chance makes a distance larger and a correlation smaller; the draws of two runs have
nothing in common, so that taking off the variances mends both. By what so few
particles move a denoiser's mean in one direction is not taken off. The null sets the
lower half of one picture beside that of another.

All of them are sums over pictures, from which the draws of pictures take theirs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.laws import Array
from analysis.pictures.agreement import SHIFTS, partial
from analysis.pictures.groups import Pictured
from analysis.pictures.load import EXACT, LINEAR, Pictures
from analysis.predictions.contrasts import Contrasts, Resampling
from analysis.predictions.load import Point

# An error counts as no less than this, of pixels over 255: float16 keeps no finer ones.
LEAST = 1e-8


@dataclasses.dataclass(frozen=True)
class Expected:
    """Of a run: lower halves [m, values], and each one's variance by chance [m].

    Attributes:
      linear, exact: what the landmarks expect; None where they are not known.
      effective: [m], particles; None of models of pixels.
    """

    mean: Array
    variance: Array
    linear: Array | None
    exact: Array | None
    effective: Array | None


class Halves:
    """The runs of a set that kept lower halves of the same pictures.

    Attributes:
      numbers: [m], of the pictures.
      runs: as `Pictures.runs`, of both objectives.
      others: run_id of those whose pictures are not the same.
    """

    def __init__(self, asked: Pictured):
        self.asked = asked
        sets = (asked.pictures, *asked.others)
        self._source = {i: made for made in sets for i in made.runs.run_id}
        every = pd.concat([made.runs for made in sets], ignore_index=True)
        asked_of = {i: self._numbers(i) for i in every.run_id}
        counted = Counter(n for n in asked_of.values() if n)
        first = counted.most_common(1)[0][0] if counted else ()
        self.numbers = np.array(first, int)
        self.runs = every[[asked_of[i] == first != () for i in every.run_id]]
        self.others = [i for i, n in asked_of.items() if n and n != first]
        self._known: dict[str, Expected] = {}

    def _numbers(self, run_id: str) -> tuple[int, ...]:
        """() of a run that kept none, or none that can be read as they should be."""
        made = self._source[run_id]
        numbers = made.get(run_id, "hidden_numbers")
        mean, variance = (made.get(run_id, n) for n in ("hidden", "hidden_variance"))
        if numbers is None or mean is None or variance is None or not len(numbers):
            return ()
        real = self._lower(made, numbers.astype(int))
        fit = mean.shape == real.shape and variance.shape == numbers.shape
        finite = np.isfinite(mean).all() and np.isfinite(variance).all()
        return tuple(numbers.astype(int).tolist()) if fit and finite else ()

    @staticmethod
    def _lower(made: Pictures, numbers: Array) -> Array:
        return made.real[numbers][:, made.real.shape[1] // 2 :]

    @functools.cached_property
    def real(self) -> Array:
        """[m, values], the lower halves as they are, over 255."""
        lower = self._lower(self.asked.pictures, self.numbers)
        return lower.reshape(len(lower), -1)

    @functools.cached_property
    def resampling(self) -> Resampling:
        """Draws of the groups of the pictures."""
        groups = self.asked.pictures.groups[self.numbers]
        weights = np.ones(len(groups))
        return Resampling.over(groups, weights, self.asked.draws, self.asked.seed)

    @functools.cached_property
    def apart(self) -> Contrasts:
        """Distances of runs."""
        return Contrasts(self.resampling, self.distances)

    @functools.cached_property
    def unlike(self) -> Contrasts:
        """1 less the agreement of runs beyond linear."""
        return Contrasts(self.resampling, self._disagreements)

    def of(self, run_id: str) -> Expected:
        if run_id not in self._known:
            made = self._source[run_id]
            mean = made.read(run_id, "hidden")
            rows = lambda a: None if a is None else a.reshape(len(mean), -1)
            self._known[run_id] = Expected(
                mean.reshape(len(mean), -1),
                made.read(run_id, "hidden_variance"),
                rows(made.get(run_id, f"{LINEAR}_hidden")),
                rows(made.get(run_id, f"{EXACT}_hidden")),
                made.get(run_id, "hidden_effective"),
            )
        return self._known[run_id]

    def errors(self, run_id: str) -> Array:
        """[m], of a run."""
        one = self.of(run_id)
        return squares(one.mean, self.real) - one.variance

    def distances(self, points: Sequence[Point], ends: Array, weights: Array) -> Array:
        """[weightings, pairs], as `contrasts.Measure`."""
        read = [self._distance(points[i][0], points[j][0], weights, 0) for i, j in ends]
        return np.stack(read, axis=1) if read else np.empty((len(weights), 0))

    def _distance(self, one: str, two: str, weights: Array, shift: int) -> Array:
        a, b = self.of(one), self.of(two)
        there = np.roll(b.mean, -shift, axis=0)
        far = squares(a.mean, there) - a.variance - np.roll(b.variance, -shift)
        errors = 0.5 * (self.errors(one) + self.errors(two))
        return (weights @ far) / np.maximum(weights @ errors, LEAST)

    def _disagreements(
        self, points: Sequence[Point], ends: Array, weights: Array
    ) -> Array:
        read = [
            1.0 - self._agreement(points[i][0], points[j][0], weights, 0)
            for i, j in ends
        ]
        return np.stack(read, axis=1) if read else np.empty((len(weights), 0))

    def _agreement(self, one: str, two: str, weights: Array, shift: int) -> Array:
        """[weightings]; NaN where a run has no linear landmark."""
        a, b = self.of(one), self.of(two)
        if a.linear is None or b.linear is None:
            return np.full(len(weights), np.nan)
        there = [np.roll(x, -shift, axis=0) for x in (b.mean, b.linear)]
        rows = np.stack([a.mean, there[0], a.linear, there[1]])
        about = rows - rows.mean(axis=1, keepdims=True)
        products = np.einsum("inp,jnp->nij", about, about) / rows.shape[2]
        # A mean over the pictures has a share of each one's chance.
        share = 1.0 - 1.0 / rows.shape[1]
        products[:, 0, 0] -= share * a.variance
        products[:, 1, 1] -= share * np.roll(b.variance, -shift)
        return partial(np.einsum("wn,nij->wij", weights, products))

    def null(self, one: str, two: str) -> tuple[float, float]:
        """Distance and agreement beside other pictures' lower halves, mean of some."""
        count = len(self.numbers)
        every = np.ones((1, count))
        shifts = np.unique(np.linspace(1, count - 1, min(SHIFTS, count - 1)).round())
        return tuple(
            float(np.mean([read(one, two, every, int(k))[0] for k in shifts]))
            for read in (self._distance, self._agreement)
        )  # type: ignore[return-value]


def squares(one: Array, two: Array) -> Array:
    """[m], mean squared differences over the values."""
    return np.asarray(((one - two) ** 2).mean(axis=1))
