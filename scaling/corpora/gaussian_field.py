"""Gaussian random fields with a power-law spectrum: pictures whose truth is known.

A picture is a stationary Gaussian field on a torus of `size` x `size` pixels, of mean
MEAN and standard deviation DEVIATION, rounded to whole levels; the power of a wave of
k periods a side is in proportion to max(1, |k|)^-exponent, as in natural pictures at 2
(Field 1987, JOSA A 4). Every picture is a group of its own.

The best denoiser is linear and its samples are known in closed form
(`scaling.diffusion.gaussian` of `moments`); so are the entropy and the chances of a
pixel's levels given those before it, up to the rounding, which adds 1/12 of a squared
level to every wave.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np

from scaling.canonical import Scalar
from scaling.corpora import _known, _levels
from scaling.corpora._pictures import Picture

LICENCE = _known.LICENCE
SOURCE = _known.SOURCE

# In levels: four deviations to either end, so that 6 values in 100,000 are cut.
MEAN, DEVIATION = 128.0, 32.0
_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Field:
    """Options.

    Attributes:
      size: pixels of a side.
      exponent: of the spectrum; 0 makes pixels independent.
      pictures: how many there are.
      seed: keys the pictures, not the source.
    """

    size: int = 8
    exponent: float = 2.0
    pictures: int = 65_536
    seed: int = 0

    def check(self) -> None:
        _known.within("size", self.size, 2, 64)
        _known.within("exponent", self.exponent, 0, 6)
        _known.within("pictures", self.pictures, 2, 10_000_000)

    @functools.cached_property
    def power(self) -> np.ndarray:
        """float64 [size, size]: the variance of each wave, of mean DEVIATION^2."""
        periods = np.fft.fftfreq(self.size, 1.0 / self.size)
        k = np.maximum(1.0, np.hypot(periods[:, None], periods[None, :]))
        spectrum = k**-self.exponent
        return DEVIATION**2 * spectrum / spectrum.mean()


def version(**options: Scalar) -> str:
    return _known.version(_known.made(Field, options))


def pictures(**options: Scalar) -> Iterator[Picture]:
    """Pictures by number; `options` are the fields of `Field`."""
    field = _known.made(Field, options)
    root = np.sqrt(field.power)
    for first in range(0, field.pictures, _AT_ONCE):
        count = min(_AT_ONCE, field.pictures - first)
        draw = np.random.Generator(np.random.Philox(key=[field.seed, first]))
        white = draw.standard_normal((_AT_ONCE, field.size, field.size))[:count]
        made = np.fft.ifft2(root * np.fft.fft2(white)).real
        for i, pixels in enumerate(_levels.rounded(MEAN + made), first):
            yield Picture(str(i), pixels[..., None], str(i))


def moments(**options: Scalar) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and covariance [d, d] of the pixels over 255, rounding included."""
    field = _known.made(Field, options)
    return np.full(field.size**2, MEAN / 255.0), _covariance(field) / 255.0**2


def _covariance(field: Field) -> np.ndarray:
    """float64 [d, d], of pixels in levels after rounding."""
    size = field.size
    of_shift = np.fft.ifft2(field.power + _levels.ROUNDING).real
    row, column = np.divmod(np.arange(size**2), size)
    down = (row[:, None] - row[None, :]) % size
    across = (column[:, None] - column[None, :]) % size
    covariance: np.ndarray = of_shift[down, across]
    return covariance


def bits_per_dimension(**options: Scalar) -> float:
    """Entropy of a rounded picture over its pixels: what no model can beat.

    That of the field without rounding, plus the rounding's variance: right to a few
    thousandths of a bit where every wave's deviation is a level or more.
    """
    power = _known.made(Field, options).power + _levels.ROUNDING
    return float(0.5 * np.mean(np.log2(2.0 * math.pi * math.e * power)))


def entropy(length: int, /, **options: Scalar) -> tuple[float, float]:
    """Nats of a pixel and their error; see `bits_per_dimension` and _truth.py."""
    return bits_per_dimension(**options) * math.log(2.0), 0.0


def oracle(tokens: np.ndarray, offset: np.ndarray, /, **options: Scalar) -> np.ndarray:
    """float64 [n, d]: nats of pixels in raster order, given those before.

    See _truth.py. With the covariance L L^T, a pixel's deviation given those before it
    is on L's diagonal, and its mean is what is left of it once its own share of the
    whitened picture is taken away. Its own rounding is no part of the deviation.
    """
    field = _known.made(Field, options)
    factor = np.linalg.cholesky(_covariance(field))
    centred = tokens - MEAN
    white = np.linalg.solve(factor, centred.T).T
    own = np.diag(factor)
    mean = MEAN + centred - white * own
    return _levels.nats(tokens, mean, np.sqrt(own**2 - _levels.ROUNDING))
