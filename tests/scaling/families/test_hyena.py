"""Hyena's convolutions by halves are the sums of its paper, exactly causal."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling import families, objective
from scaling.families import Tokens, hyena
from scaling.planning import cost
from tests.support.two_forms import assert_close, value_and_gradients

CONFIG = hyena.Config(depth=2, width=6, hidden=12, filter_width=5)


def one_by_one(x_DxBxL, h_DxL):
    """The convolution as its definition says, one position after another."""

    def step(seen_DxBxL, now):
        t, x_DxB = now
        seen_DxBxL = seen_DxBxL.at[..., t].set(x_DxB)
        lags = t - jnp.arange(h_DxL.shape[1])
        heard_DxL = jnp.where(lags >= 0, h_DxL[:, jnp.maximum(lags, 0)], 0.0)
        return seen_DxBxL, jnp.einsum("dbl,dl->db", seen_DxBxL, heard_DxL)

    times = jnp.arange(x_DxBxL.shape[-1]), jnp.moveaxis(x_DxBxL, -1, 0)
    return jnp.moveaxis(jax.lax.scan(step, jnp.zeros_like(x_DxBxL), times)[1], 0, -1)


def made(length):
    """x of 3 channels and 2 sequences, and h."""
    keys = jax.random.split(jax.random.key(length), 2)
    x = jax.random.normal(keys[0], (3, 2, length))
    return x, jax.random.normal(keys[1], (3, length))


@pytest.mark.parametrize("length", [1, 75])
def test_halves_give_what_the_sum_gives(monkeypatch, length):
    monkeypatch.setattr(hyena, "DIRECT", 8)
    arguments = made(length)
    assert_close(
        value_and_gradients(hyena.long_convolution, *arguments),
        value_and_gradients(one_by_one, *arguments),
    )


def test_no_bit_of_a_later_position_is_heard(monkeypatch):
    monkeypatch.setattr(hyena, "DIRECT", 8)
    x, h = made(40)
    by_time = jax.jit(jax.jacobian(lambda x: hyena.long_convolution(x, h)[0, 0]))
    reach = np.abs(by_time(x)[:, 0, 0])
    assert (np.triu(reach, k=1) == 0.0).all()
    assert (reach[np.tril_indices(40)] > 0.0).all()


def test_inputs_of_any_size_give_numbers(monkeypatch):
    monkeypatch.setattr(hyena, "DIRECT", 8)
    operator = hyena.Operator(CONFIG, 40, 1.0, nnx.Rngs(0))
    x_BxLxD = jax.random.normal(jax.random.key(1), (2, 19, CONFIG.width))
    gradients = jax.jit(jax.grad(lambda m, x: jnp.sum(m(x) ** 2), argnums=(0, 1)))
    for scale in (1e-3, 1e3):
        leaves = jax.tree.leaves(gradients(operator, scale * x_BxLxD))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert all((leaf != 0).any() for leaf in leaves)


@pytest.mark.parametrize(
    "length, n, each", [(1, 1, 1), (64, 1, 64), (65, 2, 33), (1000, 16, 63)]
)
def test_pieces_are_a_power_of_two_and_waste_less_than_one_position_each(
    length, n, each
):
    assert hyena.pieces(length) == (n, each)
    assert 0 <= n * each - length < n


def plain_operator(operator, x_BxLxD):
    """Definition 3.1 and section 3.3 from the parameters, one position at a time."""
    value = lambda parameter: parameter[...]
    _, L, D = x_BxLxD.shape
    short = [operator.q_convolution, operator.k_convolution, operator.v_convolution]
    signals = []
    for n, convolution in enumerate(short):
        signal = x_BxLxD @ value(operator.qkv.kernel)[:, n]
        back = jnp.pad(signal, ((0, 0), (2, 0), (0, 0)))
        taps = sum(value(convolution.kernel)[s] * back[:, s : s + L] for s in range(3))
        signals.append(taps + value(convolution.bias))
    q, k, v = signals
    network, unit = operator.filter, operator.filter.length
    # Rounded once: steep sines would make much of other rounding.
    t = np.arange(L)[:, None] / unit
    waves = 2 * np.pi * np.linspace(1e-4, 4.0, 5) * t
    h = jnp.float32(np.concatenate([t, np.cos(waves), np.sin(waves)], axis=1))
    for kernel, bias in zip(network.kernels, network.biases, strict=True):
        h = jnp.sin(h @ value(kernel) + value(bias))
    slowest, fastest = np.log(100.0) / 1.5, np.log(100.0) / 0.3
    h = h @ value(network.out) * np.exp(-t * np.linspace(slowest, fastest, D))
    y = one_by_one(jnp.moveaxis(k * v, 2, 0), h.T)
    y = jnp.moveaxis(y, 0, 2) + value(operator.skip) * k * v
    return (q * y) @ value(operator.out.kernel)


def test_the_operator_is_what_its_paper_says(monkeypatch):
    monkeypatch.setattr(hyena, "DIRECT", 8)
    operator = hyena.Operator(CONFIG, 16, 1.0, nnx.Rngs(0))
    # Longer than the length of the corpus, and odd.
    x_BxLxD = jax.random.normal(jax.random.key(1), (2, 19, CONFIG.width))
    assert_close(
        value_and_gradients(lambda m, x: m(x), operator, x_BxLxD),
        value_and_gradients(plain_operator, operator, x_BxLxD),
    )


def test_one_example_more_costs_what_is_stated():
    """The filters cost the same for any batch; the rest is each example's."""
    spec = Tokens(257, 150)
    config = hyena.ladder(8_000, spec)
    model = jax.eval_shape(lambda: hyena.Model(config, spec, nnx.Rngs(0)))
    goal = objective.make("next_token", spec)
    step = jax.jit(jax.value_and_grad(lambda m, x: goal.loss(m, x)))
    ids = [jax.ShapeDtypeStruct((batch, spec.length), jnp.int32) for batch in (3, 2)]
    more, fewer = (cost.flops_xla(step.lower(model, shape))[0] for shape in ids)
    assert more - fewer == pytest.approx(3 * hyena.flops(config, spec), rel=0.001)
    assert fewer > 2 * (more - fewer)


def test_shapes_are_near_the_papers_at_its_sizes():
    """Table A.4: 18 x 864 at 153 million with tables, 36 x 2048 at 1.3 billion."""
    small, large = (families.load("hyena").ladder(n, (257, 2048)) for n in (1e8, 1.2e9))
    assert 14 <= small.depth <= 24 and 700 < small.width < 1000
    assert 25 <= large.depth <= 40 and 1800 < large.width < 2400
    assert small.filter_width == large.filter_width == 64
    assert small.bands == large.bands == 16
