"""Objectives define the training loss and the held-out reading of a run.

The trainer calls them and never handles tokens, pixels or logits itself.

An objective is a class with

    draw(key, batch) -> drawn        what is random in the loss of a whole batch, arrays
        that lead with its examples; () where nothing is
    loss(model, batch, drawn) -> scalar     mean training loss, auxiliary ones included
    read(model, batch, at) -> (values, log_probabilities)
        float32 both. Of "next_token": nats [batch, length], the reading at every
        position; log_probabilities [batch, vocab], of what may stand at place at[i] of
        row i, given what stands before it. Of "denoise": values [batch, column], the
        columns of `quantities`, with noise keyed by at[i]; nothing [batch, 0]
    columns     names of the columns of `values`; () where they are positions
    reads       how often a reading asks the model, in forward passes an example
    average(step) -> share of the old average of weights that is kept after the step, or
        None where none is kept: it is the average that is scored
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from scaling import diffusion, families, inpainting, quantities
from scaling.errors import UserError, unknown
from scaling.families import Conditions


class Objective(Protocol):
    columns: tuple[str, ...]
    reads: int

    def draw(self, key: jax.Array, batch: jax.Array) -> Any: ...

    def loss(self, model: Any, batch: jax.Array, drawn: Any = ()) -> jax.Array: ...

    def read(
        self, model: Any, batch: jax.Array, at: jax.Array
    ) -> tuple[jax.Array, jax.Array]: ...

    def average(self, step: jax.Array) -> jax.Array | None: ...


class NextToken:
    """Autoregressive cross-entropy in nats per token.

    A batch holds the targets. The model reads them shifted by one behind the document
    separator, the last id of the vocabulary, so that every token is predicted once. A
    prefix (a picture's caption) is read and not scored.
    """

    columns: tuple[str, ...] = ()
    reads = 1

    def __init__(self, spec: families.Spec):
        if not isinstance(spec, families.Tokens):
            raise UserError("objective", "next_token", "it reads sequences")
        self.separator, self.prefix = spec.vocab - 1, spec.prefix

    def draw(self, key: jax.Array, batch: jax.Array) -> tuple[()]:
        return ()

    def average(self, step: jax.Array) -> None:
        return None

    def _cross_entropy(
        self, model: Any, y_BxL: jax.Array
    ) -> tuple[jax.Array, families.Output]:
        x_BxL = jnp.pad(y_BxL[:, :-1], ((0, 0), (1, 0)), constant_values=self.separator)
        output = model(x_BxL)
        chosen = jnp.take_along_axis(output.y, y_BxL[..., None], axis=-1)[..., 0]
        return jax.nn.logsumexp(output.y, axis=-1) - chosen, output

    def loss(self, model: Any, batch: jax.Array, drawn: Any = ()) -> jax.Array:
        nats_BxL, output = self._cross_entropy(model, batch)
        if self.prefix:
            nats_BxL = nats_BxL[:, self.prefix :]
        return jnp.mean(nats_BxL) + sum(output.aux.values())

    def read(
        self, model: Any, batch: jax.Array, at: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        nats_BxL, output = self._cross_entropy(model, batch)
        y_BxV = jnp.take_along_axis(output.y, at[:, None, None], axis=1)[:, 0]
        return nats_BxL, jax.nn.log_softmax(y_BxV.astype(jnp.float32))


# Keys the noise of readings, which are the same for every run.
_READING = 20220601
# Strata of ln sigma at which the bound's integrand is asked for, once in each.
_STRATA = 16
# Standard deviations of the decoder's normals, in spacings of pixel levels, and the
# chance of each. The noise at the lowest sigma has 1, so that a picture whose levels
# are as good as continuous keeps that; one that is known for sure has the least.
_WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_CHANCES = (0.1, 0.05, 0.1, 0.6, 0.1, 0.05)
_UNIFORM = 1e-3  # the decoder's share that is uniform over the levels
# The average of weights reaches back over 5% of the training, whatever its length.
_GAMMA = 16.97
# Of the sampler: 35 evaluations of the network, as Karras et al. 2022 take for small
# pictures.
STEPS = 18


class Denoise:
    """The denoising loss of Karras et al. 2022, and what a denoiser is read for.

    Training: the squared error of D(y + sigma n; sigma), weighed by 1 / c_out^2, with
    sigma from `diffusion.sigmas`. Scored is the power-law average of the weights
    (Karras et al. 2024, arXiv 2312.02696, equation 6): after step t it keeps the share
    (1 - 1/t)^(gamma + 1) of itself, so that its reach grows with the training.

    Readings of a held-out picture, in model units (its corpus has a standard deviation
    of 0.5), with noise keyed by the picture's number and the level's:

    - at each of `quantities.LEVELS`, the mean squared error over the picture's values;
    - "loss", the mean over these levels of the weighed error, as training has it;
    - a bound on the nats per value of the picture as it is, of 256 levels (Kingma et
      al. 2021, arXiv 2107.00630, equations 11 to 15 in continuous time):

          prior + integral of E|y - D|^2 / sigma^2 over ln sigma + decoder

      from the spacing of pixel levels to SIGMA_MAX. The integral is estimated without
      bias: one random sigma in each of 16 strata of ln sigma for each picture. The
      decoder says the levels from D at the lowest sigma: normals of one width around
      it, cut at the levels' edges, mixed over six widths a picture (so that no width is
      chosen) and with a thousandth of a uniform distribution.
    """

    columns = ("nats", *(f"{sigma:g}" for sigma in quantities.LEVELS), "bound")
    reads = len(quantities.LEVELS) + _STRATA + 1

    def __init__(self, spec: families.Spec):
        if not isinstance(spec, families.Images):
            raise UserError("objective", "denoise", "it reads pictures, not text")
        self.spec = spec
        self.scale = diffusion.SIGMA_DATA / spec.std  # of a pixel over 255
        self.spacing = self.scale / 255.0

    def pictures(self, batch: jax.Array) -> tuple[jax.Array, Conditions]:
        """A batch's pictures in model units, and their conditions."""
        spec = self.spec
        pixels = batch[:, : spec.size].reshape(-1, *spec.shape)
        y_BxHxWxC = (pixels.astype(jnp.float32) / 255.0 - spec.mean) * self.scale
        label = batch[:, spec.size] if spec.labels else None
        caption = batch[:, spec.row - spec.caption :] if spec.caption else None
        return y_BxHxWxC, Conditions(None, label, caption)

    def draw(self, key: jax.Array, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        levels, noise = jax.random.split(key)
        sigma_B = diffusion.sigmas(levels, len(batch))
        return sigma_B, jax.random.normal(noise, (len(batch), *self.spec.shape))

    def average(self, step: jax.Array) -> jax.Array:
        return (1.0 - 1.0 / step.astype(jnp.float32)) ** (_GAMMA + 1.0)

    def loss(self, model: Any, batch: jax.Array, drawn: Any = ()) -> jax.Array:
        sigma_B, n_BxHxWxC = drawn
        y_BxHxWxC, condition = self.pictures(batch)
        x_BxHxWxC = y_BxHxWxC + sigma_B[:, None, None, None] * n_BxHxWxC
        denoised = diffusion.denoise(model, x_BxHxWxC, sigma_B, condition)
        error_B = jnp.mean((denoised - y_BxHxWxC) ** 2, axis=(1, 2, 3))
        return jnp.mean(diffusion.weight(sigma_B) * error_B)

    def read(
        self, model: Any, batch: jax.Array, at: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        y_BxHxWxC, condition = self.pictures(batch)
        keys_B = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(_READING), i))(at)
        sigmas_NxB = self._levels(keys_B)

        def error(number: jax.Array, sigma_B: jax.Array) -> tuple[jax.Array, jax.Array]:
            n = jax.vmap(
                lambda key: jax.random.normal(
                    jax.random.fold_in(key, number), self.spec.shape
                )
            )(keys_B)
            x = y_BxHxWxC + sigma_B[:, None, None, None] * n
            denoised = diffusion.denoise(model, x, sigma_B, condition)
            return jnp.mean((denoised - y_BxHxWxC) ** 2, axis=(1, 2, 3)), denoised

        numbers = jnp.arange(len(sigmas_NxB))
        # The first is the lowest, whose picture the decoder wants.
        _, lowest = error(numbers[0], sigmas_NxB[0])
        _, errors_NxB = jax.lax.scan(
            lambda carry, each: (carry, error(*each)[0]),
            None,
            (numbers[1:], sigmas_NxB[1:]),
        )
        stated = len(quantities.LEVELS)
        at_levels_BxL = errors_NxB[:stated].T
        weights_L = diffusion.weight(np.array(quantities.LEVELS, np.float32))
        weighed_B = at_levels_BxL @ weights_L / stated
        width = jnp.log(diffusion.SIGMA_MAX / self.spacing)
        integrand_NxB = errors_NxB[stated:] / sigmas_NxB[1 + stated :] ** 2
        integral_B = width * integrand_NxB.mean(axis=0)
        decoder_B = self._decoder(batch, lowest)
        bound_B = self._prior(y_BxHxWxC) + integral_B + decoder_B
        values = jnp.column_stack([weighed_B, at_levels_BxL, bound_B])
        return values, jnp.zeros((len(batch), 0), jnp.float32)

    def sample(self, model: Any, batch: jax.Array, noise: jax.Array) -> jax.Array:
        """Pixels over 255 [batch, height, width, channels], made from noise.

        Args:
          batch: whose labels and captions the model reads; its pixels are not read.
        """
        _, condition = self.pictures(batch)
        denoiser = lambda x, sigma: diffusion.denoise(model, x, sigma, condition)
        made = diffusion.heun(denoiser, noise, diffusion.schedule(STEPS))
        return self.pixels(made)

    def denoised(
        self, model: Any, batch: jax.Array, noise: jax.Array, sigma: jax.Array
    ) -> jax.Array:
        """Pixels over 255, of pictures seen through `sigma` [batch] times the noise."""
        y_BxHxWxC, condition = self.pictures(batch)
        x_BxHxWxC = y_BxHxWxC + sigma[:, None, None, None] * noise
        return self.pixels(diffusion.denoise(model, x_BxHxWxC, sigma, condition))

    def expected(
        self, model: Any, batch: jax.Array, seed: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Pixels over 255 of the lower halves, given the upper ones, and how many
        particles are effective: `inpainting.expected`, an island for each row.

        Args:
          seed: int32 [batch], keys the islands.
        """
        y_BxHxWxC, (_, *given) = self.pictures(batch)
        many = inpainting.PARTICLES
        beside = (None if a is None else jnp.repeat(a, many, axis=0) for a in given)
        condition = Conditions(None, *beside)
        denoiser = lambda x, sigma: diffusion.denoise(model, x, sigma, condition)
        keys = jax.vmap(jax.random.key)(seed)
        mean, effective = inpainting.expected(denoiser, y_BxHxWxC, keys)
        return self.pixels(mean), effective

    def pixels(self, y_BxHxWxC: jax.Array) -> jax.Array:
        return y_BxHxWxC / self.scale + self.spec.mean

    def _levels(self, keys_B: jax.Array) -> jax.Array:
        """Noise levels [level, picture]: the lowest, the stated ones, the strata's."""
        count = len(keys_B)

        def uniform(key: jax.Array) -> jax.Array:
            return jax.random.uniform(jax.random.fold_in(key, 1 << 20), (_STRATA,))

        u_NxB = (jnp.arange(_STRATA)[:, None] + jax.vmap(uniform)(keys_B).T) / _STRATA
        width = jnp.log(diffusion.SIGMA_MAX / self.spacing)
        strata_NxB = self.spacing * jnp.exp(u_NxB * width)
        stated = jnp.array((self.spacing, *quantities.LEVELS), jnp.float32)
        return jnp.concatenate([jnp.tile(stated[:, None], (1, count)), strata_NxB])

    def _prior(self, y_BxHxWxC: jax.Array) -> jax.Array:
        """KL of the picture at SIGMA_MAX from a normal of the corpus's variance."""
        seen = diffusion.SIGMA_MAX**2
        total = seen + diffusion.SIGMA_DATA**2
        excess = (y_BxHxWxC**2 - diffusion.SIGMA_DATA**2) / total
        return 0.5 * (jnp.log(total / seen) + jnp.mean(excess, axis=(1, 2, 3)))

    def _decoder(self, batch: jax.Array, denoised_BxHxWxC: jax.Array) -> jax.Array:
        """Nats per value of the levels, said from a denoised picture."""
        size = self.spec.size
        level_BxD = batch[:, :size]
        # In spacings of the levels, as they are counted.
        middle_BxD = denoised_BxHxWxC.reshape(-1, size) / self.spacing
        middle_BxD = middle_BxD + 255.0 * self.spec.mean
        low = jnp.where(level_BxD == 0, -jnp.inf, level_BxD - 0.5)
        high = jnp.where(level_BxD == 255, jnp.inf, level_BxD + 0.5)

        def nats(width: float) -> jax.Array:
            chance = jax.scipy.special.ndtr((high - middle_BxD) / width)
            chance = chance - jax.scipy.special.ndtr((low - middle_BxD) / width)
            chance = (1.0 - _UNIFORM) * jnp.maximum(chance, 0.0) + _UNIFORM / 256.0
            return -jnp.sum(jnp.log(chance), axis=1)

        each_WxB = jnp.stack([nats(width) for width in _WIDTHS])
        prior_W = np.log(np.array(_CHANCES, np.float32))
        return -jax.nn.logsumexp(prior_W[:, None] - each_WxB, axis=0) / size


_OBJECTIVES: dict[str, type[NextToken] | type[Denoise]] = {
    "next_token": NextToken,
    "denoise": Denoise,
}


def make(name: str, spec: families.Spec) -> Objective:
    """Raises UserError for an unknown name, or one that does not read `spec`."""
    if name not in _OBJECTIVES:
        raise unknown("objective", name, _OBJECTIVES)
    return _OBJECTIVES[name](spec)
