"""What a training step does is counted in its trace, and gives the time of a CPU."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from scaling.families import Images, Tokens
from scaling.planning import cost, hardware, work
from scaling.planning.work import Work
from scaling.run import Data, Model, Optimiser, Part, Run

PART = (Part("glyphs"),)


def count(function, *shapes):
    return work.count(jax.make_jaxpr(function)(*map(jnp.zeros, shapes)).jaxpr)


def test_products_count_their_flops_and_the_rest_what_it_makes():
    product = count(lambda x, k: x @ k, (2, 3), (3, 5))
    assert product == Work(2.0 * 2 * 3 * 5, 0.0, 1.0)
    batched = count(lambda x, k: jnp.einsum("bij,bjk->bik", x, k), (7, 2, 3), (7, 3, 5))
    assert batched == product * 7 + Work(starts=-6.0)
    assert count(lambda x: jnp.tanh(x) + x, (2, 3)) == Work(elements=12.0)
    # A sum reads what it adds up; a change of shape makes nothing.
    assert count(lambda x: x.sum(axis=1), (2, 3)) == Work(elements=6.0)
    assert count(lambda x: x.reshape(3, 2)[None], (2, 3)) == Work()
    convolve = lambda x, k: jax.lax.conv(x, k, (1,), "VALID")
    assert count(convolve, (2, 3, 16), (5, 3, 4)).products == 2.0 * 2 * 5 * 13 * 3 * 4


def test_a_loop_counts_as_often_as_it_turns_and_a_function_as_what_it_calls():
    once = lambda x, k: jnp.tanh(x @ k)
    turns = lambda x, k: jax.lax.scan(lambda x, _: (once(x, k), None), x, length=6)[0]
    shapes = (4, 3), (3, 3)
    assert count(turns, *shapes) == count(once, *shapes) * 6
    assert count(jax.jit(once), *shapes) == count(once, *shapes)


def of(family, size, pixels=8):
    run = Run(
        Model(family, size),
        Data(PART, 3_200),
        Optimiser(1e-3),
        batch=32,
        length=1,
        evaluation=(),
        objective="denoise",
    )
    return cost.describe(run, Images(pixels, pixels))


@pytest.mark.parametrize(
    "family, size, measured",
    [
        ("unet", 20_000, 2.9e-3),
        ("unet", 80_000, 6.8e-3),
        ("dit", 20_000, 1.9e-3),
        ("dit", 80_000, 3.4e-3),
        ("mixer", 20_000, 1.5e-3),
        ("mixer", 80_000, 4.3e-3),
    ],
)
def test_the_time_of_a_step_of_pictures_is_near_what_was_measured(
    family, size, measured
):
    """Measured on a core, of 32 pictures of 8 x 8 pixels."""
    step = hardware.core_seconds(dataclasses.asdict(of(family, size)))
    assert step == pytest.approx(measured, rel=0.3)


def test_a_cpu_trains_for_the_time_of_its_steps_and_scoring():
    described = dataclasses.asdict(of("mixer", 20_000))
    two = dataclasses.replace(hardware.lookup("cpu"), devices=2)
    half = described | {"evaluation_flops": described["flops"] / 2}
    step = hardware.core_seconds(described)
    assert described["steps"] == 100
    assert hardware.seconds(described, two) == pytest.approx(step * 100 / 2)
    assert hardware.seconds(half, two) == pytest.approx(1.5 * step * 100 / 2)


def test_what_is_fitted_has_no_training_steps():
    run = Run(Model("ngram", 10_000), Data(PART, 6_400), Optimiser(1.0), 4, 64, ())
    described = dataclasses.asdict(cost.describe(run, Tokens(257, 64)))
    assert hardware.core_seconds(described) == 0.0
    assert hardware.seconds(described, hardware.lookup("cpu")) > 0.0
