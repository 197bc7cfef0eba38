"""Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): a selective state space by duality.

Pre-norm residual blocks, each one layer as in section 7 (figure 6, "parallel"): one
projection of the residual stream makes z, x, B, C and the step size; x, B and C pass a
short causal convolution and SiLU; a state-space layer with a scalar decay a head mixes
positions; its output is gated by SiLU(z), normalised and projected back. There are no
further feed-forward layers. B and C are shared by all heads (one group).

State space of one head, with state S_t (N x P):
    S_t = exp(dt_t A) S_(t-1) + dt_t B_t x_t',    y_t = S_t' C_t + D x_t,
    dt_t = softplus(step_t + bias), A < 0.

It is computed in the chunked form of section 6: within a chunk as masked attention,
across chunks by carried states, so that memory is linear in length.

Shapes: B batch, L length, n chunks of Q positions, D width, H heads, P head dimension,
I = H P hidden units, N state dimension.

No options.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling.families import Tokens
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._layers import Dense, RMSNorm, param
from scaling.families._recurrence import (
    ShortConvolution,
    chunking,
    cut,
    join,
    linear_recurrence,
    product,
    step_bias,
)

OBJECTIVES = ("next_token",)
float32 = jnp.float32

TAPS = 4
# Positions of a chunk at most: within it work grows with the square, across chunks a
# state of N numbers a channel is kept for each.
CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family; `hidden` is a multiple of `head_dim`."""

    depth: int
    width: int
    hidden: int
    head_dim: int
    state: int

    @property
    def heads(self) -> int:
        return self.hidden // self.head_dim


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Hidden units are near twice the width. A block is half a Transformer's, so depth
    grows at twice its pace, with the square root of width (2 layers at 8 thousand
    parameters, 9 at a million, 42 at a billion). Heads of 64 and states of 128 from
    width 512 on, as in the paper; smaller ones below.
    """
    options("mamba2", given, {})
    return _members(spec, by).at(target)


@functools.cache
def _members(spec: Tokens, by: str) -> Ladder[Config]:
    return Ladder(_candidates(), measure(by, spec, params, flops), _strain)


def _candidates() -> Iterator[Config]:
    for width in widths(6144):
        head_dim, state = _head(width)
        ideal = _ideal_depth(width)
        depths = range(max(2, math.floor(ideal * 0.7)), math.ceil(ideal * 1.5) + 1)
        for depth in depths:
            for hidden in hiddens(width, 1.5, 2.7):
                if hidden % head_dim == 0:
                    yield Config(depth, width, hidden, head_dim, state)


def _head(width: int) -> tuple[int, int]:
    """Dimensions of a head and of its state."""
    if width < 64:
        return 8, 16
    if width < 256:
        return 16, 32
    return (32, 64) if width < 512 else (64, 128)


def _ideal_depth(width: int) -> float:
    # Near the published 24 layers of width 768 and 48 of 2048, and 2 at the low end.
    return max(2.0, math.sqrt(width) - 2.5)


def _strain(config: Config) -> float:
    depth = away(config.depth, _ideal_depth(config.width))
    return depth + away(config.hidden, 2 * config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c = config
    convolved = (TAPS + 1) * (c.hidden + 2 * c.state)
    vectors = convolved + 3 * c.heads + c.hidden + c.width
    return c.depth * (_matrices(c) + vectors) + c.width


def _matrices(c: Config) -> int:
    return c.width * (3 * c.hidden + 2 * c.state + c.heads)


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example.

    The products of a chunk are counted whole, though half of their results is masked.
    The first chunk reads no state and the last one makes none.
    """
    c, (n, Q) = config, chunking(spec.length, CHUNK)
    within = n * Q * Q * (c.state + c.hidden)
    across = (n - 1) * Q * 2 * c.state * c.hidden
    products = c.depth * _matrices(c) + c.width * spec.vocab
    return 2.0 * (spec.length * products + c.depth * (within + across))


def state_space(
    x_BxLxHxP: jax.Array,
    dt_BxLxH: jax.Array,
    rate_H: jax.Array,
    b_BxLxN: jax.Array,
    c_BxLxN: jax.Array,
) -> jax.Array:
    """y_t = C_t' S_t of the module's recurrence, in chunks; float32 [B, L, H, P].

    Args:
      dt_BxLxH: step sizes, above zero, float32.
      rate_H: A, below zero, float32.
    """
    length, dtype = x_BxLxHxP.shape[1], x_BxLxHxP.dtype
    # dt_t enters with x_t, so that what follows is S_t = a_t S_(t-1) + B_t u_t' with
    # a_t = exp(dt_t A).
    u_BxLxHxP = (x_BxLxHxP * dt_BxLxH[..., None]).astype(dtype)
    u, b, c = (cut(x, CHUNK) for x in (u_BxLxHxP, b_BxLxN, c_BxLxN))
    # Logarithms of what is left at each position of a chunk's first state.
    left_BxnxQxH = jnp.cumsum(cut(dt_BxLxH * rate_H, CHUNK), axis=2)

    # Step 1 of listing 1, the diagonal blocks: ((C B') * decay) u, an attention whose
    # mask is the product of a from the one position to the other.
    scores_BxnxQxQ = product("bnqs,bnks->bnqk", c, b)
    decay_BxnxHxQxQ = _decay(left_BxnxQxH.swapaxes(2, 3))
    mixing_BxnxHxQxQ = (scores_BxnxQxQ[:, :, None] * decay_BxnxHxQxQ).astype(dtype)
    y_BxnxQxHxP = product("bnhqk,bnkhp->bnqhp", mixing_BxnxHxQxQ, u)
    if u.shape[1] > 1:
        read = _across(u, left_BxnxQxH, b, c)
        y_BxnxQxHxP = y_BxnxQxHxP.at[:, 1:].add(read)
    return join(y_BxnxQxHxP, length)


