"""The matrix memory in chunks is the recurrence of its paper, step by step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.families import mlstm
from tests.support.two_forms import assert_close, value_and_gradients

CONFIG = mlstm.Config(depth=2, width=12, hidden=32)


def sequential(q, k, v, i, f):
    """Equations 19 to 27 with the stabiliser of equation 15, step by step."""

    def step(carry, now):
        c_BxHxExE, n_BxHxE, m_BxH = carry
        q, k, v, i, f = now
        kept = jax.nn.log_sigmoid(f)
        higher = jnp.maximum(kept + m_BxH, i)
        forget, write = jnp.exp(kept + m_BxH - higher), jnp.exp(i - higher)
        outer = jnp.einsum("bhd,bhe->bhde", k, v)
        c_BxHxExE = forget[..., None, None] * c_BxHxExE + write[..., None, None] * outer
        n_BxHxE = forget[..., None] * n_BxHxE + write[..., None] * k
        total = jnp.abs(jnp.einsum("bhd,bhd->bh", n_BxHxE, q))
        read = jnp.einsum("bhd,bhde->bhe", q, c_BxHxExE)
        h = read / jnp.maximum(total, jnp.exp(-higher))[..., None]
        return (c_BxHxExE, n_BxHxE, higher), h

    B, _, H, E = q.shape
    by_time = tuple(jnp.moveaxis(array, 1, 0) for array in (q, k, v, i, f))
    zeros = jnp.zeros((B, H, E, E)), jnp.zeros((B, H, E)), jnp.zeros((B, H))
    return jnp.moveaxis(jax.lax.scan(step, zeros, by_time)[1], 0, 1)


def made(length, scale=1.0, gate_scale=1.0):
    """Queries, keys, values and gates of 2 sequences and 3 heads of 8."""
    keys = jax.random.split(jax.random.key(length), 5)
    q, k, v = (scale * jax.random.normal(key, (2, length, 3, 8)) for key in keys[:3])
    i, f = (gate_scale * jax.random.normal(key, (2, length, 3)) for key in keys[3:])
    return q, k / np.sqrt(8), v, 2 * i, f + 2


def chunked(*arguments):
    return mlstm.matrix_memory(*arguments, chunk=16)


@pytest.mark.parametrize("length", [1, 75])
def test_chunks_give_what_the_recurrence_gives(length):
    arguments = made(length)
    assert_close(
        value_and_gradients(chunked, *arguments),
        value_and_gradients(sequential, *arguments),
    )


@pytest.mark.parametrize("scale, gate_scale", [(1e-3, 1e-3), (1e3, 1e3), (0.0, 1e3)])
def test_inputs_of_any_size_give_numbers(scale, gate_scale):
    leaves = value_and_gradients(chunked, *made(40, scale, gate_scale))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_gates_of_any_size_keep_the_right_memories():
    """Exponents of hundreds: without stabilisers their sums would overflow."""
    arguments = made(40, gate_scale=100.0)
    np.testing.assert_allclose(
        jax.jit(chunked)(*arguments),
        jax.jit(sequential)(*arguments),
        rtol=1e-3,
        atol=1e-4,
    )


def test_half_precision_is_near():
    *qkv, i, f = made(40)
    low = (array.astype(jnp.bfloat16) for array in qkv)
    found = jax.jit(chunked)(*low, i, f)
    assert found.dtype == jnp.float32
    wanted = jax.jit(sequential)(*qkv, i, f)
    error = jnp.sqrt(jnp.mean((found - wanted) ** 2) / jnp.mean(wanted**2))
    assert 0 < error < 0.03


def plain_mixer(mixer, x_BxLxD):
    """The layer from its parameters alone, with its blocks as whole matrices."""
    value = lambda parameter: parameter[...]
    x, z = jnp.moveaxis(
        jnp.einsum("bld,dni->blni", x_BxLxD, value(mixer.up.kernel)), 2, 0
    )
    kernel = value(mixer.convolution.kernel)[:, None]
    convolved = jax.lax.conv_general_dilated(
        x,
        kernel,
        (1,),
        [(kernel.shape[0] - 1, 0)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=x.shape[-1],
    )
    convolved = jax.nn.silu(convolved + value(mixer.convolution.bias))
    q, k = jnp.moveaxis(blocks(convolved, value(mixer.query_key.kernel)), 2, 0)
    v = blocks(x, value(mixer.value.kernel))[:, :, 0]
    read = jnp.concatenate([a.reshape(x.shape) for a in (q, k, v)], axis=-1)
    gates = value(mixer.gates.kernel)
    gates = read @ gates.reshape(read.shape[-1], -1) + value(mixer.gate_bias).ravel()
    i, f = jnp.split(gates, 2, axis=-1)
    h = sequential(q, k / np.sqrt(k.shape[-1]), v, i, f)
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-6)
    h = (h * value(mixer.head_norm)).reshape(x.shape) + value(mixer.skip) * convolved
    return h * jax.nn.silu(z) @ value(mixer.down.kernel)


def blocks(x_BxLxI, kernel_SxJxHxSxG):
    S, _, H, _, G = kernel_SxJxHxSxG.shape
    x = x_BxLxI.reshape(*x_BxLxI.shape[:2], H, S, G)
    y = jnp.einsum("blhsg,sjhtg->bljhtg", x, kernel_SxJxHxSxG)
    return y.reshape(*y.shape[:4], S * G)


def test_the_layer_is_what_its_paper_says():
    mixer = mlstm.Mixer(CONFIG, nnx.Rngs(0))
    mixer.chunk = 8
    kernel = mixer.gates.kernel
    kernel[...] = jax.random.normal(jax.random.key(1), kernel.shape) / 8
    x_BxLxD = jax.random.normal(jax.random.key(2), (2, 19, CONFIG.width))
    assert_close(
        value_and_gradients(lambda mixer, x: mixer(x), mixer, x_BxLxD),
        value_and_gradients(plain_mixer, mixer, x_BxLxD),
    )


def test_gates_start_open_to_the_past():
    mixer = mlstm.Mixer(CONFIG, nnx.Rngs(0))
    inputs, forgets = mixer.gate_bias[...]
    np.testing.assert_allclose(forgets, [3, 4, 5, 6], rtol=1e-6)
    assert np.abs(inputs).max() < 0.5
    read = jnp.ones((3, 4, CONFIG.head_dim))
    assert 0 < np.abs(mixer.gates(read)).max() < 0.5


def test_chunks_grow_with_heads_but_no_further_than_256():
    chunk = lambda hidden: mlstm.Config(1, hidden // 2, hidden).chunk
    assert [chunk(n) for n in (32, 512, 640, 1024, 4096)] == [64, 128, 128, 256, 256]
