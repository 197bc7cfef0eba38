"""Agreement of two models beyond what the counts of n-grams explain.

Let n be the n-gram model's chances at a position, u those of single tokens. Three
measures of how two runs f and g agree there:

    function  the inner product of what is left of ln p when a cubic in ln n and a
              multiple of ln u are taken away by least squares with weights n; over all
              positions a cosine
    top-1     whether both hold the same token for the likeliest
    loss      the product of their losses about their means; over all positions the
              correlation

Each has two nulls. Permuted: g is read at another position at random. Given n-grams: g
is read at the positions where the n-gram model is most alike, tokens named by their
rank under n there, so that all that both do with the counts alone stays, and so does
what each loses where counts lose as much. Alike is near in two numbers: how sure the
counts are (entropy or the lead of their first token), and what they lost. What differs
in them all the same is made up for by a quadratic, as in matching with regression
(Abadie and Imbens 2011). The other position is never of the same document. What is left
is agreement beyond n-grams.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from analysis.laws import Array
from analysis.predictions.contrasts import Compared
from analysis.predictions.load import Point, Predictions

FUNCTION, TOP, LOSS = MEASURES = ("function", "top-1", "loss")
# So many alike positions are averaged; logs of chances are at least LEAST.
ALIKE, LEAST = 4, -20.0


@dataclasses.dataclass(frozen=True)
class Counts:
    """What the n-gram model says at each position.

    Attributes:
      order: [positions, vocab], tokens from the likeliest on.
      logs: [positions, vocab], its logs in that order.
      unigram: the same of single tokens.
      alike: by measure, the positions most like each [positions, ALIKE].
      sureness: [positions, 6], a quadratic's terms in entropy and loss.
    """

    order: Array
    logs: Array
    unigram: Array
    alike: dict[str, Array]
    sureness: Array

    @classmethod
    def of(cls, predictions: Predictions, logs: Array) -> Counts:
        """Args: logs: the n-gram model's [positions, vocab]."""
        probes = predictions.probes
        order = np.argsort(-logs, axis=1, kind="stable")
        ranked = np.maximum(np.take_along_axis(logs, order, 1), LEAST)
        single = np.log(probes.unigram)[order]
        loss = -logs[np.arange(len(logs)), probes.target]
        entropy = -(np.exp(ranked) * ranked).sum(axis=1)
        lead = ranked[:, 0] - ranked[:, 1]
        by_entropy = _alike(np.stack([entropy, loss], 1), probes.document)
        by_lead = _alike(np.stack([lead, loss], 1), probes.document)
        alike = {FUNCTION: by_entropy, TOP: by_lead, LOSS: by_entropy}
        x, y = (_scaled(values) for values in (entropy, loss))
        terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1)
        return cls(order, ranked, single, alike, terms)


def _scaled(values: Array) -> Array:
    return (values - values.mean()) / (values.std() or 1.0)


def _alike(features: Array, document: Array) -> Array:
    """The nearest positions of other documents, [positions, ALIKE]."""
    from scipy.spatial import cKDTree

    scaled = np.stack([_scaled(values) for values in features.T], 1)
    _, codes, sizes = np.unique(document, return_inverse=True, return_counts=True)
    most = min(len(features), ALIKE + int(sizes.max()))
    _, near = cKDTree(scaled).query(scaled, k=most)
    other = codes[near] != codes[:, None]
    # The first of other documents; sorting is stable, so the nearest stay first.
    first = np.argsort(~other, axis=1, kind="stable")[:, :ALIKE]
    return np.take_along_axis(near, first, 1)


@dataclasses.dataclass(frozen=True)
class Seen:
    """One run as the measures see it.

    Attributes:
      left: [positions, vocab], what is left of its logs, times the root of n, by rank.
      top: [positions], the rank under n of its likeliest token.
      token: [positions], that token.
      loss, usual: [positions], what it lost, and what it loses where the counts are so
        sure and lose so much.
    """

    left: Array
    top: Array
    token: Array
    loss: Array
    usual: Array


