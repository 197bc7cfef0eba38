"""Mamba-2 in chunks is the recurrence of its paper, one position after another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.families import _recurrence, mamba2
from tests.support.two_forms import assert_close, value_and_gradients

CONFIG = mamba2.Config(depth=2, width=12, hidden=24, head_dim=8, state=5)


def sequential(x, dt, rate, b, c):
    """y_t = C_t' S_t with S_t = exp(dt_t A) S_(t-1) + dt_t B_t x_t' (section 2)."""

    def step(s_BxHxNxP, now):
        x_BxHxP, dt_BxH, b_BxN, c_BxN = now
        made = jnp.einsum("bn,bhp->bhnp", b_BxN, x_BxHxP * dt_BxH[..., None])
        s_BxHxNxP = jnp.exp(dt_BxH * rate)[..., None, None] * s_BxHxNxP + made
        return s_BxHxNxP, jnp.einsum("bn,bhnp->bhp", c_BxN, s_BxHxNxP)

    B, _, H, P = x.shape
    by_time = [jnp.moveaxis(array, 1, 0) for array in (x, dt, b, c)]
    zeros = jnp.zeros((B, H, b.shape[-1], P))
    return jnp.moveaxis(jax.lax.scan(step, zeros, tuple(by_time))[1], 0, 1)


def made(length, scale=1.0):
    """x, dt, A, B and C of 2 sequences, 3 heads of 8 and states of 5."""
    keys = jax.random.split(jax.random.key(length), 5)
    return (
        scale * jax.random.normal(keys[0], (2, length, 3, 8)),
        jax.nn.softplus(scale * jax.random.normal(keys[1], (2, length, 3))),
        -jax.random.uniform(keys[2], (3,), minval=0.1, maxval=4.0),
        scale * jax.random.normal(keys[3], (2, length, 5)),
        scale * jax.random.normal(keys[4], (2, length, 5)),
    )


@pytest.mark.parametrize("length", [1, 75])
def test_chunks_give_what_the_recurrence_gives(monkeypatch, length):
    monkeypatch.setattr(mamba2, "CHUNK", 16)
    arguments = made(length)
    assert_close(
        value_and_gradients(mamba2.state_space, *arguments),
        value_and_gradients(sequential, *arguments),
    )


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_inputs_of_any_size_give_numbers(monkeypatch, scale):
    monkeypatch.setattr(mamba2, "CHUNK", 16)
    leaves = value_and_gradients(mamba2.state_space, *made(40, scale))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_half_precision_is_near(monkeypatch):
    monkeypatch.setattr(mamba2, "CHUNK", 16)
    x, dt, rate, b, c = made(40)
    x_low, b_low, c_low = (array.astype(jnp.bfloat16) for array in (x, b, c))
    found = jax.jit(mamba2.state_space)(x_low, dt, rate, b_low, c_low)
    assert found.dtype == jnp.float32
    wanted = jax.jit(sequential)(x, dt, rate, b, c)
    assert 0 < jnp.abs(found - wanted).max() < 0.02 * jnp.abs(wanted).max()


def plain_mixer(mixer, h_BxLxD):
    """The layer position by position, from its parameters alone (section 7.1)."""
    value = lambda parameter: parameter[...]
    z, x = jnp.moveaxis(
        jnp.einsum("bld,dni->blni", h_BxLxD, value(mixer.gate_x.kernel)), 2, 0
    )
    bc = jnp.einsum("bld,dns->blns", h_BxLxD, value(mixer.bc.kernel))
    convolved = []
    for signal, short in (
        (x, mixer.x_convolution),
        (bc.reshape(*x.shape[:2], -1), mixer.bc_convolution),
    ):
        kernel = value(short.kernel)[:, None]
        mixed = jax.lax.conv_general_dilated(
            signal,
            kernel,
            (1,),
            [(kernel.shape[0] - 1, 0)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=signal.shape[-1],
        )
        convolved.append(jax.nn.silu(mixed + value(short.bias)))
    x, (b, c) = convolved[0], jnp.split(convolved[1], 2, axis=-1)
    dt = jnp.log1p(jnp.exp(h_BxLxD @ value(mixer.step.kernel) + value(mixer.step_bias)))
    x = x.reshape(*x.shape[:2], mixer.heads, -1)
    y = sequential(x, dt, -jnp.exp(value(mixer.log_rate)), b, c)
    y = (y + value(mixer.skip)[:, None] * x).reshape(z.shape) * jax.nn.silu(z)
    y = y / jnp.sqrt(jnp.mean(y**2, axis=-1, keepdims=True) + 1e-6)
    return y * value(mixer.norm.scale) @ value(mixer.out.kernel)


def test_the_layer_is_what_its_paper_says(monkeypatch):
    monkeypatch.setattr(mamba2, "CHUNK", 8)
    mixer = mamba2.Mixer(CONFIG, nnx.Rngs(0))
    h_BxLxD = jax.random.normal(jax.random.key(1), (2, 19, CONFIG.width))
    assert_close(
        value_and_gradients(lambda mixer, h: mixer(h), mixer, h_BxLxD),
        value_and_gradients(plain_mixer, mixer, h_BxLxD),
    )


def test_steps_and_rates_start_in_the_papers_ranges():
    key = jax.random.key(0)
    steps = jax.nn.softplus(_recurrence.step_bias(key, (256,), jnp.float32))
    rates = jnp.exp(mamba2._log_rate(key, (256,), jnp.float32))
    assert 0.9e-3 < steps.min() < 2e-3 and 0.05 < steps.max() < 0.101
    assert 1.0 <= rates.min() < 1.5 and 15.5 < rates.max() <= 16.0


def test_shapes_are_the_papers_from_a_hundred_million_on():
    for size in (1e8, 1e9):
        config = mamba2.ladder(size, (257, 1024))
        assert (config.head_dim, config.state) == (64, 128)
        assert 1.5 < config.hidden / config.width < 2.7
