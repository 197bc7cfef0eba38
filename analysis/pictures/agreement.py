"""How alike the samples of two runs are that come from the same noises.

Let x and y be what two runs make of noise i, L and M what the best linear denoisers of
their training pictures make of it. A linear denoiser follows from the covariance of the
pictures alone, and every network comes near it, so that samples agree whether or not
two networks agree on anything else. Three measures see the samples as they are, the
fourth what lies beyond the linear ones:

    correlation    Pearson's, over the values of a picture; the mean over noises
    R2             1 - |x - y|^2 over the mean variance of the two about their mean
                   picture, summed over noises and values
    PSNR           -10 log10 of the mean squared difference of a picture, in decibels,
                   of pixels from 0 to 1; the mean over noises
    beyond linear  the partial correlation of x and y given L and M, all four about
                   their mean pictures, over noises and values

Each has a null: y is read at other noises, whatever else stays. Denoised pictures are
compared by the mean squared difference, in units of the mean squared error of the two:
a score is (D(x) - x) / sigma^2, so that these are the distances of scores too.

All of them are sums over noises, from which the draws of noises take theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from analysis.laws import Array
from analysis.pictures.load import COPIES, LINEAR, Pictures
from analysis.predictions.load import Point

CORRELATION, R2, PSNR, BEYOND = MEASURES = (
    "correlation",
    "r2",
    "psnr",
    "beyond_linear",
)
# The null reads other noises at so many distances from the same.
SHIFTS = 10
# A mean squared difference counts as no less than this: float16 keeps no finer ones.
LEAST = 1e-8
# Linear samples of one direction leave one condition: smaller shares are rounding.
ALIKE = 1e-9


@dataclasses.dataclass(frozen=True)
class Sums:
    """Of a pair of runs, a row a noise.

    Attributes:
      correlation, squares: [n], of the two pictures; squares are mean differences.
      spread: [n], the mean square of the two about their mean pictures.
      products: [n, 4, 4], of x, y, L and M about their mean pictures, over the values;
        of x and y alone [n, 2, 2] where no linear samples are known.
    """

    correlation: Array
    squares: Array
    spread: Array
    products: Array

    def read(self, measure: str, weights: Array) -> Array:
        """[weightings], from weights [weightings, n]."""
        share = weights / weights.sum(axis=1, keepdims=True)
        if measure == CORRELATION:
            return share @ self.correlation
        if measure == PSNR:
            return share @ (-10.0 * np.log10(np.maximum(self.squares, LEAST)))
        if measure == R2:
            return 1.0 - (share @ self.squares) / (share @ self.spread)
        return partial(np.einsum("wn,nij->wij", share, self.products))


def partial(products: Array) -> Array:
    """Correlation of the first two given all others, [...] from [..., k, k]; 0 of none.

    NaN where there are no others: then nothing is taken away.
    """
    if products.shape[-1] < 3:
        return np.full(products.shape[:-2], np.nan)
    scale = np.sqrt(np.maximum(np.einsum("...ii->...i", products), 1e-300))
    products = products / (scale[..., :, None] * scale[..., None, :])
    two, given = products[..., :2, :2], products[..., 2:, 2:]
    across = products[..., :2, 2:]
    inverse = np.linalg.pinv(given, rcond=ALIKE, hermitian=True)
    left = two - across @ inverse @ across.swapaxes(-1, -2)
    size = np.maximum(left[..., 0, 0], 0.0) * np.maximum(left[..., 1, 1], 0.0)
    # What the linear samples explain but for rounding has nothing beyond them.
    with np.errstate(divide="ignore", invalid="ignore"):
        found = left[..., 0, 1] / np.sqrt(size)
    return np.where(size > ALIKE**2, np.clip(found, -1.0, 1.0), 0.0)


def sums(x: Array, y: Array, given: Sequence[Array], shift: int = 0) -> Sums:
    """Of two runs' pictures [n, ...].

    Args:
      given: linear samples of either, or none.
      shift: y, and its linear sample, are read so many noises further on.
    """
    rows = [np.asarray(a, float).reshape(len(a), -1) for a in (x, y, *given)]
    for k in range(1, len(rows), 2):
        rows[k] = np.roll(rows[k], -shift, axis=0)
    about = np.stack([a - a.mean(axis=0) for a in rows])
    products = np.einsum("inp,jnp->nij", about, about)
    spread = 0.5 * (about[:2] ** 2).mean(axis=2).sum(axis=0)
    own = [a - a.mean(axis=1, keepdims=True) for a in rows[:2]]
    size = np.sqrt((own[0] ** 2).sum(1) * (own[1] ** 2).sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(size > 0, (own[0] * own[1]).sum(1) / size, 0.0)
    squares = ((rows[0] - rows[1]) ** 2).mean(axis=1)
    return Sums(correlation, squares, spread, products)


class Samples:
    """The samples of a set, pair by pair, each pair compared once."""

    def __init__(self, pictures: Pictures):
        self.pictures = pictures
        self._known: dict[tuple[Point, Point], Sums] = {}

    def distances(
        self, measure: str, points: Sequence[Point], ends: Array, weights: Array
    ) -> Array:
        """1 less the measure [weightings, pairs], as `contrasts.Measure`."""
        read = [
            1.0 - self.pair(points[i], points[j]).read(measure, weights)
            for i, j in ends
        ]
        return np.stack(read, axis=1) if read else np.empty((len(weights), 0))

    def pair(self, one: Point, two: Point) -> Sums:
        if (one, two) not in self._known:
            self._known[one, two] = self._sums(one, two, 0)
        return self._known[one, two]

    def _sums(self, one: Point, two: Point, shift: int) -> Sums:
        x, y = (self.pictures.read(i, "pictures", f) for i, f in (one, two))
        return sums(x, y, self._linear(one[0], two[0]), shift)

    def _linear(self, one: str, two: str) -> list[Array]:
        """Both linear samples, or none where one is not kept."""
        found = [self.pictures.get(run_id, LINEAR) for run_id in (one, two)]
        both = [a for a in found if a is not None]
        return both if len(both) == len(found) else []

    def null(self, one: Point, two: Point) -> dict[str, Array]:
        """By measure [shifts]: the second run is read at other noises."""
        count = self.pictures.count
        every = np.ones((1, count))
        shifts = np.unique(np.linspace(1, count - 1, min(SHIFTS, count - 1)).round())
        found = [self._sums(one, two, int(k)) for k in shifts]
        return {m: np.array([f.read(m, every)[0] for f in found]) for m in MEASURES}

    def to_linear(self, point: Point) -> Array:
        """[n], correlation of a run's samples with its own linear ones; NaN of none."""
        linear = self.pictures.get(point[0], LINEAR)
        if linear is None:
            return np.full(self.pictures.count, np.nan)
        made = self.pictures.read(point[0], "pictures", point[1])
        return sums(made, linear, ()).correlation

    def copies(self, measure: str, one: str, two: str) -> float:
        """The measure of the denoisers that copy the training pictures of two runs."""
        made = [self.pictures.get(run_id, COPIES) for run_id in (one, two)]
        if made[0] is None or made[1] is None:
            return np.nan
        found = sums(made[0], made[1], self._linear(one, two))
        return float(found.read(measure, np.ones((1, self.pictures.count)))[0])


