"""Hyena (Poli et al. 2023, arXiv 2302.10866): long convolutions between two gates.

Pre-norm residual blocks of a Hyena operator and of a GELU feed-forward layer near twice
as wide as the stream (table A.4). The operator is that of order 2, in the form in which
its authors released it: a projection makes q, k and v, each passes a causal convolution
of 3 taps (these stand for the first filter), and

    y_t = q_t * sum over s <= t of h_(t-s) k_s v_s  +  q_t * b k_t v_t

channel by channel, with a filter h as long as the sequence. The filter is no table: a
network of sine activations reads positional features of the lag (section 3.3),

    h_t = exp(-a t / length) FFN(t / length, cos and sin of 2 pi f t / length),

where a is fixed, from ln(100) / 1.5 to ln(100) / 0.3 across channels, so the number of
parameters does not depend on the length, and a longer sequence has a filter too. The
factor of 14 in the authors' sines is in the first weights here: the same network, that
an optimiser moves 14 times less, as the small models' larger learning rates need.

Positions are read by discrete Fourier transforms. One transform over the sequence would
let rounding of later tokens into every output, so it is cut in halves, again and again:
what a left half adds to its right half is a transform's product, and what is left at 64
positions is a product with a triangular matrix. No output depends on a later token, to
the last bit; memory is L log(L / 64).

Shapes: B batch, L length, n pieces of Q positions, D width, M hidden units of the
filter's network, F hidden units of the feed-forward layer.

No options.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling.families import Tokens
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, away, hiddens, measure, options, widths
from scaling.families._layers import Dense, RMSNorm, fan_in, param
from scaling.families._recurrence import ShortConvolution

OBJECTIVES = ("next_token",)
float32 = jnp.float32

TAPS = 3
# Frequencies of the positional features, at most.
BANDS = 16
# Hidden layers of the filter's network, and the factor in their sines at first.
LAYERS = 3
FREQUENCY = 14.0
# Positions up to which a convolution is one product.
DIRECT = 64


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family; `filter_width` is that of the filter's network."""

    depth: int
    width: int
    hidden: int
    filter_width: int

    @property
    def bands(self) -> int:
        """Frequencies whose cosines and sines the filter's network reads."""
        return min(BANDS, self.filter_width)


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Hidden units are near twice the width. Depth grows with the square root of width (3
    layers at 8 thousand parameters, 8 at a million, 31 at a billion). The filter's
    network is 64 wide and reads 16 frequencies from width 512 on, as the authors' does,
    and is narrower below.
    """
    options("hyena", given, {})
    return _members(spec, by).at(target)


@functools.cache
def _members(spec: Tokens, by: str) -> Ladder[Config]:
    return Ladder(_candidates(), measure(by, spec, params, flops), _strain)


def _candidates() -> Iterator[Config]:
    for width in widths(6144):
        ideal = _ideal_depth(width)
        depths = range(max(2, math.floor(ideal * 0.7)), math.ceil(ideal * 1.5) + 1)
        for depth in depths:
            for hidden in hiddens(width, 1.0, 3.5):
                yield Config(depth, width, hidden, _filter_width(width))


def _filter_width(width: int) -> int:
    return next((m for w, m in ((64, 8), (256, 16), (512, 32)) if width < w), 64)


def _ideal_depth(width: int) -> float:
    # Near the published 18 layers of width 768 and 36 of 2048, and 2 at the low end.
    return max(2.0, 0.7 * math.sqrt(width))


def _strain(config: Config) -> float:
    depth = away(config.depth, _ideal_depth(config.width))
    return depth + away(config.hidden, 2 * config.width)


def params(config: Config) -> int:
    """Non-embedding parameters."""
    c, M = config, config.filter_width
    network = (2 * c.bands + 2) * M + (LAYERS - 1) * (M + 1) * M + M * c.width
    vectors = (3 * (TAPS + 1) + 1 + 2) * c.width
    return c.depth * (_matrices(c) + network + vectors) + c.width


def _matrices(c: Config) -> int:
    return c.width * (4 * c.width + 2 * c.hidden)


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example.

    Fourier transforms are no matrix products, and left out. So are the filters, which
    are made once a batch, however large it is.
    """
    c, (n, Q) = config, pieces(spec.length)
    products = c.depth * _matrices(c) + c.width * spec.vocab
    return 2.0 * (spec.length * products + c.depth * n * Q * Q * c.width)


