"""Shared parts of linear recurrences: chunks of time, and states carried across them.

Within a chunk a linear recurrence is a masked product, as attention is; from chunk to
chunk a state is carried. Shapes: B batch, L length, n chunks of Q positions.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.families._layers import fan_in, param


def chunking(length: int, longest: int) -> tuple[int, int]:
    """(chunks, positions in each): the fewest chunks, as even as they can be.

    The last one is filled up, by less than one position a chunk.
    """
    chunks = -(-length // longest)
    return chunks, -(-length // chunks)


def cut(x_BxL: jax.Array, longest: int) -> jax.Array:
    """[B, L, ...] -> [B, n, Q, ...], filled up with zeros at the end."""
    B, L, *rest = x_BxL.shape
    n, Q = chunking(L, longest)
    padding = ((0, 0), (0, n * Q - L), *((0, 0) for _ in rest))
    return jnp.pad(x_BxL, padding).reshape(B, n, Q, *rest)


def join(x_BxnxQ: jax.Array, length: int) -> jax.Array:
    """The inverse of `cut`: [B, n, Q, ...] -> [B, length, ...]."""
    B, n, Q, *rest = x_BxnxQ.shape
    return x_BxnxQ.reshape(B, n * Q, *rest)[:, :length]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(formula: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """An einsum of two arrays of one dtype, summed and returned in float32.

    Every index of one array is the other's or the result's, so that the gradient is
    two such products. They run in the arrays' dtype: left to itself, JAX would widen
    both of them to float32, where machines multiply several times slower.
    """
    return jnp.einsum(formula, x, y, preferred_element_type=jnp.float32)


def _keep_operands(formula: str, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Any]:
    return product(formula, x, y), (x, y)


def _turned(formula: str, saved: Any, d_z: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, y = saved
    operands, z = formula.split("->")
    a, b = operands.split(",")
    d_z = d_z.astype(x.dtype)
    d_x = product(f"{z},{b}->{a}", d_z, y)
    d_y = product(f"{a},{z}->{b}", x, d_z)
    return d_x.astype(x.dtype), d_y.astype(y.dtype)


product.defvjp(_keep_operands, _turned)


@jax.custom_vjp
def linear_recurrence(decay: jax.Array, x: jax.Array) -> jax.Array:
    """h_t = decay_t h_(t-1) + x_t along axis 1, from h = 0, by a parallel scan.

    (a, x) then (b, y) is (a b, b x + y), which is associative (Blelloch 1990, section
    1.4), so that no more than 2 log2(length) steps follow one another. The gradient is
    the same recurrence backwards, and keeps h alone.

    Args:
      decay: broadcasts against x without more dimensions; both have the same length.
    """
    return _scan(decay, x, reverse=False)


def _scan(decay: jax.Array, x: jax.Array, reverse: bool) -> jax.Array:
    def then(first: Any, second: Any) -> Any:
        # Two steps as one: h -> b (a h + x) + y.
        (a, x), (b, y) = first, second
        return a * b, b * x + y

    return jax.lax.associative_scan(then, (decay, x), reverse=reverse, axis=1)[1]


def _forward(decay: jax.Array, x: jax.Array) -> tuple[jax.Array, Any]:
    h = _scan(decay, x, reverse=False)
    return h, (decay, h)


def _backward(saved: Any, d_h: jax.Array) -> tuple[jax.Array, jax.Array]:
    decay, h = saved
    ends = ((0, 0),) * (h.ndim - 2)
    # g_t = dh_t + decay_(t+1) g_(t+1) is the gradient of x_t, the total one of h_t.
    following = jnp.pad(decay[:, 1:], ((0, 0), (0, 1), *ends))
    d_x = _scan(following, d_h, reverse=True)
    # That of decay_t is g_t h_(t-1), summed over the dimensions decay_t is shared by.
    before = jnp.pad(h[:, :-1], ((0, 0), (1, 0), *ends))
    shared = [axis for axis in range(h.ndim) if decay.shape[axis] < h.shape[axis]]
    return jnp.sum(d_x * before, axis=shared, keepdims=True), d_x


linear_recurrence.defvjp(_forward, _backward)


def step_bias(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Step sizes log-uniform from 0.001 to 0.1, through the inverse of softplus."""
    low, high = math.log(1e-3), math.log(1e-1)
    dt = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
    # softplus^-1(dt) = log(e^dt - 1), in a form that does not overflow.
    return dt + jnp.log(-jnp.expm1(-dt))


class ShortConvolution(nnx.Module):
    """Causal convolution of each channel alone over the last few positions.

    Kernel and bias are per channel, and count among "norm": neither decays, and no
    width enters their gradients.
    """

    def __init__(
        self,
        channels: int,
        axis: str | None,
        rngs: nnx.Rngs,
        taps: int = 4,
        bias: bool = True,
    ):
        zeros = nnx.initializers.zeros
        self.kernel = param(rngs, (taps, channels), (None, axis), "norm", fan_in(taps))
        self.bias = param(rngs, (channels,), (axis,), "norm", zeros) if bias else None

    def __call__(self, x_BxLxC: jax.Array) -> jax.Array:
        """y_t = bias + sum over s of kernel[s] x_(t - taps + 1 + s)."""
        kernel, length = self.kernel[...], x_BxLxC.shape[1]
        taps = kernel.shape[0]
        padded = jnp.pad(x_BxLxC, ((0, 0), (taps - 1, 0), (0, 0)))
        shifted = (padded[:, tap : tap + length] for tap in range(taps))
        terms = (row * x for row, x in zip(kernel, shifted, strict=True))
        start: Any = 0.0 if self.bias is None else self.bias[...]
        return sum(terms, start=start).astype(x_BxLxC.dtype)