def _across(
    u_BxnxQxHxP: jax.Array,
    left_BxnxQxH: jax.Array,
    b_BxnxQxN: jax.Array,
    c_BxnxQxN: jax.Array,
) -> jax.Array:
    """What positions of all chunks but the first read of the chunks before."""
    u, left, dtype = u_BxnxQxHxP, left_BxnxQxH, u_BxnxQxHxP.dtype
    # Step 2: the state that a chunk alone ends with, sum over k of
    # (a_Q ... a_(k+1)) B_k u_k'.
    last_Bxnx1xH = left[:, :-1, -1:]
    to_end_BxnxQxH = jnp.exp(last_Bxnx1xH - left[:, :-1])
    ending = (u[:, :-1] * to_end_BxnxQxH[..., None]).astype(dtype)
    # All heads share B and C: one product for them all, over their I channels.
    ending_BxnxQxI = ending.reshape(*ending.shape[:3], -1)
    made_BxnxNxI = product("bnks,bnki->bnsi", b_BxnxQxN[:, :-1], ending_BxnxQxI)
    made_BxnxNxHxP = made_BxnxNxI.reshape(*made_BxnxNxI.shape[:3], *u.shape[3:])
    # Step 3: states from chunk to chunk, decayed by the product of a over a chunk.
    state_BxnxNxHxP = linear_recurrence(
        jnp.exp(last_Bxnx1xH)[..., None], made_BxnxNxHxP
    )
    # Step 4: position q reads C_q' of the state its chunk starts from, times what is
    # left of it there.
    state_BxnxNxI = state_BxnxNxHxP.reshape(made_BxnxNxI.shape).astype(dtype)
    read_BxnxQxI = product("bnqs,bnsi->bnqi", c_BxnxQxN[:, 1:], state_BxnxNxI)
    return read_BxnxQxI.reshape(ending.shape) * jnp.exp(left[:, 1:])[..., None]


def _decay(left_HxQ: jax.Array) -> jax.Array:
    """[..., q, k]: exp(left_q - left_k) for k up to q, and zero beyond."""
    difference_HxQxQ = left_HxQ[..., :, None] - left_HxQ[..., None, :]
    causal = np.tri(left_HxQ.shape[-1], dtype=bool)
    return jnp.exp(jnp.where(causal, difference_HxQxQ, -jnp.inf))


class Mixer(nnx.Module):
    """The layer of a block."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        c = config
        self.heads, self.state = c.heads, c.state
        D, I, H = c.width, c.hidden, c.heads
        # Heads are split over devices, B and C are every head's.
        self.gate_x = Dense((D,), (2, I), ("embed", None, "mlp"), rngs)
        self.bc = Dense((D,), (2, c.state), ("embed", None, "state"), rngs)
        self.step = Dense((D,), (H,), ("embed", "mlp"), rngs)
        self.x_convolution = ShortConvolution(I, "mlp", rngs, TAPS)
        self.bc_convolution = ShortConvolution(2 * c.state, None, rngs, TAPS)
        self.step_bias = param(rngs, (H,), ("mlp",), "recurrence", step_bias)
        self.log_rate = param(rngs, (H,), ("mlp",), "recurrence", _log_rate)
        ones = nnx.initializers.ones
        self.skip = param(rngs, (H,), ("mlp",), "norm", ones)
        self.norm = RMSNorm(I, rngs)
        scale = 1.0 / math.sqrt(2 * c.depth)
        self.out = Dense((I,), (D,), ("mlp", "embed"), rngs, scale)

    def __call__(self, h_BxLxD: jax.Array) -> jax.Array:
        B, L, _ = h_BxLxD.shape
        z_BxLxI, x_BxLxI = jnp.unstack(self.gate_x(h_BxLxD), axis=2)
        bc_BxLx2N = self.bc(h_BxLxD).reshape(B, L, 2 * self.state)
        dt_BxLxH = jax.nn.softplus(self.step(h_BxLxD) + self.step_bias[...])
        x_BxLxI = jax.nn.silu(self.x_convolution(x_BxLxI))
        bc_BxLx2N = jax.nn.silu(self.bc_convolution(bc_BxLx2N))
        x_BxLxHxP = x_BxLxI.reshape(B, L, self.heads, -1)
        y_BxLxHxP = state_space(
            x_BxLxHxP,
            dt_BxLxH,
            -jnp.exp(self.log_rate[...]),
            *jnp.split(bc_BxLx2N, 2, axis=-1),
        )
        # D x_t of the module's second equation, then the gate.
        y_BxLxHxP = y_BxLxHxP + self.skip[...][:, None] * x_BxLxHxP
        y_BxLxI = y_BxLxHxP.reshape(B, L, -1) * jax.nn.silu(z_BxLxI)
        return self.out(self.norm(y_BxLxI).astype(h_BxLxD.dtype))


def _log_rate(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Rates -A uniform from 1 to 16."""
    return jnp.log(jax.random.uniform(key, shape, dtype, 1.0, 16.0))


class Block(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.norm = RMSNorm(config.width, rngs)
        self.mixer = Mixer(config, rngs)

    def __call__(self, h_BxLxD: jax.Array) -> jax.Array:
        return h_BxLxD + self.mixer(self.norm(h_BxLxD))


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        blocks = (Block(config, rngs) for _ in range(config.depth))
        super().__init__(config.width, spec, rngs, blocks)
