"""The decoder that most families share: embedding, blocks, final norm and head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
from flax import nnx

from scaling.families import Output, Tokens
from scaling.families._layers import Embedding, Head, Stack


class Decoder(nnx.Module):
    """Embedding, blocks applied in turn, final norm and untied head.

    Args:
      blocks: each takes and returns [B, L, D]. A generator, which makes them after the
        embedding: parameters are drawn in the order in which a token meets them.
    """

    def __init__(
        self, width: int, spec: Tokens, rngs: nnx.Rngs, blocks: Iterable[nnx.Module]
    ):
        self.embedding = Embedding(spec.vocab, width, rngs)
        self.blocks = Stack(blocks)
        self.head = Head(width, spec.vocab, rngs)

    def __call__(self, x: jax.Array, cond: Any = None) -> Output:
        return Output(self.head(self.blocks(self.embedding(x))), {})
