"""Gated DeltaNet (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464).

Pre-norm residual blocks of a gated delta layer and a SwiGLU feed-forward (section 3.4),
in the shape that Qwen3-Next uses: queries and keys as wide as the residual stream,
values twice as wide, two value heads to a key head. Queries, keys and values pass a
short causal convolution without bias and SiLU; queries and keys are normalised to
length 1; the output of each head is normalised and gated by SiLU of a further
projection.

State of one value head, S_t (E x E), with a share alpha_t kept and a strength beta_t of
writing (equation 10):
    S_t = alpha_t (I - beta_t k_t k_t') S_(t-1) + beta_t k_t v_t',    y_t = S_t' q_t,
    alpha_t = exp(-exp(log_rate) softplus(a_t + step_bias)),    beta_t = sigmoid(b_t).

It is computed in the chunked form of section 3.3. With left_t the product of alpha up
to t within a chunk, what a chunk writes, u, solves a triangular system (the UT form of
the WY representation):
    u_t + beta_t sum over s < t of (left_t / left_s) (k_t' k_s) u_s
        = beta_t v_t - beta_t left_t S' k_t,
with S the state that the chunk starts from. Its matrix is inverted for all chunks side
by side; one product with the state is left from chunk to chunk, as in the paper: a
parallel scan would multiply E x E matrices with each other. Memory is linear in length.

Shapes: B batch, L length, n chunks of Q positions, D width, K key heads, G value heads
to a key head, E head dimension, F hidden units of the feed-forward.

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

from scaling.families import Tokens, transformer
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options
from scaling.families._layers import Dense, RMSNorm, param
from scaling.families._recurrence import (
    ShortConvolution,
    chunking,
    cut,
    join,
    product,
    step_bias,
)

OBJECTIVES = ("next_token",)
float32 = jnp.float32

TAPS = 4
# Value heads to a key head.
GROUP = 2


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family; `heads` are key heads."""

    depth: int
    width: int
    heads: int
    head_dim: int
    hidden: int

    @property
    def chunk(self) -> int:
        """Positions of a chunk at most.

        Within it work grows with its length, from chunk to chunk with the head's
        dimension: they are balanced, up to the paper's 64.
        """
        return min(64, max(16, 2 * self.head_dim))


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Depth grows with width as the Transformer's does (2 layers at 8 thousand parameters,
    4 at a million, 20 at a billion); the feed-forward is near 8/3 width.
    """
    options("gated_deltanet", given, {})
    return _members(spec, by).at(target)


@functools.cache
def _members(spec: Tokens, by: str) -> Ladder[Config]:
    return Ladder(_candidates(), measure(by, spec, params, flops), _strain)


def _candidates() -> Iterator[Config]:
    for depth, width, heads, _, head_dim in transformer.shapes(queries_per_kv=1):
        for hidden in hiddens(width, 1.5, 4.5):
            yield Config(depth, width, heads, head_dim, hidden)


def _strain(config: Config) -> float:
    depth = away(config.depth, transformer.ideal_depth(config.width))
    return depth + away(config.hidden, config.width * 8 / 3)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    return config.depth * block_params(config) + config.width


def block_params(config: Config) -> int:
    """Parameters of one block."""
    c = config
    convolved = TAPS * c.heads * (2 + GROUP) * c.head_dim
    vectors = convolved + 2 * c.heads * GROUP + c.head_dim + 2 * c.width
    return _matrices(c) + vectors


def _matrices(c: Config) -> int:
    per_head = (2 + 3 * GROUP) * c.head_dim + 2 * GROUP
    return c.width * (c.heads * per_head + 3 * c.hidden)


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example."""
    head = 2.0 * spec.length * config.width * spec.vocab
    return config.depth * block_flops(config, spec.length) + head


def block_flops(config: Config, length: int) -> float:
    """Forward matrix-product FLOPs of one block for one example.

    The products of a chunk are counted whole, though half of their results is masked;
    so is what fills a triangular matrix up. The first chunk reads no
    state and the last one makes none. Nothing inverts a matrix on the way back.
    """
    c, (n, Q) = config, chunking(length, config.chunk)
    E, K, H = c.head_dim, c.heads, c.heads * GROUP
    inverse = sum(2 * side**3 * pairs for side, pairs in _doublings(Q)[1:])
    solved = E if n == 1 else 2 * E
    within = n * (K * Q * Q * 2 * E + H * (inverse + Q * Q * 2 * solved))
    across = H * ((n - 1) * Q * 3 * E * E + max(0, n - 2) * E**3)
    return 2.0 * (length * _matrices(c) + within + across)


