"""What a run's samples are set beside: the pictures it reads, and known denoisers.

Of the training pictures that a run may read there are two denoisers that train nothing:
the best linear one, and that of the least training loss, which copies. Where the truth
of a corpus is known there is the exact one too. Their samples come of the same noises
by the same sampler, so that what its steps get wrong is in all of them.

A sample is a copy where one training picture is far nearer than every other. How near
come the pictures of the half that was not read says what nearness means by chance.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling import corpora, diffusion, inpainting, objective
from scaling.corpora import Prepared, TokenStream, _pictures
from scaling.corpora._samples import SampleSet
from scaling.families import Images
from scaling.run import Data, Part, Run

# Pictures that are read at a time.
AT_ONCE = 4096
# The linear landmark takes a covariance of as many values as a picture's squared, the
# optimal one a number for every noise and training picture at each of the sampler's
# evaluations: beyond these they are left out.
MOST_VALUES, MOST_PAIRS = 4096, 1 << 24


@dataclasses.dataclass(frozen=True)
class Reading:
    """The training pictures of runs of one corpus, budget and seed.

    Attributes:
      data, batch, parts: what decides them.
      run: any run that reads them.
    """

    data: Data
    batch: int
    parts: tuple[Prepared, ...]
    run: Run = dataclasses.field(compare=False)

    @classmethod
    def of(cls, run: Run, prepared: Mapping[str, Prepared]) -> Reading:
        parts = tuple(prepared[part.key] for part in run.data.corpus)
        return cls(run.data, run.batch, parts, run)

    @property
    def images(self) -> Images:
        images = self.parts[0].images
        assert images is not None
        return images

    @property
    def count(self) -> int:
        """How many different ones it reads."""
        return self.run.unique_steps * self.batch

    def other(self) -> Reading | None:
        """As many of the half that is not read, or all of it; None without halves."""
        if not self.data.half or len(self.parts) > 1:
            return None
        half = 3 - self.data.half
        unique = min(self.count, self.parts[0].readable(half))
        unique -= unique % self.batch
        if not unique:
            return None
        data = dataclasses.replace(self.data, half=half, unique_tokens=unique)
        run = dataclasses.replace(self.run, data=data)
        return dataclasses.replace(self, data=data, run=run)

    def rows(self) -> Iterator[np.ndarray]:
        """int32 [n, row], each picture once, as they are read."""
        prepared = {part.key: part for part in self.parts}
        # What it is scored on and asked for may lie in corpora that are not at hand.
        reader = dataclasses.replace(
            self.run, objective="denoise", evaluation=(), samples=()
        )
        stream = TokenStream(reader, prepared)
        steps = max(1, AT_ONCE // self.batch)
        for start in range(0, self.run.unique_steps, steps):
            stop = min(start + steps, self.run.unique_steps)
            yield stream.batches(start, stop).reshape(-1, self.images.row)

    def pixels(self) -> Iterator[np.ndarray]:
        """float64 [n, values], over 255: the middle of each level."""
        wide = 256 / _pictures.levels(self.parts[0].tokenizer)
        for rows in self.rows():
            yield ((rows[:, : self.images.size] + 0.5) * wide - 0.5) / 255.0


# --- Nearest pictures -----------------------------------------------------------------


class Near(NamedTuple):
    """Of each picture: root mean square distances to the nearest two, and the nearest.

    Attributes:
      distance: float32 [n, 2], rising; inf where there are fewer than two.
      picture: float64 [n, values].
    """

    distance: np.ndarray
    picture: np.ndarray


def near(pictures: np.ndarray, reading: Reading) -> Near:
    """The nearest of what is read to each of the pictures [n, ...], over 255."""
    x = np.asarray(pictures, np.float64).reshape(len(pictures), -1)
    squares = np.full((len(x), 2), np.inf)
    nearest = np.zeros_like(x)
    for rows in reading.pixels():
        far = (x**2).sum(1)[:, None] - 2.0 * x @ rows.T + (rows**2).sum(1)
        first = far.argmin(axis=1)
        best = np.partition(far, 1, axis=1)[:, :2] if len(rows) > 1 else far
        better = best[:, 0] < squares[:, 0]
        nearest[better] = rows[first[better]]
        squares = np.sort(np.concatenate([squares, best], axis=1), axis=1)[:, :2]
    distance = np.sqrt(np.maximum(squares, 0.0) / x.shape[1])
    return Near(distance.astype(np.float32), nearest)


def neighbours(pictures: np.ndarray, run: Run, prepared: Any) -> dict[str, np.ndarray]:
    """`near`, `nearest` and, of runs of a half, `near_other`, by these names."""
    reading = Reading.of(run, prepared)
    found, other = near(pictures, reading), reading.other()
    levels = np.rint(255.0 * found.picture).astype(np.uint8)
    kept = {"near": found.distance, "nearest": levels.reshape(pictures.shape)}
    if other is not None:
        kept["near_other"] = near(pictures, other).distance
    return kept


def counts(run: Run, prepared: Mapping[str, Prepared]) -> np.ndarray:
    """int64 [2]: how many pictures a run reads, and are compared of the other half."""
    reading = Reading.of(run, prepared)
    other = reading.other()
    return np.array([reading.count, 0 if other is None else other.count])


# --- Denoisers ------------------------------------------------------------------------


def landmarks(
    run: Run, prepared: Mapping[str, Prepared], made: SampleSet, part: Part
) -> dict[str, np.ndarray]:
    """Samples of known denoisers and what they say of the noisy pictures, float16.

    Args:
      made: the noises and pictures.
      part: the corpus that the pictures are of.

    Returns:
      WHICH [n, height, width, channels] and WHICH_denoised [level, n, ...] of linear,
      copies and exact, where there is such a denoiser.
    """
    reading = Reading.of(run, prepared)
    kept = dict(_of_reading(reading, _Alike(made)))
    images = prepared[part.key].images
    assert images is not None
    exact = _exact(part, images, made)
    if exact is not None:
        kept |= _told("exact", exact, images, made)
    return kept


class _Alike:
    """A sample set as a key: equal to others of the same digest."""

    def __init__(self, made: SampleSet):
        self.made = made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Alike) and other.made.digest == self.made.digest

    def __hash__(self) -> int:
        return hash(self.made.digest)


@functools.lru_cache(maxsize=8)
def _of_reading(reading: Reading, alike: _Alike) -> Mapping[str, np.ndarray]:
    made, images = alike.made, reading.images
    kept: dict[str, np.ndarray] = {}
    if images.size <= MOST_VALUES:
        kept |= _told("linear", _linear(reading), images, made)
    if len(made.noise) * reading.count <= MOST_PAIRS:
        rows = np.concatenate(list(reading.pixels()))
        optimal = Optimal(jnp.asarray(_scaled(rows, images), jnp.float32))
        kept |= _told("copies", optimal, images, made)
    return kept


def _scaled(pixels: np.ndarray, images: Images) -> np.ndarray:
    """Pixels over 255 in the units of models."""
    return (pixels - images.mean) * (diffusion.SIGMA_DATA / images.std)


def _linear(reading: Reading) -> diffusion.Gaussian:
    return _gaussian(*_moments(reading))


def _moments(reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and covariance [d, d] of the training pictures, in models' units."""
    size = reading.images.size
    total, products = np.zeros(size), np.zeros((size, size))
    for pixels in reading.pixels():
        rows = _scaled(pixels, reading.images)
        total += rows.sum(axis=0)
        products += rows.T @ rows
    mean = total / reading.count
    return mean, products / reading.count - np.outer(mean, mean)


