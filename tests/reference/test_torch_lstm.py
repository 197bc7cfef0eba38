"""The LSTM layer is torch.nn.LSTM, forwards and backwards."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from same_weights import assert_close, give, stirred, tensor

from scaling.families import lstm

pytestmark = pytest.mark.reference

CONFIG = lstm.Config(depth=1, width=12, hidden=20)

# Gates there come as input, forget, candidate, output.
ORDER = np.array([0, 1, 3, 2])


def stacked(kernel):
    """[inputs, 4, H] -> [4 H, inputs] in the order of gates there."""
    return kernel[:, ORDER].reshape(kernel.shape[0], -1).T


@pytest.mark.parametrize("length", [1, 19])
def test_outputs_and_gradients_are_equal(length):
    layer = stirred(lstm.LSTM(CONFIG, nnx.Rngs(0)))
    bias = layer.bias[...][ORDER].reshape(-1)
    reference = torch.nn.LSTM(CONFIG.width, CONFIG.hidden)
    weights = {
        "weight_ih_l0": stacked(layer.input.kernel[...]),
        "weight_hh_l0": stacked(layer.recurrent[...]),
        "bias_ih_l0": bias,
        "bias_hh_l0": jnp.zeros_like(bias),
    }
    give(reference, weights)
    numbers = np.random.default_rng(0)
    x_LxBxD, weighting = (
        numbers.normal(size=(length, 3, CONFIG.width)).astype(np.float32)
        for _ in range(2)
    )

    def scalar(layer, x_LxBxD):
        y = layer(x_LxBxD)
        return jnp.sum(y * weighting), y

    (of_layer, of_x), y_LxBxD = jax.jit(jax.grad(scalar, (0, 1), has_aux=True))(
        layer, jnp.asarray(x_LxBxD)
    )
    wanted_x = tensor(x_LxBxD).requires_grad_()
    wanted = reference(wanted_x)[0] @ tensor(layer.out.kernel[...])
    assert_close(y_LxBxD, wanted)
    (wanted * tensor(weighting)).sum().backward()
    assert_close(of_x, wanted_x.grad)
    assert_close(stacked(of_layer.input.kernel[...]), reference.weight_ih_l0.grad)
    assert_close(of_layer.bias[...][ORDER].reshape(-1), reference.bias_ih_l0.grad)
    if length > 1:
        assert_close(stacked(of_layer.recurrent[...]), reference.weight_hh_l0.grad)
