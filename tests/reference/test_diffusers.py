"""Blocks of pictures are diffusers': DiT's, the U-Net's residual and attention blocks.

Blocks here have no biases beside their norms'; diffusers' are zero.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from flax import nnx
from same_weights import assert_close, stirred, tensor

from scaling.families import _layers, _patches, unet
from scaling.families._pictures import PixelAttention, groups_of
from scaling.layout import Layout

pytestmark = pytest.mark.reference

CONFIG = unet.Config(1, 16, 24, levels=2, attention=True, channels=1, captions=False)


def give(module, weights):
    """Sets what is named; the rest are biases, and zero."""
    state = {name: torch.zeros_like(x) for name, x in module.state_dict().items()}
    left = {name for name in state if name not in weights}
    assert all(name.endswith("bias") for name in left), left
    module.load_state_dict(state | {name: tensor(x) for name, x in weights.items()})
    module.eval()


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pictures_first(x):
    """[channels, height, width, pictures] as theirs has it."""
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 0).copy(), requires_grad=True)


def pictures_last(y):
    return np.moveaxis(y, 0, -1)


def assert_same(block, x, condition, reference, read, written):
    """Outputs are equal, and so are gradients of a weighting of them by the input.

    Args:
      read: from an array of ours to one of theirs.
      written: the reverse.
    """
    weights = draw(*block((x, condition))[0].shape, seed=9)

    def scalar(x):
        y, _ = block((x, condition))
        return jnp.sum(y * weights), y

    gradient, y = jax.jit(jax.grad(scalar, has_aux=True))(jnp.asarray(x))
    theirs = read(x)
    wanted = reference(theirs)
    assert_close(y, written(wanted.detach().numpy()))
    (wanted * read(weights).detach()).sum().backward()
    assert_close(gradient, written(theirs.grad.numpy()))


class Told(torch.nn.Module):
    """Stands where diffusers makes a vector of noise and label itself."""

    def forward(self, timestep, class_labels, hidden_dtype=None):
        return timestep


def test_it_is_dits_block():
    width, heads, hidden = 24, 3, 40
    attention = functools.partial(PixelAttention, width, heads, width // heads)
    block = stirred(_patches.Block(width, hidden, attention, nnx.Rngs(0)))
    reference = BasicTransformerBlock(
        width,
        heads,
        width // heads,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1,
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        norm_type="ada_norm_zero",
        ff_inner_dim=hidden,
    )
    reference.norm1.emb = Told()
    qkv = block.mixing.qkv.kernel[...].reshape(width, 3, width)
    weights = {
        "norm1.linear.weight": block.modulation.condition.kernel[...]
        .reshape(width, -1)
        .T,
        "attn1.to_q.weight": qkv[:, 0].T,
        "attn1.to_k.weight": qkv[:, 1].T,
        "attn1.to_v.weight": qkv[:, 2].T,
        "attn1.to_out.0.weight": block.mixing.out.kernel[...].reshape(width, width).T,
        "ff.net.0.proj.weight": block.mlp.up.kernel[...].T,
        "ff.net.2.weight": block.mlp.down.kernel[...].T,
    }
    give(reference, weights)
    condition = draw(2, width, seed=1)  # theirs applies SiLU to it, ours has it applied
    call = functools.partial(reference, timestep=torch.tensor(condition))
    read = lambda x: torch.tensor(np.asarray(x), requires_grad=True)
    activated = jax.nn.silu(jnp.asarray(condition))
    assert_same(block, draw(2, 9, width), activated, call, read, lambda y: y)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("inputs", [16, 40])
def test_it_is_the_residual_block(inputs, platform):
    """As ADM's and Stable Diffusion's U-Nets have it, with scale and shift.

    With a convolution as products and as XLA's own.
    """
    outputs = 16
    shape = unet.Shape(0, inputs, outputs, outputs)
    block = stirred(unet.Block(CONFIG, shape, nnx.Rngs(0)))
    reference = ResnetBlock2D(
        in_channels=inputs,
        out_channels=outputs,
        temb_channels=CONFIG.condition,
        groups=groups_of(inputs),
        groups_out=groups_of(outputs),
        eps=1e-5,
        time_embedding_norm="scale_shift",
        skip_time_act=True,
    )
    taps = lambda convolution: convolution.kernel[...].transpose(3, 2, 0, 1)
    weights = {
        "norm1.weight": block.norm.scale[...],
        "norm1.bias": block.norm.bias[...],
        "conv1.weight": taps(block.into),
        "time_emb_proj.weight": block.condition.kernel[...]
        .reshape(CONFIG.condition, -1)
        .T,
        "norm2.weight": block.condition_norm.scale[...],
        "norm2.bias": block.condition_norm.bias[...],
        "conv2.weight": taps(block.out),
    }
    if block.skip:
        weights["conv_shortcut.weight"] = block.skip.kernel[...].T[..., None, None]
    give(reference, weights)
    condition = draw(2, CONFIG.condition, seed=1)
    call = lambda x: reference(x, torch.tensor(condition))
    with _layers.tracing(_layers.Tracing(Layout(platform), lambda tree: tree)):
        x = draw(inputs, 6, 4, 2)
        assert_same(block, x, condition, call, pictures_first, pictures_last)


def test_it_is_the_attention_block():
    width = 32
    block = stirred(unet.Attention(width, nnx.Rngs(0)))
    heads = block.attention.qkv.kernel.shape[2]
    reference = Attention(
        query_dim=width,
        heads=heads,
        dim_head=width // heads,
        norm_num_groups=groups_of(width),
        eps=1e-5,
        bias=False,
        residual_connection=True,
    )
    qkv = block.attention.qkv.kernel[...].reshape(width, 3, width)
    out = block.attention.out.kernel[...].reshape(width, width)
    weights = {
        "group_norm.weight": block.norm.scale[...],
        "group_norm.bias": block.norm.bias[...],
        "to_q.weight": qkv[:, 0].T,
        "to_k.weight": qkv[:, 1].T,
        "to_v.weight": qkv[:, 2].T,
        "to_out.0.weight": out.T,
    }
    give(reference, weights)
    x = draw(width, 4, 3, 2)
    assert_same(block, x, None, reference, pictures_first, pictures_last)
