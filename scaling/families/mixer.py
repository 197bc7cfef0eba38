"""MLP-Mixer that denoises pictures (Tolstikhin et al. 2021, arXiv 2105.01601).

Patches of 2 x 2 pixels; blocks of two feed-forward layers with GELU, the first over
the patches of each channel, the second over the channels of each patch (equation 1).
Both are conditioned on the noise level, label and caption by adaLN-zero, as in DiT. No
biases, no dropout.

Layers over patches have one weight a patch, so they serve pictures of one size; these
weights count as parameters.

Shapes: B pictures, P patches, D width, U units of the layer over patches.

Options:
  patch: pixels of a patch's side (default 2).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.families import Images
from scaling.families import _patches as patches
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._layers import Dense, fan_in, param, product

OBJECTIVES = ("denoise",)


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family, for `count` patches of `pixels` values."""

    depth: int
    width: int
    units: int
    hidden: int
    patch: int
    pixels: int
    count: int
    captions: bool


def ladder(target: float, spec: Images, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Units over patches are half the width and hidden units four times the width (table
    1); depth grows with the square root of width.

    Raises:
      UserError: pictures that patches do not divide.
    """
    patch = patches.patch_of(options("mixer", given, {"patch": 2}), spec)
    return _members(spec, by, patch).at(target)


@functools.cache
def _members(spec: Images, by: str, patch: int) -> Ladder[Config]:
    return Ladder(_candidates(spec, patch), measure(by, spec, params, flops), _strain)


def _candidates(spec: Images, patch: int) -> Iterator[Config]:
    pixels, count = patch * patch * spec.channels, patches.count(spec, patch)
    rest = patch, pixels, count, spec.caption > 0
    for width in widths(6144):
        ideal = _ideal_depth(width)
        depths = range(max(2, math.floor(ideal * 0.7)), math.ceil(ideal * 1.5) + 1)
        for depth in depths:
            for hidden in hiddens(width, 2.5, 6.0):
                yield Config(depth, width, width // 2, hidden, *rest)


def _ideal_depth(width: int) -> float:
    # Mixer-S, B, L and H have 8, 12, 24 and 32 at widths of 512, 768, 1024 and 1280.
    return max(2.0, 0.55 * math.sqrt(width))


def _strain(config: Config) -> float:
    depth = away(config.depth, _ideal_depth(config.width))
    return depth + away(config.hidden, 4 * config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c = config
    condition, over_patches = 6 * c.width**2, 2 * c.count * c.units
    around = patches.around_matrices(c.width, c.pixels, c.captions)
    return around + c.depth * (condition + over_patches + 2 * c.width * c.hidden)


def flops(config: Config, spec: Images) -> float:
    """Forward matrix-product FLOPs of one example."""
    c = config
    mixing = 2 * c.count * c.units * c.width + 2 * c.count * c.width * c.hidden
    around = patches.around_flops(c.width, c.pixels, c.count, spec)
    return around + 2.0 * c.depth * (6 * c.width**2 + mixing)


class OverPatches(nnx.Module):
    """A feed-forward layer over the patches, the same for every channel."""

    def __init__(self, count: int, units: int, rngs: nnx.Rngs):
        # The number of patches does not grow with the width.
        up = (count, units), (None, "mlp"), "matrix", fan_in(count)
        self.up = param(rngs, *up, contracted=())
        self.down = Dense((units,), (count,), ("mlp", None), rngs)

    def __call__(self, x_BxPxD: jax.Array) -> jax.Array:
        h_BxDxU = product(jnp.swapaxes(x_BxPxD, 1, 2), self.up[...])
        y_BxDxP = self.down(jax.nn.gelu(h_BxDxU, approximate=True))
        return jnp.swapaxes(y_BxDxP, 1, 2)


class Model(patches.PatchModel):
    def __init__(self, config: Config, spec: Images, rngs: nnx.Rngs):
        c = config
        over_patches = functools.partial(OverPatches, c.count, c.units)
        blocks = (
            patches.Block(c.width, c.hidden, over_patches, rngs) for _ in range(c.depth)
        )
        super().__init__(c.width, c.patch, spec, rngs, blocks, placed=False)
