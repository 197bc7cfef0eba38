"""Gated causal convolutions (Dauphin et al. 2017), dilated as in WaveNet.

Pre-norm residual blocks: a causal convolution of k taps makes values and gates, a
gated linear unit (Dauphin et al. 2017, eq. 1) joins them, a product returns to the
residual stream.

Receptive field: block n has dilation k^(n mod cycle), so the first `cycle` blocks see
exactly k^cycle tokens, each one once, and every later cycle adds k^cycle - 1. The cycle
is the least that covers the corpus's length, or the depth where that is less. (WaveNet,
van den Oord et al. 2016, section 2.1, is the case k = 2.)

Shapes: B batch, L length, D width, T taps, F hidden units.

Options:
  taps: k, at least 2 (default 4).
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

from scaling.errors import UserError
from scaling.families import Tokens
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._layers import Dense, RMSNorm

OBJECTIVES = ("next_token",)


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family; `cycle` blocks cover the receptive field once."""

    depth: int
    width: int
    hidden: int
    taps: int
    cycle: int

    def dilations(self) -> list[int]:
        return [self.taps ** (n % self.cycle) for n in range(self.depth)]

    def receptive_field(self) -> int:
        """Tokens that one output depends on."""
        return 1 + (self.taps - 1) * sum(self.dilations())


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Hidden units are near the width. Depth grows with the square root of width, from
    what covers the length (3 blocks for 64 tokens) up to 4096 tokens' worth.
    """
    taps = options("convolution", given, {"taps": 4})["taps"]
    if not isinstance(taps, int) or taps < 2:
        raise UserError("model.options.taps", taps, "give 2 or more")
    return _members(spec, by, taps).at(target)


@functools.cache
def _members(spec: Tokens, by: str, taps: int) -> Ladder[Config]:
    cover = next(n for n in range(1, 64) if taps**n >= spec.length)
    # Narrower models cannot pay for depth: beyond 6 blocks, depth follows width alone.
    least = min(cover, 6)
    return Ladder(
        _candidates(taps, cover, least),
        measure(by, spec, params, flops),
        lambda config: _strain(config, least),
    )


def _candidates(taps: int, cover: int, least: int) -> Iterator[Config]:
    for width in widths():
        ideal = _ideal_depth(width, least)
        depths = range(math.floor(ideal * 0.7), math.ceil(ideal * 1.5) + 1)
        for depth in depths:
            cycle = min(cover, depth)
            for hidden in hiddens(width, 0.66, 2.0):
                yield Config(depth, width, hidden, taps, cycle)


def _ideal_depth(width: int, least: int) -> float:
    return max(least, 0.4 * math.sqrt(width))


def _strain(config: Config, least: int) -> float:
    depth = away(config.depth, _ideal_depth(config.width, least))
    # Blocks short of the length cost context, worse than a shape off by as much.
    short = 0.5 * max(0, least - config.depth)
    return depth + short + away(config.hidden, config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c = config
    return c.depth * (_matrices(c) + c.width) + c.width


def _matrices(c: Config) -> int:
    return (2 * c.taps + 1) * c.width * c.hidden


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example."""
    c = config
    return 2.0 * spec.length * (c.depth * _matrices(c) + c.width * spec.vocab)


class GatedConvolution(nnx.Module):
    """Causal dilated convolution with a gated linear unit.

    The taps are laid side by side and meet one matrix: a product that every machine
    runs well, where dilated convolutions of many runs at once are slow on most.
    """

    def __init__(self, config: Config, dilation: int, rngs: nnx.Rngs):
        c = config
        self.taps, self.dilation = c.taps, dilation
        axes = ("embed", None, "mlp")
        self.gate_up = Dense((c.taps * c.width,), (2, c.hidden), axes, rngs)
        scale = 1.0 / math.sqrt(2 * c.depth)
        self.down = Dense((c.hidden,), (c.width,), ("mlp", "embed"), rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        length, reach = x_BxLxD.shape[1], self.dilation * (self.taps - 1)
        padded = jnp.pad(x_BxLxD, ((0, 0), (reach, 0), (0, 0)))
        starts = [self.dilation * tap for tap in range(self.taps)]
        x_BxLxTD = jnp.concatenate([padded[:, s : s + length] for s in starts], -1)
        h_BxLx2xF = self.gate_up(x_BxLxTD)
        return self.down(jax.nn.sigmoid(h_BxLx2xF[:, :, 0]) * h_BxLx2xF[:, :, 1])


class Block(nnx.Module):
    def __init__(self, config: Config, dilation: int, rngs: nnx.Rngs):
        self.norm = RMSNorm(config.width, rngs)
        self.convolution = GatedConvolution(config, dilation, rngs)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        return x_BxLxD + self.convolution(self.norm(x_BxLxD))


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        c = config
        blocks = (Block(c, dilation, rngs) for dilation in c.dilations())
        super().__init__(c.width, spec, rngs, blocks)
