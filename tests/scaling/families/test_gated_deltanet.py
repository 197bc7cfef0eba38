"""The gated delta rule in chunks is the recurrence of its paper, step by step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling import objective
from scaling.errors import UserError
from scaling.families import Tokens, gated_deltanet, hybrid, transformer
from scaling.planning import cost
from tests.support.two_forms import assert_close, value_and_gradients

CONFIG = gated_deltanet.Config(depth=2, width=12, heads=2, head_dim=6, hidden=24)


@jax.jit
def sequential(q, k, v, strength, kept):
    """S_t = alpha_t (I - beta_t k_t k_t') S_(t-1) + beta_t k_t v_t' (equation 10)."""

    def step(s_BxKxGxExV, now):
        q, k, v, strength, kept = now
        s_BxKxGxExV = jnp.exp(kept)[..., None, None] * s_BxKxGxExV
        known = jnp.einsum("bke,bkgev->bkgv", k, s_BxKxGxExV)
        better = strength[..., None] * (v - known)
        s_BxKxGxExV += jnp.einsum("bke,bkgv->bkgev", k, better)
        return s_BxKxGxExV, jnp.einsum("bke,bkgev->bkgv", q, s_BxKxGxExV)

    by_time = tuple(jnp.moveaxis(array, 1, 0) for array in (q, k, v, strength, kept))
    zeros = jnp.zeros((*v[:, 0].shape[:-1], k.shape[-1], v.shape[-1]))
    return jnp.moveaxis(jax.lax.scan(step, zeros, by_time)[1], 0, 1)


def made(length, scale=1.0, kept_scale=1.0):
    """Two sequences, 2 key heads of 6, 2 value heads to each."""
    keys = jax.random.split(jax.random.key(length), 5)
    q, k = (jax.random.normal(key, (2, length, 2, 6)) for key in keys[:2])
    v = scale * jax.random.normal(keys[2], (2, length, 2, 2, 6))
    strength, kept = (jax.random.normal(key, (2, length, 2, 2)) for key in keys[3:])
    k = k / jnp.linalg.norm(k, axis=-1, keepdims=True)
    kept = -0.1 * kept_scale * jnp.exp(kept)
    return scale * q, k, v, jax.nn.sigmoid(scale * strength + 1), kept


def chunked(*arguments):
    return gated_deltanet.delta_rule(*arguments, chunk=16)


@pytest.mark.parametrize("length", [1, 75])
def test_chunks_give_what_the_recurrence_gives(length):
    arguments = made(length)
    assert_close(
        value_and_gradients(chunked, *arguments),
        value_and_gradients(sequential, *arguments),
    )


@pytest.mark.parametrize("scale, kept_scale", [(1e-3, 1e-3), (1e3, 1e3)])
def test_inputs_of_any_size_give_numbers(scale, kept_scale):
    leaves = value_and_gradients(chunked, *made(40, scale, kept_scale))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_a_key_that_comes_again_and_again_is_rewritten():
    """The system's matrix is then the farthest from the identity."""
    q, k, v, strength, kept = made(64)
    k = jnp.broadcast_to(k[:, :1], k.shape)
    arguments = q, k, v, jnp.ones_like(strength), 1e-3 * kept
    found = jax.jit(lambda *a: gated_deltanet.delta_rule(*a, chunk=64))(*arguments)
    wanted = jax.jit(sequential)(*arguments)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 8, 21, 64])
def test_the_inverse_is_one(size):
    lower = np.tril(np.random.default_rng(size).normal(size=(3, size, size)), k=-1)
    lower *= 0.3
    found = jax.jit(gated_deltanet._inverse)(jnp.asarray(lower, jnp.float32))
    wanted = np.linalg.inv(np.eye(size) + lower)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert (np.triu(found, k=1) == 0.0).all()


def test_half_precision_is_near():
    q, k, v, *gates = made(40)
    low = (array.astype(jnp.bfloat16) for array in (q, k, v))
    found = jax.jit(chunked)(*low, *gates)
    assert found.dtype == jnp.float32
    wanted = jax.jit(sequential)(q, k, v, *gates)
    error = jnp.sqrt(jnp.mean((found - wanted) ** 2) / jnp.mean(wanted**2))
    assert 0 < error < 0.03


