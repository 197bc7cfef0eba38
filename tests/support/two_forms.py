"""Compares two forms of one function: a fast one and the plain one of its paper."""

import jax
import jax.numpy as jnp
import numpy as np


def value_and_gradients(function, *arguments):
    """The function's value, and gradients of a fixed weighting of it."""

    def scalar(*arguments):
        y = function(*arguments)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size)).reshape(y.shape)), y

    every = tuple(range(len(arguments)))
    (_, y), gradients = jax.jit(jax.value_and_grad(scalar, every, has_aux=True))(
        *arguments
    )
    return jax.tree.leaves((y, gradients))


def assert_close(found, wanted):
    """To 1e-4, or 1e-5 of the largest entry of each array."""
    for a, b in zip(found, wanted, strict=True):
        atol = 1e-7 + 1e-5 * np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol)
