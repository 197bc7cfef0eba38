"""Giving a PyTorch module the weights of a model here, and comparing what both give."""

from __future__ import annotations

import os
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

# Before transformers is imported: nothing here is fetched.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch

VOCAB = 31


def stirred(module, seed=0):
    """The module with every parameter moved at random.

    So that no gain is one and no bias zero, and one left out of a mapping shows.
    """
    keys = iter(jax.random.split(jax.random.key(seed), 1_000))
    move = lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape)
    return jax.tree.map(move, module)


def tensor(array) -> torch.Tensor:
    return torch.tensor(np.asarray(array))


def give(module: torch.nn.Module, weights: Mapping[str, jax.Array]) -> None:
    """Sets every parameter of the PyTorch module; none may be missing or left over."""
    module.load_state_dict({name: tensor(x) for name, x in weights.items()})
    module.eval()


def tables(model, embedding: str, norm: str) -> dict[str, jax.Array]:
    """Weights around the blocks of a language model by their names there."""
    return {
        f"{embedding}.weight": model.embedding.table[...],
        f"{norm}.weight": model.head.norm.scale[...],
        "lm_head.weight": model.head.kernel[...].T,
    }


def shape(config) -> dict[str, object]:
    """What configurations of transformers' decoders share, of one here."""
    return {
        "vocab_size": VOCAB,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": False,
        "attn_implementation": "eager",
    }


def layers(model, feed_forward) -> dict[str, jax.Array]:
    """Weights of a Transformer's blocks by their names in transformers' decoders.

    Args:
      feed_forward: gives those of a block's feed-forward.
    """
    weights = {}
    for n, block in enumerate(model.blocks):
        layer = {
            "input_layernorm.weight": block.attention_norm.scale[...],
            "post_attention_layernorm.weight": block.mlp_norm.scale[...],
            **attention(block.attention),
            **feed_forward(block.mlp),
        }
        weights |= {f"model.layers.{n}.{name}": x for name, x in layer.items()}
    return weights


def attention(layer) -> dict[str, jax.Array]:
    """Weights of grouped-query attention; with gains where keys are normalised."""
    width, kv_heads, _ = layer.qkv.kernel.shape
    dim = layer.head_dim
    qkv = layer.qkv.kernel[...].reshape(width, kv_heads, -1, dim)
    joined = lambda kernel: kernel.reshape(width, -1).T
    gains = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
    return {
        "self_attn.q_proj.weight": joined(qkv[:, :, :-2]),
        "self_attn.k_proj.weight": joined(qkv[:, :, -2]),
        "self_attn.v_proj.weight": joined(qkv[:, :, -1]),
        "self_attn.o_proj.weight": layer.out.kernel[...].reshape(-1, width).T,
        **({name: layer.norm.scale[...] for name in gains} if layer.norm else {}),
    }


def feed_forward(layer) -> dict[str, jax.Array]:
    """Weights of a SwiGLU layer."""
    return {
        "mlp.gate_proj.weight": layer.gate_up.kernel[...][:, 0].T,
        "mlp.up_proj.weight": layer.gate_up.kernel[...][:, 1].T,
        "mlp.down_proj.weight": layer.down.kernel[...].T,
    }


def assert_close(found, wanted) -> None:
    """To 1e-4, and in parts of the array's largest entry to 1e-5."""
    wanted = wanted.detach().numpy() if isinstance(wanted, torch.Tensor) else wanted
    atol = 1e-7 + 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=atol)


def assert_same_model(model, reference: torch.nn.Module, length: int) -> None:
    """Logits are equal, and so are gradients of a fixed weighting of them.

    The gradients are those of the input table: all of the backward pass leads there.
    """
    numbers = np.random.default_rng(length)
    ids = numbers.integers(0, VOCAB, (2, length))
    weights = numbers.normal(size=(2, length, VOCAB)).astype(np.float32)

    def scalar(model):
        y = model(jnp.asarray(ids)).y
        return jnp.sum(y * weights), y

    gradients, logits = jax.jit(jax.grad(scalar, has_aux=True))(model)
    wanted = reference(torch.tensor(ids)).logits
    assert_close(logits, wanted)
    (wanted * tensor(weights)).sum().backward()
    table = reference.get_input_embeddings().weight
    assert_close(gradients.embedding.table[...], table.grad)
