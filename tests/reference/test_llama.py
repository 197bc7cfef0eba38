"""The Transformer is Qwen3's: Llama's blocks with normalised queries and keys.

Without qk_norm it is Llama's.
"""

from __future__ import annotations

import dataclasses

import pytest
from flax import nnx
from same_weights import (
    VOCAB,
    assert_same_model,
    feed_forward,
    give,
    layers,
    shape,
    stirred,
    tables,
)
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from scaling.families import Tokens, transformer

pytestmark = pytest.mark.reference

CONFIG = transformer.Config(2, width=24, heads=4, kv_heads=2, head_dim=8, hidden=36)
PLAIN = dataclasses.replace(CONFIG, qk_norm=False)
WINDOW = 7


def model_of(config, length):
    return stirred(transformer.Model(config, Tokens(VOCAB, length), nnx.Rngs(0)))


def reference(model, kind, config):
    made = kind(config)
    weights = tables(model, "model.embed_tokens", "model.norm")
    give(made, weights | layers(model, feed_forward))
    return made


# Beyond 512 positions attention goes by blocks.
@pytest.mark.parametrize("length", [1, 19, 600])
def test_it_is_qwen3s(length):
    model = model_of(CONFIG, length)
    config = Qwen3Config(**shape(CONFIG), intermediate_size=CONFIG.hidden)
    assert_same_model(model, reference(model, Qwen3ForCausalLM, config), length)


@pytest.mark.parametrize("length", [1, 19, 600])
def test_without_qk_norm_it_is_llamas(length):
    model = model_of(PLAIN, length)
    config = LlamaConfig(**shape(PLAIN), intermediate_size=PLAIN.hidden)
    assert_same_model(model, reference(model, LlamaForCausalLM, config), length)


@pytest.mark.parametrize("length", [19, 600])
def test_attention_over_a_window_is_qwen3s(length):
    """Which the RG-LRU's windowed blocks have."""
    model = model_of(CONFIG, length)
    for block in model.blocks:
        block.attention.window = WINDOW
    config = Qwen3Config(
        **shape(CONFIG),
        intermediate_size=CONFIG.hidden,
        use_sliding_window=True,
        sliding_window=WINDOW,
        layer_types=["sliding_attention"] * CONFIG.depth,
    )
    assert_same_model(model, reference(model, Qwen3ForCausalLM, config), length)
