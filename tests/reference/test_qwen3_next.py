"""Gated DeltaNet's layer is that of Qwen3-Next."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from same_weights import assert_close, give, stirred, tensor
from transformers import Qwen3NextConfig
from transformers.models.qwen3_next import modeling_qwen3_next

from scaling.families import gated_deltanet

pytestmark = pytest.mark.reference

CONFIG = gated_deltanet.Config(depth=1, width=24, heads=3, head_dim=8, hidden=32)


def by_kind(kernel_TxC, heads, dim):
    """Channels head by head (query, key, values) -> all queries, all keys, all values.

    Returns [C, T].
    """
    kernel_TxKxNxE = kernel_TxC.reshape(-1, heads, 2 + gated_deltanet.GROUP, dim)
    kinds = jnp.split(kernel_TxKxNxE, [1, 2], axis=2)
    taps = kernel_TxC.shape[0]
    return jnp.concatenate([kind.reshape(taps, -1) for kind in kinds], axis=1).T


def reference(layer):
    c, width = CONFIG, CONFIG.width
    config = Qwen3NextConfig(
        hidden_size=width,
        linear_num_key_heads=c.heads,
        linear_num_value_heads=c.heads * gated_deltanet.GROUP,
        linear_key_head_dim=c.head_dim,
        linear_value_head_dim=c.head_dim,
        linear_conv_kernel_dim=gated_deltanet.TAPS,
        num_hidden_layers=4,
        rms_norm_eps=1e-6,
    )
    made = modeling_qwen3_next.Qwen3NextGatedDeltaNet(config, layer_idx=0)
    kernel = layer.convolution.kernel[...]
    weights = {
        "in_proj_qkvz.weight": layer.qkvz.kernel[...].reshape(width, -1).T,
        "in_proj_ba.weight": layer.gates.kernel[...].reshape(width, -1).T,
        "conv1d.weight": by_kind(kernel, c.heads, c.head_dim)[:, None],
        "A_log": layer.log_rate[...].reshape(-1),
        "dt_bias": layer.step_bias[...].reshape(-1),
        "norm.weight": layer.norm.scale[...],
        "out_proj.weight": layer.out.kernel[...].reshape(-1, width).T,
    }
    give(made, weights)
    return made


@pytest.mark.parametrize("length", [1, 19, 150])
def test_outputs_and_gradients_are_equal(length):
    layer = stirred(gated_deltanet.GatedDelta(CONFIG, nnx.Rngs(0)))
    numbers = np.random.default_rng(length)
    x_BxLxD, weighting = (
        numbers.normal(size=(2, length, CONFIG.width)).astype(np.float32)
        for _ in range(2)
    )

    def scalar(x_BxLxD):
        y = layer(x_BxLxD)
        return jnp.sum(y * weighting), y

    of_x, y_BxLxD = jax.jit(jax.grad(scalar, has_aux=True))(jnp.asarray(x_BxLxD))
    wanted_x = tensor(x_BxLxD).requires_grad_()
    wanted = reference(layer)(wanted_x)
    assert_close(y_BxLxD, wanted)
    (wanted * tensor(weighting)).sum().backward()
    assert_close(of_x, wanted_x.grad)
