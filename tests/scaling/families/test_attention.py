"""Attention by blocks is attention: values, gradients, any length, no square."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.families import _attention


def plain(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, is_causal=True)


def made(length, dtype=jnp.float32):
    """Queries of 4 heads, keys and values of 2, and weights for a scalar of them."""
    keys = jax.random.split(jax.random.key(length), 4)
    return [
        jax.random.normal(key, (2, length, heads, 8), dtype)
        for key, heads in zip(keys, (4, 2, 2, 4), strict=True)
    ]


def value_and_gradients(attention):
    def scalar(q, k, v, weights):
        mixed = attention(q, k, v)
        return jnp.sum(mixed * weights), mixed

    return jax.jit(jax.value_and_grad(scalar, argnums=(0, 1, 2), has_aux=True))


@pytest.mark.parametrize("length", [1, 100])
def test_blocks_give_what_one_product_gives(monkeypatch, length):
    monkeypatch.setattr(_attention, "BLOCK", 32)
    monkeypatch.setattr(_attention, "WHOLE", 0)
    arguments = made(length)
    found = value_and_gradients(_attention.causal_attention)(*arguments)
    for a, b in zip(
        jax.tree.leaves(found),
        jax.tree.leaves(value_and_gradients(plain)(*arguments)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 37])
def test_one_square_on_a_cpu_gives_what_one_product_gives(length):
    arguments = made(length)
    for a, b in zip(
        jax.tree.leaves(value_and_gradients(_attention._whole)(*arguments)),
        jax.tree.leaves(value_and_gradients(plain)(*arguments)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("whole", [0, 512])
@pytest.mark.parametrize("window", [1, 20, 100])
def test_a_window_is_seen_and_nothing_before_it(monkeypatch, window, whole):
    """By blocks and by one square; of 20, some see nothing of a row's first block.

    A window as long as the sequence hides nothing.
    """
    monkeypatch.setattr(_attention, "BLOCK", 16)
    monkeypatch.setattr(_attention, "WHOLE", whole)
    arguments = made(100)
    local = lambda q, k, v: _attention.causal_attention(q, k, v, window)
    row = np.arange(100)
    seen = (row[:, None] - row >= 0) & (row[:, None] - row < window)
    masked = lambda q, k, v: jax.nn.dot_product_attention(
        q, k, v, mask=seen[None, None]
    )
    for a, b in zip(
        jax.tree.leaves(value_and_gradients(local)(*arguments)),
        jax.tree.leaves(value_and_gradients(masked)(*arguments)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_work_of_a_window_grows_with_length_alone():
    pairs = [len(_attention._pairs(blocks, window=600)[0]) for blocks in (8, 16, 32)]
    assert pairs == [3 * n - 3 for n in (8, 16, 32)]


def test_large_scores_do_not_overflow(monkeypatch):
    monkeypatch.setattr(_attention, "BLOCK", 32)
    monkeypatch.setattr(_attention, "WHOLE", 0)
    q, k, v, weights = made(100)
    found = value_and_gradients(_attention.causal_attention)(300 * q, k, v, weights)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_packed_and_half_precision(monkeypatch):
    monkeypatch.setattr(_attention, "BLOCK", 32)
    monkeypatch.setattr(_attention, "WHOLE", 0)
    q, k, v, _ = (jnp.stack([x, 2 * x]) for x in made(70, jnp.bfloat16))
    found = jax.jit(jax.vmap(_attention.causal_attention))(q, k, v)
    assert found.dtype == jnp.bfloat16
    wanted = jax.vmap(plain)(*(x.astype(jnp.float32) for x in (q, k, v)))
    np.testing.assert_allclose(found.astype(jnp.float32), wanted, atol=0.05)


def test_no_square_of_scores_is_held():
    length = 16_384
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in made(8)]
    shapes = [jax.ShapeDtypeStruct((1, length, *s.shape[2:]), s.dtype) for s in shapes]
    step = value_and_gradients(_attention.causal_attention)
    plan = step.lower(*shapes).compile().memory_analysis()
    assert plan.temp_size_in_bytes < length**2  # a quarter of one head's square
