"""Objectives define the training loss and the held-out reading of a run.

The trainer calls them and never handles tokens or logits itself.

An objective is a class with

    loss(model, batch) -> scalar     mean training loss, auxiliary losses included
    read(model, batch, at) -> (nats, log_probabilities)
        nats [batch, length], the reading at every position; log_probabilities
        [batch, vocab], of what may stand at place at[i] of row i, given what stands
        before it; both float32
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from scaling import families
from scaling.errors import unknown


class Objective(Protocol):
    def loss(self, model: Any, batch: jax.Array) -> jax.Array: ...

    def read(
        self, model: Any, batch: jax.Array, at: jax.Array
    ) -> tuple[jax.Array, jax.Array]: ...


class NextToken:
    """Autoregressive cross-entropy in nats per token.

    A batch holds the targets. The model reads them shifted by one behind the document
    separator, the last id of the vocabulary, so that every token is predicted once.
    """

    def __init__(self, spec: families.Spec):
        assert isinstance(spec, families.Tokens)
        self.separator = spec.vocab - 1

    def _cross_entropy(
        self, model: Any, y_BxL: jax.Array
    ) -> tuple[jax.Array, families.Output]:
        x_BxL = jnp.pad(y_BxL[:, :-1], ((0, 0), (1, 0)), constant_values=self.separator)
        output = model(x_BxL)
        chosen = jnp.take_along_axis(output.y, y_BxL[..., None], axis=-1)[..., 0]
        return jax.nn.logsumexp(output.y, axis=-1) - chosen, output

    def loss(self, model: Any, batch: jax.Array) -> jax.Array:
        nats_BxL, output = self._cross_entropy(model, batch)
        return jnp.mean(nats_BxL) + sum(output.aux.values())

    def read(
        self, model: Any, batch: jax.Array, at: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        nats_BxL, output = self._cross_entropy(model, batch)
        y_BxV = jnp.take_along_axis(output.y, at[:, None, None], axis=1)[:, 0]
        return nats_BxL, jax.nn.log_softmax(y_BxV.astype(jnp.float32))


_OBJECTIVES = {"next_token": NextToken}


def make(name: str, spec: families.Spec) -> Objective:
    """Raises UserError for an unknown name."""
    if name not in _OBJECTIVES:
        raise unknown("objective", name, _OBJECTIVES)
    return _OBJECTIVES[name](spec)