def _gaussian(mean: np.ndarray, covariance: np.ndarray) -> diffusion.Gaussian:
    """In float64 up to here: directions that do not vary must have no variance."""
    variances, basis = np.linalg.eigh(covariance)
    each = (mean, basis, np.maximum(variances, 0.0))
    return diffusion.Gaussian(*(jnp.asarray(x, jnp.float32) for x in each))


class Optimal(NamedTuple):
    """`diffusion.Mixture` of the rows, by products: |x|^2 falls out of the softmax."""

    rows: jax.Array

    def __call__(self, x: jax.Array, sigma: Any) -> jax.Array:
        level = jnp.broadcast_to(jnp.asarray(sigma, x.dtype), x.shape[:1])[:, None]
        near_BxN = x.reshape(len(x), -1) @ self.rows.T
        near_BxN -= 0.5 * (self.rows**2).sum(axis=1)
        weights_BxN = jax.nn.softmax(near_BxN / level**2, axis=1)
        return (weights_BxN @ self.rows).reshape(x.shape)


class Normal(NamedTuple):
    """The exact denoiser where a picture's mean is known and its noise is white."""

    mean: jax.Array
    variance: jax.Array

    def __call__(self, x: jax.Array, sigma: Any) -> jax.Array:
        return self.mean + self.variance / (self.variance + sigma**2) * (x - self.mean)


