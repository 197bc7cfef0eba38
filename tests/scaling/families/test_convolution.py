"""The gated convolution against a sum over taps, position by position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.families.convolution import Config, GatedConvolution

CONFIG = Config(depth=1, width=6, hidden=5, taps=3, cycle=1)


def plain(layer, x_BxLxD):
    """(sigmoid(g_t) * u_t) W, where g_t and u_t sum x_(t - d k) K_k over taps k."""
    taps, dilation = layer.taps, layer.dilation
    width = x_BxLxD.shape[-1]
    kernel_TxDx2xF = layer.gate_up.kernel[...].reshape(taps, width, 2, -1)
    rows = []
    for t in range(x_BxLxD.shape[1]):
        reached = [(k, t - dilation * k) for k in range(taps) if t >= dilation * k]
        gate, up = sum(
            jnp.einsum("bd,dsf->sbf", x_BxLxD[:, at], kernel_TxDx2xF[taps - 1 - k])
            for k, at in reached
        )
        rows.append((jax.nn.sigmoid(gate) * up) @ layer.down.kernel[...])
    return jnp.stack(rows, axis=1)


@pytest.mark.parametrize(("length", "dilation"), [(1, 1), (7, 1), (13, 4)])
def test_outputs_and_gradients_are_those_of_the_sum(length, dilation):
    layer = GatedConvolution(CONFIG, dilation, nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, length, CONFIG.width))
    weigh = jax.random.normal(jax.random.key(2), x.shape)
    found, wanted = (
        jax.jit(jax.value_and_grad(lambda m, x, f=f: (f(m, x) * weigh).sum(), (0, 1)))(
            layer, x
        )
        for f in (lambda m, x: m(x), plain)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
