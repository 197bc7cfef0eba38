"""What families share: its gradients are those of what it says it computes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.families import _layers


@pytest.mark.parametrize("outputs", [(3,), (2, 30)])
def test_the_written_gradient_of_a_product_is_its_gradient(outputs):
    """Outputs fewer and more than the 12 inputs: either operand is transposed."""
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, 5, 3, 4))
    kernel = jax.random.normal(keys[1], (3, 4, *outputs))

    def gradients(product):
        scalar = lambda x, kernel: jnp.sum(jnp.sin(product(x, kernel, 2)))
        return jax.grad(scalar, argnums=(0, 1))(x, kernel)

    for a, b in zip(gradients(_layers.product), gradients(jnp.tensordot), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
