"""gMLP's spatial gate is its paper's, with a mask."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling import objective
from scaling.errors import UserError
from scaling.families import Tokens, gmlp
from scaling.planning import cost
from tests.support.two_forms import value_and_gradients

CONFIG = gmlp.Config(depth=2, width=6, hidden=10, length=9)


@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_a_folded_triangle_holds_each_entry_once(length):
    rectangle = gmlp.fold(length)
    assert rectangle[0] * rectangle[1] == length * (length + 1) // 2
    numbers = 1.0 + jnp.arange(rectangle[0] * rectangle[1]).reshape(rectangle)
    whole = np.asarray(gmlp.unfold(numbers, length))
    assert whole.shape == (length, length)
    assert (np.triu(whole, k=1) == 0.0).all()
    kept = np.sort(whole[np.tril_indices(length)])
    np.testing.assert_array_equal(kept, np.sort(np.ravel(numbers)))


def one_by_one(block, x_BxLxD):
    """Equations 1, 2 and 6 position by position, in windows of the gate's length."""
    value = lambda parameter: parameter[...]
    rms = lambda x: x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
    length = block.gate.length
    spatial = gmlp.unfold(value(block.gate.folded), length)
    kernel, mixed = value(block.up.kernel), []
    z_BxLxD = rms(x_BxLxD) * value(block.norm.scale)
    z1, z2 = (jax.nn.gelu(z_BxLxD @ kernel[:, n]) for n in (0, 1))
    heard = rms(z2) * value(block.gate.norm.scale)
    for t in range(x_BxLxD.shape[1]):
        begin, row = t - t % length, t % length
        summed = jnp.einsum(
            "u,buf->bf", spatial[row, : row + 1], heard[:, begin : t + 1]
        )
        mixed.append(summed + value(block.gate.bias)[row])
    return x_BxLxD + (z1 * jnp.stack(mixed, axis=1)) @ value(block.down.kernel)


def block():
    """One whose gates mix as much as a trained one's."""
    made = gmlp.Block(CONFIG, nnx.Rngs(0))
    made.gate.folded[...] = made.gate.folded[...] / gmlp.NEAR_ZERO
    return made


@pytest.mark.parametrize("length", [5, 13])
def test_the_block_is_what_its_paper_says(length):
    x_BxLxD = jax.random.normal(jax.random.key(1), (2, length, CONFIG.width))
    found = value_and_gradients(lambda m, x: m(x), block(), x_BxLxD)
    wanted = value_and_gradients(one_by_one, block(), x_BxLxD)
    for a, b in zip(found, wanted, strict=True):
        atol = 1e-7 + 1e-5 * np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol)


def test_inputs_of_any_size_give_numbers():
    x_BxLxD = jax.random.normal(jax.random.key(1), (2, 9, CONFIG.width))
    gradients = jax.jit(jax.grad(lambda m, x: jnp.sum(m(x) ** 2), argnums=(0, 1)))
    for scale in (1e-3, 1e3):
        leaves = jax.tree.leaves(gradients(block(), scale * x_BxLxD))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert all((leaf != 0).any() for leaf in leaves)


def test_a_gate_starts_almost_open():
    gate = gmlp.SpatialGate(CONFIG, nnx.Rngs(0))
    z1, z2 = jax.random.normal(jax.random.key(1), (2, 3, 9, CONFIG.hidden))
    assert 0 < jnp.abs(gate(z1, z2) / z1 - 1.0).max() < 0.1


def test_flops_agree_with_xla():
    spec = Tokens(257, 150)
    config = gmlp.ladder(30_000, spec)
    model = jax.eval_shape(lambda: gmlp.Model(config, spec, nnx.Rngs(0)))
    goal = objective.make("next_token", spec)
    ids = jax.ShapeDtypeStruct((2, spec.length), jnp.int32)
    step = jax.jit(jax.value_and_grad(lambda m, x: goal.loss(m, x)))
    counted, reason = cost.flops_xla(step.lower(model, ids))
    assert reason == ""
    assert counted == pytest.approx(3 * 2 * gmlp.flops(config, spec), rel=0.001)


@pytest.mark.parametrize("length", [1_024, 32_768])
def test_a_target_below_one_spatial_matrix_is_refused(length):
    spec, triangle = Tokens(257, length), length * (length + 1) // 2
    with pytest.raises(UserError, match=rf"spatial matrix of {length}.*{triangle}"):
        gmlp.ladder(0.999 * triangle, spec)
    least = gmlp.smallest(spec)
    assert triangle < least < 1.01 * triangle
    config = gmlp.ladder(least, spec)
    assert config.depth == 1
    assert abs(gmlp.params(config) / least - 1.0) < 0.1


def test_shapes_are_near_the_papers_at_its_sizes():
    """Section 4.3: 48 layers of width 512 and twice 1,536 units."""
    config = gmlp.ladder(1.2e8, Tokens(257, 128))
    assert 36 <= config.depth <= 60 and 448 <= config.width <= 640
    assert 2.2 <= config.hidden / config.width <= 4.2
