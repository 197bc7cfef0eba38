"""Convolution of pictures with a square kernel, as each kind of machine runs it well.

On GPU and TPU it is XLA's. On a CPU XLA's falls to a twentieth of its speed inside any
loop, and training is a loop; there the values under the kernel are laid side by side
(im2col) and meet it in one matrix product, whose gradient is written out in the same
form. Both give the same numbers.

Shapes: B pictures, H height, W width, I channels in, O channels out, k taps a side.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from scaling.families._layers import layout


def convolve(x_BxHxWxI: jax.Array, kernel_kxkxIxO: jax.Array) -> jax.Array:
    """y[h, w] = sum over (i, j) of x[h + i, w + j] K[i, j], [B, H, W, O].

    Offsets run from -(k - 1) / 2 to (k - 1) / 2, and x is zero outside the picture.
    """
    assert kernel_kxkxIxO.shape[0] == kernel_kxkxIxO.shape[1], kernel_kxkxIxO.shape
    assert kernel_kxkxIxO.shape[0] % 2, kernel_kxkxIxO.shape
    if layout().platform == "cpu":
        return _by_product(x_BxHxWxI, kernel_kxkxIxO)
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x_BxHxWxI, kernel_kxkxIxO, (1, 1), "SAME", dimension_numbers=dimensions
    )


@jax.custom_vjp
def _by_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    k, _, inputs, outputs = kernel.shape
    return jnp.tensordot(_taps(x, k), kernel.reshape(k * k, inputs, outputs), axes=2)


def _taps(x: jax.Array, k: int) -> jax.Array:
    """What lies under each tap of the kernel, [B, H, W, k k, I]."""
    H, W = x.shape[1:3]
    reach = (k - 1) // 2
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    shifts = [(i, j) for i in range(k) for j in range(k)]
    return jnp.stack([padded[:, i : i + H, j : j + W] for i, j in shifts], axis=-2)


def _forward(x: jax.Array, kernel: jax.Array) -> Any:
    return _by_product(x, kernel), (x, kernel)


def _backward(saved: Any, d_y: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    k = kernel.shape[0]
    # x meets the taps on the other side of what it adds to: a convolution of the
    # gradient with the kernel turned about, which only reads, where scattering adds.
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    d_x = _by_product(d_y, turned)
    every = (0, 1, 2)
    d_kernel = jnp.tensordot(_taps(x, k), d_y, axes=(every, every))
    return d_x, d_kernel.reshape(kernel.shape).astype(kernel.dtype)


_by_product.defvjp(_forward, _backward)
