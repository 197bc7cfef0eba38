"""Convolution of pictures with a square kernel, as each kind of machine runs it well.

On GPU and TPU it is XLA's. On a CPU XLA's falls to a twentieth of its speed inside any
loop, and training is a loop; there it is matrix products, with gradients written out:
for 3 x 3 taps those of Winograd's minimal filters, else one with what lies under the
taps side by side (im2col). All give the same numbers.

The pictures of a batch come last, so that neighbours in the memory of a CPU are one
value of many pictures: shifts, means and sums work on whole rows, whatever the size of
a picture. Compilers for GPU and TPU lay arrays out as they need.

Shapes: I channels in, O channels out, H height, W width, B pictures, k taps a side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.families._layers import layout


def convolve(x_IxHxWxB: jax.Array, kernel_kxkxIxO: jax.Array) -> jax.Array:
    """y[h, w] = sum over (i, j) of x[h + i, w + j] K[i, j], [O, H, W, B].

    Offsets run from -(k - 1) / 2 to (k - 1) / 2, and x is zero outside the picture.
    """
    k = kernel_kxkxIxO.shape[0]
    assert k == kernel_kxkxIxO.shape[1], kernel_kxkxIxO.shape
    assert k % 2, kernel_kxkxIxO.shape
    if layout().platform != "cpu":
        dimensions = ("CHWN", "HWIO", "CHWN")
        return jax.lax.conv_general_dilated(
            x_IxHxWxB, kernel_kxkxIxO, (1, 1), "SAME", dimension_numbers=dimensions
        )
    _, H, W, _ = x_IxHxWxB.shape
    # The filters' sums would lose digits of a shorter type.
    if k == 3 and H % 2 == W % 2 == 0 and x_IxHxWxB.dtype == jnp.float32:
        return _by_squares(x_IxHxWxB, kernel_kxkxIxO)
    return _by_product(x_IxHxWxB, kernel_kxkxIxO)


# --- Any kernel: what lies under the taps, and one product -------------------


@jax.custom_vjp
def _by_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    k, _, inputs, outputs = kernel.shape
    flat = kernel.reshape(k * k * inputs, outputs)
    y = jnp.tensordot(flat, _taps(x, k), axes=(0, 0))
    return y.reshape(outputs, *x.shape[1:])


def _taps(x: jax.Array, k: int) -> jax.Array:
    """What lies under each tap of the kernel, [k k I, H W B]."""
    I, H, W, _ = x.shape
    reach = (k - 1) // 2
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    shifts = [(i, j) for i in range(k) for j in range(k)]
    taps = jnp.stack([padded[:, i : i + H, j : j + W] for i, j in shifts])
    return taps.reshape(k * k * I, -1)


def _product_forward(x: jax.Array, kernel: jax.Array) -> Any:
    return _by_product(x, kernel), (x, kernel)


def _product_backward(saved: Any, d_y: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    k, _, _, outputs = kernel.shape
    # x meets the taps on the other side of what it adds to: a convolution of the
    # gradient with the kernel turned about, which only reads, where scattering adds.
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    d_x = _by_product(d_y, turned)
    d_kernel = jnp.tensordot(_taps(x, k), d_y.reshape(outputs, -1), axes=(1, 1))
    return d_x, d_kernel.reshape(kernel.shape).astype(kernel.dtype)


_by_product.defvjp(_product_forward, _product_backward)


# --- 3 x 3 taps: Winograd's minimal filters ----------------------------------
#
# F(2 x 2, 3 x 3) of Lavin and Gray 2016 (arXiv 1509.09308, section 4.1). Along one axis
# two neighbours of the result, from four of x and the three taps g, are
#
#     y = A^T [(G g) * (B^T x)],
#
# four multiplications where six are plain; in two dimensions 16 of 36. Over channels
# the multiplications are 16 matrix products. A^T and B^T only add, so they are written
# as sums of whole rows; squares of 2 x 2 pixels do not overlap, and each reads a pixel
# around itself.

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_G_16x9 = np.kron(_G, _G)

Four = list[jax.Array]


@jax.custom_vjp
def _by_squares(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _squares_forward(x, kernel)[0]


def _squares_forward(x: jax.Array, kernel: jax.Array) -> Any:
    met_16xOxN = _products(_spread(kernel), _apart(_read, x), (1, 1))
    return _together(_sums, met_16xOxN, x.shape), (x, kernel)


def _squares_backward(saved: Any, d_y: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    # Each step of the way there turned about, from the last to the first. What is read
    # of x is read again, since to keep it would take four times the memory of x.
    d_met_16xOxN = _apart(_sums_turned, d_y)
    d_spread_16xIxO = _products(_apart(_read, x), d_met_16xOxN, (2, 2))
    d_kernel = jnp.tensordot(_G_16x9.T, d_spread_16xIxO, axes=1)
    d_read_16xIxN = _products(_spread(kernel), d_met_16xOxN, (2, 1))
    d_x = _together(_read_turned, d_read_16xIxN, x.shape)
    return d_x, d_kernel.reshape(kernel.shape)


_by_squares.defvjp(_squares_forward, _squares_backward)


def _products(a: jax.Array, b: jax.Array, summed: tuple[int, int]) -> jax.Array:
    """16 matrix products, over an axis of each."""
    (i, j), both = summed, ((0,), (0,))
    return jax.lax.dot_general(a, b, (((i,), (j,)), both))


def _spread(kernel: jax.Array) -> jax.Array:
    """G g G^T of every kernel, [16, I, O]."""
    return jnp.tensordot(_G_16x9, kernel.reshape(9, *kernel.shape[2:]), axes=1)


def _apart(step: Callable[[jax.Array, int], Four], x: jax.Array) -> jax.Array:
    """A step along height, then along width, [16, C, H / 2 W / 2 B]."""
    # The barriers have sums of one axis computed once, and keep compiling short.
    x = jax.lax.optimization_barrier(x)
    rows_4xCxHxWxB = jax.lax.optimization_barrier(jnp.stack(step(x, 1)))
    squares = jnp.stack(step(rows_4xCxHxWxB, 3), axis=1)
    return squares.reshape(16, x.shape[0], -1)


def _together(
    step: Callable[[Sequence[jax.Array], int], jax.Array],
    x_16xCxN: jax.Array,
    shape: Sequence[int],
) -> jax.Array:
    """A step along width, then along height, [C, H, W, B]; shape: [any, H, W, B]."""
    _, H, W, B = shape
    squares = x_16xCxN.reshape(4, 4, -1, H // 2, W // 2, B)
    rows = step([squares[:, v] for v in range(4)], 3)
    rows = jax.lax.optimization_barrier(rows)
    return step([rows[u] for u in range(4)], 1)


def _read(x: jax.Array, axis: int) -> Four:
    """B^T x of every square: x is even pixels e and odd ones o in turn."""
    e, o = _halves(x, axis)
    return [_shifted(o, axis, 1) - o, e + o, o - e, e - _shifted(e, axis, -1)]


def _read_turned(v: Sequence[jax.Array], axis: int) -> jax.Array:
    e = v[1] - v[2] + v[3] - _shifted(v[3], axis, 1)
    o = v[1] + v[2] - v[0] + _shifted(v[0], axis, -1)
    return _in_turn(e, o, axis)


def _sums(m: Sequence[jax.Array], axis: int) -> jax.Array:
    """A^T m."""
    return _in_turn(m[0] + m[1] + m[2], m[1] - m[2] - m[3], axis)


def _sums_turned(y: jax.Array, axis: int) -> Four:
    e, o = _halves(y, axis)
    return [e, e + o, e - o, -o]


def _halves(x: jax.Array, axis: int) -> Four:
    """The even and the odd along an axis."""
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    return [jax.lax.index_in_dim(pairs, n, axis + 1, keepdims=False) for n in (0, 1)]


def _in_turn(even: jax.Array, odd: jax.Array, axis: int) -> jax.Array:
    both = jnp.stack([even, odd], axis + 1)
    return both.reshape(*even.shape[:axis], -1, *even.shape[axis + 1 :])


def _shifted(x: jax.Array, axis: int, by: int) -> jax.Array:
    """x[t - by] at t; zero outside."""
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (by, -by, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), edges)
