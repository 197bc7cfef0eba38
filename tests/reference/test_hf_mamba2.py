"""Mamba-2 is the one of transformers, with one group of B and C."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from flax import nnx
from same_weights import VOCAB, assert_same_model, give, stirred, tables
from transformers import Mamba2Config, Mamba2ForCausalLM

from scaling.families import Tokens, mamba2

pytestmark = pytest.mark.reference

CONFIG = mamba2.Config(depth=2, width=16, hidden=32, head_dim=8, state=5)


def mixer(layer):
    """Weights of a mixer by their names there: z, x, B, C and steps in one product."""
    width, _, _ = layer.gate_x.kernel.shape
    rows = (layer.gate_x.kernel, layer.bc.kernel, layer.step.kernel)
    short = (layer.x_convolution, layer.bc_convolution)
    kernels = jnp.concatenate([c.kernel[...] for c in short], axis=1)
    return {
        "in_proj.weight": jnp.concatenate([k[...].reshape(width, -1).T for k in rows]),
        "conv1d.weight": kernels.T[:, None],
        "conv1d.bias": jnp.concatenate([c.bias[...] for c in short]),
        "dt_bias": layer.step_bias[...],
        "A_log": layer.log_rate[...],
        "D": layer.skip[...],
        "norm.weight": layer.norm.scale[...],
        "out_proj.weight": layer.out.kernel[...].T,
    }


def reference(model):
    c = CONFIG
    config = Mamba2Config(
        vocab_size=VOCAB,
        hidden_size=c.width,
        expand=c.hidden // c.width,
        num_heads=c.heads,
        head_dim=c.head_dim,
        state_size=c.state,
        n_groups=1,
        num_hidden_layers=c.depth,
        layer_norm_epsilon=1e-6,
        chunk_size=16,
        tie_word_embeddings=False,
    )
    weights = tables(model, "backbone.embeddings", "backbone.norm_f")
    for n, block in enumerate(model.blocks):
        layer = {
            "norm.weight": block.norm.scale[...],
            **{f"mixer.{name}": x for name, x in mixer(block.mixer).items()},
        }
        weights |= {f"backbone.layers.{n}.{name}": x for name, x in layer.items()}
    made = Mamba2ForCausalLM(config)
    give(made, weights)
    return made


@pytest.mark.parametrize("length", [1, 19, 150])
def test_logits_and_gradients_are_equal(length):
    model = stirred(mamba2.Model(CONFIG, Tokens(VOCAB, length), nnx.Rngs(0)))
    assert_same_model(model, reference(model), length)