def seen(predictions: Predictions, counts: Counts, point: Point) -> Seen:
    """Reads one run and takes the counts' part away."""
    logs = predictions.read(*point)
    target = predictions.probes.target
    loss = -logs[np.arange(len(logs)), target].astype(float)
    ranked = np.take_along_axis(logs, counts.order, 1).astype(float)
    ranked = np.maximum(ranked, LEAST)
    root = np.exp(0.5 * counts.logs)
    # Weighted least squares at every position: bases [positions, vocab, 5].
    powers = [(counts.logs / LEAST) ** k for k in range(4)]
    bases = np.stack([*powers, counts.unigram], 2) * root[..., None]
    q, _ = np.linalg.qr(bases)
    left = ranked * root
    left -= np.einsum("pvk,pk->pv", q, np.einsum("pvk,pv->pk", q, left))
    usual = counts.sureness @ np.linalg.lstsq(counts.sureness, loss, rcond=None)[0]
    return Seen(left.astype(np.float32), ranked.argmax(1), logs.argmax(1), loss, usual)


# [1 + draws] each: the agreement, and its nulls.
Triple = tuple[Array, Array, Array]


def _function(f: Seen, g: Seen, alike: Array, share: Array) -> Triple:
    size = np.sqrt(_mean(share, _dot(f.left, f.left)))
    size = size * np.sqrt(_mean(share, _dot(g.left, g.left)))
    near = g.left[alike].mean(axis=1)
    anywhere = np.einsum("bv,bv->b", share @ f.left, share @ g.left)
    mean = _mean(share, _dot(f.left, g.left))
    return mean / size, anywhere / size, _mean(share, _dot(f.left, near)) / size


def _top(f: Seen, g: Seen, alike: Array, share: Array) -> Triple:
    vocab = f.left.shape[1]
    one, two = np.eye(vocab)[f.token], np.eye(vocab)[g.token]
    anywhere = np.einsum("bv,bv->b", share @ one, share @ two)
    near = (f.top[:, None] == g.top[alike]).mean(axis=1)
    return _mean(share, f.token == g.token), anywhere, _mean(share, near)


def _loss(f: Seen, g: Seen, alike: Array, share: Array) -> Triple:
    def covariance(a: Array, b: Array) -> Array:
        return _mean(share, a * b) - _mean(share, a) * _mean(share, b)

    size = np.sqrt(covariance(f.loss, f.loss) * covariance(g.loss, g.loss))
    near = g.usual + (g.loss - g.usual)[alike].mean(axis=1)
    null = covariance(f.loss, near) / size
    return covariance(f.loss, g.loss) / size, np.zeros(len(share)), null


def _dot(one: Array, two: Array) -> Array:
    return np.einsum("pv,pv->p", one, two, dtype=float)


def _mean(share: Array, values: Array) -> Array:
    return np.asarray(share @ np.asarray(values, float))


BY_MEASURE: dict[str, Callable[[Seen, Seen, Array, Array], Triple]] = {
    FUNCTION: _function,
    TOP: _top,
    LOSS: _loss,
}


def agreement(
    compared: Compared,
    counts: Counts,
    measure: str,
    sides: tuple[Sequence[Point], Sequence[Point]],
    known: dict[Point, Seen],
) -> tuple[Array, Array, Array, Array]:
    """Agreement of two groups of seeds, its two nulls and what is beyond the second.

    Args:
      sides: the runs of each; the same twice gives that of seeds of one group.
      known: the runs, as `seen` gives them.

    Returns:
      [1 + draws] each, by documents and, but for the nulls, seeds together.
    """
    weights = compared.resampling.weights
    share = weights / weights.sum(axis=1, keepdims=True)
    alike, of = counts.alike[measure], BY_MEASURE[measure]
    f, g = sides
    every = {
        (a, b): of(known[a], known[b], alike, share) for a in f for b in g if a != b
    }
    means = [np.mean([t[k] for t in every.values()], axis=0) for k in range(3)]
    groups = (f,) if f == g else (f, g)
    found = []
    for null in (np.zeros(len(share)), means[2]):
        parts: dict[Point, Array] = {}
        for group in groups:
            own = [_of_run(point, every, bool(null.any())) for point in group]
            middle = np.mean(own, axis=0)
            moved = [(value - middle) / len(group) for value in own]
            parts |= dict(zip(group, moved, strict=True))
        found.append(compared.together(means[0] - null, parts, groups))
    return found[0], means[1], means[2], found[1]


def _of_run(
    point: Point, every: Mapping[tuple[Point, Point], Triple], less: bool
) -> Array:
    """The mean over a run's pairs, less its null given n-grams if `less`."""
    mine = [triple for pair, triple in every.items() if point in pair]
    return np.mean([t[0] - t[2] if less else t[0] for t in mine], axis=0)
