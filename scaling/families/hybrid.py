"""Three Gated DeltaNet blocks to one of attention, as in Qwen3-Next (Qwen 2025).

The blocks are those of gated_deltanet.py (Yang, Kautz and Hatamizadeh 2024, arXiv
2412.06464) and of transformer.py, all of one width, feed-forward included; every fourth
block attends. Section 3.4 of the paper mixes in attention too, over a window; here, as
in Qwen3-Next, it is over the whole sequence.

Options:
  queries_per_kv: query heads of the attention that share a key-value head, at most
    (default 4); the largest divisor of the number of heads that is not above it is
    taken.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

from flax import nnx

from scaling.errors import UserError
from scaling.families import Tokens, gated_deltanet, transformer
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options

OBJECTIVES = ("next_token",)

# Blocks of a period, of which the last one attends.
PERIOD = 4


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family; `depth` is a multiple of PERIOD.

    heads, kv_heads and head_dim are the attention's.
    """

    depth: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int

    @property
    def delta(self) -> gated_deltanet.Config:
        """The shape of the other three blocks."""
        return gated_deltanet.Config(
            self.depth, self.width, self.heads, self.head_dim, self.hidden
        )

    @property
    def attention(self) -> transformer.Config:
        return transformer.Config(**dataclasses.asdict(self))


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Depth grows with the square root of width in whole periods, a little deeper than the
    Transformer, whose depth a period does not fit into at a million parameters (4
    layers at 8 thousand parameters, 8 at a million, 28 at a billion; Qwen3-Next has 48
    of width 2048). The feed-forward is near 8/3 width.
    """
    queries_per_kv = options("hybrid", given, {"queries_per_kv": 4})["queries_per_kv"]
    if not isinstance(queries_per_kv, int) or queries_per_kv < 1:
        raise UserError("model.options.queries_per_kv", queries_per_kv, "1 or more")
    return _members(spec, by, queries_per_kv).at(target)


@functools.cache
def _members(spec: Tokens, by: str, queries_per_kv: int) -> Ladder[Config]:
    size = measure(by, spec, params, flops)
    return Ladder(_candidates(queries_per_kv), size, _strain)


def _candidates(queries_per_kv: int) -> Iterator[Config]:
    for shape in transformer.heads_by_width(queries_per_kv):
        width, heads, kv_heads, head_dim = shape
        periods = _ideal_depth(width) / PERIOD
        for n in range(max(1, math.floor(periods * 0.7)), math.ceil(periods * 1.5) + 1):
            for hidden in hiddens(width, 1.5, 4.5):
                yield Config(PERIOD * n, width, heads, kv_heads, head_dim, hidden)


def _ideal_depth(width: int) -> float:
    return max(PERIOD, 0.6 * math.sqrt(width))


def _strain(config: Config) -> float:
    # What a Transformer's member is strained by, but for its depth.
    depth = away(config.depth, _ideal_depth(config.width))
    depth -= away(config.depth, transformer.ideal_depth(config.width))
    return depth + transformer.strain(config.attention, config.hidden)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    delta = gated_deltanet.block_params(config.delta)
    attention = transformer.block_params(config.attention)
    period = (PERIOD - 1) * delta + attention
    return config.depth // PERIOD * period + config.width


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example; see the two families'."""
    delta = gated_deltanet.block_flops(config.delta, spec.length)
    attention = transformer.block_flops(config.attention, spec.length)
    period = (PERIOD - 1) * delta + attention
    head = 2.0 * spec.length * config.width * spec.vocab
    return config.depth // PERIOD * period + head


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        c = config
        blocks = (
            gated_deltanet.Block(c.delta, rngs)
            if (n + 1) % PERIOD
            else transformer.Block(c.attention, rngs)
            for n in range(c.depth)
        )
        super().__init__(c.width, spec, rngs, blocks)
