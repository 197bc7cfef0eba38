"""Residual LSTM language model (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

Pre-norm residual blocks around an LSTM layer with forget gates, whose bias starts at 1
(Jozefowicz et al. 2015). The input's share of the gates is one product over the whole
sequence, made before the recurrence; so is the output's. Only h W_r is left inside.

Shapes: L length, B batch, D width, H hidden units. Time comes first inside the model,
so that no step of the scan transposes.

No options.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.families import Output, Tokens
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._layers import Dense, RMSNorm, fan_in, param

OBJECTIVES = ("next_token",)


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family."""

    depth: int
    width: int
    hidden: int


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Hidden units are near the width. Depth grows with the square root of width at half
    the Transformer's pace (1 or 2 layers at 8 thousand parameters, 3 at a million, 12
    at a billion): a layer is a second dimension already, time, that gradients pass.
    """
    options("lstm", given, {})
    return _members(spec, by).at(target)


@functools.cache
def _members(spec: Tokens, by: str) -> Ladder[Config]:
    return Ladder(_candidates(), measure(by, spec, params, flops), _strain)


def _candidates() -> Iterator[Config]:
    for width in widths():
        ideal = _ideal_depth(width)
        depths = range(max(1, math.floor(ideal * 0.6)), math.ceil(ideal * 1.5) + 1)
        for depth in depths:
            for hidden in hiddens(width, 0.66, 2.0):
                yield Config(depth, width, hidden)


def _ideal_depth(width: int) -> float:
    return max(1.0, 0.25 * math.sqrt(width))


def _strain(config: Config) -> float:
    depth = away(config.depth, _ideal_depth(config.width))
    return depth + away(config.hidden, config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c = config
    return c.depth * (_matrices(c) + 4 * c.hidden + c.width) + c.width


def _matrices(c: Config) -> int:
    return c.hidden * (4 * c.width + 4 * c.hidden + c.width)


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example."""
    c = config
    return 2.0 * spec.length * (c.depth * _matrices(c) + c.width * spec.vocab)


class LSTM(nnx.Module):
    """One layer; gates in the order input, forget, output, candidate."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        D, H = config.width, config.hidden
        self.input = Dense((D,), (4, H), ("embed", None, "mlp"), rngs)
        axes = ("state", None, "mlp")
        self.recurrent = param(rngs, (H, 4, H), axes, "recurrence", fan_in(H), (0,))
        self.bias = param(rngs, (4, H), (None, "mlp"), "norm", _forget_bias)
        scale = 1.0 / math.sqrt(2 * config.depth)
        self.out = Dense((H,), (D,), ("mlp", "embed"), rngs, scale)

    def __call__(self, x_LxBxD: jax.Array) -> jax.Array:
        gates_LxBx4xH = self.input(x_LxBxD) + self.bias[...]
        h_LxBxH = _recur(gates_LxBx4xH, self.recurrent[...])
        return self.out(h_LxBxH.astype(x_LxBxD.dtype))


def _scan(gates_LxBx4xH: jax.Array, recurrent_Hx4xH: jax.Array) -> jax.Array:
    """The recurrence from a state of zeros: h_LxBxH from the input's share."""

    def step(carry: Any, gates_Bx4xH: jax.Array) -> Any:
        h_BxH, c_BxH = carry
        gates_Bx4xH = gates_Bx4xH + jnp.tensordot(h_BxH, recurrent_Hx4xH, axes=1)
        i, f, o = jnp.unstack(jax.nn.sigmoid(gates_Bx4xH[:, :3]), axis=1)
        c_BxH = f * c_BxH + i * jnp.tanh(gates_Bx4xH[:, 3])
        h_BxH = o * jnp.tanh(c_BxH)
        return (h_BxH, c_BxH), h_BxH

    _, B, _, H = gates_LxBx4xH.shape
    zeros_BxH = jnp.zeros((B, H), gates_LxBx4xH.dtype)
    return jax.lax.scan(step, (zeros_BxH, zeros_BxH), gates_LxBx4xH)[1]


# Left to itself, the backward scan sums the gradient of the recurrent matrix step by
# step, and over the devices of the data axis in every step. One product after it does.
_recur = jax.custom_vjp(_scan)


def _forward(gates_LxBx4xH: jax.Array, recurrent_Hx4xH: jax.Array) -> Any:
    h_LxBxH, pull = jax.vjp(lambda gates: _scan(gates, recurrent_Hx4xH), gates_LxBx4xH)
    return h_LxBxH, (pull, h_LxBxH)


def _backward(saved: Any, d_h_LxBxH: jax.Array) -> tuple[jax.Array, jax.Array]:
    pull, h_LxBxH = saved
    (d_gates_LxBx4xH,) = pull(d_h_LxBxH)
    before_LxBxH = jnp.pad(h_LxBxH[:-1], ((1, 0), (0, 0), (0, 0)))
    return d_gates_LxBx4xH, jnp.tensordot(
        before_LxBxH, d_gates_LxBx4xH, axes=((0, 1), (0, 1))
    )


_recur.defvjp(_forward, _backward)


def _forget_bias(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.zeros(shape, dtype).at[1].set(1.0)


class Block(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.norm = RMSNorm(config.width, rngs)
        self.lstm = LSTM(config, rngs)

    def __call__(self, x_LxBxD: jax.Array) -> jax.Array:
        return x_LxBxD + self.lstm(self.norm(x_LxBxD))


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        blocks = (Block(config, rngs) for _ in range(config.depth))
        super().__init__(config.width, spec, rngs, blocks)

    def __call__(self, x: jax.Array, cond: Any = None) -> Output:
        h_LxBxD = self.embedding(x.T)
        h_LxBxD = self.blocks(h_LxBxD)
        return Output(self.head(h_LxBxD.swapaxes(0, 1)), {})
