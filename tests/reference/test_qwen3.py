"""The Transformer is Qwen3's: Llama's blocks with normalised queries and keys."""

from __future__ import annotations

import pytest
from flax import nnx
from same_weights import (
    VOCAB,
    assert_same_model,
    attention,
    feed_forward,
    give,
    stirred,
    tables,
)
from transformers import Qwen3Config, Qwen3ForCausalLM

from scaling.families import Tokens, transformer

pytestmark = pytest.mark.reference

CONFIG = transformer.Config(2, width=24, heads=4, kv_heads=2, head_dim=8, hidden=36)


def reference(model):
    c = CONFIG
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=c.width,
        intermediate_size=c.hidden,
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
            **feed_forward(block.mlp),
        }
        weights |= {f"model.layers.{n}.{name}": x for name, x in layer.items()}
    made = Qwen3ForCausalLM(config)
    give(made, weights)
    return made


# Beyond 512 positions attention goes by blocks.
@pytest.mark.parametrize("length", [1, 19, 600])
def test_logits_and_gradients_are_equal(length):
    model = stirred(transformer.Model(CONFIG, Tokens(VOCAB, length), nnx.Rngs(0)))
    assert_same_model(model, reference(model), length)