def delta_rule(
    q_BxLxKxE: jax.Array,
    k_BxLxKxE: jax.Array,
    v_BxLxKxGxE: jax.Array,
    strength_BxLxKxG: jax.Array,
    kept_BxLxKxG: jax.Array,
    chunk: int,
) -> jax.Array:
    """y_t of the module's recurrence, in chunks; float32 [B, L, K, G, E].

    Args:
      q_BxLxKxE, k_BxLxKxE: normalised, queries scaled too.
      strength_BxLxKxG: beta, float32.
      kept_BxLxKxG: log(alpha), not above zero, float32.
      chunk: positions of a chunk at most.
    """
    length, dtype = q_BxLxKxE.shape[1], v_BxLxKxGxE.dtype
    q, k = (cut(x, chunk).swapaxes(2, 3) for x in (q_BxLxKxE, k_BxLxKxE))
    v, strength, kept = (
        jnp.moveaxis(cut(x, chunk), 2, 4)
        for x in (v_BxLxKxGxE, strength_BxLxKxG, kept_BxLxKxG)
    )
    # Logarithms of what is left at each position of a chunk's first state.
    left_BxnxKxGxQ = jnp.cumsum(kept, axis=-1)
    decay_BxnxKxGxQxQ = _decay(left_BxnxKxGxQ)
    # The matrix of the module's triangular system below its diagonal of ones:
    # beta_t (left_t / left_s) k_t' k_s for s < t.
    alike_BxnxKxQxQ = product("bnkqe,bnkse->bnkqs", k, k)
    before = np.tri(q.shape[3], k=-1, dtype=np.float32)
    lower_BxnxKxGxQxQ = strength[..., None] * decay_BxnxKxGxQxQ * before
    lower_BxnxKxGxQxQ *= alike_BxnxKxQxQ[:, :, :, None]
    # What position t reads of u_s in its own chunk: (left_t / left_s) q_t' k_s, s <= t.
    scores_BxnxKxQxQ = product("bnkqe,bnkse->bnkqs", q, k)
    mixing_BxnxKxGxQxQ = scores_BxnxKxQxQ[:, :, :, None] * decay_BxnxKxGxQxQ
    mixing_BxnxKxGxQxQ = mixing_BxnxKxGxQxQ.astype(dtype)

    # The system is linear in its right side, so u = solved_v - solved_k S: both are
    # solved before S is known.
    written = v * strength[..., None]
    if q.shape[1] > 1:
        erased = k[:, :, :, None] * (strength * jnp.exp(left_BxnxKxGxQ))[..., None]
        written = jnp.concatenate([written, erased], axis=-1)
    solved = _solve(lower_BxnxKxGxQxQ, written.astype(dtype)).astype(dtype)
    y = product("bnkgqs,bnkgsr->bnkgqr", mixing_BxnxKxGxQxQ, solved)
    if q.shape[1] > 1:
        # y_t = mixing solved_v + (left_t q_t' - mixing solved_k) S.
        y, erased = jnp.split(y, [v.shape[-1]], axis=-1)
        asking = q[:, :, :, None] * jnp.exp(left_BxnxKxGxQ)[..., None] - erased
        states = _across(k, solved, left_BxnxKxGxQ).astype(dtype)
        read = product("bnkgqe,bnkger->bnkgqr", asking[:, 1:].astype(dtype), states)
        y = y.at[:, 1:].add(read)
    return join(jnp.moveaxis(y, 4, 2), length)


def _decay(left_Q: jax.Array) -> jax.Array:
    """[..., q, s]: exp(left_q - left_s) for s up to q, and zero beyond."""
    difference_QxQ = left_Q[..., :, None] - left_Q[..., None, :]
    causal = np.tri(left_Q.shape[-1], dtype=bool)
    return jnp.exp(jnp.where(causal, difference_QxQ, -jnp.inf))


def _across(
    k_BxnxKxQxE: jax.Array, solved_BxnxKxGxQx2E: jax.Array, left_BxnxKxGxQ: jax.Array
) -> jax.Array:
    """States that all chunks but the first start from, [B, n - 1, K, G, E, E]."""
    # The state after a chunk is left_Q S + sum over t of (left_Q / left_t) k_t u_t',
    # with u = solved_v - solved_k S: linear in S.
    left = left_BxnxKxGxQ[:, :-1]
    to_end_BxnxKxGxQ = jnp.exp(left[..., -1:] - left)
    ending = k_BxnxKxQxE[:, :-1, :, None] * to_end_BxnxKxGxQ[..., None]
    solved, dtype = solved_BxnxKxGxQx2E[:, :-1], solved_BxnxKxGxQx2E.dtype
    ends = product("bnkgqe,bnkgqr->bnkger", ending.astype(dtype), solved)
    made, erased = jnp.split(ends, 2, axis=-1)
    kept_BxnxKxGx1x1 = jnp.exp(left[..., -1:, None])
    return _states(kept_BxnxKxGx1x1, erased.astype(dtype), made)


