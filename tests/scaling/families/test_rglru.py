"""The RG-LRU's scan is the recurrence of its paper, one position after another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.errors import UserError
from scaling.families import Tokens, _layers, rglru, transformer
from scaling.planning import cost
from tests.support.two_forms import assert_close, value_and_gradients

CONFIG = rglru.Config(
    depth=3, width=12, units=16, blocks=2, hidden=24, heads=2, head_dim=6, window=5
)
SPEC = Tokens(257, 64)


def sequential(x, i, r, rate):
    """Equations 3 and 4, with nothing to keep before the first position."""

    def step(carry, now):
        h_BxR, share_R = carry
        x, i, r = now
        a = jax.nn.sigmoid(-rate) ** (8 * r)
        h_BxR = a * h_BxR + jnp.where(share_R, jnp.sqrt(1 - a**2), 1.0) * i * x
        return (h_BxR, jnp.ones_like(share_R)), h_BxR

    by_time = tuple(jnp.moveaxis(array, 1, 0) for array in (x, i, r))
    start = jnp.zeros_like(x[:, 0]), jnp.zeros(rate.shape, bool)
    return jnp.moveaxis(jax.lax.scan(step, start, by_time)[1], 0, 1)


def made(length, scale=1.0):
    """Two sequences of 5 units, gates in between 0 and 1, rates."""
    keys = jax.random.split(jax.random.key(length), 4)
    x, i, r = (scale * jax.random.normal(key, (2, length, 5)) for key in keys[:3])
    rate = -2 + scale * jax.random.normal(keys[3], (5,))
    return x, jax.nn.sigmoid(i), jax.nn.sigmoid(r), rate


@pytest.mark.parametrize("length", [1, 75])
def test_the_scan_gives_what_the_recurrence_gives(length):
    arguments = made(length)
    assert_close(
        value_and_gradients(rglru.gated_recurrence, *arguments),
        value_and_gradients(sequential, *arguments),
    )


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_inputs_of_any_size_give_numbers(scale):
    """Large ones close gates wholly, where the root's own slope is infinite."""
    leaves = value_and_gradients(rglru.gated_recurrence, *made(40, scale))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def plain_layer(layer, x_BxLxD):
    """The layer from its parameters alone, with its gates' blocks in turn."""
    value = lambda parameter: parameter[...]
    y, x = jnp.moveaxis(
        jnp.einsum("bld,dnr->blnr", x_BxLxD, value(layer.gate_x.kernel)), 2, 0
    )
    x = jax.lax.conv_general_dilated(
        x,
        value(layer.convolution.kernel)[:, None],
        (1,),
        [(3, 0)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=x.shape[-1],
    )
    x = x + value(layer.convolution.bias)
    parts = jnp.split(x, CONFIG.blocks, axis=-1)
    i, r = (
        jnp.concatenate(
            [part @ value(layer.gates)[h, :, n] for h, part in enumerate(parts)], -1
        )
        + value(layer.gate_bias)[n]
        for n in range(2)
    )
    h = sequential(x, jax.nn.sigmoid(i), jax.nn.sigmoid(r), value(layer.rate))
    return (h * jax.nn.gelu(y)) @ value(layer.out.kernel)


def test_the_layer_is_what_its_paper_says():
    layer = rglru.Recurrent(CONFIG, 1.0, nnx.Rngs(0))
    layer.gate_bias[...] = jax.random.normal(jax.random.key(1), (2, CONFIG.units))
    layer.convolution.bias[...] = jax.random.normal(jax.random.key(2), (CONFIG.units,))
    x_BxLxD = jax.random.normal(jax.random.key(3), (2, 19, CONFIG.width))
    assert_close(
        value_and_gradients(lambda layer, x: layer(x), layer, x_BxLxD),
        value_and_gradients(plain_layer, layer, x_BxLxD),
    )


def test_decays_start_in_the_papers_range():
    rate = rglru._rate(jax.random.key(0), (512,), jnp.float32)
    a = jnp.exp(-8 * jax.nn.softplus(rate))
    assert 0.9 <= a.min() < 0.905 and 0.995 < a.max() <= 0.9991


def test_a_window_has_every_third_block_attend_to_it():
    """Nothing but the attention tells: its reach is the window in its own block."""
    model = rglru.Model(CONFIG, SPEC, nnx.Rngs(0))
    kinds = [type(block.temporal) for block in model.blocks]
    assert kinds == [rglru.Recurrent, rglru.Recurrent, transformer.Attention]
    attention = model.blocks[2].temporal
    assert (attention.window, attention.kv_heads, attention.heads) == (5, 1, 2)
    x = jax.random.normal(jax.random.key(0), (1, 12, CONFIG.width))
    moved = jnp.abs(attention(x.at[:, 3].add(1.0)) - attention(x)).max(-1)[0]
    assert (moved[:3] == 0).all() and (moved[8:] == 0).all() and (moved[3:8] > 0).all()


@pytest.mark.parametrize("size", [8_000, 72_000, 1e8])
def test_members_with_a_window_are_of_their_size(size):
    config = rglru.ladder(size, SPEC, window=16)
    model = jax.eval_shape(lambda: rglru.Model(config, SPEC, nnx.Rngs(0)))
    total, embedding = _layers.count(model)
    assert rglru.params(config) == total - embedding
    assert abs((total - embedding) / size - 1) <= 0.1
    assert config.depth >= 3 and config.window == 16


def test_flops_with_a_window_agree_with_xla():
    """Where the window holds the sequence; a shorter one masks, and counts less."""
    spec = Tokens(257, 16)
    config = rglru.ladder(8_000, spec, window=16)
    model = jax.eval_shape(lambda: rglru.Model(config, spec, nnx.Rngs(0)))
    ids = jax.ShapeDtypeStruct((2, 16), jnp.int32)
    lowered = jax.jit(lambda m, x: m(x).y).lower(model, ids)
    counted, reason = cost.flops_xla(lowered)
    assert reason == ""
    assert counted == pytest.approx(2 * rglru.flops(config, spec), rel=0.001)
    longer = Tokens(257, 1024)
    per_token = rglru.flops(config, longer) / 1024
    assert per_token == pytest.approx(rglru.flops(config, spec) / 16)


def test_shapes_are_the_papers():
    """Units near 4/3 width in 16 blocks, a feed-forward near 3 times width."""
    for size in (1e8, 1e9):
        config = rglru.ladder(size, SPEC)
        assert config.blocks == 16 and config.units % 16 == 0
        assert abs(config.units / config.width - 4 / 3) < 0.1
        assert 2 < config.hidden / config.width < 4


@pytest.mark.parametrize("window", [-1, 2.5, "all"])
def test_a_wrong_window_is_refused(window):
    with pytest.raises(UserError, match=r"model\.options\.window"):
        rglru.ladder(8_000, SPEC, window=window)
