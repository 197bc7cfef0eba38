"""The RG-LRU's residual block is that of RecurrentGemma, Griffin's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from same_weights import assert_close, give, stirred, tensor
from transformers import RecurrentGemmaConfig
from transformers.models.recurrent_gemma import modeling_recurrent_gemma

from scaling.families import rglru

pytestmark = pytest.mark.reference

CONFIG = rglru.Config(
    depth=3, width=24, units=32, blocks=4, hidden=36, heads=4, head_dim=8
)


def temporal(layer):
    """Weights of the recurrent layer; its projections have biases there, zero here."""
    width, units = CONFIG.width, CONFIG.units
    kernel, gates = layer.gate_x.kernel[...], layer.gates[...]
    biases = layer.gate_bias[...].reshape(2, CONFIG.blocks, -1)
    return {
        "linear_y.weight": kernel[:, 0].T,
        "linear_y.bias": jnp.zeros(units),
        "linear_x.weight": kernel[:, 1].T,
        "linear_x.bias": jnp.zeros(units),
        "conv_1d.weight": layer.convolution.kernel[...].T[:, None],
        "conv_1d.bias": layer.convolution.bias[...],
        "rg_lru.recurrent_param": layer.rate[...],
        "rg_lru.input_gate_weight": gates[:, :, 0],
        "rg_lru.input_gate_bias": biases[0],
        "rg_lru.recurrent_gate_weight": gates[:, :, 1],
        "rg_lru.recurrent_gate_bias": biases[1],
        "linear_out.weight": layer.out.kernel[...].T,
        "linear_out.bias": jnp.zeros(width),
    }


def reference(block):
    c = CONFIG
    config = RecurrentGemmaConfig(
        hidden_size=c.width,
        lru_width=c.units,
        num_attention_heads=c.blocks,
        intermediate_size=2 * c.hidden,
        conv1d_width=rglru.TAPS,
        num_hidden_layers=c.depth,
        rms_norm_eps=1e-6,
    )
    weights = {
        # Gains there are what is added to one.
        "temporal_pre_norm.weight": block.temporal_norm.scale[...] - 1.0,
        "channel_pre_norm.weight": block.mlp_norm.scale[...] - 1.0,
        **{f"temporal_block.{name}": x for name, x in temporal(block.temporal).items()},
        "mlp_block.gate_proj.weight": block.mlp.gate_up.kernel[...][:, 0].T,
        "mlp_block.gate_proj.bias": jnp.zeros(c.hidden),
        "mlp_block.up_proj.weight": block.mlp.gate_up.kernel[...][:, 1].T,
        "mlp_block.up_proj.bias": jnp.zeros(c.hidden),
        "mlp_block.down_proj.weight": block.mlp.down.kernel[...].T,
        "mlp_block.down_proj.bias": jnp.zeros(c.width),
    }
    made = modeling_recurrent_gemma.RecurrentGemmaDecoderLayer(config, layer_idx=0)
    give(made, weights)
    return made


@pytest.mark.parametrize("length", [1, 19, 75])
def test_outputs_and_gradients_are_equal(length):
    block = stirred(rglru.Block(CONFIG, False, nnx.Rngs(0)))
    numbers = np.random.default_rng(length)
    x_BxLxD, weighting = (
        numbers.normal(size=(2, length, CONFIG.width)).astype(np.float32)
        for _ in range(2)
    )

    def scalar(x_BxLxD):
        y = block(x_BxLxD)
        return jnp.sum(y * weighting), y

    of_x, y_BxLxD = jax.jit(jax.grad(scalar, has_aux=True))(jnp.asarray(x_BxLxD))
    wanted_x = tensor(x_BxLxD).requires_grad_()
    positions = torch.arange(length)[None]
    wanted = reference(block)(wanted_x, positions, None, use_cache=False)
    assert_close(y_BxLxD, wanted)
    (wanted * tensor(weighting)).sum().backward()
    assert_close(of_x, wanted_x.grad)
