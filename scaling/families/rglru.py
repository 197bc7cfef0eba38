"""RG-LRU: the recurrent blocks of Griffin (De et al. 2024, arXiv 2402.19427).

Pre-norm residual blocks (section 2) of a temporal layer and a gated feed-forward with
GeLU. The recurrent layer has two branches: one passes GeLU, the other a short causal
convolution and the RG-LRU; their product is projected back. Without a window this is
the paper's Hawk; with one, every third block attends to so many positions instead, with
one key-value head (Griffin). That attention is transformer.py's: positions turn whole
heads, queries and keys are normalised.

The RG-LRU (equations 1 to 4), unit by unit, x what the convolution gives:
    r_t = sigmoid(W_r x_t + b_r),    i_t = sigmoid(W_i x_t + b_i),
    a_t = exp(-8 softplus(rate) r_t),    h_t = a_t h_(t-1) + sqrt(1 - a_t^2) i_t x_t,
with block-diagonal W_r and W_i. The first position writes i_t x_t whole, as in the
authors' implementation. All positions are computed by an associative scan, in float32.

Shapes: B batch, L length, D width, R recurrent units, H blocks of E = R / H units,
F hidden units of the feed-forward.

Options:
  window: positions that every third block attends to, itself the last (the paper's is
    1024); 0, the default, for recurrent blocks alone.
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
from scaling.families import Tokens, transformer
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options
from scaling.families._layers import Dense, RMSNorm, fan_in, param
from scaling.families._recurrence import ShortConvolution, linear_recurrence, product

OBJECTIVES = ("next_token",)
float32 = jnp.float32

TAPS = 4
# With a window, blocks of a period, of which the last one attends.
PERIOD = 3


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family; `units` is a multiple of `blocks`.

    heads and head_dim are the attention's, where there is a window.
    """

    depth: int
    width: int
    units: int
    blocks: int
    hidden: int
    heads: int
    head_dim: int
    window: int = 0

    @property
    def attention(self) -> transformer.Config:
        return transformer.Config(
            self.depth, self.width, self.heads, 1, self.head_dim, self.hidden
        )

    def attends(self, block: int) -> bool:
        """Whether the block of this index attends."""
        return self.window > 0 and block % PERIOD == PERIOD - 1


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Depth grows with width as the Transformer's does (2 layers at 8 thousand parameters,
    5 at a million, 20 at a billion), from 3 with a window. Recurrent units are near 4/3
    width and gates have 16 blocks, as in the paper; fewer below width 128. The
    feed-forward is near 3 times width.
    """
    window = options("rglru", given, {"window": 0})["window"]
    if not isinstance(window, int) or window < 0:
        raise UserError("model.options.window", window, "0 or more positions")
    return _members(spec, by, window).at(target)


@functools.cache
def _members(spec: Tokens, by: str, window: int) -> Ladder[Config]:
    return Ladder(_candidates(window), measure(by, spec, params, flops), _strain)


def _candidates(window: int) -> Iterator[Config]:
    shallowest = PERIOD if window else 2
    # More queries to a key-value head than any width has: one for all of them.
    for depth, width, heads, _, head_dim in transformer.shapes(queries_per_kv=64):
        if depth < shallowest:
            continue
        for hidden in hiddens(width, 1.8, 4.8):
            shape = (depth, width, *_units(width), hidden, heads, head_dim)
            yield Config(*shape, window)


def _units(width: int) -> tuple[int, int]:
    """(recurrent units, blocks of their gates)."""
    blocks = min(16, 2 ** int(math.log2(width / 8)))
    tile = next((t for w, t in ((1023, 128), (255, 64)) if width > w), 2 * blocks)
    return tile * round(width * 4 / 3 / tile), blocks


def _strain(config: Config) -> float:
    depth = away(config.depth, transformer.ideal_depth(config.width))
    return depth + away(config.hidden, 3 * config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c, attending = config, _attending(config)
    vectors = (TAPS + 1 + 3) * c.units
    recurrent = _matrices(c) + vectors + 2 * c.width
    attention = transformer.block_params(c.attention)
    return (c.depth - attending) * recurrent + attending * attention + c.width


def _attending(c: Config) -> int:
    return sum(c.attends(block) for block in range(c.depth))


def _matrices(c: Config) -> int:
    gates = 2 * c.units**2 // c.blocks
    return 3 * c.width * (c.units + c.hidden) + gates


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example.

    Attention is counted as in transformer.py, with no more keys than the window holds.
    """
    c, attending = config, _attending(config)
    keys = min(spec.length, c.window)
    recurrent = 2.0 * spec.length * _matrices(c)
    attention = transformer.block_flops(c.attention, spec.length, keys)
    head = 2.0 * spec.length * c.width * spec.vocab
    return (c.depth - attending) * recurrent + attending * attention + head


@jax.custom_jvp
def _root(x: jax.Array) -> jax.Array:
    """sqrt(x) with a slope of 1000 at most, as the authors bound it."""
    return jnp.sqrt(x)


