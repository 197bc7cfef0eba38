"""The mixture of experts is Mixtral's; the whole model is, without qk_norm."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from same_weights import (
    VOCAB,
    assert_close,
    assert_same_model,
    give,
    layers,
    shape,
    stirred,
    tables,
    tensor,
)
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral import modeling_mixtral

from scaling.families import Tokens, moe

pytestmark = pytest.mark.reference

CONFIG = moe.Config(
    2, width=24, heads=4, kv_heads=2, head_dim=8, hidden=20, experts=8, chosen=2
)


REFERENCE = MixtralConfig(
    **shape(CONFIG),
    intermediate_size=CONFIG.hidden,
    num_local_experts=CONFIG.experts,
    num_experts_per_tok=CONFIG.chosen,
)


def experts(layer):
    """Weights of a layer by their names there."""
    gate_up_ExDx2xF = layer.gate_up[...]
    E, D, _, F = gate_up_ExDx2xF.shape
    return {
        "gate.weight": layer.router.kernel[...].T,
        "experts.gate_up_proj": gate_up_ExDx2xF.reshape(E, D, 2 * F).swapaxes(1, 2),
        "experts.down_proj": layer.down[...].swapaxes(1, 2),
    }


def test_experts_and_their_balance_are_mixtrals():
    layer = stirred(moe.Experts(CONFIG, 1.0, nnx.Rngs(0)))
    reference = modeling_mixtral.MixtralSparseMoeBlock(REFERENCE)
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


@pytest.mark.parametrize("length", [1, 19])
def test_without_qk_norm_the_model_is_mixtral(length):
    config = dataclasses.replace(CONFIG, qk_norm=False)
    model = stirred(moe.Model(config, Tokens(VOCAB, length), nnx.Rngs(0)))
    mlp = lambda layer: {f"mlp.{name}": x for name, x in experts(layer).items()}
    reference = MixtralForCausalLM(REFERENCE)
    give(
        reference,
        tables(model, "model.embed_tokens", "model.norm") | layers(model, mlp),
    )
    assert_same_model(model, reference, length)


def test_no_choice_is_a_tie():
    """Where two experts score the same, either would be right."""
    layer = stirred(moe.Experts(CONFIG, 1.0, nnx.Rngs(0)))
    x_BxLxD = jax.random.normal(jax.random.key(1), (1, 19, CONFIG.width))
    ranked = jnp.sort(layer.router(x_BxLxD), axis=-1)
    assert (ranked[..., -2] - ranked[..., -3] > 1e-4).all()
