"""Chunks, scans and short convolutions are what a plain loop gives."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling import families, objective
from scaling.families import Tokens, _recurrence
from scaling.planning import cost


def plain(decay, x):
    def step(h, now):
        h = now[0] * h + now[1]
        return h, h

    by_time = decay.swapaxes(0, 1), x.swapaxes(0, 1)
    _, h = jax.lax.scan(step, jnp.zeros_like(x[:, 0]), by_time)
    return h.swapaxes(0, 1)


@pytest.mark.parametrize("length", [1, 2, 13])
def test_the_scan_and_its_gradient_are_those_of_a_loop(length):
    keys = jax.random.split(jax.random.key(length), 3)
    decay = jax.random.uniform(keys[0], (2, length, 3, 1))
    x = jax.random.normal(keys[1], (2, length, 3, 5))
    weights = jax.random.normal(keys[2], x.shape)

    def value_and_gradients(recurrence):
        def scalar(decay, x):
            h = recurrence(decay, x)
            return jnp.sum(h * weights), h

        return jax.jit(jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True))

    found = value_and_gradients(_recurrence.linear_recurrence)(decay, x)
    wanted = value_and_gradients(plain)(decay, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_products_and_their_gradients_run_in_the_dtype_of_what_they_join():
    x, y, weights = (
        jax.random.normal(jax.random.key(n), shape)
        for n, shape in enumerate([(2, 7, 3), (2, 3, 5), (2, 7, 5)])
    )

    def gradients(multiply, *arrays):
        scalar = lambda x, y: jnp.sum(multiply("bqs,bsi->bqi", x, y) * weights)
        return jax.grad(scalar, argnums=(0, 1))(*arrays)

    found = gradients(_recurrence.product, x, y)
    for a, b in zip(found, gradients(jnp.einsum, x, y), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    low = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
    assert _recurrence.product("bqs,bsi->bqi", *low).dtype == jnp.float32
    lowered = jax.jit(lambda *low: gradients(_recurrence.product, *low)).lower(*low)
    products = [x for x in lowered.as_text().splitlines() if "dot_general" in x]
    inputs = [
        re.findall(r"x([a-z]+\d+)>", line.split(" : ")[1])[:2] for line in products
    ]
    assert inputs == [["bf16", "bf16"]] * len(products) and len(products) >= 2


@pytest.mark.parametrize(
    "length, longest, chunks, each",
    [(1, 64, 1, 1), (64, 64, 1, 64), (65, 64, 2, 33), (1000, 64, 16, 63)],
)
def test_chunks_are_even_and_join_to_the_whole(length, longest, chunks, each):
    assert _recurrence.chunking(length, longest) == (chunks, each)
    x = jnp.arange(2 * length * 3.0).reshape(2, length, 3)
    pieces = _recurrence.cut(x, longest)
    assert pieces.shape == (2, chunks, each, 3)
    np.testing.assert_array_equal(_recurrence.join(pieces, length), x)


def test_a_short_convolution_sees_its_taps_alone():
    convolution = _recurrence.ShortConvolution(2, None, nnx.Rngs(0), taps=3)
    convolution.bias[...] = jnp.array([1.0, -1.0])
    kernel = np.asarray(convolution.kernel[...])
    x = np.random.default_rng(0).normal(size=(1, 6, 2)).astype(np.float32)
    found = convolution(jnp.asarray(x))
    for channel, bias in ((0, 1.0), (1, -1.0)):
        whole = np.convolve(x[0, :, channel], kernel[::-1, channel])[:6]
        np.testing.assert_allclose(found[0, :, channel], whole + bias, rtol=1e-5)


@pytest.mark.parametrize("name", ["mamba2", "mlstm"])
def test_flops_of_several_chunks_agree_with_xla(name):
    family, spec = families.load(name), Tokens(257, 150)
    config = family.ladder(8_000, spec)
    model = jax.eval_shape(lambda: family.Model(config, spec, nnx.Rngs(0)))
    goal = objective.make("next_token", spec)
    ids = jax.ShapeDtypeStruct((2, spec.length), jnp.int32)
    step = jax.jit(jax.value_and_grad(lambda m, x: goal.loss(m, x)))
    counted, reason = cost.flops_xla(step.lower(model, ids))
    assert reason == ""
    assert counted == pytest.approx(3 * 2 * family.flops(config, spec), rel=0.001)
