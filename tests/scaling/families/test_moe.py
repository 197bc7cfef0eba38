"""Mixtures of experts: what is dispatched, and what the gradients are."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.errors import UserError
from scaling.families import Tokens, moe
from scaling.families._layers import Tracing, tracing
from scaling.layout import Layout

SPEC = Tokens(vocab=31, length=21)
CONFIG = moe.Config(
    depth=2, width=8, heads=1, kv_heads=1, head_dim=8, hidden=12, experts=8, chosen=2
)


def layer(seed=0, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return moe.Experts(config, 1.0, nnx.Rngs(jax.random.key(seed)))


def inputs(batch=3, length=SPEC.length, seed=1):
    return jax.random.normal(jax.random.key(seed), (batch, length, CONFIG.width))


def one_by_one(layer, x_BxLxD):
    """Every expert on every token, summed over those that the token chose."""
    scores = x_BxLxD @ layer.router.kernel[...]
    least = jnp.sort(scores, axis=-1)[..., -layer.chosen, None]
    weight = jax.nn.softmax(jnp.where(scores >= least, scores, -jnp.inf))
    total = 0.0
    for e in range(layer.experts):
        gate, up = (x_BxLxD @ layer.gate_up[e, :, i] for i in (0, 1))
        total += weight[..., e, None] * ((jax.nn.silu(gate) * up) @ layer.down[e])
    return total


def value_and_gradients(apply, layer, x):
    probe = jax.random.normal(jax.random.key(2), x.shape)
    loss = lambda layer, x: jnp.sum(apply(layer, x) * probe)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(layer, x)


@pytest.mark.parametrize("length", [21, 100])
def test_sorted_blocks_give_what_every_expert_gives_one_by_one(length):
    """Rows a block: 1 and 9; values, gradients of all parameters and inputs."""
    x = inputs(length=length)
    found = value_and_gradients(lambda layer, x: layer(x)[0], layer(), x)
    truth = value_and_gradients(one_by_one, layer(), x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_nothing_is_dropped_when_all_choose_the_same_experts():
    crowded = layer()
    crowded.router.kernel[...] = jnp.zeros((8, 8)).at[:, 3].set(2).at[:, 5].set(1)
    x = jnp.abs(inputs(length=100))
    found = jax.jit(lambda layer, x: layer(x)[0])(crowded, x)
    np.testing.assert_allclose(found, one_by_one(crowded, x), rtol=1e-4)


def test_the_highest_scores_are_those_of_a_sort_and_of_equal_ones_the_first():
    scores = jax.random.normal(jax.random.key(0), (4, 9, 8))
    for k in (1, 2, 8):
        expected = np.argsort(-scores, axis=-1, kind="stable")[..., :k]
        np.testing.assert_array_equal(moe.highest(scores, k), expected)
    even = moe.highest(jnp.zeros((1, 1, 8)), 3)
    np.testing.assert_array_equal(even, [[[0, 1, 2]]])


@pytest.mark.parametrize("rows", [1, 40, 640])
def test_every_row_has_a_slot_of_its_expert_and_no_slot_two(rows):
    draw = np.random.default_rng(rows)
    for experts in (draw.integers(0, 8, (rows, 2)), np.full((rows, 2), 7)):
        slots = moe.assign(jnp.asarray(experts), 8)
        b = len(slots.row_S) // len(slots.expert_n)
        slot = np.asarray(slots.slot_Txk)
        assert len(np.unique(slot)) == slot.size
        np.testing.assert_array_equal(slots.expert_n[slot // b], experts)
        at = np.arange(2 * rows).reshape(rows, 2)
        np.testing.assert_array_equal(slots.row_S[slot], at)
        assert (np.asarray(slots.row_S) == 2 * rows).sum() == len(
            slots.row_S
        ) - slot.size
        assert len(slots.row_S) <= 1.125 * 2 * rows


def test_groups_that_sort_alone_give_what_one_sort_gives():
    x = inputs(batch=4, length=20)
    whole = jax.jit(lambda layer, x: layer(x))(layer(), x)
    with tracing(Tracing(Layout(data=4), lambda tree: tree)):
        parts = jax.jit(lambda layer, x: layer(x))(layer(), x)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-5, atol=1e-6)
    assert parts[1] == whole[1]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_gradients_are_finite_at_any_scale(scale):
    found = value_and_gradients(lambda layer, x: layer(x)[0], layer(), scale * inputs())
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_balance_is_one_when_even_and_grows_with_the_load_of_one_expert():
    """By hand: shares (3/4, 1/4), mean probabilities (0.6, 0.4)."""
    one_hot = lambda expert, n: expert[..., None] == jnp.arange(n)
    all_in_turn = one_hot(jnp.arange(16).reshape(1, 8, 2) % 8, 8)
    even = moe.balance(jnp.zeros((1, 8, 8)), all_in_turn)
    assert even == pytest.approx(1.0)
    scores = jnp.log(jnp.array([[[0.7, 0.3], [0.7, 0.3], [0.7, 0.3], [0.3, 0.7]]]))
    expert = one_hot(jnp.array([[[0], [0], [0], [1]]]), 2)
    uneven = 2 * (0.75 * 0.6 + 0.25 * 0.4)
    assert moe.balance(scores, expert) == pytest.approx(uneven, rel=1e-5)
    both = jnp.stack([scores[0], 0 * scores[0]]), jnp.stack([expert[0], ~expert[0]])
    assert moe.balance(*both) == pytest.approx((uneven + 1) / 2, rel=1e-5)


def test_the_balance_loss_of_all_layers_reaches_training_and_every_router():
    model = moe.Model(CONFIG, SPEC, nnx.Rngs(0))
    ids = jnp.arange(2 * SPEC.length).reshape(2, -1) % SPEC.vocab
    loss = lambda model: model(ids).aux["balance"]
    value, gradients = jax.jit(jax.value_and_grad(loss))(model)
    assert 2 * moe.BALANCE <= value < 4 * moe.BALANCE
    for block in gradients.blocks:
        assert jnp.abs(block.mlp.router.kernel[...]).max() > 0


def test_ladder_by_active_parameters_counts_what_works_on_a_token():
    previous = 0
    for target in np.geomspace(8_000, 3e8, 60):
        config = moe.ladder(target, SPEC, by="active")
        counted = moe.active(config, SPEC) - 2 * SPEC.vocab * config.width
        assert abs(counted / target - 1) <= 0.1 and counted >= previous
        idle = 3 * config.depth * config.width * config.hidden * 6
        assert moe.params(config) - counted == idle
        previous = counted


def test_options_are_checked_and_used():
    config = moe.ladder(72_000, SPEC, experts=4, chosen=1)
    assert (config.experts, config.chosen) == (4, 1)
    for wrong in ({"experts": 0}, {"chosen": 9}, {"chosen": 1.5}):
        with pytest.raises(UserError, match=f"options.{next(iter(wrong))}"):
            moe.ladder(72_000, SPEC, **wrong)
