"""Layers that families share, and parameters with the labels that rules read."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.layout import Layout, Remat

Init = Callable[..., jax.Array]

# Dimension names a family may use; scaling/training/mesh.py maps them to mesh axes.
#   embed: the residual stream, and what a norm reads. mlp: hidden units of a
#   feed-forward, recurrent or convolution layer. kv_heads: key-value heads, each with
#   its queries. state: hidden units as the next step reads them. vocab: the
#   vocabulary. None: never sharded.
# What a layer computes side by side (gate and up, query and key and value) shares one
# matrix, laid out so that a shard of its named dimension holds whole units: splitting
# the product then moves nothing between devices.
Axes = tuple[str | None, ...]

# The width that a study's learning rate is stated for: a layer of so many inputs takes
# it as it is. scaling/optim.py has the rule that carries it to other widths.
BASE = 64


def param(
    rngs: nnx.Rngs,
    shape: tuple[int, ...],
    axes: Axes,
    group: str,
    init: Init,
    contracted: tuple[int, ...] | None = None,
) -> nnx.Param:
    """A float32 parameter labelled with its group and the names of its dimensions.

    Args:
      contracted: the dimensions that an output sums over and that grow with the model's
        width, so that the learning rate falls. By default the first of a "matrix" and
        none of others. What is before them counts separate matrices.
    """
    assert len(shape) == len(axes), (shape, axes)
    if contracted is None:
        contracted = (0,) if group == "matrix" else ()
    value = init(rngs.params(), shape, jnp.float32)
    return nnx.Param(value, group=group, axes=axes, contracted=contracted)


def fan_in(inputs: int, scale: float = 1.0) -> Init:
    """Normal with standard deviation scale / sqrt(inputs)."""
    return nnx.initializers.normal(scale / math.sqrt(inputs))


def product(x: jax.Array, kernel: jax.Array, contracted: int = 1) -> jax.Array:
    """x W over the last `contracted` dimensions of x and the first of W.

    x is [..., *inputs], W [*inputs, *outputs]. Where a run is on one CPU device, the
    gradients are written out.
    """
    if on_one_cpu():
        return _product(x, kernel, contracted)
    return jnp.tensordot(x, kernel, axes=contracted)


# What XLA makes of the plain product's gradient on a CPU: a transpose of the larger
# operand, into which all that leads there is fused, computed again and stride by
# stride. Barriers have operands computed once; of two, the smaller is transposed.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: jax.Array, kernel: jax.Array, contracted: int) -> jax.Array:
    return jnp.tensordot(x, kernel, axes=contracted)


def _product_forward(x: jax.Array, kernel: jax.Array, contracted: int) -> Any:
    x = jax.lax.optimization_barrier(x)
    return jnp.tensordot(x, kernel, axes=contracted), (x, kernel)


def _product_backward(contracted: int, saved: Any, d_y: jax.Array) -> Any:
    x, kernel = saved
    d_y = jax.lax.optimization_barrier(d_y)
    outputs = tuple(range(-(kernel.ndim - contracted), 0))
    d_x = jnp.tensordot(d_y, kernel, axes=(outputs, outputs))
    leading = tuple(range(x.ndim - contracted))
    inputs = math.prod(kernel.shape[:contracted])
    if inputs**2 <= kernel.size:
        d_kernel = jnp.tensordot(x, d_y, axes=(leading, leading))
    else:
        d_kernel = jnp.tensordot(d_y, x, axes=(leading, leading))
        d_kernel = jnp.moveaxis(d_kernel, range(-contracted, 0), range(contracted))
    return d_x.astype(x.dtype), d_kernel.astype(kernel.dtype)


_product.defvjp(_product_forward, _product_backward)


class Dense(nnx.Module):
    """y = x W, no bias; x is [..., *inputs], W [*inputs, *outputs], y [..., *outputs].

    Where several outputs are given, the first dimensions count what is computed side
    by side: `Dense((d,), (2, f), ...)` is gate and up in one product.
    """

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        axes: Axes,
        rngs: nnx.Rngs,
        scale: float = 1.0,
    ):
        self.contracted = len(inputs)
        init = fan_in(math.prod(inputs), scale)
        shape, summed = (*inputs, *outputs), tuple(range(len(inputs)))
        self.kernel = param(rngs, shape, axes, "matrix", init, summed)

    def __call__(self, x: jax.Array) -> jax.Array:
        return product(x, self.kernel[...], self.contracted)


class RMSNorm(nnx.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019, eq. 4), computed in float32."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        ones = nnx.initializers.ones
        self.scale = param(rngs, (width,), ("embed",), "norm", ones)

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        inverse = jax.lax.rsqrt(jnp.mean(x32**2, axis=-1, keepdims=True) + 1e-6)
        return (x32 * inverse * self.scale[...]).astype(x.dtype)


class Embedding(nnx.Module):
    """Token table [vocab, width], rows of unit variance."""

    def __init__(self, vocab: int, width: int, rngs: nnx.Rngs):
        init = nnx.initializers.normal(1.0)
        axes = ("vocab", "embed")
        self.table = param(rngs, (vocab, width), axes, "embedding", init)

    def __call__(self, x_BxL: jax.Array) -> jax.Array:
        # The stream is checked where it is made; a bounds check here costs every step.
        return self.table[...].at[x_BxL].get(mode="promise_in_bounds")


class Head(nnx.Module):
    """Final norm and untied output head; logits in float32.

    The head starts small, so that a run's first loss is ln(vocab) for every family, and
    falls with the width and not its root, as the width rule has it (scaling/optim.py).
    """

    def __init__(self, width: int, vocab: int, rngs: nnx.Rngs):
        self.norm = RMSNorm(width, rngs)
        axes = ("embed", "vocab")
        init = fan_in(width, scale=0.1 * math.sqrt(BASE / width))
        self.kernel = param(rngs, (width, vocab), axes, "embedding", init, (0,))

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        logits = product(self.norm(x_BxLxD), self.kernel[...])
        return logits.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Tracing:
    """How models are traced; what they compute does not depend on it.

    layout: chooses loops, rematerialisation and kernels. gather: makes the parameters
    in a tree whole, on devices that keep a shard each.
    """

    layout: Layout
    gather: Callable[[Any], Any]


_PLAIN = Tracing(Layout(), gather=lambda tree: tree)
_tracing = contextvars.ContextVar("tracing", default=_PLAIN)


@contextlib.contextmanager
def tracing(how: Tracing) -> Iterator[None]:
    """Has the models that are called within it traced so.

    A context and no argument, so that a family is written as if for one device.
    """
    token = _tracing.set(how)
    try:
        yield
    finally:
        _tracing.reset(token)


def layout() -> Layout:
    """The layout that models are traced for."""
    return _tracing.get().layout


def on_one_cpu() -> bool:
    """Whether a run is not shared by devices and its device is a CPU."""
    chosen = layout()
    return chosen.platform == "cpu" and chosen.data == chosen.model == 1


def gathered(module: Any) -> Any:
    """The module with its parameters made whole, but for those inside a Stack.

    A Stack does that itself, block after block, so that no two blocks are whole at once
    where the backward pass computes them again.
    """
    gather = _tracing.get().gather
    return jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, Stack) else gather(leaf),
        module,
        is_leaf=lambda leaf: isinstance(leaf, Stack | nnx.Variable),
    )


class Stack(nnx.List):
    """Blocks that are applied in turn: x = block(x), with x any pytree of arrays.

    Parameters are kept block by block, so that train state and checkpoints are the
    same under every layout. The layout chooses when the stack is traced: unrolled, or
    as one scan over the stacked parameters of blocks that are alike; and what the
    backward pass of a block computes again (Chen et al. 2016, arXiv 1604.06174).
    """

    def __call__(self, x: Any) -> Any:
        chosen, blocks = layout(), list(self)
        repeats, period = _alike(blocks) if chosen.scan_layers else (1, 0)
        if repeats > 1:
            apply = _rematerialised(chosen.remat, in_scan=True)
            rows = [blocks[i * period : (i + 1) * period] for i in range(repeats)]
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
            x, _ = jax.lax.scan(
                lambda x, row: (functools.reduce(apply, row, x), None), x, stacked
            )
            blocks = blocks[repeats * period :]
        apply = _rematerialised(chosen.remat, in_scan=False)
        return functools.reduce(apply, blocks, x)


def depth(model: Any) -> int:
    """How often like blocks repeat in a Stack of the model: turns of a loop over them.

    0 where there is no Stack. The model may be abstract.
    """
    is_stack = lambda leaf: isinstance(leaf, Stack)
    leaves = jax.tree.leaves(model, is_leaf=is_stack)
    return max((_alike(list(s))[0] for s in leaves if is_stack(s)), default=0)


def _alike(blocks: Sequence[Any]) -> tuple[int, int]:
    """(n // p, p): p is the least for which block i is like block i + p throughout.

    Like: the same modules and shapes, whatever the values.
    """
    kinds = [
        (jax.tree.structure(b), [(x.shape, x.dtype) for x in jax.tree.leaves(b)])
        for b in blocks
    ]
    n = len(blocks)
    # A stack without blocks has no period.
    period = next((p for p in range(1, n + 1) if kinds[p:] == kinds[: n - p]), 1)
    return n // period, period


def _rematerialised(remat: Remat, in_scan: bool) -> Callable[[Any, Any], Any]:
    """(x, block) -> block(x), keeping for the backward pass what `remat` says."""
    # A fresh function each time: JAX keeps the trace of one it has seen before, which
    # may have been made under another layout.
    apply = lambda x, block: gathered(block)(x)
    if remat == "none":
        return apply
    policies = jax.checkpoint_policies
    keep = {
        "dots": policies.dots_with_no_batch_dims_saveable,
        "full": policies.nothing_saveable,
    }
    return jax.checkpoint(apply, policy=keep[remat], prevent_cse=not in_scan)


def count(model: Any) -> tuple[int, int]:
    """(all parameters, those of embedding tables and heads) of an abstract model."""
    leaves = jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, nnx.Variable))
    embedding = (x.size for x in leaves if x.get_metadata("group") == "embedding")
    return sum(leaf.size for leaf in leaves), sum(embedding)
