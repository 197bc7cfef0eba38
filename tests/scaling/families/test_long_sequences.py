"""Sequences of 32 thousand tokens: what a training step of each family would take."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from scaling import families, objective
from scaling.errors import UserError
from scaling.families._layers import Tracing, tracing
from scaling.layout import Layout
from tests.conftest import every_family

LONG = 32_768


def temporaries(family, length):
    """Bytes a step needs beside parameters and tokens, as XLA plans it; none is run."""
    spec = families.Tokens(257, length)
    family = families.load(family)
    try:
        config = family.ladder(24_000, spec)
    except UserError as error:
        pytest.skip(f"no member for such sequences: {error}")
    goal = objective.make("next_token", spec)
    model = jax.eval_shape(
        lambda: family.Model(config, spec, nnx.Rngs(jax.random.key(0)))
    )
    tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
    how = Tracing(Layout(remat="full"), gather=lambda tree: tree)

    def loss(model, tokens):
        with tracing(how):
            return goal.loss(model, tokens)

    step = jax.jit(jax.value_and_grad(loss)).lower(model, tokens).compile()
    return step.memory_analysis().temp_size_in_bytes


@every_family("transformer")
def test_memory_grows_no_faster_than_the_sequence(family):
    half, whole = (temporaries(family, length) for length in (LONG // 2, LONG))
    assert whole < 2.2 * half
    assert whole < 2**30