_root.defjvps(lambda d_x, y, x: d_x / jnp.maximum(2.0 * y, 1e-3))


def gated_recurrence(
    x_BxLxR: jax.Array, i_BxLxR: jax.Array, r_BxLxR: jax.Array, rate_R: jax.Array
) -> jax.Array:
    """h_t of the module's recurrence, float32 [B, L, R].

    Args:
      i_BxLxR, r_BxLxR: gates between 0 and 1, float32.
      rate_R: before softplus, float32.
    """
    # Equation 3 in logarithms, then equation 4; expm1 keeps 1 - a^2 exact near a = 1.
    log_a_BxLxR = -8.0 * jax.nn.softplus(rate_R) * r_BxLxR
    share_BxLxR = _root(-jnp.expm1(2.0 * log_a_BxLxR)).at[:, 0].set(1.0)
    written_BxLxR = share_BxLxR * i_BxLxR * x_BxLxR
    return linear_recurrence(jnp.exp(log_a_BxLxR), written_BxLxR)


class Recurrent(nnx.Module):
    """The layer that mixes positions: a branch through GeLU times one through time."""

    def __init__(self, config: Config, scale: float, rngs: nnx.Rngs):
        c = config
        D, R, H = c.width, c.units, c.blocks
        self.gate_x = Dense((D,), (2, R), ("embed", None, "mlp"), rngs)
        self.convolution = ShortConvolution(R, "mlp", rngs, TAPS)
        # Input gate and recurrence gate of each block.
        shape, axes = (H, R // H, 2, R // H), ("mlp", None, None, None)
        self.gates = param(rngs, shape, axes, "matrix", fan_in(R // H), (1,))
        zeros = nnx.initializers.zeros
        by_unit = (None, "mlp")
        self.gate_bias = param(rngs, (2, R), by_unit, "recurrence", zeros)
        self.rate = param(rngs, (R,), ("mlp",), "recurrence", _rate)
        self.out = Dense((R,), (D,), ("mlp", "embed"), rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        (B, L, _), dtype = x_BxLxD.shape, x_BxLxD.dtype
        y_BxLxR, x_BxLxR = jnp.unstack(self.gate_x(x_BxLxD), axis=2)
        x_BxLxR = self.convolution(x_BxLxR)
        kernel_HxEx2xE = self.gates[...]
        x_BxLxHxE = x_BxLxR.reshape(B, L, *kernel_HxEx2xE.shape[:2])
        # Equations 1 and 2, both gates of a block in one product.
        gates_BxLx2xHxE = product("blhe,hejf->bljhf", x_BxLxHxE, kernel_HxEx2xE)
        gates_BxLx2xR = gates_BxLx2xHxE.reshape(B, L, 2, -1) + self.gate_bias[...]
        i_BxLxR, r_BxLxR = jnp.unstack(jax.nn.sigmoid(gates_BxLx2xR), axis=2)
        h_BxLxR = gated_recurrence(
            x_BxLxR.astype(float32), i_BxLxR, r_BxLxR, self.rate[...]
        )
        y_BxLxR = jax.nn.gelu(y_BxLxR.astype(float32))
        return self.out((h_BxLxR * y_BxLxR).astype(dtype))


def _rate(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """a_t at open gates, exp(-8 softplus(rate)), uniform from 0.9 to 0.999."""
    # The inverse of a = exp(-8 softplus(rate)).
    a = jax.random.uniform(key, shape, dtype, 0.9, 0.999)
    return jnp.log(jnp.expm1(-jnp.log(a) / 8.0))


class GeGLU(nnx.Module):
    """(gelu(x W) * x V) U, with W and V in one product."""

    def __init__(self, config: Config, scale: float, rngs: nnx.Rngs):
        D, F = config.width, config.hidden
        self.gate_up = Dense((D,), (2, F), ("embed", None, "mlp"), rngs)
        self.down = Dense((F,), (D,), ("mlp", "embed"), rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        h_BxLx2xF = self.gate_up(x_BxLxD)
        return self.down(jax.nn.gelu(h_BxLx2xF[:, :, 0]) * h_BxLx2xF[:, :, 1])


class Block(nnx.Module):
    def __init__(self, config: Config, attends: bool, rngs: nnx.Rngs):
        scale = 1.0 / math.sqrt(2 * config.depth)
        self.temporal_norm = RMSNorm(config.width, rngs)
        self.temporal = (
            transformer.Attention(config.attention, scale, rngs, config.window)
            if attends
            else Recurrent(config, scale, rngs)
        )
        self.mlp_norm = RMSNorm(config.width, rngs)
        self.mlp = GeGLU(config, scale, rngs)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        x_BxLxD = x_BxLxD + self.temporal(self.temporal_norm(x_BxLxD))
        return x_BxLxD + self.mlp(self.mlp_norm(x_BxLxD))


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        c = config
        blocks = (Block(c, c.attends(n), rngs) for n in range(c.depth))
        super().__init__(c.width, spec, rngs, blocks)
