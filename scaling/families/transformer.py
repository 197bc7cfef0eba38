"""Decoder Transformer (Vaswani et al. 2017) as language models are built today.

Pre-norm residual blocks with RMSNorm (Zhang and Sennrich 2019), rotary positions (Su
et al. 2021, eq. 34), grouped-query attention (Ainslie et al. 2023) with normalised
queries and keys (Henry et al. 2020; Dehghani et al. 2023), SwiGLU (Shazeer 2020, eq.
6). No biases, no dropout, untied head.

Shapes: B batch, L length, D width, K key-value heads, G queries per key-value head,
H head dimension, F hidden units.

Options:
  queries_per_kv: query heads that share a key-value head, at most (default 4); the
    largest divisor of the number of heads that is not above it is taken.
  qk_norm: whether queries and keys are normalised (default True); without, these are
    Llama's blocks (Touvron et al. 2023, arXiv 2302.13971).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling.errors import UserError
from scaling.families import Tokens
from scaling.families._attention import causal_attention
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._layers import Dense, RMSNorm

OBJECTIVES = ("next_token",)
OPTIONS = {"queries_per_kv": 4, "qk_norm": True}


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family; `heads` is a multiple of `kv_heads`."""

    depth: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    qk_norm: bool = dataclasses.field(default=True, kw_only=True)


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Depth grows with the square root of width (about 2 layers at 8 thousand
    parameters, 5 at a million, 20 at a billion); the hidden layer is near 8/3 width.
    """
    chosen = options("transformer", given, OPTIONS)
    check(chosen)
    return _members(spec, by, **chosen).at(target)


def check(chosen: Mapping[str, Any]) -> None:
    """Raises UserError where a value of one of OPTIONS is wrong."""
    queries_per_kv, qk_norm = chosen["queries_per_kv"], chosen["qk_norm"]
    if not isinstance(queries_per_kv, int) or queries_per_kv < 1:
        raise UserError("model.options.queries_per_kv", queries_per_kv, "1 or more")
    if not isinstance(qk_norm, bool):
        raise UserError("model.options.qk_norm", qk_norm, "True or False")


@functools.cache
def _members(
    spec: Tokens, by: str, queries_per_kv: int, qk_norm: bool
) -> Ladder[Config]:
    size = measure(by, spec, params, flops)
    candidates = (
        Config(*shape, hidden, qk_norm=qk_norm)
        for shape in shapes(queries_per_kv)
        for hidden in hiddens(shape[1], 1.5, 4.5)
    )
    return Ladder(candidates, size, lambda config: strain(config, config.hidden))


def shapes(queries_per_kv: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(depth, width, heads, key-value heads, head dimension) of all members."""
    for width, heads, kv_heads, head_dim in heads_by_width(queries_per_kv):
        ideal = ideal_depth(width)
        depths = range(max(2, math.floor(ideal * 0.7)), math.ceil(ideal * 1.5) + 1)
        for depth in depths:
            yield depth, width, heads, kv_heads, head_dim


def heads_by_width(queries_per_kv: int) -> Iterator[tuple[int, int, int, int]]:
    """(width, heads, key-value heads, head dimension) of all widths."""
    for width in widths(6144):
        head_dim = _head_dim(width)
        if width % head_dim and width >= 64:
            continue
        heads = max(1, round(width / head_dim))
        group = max(g for g in range(1, queries_per_kv + 1) if heads % g == 0)
        yield width, heads, heads // group, head_dim


def _head_dim(width: int) -> int:
    return next((d for w, d in ((64, 8), (256, 16), (1024, 64)) if width < w), 128)


def ideal_depth(width: int) -> float:
    # One layer cannot copy: an induction head takes two (Olsson et al. 2022).
    return max(2.0, 0.47 * math.sqrt(width))


def strain(config: Config, hidden: int) -> float:
    """How far from the ideal proportions, with the hidden units of one token."""
    depth = away(config.depth, ideal_depth(config.width))
    # An odd number of heads shares no keys; slightly worse than one that does.
    ungrouped = 0.25 if config.heads == config.kv_heads else 0.0
    return depth + away(hidden, config.width * 8 / 3) + ungrouped


def params(config: Config) -> int:
    """Non-embedding parameters."""
    return config.depth * block_params(config) + config.width


def block_params(config: Config) -> int:
    """Parameters of one block."""
    return _matrices(config) + norm_params(config)


def norm_params(c: Config) -> int:
    """Gains of the norms of one block."""
    return 2 * c.width + c.head_dim * c.qk_norm