@jax.custom_vjp
def _states(kept: jax.Array, erased: jax.Array, made: jax.Array) -> jax.Array:
    """S_j = kept_j S_(j-1) - erased_j S_(j-1) + made_j along axis 1, from zeros.

    The gradient is the same recurrence backwards, and keeps S alone.

    Args:
      kept: [B, n, K, G, 1, 1]; erased: [B, n, K, G, E, E]; made: as the result,
        [B, n, K, G, E, V], float32.
    """
    return _carry(kept, erased, made, reverse=False)


def _carry(
    kept: jax.Array, erased: jax.Array, made: jax.Array, reverse: bool
) -> jax.Array:
    def step(state: jax.Array, now: Any) -> tuple[jax.Array, jax.Array]:
        kept, erased, made = now
        lost = product("bkgde,bkgev->bkgdv", erased, state.astype(erased.dtype))
        state = kept * state - lost + made
        return state, state

    first, rest = (-1, slice(-1)) if reverse else (0, slice(1, None))
    if made.shape[1] == 1:
        return made
    by_chunk = (
        jnp.moveaxis(x, 1, 0) for x in (kept[:, 1:], erased[:, 1:], made[:, rest])
    )
    _, states = jax.lax.scan(step, made[:, first], tuple(by_chunk), reverse=reverse)
    pieces = [made[:, first, None], jnp.moveaxis(states, 0, 1)]
    return jnp.concatenate(pieces[::-1] if reverse else pieces, axis=1)


def _carry_forward(kept: jax.Array, erased: jax.Array, made: jax.Array) -> Any:
    states = _carry(kept, erased, made, reverse=False)
    return states, (kept, erased, states)


def _carry_backward(saved: Any, d_states: jax.Array) -> tuple[jax.Array, ...]:
    kept, erased, states = saved
    d_made = _carry(kept, erased.swapaxes(-1, -2), d_states, reverse=True)
    start = ((0, 0), (1, 0), *((0, 0),) * (states.ndim - 2))
    before = jnp.pad(states[:, :-1], start)
    d_kept = jnp.sum(d_made * before, axis=(-1, -2), keepdims=True)
    dtype = erased.dtype
    d_lost, state = (x[:, 1:].astype(dtype) for x in (-d_made, before))
    d_erased = product("bnkgdv,bnkgev->bnkgde", d_lost, state)
    return d_kept, jnp.pad(d_erased, start).astype(dtype), d_made


_states.defvjp(_carry_forward, _carry_backward)


@jax.custom_vjp
def _solve(lower_QxQ: jax.Array, right_QxR: jax.Array) -> jax.Array:
    """X with (I + lower) X = right, float32; `lower` is zero from its diagonal on.

    Both have leading dimensions; the inverse is float32, products with it run in the
    dtype of `right`.
    """
    return _solve_forward(lower_QxQ, right_QxR)[0]


def _solve_forward(lower_QxQ: jax.Array, right_QxR: jax.Array) -> tuple[jax.Array, Any]:
    inverse_QxQ = _inverse(lower_QxQ).astype(right_QxR.dtype)
    x_QxR = product("...qs,...sr->...qr", inverse_QxQ, right_QxR)
    return x_QxR, (inverse_QxQ, x_QxR.astype(right_QxR.dtype))


