"""What families that cut pictures into square patches share.

A patch is a vector of its pixels; blocks work on all of them, conditioned
by adaLN-zero (Peebles and Xie 2023, arXiv 2212.09748, section 3.2): every
branch reads a layer norm without parameters of its own,

    x + gate * branch(norm(x) * (1 + scale) + shift),

with gate, scale and shift made of the condition, all zero at first.

Shapes: B pictures, P patches, D width, E width of the condition, here D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling.errors import UserError
from scaling.families import Conditions, Images, Output
from scaling.families._layers import BASE, Dense, Stack, fan_in, param, product
from scaling.families._pictures import (
    Condition,
    condition_flops,
    condition_matrices,
    narrow_in,
)


def patch_of(chosen: Mapping[str, Any], spec: Images) -> int:
    """The option `patch`: pixels of a side.

    Raises:
      UserError: it is no size, or pictures cannot be cut so.
    """
    patch = chosen["patch"]
    if isinstance(patch, bool) or not isinstance(patch, int) or patch < 1:
        raise UserError("model.options.patch", patch, "give 1 or more pixels of a side")
    if spec.height % patch or spec.width % patch:
        raise UserError(
            "model.options.patch",
            patch,
            f"pictures of {spec.height} x {spec.width} pixels cannot be cut into "
            f"squares of {patch} x {patch}; give a patch, or a corpus, where the one "
            "divides height and width of the other",
        )
    return patch


def count(spec: Images, patch: int) -> int:
    """Patches of a picture."""
    return spec.height * spec.width // patch**2


def around_matrices(width: int, pixels: int, captions: bool) -> int:
    """Parameters of a PatchModel without its blocks, for patches of `pixels` values."""
    return condition_matrices(width, captions) + 2 * pixels * width + 2 * width**2


def around_flops(width: int, pixels: int, patches: int, spec: Images) -> float:
    """Forward matrix-product FLOPs of a PatchModel without its blocks."""
    once = 2.0 * (2 * patches * pixels * width + 2 * width**2)
    return once + condition_flops(width, spec)


def cut(x_BxHxWxC: jax.Array, patch: int) -> jax.Array:
    """Patches in raster order, the values of each in raster order, [B, P, values]."""
    B, H, W, C = x_BxHxWxC.shape
    tiles = x_BxHxWxC.reshape(B, H // patch, patch, W // patch, patch, C)
    return tiles.swapaxes(2, 3).reshape(B, -1, patch * patch * C)


def joined(x_BxPxV: jax.Array, shape: Sequence[int], patch: int) -> jax.Array:
    """The inverse of `cut`, for a picture of the shape [H, W, C]."""
    H, W, C = shape
    tiles = x_BxPxV.reshape(-1, H // patch, W // patch, patch, patch, C)
    return tiles.swapaxes(2, 3).reshape(-1, H, W, C)


def places(rows: int, columns: int, width: int) -> np.ndarray:
    """Fixed vectors of where patches stand, [P, D]: waves of the row and the column.

    As in Vaswani et al. 2017, section 3.5, a quarter of the width for each of sine and
    cosine of each; what does not divide stays zero.
    """
    turns = 10_000.0 ** -(np.arange(width // 4) / max(1, width // 4))
    row, column = np.divmod(np.arange(rows * columns), columns)
    angles = np.stack([row, column], axis=1)[..., None] * turns
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    found = np.zeros((rows * columns, width), np.float32)
    found[:, : 4 * (width // 4)] = waves.reshape(rows * columns, -1)
    return found


def layer_norm(x: jax.Array) -> jax.Array:
    """Layer norm (Ba et al. 2016, eq. 4) without parameters, in float32."""
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + 1e-6)).astype(x.dtype)


class Modulation(nnx.Module):
    """So many vectors made of the condition, each [B, 1, D]; zero at first."""

    def __init__(self, vectors: int, width: int, rngs: nnx.Rngs):
        axes = ("embed", None, "embed")
        self.condition = Dense((width,), (vectors, width), axes, rngs, scale=0.0)

    def __call__(self, cond_BxE: jax.Array) -> list[jax.Array]:
        vectors = self.condition(cond_BxE)
        return [vectors[:, n, None] for n in range(vectors.shape[1])]


class FeedForward(nnx.Module):
    """gelu(x W) U, patch by patch."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs):
        self.up = Dense((width,), (hidden,), ("embed", "mlp"), rngs)
        self.down = Dense((hidden,), (width,), ("mlp", "embed"), rngs)

    def __call__(self, x_BxPxD: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x_BxPxD), approximate=True))


class Block(nnx.Module):
    """A branch that mixes patches, then a feed-forward one; x = patches, condition."""

    def __init__(
        self,
        width: int,
        hidden: int,
        mixing: Callable[[nnx.Rngs], nnx.Module],
        rngs: nnx.Rngs,
    ):
        self.modulation = Modulation(6, width, rngs)
        self.mixing = mixing(rngs)
        self.mlp = FeedForward(width, hidden, rngs)

    def __call__(self, x: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x_BxPxD, cond_BxE = x
        vectors = self.modulation(cond_BxE)
        for branch, own in ((self.mixing, vectors[:3]), (self.mlp, vectors[3:])):
            shift, scale, gate = own
            read = layer_norm(x_BxPxD) * (1 + scale) + shift
            x_BxPxD = x_BxPxD + gate * branch(read)
        return x_BxPxD, cond_BxE


class Head(nnx.Module):
    """Norm, conditioned, and a product to the values of a patch, in float32.

    Starts small, and falls with the width and not its root, as a text family's does.
    """

    def __init__(self, width: int, pixels: int, rngs: nnx.Rngs):
        self.modulation = Modulation(2, width, rngs)
        init = fan_in(width, scale=0.1 * math.sqrt(BASE / width))
        axes = ("embed", None)
        self.kernel = param(rngs, (width, pixels), axes, "matrix", init)

    def __call__(self, x_BxPxD: jax.Array, cond_BxE: jax.Array) -> jax.Array:
        shift, scale = self.modulation(cond_BxE)
        read = layer_norm(x_BxPxD) * (1 + scale) + shift
        return product(read, self.kernel[...]).astype(jnp.float32)


class PatchModel(nnx.Module):
    """Patches, blocks applied in turn, head.

    Args:
      blocks: a generator, which makes them after what comes before them.
      placed: whether the position of a patch is added to it.
    """

    def __init__(
        self,
        width: int,
        patch: int,
        spec: Images,
        rngs: nnx.Rngs,
        blocks: Iterable[nnx.Module],
        placed: bool,
    ):
        self.patch, self.placed = patch, placed
        pixels = patch * patch * spec.channels
        self.condition = Condition(width, spec, rngs)
        self.into = narrow_in((pixels,), width, rngs)
        self.blocks = Stack(blocks)
        self.head = Head(width, pixels, rngs)

    def __call__(self, x: jax.Array, cond: Conditions) -> Output:
        cond_BxE, (_, *shape) = self.condition(cond), x.shape
        h_BxPxD = product(cut(x, self.patch).astype(cond_BxE.dtype), self.into[...])
        if self.placed:
            rows, columns = shape[0] // self.patch, shape[1] // self.patch
            where = places(rows, columns, h_BxPxD.shape[-1])
            h_BxPxD = h_BxPxD + where.astype(h_BxPxD.dtype)
        h_BxPxD, _ = self.blocks((h_BxPxD, cond_BxE))
        y_BxPxV = self.head(h_BxPxD, cond_BxE)
        return Output(joined(y_BxPxV, shape, self.patch), {})