def pieces(length: int) -> tuple[int, int]:
    """(a power of two n, Q), n Q the least at or above `length` for Q up to DIRECT."""
    n = 1 << max(0, math.ceil(math.log2(length / DIRECT)))
    return n, -(-length // n)


def long_convolution(x_DxBxL: jax.Array, h_DxL: jax.Array) -> jax.Array:
    """y_t = sum over s <= t of h_(t-s) x_s, channel by channel; float32 [D, B, L]."""
    D, B, length = x_DxBxL.shape
    n, Q = pieces(length)
    padding = (0, n * Q - length)
    x_DxBxL = jnp.pad(x_DxBxL.astype(float32), ((0, 0), (0, 0), padding))
    h_DxL = jnp.pad(h_DxL, ((0, 0), padding))
    # Within each piece of Q positions: the product with a triangular matrix.
    triangle_DxQxQ = _triangle(h_DxL[:, :Q])
    x_DxBxnxQ = x_DxBxL.reshape(D, B, n, Q)
    y_DxBxL = jnp.einsum("dbnk,dkq->dbnq", x_DxBxnxQ, triangle_DxQxQ)
    size = Q
    while size < n * Q:
        # What the left half of every 2 x size positions adds to the right half. Lags
        # run from 1 to 2 size - 1: a cyclic convolution over 2 size holds them all.
        halves = (D, B, -1, 2, size)
        left = jnp.fft.rfft(x_DxBxL.reshape(halves)[:, :, :, 0], 2 * size)
        heard = jnp.fft.rfft(h_DxL[:, : 2 * size])[:, None, None]
        right = jnp.fft.irfft(left * heard, 2 * size)[..., size:]
        y_DxBxL = y_DxBxL.reshape(halves).at[:, :, :, 1].add(right)
        size *= 2
    return y_DxBxL.reshape(D, B, n * Q)[..., :length]


def _triangle(h_DxQ: jax.Array) -> jax.Array:
    """[D, k, q]: h_(q-k) for k up to q, and zero beyond."""
    D, Q = h_DxQ.shape
    # Rows of a repeated vector, cut one short, turn by one place from row to row.
    row_Dx2Q = jnp.pad(h_DxQ, ((0, 0), (0, Q)))
    turned = jnp.tile(row_Dx2Q, Q)[:, : Q * (2 * Q - 1)]
    return turned.reshape(D, Q, 2 * Q - 1)[:, :, :Q]


class Filter(nnx.Module):
    """The filters of all channels, a network of the lag; in float32 throughout.

    In half precision lags are not distinct, so that its matrices count among
    "recurrence" with what else meets time.
    """

    def __init__(self, config: Config, length: int, rngs: nnx.Rngs):
        self.length, self.bands = length, config.bands
        M, D = config.filter_width, config.width
        inputs = (1 + 2 * config.bands, *(M for _ in range(LAYERS - 1)))
        # Of the same variance as the uniform draws in the authors' code.
        scale = 1.0 / math.sqrt(3.0)
        steep = [fan_in(n, FREQUENCY * scale) for n in inputs]
        kernels = [
            param(rngs, (n, M), (None, None), "recurrence", init)
            for n, init in zip(inputs, steep, strict=True)
        ]
        biases = [param(rngs, (M,), (None,), "norm", init) for init in steep]
        self.kernels, self.biases = nnx.List(kernels), nnx.List(biases)
        self.out = param(rngs, (M, D), (None, "mlp"), "recurrence", fan_in(M, scale))

    def __call__(self, length: int) -> jax.Array:
        """h_DxL of that many lags."""
        x_LxM = jnp.asarray(features(length, self.length, self.bands))
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            # A TPU would otherwise multiply in bfloat16, and the sines are steep.
            x_LxM = jnp.dot(x_LxM, kernel[...], precision=jax.lax.Precision.HIGHEST)
            x_LxM = jnp.sin(x_LxM + bias[...])
        h_DxL = jnp.einsum("lm,md->dl", x_LxM, self.out[...])
        # The window exp(-a t / length) of section 3.3.
        return h_DxL * jnp.exp(window(h_DxL.shape[0], length, self.length))


def features(length: int, unit: int, bands: int) -> np.ndarray:
    """[length, 1 + 2 bands]: lags, their cosines and sines; a lag of `unit` is one."""
    t_Lx1 = np.arange(length)[:, None] / unit
    angle = 2.0 * np.pi * np.linspace(1e-4, bands - 1, bands) * t_Lx1
    every = np.concatenate([t_Lx1, np.cos(angle), np.sin(angle)], axis=1)
    return every.astype(np.float32)


def window(channels: int, length: int, unit: int) -> jax.Array:
    """Logarithm of each channel's window [channels, length]."""
    rates = math.log(100.0) * np.linspace(1 / 1.5, 1 / 0.3, channels)
    t_L = np.arange(length) / unit
    return -jnp.float32(rates)[:, None] * jnp.float32(t_L)


class Operator(nnx.Module):
    """Hyena of order 2."""

    def __init__(self, config: Config, length: int, scale: float, rngs: nnx.Rngs):
        D = config.width
        self.qkv = Dense((D,), (3, D), ("embed", None, "mlp"), rngs)
        short = (ShortConvolution(D, "mlp", rngs, TAPS) for _ in range(3))
        self.q_convolution, self.k_convolution, self.v_convolution = short
        self.filter = Filter(config, length, rngs)
        normal = nnx.initializers.normal(1.0)
        self.skip = param(rngs, (D,), ("mlp",), "norm", normal)
        self.out = Dense((D,), (D,), ("mlp", "embed"), rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        q, k, v = jnp.unstack(self.qkv(x_BxLxD), axis=2)
        q_BxLxD, k_BxLxD = self.q_convolution(q), self.k_convolution(k)
        # The first gate, k_s v_s; its long convolution and b k_t v_t; the gate q_t.
        u_BxLxD = k_BxLxD * self.v_convolution(v)
        h_DxL = self.filter(x_BxLxD.shape[1])
        y_DxBxL = long_convolution(jnp.moveaxis(u_BxLxD, 2, 0), h_DxL)
        y_BxLxD = jnp.moveaxis(y_DxBxL, 0, 2) + self.skip[...] * u_BxLxD
        return self.out((q_BxLxD * y_BxLxD).astype(x_BxLxD.dtype))


class MLP(nnx.Module):
    """gelu(x W) V."""

    def __init__(self, config: Config, scale: float, rngs: nnx.Rngs):
        width, hidden = config.width, config.hidden
        self.up = Dense((width,), (hidden,), ("embed", "mlp"), rngs)
        self.down = Dense((hidden,), (width,), ("mlp", "embed"), rngs, scale)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x_BxLxD)))


class Block(nnx.Module):
    def __init__(self, config: Config, length: int, rngs: nnx.Rngs):
        # Each of the 2 x depth branches adds its share to the residual stream.
        scale = 1.0 / math.sqrt(2 * config.depth)
        self.operator_norm = RMSNorm(config.width, rngs)
        self.operator = Operator(config, length, scale, rngs)
        self.mlp_norm = RMSNorm(config.width, rngs)
        self.mlp = MLP(config, scale, rngs)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        x_BxLxD = x_BxLxD + self.operator(self.operator_norm(x_BxLxD))
        return x_BxLxD + self.mlp(self.mlp_norm(x_BxLxD))


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        c = config
        blocks = (Block(c, spec.length, rngs) for _ in range(c.depth))
        super().__init__(c.width, spec, rngs, blocks)
