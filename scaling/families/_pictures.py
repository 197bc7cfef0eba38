"""What families of pictures share: conditions, norms, residual blocks, the way out.

All are conditioned in the same way: the noise level, a label and a caption become one
vector, so that an architecture is compared with nothing else changed. Nothing has a
bias but the norms.

Shapes: B pictures, H height, W width, C channels, E width of the condition, T bytes of
a caption, P patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling.families import Conditions, Images
from scaling.families._convolution import convolve
from scaling.families._layers import Dense, fan_in, param, product

float32 = jnp.float32

# Waves of the noise level, from one that never turns over all levels to one of
# about 30 turns.
WAVES = 16
LOWEST, HIGHEST = 0.5, 64.0

# Bytes, and one that fills a caption up.
BYTES, FILL = 257, 256

# Bytes on which one position of a caption depends, in each of two layers.
SPAN = 5

# Of every norm, added to the variance.
EPSILON = 1e-5


def narrow_in(inputs: Sequence[int], outputs: int, rngs: nnx.Rngs) -> nnx.Param:
    """A matrix from inputs whose number does not grow with the model's width.

    So the learning rate does not fall with it either: nothing is contracted.
    """
    axes = (*(None for _ in inputs), "embed")
    init = fan_in(math.prod(inputs))
    return param(rngs, (*inputs, outputs), axes, "matrix", init, contracted=())


def table(rows: int, width: int, rngs: nnx.Rngs) -> nnx.Param:
    """Rows of unit variance."""
    init = nnx.initializers.normal(1.0)
    return param(rngs, (rows, width), ("vocab", "embed"), "embedding", init)


# --- The condition -----------------------------------------------------------


def waves(noise_B: jax.Array) -> jax.Array:
    """Sines and cosines of ln(sigma) / 4, [B, 2 WAVES]."""
    turns = np.geomspace(LOWEST, HIGHEST, WAVES).astype(np.float32)
    angles = noise_B.astype(float32)[:, None] * turns
    return math.sqrt(2.0) * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


class Caption(nnx.Module):
    """A vector of a caption's bytes: two layers over neighbours, then their mean.

    Bytes of a word make it known wherever it stands. Padding adds nothing.
    """

    def __init__(self, width: int, outputs: int, rngs: nnx.Rngs):
        self.table = table(BYTES, width, rngs)
        around = (SPAN, width), (width,), (None, "embed", "mlp"), rngs
        self.layers = nnx.List([Dense(*around) for _ in range(2)])
        self.out = Dense((width,), (outputs,), ("mlp", "embed"), rngs)

    def __call__(self, caption_BxT: jax.Array) -> jax.Array:
        written_BxTx1 = (caption_BxT != FILL)[..., None]
        x_BxTxE = self.table[...].at[caption_BxT].get(mode="promise_in_bounds")
        for layer in self.layers:
            x_BxTxE = jnp.where(written_BxTx1, x_BxTxE, 0)
            x_BxTxE = x_BxTxE + jax.nn.silu(layer(_neighbours(x_BxTxE)))
        total_BxE = jnp.sum(jnp.where(written_BxTx1, x_BxTxE, 0), axis=1)
        length_Bx1 = jnp.maximum(jnp.sum(written_BxTx1, axis=1), 1)
        return self.out((total_BxE / length_Bx1).astype(x_BxTxE.dtype))


def _neighbours(x_BxTxE: jax.Array) -> jax.Array:
    """SPAN positions around each, [B, T, SPAN, E]; zero outside the caption."""
    length, reach = x_BxTxE.shape[1], SPAN // 2
    padded = jnp.pad(x_BxTxE, ((0, 0), (reach, reach), (0, 0)))
    return jnp.stack([padded[:, i : i + length] for i in range(SPAN)], axis=2)


class Condition(nnx.Module):
    """One vector [B, E] of the noise level, label and caption.

    A label beyond the last class is one that is withheld, and so is a caption of
    padding alone.
    """

    def __init__(self, width: int, spec: Images, rngs: nnx.Rngs):
        self.noise = narrow_in((2 * WAVES,), width, rngs)
        inner = caption_width(width)
        self.label = table(spec.labels, width, rngs) if spec.labels else None
        self.caption = Caption(inner, width, rngs) if spec.caption else None
        self.mix = Dense((width,), (width,), ("embed", "mlp"), rngs)

    def __call__(self, cond: Conditions) -> jax.Array:
        noise = self.noise[...]
        x_BxE = product(waves(cond.noise).astype(noise.dtype), noise)
        if self.label is not None:
            x_BxE = x_BxE + self.label[...].at[cond.label].get(
                mode="fill", fill_value=0.0, wrap_negative_indices=False
            )
        if self.caption is not None:
            x_BxE = x_BxE + self.caption(cond.caption)
        return jax.nn.silu(self.mix(jax.nn.silu(x_BxE)))


def caption_width(width: int) -> int:
    """Width of a caption's layers, for a vector of so many numbers."""
    return max(8, width // 2)


def condition_matrices(width: int, captions: bool) -> int:
    """Parameters of `Condition` without its tables."""
    text = 0
    if captions:
        inner = caption_width(width)
        text = 2 * SPAN * inner**2 + inner * width
    return 2 * WAVES * width + width**2 + text


def condition_flops(width: int, spec: Images) -> float:
    """Forward matrix-product FLOPs of `Condition` for one example."""
    once = condition_matrices(width, spec.caption > 0)
    again = 2 * SPAN * caption_width(width) ** 2 * max(0, spec.caption - 1)
    return 2.0 * (once + again * (spec.caption > 0))


# --- Convolutions ------------------------------------------------------------


class Convolution(nnx.Module):
    """A square kernel of an odd number of taps a side, no bias."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        axes: tuple[str | None, str | None],
        rngs: nnx.Rngs,
        taps: int = 3,
        scale: float = 1.0,
    ):
        shape, names = (taps, taps, inputs, outputs), (None, None, *axes)
        init = fan_in(taps * taps * inputs, scale)
        # The channels of a picture do not grow with the model's width.
        summed = (0, 1, 2) if axes[0] else ()
        self.kernel = param(rngs, shape, names, "matrix", init, summed)

    def __call__(self, x_IxHxWxB: jax.Array) -> jax.Array:
        return convolve(x_IxHxWxB, self.kernel[...])


def groups_of(channels: int) -> int:
    """Groups of a group norm: at most 32, and of 4 channels or more each."""
    return max(g for g in range(1, 33) if channels % g == 0 and channels >= 4 * g)


class GroupNorm(nnx.Module):
    """Group norm (Wu and He 2018, arXiv 1803.08494), in float32, of [C, H, W, B].

    Called with `scale` and `shift` [channels, B], these come on top of its own.
    """

    def __init__(self, channels: int, axis: str, rngs: nnx.Rngs):
        self.groups = groups_of(channels)
        ones, zeros = nnx.initializers.ones, nnx.initializers.zeros
        self.scale = param(rngs, (channels,), (axis,), "norm", ones)
        self.bias = param(rngs, (channels,), (axis,), "norm", zeros)

    def __call__(self, x_CxHxWxB: jax.Array, condition: Any = None) -> jax.Array:
        # By sums of each channel, and one gain and one shift for each: passes over the
        # picture that a CPU runs well, where groups amid a picture's channels are slow.
        x = x_CxHxWxB.astype(float32)
        mean = self._over_groups(jnp.mean(x, axis=(1, 2)))
        square = self._over_groups(jnp.mean(x**2, axis=(1, 2)))
        inverse_CxB = jax.lax.rsqrt(square - mean**2 + EPSILON)
        gain, shift = inverse_CxB * self.scale[...][:, None], self.bias[...][:, None]
        if condition is not None:
            scale, more = (part.astype(float32) for part in condition)
            gain, shift = gain * (1.0 + scale), shift * (1.0 + scale) + more
        shift = shift - mean * gain
        y = x * gain[:, None, None] + shift[:, None, None]
        return y.astype(x_CxHxWxB.dtype)

    def _over_groups(self, means_CxB: jax.Array) -> jax.Array:
        """Means of channels made those of their groups."""
        C, B = means_CxB.shape
        means_Gx1xB = means_CxB.reshape(self.groups, -1, B).mean(1, keepdims=True)
        wide = jnp.broadcast_to(means_Gx1xB, (self.groups, C // self.groups, B))
        return wide.reshape(C, B)


# --- Attention ---------------------------------------------------------------


def heads_of(width: int) -> int:
    """Heads whose dimension is near 64, and 8 to 32 in narrow models."""
    ideal = next((d for w, d in ((64, 8), (256, 32)) if width < w), 64)
    fits = [n for n in range(1, width + 1) if width % n == 0]
    return min(fits, key=lambda n: abs(math.log(width / n / ideal)))


class PixelAttention(nnx.Module):
    """Self-attention of all pixels or patches to all (Vaswani et al. 2017)."""

    def __init__(
        self,
        width: int,
        heads: int,
        head_dim: int,
        rngs: nnx.Rngs,
        scale: float = 1.0,
    ):
        axes = ("embed", None, "kv_heads", None)
        self.qkv = Dense((width,), (3, heads, head_dim), axes, rngs)
        rows, back = (heads, head_dim), ("kv_heads", None, "embed")
        self.out = Dense(rows, (width,), back, rngs, scale)

    def __call__(self, x_BxPxD: jax.Array) -> jax.Array:
        qkv_BxPx3xNxH = self.qkv(x_BxPxD)
        q, k, v = (qkv_BxPx3xNxH[:, :, n] for n in range(3))
        return self.out(jax.nn.dot_product_attention(q, k, v))
