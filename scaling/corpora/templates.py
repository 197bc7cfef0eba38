"""Templates with white noise on them: pictures that fall into known classes.

A picture is one of `count` smooth templates, all equally likely, plus independent
normal noise of `noise` levels on every pixel, rounded. Its label is the template's
number. The best denoiser is known in closed form (`scaling.diffusion.Mixture` of
`parts`). Every picture is a group of its own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from scaling.canonical import Scalar
from scaling.corpora import _known
from scaling.corpora._pictures import Picture

LICENCE = _known.LICENCE
SOURCE = _known.SOURCE

# The levels that templates span: the rest is left to the noise.
DARK, LIGHT = 64.0, 192.0
ROUNDING = 1.0 / 12.0
_AT_ONCE = 1024


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


def version(**options: Scalar) -> str:
    return _known.version(_known.made(Templates, options))


def pictures(**options: Scalar) -> Iterator[Picture]:
    """Pictures by number; `options` are the fields of `Templates`."""
    source = _known.made(Templates, options)
    for first in range(0, source.pictures, _AT_ONCE):
        count = min(_AT_ONCE, source.pictures - first)
        draw = np.random.Generator(np.random.Philox(key=[source.seed, first]))
        which = draw.integers(0, source.count, _AT_ONCE)[:count]
        noise = draw.standard_normal((_AT_ONCE, source.size, source.size))[:count]
        made = source.templates[which] + source.noise * noise
        levels = np.clip(np.rint(made), 0, 255).astype(np.uint8)
        for i, (pixels, template) in enumerate(zip(levels, which, strict=True), first):
            label = int(template) if source.labels else -1
            yield Picture(str(i), pixels[..., None], str(i), label)


def parts(**options: Scalar) -> tuple[np.ndarray, float]:
    """Templates [count, d] and the noise's variance, of pixels over 255.

    The variance has that of rounding in it.
    """
    source = _known.made(Templates, options)
    rows = source.templates.reshape(source.count, -1) / 255.0
    return rows, (source.noise**2 + ROUNDING) / 255.0**2
