"""Diffusion of pictures as in Karras et al. 2022 (arXiv 2206.00364), and its landmarks.

A picture y, of standard deviation SIGMA_DATA over the whole corpus, is seen through
noise as x = y + sigma n. A denoiser D(x; sigma) gives the mean of y; whatever learns it
is made here out of a family's network F, in one way for all:

    D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)                      (equation 7)

Landmarks are denoisers that train nothing: the best linear one of a set of pictures,
the best of all on that set (which copies), and the exact ones where the truth is known.

A denoiser is any function of x [B, H, W, C] and sigma (one number, or [B]) that returns
an array like x. Shapes: B pictures, d = H W C values of a picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scaling.families import Conditions

SIGMA_DATA = 0.5

# The levels that are trained, sampled and read (section 3, "Discretization").
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0

# Of ln sigma in training (table 1).
P_MEAN, P_STD = -1.2, 1.2

Denoiser = Callable[[jax.Array, Any], jax.Array]


class Coefficients(NamedTuple):
    """c_skip, c_out, c_in and c_noise of equation 7."""

    skip: jax.Array
    out: jax.Array
    into: jax.Array
    noise: jax.Array


def coefficients(sigma: Any) -> Coefficients:
    """Of table 1, last column: inputs and targets of F have unit variance."""
    sigma = jnp.asarray(sigma)
    total = sigma**2 + SIGMA_DATA**2
    return Coefficients(
        skip=SIGMA_DATA**2 / total,
        out=sigma * SIGMA_DATA / jnp.sqrt(total),
        into=1.0 / jnp.sqrt(total),
        noise=jnp.log(sigma) / 4.0,
    )


def weight(sigma: Any) -> jax.Array:
    """lambda(sigma) = 1 / c_out^2: what a squared error of D counts in the loss.

    F = 0, so the best constant, has a weighed loss of 1 per value at every level.
    """
    return 1.0 / coefficients(sigma).out ** 2


def sigmas(key: jax.Array, n: int) -> jax.Array:
    """float32 [n], noise levels to train on.

    Half of them are log-normal as in table 1; they make samples look right. The other
    half are uniform in the logarithm over all levels that are read: bits per dimension
    add up errors over ln sigma down to the spacing of pixel levels, where the
    log-normal has next to none. The n are spread evenly over the distribution from a
    random start (Kingma et al. 2021, arXiv 2107.00630, appendix I.1), each of them
    distributed as one alone.
    """
    start = jax.random.uniform(key)
    u = (start + jnp.arange(n) / n) % 1.0
    within = jnp.clip(2.0 * u % 1.0, 1e-6, 1.0 - 1e-6)
    normal = P_MEAN + P_STD * jax.scipy.special.ndtri(within)
    lowest, highest = jnp.log(SIGMA_MIN), jnp.log(SIGMA_MAX)
    return jnp.exp(jnp.where(u < 0.5, normal, lowest + (highest - lowest) * within))


def denoise(
    model: Any, x_BxHxWxC: jax.Array, sigma: Any, cond: Conditions | None = None
) -> jax.Array:
    """D(x; sigma) of a family's model, equation 7.

    Args:
      model: called as model(x, cond), which gives F as Output.y.
      sigma: one level, or one for each picture.
      cond: label and caption; its noise is filled in here.
    """
    sigma = jnp.broadcast_to(jnp.asarray(sigma, x_BxHxWxC.dtype), x_BxHxWxC.shape[:1])
    at_noise = (cond or Conditions(None))._replace(noise=coefficients(sigma).noise)
    c = coefficients(_beside(sigma, x_BxHxWxC))
    return c.skip * x_BxHxWxC + c.out * model(c.into * x_BxHxWxC, at_noise).y


def _beside(sigma: Any, x: jax.Array) -> jax.Array:
    """Levels, one or [B], in a shape that multiplies x [B, ...]."""
    sigma = jnp.asarray(sigma, x.dtype)
    return sigma.reshape(sigma.shape + (1,) * (x.ndim - sigma.ndim))


# --- Sampling ----------------------------------------------------------------


def schedule(steps: int) -> jax.Array:
    """The noise levels of a sampler, [steps + 1] from SIGMA_MAX to 0 (equation 5)."""
    share = jnp.arange(steps) / max(steps - 1, 1)
    first, last = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    return jnp.append((first + share * (last - first)) ** RHO, 0.0)


def heun(denoiser: Denoiser, noise: jax.Array, levels: jax.Array) -> jax.Array:
    """Samples by Heun's method on the probability-flow ODE.

    Algorithm 1: deterministic, so that one noise gives one picture.

    Args:
      noise: standard normal, [B, H, W, C].
      levels: falling to 0, as `schedule` gives them.
    """
    levels = jnp.asarray(levels, noise.dtype)

    def slope(x: jax.Array, sigma: jax.Array) -> jax.Array:
        return (x - denoiser(x, sigma)) / sigma

    def step(x: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        now, then = pair
        first = slope(x, now)
        second = slope(x + (then - now) * first, then)
        return x + (then - now) * 0.5 * (first + second), None

    x, _ = jax.lax.scan(step, levels[0] * noise, (levels[:-2], levels[1:-1]))
    # The slope has no value at 0: Euler's step goes there, which lands on D itself.
    return x + (levels[-1] - levels[-2]) * slope(x, levels[-2])


# --- Landmarks ---------------------------------------------------------------


class Gaussian(NamedTuple):
    """The exact denoiser of Gaussian pictures; of others, the best linear one.

    Attributes:
      mean: [d].
      basis: [d, r], orthonormal directions in which pictures vary.
      variances: [r], along each.
    """

    mean: jax.Array
    basis: jax.Array
    variances: jax.Array

    def __call__(self, x: jax.Array, sigma: Any) -> jax.Array:
        """mean + C (C + sigma^2)^-1 (x - mean), with C the covariance."""
        noise = _beside(sigma, x.reshape(len(x), -1)) ** 2
        return self._scaled(x, self.variances / (self.variances + noise))

    def samples(self, noise: jax.Array, largest: float = SIGMA_MAX) -> jax.Array:
        """Where the probability-flow ODE leads from `largest` times the noise.

        Each direction shrinks as its standard deviation does: at the end,
        mean + (C (C + largest^2)^-1)^(1/2) (largest noise - mean).
        """
        share = self.variances / (self.variances + largest**2)
        return self._scaled(largest * noise, jnp.sqrt(share))

    def _scaled(self, x: jax.Array, factors: jax.Array) -> jax.Array:
        along_Bxr = (x.reshape(len(x), -1) - self.mean) @ self.basis
        return (self.mean + (factors * along_Bxr) @ self.basis.T).reshape(x.shape)


def gaussian(mean: jax.Array, covariance: jax.Array) -> Gaussian:
    """Of a mean, an array of d values in any shape, and a covariance [d, d]."""
    variances, basis = jnp.linalg.eigh(covariance)
    return Gaussian(mean.reshape(-1), basis, jnp.maximum(variances, 0.0))


def linear(pictures: jax.Array) -> Gaussian:
    """The best linear denoiser of a set of pictures [n, ...].

    Of all functions a + B x it has the least squared error on the set at every level;
    it is that of a Gaussian with the set's mean and covariance.
    """
    rows = pictures.reshape(len(pictures), -1)
    mean = rows.mean(axis=0)
    _, singular, basis = jnp.linalg.svd(rows - mean, full_matrices=False)
    return Gaussian(mean, basis.T, singular**2 / len(rows))


class Mixture(NamedTuple):
    """The exact denoiser of templates with white noise on them.

    With the pictures of a training set for templates and no noise, it is the denoiser
    of the least loss on that set, which ends in copies of it.

    Attributes:
      templates: [n, ...], each of the shape of a picture.
      variance: of the noise, per value.
      chances: [n], of the templates; None where all are alike.
    """

    templates: jax.Array
    variance: Any = 0.0
    chances: jax.Array | None = None

    def __call__(self, x: jax.Array, sigma: Any) -> jax.Array:
        """Each template's own denoiser, weighed by the chance that x came of it."""
        rows = self.templates.reshape(len(self.templates), -1).astype(x.dtype)
        seen = jnp.broadcast_to(jnp.asarray(sigma, x.dtype), x.shape[:1])
        each = functools.partial(self._one, rows)
        means = jax.lax.map(lambda pair: each(*pair), (x.reshape(len(x), -1), seen))
        return means.reshape(x.shape)

    def _one(self, rows_nxd: jax.Array, x_d: jax.Array, sigma: jax.Array) -> jax.Array:
        total = self.variance + sigma**2
        # Differences first: squares apart cancel, and at small sigma little is left.
        far_n = jnp.sum((rows_nxd - x_d) ** 2, axis=-1)
        prior_n = 0.0 if self.chances is None else jnp.log(self.chances)
        weights_n = jax.nn.softmax(prior_n - far_n / (2.0 * total))
        near_d = weights_n @ rows_nxd
        return near_d + self.variance / total * (x_d - near_d)
