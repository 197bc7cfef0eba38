"""Causal attention, in blocks for long sequences so that memory stays linear.

Shapes: B batch, L length, N query heads, K key-value heads, G = N / K queries per
key-value head, H head dimension; n blocks of b positions, the last one filled up.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.families._layers import layout, on_one_cpu

float32 = jnp.float32
BLOCK = 512

# Up to this length all scores are one product. Beyond it blocks take half the time, on
# a CPU too, because their scores stay in cache.
WHOLE = 512


def causal_attention(
    q_BxLxNxH: jax.Array, k_BxLxKxH: jax.Array, v_BxLxKxH: jax.Array, window: int = 0
) -> jax.Array:
    """softmax(q k' / sqrt(H)) v over the positions up to each one; [B, L, N, H].

    N is a multiple of K. On a GPU in half precision cuDNN's fused kernel serves,
    elsewhere JAX's own product, or `_blocked` beyond WHOLE positions.

    Args:
      window: positions that each one attends to, itself the last; 0 for all.
    """
    length, dim = q_BxLxNxH.shape[1], q_BxLxNxH.shape[-1]
    window = window if window < length else 0
    local = (window - 1, 0) if window else None
    half = q_BxLxNxH.dtype in (jnp.bfloat16, jnp.float16)
    if layout().platform == "gpu" and half and dim % 8 == 0 and dim <= 128:
        return jax.nn.dot_product_attention(
            q_BxLxNxH,
            k_BxLxKxH,
            v_BxLxKxH,
            is_causal=True,
            local_window_size=local,
            implementation="cudnn",
        )
    if length <= WHOLE and on_one_cpu():
        return _whole(q_BxLxNxH, k_BxLxKxH, v_BxLxKxH, window)
    if length <= WHOLE:
        return jax.nn.dot_product_attention(
            q_BxLxNxH, k_BxLxKxH, v_BxLxKxH, is_causal=True, local_window_size=local
        )
    return _by_blocks(q_BxLxNxH, k_BxLxKxH, v_BxLxKxH, window)


def _queries(x_BxLxNxH: jax.Array, heads: int) -> jax.Array:
    """[B, K, G, L, H] of queries or of what has their shape; `heads` is K."""
    B, L, N, H = x_BxLxNxH.shape
    return jnp.moveaxis(x_BxLxNxH.reshape(B, L, heads, N // heads, H), 1, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _whole(q: jax.Array, k: jax.Array, v: jax.Array, window: int = 0) -> jax.Array:
    """Attention over one square of scores, as it is fast on a CPU.

    The softmax's gradient is written out, so that nothing of the size of the scores is
    transposed or computed again; weights are kept.

    Args:
      q: [B, L, N, H]; k, v: [B, L, K, H].
    """
    return _whole_forward(q, k, v, window)[0]


def _whole_forward(
    q: jax.Array, k: jax.Array, v: jax.Array, window: int
) -> tuple[jax.Array, Any]:
    length, dim = q.shape[1], q.shape[-1]
    scaled = _queries(q * dim**-0.5, k.shape[2])
    k, v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)
    scaled, k, v = jax.lax.optimization_barrier((scaled, k, v))
    scores = jnp.einsum("bkgqh,bkch->bkgqc", scaled, k, preferred_element_type=float32)
    hidden = np.triu(np.ones((length, length), bool), k=1)
    if window:
        hidden |= np.tri(length, k=-window, dtype=bool)
    scores = jnp.where(hidden, -jnp.inf, scores)
    raised = jnp.exp(scores - scores.max(-1, keepdims=True))
    weights = (raised / raised.sum(-1, keepdims=True)).astype(v.dtype)
    weights = jax.lax.optimization_barrier(weights)
    out = jnp.einsum("bkgqc,bkch->bkgqh", weights, v)
    return jnp.moveaxis(out, 3, 1).reshape(q.shape), (scaled, k, v, weights, out)


def _whole_backward(window: int, saved: Any, d_out: jax.Array) -> tuple[Any, ...]:
    scaled, k, v, weights, out = saved
    B, K, G, L, H = scaled.shape
    d_out = jax.lax.optimization_barrier(_queries(d_out, K))
    d_weights = jnp.einsum("bkgqh,bkch->bkgqc", d_out, v)
    # The softmax's gradient, P (dP - sum over keys of P dP), whose sum is dO O.
    share = jnp.sum(d_out * out, axis=-1, keepdims=True)
    d_scores = jax.lax.optimization_barrier(weights * (d_weights - share))
    d_q = jnp.einsum("bkgqc,bkch->bkgqh", d_scores, k) * H**-0.5
    # Transposes of [L, H] and none of [L, L].
    d_k = jnp.einsum("bkgqh,bkgqc->bkhc", scaled, d_scores)
    d_v = jnp.einsum("bkgqh,bkgqc->bkhc", d_out, weights)
    whole = jnp.moveaxis(d_q, 3, 1).reshape(B, L, K * G, H)
    return whole, jnp.moveaxis(d_k, 3, 1), jnp.moveaxis(d_v, 3, 1)


_whole.defvjp(_whole_forward, _whole_backward)


def _by_blocks(
    q_BxLxNxH: jax.Array, k_BxLxKxH: jax.Array, v_BxLxKxH: jax.Array, window: int
) -> jax.Array:
    """Cuts positions into blocks, block first, and puts the result together again."""
    B, L, N, H = q_BxLxNxH.shape
    K = k_BxLxKxH.shape[2]
    n = -(-L // BLOCK)

    def cut(x: jax.Array, *heads: int) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, n * BLOCK - L), (0, 0), (0, 0)))
        return jnp.moveaxis(x.reshape(B, n, BLOCK, *heads, H), (1, 2), (0, -2))

    out_nxBxKxGxbxH = _blocked(
        cut(q_BxLxNxH, K, N // K), cut(k_BxLxKxH, K), cut(v_BxLxKxH, K), window
    )
    whole = jnp.moveaxis(out_nxBxKxGxbxH, (0, -2), (1, 2))
    return whole.reshape(B, n * BLOCK, N, H)[:, :L]


def _pairs(blocks: int, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query block, key block, whether a row begins) of what is seen, row after row."""
    i, j = np.tril_indices(blocks)
    if window:
        # From a block's first query to the last key of one before.
        near = (i - j - 1) * BLOCK + 1 < window
        i, j = i[near], j[near]
    return i.astype(np.int32), j.astype(np.int32), np.diff(i, prepend=-1) > 0


def _scores(
    q: jax.Array, k: jax.Array, i: jax.Array, j: jax.Array, window: int
) -> jax.Array:
    """Scaled scores [B, K, G, b, b] of one pair of blocks, lowest where masked.

    A padded key lies behind every real query, so that the causal mask hides it too.
    """
    scores = jnp.einsum("...gqh,...kh->...gqk", q, k, preferred_element_type=float32)
    ahead = np.triu(np.ones((BLOCK, BLOCK), bool), k=1)
    scores = jnp.where((i == j) & ahead, -jnp.inf, scores / np.sqrt(q.shape[-1]))
    if not window:
        return scores
    row = np.arange(BLOCK)
    gone = (i - j) * BLOCK + row[:, None] - row >= window
    # Finite: of a row's first block a query may see nothing.
    return jnp.where(gone, -1e30, scores)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _blocked(q: jax.Array, k: jax.Array, v: jax.Array, window: int) -> jax.Array:
    """Exact attention by online softmax (Milakov and Gimelshein 2018, algorithm 3).

    One step for each pair of blocks that is not wholly masked. Both ways hold O(L H)
    numbers and one block of scores, as FlashAttention-2 does (Dao 2023, algorithms 1
    and 2).

    Args:
      q: [n, B, K, G, b, H]; k, v: [n, B, K, b, H].
    """
    return _forward(q, k, v, window)[0]


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, window: int
) -> tuple[jax.Array, Any]:
    rows = q.shape[1:-1]

    def step(carry: Any, pair: Any) -> Any:
        highest, total, mixed, out, lse = carry
        i, j, first = pair  # of a row of blocks: what came before is another row's
        highest = jnp.where(first, -jnp.inf, highest)
        # The inner loop of algorithm 1 (Dao 2023): a row's running maximum, its sum and
        # its mixture so far, both scaled to the new maximum.
        scores = _scores(q[i], k[j], i, j, window)
        higher = jnp.maximum(highest, scores.max(-1))
        weights = jnp.exp(scores - higher[..., None])
        kept = jnp.exp(highest - higher)
        total = total * kept + weights.sum(-1)
        product = jnp.einsum(
            "...gqk,...kh->...gqh",
            weights.astype(v.dtype),
            v[j],
            preferred_element_type=float32,
        )
        mixed = mixed * kept[..., None] + product
        # The row's output and logsumexp, written at each block: those of the last stay.
        out = out.at[i].set((mixed / total[..., None]).astype(q.dtype))
        lse = lse.at[i].set(higher + jnp.log(total))
        return (higher, total, mixed, out, lse), None

    zeros = jnp.zeros(rows, float32)
    carry = (
        zeros,
        zeros,
        jnp.zeros(q.shape[1:], float32),
        jnp.zeros_like(q),
        jnp.zeros(q.shape[:-1], float32),
    )
    (_, _, _, out, lse), _ = jax.lax.scan(step, carry, _pairs(q.shape[0], window))
    return out, (q, k, v, out, lse)


