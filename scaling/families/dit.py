"""Diffusion Transformer, DiT (Peebles and Xie 2023, arXiv 2212.09748).

Patches of 2 x 2 pixels with fixed waves for their places; blocks of self-attention over
all patches and a feed-forward layer with GELU, both conditioned on the noise level,
label and caption by adaLN-zero (section 3.2, figure 3). No biases, no dropout.

Options:
  patch: pixels of a patch's side (default 2).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

from flax import nnx

from scaling.families import Images
from scaling.families import _patches as patches
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._pictures import PixelAttention, heads_of

OBJECTIVES = ("denoise",)


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family, for patches of `pixels` values."""

    depth: int
    width: int
    heads: int
    head_dim: int
    hidden: int
    patch: int
    pixels: int
    captions: bool


def ladder(target: float, spec: Images, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Depth grows with the square root of width, as from DiT-S to DiT-XL; the hidden layer
    is near four times the width.

    Raises:
      UserError: pictures that patches do not divide.
    """
    patch = patches.patch_of(options("dit", given, {"patch": 2}), spec)
    return _members(spec, by, patch).at(target)


@functools.cache
def _members(spec: Images, by: str, patch: int) -> Ladder[Config]:
    return Ladder(_candidates(spec, patch), measure(by, spec, params, flops), _strain)


def _candidates(spec: Images, patch: int) -> Iterator[Config]:
    rest = patch, patch * patch * spec.channels, spec.caption > 0
    for width in widths(6144):
        heads, ideal = heads_of(width), _ideal_depth(width)
        depths = range(max(2, math.floor(ideal * 0.7)), math.ceil(ideal * 1.5) + 1)
        for depth in depths:
            for hidden in hiddens(width, 2.5, 6.0):
                yield Config(depth, width, heads, width // heads, hidden, *rest)


def _ideal_depth(width: int) -> float:
    # DiT-S, B, L and XL have 12, 12, 24 and 28 at widths of 384, 768, 1024 and 1152.
    return max(2.0, 0.65 * math.sqrt(width))


def _strain(config: Config) -> float:
    depth = away(config.depth, _ideal_depth(config.width))
    return depth + away(config.hidden, 4 * config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c = config
    condition = 6 * c.width**2
    around = patches.around_matrices(c.width, c.pixels, c.captions)
    return around + c.depth * (condition + _at_patches(c))


def _at_patches(c: Config) -> int:
    """Weights of a block that meet every patch."""
    return 4 * c.width * c.heads * c.head_dim + 2 * c.width * c.hidden


def flops(config: Config, spec: Images) -> float:
    """Forward matrix-product FLOPs of one example."""
    c, count = config, patches.count(spec, config.patch)
    attention = 2 * count * c.heads * c.head_dim
    block = 6 * c.width**2 + count * (_at_patches(c) + attention)
    around = patches.around_flops(c.width, c.pixels, count, spec)
    return around + 2.0 * c.depth * block


class Model(patches.PatchModel):
    def __init__(self, config: Config, spec: Images, rngs: nnx.Rngs):
        c = config
        shape = c.width, c.heads, c.head_dim
        attention = functools.partial(PixelAttention, *shape)
        blocks = (
            patches.Block(c.width, c.hidden, attention, rngs) for _ in range(c.depth)
        )
        super().__init__(c.width, c.patch, spec, rngs, blocks, placed=True)
