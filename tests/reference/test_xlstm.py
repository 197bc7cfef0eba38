"""The matrix memory is that of xLSTM in transformers.

The model there is the later xLSTM 7B, whose block has no convolution, no block-diagonal
products and capped gates. The memory is the same, and so is the norm of its heads. The
paper's block around them is written out in tests/scaling/families/test_mlstm.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from same_weights import assert_close, give, stirred, tensor
from transformers import xLSTMConfig
from transformers.models.xlstm import modeling_xlstm

from scaling.families import mlstm

pytestmark = pytest.mark.reference

HEADS, DIM = 4, 8


@pytest.mark.parametrize("length", [1, 19, 75])
def test_the_memory_and_its_gradients_are_equal(length):
    config = xLSTMConfig(
        hidden_size=HEADS * DIM,
        num_heads=HEADS,
        chunk_size=16,
        mode="inference",
        autocast_kernel_dtype="float32",
        eps=0.0,
    )
    reference = modeling_xlstm.xLSTMBackend(config)
    numbers = np.random.default_rng(length)
    draw = lambda *shape: numbers.normal(size=(2, length, HEADS, *shape))
    q, k, v, weighting = (draw(DIM).astype(np.float32) for _ in range(4))
    i, f = 2 * draw().astype(np.float32), 2 + draw().astype(np.float32)

    def scalar(q, k, v, i, f):
        h = mlstm.matrix_memory(q, k / np.sqrt(DIM), v, i, f, chunk=16)
        return jnp.sum(h * weighting), h

    every = tuple(range(5))
    gradients, h = jax.jit(jax.grad(scalar, every, has_aux=True))(q, k, v, i, f)
    by_head = lambda x: tensor(x.swapaxes(1, 2).copy()).requires_grad_()
    leaves = [by_head(x) for x in (q, k, v, i, f)]
    wanted = reference(*leaves)[0].transpose(1, 2)
    assert_close(h, wanted)
    (wanted * tensor(weighting)).sum().backward()
    for found, leaf in zip(gradients, leaves, strict=True):
        assert_close(found, leaf.grad.transpose(1, 2))


def test_the_norm_of_heads_is_equal():
    config = mlstm.Config(depth=1, width=12, hidden=HEADS * DIM)
    mixer = stirred(mlstm.Mixer(config, nnx.Rngs(0)))
    reference = modeling_xlstm.xLSTMMultiHeadLayerNorm(HEADS, DIM, eps=1e-6)
    give(reference, {"weight": mixer.head_norm[...].reshape(-1)})
    h_BxLxHxE = jax.random.normal(jax.random.key(0), (2, 19, HEADS, DIM))
    found = mixer._normalised(h_BxLxHxE).reshape(2, 19, -1)
    assert_close(found, reference(tensor(h_BxLxHxE)))
