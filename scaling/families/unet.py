"""Convolutional U-Net that denoises pictures (Ronneberger et al. 2015; Ho et al. 2020).

Residual blocks of two 3 x 3 convolutions with group norm and SiLU, conditioned on the
noise level, label and caption by the scale and shift of the second norm (Dhariwal and
Nichol 2021, arXiv 2105.05233, section 3). From one resolution to the next pictures are
averaged over squares of 2 x 2 pixels; on the way back each pixel is repeated, and what
that resolution had on the way down is set beside it (Ronneberger et al. 2015, arXiv
1505.04597, figure 1). The finest resolution has `width` channels, the others twice as
many. Second convolutions start at zero. No dropout, no transposed convolution.

Shapes: B pictures, H height, W width, C channels of a resolution, F hidden channels of
a block, E width of the condition.

Options:
  levels: resolutions, 2 to 4; 0, the default, for as many as leave four pixels a side.
  attention: whether blocks at the lowest resolution are followed by self-attention over
    its pixels (default False).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.errors import UserError
from scaling.families import Conditions, Images, Output
from scaling.families._convolution import convolve
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._layers import BASE, Dense, Stack
from scaling.families._pictures import (
    Condition,
    Convolution,
    GroupNorm,
    PixelAttention,
    condition_flops,
    condition_matrices,
    heads_of,
)

OBJECTIVES = ("denoise",)
OPTIONS = {"levels": 0, "attention": False}


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family.

    Attributes:
      depth: residual blocks of each resolution, down and again up.
      width: channels of the finest resolution.
      hidden: channels between the two convolutions of its blocks.
      levels: resolutions.
      attention: whether there is attention at the lowest.
      channels: of a picture.
      captions: whether it is conditioned on captions.
    """

    depth: int
    width: int
    hidden: int
    levels: int
    attention: bool
    channels: int
    captions: bool

    @property
    def condition(self) -> int:
        """Width of the condition."""
        return 4 * self.width


class Shape(NamedTuple):
    """A residual block: its resolution, 0 the finest, and its channels."""

    level: int
    inputs: int
    hidden: int
    outputs: int


