"""gMLP (Liu et al. 2021, arXiv 2105.08050), causal: positions meet in one matrix.

Pre-norm residual blocks (section 2): a projection makes two halves of GELU units, the
second of which is normalised, mixed over positions and multiplied with the first
(equation 6, the spatial gating unit), and a projection leads back,

    s(z1, z2)_t = z1_t * (b_t + sum over u <= t of W_tu norm(z2)_u).

W has [length, length] entries, those ahead of the diagonal zero, and nothing of it
depends on the input; it starts near zero and b at one, so that a block starts as a
feed-forward layer. The paper's own models see whole sequences; the mask is all that is
added, and norms are RMSNorm as in every family here. There is no attention (aMLP).

A shorter input uses the top left corner of W, a longer one is cut into windows of
`length` that do not hear each other.

Parameters: the length (length + 1) / 2 entries that work are kept, folded into a
rectangle, and count as parameters in every block, as b does. Memory and work grow with
the square of the length: that is the paper's design. A block has 2,144 such parameters
at 64 positions, 525,824 at 1,024 and 536,920,064 at 32,768; the ladder has no member
below one block's, and refuses a smaller target.

Shapes: B batch, L length of the corpus, n windows of Q positions, D width, F hidden
units of each half.

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

from scaling.errors import UserError
from scaling.families import Tokens
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._layers import Dense, RMSNorm, fan_in, param

OBJECTIVES = ("next_token",)

# What mixing adds to the gate of one at first, as a share of it.
NEAR_ZERO = 0.01


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family for one length of sequences."""

    depth: int
    width: int
    hidden: int
    length: int


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Halves are near three times the width, six times together as in the paper. Depth
    grows with the square root of width (2 layers at 8 thousand parameters, 13 at a
    million and 69 at a billion for 64 tokens), and is less where sequences are long.

    Raises:
      UserError: the spatial matrix of one block alone has more parameters.
    """
    options("gmlp", given, {})
    if by in ("params", "active") and target < _spatial(spec.length):
        raise UserError(
            "model.size",
            target,
            f"one spatial matrix of {spec.length} positions alone has "
            f"{_spatial(spec.length)} parameters, and the members of this family have "
            "one in every block: give more parameters or a shorter length",
        )
    return _members(spec, by).at(target)


def smallest(spec: Tokens) -> int:
    """Parameters of the ladder's smallest member."""
    return min(map(params, _candidates(spec.length)))


@functools.cache
def _members(spec: Tokens, by: str) -> Ladder[Config]:
    candidates = _candidates(spec.length)
    return Ladder(candidates, measure(by, spec, params, flops), _strain)


def _candidates(length: int) -> Iterator[Config]:
    for width in widths(6144):
        for depth in range(1, math.ceil(_ideal_depth(width) * 1.3) + 1):
            for hidden in hiddens(width, 2.2, 4.2):
                yield Config(depth, width, hidden, length)


def _ideal_depth(width: int) -> float:
    # Near the published 30 layers of width 256 and 48 of 512, and 2 at the low end.
    return max(2.0, 2.1 * math.sqrt(width) - 6.0)


def _strain(config: Config) -> float:
    depth = away(config.depth, _ideal_depth(config.width))
    return depth + away(config.hidden, 3 * config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c = config
    vectors = c.length + c.width + c.hidden
    return c.depth * (_matrices(c) + _spatial(c.length) + vectors) + c.width


def _matrices(c: Config) -> int:
    return 3 * c.width * c.hidden


def _spatial(length: int) -> int:
    """Entries of a spatial matrix up to the diagonal."""
    return length * (length + 1) // 2


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example.

    The spatial product is counted whole, though half of its matrix is zero.
    """
    c, length = config, spec.length
    n, Q = _windows(length, c.length)
    products = c.depth * _matrices(c) + c.width * spec.vocab
    return 2.0 * (length * products + c.depth * n * Q * Q * c.hidden)


def _windows(length: int, longest: int) -> tuple[int, int]:
    """(windows, positions of each)."""
    Q = min(length, longest)
    return -(-length // Q), Q


def fold(length: int) -> tuple[int, int]:
    """The rectangle that holds the lower triangle of a [length, length] matrix."""
    return (length + 1) // 2, length + 1 - length % 2


def unfold(folded: jax.Array, length: int) -> jax.Array:
    """The triangle from its rectangle; zeros ahead of the diagonal.

    A row of the upper half and the one as far from the end fill a row of the rectangle,
    one from the left, the other from the right.
    """
    upper = folded[length % 2 :, :length]
    lower = folded[::-1, ::-1][:, :length]
    return jnp.tril(jnp.concatenate([upper, lower]))


class SpatialGate(nnx.Module):
    """The spatial gating unit."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        L = config.length
        self.length = L
        self.norm = RMSNorm(config.hidden, rngs)
        init = fan_in(L, NEAR_ZERO)
        self.folded = param(rngs, fold(L), (None, None), "matrix", init, contracted=())
        ones = nnx.initializers.ones
        self.bias = param(rngs, (L,), (None,), "norm", ones)

    def __call__(self, z1_BxLxF: jax.Array, z2_BxLxF: jax.Array) -> jax.Array:
        B, length, F = z2_BxLxF.shape
        n, Q = _windows(length, self.length)
        padding = ((0, 0), (0, n * Q - length), (0, 0))
        heard_BxnxQxF = jnp.pad(self.norm(z2_BxLxF), padding).reshape(B, n, Q, F)
        spatial_QxQ = unfold(self.folded[...], self.length)[:Q, :Q]
        gate_BxnxQxF = jnp.einsum("qk,bnkf->bnqf", spatial_QxQ, heard_BxnxQxF)
        gate_BxnxQxF = gate_BxnxQxF + self.bias[...][:Q, None]
        gate_BxLxF = gate_BxnxQxF.reshape(B, n * Q, F)[:, :length]
        return (z1_BxLxF * gate_BxLxF).astype(z1_BxLxF.dtype)


class Block(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs):
        D, F = config.width, config.hidden
        self.norm = RMSNorm(D, rngs)
        self.up = Dense((D,), (2, F), ("embed", None, "mlp"), rngs)
        self.gate = SpatialGate(config, rngs)
        scale = 1.0 / math.sqrt(2 * config.depth)
        self.down = Dense((F,), (D,), ("mlp", "embed"), rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        z_BxLx2xF = jax.nn.gelu(self.up(self.norm(x_BxLxD)))
        return x_BxLxD + self.down(self.gate(z_BxLx2xF[:, :, 0], z_BxLx2xF[:, :, 1]))


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        blocks = (Block(config, rngs) for _ in range(config.depth))
        super().__init__(config.width, spec, rngs, blocks)