@dataclasses.dataclass(frozen=True)
class Scores:
    """Denoised pictures of a set at one of its levels, pair by pair.

    Attributes:
      level: its number in `Pictures.sigmas`.
    """

    pictures: Pictures
    level: int

    @property
    def sigma(self) -> float:
        """The level, as a study states it: float32 is rounded."""
        return float(f"{self.pictures.sigmas[self.level]:.4g}")

    def distances(self, points: Sequence[Point], ends: Array, weights: Array) -> Array:
        """Squared distances over errors [weightings, pairs], as `contrasts.Measure`."""
        said = {k: self.said(points[k]) for k in np.unique(ends)}
        missed = {k: weights @ self.errors(one) for k, one in said.items()}
        read = []
        for i, j in ends:
            apart = weights @ ((said[i] - said[j]) ** 2).mean(axis=1)
            read.append(apart / (0.5 * (missed[i] + missed[j])))
        return np.stack(read, axis=1) if read else np.empty((len(weights), 0))

    def said(self, point: Point, what: str = "denoised") -> Array:
        """[n, values], what a run says of the noisy pictures."""
        found = self.pictures.read(point[0], what, point[1])[self.level]
        return found.reshape(self.pictures.count, -1)

    def errors(self, said: Array) -> Array:
        """[n], mean squared errors of denoised pictures."""
        return ((said - self.pictures.real.reshape(said.shape)) ** 2).mean(axis=1)

    def known(self, run_id: str, which: str) -> Array | None:
        """[n, values], what a known denoiser says: linear, copies or exact."""
        found = self.pictures.get(run_id, f"{which}_denoised")
        return None if found is None else found[self.level].reshape(len(found[0]), -1)