def plain_layer(layer, x_BxLxD):
    """The layer from its parameters alone, head after head."""
    value = lambda parameter: parameter[...]
    (B, L, _), E = x_BxLxD.shape, CONFIG.head_dim
    G = gated_deltanet.GROUP
    y = 0.0
    taps = value(layer.convolution.kernel).reshape(4, CONFIG.heads, (2 + G) * E)
    for head in range(CONFIG.heads):
        mixed = x_BxLxD @ value(layer.qkvz.kernel)[:, head]
        signal, z = jnp.split(mixed, [(2 + G) * E], axis=-1)
        signal = jax.lax.conv_general_dilated(
            signal,
            taps[:, head][:, None],
            (1,),
            [(3, 0)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=signal.shape[-1],
        )
        q, k, *v = jnp.split(jax.nn.silu(signal), 2 + G, axis=-1)
        q, k = (a / jnp.sqrt(jnp.sum(a**2, -1, keepdims=True) + 1e-6) for a in (q, k))
        gates = x_BxLxD @ value(layer.gates.kernel)[:, head]
        for n in range(G):
            step = jnp.log1p(jnp.exp(gates[..., G + n] + layer.step_bias[head, n]))
            kept = -jnp.exp(layer.log_rate[head, n]) * step
            one = lambda array: array[:, :, None]
            read = sequential(
                one(q) / np.sqrt(E),
                one(k),
                v[n][:, :, None, None],
                jax.nn.sigmoid(gates[..., n])[:, :, None, None],
                kept[:, :, None, None],
            ).reshape(B, L, E)
            read = read / jnp.sqrt(jnp.mean(read**2, -1, keepdims=True) + 1e-6)
            gate = jax.nn.silu(z[..., n * E : (n + 1) * E])
            rows = value(layer.out.kernel)[head, n * E : (n + 1) * E]
            y = y + (read * value(layer.norm.scale) * gate) @ rows
    return y


def test_the_layer_is_what_its_paper_says():
    layer = gated_deltanet.GatedDelta(CONFIG, nnx.Rngs(0))
    x_BxLxD = jax.random.normal(jax.random.key(2), (2, 19, CONFIG.width))
    assert_close(
        value_and_gradients(lambda layer, x: layer(x), layer, x_BxLxD),
        value_and_gradients(plain_layer, layer, x_BxLxD),
    )


def test_flops_of_several_chunks_agree_with_xla():
    """XLA states how long the scan over chunks is once compiled."""
    spec = Tokens(257, 75)
    config = gated_deltanet.ladder(8_000, spec)
    model = jax.eval_shape(
        lambda: gated_deltanet.Model(config, spec, nnx.Rngs(jax.random.key(0)))
    )
    ids = jax.ShapeDtypeStruct((2, spec.length), jnp.int32)
    loss = lambda m, x: objective.make("next_token", spec).loss(m, x)
    expected = 2 * gated_deltanet.flops(config, spec)
    counted, _ = cost.flops_xla(jax.jit(loss).lower(model, ids).compile())
    assert counted == pytest.approx(expected, rel=0.001)
    step = jax.jit(jax.value_and_grad(loss)).lower(model, ids).compile()
    # Nothing is inverted on the way back.
    assert cost.flops_xla(step)[0] == pytest.approx(3 * expected, rel=0.03)


def test_rates_start_in_the_papers_range():
    rates = jnp.exp(gated_deltanet._log_rate(jax.random.key(0), (256,), jnp.float32))
    assert 0.0 < rates.min() < 0.5 and 15.5 < rates.max() <= 16.0


def test_shapes_are_those_of_qwen3_next_at_its_width():
    """Key heads as wide as the stream, of 128; the feed-forward near 8/3."""
    for size in (1e9, 2e9):
        config = gated_deltanet.ladder(size, (257, 1024))
        assert config.head_dim == 128 and config.heads * 128 == config.width
        assert config.chunk == 64
        assert 2 < config.hidden / config.width < 3.5


def test_every_fourth_block_of_the_hybrid_attends():
    spec = Tokens(257, 64)
    for size, depth in ((8_000, 4), (1e6, 8), (1e9, 28)):
        config = hybrid.ladder(size, spec)
        assert config.depth == depth and config.heads % config.kv_heads == 0
    config = hybrid.ladder(1e6, spec)
    model = jax.eval_shape(lambda: hybrid.Model(config, spec, nnx.Rngs(0)))
    kinds = [type(block) for block in model.blocks]
    assert kinds == 2 * (3 * [gated_deltanet.Block] + [transformer.Block])
    with pytest.raises(UserError, match="queries_per_kv"):
        hybrid.ladder(8_000, spec, queries_per_kv=0)