def ladder(target: float, spec: Images, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Depth grows with the square root of width, from one block a resolution to five at a
    billion parameters; hidden channels are near as many as those of the resolution.

    Raises:
      UserError: pictures that cannot be halved so often.
    """
    chosen = options("unet", given, OPTIONS)
    return _members(spec, by, _levels(chosen, spec), _attention(chosen)).at(target)


def _levels(chosen: Mapping[str, Any], spec: Images) -> int:
    levels = chosen["levels"]
    if isinstance(levels, bool) or levels not in (0, 2, 3, 4):
        expected = "2, 3 or 4 resolutions, or 0 for as many as leave four pixels a side"
        raise UserError("model.options.levels", levels, expected)
    divides = lambda n: all(size % 2 ** (n - 1) == 0 for size in spec.shape[:2])
    if levels == 0:
        fits = lambda n: divides(n) and min(spec.shape[:2]) >= 4 * 2 ** (n - 1)
        levels = next((n for n in (4, 3) if fits(n)), 2)
    if not divides(levels):
        raise UserError(
            "model.options.levels",
            levels,
            f"pictures of {spec.height} x {spec.width} pixels cannot be halved "
            f"{levels - 1} times; give fewer levels, or a corpus whose height and "
            f"width are multiples of {2 ** (levels - 1)}",
        )
    return levels


def _attention(chosen: Mapping[str, Any]) -> bool:
    attention = chosen["attention"]
    if not isinstance(attention, bool):
        raise UserError("model.options.attention", attention, "True or False")
    return attention


@functools.cache
def _members(spec: Images, by: str, levels: int, attention: bool) -> Ladder[Config]:
    return Ladder(
        _candidates(spec, levels, attention), measure(by, spec, params, flops), _strain
    )


def _candidates(spec: Images, levels: int, attention: bool) -> Iterator[Config]:
    rest = levels, attention, spec.channels, spec.caption > 0
    for width in (4, 6, *widths(1536)):
        ideal = _ideal_depth(width)
        depths = range(max(1, math.floor(ideal * 0.7)), math.ceil(ideal * 1.5) + 1)
        for depth in depths:
            for hidden in _hiddens(width):
                yield Config(depth, width, hidden, *rest)


def _hiddens(width: int) -> Iterable[int]:
    # All even ones where narrow: members are far apart there.
    return range(4, 2 * width + 1, 2) if width < 32 else hiddens(width, 0.66, 2.0)


def _ideal_depth(width: int) -> float:
    return max(1.0, 0.22 * math.sqrt(width))


def _strain(config: Config) -> float:
    depth = away(config.depth, _ideal_depth(config.width))
    return depth + away(config.hidden, config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c = config
    around = 9 * c.channels * 2 * c.width + 2 * c.width
    blocks = sum(
        _at_pixels(first) + (c.depth - 1) * _at_pixels(rest) + _beside(c, first, rest)
        for first, rest in resolutions(c)
    )
    attention = (4 * (2 * c.width) ** 2 + 4 * c.width) * _attentions(c)
    return around + blocks + attention + condition_matrices(c.condition, c.captions)


def resolutions(c: Config) -> list[tuple[Shape, Shape]]:
    """The first block and the others of each resolution, as a picture meets them.

    Down to the lowest and up again.
    """
    wide = lambda channels, level: channels * (1 if level == 0 else 2)
    found, before = [], c.width
    down = list(range(c.levels))
    for n, level in enumerate(down + down[-2::-1]):
        size, hidden = wide(c.width, level), wide(c.hidden, level)
        # On the way up, what the resolution had on the way down comes beside.
        inputs = before + size if n >= c.levels else before
        found.append(
            (Shape(level, inputs, hidden, size), Shape(level, size, hidden, size))
        )
        before = size
    return found


def _at_pixels(shape: Shape) -> int:
    """Weights of a block that meet every pixel."""
    skip = shape.inputs * shape.outputs if shape.inputs != shape.outputs else 0
    return 9 * shape.hidden * (shape.inputs + shape.outputs) + skip


def _beside(c: Config, first: Shape, rest: Shape) -> int:
    """Parameters of a resolution's norms and of their condition."""
    inputs = first.inputs + (c.depth - 1) * rest.inputs
    return 2 * inputs + 2 * c.depth * first.hidden * (1 + c.condition)


def _attentions(c: Config) -> int:
    return c.depth if c.attention else 0


def flops(config: Config, spec: Images) -> float:
    """Forward matrix-product FLOPs of one example."""
    c, pixels = config, spec.height * spec.width
    total = 9.0 * c.channels * 2 * c.width * pixels
    for first, rest in resolutions(c):
        weights = _at_pixels(first) + (c.depth - 1) * _at_pixels(rest)
        total += weights * pixels / 4**first.level
        total += 2 * c.depth * c.condition * first.hidden
    low, width = pixels / 4 ** (c.levels - 1), 2 * c.width
    total += _attentions(c) * low * (4 * width**2 + 2 * low * width)
    return 2.0 * total + condition_flops(c.condition, spec)


class Block(nnx.Module):
    """Residual block; x = picture, condition."""

    def __init__(self, config: Config, shape: Shape, rngs: nnx.Rngs):
        inputs, hidden, outputs = shape.inputs, shape.hidden, shape.outputs
        self.norm = GroupNorm(inputs, "embed", rngs)
        self.into = Convolution(inputs, hidden, ("embed", "mlp"), rngs)
        axes = ("embed", None, "mlp")
        self.condition = Dense((config.condition,), (2, hidden), axes, rngs)
        self.condition_norm = GroupNorm(hidden, "mlp", rngs)
        self.out = Convolution(hidden, outputs, ("mlp", "embed"), rngs, scale=0.0)
        self.skip = Across(inputs, outputs, rngs) if inputs != outputs else None

    def __call__(self, x: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x_CxHxWxB, cond_BxE = x
        h_FxHxWxB = self.into(jax.nn.silu(self.norm(x_CxHxWxB)))
        scale_and_shift = jnp.moveaxis(self.condition(cond_BxE), 0, -1)
        h_FxHxWxB = jax.nn.silu(self.condition_norm(h_FxHxWxB, scale_and_shift))
        kept = x_CxHxWxB if self.skip is None else self.skip(x_CxHxWxB)
        return kept + self.out(h_FxHxWxB), cond_BxE


class Across(Dense):
    """A product over channels, pixel by pixel: [I, H, W, B] to [O, H, W, B]."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        super().__init__((inputs,), (outputs,), ("embed", "embed"), rngs)

    def __call__(self, x_IxHxWxB: jax.Array) -> jax.Array:
        return convolve(x_IxHxWxB, self.kernel[...][None, None])


class Attention(nnx.Module):
    """Residual self-attention over the pixels of the lowest resolution."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.norm = GroupNorm(width, "embed", rngs)
        heads = heads_of(width)
        self.attention = PixelAttention(width, heads, width // heads, rngs, scale=0.0)

    def __call__(self, x: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x_CxHxWxB, cond_BxE = x
        C, H, W, B = x_CxHxWxB.shape
        read_CxPxB = self.norm(x_CxHxWxB).reshape(C, H * W, B)
        mixed_BxPxC = self.attention(jnp.transpose(read_CxPxB))
        mixed = jnp.transpose(mixed_BxPxC).reshape(C, H, W, B)
        return x_CxHxWxB + mixed, cond_BxE


class Resolution(nnx.Module):
    """The blocks of one resolution, on the way down or up.

    The first may take other channels than it gives, so those that are alike stand in a
    stack of their own.
    """

    def __init__(self, config: Config, first: Shape, rest: Shape, rngs: nnx.Rngs):
        attend = config.attention and first.level == config.levels - 1

        def modules(shape: Shape, count: int) -> Iterator[nnx.Module]:
            for _ in range(count):
                yield Block(config, shape, rngs)
                if attend:
                    yield Attention(shape.outputs, rngs)

        self.first = Stack(modules(first, 1))
        self.rest = Stack(modules(rest, config.depth - 1))

    def __call__(self, x_CxHxWxB: jax.Array, cond_BxE: jax.Array) -> jax.Array:
        x = self.first((x_CxHxWxB, cond_BxE))
        return (self.rest(x) if len(self.rest) else x)[0]


class Head(nnx.Module):
    """Norm and a convolution to the channels of a picture, in float32.

    Starts small, and falls with the width and not its root, as a text family's does.
    """

    def __init__(self, width: int, channels: int, rngs: nnx.Rngs):
        self.norm = GroupNorm(width, "embed", rngs)
        scale = 0.1 * math.sqrt(BASE / width)
        self.out = Convolution(width, channels, ("embed", None), rngs, scale=scale)

    def __call__(self, x_CxHxWxB: jax.Array) -> jax.Array:
        return self.out(jax.nn.silu(self.norm(x_CxHxWxB))).astype(jnp.float32)


class Model(nnx.Module):
    def __init__(self, config: Config, spec: Images, rngs: nnx.Rngs):
        c, low = config, config.levels - 1
        self.condition = Condition(c.condition, spec, rngs)
        self.into = Convolution(spec.channels, c.width, (None, "embed"), rngs)
        stages = [Resolution(c, *shapes, rngs) for shapes in resolutions(c)]
        self.down = nnx.List(stages[:low])
        self.low = stages[low]
        self.up = nnx.List(stages[low + 1 :])
        self.head = Head(c.width, spec.channels, rngs)

    def __call__(self, x: jax.Array, cond: Conditions) -> Output:
        cond_BxE = self.condition(cond)
        x_CxHxWxB = jnp.transpose(x.astype(cond_BxE.dtype), (3, 1, 2, 0))
        h_CxHxWxB = self.into(x_CxHxWxB)
        beside = []
        for stage in self.down:
            h_CxHxWxB = stage(h_CxHxWxB, cond_BxE)
            beside.append(h_CxHxWxB)
            h_CxHxWxB = halved(h_CxHxWxB)
        h_CxHxWxB = self.low(h_CxHxWxB, cond_BxE)
        for stage in self.up:
            both = [doubled(h_CxHxWxB), beside.pop()]
            h_CxHxWxB = stage(jnp.concatenate(both), cond_BxE)
        y_BxHxWxC = jnp.transpose(self.head(h_CxHxWxB), (3, 1, 2, 0))
        return Output(y_BxHxWxC, {})


def halved(x_CxHxWxB: jax.Array) -> jax.Array:
    """Means over squares of 2 x 2 pixels."""
    C, H, W, B = x_CxHxWxB.shape
    return x_CxHxWxB.reshape(C, H // 2, 2, W // 2, 2, B).mean(axis=(2, 4))


def doubled(x_CxHxWxB: jax.Array) -> jax.Array:
    """Each pixel as a square of 2 x 2."""
    C, H, W, B = x_CxHxWxB.shape
    wide = jnp.broadcast_to(x_CxHxWxB[:, :, None, :, None], (C, H, 2, W, 2, B))
    return wide.reshape(C, 2 * H, 2 * W, B)