def _backward(window: int, saved: Any, d_out: jax.Array) -> tuple[jax.Array, ...]:
    q, k, v, out, lse = saved
    # The softmax's own share of each row's gradient (Dao 2023, section 2.3).
    share = jnp.sum(d_out.astype(float32) * out.astype(float32), axis=-1)
    scale = 1.0 / np.sqrt(q.shape[-1])

    def product(formula: str, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.einsum(formula, x.astype(q.dtype), y, preferred_element_type=float32)

    def step(carry: Any, pair: Any) -> Any:
        d_q, d_k, d_v = carry
        i, j, _ = pair
        # Algorithm 2 of Dao 2023: P from the kept logarithms, then dP, dS, dQ, dK, dV.
        weights = jnp.exp(_scores(q[i], k[j], i, j, window) - lse[i][..., None])
        d_weights = product("...gqh,...kh->...gqk", d_out[i], v[j])
        d_scores = weights * (d_weights - share[i][..., None]) * scale
        d_q = d_q.at[i].add(product("...gqk,...kh->...gqh", d_scores, k[j]))
        d_k = d_k.at[j].add(product("...gqk,...gqh->...kh", d_scores, q[i]))
        d_v = d_v.at[j].add(product("...gqk,...gqh->...kh", weights, d_out[i]))
        return (d_q, d_k, d_v), None

    zeros = tuple(jnp.zeros(x.shape, float32) for x in (q, k, v))
    gradients, _ = jax.lax.scan(step, zeros, _pairs(q.shape[0], window))
    d_q, d_k, d_v = gradients
    return d_q.astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype)


_blocked.defvjp(_forward, _backward)
