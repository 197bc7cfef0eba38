"""Neural probabilistic language model (Bengio et al. 2003): an MLP over 8 tokens."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.families import Output
from scaling.families._ladder import Ladder, away, measure
from scaling.families._layers import Dense, Embedding, Head

OBJECTIVES = ("next_token",)
TAPS = 8


@dataclasses.dataclass(frozen=True)
class Config:
    width: int
    hidden: int


def params(c):
    return c.width * c.hidden * (TAPS + 1) + c.width


def flops(c, spec):
    return 2.0 * spec.length * (params(c) - c.width + c.width * spec.vocab)


def ladder(target, spec, by="params"):
    sizes = [Config(w, w * h // 2) for w in range(8, 8192, 4) for h in range(2, 9)]
    shape = lambda c: away(c.hidden, 2 * c.width)
    return Ladder(sizes, measure(by, spec, params, flops), shape).at(target)


class Model(nnx.Module):
    def __init__(self, config, spec, rngs):
        c = config
        self.embedding = Embedding(spec.vocab, c.width, rngs)
        self.up = Dense((TAPS * c.width,), (c.hidden,), ("embed", "mlp"), rngs)
        self.down = Dense((c.hidden,), (c.width,), ("mlp", "embed"), rngs)
        self.head = Head(c.width, spec.vocab, rngs)

    def __call__(self, x, cond=None):
        e = jnp.pad(self.embedding(x), ((0, 0), (TAPS - 1, 0), (0, 0)))
        last = [e[:, i : i + x.shape[1]] for i in range(TAPS)]
        h = jax.nn.silu(self.up(jnp.concatenate(last, axis=-1)))
        return Output(self.head(e[:, TAPS - 1 :] + self.down(h)), {})