def _solve_backward(saved: Any, d_x_QxR: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse_QxQ, x_QxR = saved
    dtype = x_QxR.dtype
    # Of (I + A) x = r: dr = (I + A)^-T dx, and dA = -dr x'.
    d_right_QxR = product("...qs,...qr->...sr", inverse_QxQ, d_x_QxR.astype(dtype))
    d_right_QxR = d_right_QxR.astype(dtype)
    return -product("...qr,...sr->...qs", d_right_QxR, x_QxR), d_right_QxR


_solve.defvjp(_solve_forward, _solve_backward)


def _inverse(lower_QxQ: jax.Array) -> jax.Array:
    """(I + lower)^-1, by joining the inverses of blocks on the diagonal in pairs.

    Of blocks A and B with C below A, the inverse has -B^-1 C A^-1 there. No entry of it
    is above 1 in size, since each product of some (I - beta k k') shortens: nothing is
    lost that float32 could hold.
    """
    Q = lower_QxQ.shape[-1]
    levels = _doublings(Q)
    fill = 2 ** len(levels) - Q
    x = -jnp.pad(lower_QxQ, (*((0, 0),) * (lower_QxQ.ndim - 2), (0, fill), (0, fill)))
    inverse = jnp.ones((*x.shape[:-1], 1, 1), x.dtype)
    for side, pairs in levels:
        a, b = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        starts = [2 * side * pair for pair in range(pairs)]
        c = [x[..., i + side : i + 2 * side, i : i + side] for i in starts]
        corner = jnp.stack(c, axis=-3)
        if side > 1:
            # A TPU would otherwise multiply float32 numbers in bfloat16.
            exact = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
            corner = exact(exact(b, corner), a)
        above = jnp.concatenate([a, jnp.zeros_like(a)], axis=-1)
        below = jnp.concatenate([corner, b], axis=-1)
        inverse = jnp.concatenate([above, below], axis=-2)
    return inverse[..., 0, :Q, :Q]


def _doublings(size: int) -> list[tuple[int, int]]:
    """(side, pairs) of the blocks that are joined, level after level."""
    levels = math.ceil(math.log2(size))
    return [(2**i, 2 ** (levels - i - 1)) for i in range(levels)]


class GatedDelta(nnx.Module):
    """The layer that mixes positions.

    One product makes, for each key head, its query, its key, the values of its value
    heads and their gates, in this order; another one b and a of its value heads.
    """

    def __init__(self, config: Config, rngs: nnx.Rngs):
        c, G = config, GROUP
        self.chunk = c.chunk
        D, K, E = c.width, c.heads, c.head_dim
        axes = ("embed", "kv_heads", None)
        self.qkvz = Dense((D,), (K, (2 + 2 * G) * E), axes, rngs)
        self.gates = Dense((D,), (K, 2 * G), axes, rngs)
        convolved = K * (2 + G) * E
        self.convolution = ShortConvolution(
            convolved, "kv_heads", rngs, TAPS, bias=False
        )
        by_head = ("kv_heads", None)
        self.log_rate = param(rngs, (K, G), by_head, "recurrence", _log_rate)
        self.step_bias = param(rngs, (K, G), by_head, "recurrence", step_bias)
        self.norm = RMSNorm(E, rngs)
        scale = 1.0 / math.sqrt(2 * c.depth)
        self.out = Dense((K, G * E), (D,), ("kv_heads", None, "embed"), rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        (B, L, _), dtype = x_BxLxD.shape, x_BxLxD.dtype
        E, K, G = self.norm.scale.shape[0], *self.log_rate.shape
        qkvz_BxLxKxC = self.qkvz(x_BxLxD)
        qkv_BxLxKxC, z_BxLxKxC = jnp.split(qkvz_BxLxKxC, [(2 + G) * E], axis=-1)
        convolved = jax.nn.silu(self.convolution(qkv_BxLxKxC.reshape(B, L, -1)))
        qkv_BxLxKxNxE = convolved.reshape(B, L, K, 2 + G, E)
        q_BxLxKxE = _direction(qkv_BxLxKxNxE[:, :, :, 0]) / math.sqrt(E)
        k_BxLxKxE = _direction(qkv_BxLxKxNxE[:, :, :, 1])
        b, a = jnp.split(self.gates(x_BxLxD).astype(float32), 2, axis=-1)
        y_BxLxKxGxE = delta_rule(
            q_BxLxKxE.astype(dtype),
            k_BxLxKxE.astype(dtype),
            qkv_BxLxKxNxE[:, :, :, 2:],
            jax.nn.sigmoid(b),
            -jnp.exp(self.log_rate[...]) * jax.nn.softplus(a + self.step_bias[...]),
            self.chunk,
        )
        z_BxLxKxGxE = z_BxLxKxC.reshape(B, L, K, G, E).astype(float32)
        y_BxLxKxGxE = self.norm(y_BxLxKxGxE) * jax.nn.silu(z_BxLxKxGxE)
        return self.out(y_BxLxKxGxE.reshape(B, L, K, G * E).astype(dtype))


def _direction(x_E: jax.Array) -> jax.Array:
    """Vectors of length 1 along the last dimension, float32."""
    x_E = x_E.astype(float32)
    return x_E * jax.lax.rsqrt(jnp.sum(x_E**2, axis=-1, keepdims=True) + 1e-6)


def _log_rate(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Rates uniform from 0 to 16, without 0."""
    return jnp.log(jax.random.uniform(key, shape, dtype, 1e-3, 16.0))


class Block(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.delta_norm = RMSNorm(config.width, rngs)
        self.delta = GatedDelta(config, rngs)
        self.mlp_norm = RMSNorm(config.width, rngs)
        scale = 1.0 / math.sqrt(2 * config.depth)
        self.mlp = transformer.SwiGLU(config.width, config.hidden, scale, rngs)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        x_BxLxD = x_BxLxD + self.delta(self.delta_norm(x_BxLxD))
        return x_BxLxD + self.mlp(self.mlp_norm(x_BxLxD))


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        blocks = (Block(config, rngs) for _ in range(config.depth))
        super().__init__(config.width, spec, rngs, blocks)
