"""Decoder Transformer as google-deepmind/nanodo has it, written as a family.

Pre-norm residual blocks with LayerNorm without bias, learned positions, multi-head
attention, a feed-forward layer of 4 x width with GELU by tanh, output head tied to the
token table. Made of the house's layers, so that what is timed is what families get.

Shapes: B batch, L length, D width, N heads, H head dimension, F = 4 D hidden units.

Options:
  without: "" or words out of "attention", "gelu" and "norm", with "+" between them:
    what is left out, to see what it costs. Products with weights stay.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.families import Output, Tokens
from scaling.families._attention import causal_attention
from scaling.families._ladder import options
from scaling.families._layers import Dense, Stack, fan_in, param, product

OBJECTIVES = ("next_token",)


@dataclasses.dataclass(frozen=True)
class Config:
    depth: int
    width: int
    heads: int
    without: tuple[str, ...] = ()


# By parameters with the token table of 256 rows and without positions and norms.
MEMBERS = {
    33_000: Config(2, 32, 4),
    115_000: Config(2, 64, 4),
    819_000: Config(4, 128, 4),
    3_200_000: Config(4, 256, 4),
}


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    without = str(options("plain_transformer", given, {"without": ""})["without"])
    words = tuple(word for word in without.split("+") if word)
    return dataclasses.replace(MEMBERS[int(target)], without=words)


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example, the attention square whole."""
    c, length = config, spec.length
    products = 12 * c.depth * c.width**2 + c.width * spec.vocab
    return 2.0 * length * (products + c.depth * 2 * length * c.width)


class LayerNorm(nnx.Module):
    """Layer norm (Ba et al. 2016, eq. 4) with a gain and no bias."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.left_out = "norm" in config.without
        ones = nnx.initializers.ones
        self.scale = param(rngs, (config.width,), (None,), "norm", ones)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.left_out:
            return x
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-6) * self.scale[...]


class Block(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs):
        D, N = config.width, config.heads
        self.without = config.without
        self.attention_norm = LayerNorm(config, rngs)
        self.mlp_norm = LayerNorm(config, rngs)
        axes = ("embed", None, "kv_heads", None)
        self.qkv = Dense((D,), (3, N, D // N), axes, rngs)
        self.out = Dense((N, D // N), (D,), ("kv_heads", None, "embed"), rngs)
        self.up = Dense((D,), (4 * D,), ("embed", "mlp"), rngs)
        self.down = Dense((4 * D,), (D,), ("mlp", "embed"), rngs)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        qkv_BxLx3xNxH = self.qkv(self.attention_norm(x_BxLxD))
        q, k, v = (qkv_BxLx3xNxH[:, :, i] for i in range(3))
        mix = (lambda q, k, v: q + k + v) if self._lacks("attention") else None
        x_BxLxD = x_BxLxD + self.out((mix or causal_attention)(q, k, v))
        h_BxLxF = self.up(self.mlp_norm(x_BxLxD))
        return x_BxLxD + self.down(
            h_BxLxF if self._lacks("gelu") else jax.nn.gelu(h_BxLxF, approximate=True)
        )

    def _lacks(self, part: str) -> bool:
        return part in self.without


class Model(nnx.Module):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        D = config.width
        table = (spec.vocab, D), ("vocab", "embed"), "embedding", fan_in(D)
        places = (spec.length, D), (None, "embed"), "embedding", fan_in(D)
        self.table = param(rngs, *table)
        self.positions = param(rngs, *places)
        self.blocks = Stack([Block(config, rngs) for _ in range(config.depth)])
        self.norm = LayerNorm(config, rngs)

    def __call__(self, x: jax.Array, cond: Any = None) -> Output:
        rows_BxLxD = self.table[...].at[x].get(mode="promise_in_bounds")
        h_BxLxD = self.blocks(rows_BxLxD + self.positions[: x.shape[1]])
        return Output(product(self.norm(h_BxLxD), self.table[...].T), {})
