"""Starts for laws that are sums of powers: a grid over the exponents, all else solved.

With the exponents fixed such a law is linear in its amplitudes, one for each term and
each pattern of levels (family, corpus) that the term tells apart. Those are found by
non-negative least squares on the relative residual (on the residual itself for scale
"raw"), reweighted for Huber, and their logarithms are projected on the law's own
coordinates: the identity for a law of one family and corpus; family and corpus terms
for the joint law.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from analysis.fitting.objective import Scale, bounds, product, reweight
from analysis.laws import Array, Columns, Law

# Points of a grid, over all exponents together.
POINTS = 64
# Rounds of reweighting at every point of the grid.
ROUNDS = 1
# Problems of one chunk of draws, draws times grid points.
CHUNK = 8_000
# Entries of the basis in one chunk of points.
ENTRIES = 90_000
# With more amplitudes than this, supports are searched instead of enumerated.
ENUMERATED = 3
# Log of the largest power, either way: its square still has a sum in float64.
FARTHEST = 300.0


class Terms(NamedTuple):
    """A law's design, taken apart.

    Attributes:
      exponents: coordinates [Q] that multiply a continuous column.
      others: the remaining coordinates [P - Q].
      slopes: [K, n, Q], the continuous columns of each amplitude's term.
      member: [K, n], 1 where the row has this amplitude's pattern.
      patterns: [K, P - Q], the coordinates whose sum is the log amplitude.
    """

    exponents: Array
    others: Array
    slopes: Array
    member: Array
    patterns: Array


def terms(designs: Array) -> Terms:
    """Takes the designs [T, n, P] of a law apart."""
    levels = ((designs == 0.0) | (designs == 1.0)).all(axis=(0, 1))
    exponents, others = np.flatnonzero(~levels), np.flatnonzero(levels)
    slopes, member, patterns = [], [], []
    for x in designs:
        found, code = _patterns(x[:, others])
        for k, pattern in enumerate(found):
            slopes.append(x[:, exponents])
            member.append((code == k).astype(float))
            patterns.append(pattern)
    return Terms(
        exponents, others, np.stack(slopes), np.stack(member), np.stack(patterns)
    )


def _patterns(rows: Array) -> tuple[Array, Array]:
    """The different rows of [n, C], and which of them each row is."""
    if (rows == rows[0]).all():
        return rows[:1], np.zeros(len(rows), int)
    found, code = np.unique(rows, axis=0, return_inverse=True)
    return found, code.ravel()


class Grid:
    """The exponents' grid of one law on one set of rows."""

    def __init__(self, law: Law, columns: Columns, loss: Array):
        """loss: [n], the scale of amplitudes that come out at zero."""
        assert law.designs is not None
        self._law = law
        self._terms = terms(law.designs(columns))
        self._small = 1e-3 * float(np.median(loss))
        own = law.starts(columns, loss)[:, self._terms.exponents]
        self._low, self._high = own.min(axis=0), own.max(axis=0)
        free = int((self._high > self._low).sum())
        each = max(2, round(POINTS ** (1.0 / max(1, free))))
        self.axes = [self._axis(q, each) for q in range(own.shape[1])]
        self.shape = tuple(axis.size for axis in self.axes)
        self.exponents = np.array(list(itertools.product(*self.axes)))

    def _axis(self, q: int, count: int) -> Array:
        low, high = self._low[q], self._high[q]
        if low == high:
            return np.array([low])
        space = np.geomspace if low > 0 else np.linspace
        return space(low, high, count)

    def random(self, count: int, seed: int) -> Array:
        """Exponents [count, Q] anywhere in the grid's box."""
        rng = np.random.default_rng(seed)
        return rng.uniform(self._low, self._high, (count, self._low.size))

    def solve(
        self,
        exponents: Array,
        loss: Array,
        weights: Array,
        delta: float,
        scale: Scale,
    ) -> Array:
        """Coordinates [S, P] at exponents [S, Q], everything else solved for.

        Args:
          loss: [n]; weights: [n].
        """
        size = max(1, ENTRIES // self._terms.member.size)
        if len(exponents) > size:
            halves = np.array_split(exponents, 2)
            parts = [self.solve(half, loss, weights, delta, scale) for half in halves]
            return np.concatenate(parts)
        unit = np.ones_like(loss) if scale == "raw" else 1.0 / loss
        basis = self._basis(exponents) * unit
        wanted = loss * unit
        weight = np.broadcast_to(weights, (len(exponents), loss.size))
        for _ in range(1 + (ROUNDS if np.isfinite(delta) else 0)):
            scaled = basis * weight[:, None, :]
            gram = scaled @ basis.transpose(0, 2, 1)
            amplitude = nnls(np.moveaxis(gram, 0, -1), (scaled @ wanted).T)
            predicted = (amplitude.T[:, None, :] @ basis)[:, 0]
            residual = predicted - wanted
            if scale == "log":
                residual = np.log(np.maximum(predicted, 1e-300))
            weight = weights * reweight(residual, delta)
        return self._coordinates(exponents, amplitude.T, gram)

    def draws(
        self, loss: Array, weights: Array, robust: Array, scale: Scale
    ) -> tuple[Array, Array]:
        """The best point of the grid for every draw: coordinates [B, P], index [B].

        Args:
          loss: [n] or [B, n]; weights: [B, n].
          robust: [n], the weights that Huber gives the rows at the point fit.
        """
        basis = self._basis(self.exponents).transpose(1, 2, 0).copy()
        count = len(basis)
        pairs = list(itertools.combinations_with_replacement(range(count), 2))
        products = [basis[i] * basis[j] for i, j in pairs]
        size = max(1, CHUNK // len(self.exponents))
        thetas, places = [], []
        for at in range(0, len(weights), size):
            part = slice(at, at + size)
            y = loss if loss.ndim == 1 else loss[part]
            weight = weights[part] * robust
            first = weight * y if scale == "raw" else weight / y
            second = weight if scale == "raw" else first / y
            gram = np.empty((count, count, len(weight), len(self.exponents)))
            for (i, j), both in zip(pairs, products, strict=True):
                gram[i, j] = gram[j, i] = product(second, both)
            moment = np.stack([product(first, b) for b in basis])
            amplitude = nnls(gram, moment)
            gain = (moment * amplitude).sum(axis=0)
            best = gain.argmax(axis=1)
            rows = np.arange(len(best))
            chosen = self.exponents[best]
            matrix = np.moveaxis(gram[:, :, rows, best], -1, 0)
            thetas.append(self._coordinates(chosen, amplitude[:, rows, best].T, matrix))
            places.append(best)
        return np.concatenate(thetas), np.concatenate(places)

    @property
    def amplitudes(self) -> int:
        return len(self._terms.member)

    def far(self, theta: Array, index: Array) -> Array:
        """Whether theta's exponents lie over a step of the grid from point `index`."""
        out = np.zeros(len(theta), bool)
        own = theta[:, self._terms.exponents]
        for q, axis in enumerate(self.axes):
            if axis.size < 2:
                continue
            steps = np.arange(axis.size)
            at = np.interp(own[:, q], axis, steps)
            out |= np.abs(at - np.interp(self.exponents[index, q], axis, steps)) > 1.5
        return out

    def minima(self, objective: Array) -> Array:
        """Indices of the grid points [G] that no neighbour along an axis is below."""
        values = objective.reshape(self.shape)
        low = np.ones(self.shape, bool)
        for axis in range(values.ndim):
            along, marked = np.moveaxis(values, axis, 0), np.moveaxis(low, axis, 0)
            rising = along[1:] >= along[:-1]
            marked[:-1] &= rising
            marked[1:] &= ~rising
        found = np.flatnonzero(low.ravel())
        return found[np.argsort(objective[found], kind="stable")]

    def _basis(self, exponents: Array) -> Array:
        """Each amplitude's column at each point, [S, K, n]."""
        slopes = self._terms.slopes
        logs = exponents @ slopes.reshape(-1, slopes.shape[2]).T
        # A size of 1e-308 lies so far from the others that its powers have no float.
        np.clip(logs, -FARTHEST, FARTHEST, out=logs)
        powers = np.exp(logs.reshape(len(exponents), *slopes.shape[:2]))
        return powers * self._terms.member

    def _coordinates(self, exponents: Array, amplitude: Array, gram: Array) -> Array:
        """Log amplitudes [S, K] projected on the coordinates, [S, P].

        An amplitude of zero counts as a thousandth of the loss, so that it can grow,
        with next to no weight; others by their information, amplitude^2 gram.
        """
        pattern = self._terms.patterns
        logs = np.log(np.maximum(amplitude, self._small))
        information = np.einsum("skk->sk", gram) * amplitude**2
        information += 1e-9 * information.max(axis=1, keepdims=True) + 1e-300
        scaled = information[:, :, None] * pattern
        matrix = pattern.T @ scaled
        at = range(pattern.shape[1])
        matrix[:, at, at] += 1e-12 * information.max(axis=1, keepdims=True)
        right = np.einsum("skc,sk->sc", scaled, logs)
        theta = np.empty((len(exponents), len(self._law.parameters)))
        theta[:, self._terms.exponents] = exponents
        theta[:, self._terms.others] = np.linalg.solve(matrix, right[..., None])[..., 0]
        return np.clip(theta, *bounds(self._law))


def nnls(gram: Array, moment: Array) -> Array:
    """Non-negative least squares from the normal equations, many problems at once.

    Minimises x' gram x / 2 - moment' x over x >= 0.

    Args:
      gram: [K, K, ...], symmetric and positive semi-definite; moment: [K, ...].

    Returns:
      x: [K, ...].
    """
    if len(moment) <= ENUMERATED:
        return _enumerate(gram, moment)
    shape = moment.shape
    flat = moment.reshape(len(moment), -1).T
    matrix = np.moveaxis(gram.reshape(len(moment), len(moment), -1), -1, 0)
    return _pivot(matrix, flat).T.reshape(shape)


def _enumerate(gram: Array, moment: Array) -> Array:
    """The best of all supports: the whole one wherever its solution is feasible."""
    best = np.stack(_cramer(gram, moment, tuple(range(len(moment)))))
    wrong = ~(best >= 0).all(axis=0)
    if wrong.any():
        best[:, wrong] = _supports(gram[:, :, wrong], moment[:, wrong])
    return best


def _supports(gram: Array, moment: Array) -> Array:
    """The best of all smaller supports whose own solution is feasible."""
    size = len(moment)
    best = np.zeros_like(moment)
    most = np.zeros_like(moment[0])
    for count in range(1, size):
        for support in itertools.combinations(range(size), count):
            solution = _cramer(gram, moment, support)
            gain = sum(moment[i] * x for i, x in zip(support, solution, strict=True))
            better = gain > most
            for x in solution:
                better &= x >= 0
            np.copyto(most, gain, where=better)
            best[:, better] = 0.0
            for i, x in zip(support, solution, strict=True):
                np.copyto(best[i], x, where=better)
    return best


def _cramer(gram: Array, moment: Array, support: tuple[int, ...]) -> list[Array]:
    """The unconstrained solution on a support of one to three; NaN where singular."""
    g = [[gram[i, j] for j in support] for i in support]
    m = [moment[i] for i in support]
    with np.errstate(divide="ignore", invalid="ignore"):
        if len(support) == 1:
            return [m[0] / g[0][0]]
        if len(support) == 2:
            det = g[0][0] * g[1][1] - g[0][1] ** 2
            det = np.where(det > 1e-13 * g[0][0] * g[1][1], det, np.nan)
            return [
                (m[0] * g[1][1] - m[1] * g[0][1]) / det,
                (m[1] * g[0][0] - m[0] * g[0][1]) / det,
            ]
        a = g[1][1] * g[2][2] - g[1][2] ** 2
        b = g[0][2] * g[1][2] - g[0][1] * g[2][2]
        c = g[0][1] * g[1][2] - g[0][2] * g[1][1]
        d = g[0][0] * g[2][2] - g[0][2] ** 2
        e = g[0][1] * g[0][2] - g[0][0] * g[1][2]
        f = g[0][0] * g[1][1] - g[0][1] ** 2
        det = g[0][0] * a + g[0][1] * b + g[0][2] * c
        det = np.where(det > 1e-13 * g[0][0] * g[1][1] * g[2][2], det, np.nan)
        return [
            (a * m[0] + b * m[1] + c * m[2]) / det,
            (b * m[0] + d * m[1] + e * m[2]) / det,
            (c * m[0] + e * m[1] + f * m[2]) / det,
        ]


def _pivot(gram: Array, moment: Array) -> Array:
    """Block principal pivoting (Judice and Pires 1994): [S, K, K], [S, K] -> [S, K].

    All coordinates with the wrong sign change sides at once; a problem in which that
    has stopped helping moves its last one alone, which must end.
    """
    count, size = moment.shape
    root = np.sqrt(np.maximum(np.einsum("skk->sk", gram), 1e-300))
    gram = gram / (root[:, :, None] * root[:, None, :])
    gram[:, range(size), range(size)] += 1e-12
    moment = moment / root
    tiny = 1e-12 * np.abs(moment).max(axis=1, keepdims=True)
    free = moment > 0
    x = np.zeros_like(moment)
    fewest, patience = np.full(count, size + 1), np.full(count, 3)
    open_ = np.arange(count)
    for _ in range(20 * size):
        passive = free[open_]
        both = passive[:, :, None] & passive[:, None, :]
        matrix = np.where(both, gram[open_], 0.0)
        matrix[:, range(size), range(size)] += ~passive
        part = np.linalg.solve(
            matrix, np.where(passive, moment[open_], 0.0)[..., None]
        )[..., 0]
        slope = (gram[open_] @ part[..., None])[..., 0] - moment[open_]
        wrong = np.where(passive, part < 0, slope < -tiny[open_])
        x[open_] = np.maximum(part, 0.0)
        bad = wrong.sum(axis=1)
        fewer = bad < fewest[open_]
        fewest[open_] = np.minimum(bad, fewest[open_])
        patience[open_] = np.where(fewer, 3, patience[open_] - 1)
        last = size - 1 - wrong[:, ::-1].argmax(axis=1)
        alone = wrong & (np.arange(size) == last[:, None])
        change = np.where((patience[open_] >= 0)[:, None], wrong, alone)
        free[open_] = passive ^ change
        open_ = open_[bad > 0]
        if not open_.size:
            break
    return x / root
