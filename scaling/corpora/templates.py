"""Templates with white noise on them: pictures that fall into known classes.

A picture is one of `count` smooth templates, all equally likely, plus independent
normal noise of `noise` levels on every pixel, rounded. Its label is the template's
number. The best denoiser is known in closed form (`scaling.diffusion.Mixture` of
`parts`), and so are the chances of a pixel's levels given those before it; the entropy
is measured. Every picture is a group of its own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from scaling.canonical import Scalar
from scaling.corpora import _known, _levels
from scaling.corpora._pictures import Picture

LICENCE = _known.LICENCE
SOURCE = _known.SOURCE

# The levels that templates span: the rest is left to the noise.
DARK, LIGHT = 64.0, 192.0
_AT_ONCE = 1024
# Chances of a pixel under a template that are worked out together: some 100 MB.
CHANCES = 1 << 22
# Pictures of this number and up are in no corpus: the entropy is measured on them.
FRESH = 1 << 41


@dataclasses.dataclass(frozen=True)
class Templates:
    """Options.

    Attributes:
      size: pixels of a side.
      count: of the templates.
      noise: its standard deviation, in levels of 256.
      labels: 1 where a model reads which template it is, 0 where not.
      pictures: how many there are.
      seed: keys the templates and the pictures.
    """

    size: int = 8
    count: int = 16
    noise: float = 12.0
    labels: int = 0
    pictures: int = 65_536
    seed: int = 0

    def check(self) -> None:
        _known.within("size", self.size, 2, 64)
        _known.within("count", self.count, 1, 4096)
        _known.within("noise", self.noise, 1, 16)
        _known.within("labels", self.labels, 0, 1)
        _known.within("pictures", self.pictures, 2, 10_000_000)

    @functools.cached_property
    def templates(self) -> np.ndarray:
        """float64 [count, size, size], in levels: waves of few periods."""
        draw = np.random.Generator(np.random.Philox(key=[self.seed, 1 << 40]))
        periods = np.fft.fftfreq(self.size, 1.0 / self.size)
        k = np.hypot(periods[:, None], periods[None, :])
        white = draw.standard_normal((self.count, self.size, self.size))
        smooth = np.fft.ifft2(np.exp(-(k**2) / 4.0) * np.fft.fft2(white)).real
        least = smooth.min((1, 2), keepdims=True)
        spread = smooth.max((1, 2), keepdims=True) - least
        return DARK + (LIGHT - DARK) * (smooth - least) / spread

    def drawn(self, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the pictures from number `first`: their templates and their levels."""
        draw = np.random.Generator(np.random.Philox(key=[self.seed, first]))
        which = draw.integers(0, self.count, _AT_ONCE)
        noise = draw.standard_normal((_AT_ONCE, self.size, self.size))
        return which, _levels.rounded(self.templates[which] + self.noise * noise)


def version(**options: Scalar) -> str:
    return _known.version(_known.made(Templates, options))


def pictures(**options: Scalar) -> Iterator[Picture]:
    """Pictures by number; `options` are the fields of `Templates`."""
    source = _known.made(Templates, options)
    for first in range(0, source.pictures, _AT_ONCE):
        count = min(_AT_ONCE, source.pictures - first)
        which, levels = (array[:count] for array in source.drawn(first))
        for i, (pixels, template) in enumerate(zip(levels, which, strict=True), first):
            label = int(template) if source.labels else -1
            yield Picture(str(i), pixels[..., None], str(i), label)


def parts(**options: Scalar) -> tuple[np.ndarray, float]:
    """Templates [count, d] and the noise's variance, of pixels over 255.

    The variance has that of rounding in it.
    """
    source = _known.made(Templates, options)
    rows = source.templates.reshape(source.count, -1) / 255.0
    return rows, (source.noise**2 + _levels.ROUNDING) / 255.0**2


def entropy(length: int, /, **options: Scalar) -> tuple[float, float]:
    """Nats of a pixel and their standard error, measured; see _truth.py."""
    source = _known.made(Templates, options)
    enough = max(64, (1 << 24) // (source.count * source.size**2))
    which, levels = (array[:enough] for array in source.drawn(FRESH))
    rows = levels.reshape(len(levels), -1).astype(np.int64)
    if source.labels:
        rows = np.column_stack([which + _levels.LEVELS, rows])
    nats = _nats(source, rows).mean(axis=1)
    return float(nats.mean()), float(nats.std(ddof=1) / len(nats) ** 0.5)


def oracle(tokens: np.ndarray, offset: np.ndarray, /, **options: Scalar) -> np.ndarray:
    """float64 [n, row]: nats of pixels in raster order, given the label where there is
    one and the pixels before; 0 for the label. See _truth.py."""
    source = _known.made(Templates, options)
    scored = _nats(source, tokens)
    label = np.zeros((len(scored), source.labels))
    return np.concatenate([label, scored], axis=1)


def _nats(source: Templates, tokens: np.ndarray) -> np.ndarray:
    """float64 [n, d]: of pixels alone."""
    rows = max(1, CHANCES // (source.count * source.size**2))
    pieces = np.split(tokens, range(rows, len(tokens), rows))
    return np.concatenate([_nats_together(source, piece) for piece in pieces])


def _nats_together(source: Templates, tokens: np.ndarray) -> np.ndarray:
    """The same, of so few pictures that their chances fit into memory."""
    from scipy.special import logsumexp

    pixels, templates = tokens[:, source.labels :], source.templates
    flat = templates.reshape(source.count, -1)
    if source.labels:
        own = flat[tokens[:, 0] - _levels.LEVELS]
        return _levels.nats(pixels, own, source.noise)
    under = -_levels.nats(pixels[:, None], flat, source.noise)
    # Log chances [n, template, pixel] of all pixels up to each, and so of each.
    joint = logsumexp(np.cumsum(under, axis=2), axis=1) - np.log(source.count)
    found: np.ndarray = -np.diff(joint, axis=1, prepend=0.0)
    return found
