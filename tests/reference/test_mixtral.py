"""The mixture of experts is Mixtral's, in a Transformer that is Qwen3-MoE's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from same_weights import (
    VOCAB,
    assert_close,
    assert_same_model,
    attention,
    give,
    stirred,
    tables,
    tensor,
)
from transformers import MixtralConfig, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.mixtral import modeling_mixtral

from scaling.families import Tokens, moe

pytestmark = pytest.mark.reference

CONFIG = moe.Config(
    2, width=24, heads=4, kv_heads=2, head_dim=8, hidden=20, experts=8, chosen=2
)


def experts(layer):
    """Weights by their names in both models."""
    gate_up_ExDx2xF = layer.gate_up[...]
    E, D, _, F = gate_up_ExDx2xF.shape
    return {
        "gate.weight": layer.router.kernel[...].T,
        "experts.gate_up_proj": gate_up_ExDx2xF.reshape(E, D, 2 * F).swapaxes(1, 2),
        "experts.down_proj": layer.down[...].swapaxes(1, 2),
    }


def test_experts_and_their_balance_are_mixtrals():
    layer = stirred(moe.Experts(CONFIG, 1.0, nnx.Rngs(0)))
    config = MixtralConfig(
        hidden_size=CONFIG.width,
        intermediate_size=CONFIG.hidden,
        num_local_experts=CONFIG.experts,
        num_experts_per_tok=CONFIG.chosen,
    )
    reference = modeling_mixtral.MixtralSparseMoeBlock(config)
    give(reference, experts(layer))
    x_BxLxD = jax.random.normal(jax.random.key(1), (1, 19, CONFIG.width))
    mixed_BxLxD, balance = jax.jit(lambda layer, x: layer(x))(layer, x_BxLxD)
    assert_close(mixed_BxLxD, reference(tensor(x_BxLxD)))
    scores = tensor(layer.router(x_BxLxD)[0])
    # It adds up the shares of first and of second choices; here their mean counts.
    summed = modeling_mixtral.load_balancing_loss_func(
        (scores,), CONFIG.experts, CONFIG.chosen
    )
    assert_close(balance, summed / CONFIG.chosen)


def reference(model):
    c = CONFIG
    config = Qwen3MoeConfig(
        vocab_size=VOCAB,
        hidden_size=c.width,
        moe_intermediate_size=c.hidden,
        num_experts=c.experts,
        num_experts_per_tok=c.chosen,
        norm_topk_prob=True,
        num_hidden_layers=c.depth,
        num_attention_heads=c.heads,
        num_key_value_heads=c.kv_heads,
        head_dim=c.head_dim,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    weights = tables(model, "model.embed_tokens", "model.norm")
    for n, block in enumerate(model.blocks):
        layer = {
            "input_layernorm.weight": block.attention_norm.scale[...],
            "post_attention_layernorm.weight": block.mlp_norm.scale[...],
            **attention(block.attention),
            **{f"mlp.{name}": x for name, x in experts(block.mlp).items()},
        }
        weights |= {f"model.layers.{n}.{name}": x for name, x in layer.items()}
    made = Qwen3MoeForCausalLM(config)
    give(made, weights)
    return made


@pytest.mark.parametrize("length", [1, 19])
def test_logits_and_gradients_are_equal(length):
    model = stirred(moe.Model(CONFIG, Tokens(VOCAB, length), nnx.Rngs(0)))
    assert_same_model(model, reference(model), length)


def test_no_choice_is_a_tie():
    """Where two experts score the same, either would be right."""
    layer = stirred(moe.Experts(CONFIG, 1.0, nnx.Rngs(0)))
    x_BxLxD = jax.random.normal(jax.random.key(1), (1, 19, CONFIG.width))
    ranked = jnp.sort(layer.router(x_BxLxD), axis=-1)
    assert (ranked[..., -2] - ranked[..., -3] > 1e-4).all()
