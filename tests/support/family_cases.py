"""What a family is tested on, by the objective it serves."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling import families
from scaling.families import Conditions, Images, Tokens


class Case(NamedTuple):
    """Specs and sizes that suit a family.

    Attributes:
      spec: of a study.
      long: of a study of large examples.
      small: for models that are run.
      least: parameters of a small member.
      flops: the least and the most that its ladder by FLOPs is asked for.
    """

    spec: Any
    long: Any
    small: Any
    least: int
    flops: tuple[float, float]


TEXT = Case(Tokens(257, 64), Tokens(257, 1024), Tokens(31, 9), 8_000, (3e6, 1e11))
PICTURES = Case(
    Images(8, 8),
    Images(32, 32, 3, labels=10, caption=32),
    Images(4, 6, 2, labels=3, caption=5),
    20_000,
    (1e6, 2e10),
)


def case(name: str) -> Case:
    return PICTURES if serves(name, "denoise") else TEXT


def serves(name: str, objective: str) -> bool:
    return objective in families.load(name).OBJECTIVES


def build(name: str, spec: Any = None, size: float = 0, seed: int = 0) -> Any:
    """A model; by default the small one of the family's case."""
    family, own = families.load(name), case(name)
    spec = spec or own.small
    config = family.ladder(size or own.least, spec)
    init = lambda: family.Model(config, spec, nnx.Rngs(jax.random.key(seed)))
    return jax.jit(init)()


def abstract(name: str, config: Any, spec: Any) -> Any:
    family = families.load(name)
    return jax.eval_shape(lambda: family.Model(config, spec, nnx.Rngs(0)))


def stirred(module: Any, seed: int = 0) -> Any:
    """The module with every parameter moved at random, so that none of it is idle."""
    numbers = np.random.default_rng(seed)
    draw = lambda leaf: numbers.normal(scale=0.1, size=leaf.shape).astype(np.float32)
    move = lambda leaf: np.asarray(leaf) + draw(leaf)
    return jax.tree.map(move, module)


def inputs(spec: Any, batch: int = 2, seed: int = 0) -> tuple[Any, ...]:
    """What a model is called with."""
    numbers = np.random.default_rng(seed)
    draw = lambda below, *shape: jnp.asarray(
        numbers.integers(0, below, (batch, *shape)), jnp.int32
    )
    if isinstance(spec, Tokens):
        return (draw(spec.vocab, spec.length),)
    x = jnp.asarray(numbers.normal(size=(batch, *spec.shape)), jnp.float32)
    noise = jnp.asarray(numbers.uniform(-1.5, 1.0, batch), jnp.float32)
    label = draw(spec.labels) if spec.labels else None
    caption = draw(257, spec.caption) if spec.caption else None
    return x, Conditions(noise, label, caption)


def scalar(model: Any, *given: Any) -> jax.Array:
    """A loss that all of a model's output counts in."""
    y = model(*given).y
    return jnp.mean((y - jnp.cos(jnp.arange(y.size)).reshape(y.shape)) ** 2)