def hidden(
    run: Run, prepared: Mapping[str, Prepared], rows: np.ndarray, part: Part
) -> dict[str, np.ndarray]:
    """What known models expect of lower halves, float16, in pixels over 255.

    Args:
      rows: int32 [n, row], the pictures, as `denoise` reads them.
      part: the corpus that they are of.

    Returns:
      WHICH_hidden [n, rows, width, channels] of linear, the best linear function of
      upper halves on the run's training pictures, and exact, where the truth is known.
    """
    images = prepared[part.key].images
    assert images is not None
    unit = diffusion.SIGMA_DATA / images.std
    rounding = (unit / 255.0) ** 2 / 12.0
    upper = inpainting.shown(images.height)
    seen = _scaled(rows[:, : images.size] / 255.0, images)
    seen = seen[:, : upper * images.width * images.channels]
    found = {}
    if images.size <= MOST_VALUES:
        moments = _moments(Reading.of(run, prepared))
        found["linear"] = inpainting.of_gaussian(*moments, seen, rounding)
    known = _expected(part, images, rows, seen)
    if known is not None:
        found["exact"] = known
    shape = (images.height - upper, *images.shape[1:])
    pixels = lambda x: (x / unit + images.mean).reshape(-1, *shape)
    return {
        f"{name}_hidden": pixels(lower).astype(np.float16)
        for name, lower in found.items()
    }


def _expected(
    part: Part, images: Images, rows: np.ndarray, seen: np.ndarray
) -> np.ndarray | None:
    """The truth's lower halves [n, values], in models' units."""
    module, options = corpora.load(part.name), dict(part.options)
    unit = diffusion.SIGMA_DATA / images.std
    if hasattr(module, "moments"):
        mean, covariance = module.moments(**options)
        mean, covariance = _scaled(mean, images), covariance * unit**2
        return inpainting.of_gaussian(mean, covariance, seen, 0.0)
    if not hasattr(module, "parts"):
        return None
    found, variance = module.parts(**options)
    templates = _scaled(found, images)
    if images.labels:  # models read which it is, and its noise is white
        own: np.ndarray = templates[rows[:, images.size], seen.shape[1] :]
        return own
    return inpainting.of_mixture(templates, variance * unit**2, seen)


def _exact(part: Part, images: Images, made: SampleSet) -> Any:
    """The denoiser of the truth of a corpus; None where that is not known."""
    module, options = corpora.load(part.name), dict(part.options)
    unit = diffusion.SIGMA_DATA / images.std
    if hasattr(module, "moments"):
        mean, covariance = module.moments(**options)
        return _gaussian(_scaled(mean, images), covariance * unit**2)
    if hasattr(module, "parts"):
        found, variance = module.parts(**options)
        rows = jnp.asarray(_scaled(found, images), jnp.float32)
        spread = jnp.float32(variance * unit**2)
        if not images.labels:
            return diffusion.Mixture(rows, spread)
        own = rows[made.rows[:, images.size]]  # models read which it is
        return Normal(own.reshape(-1, *images.shape), spread)
    return None


def _told(
    name: str, denoiser: Any, images: Images, made: SampleSet
) -> dict[str, np.ndarray]:
    """A denoiser's samples, and what it says of the pictures at each level."""
    of = objective.Denoise(images)
    seen, _ = of.pictures(jnp.asarray(made.rows))

    @jax.jit  # with the denoiser's arrays as arguments, and not as constants
    def sample(denoiser: Any, noise: jax.Array) -> jax.Array:
        levels = diffusion.schedule(objective.STEPS)
        return of.pixels(diffusion.heun(denoiser, noise, levels))

    @jax.jit
    def denoised(denoiser: Any, noise: jax.Array, sigma: jax.Array) -> jax.Array:
        return of.pixels(denoiser(seen + sigma * noise, sigma))

    noise = jnp.asarray(made.seen)
    said = [denoised(denoiser, noise, jnp.float32(sigma)) for sigma in made.sigmas]
    return {
        name: np.asarray(sample(denoiser, jnp.asarray(made.noise)), np.float16),
        f"{name}_denoised": np.stack([np.asarray(one, np.float16) for one in said]),
    }
