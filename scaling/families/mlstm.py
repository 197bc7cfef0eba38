"""mLSTM: the matrix memory of xLSTM (Beck et al. 2024, arXiv 2405.04517).

Pre-norm residual blocks with the recurrence inside an up-projection by 2, as in the
paper's xLSTM[1:0]: one half of the projection passes a short causal convolution and
SiLU and makes queries and keys, the same half without them makes values, each by
block-diagonal products of 4 x 4; input and forget gates read all three. What the memory
gives is normalised head by head, joined by a learned share of the convolution's output,
gated by SiLU of the other half and projected back. The norms before blocks are RMSNorm,
as in every family here.

Memory of one head (equations 19 to 27), with k scaled by 1 / sqrt(E):
    C_t = f_t C_(t-1) + i_t k_t v_t',    n_t = f_t n_(t-1) + i_t k_t,
    h_t = C_t' q_t / max(|n_t' q_t|, 1),    i_t = exp(.), f_t = sigmoid(.).

It is computed in chunks: within a chunk as masked attention, across chunks by carried
states, so that memory is linear in length. Both are kept times exp(-m_t), which no
result depends on, with m_t at least the largest exponent in them (equation 15): no
exponential overflows.

Shapes: B batch, L length, n chunks of Q positions, D width, H heads, E head dimension,
I = H E hidden units, S side of a block.

No options.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling.families import Tokens
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._layers import Dense, RMSNorm, fan_in, param
from scaling.families._recurrence import (
    ShortConvolution,
    chunking,
    cut,
    join,
    linear_recurrence,
    product,
)

OBJECTIVES = ("next_token",)
float32 = jnp.float32

TAPS = 4
HEADS = 4
# Side of the square blocks of the query, key and value products.
SIDE = 4


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family; `hidden` is a multiple of HEADS x SIDE."""

    depth: int
    width: int
    hidden: int

    @property
    def head_dim(self) -> int:
        return self.hidden // HEADS

    @property
    def chunk(self) -> int:
        """Positions of a chunk at most.

        Within a chunk work grows with it, across chunks with the head dimension; and
        each chunk keeps a state of E x E numbers a head.
        """
        return min(max(64, 64 * (self.head_dim // 64)), 256)


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Four heads, hidden units near twice the width. A block is half a Transformer's, so
    depth grows at twice its pace, with the square root of width (4 layers at 8 thousand
    parameters, 10 at a million, 42 at a billion).
    """
    options("mlstm", given, {})
    return _members(spec, by).at(target)


@functools.cache
def _members(spec: Tokens, by: str) -> Ladder[Config]:
    return Ladder(_candidates(), measure(by, spec, params, flops), _strain)


def _candidates() -> Iterator[Config]:
    for width in widths(6144):
        ideal = _ideal_depth(width)
        depths = range(max(2, math.floor(ideal * 0.7)), math.ceil(ideal * 1.5) + 1)
        for depth in depths:
            for hidden in hiddens(width, 1.5, 2.7):
                if hidden % (HEADS * SIDE) == 0:
                    yield Config(depth, width, hidden)


def _ideal_depth(width: int) -> float:
    # Near the published 24 layers of width 768 and 48 of 2048, and 2 at the low end.
    return max(2.0, math.sqrt(width) - 2.5)


def _strain(config: Config) -> float:
    depth = away(config.depth, _ideal_depth(config.width))
    return depth + away(config.hidden, 2 * config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c = config
    blocks = 3 * SIDE * c.hidden
    vectors = (TAPS + 1) * c.hidden + 2 * HEADS + 2 * c.hidden + c.width
    return c.depth * (_matrices(c) + blocks + vectors) + c.width


def _matrices(c: Config) -> int:
    return c.hidden * (3 * c.width + 3 * 2 * HEADS)


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example.

    The products of a chunk are counted whole, though half of their results is masked.
    The first chunk reads no memory and the last one makes none. The blocks of 4 x 4 are
    no matrix products to a machine, and are left out as the convolution's taps are.
    """
    c, (n, Q) = config, chunking(spec.length, config.chunk)
    within = n * Q * Q * 2 * c.hidden
    across = (n - 1) * Q * 2 * c.hidden * c.head_dim
    products = c.depth * _matrices(c) + c.width * spec.vocab
    return 2.0 * (spec.length * products + c.depth * (within + across))


def matrix_memory(
    q_BxLxHxE: jax.Array,
    k_BxLxHxE: jax.Array,
    v_BxLxHxE: jax.Array,
    input_BxLxH: jax.Array,
    forget_BxLxH: jax.Array,
    chunk: int,
) -> jax.Array:
    """h_t of the module's recurrence, in chunks; float32 [B, L, H, E].

    Args:
      k_BxLxHxE: scaled already.
      input_BxLxH, forget_BxLxH: gates before exponential and sigmoid, float32.
      chunk: positions of a chunk at most.
    """
    kept_BxLxH = jax.nn.log_sigmoid(forget_BxLxH)
    q, k, v, i, kept = (
        cut(x, chunk).swapaxes(2, 3)
        for x in (q_BxLxHxE, k_BxLxHxE, v_BxLxHxE, input_BxLxH, kept_BxLxH)
    )
    # Logarithms of what is left at each position of a chunk's first memory.
    left_BxnxHxQ = jnp.cumsum(kept, axis=-1)
    gates = _Gates(i, left_BxnxHxQ, *_stabilisers(i, left_BxnxHxQ))
    mixed_BxnxHxQxE, total_BxnxHxQ = _within(q, k, v, gates)
    if q.shape[1] > 1:
        read, counted = _across(q, k, v, gates)
        mixed_BxnxHxQxE = mixed_BxnxHxQxE.at[:, 1:].add(read)
        total_BxnxHxQ = total_BxnxHxQ.at[:, 1:].add(counted)
    # The 1 in the maximum. Below exp(-40) it is lost in the rounding of the total, and
    # its square, which the gradient divides by, is no float32.
    one_BxnxHxQ = jnp.exp(-jnp.minimum(gates.m_BxnxHxQ, 40.0))
    scale_BxnxHxQ = jnp.maximum(jnp.abs(total_BxnxHxQ), one_BxnxHxQ)
    # Equation 21, both sides of the fraction times exp(-m_t).
    h_BxnxHxQxE = mixed_BxnxHxQxE / scale_BxnxHxQ[..., None]
    return join(h_BxnxHxQxE.swapaxes(2, 3), q_BxLxHxE.shape[1])


class _Gates(NamedTuple):
    """Logarithms of what scales keys and memories.

    i: input gate. left: what is left of a chunk's first memory. start, m: stabilisers
    of the memory that a chunk starts from and at each position.
    """

    i_BxnxHxQ: jax.Array
    left_BxnxHxQ: jax.Array
    start_BxnxHx1: jax.Array
    m_BxnxHxQ: jax.Array


def _stabilisers(i_BxnxHxQ: jax.Array, left_BxnxHxQ: jax.Array) -> tuple[Any, Any]:
    """m_t = max(left_t + m_start, max over s <= t of left_t - left_s + i_s, 0).

    That at 0 stands for the 1 in h_t. No gradient passes: no result depends on m, so
    that rounding over the whole sequence does no harm either.
    """
    i, left = jax.lax.stop_gradient((i_BxnxHxQ, left_BxnxHxQ))
    highest_BxnxHxQ = jax.lax.cummax(i - left, axis=3)
    ends_BxnxHx1 = jnp.cumsum(left[..., -1:], axis=1)
    # The same maximum from chunk to chunk, with what is left of the first chunk's.
    reach_BxnxHx1 = highest_BxnxHxQ[..., -1:] + left[..., -1:] - ends_BxnxHx1
    end_BxnxHx1 = jnp.maximum(ends_BxnxHx1 + jax.lax.cummax(reach_BxnxHx1, axis=1), 0.0)
    start_BxnxHx1 = jnp.pad(end_BxnxHx1[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    m_BxnxHxQ = left + jnp.maximum(highest_BxnxHxQ, start_BxnxHx1)
    return start_BxnxHx1, jnp.maximum(m_BxnxHxQ, 0.0)


def _within(
    q: jax.Array, k: jax.Array, v: jax.Array, gates: _Gates
) -> tuple[jax.Array, jax.Array]:
    """Numerators [B, n, H, Q, E] and n_t' q_t [B, n, H, Q] of a chunk's own keys."""
    # The share of key s in memory t, exp(left_t - left_s + i_s - m_t) for s <= t: what
    # equations 19 and 20 come to when they are unrolled to the chunk's start.
    i, left, _, m = gates
    exponent_BxnxHxQxQ = (left - m)[..., :, None] + (i - left)[..., None, :]
    causal = np.tri(left.shape[-1], dtype=bool)
    weights_BxnxHxQxQ = jnp.exp(jnp.where(causal, exponent_BxnxHxQxQ, -jnp.inf))
    scores_BxnxHxQxQ = product("bnhqe,bnhke->bnhqk", q, k)
    mixing_BxnxHxQxQ = scores_BxnxHxQxQ * weights_BxnxHxQxQ
    mixed = product("bnhqk,bnhke->bnhqe", mixing_BxnxHxQxQ.astype(v.dtype), v)
    return mixed, mixing_BxnxHxQxQ.sum(-1)


def _across(
    q: jax.Array, k: jax.Array, v: jax.Array, gates: _Gates
) -> tuple[jax.Array, jax.Array]:
    """The same of the chunks before, for all chunks but the first."""
    i, left, start, m = gates
    before, after, last = start[:, :-1], start[:, 1:], left[:, :-1, :, -1:]
    # What a chunk alone adds to C (equation 19) and n (equation 20) at its end, times
    # exp(-m) of the next chunk's start.
    to_end = jnp.exp(last - left[:, :-1] + i[:, :-1] - after)
    ending = k[:, :-1] * to_end[..., None]
    made_BxnxHxExE = product("bnhkd,bnhke->bnhde", ending.astype(v.dtype), v[:, :-1])
    # From chunk to chunk: the product of a chunk's forget gates, and a change of m.
    decay_BxnxHx1 = jnp.exp(last + before - after)
    memory_BxnxHxExE = linear_recurrence(decay_BxnxHx1[..., None], made_BxnxHxExE)
    count_BxnxHxE = linear_recurrence(decay_BxnxHx1, ending.sum(3))
    # C' q_t and n' q_t of the chunk's first memory, with what is left of it at t.
    asking = q[:, 1:] * jnp.exp(left[:, 1:] + after - m[:, 1:])[..., None]
    memory = memory_BxnxHxExE.astype(v.dtype)
    read = product("bnhqd,bnhde->bnhqe", asking.astype(v.dtype), memory)
    return read, (asking * count_BxnxHxE[:, :, :, None]).sum(-1)


class Blocks(nnx.Module):
    """Products with square blocks of S channels: x [..., I] -> j outputs [..., I].

    A block joins channels that lie E / S apart within a head, so that machines work on
    whole rows of them. S multiply-adds a channel are too few for a matrix product.
    """

    def __init__(self, config: Config, outputs: int, rngs: nnx.Rngs):
        shape = (SIDE, outputs, HEADS, SIDE, config.head_dim // SIDE)
        axes = (None, None, "mlp", None, None)
        self.kernel = param(rngs, shape, axes, "matrix", fan_in(SIDE), contracted=())

    def __call__(self, x_BxLxI: jax.Array) -> jax.Array:
        """[B, L, J, H, E] in float32."""
        kernel_SxJxHxSxG = self.kernel[...].astype(float32)
        _, J, H, S, G = kernel_SxJxHxSxG.shape
        x_BxLxHxSxG = x_BxLxI.reshape(*x_BxLxI.shape[:2], H, S, G)
        terms = (
            x_BxLxHxSxG[:, :, None, :, s, None] * kernel_SxJxHxSxG[s] for s in range(S)
        )
        y_BxLxJxHxSxG = functools.reduce(jnp.add, terms)
        return y_BxLxJxHxSxG.reshape(*x_BxLxI.shape[:2], J, H, S * G)


class Mixer(nnx.Module):
    """The layer of a block."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        c = config
        D, I, H = c.width, c.hidden, HEADS
        self.chunk = c.chunk
        self.up = Dense((D,), (2, I), ("embed", None, "mlp"), rngs)
        self.convolution = ShortConvolution(I, "mlp", rngs, TAPS)
        self.query_key = Blocks(c, 2, rngs)
        self.value = Blocks(c, 1, rngs)
        # Gates start near their biases, almost the same at every position.
        axes = (None, "mlp", None, None, None)
        self.gates = Dense((3, H, c.head_dim), (2, H), axes, rngs, scale=0.1)
        self.gate_bias = param(rngs, (2, H), (None, None), "recurrence", _gate_bias)
        ones = nnx.initializers.ones
        self.head_norm = param(rngs, (H, c.head_dim), ("mlp", None), "norm", ones)
        self.skip = param(rngs, (I,), ("mlp",), "norm", ones)
        scale = 1.0 / math.sqrt(2 * c.depth)
        self.down = Dense((I,), (D,), ("mlp", "embed"), rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        dtype = x_BxLxD.dtype
        x_BxLxI, z_BxLxI = jnp.unstack(self.up(x_BxLxD), axis=2)
        convolved_BxLxI = jax.nn.silu(self.convolution(x_BxLxI))
        products = self.query_key(convolved_BxLxI), self.value(x_BxLxI)
        qkv_BxLx3xHxE = jnp.concatenate(products, axis=2)
        gates_BxLx2xH = self.gates(qkv_BxLx3xHxE.astype(dtype)) + self.gate_bias[...]
        q, k, v = jnp.unstack(qkv_BxLx3xHxE, axis=2)
        k = k / math.sqrt(k.shape[-1])
        i, f = jnp.unstack(gates_BxLx2xH, axis=2)
        q, k, v = (x.astype(dtype) for x in (q, k, v))
        h_BxLxHxE = matrix_memory(q, k, v, i, f, self.chunk)
        h_BxLxI = self._normalised(h_BxLxHxE).reshape(x_BxLxI.shape)
        h_BxLxI = h_BxLxI + self.skip[...] * convolved_BxLxI
        return self.down((h_BxLxI * jax.nn.silu(z_BxLxI)).astype(dtype))

    def _normalised(self, h_BxLxHxE: jax.Array) -> jax.Array:
        """Mean 0 and variance 1 within each head, then a gain a channel."""
        centred = h_BxLxHxE - h_BxLxHxE.mean(axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-6) * self.head_norm[...]


def _gate_bias(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Input gates near 0 and forget gates from 3 to 6, before their functions."""
    heads = shape[1]
    inputs = 0.1 * jax.random.normal(key, (heads,), dtype)
    return jnp.stack([inputs, jnp.linspace(3.0, 6.0, heads, dtype=dtype)])


class Block(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.norm = RMSNorm(config.width, rngs)
        self.mixer = Mixer(config, rngs)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        return x_BxLxD + self.mixer(self.norm(x_BxLxD))


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        blocks = (Block(config, rngs) for _ in range(config.depth))
        super().__init__(config.width, spec, rngs, blocks)