def _matrices(c: Config) -> int:
    attention = c.width * c.head_dim * (2 * c.heads + 2 * c.kv_heads)
    return attention + 3 * c.width * c.hidden


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example."""
    head = 2.0 * spec.length * config.width * spec.vocab
    return config.depth * block_flops(config, spec.length) + head


def block_flops(config: Config, length: int, keys: int | None = None) -> float:
    """Forward matrix-product FLOPs of one block for one example.

    The attention square is counted whole, though long sequences leave out most of the
    masked half; of a window, `keys` for each query.
    """
    attention = 2 * (keys or length) * config.heads * config.head_dim
    return 2.0 * length * (_matrices(config) + attention)


def rotate(x_BxLxKxNxH: jax.Array) -> jax.Array:
    """Rotary positions: turns the pair (i, i + H/2) by position x 10000^(-2i/H)."""
    length, dim = x_BxLxKxNxH.shape[1], x_BxLxKxNxH.shape[-1]
    frequency = 10_000.0 ** (-np.arange(0, dim, 2) / dim)
    angle = np.arange(length)[:, None] * np.concatenate([frequency] * 2)
    sign = np.repeat([-1.0, 1.0], dim // 2)
    shape = (length, 1, 1, dim)
    cos = np.cos(angle).reshape(shape).astype(np.float32)
    sin = (np.sin(angle) * sign).reshape(shape).astype(np.float32)
    swapped = jnp.roll(x_BxLxKxNxH, dim // 2, axis=-1)
    return (x_BxLxKxNxH * cos + swapped * sin).astype(x_BxLxKxNxH.dtype)


class Attention(nnx.Module):
    """Causal grouped-query attention with rotated, by default normalised keys.

    One product makes, for each key-value head, its G queries, its key and its value.
    One scale serves queries and keys: only their product reaches the scores.
    """

    def __init__(self, config: Config, scale: float, rngs: nnx.Rngs, window: int = 0):
        c = config
        self.window = window
        self.heads, self.kv_heads, self.head_dim = c.heads, c.kv_heads, c.head_dim
        group = c.heads // c.kv_heads
        columns = (c.kv_heads, (group + 2) * c.head_dim)
        self.qkv = Dense((c.width,), columns, ("embed", "kv_heads", None), rngs)
        self.norm = RMSNorm(c.head_dim, rngs) if c.qk_norm else None
        rows, axes = (c.kv_heads, group * c.head_dim), ("kv_heads", None, "embed")
        self.out = Dense(rows, (c.width,), axes, rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        B, L, _ = x_BxLxD.shape
        K, H = self.kv_heads, self.head_dim
        G = self.heads // K
        qkv_BxLxKxNxH = self.qkv(x_BxLxD).reshape(B, L, K, G + 2, H)
        qk_BxLxKxNxH = qkv_BxLxKxNxH[:, :, :, :-1]
        if self.norm is not None:
            qk_BxLxKxNxH = self.norm(qk_BxLxKxNxH)
        qk_BxLxKxNxH = rotate(qk_BxLxKxNxH)
        mixed_BxLxNxH = causal_attention(
            qk_BxLxKxNxH[:, :, :, :-1].reshape(B, L, K * G, H),
            qk_BxLxKxNxH[:, :, :, -1],
            qkv_BxLxKxNxH[:, :, :, -1],
            self.window,
        )
        return self.out(mixed_BxLxNxH.reshape(B, L, K, G * H))


class SwiGLU(nnx.Module):
    """(silu(x W) * x V) U, with W and V in one product."""

    def __init__(self, width: int, hidden: int, scale: float, rngs: nnx.Rngs):
        self.gate_up = Dense((width,), (2, hidden), ("embed", None, "mlp"), rngs)
        self.down = Dense((hidden,), (width,), ("mlp", "embed"), rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        h_BxLx2xF = self.gate_up(x_BxLxD)
        return self.down(jax.nn.silu(h_BxLx2xF[:, :, 0]) * h_BxLx2xF[:, :, 1])


class Block(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs):
        # Each of the 2 x depth branches adds its share to the residual stream.
        scale = 1.0 / math.sqrt(2 * config.depth)
        self.attention_norm = RMSNorm(config.width, rngs)
        self.attention = Attention(config, scale, rngs)
        self.mlp_norm = RMSNorm(config.width, rngs)
        self.mlp = SwiGLU(config.width, config.hidden, scale, rngs)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        x_BxLxD = x_BxLxD + self.attention(self.attention_norm(x_BxLxD))
        return x_BxLxD + self.mlp(self.mlp_norm(x_BxLxD))


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        blocks = (Block(config, rngs) for _ in range(config.depth))
        super().__init__(config.width, spec, rngs, blocks)
