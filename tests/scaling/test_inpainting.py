"""Lower halves that are expected: against closed forms, with the exact denoiser."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import diffusion, inpainting
from scaling.corpora import gaussian_field, templates

SIZE, SHOWN = 8, 32
FIELD = {"size": SIZE}
TOLD = {"size": SIZE, "count": 16}


def field():
    """Denoiser, pictures and what is known of them, in model units."""
    mean, covariance = gaussian_field.moments(**FIELD)
    unit = 0.5 / np.sqrt(covariance[0, 0])
    mean, covariance = 0.0 * mean, covariance * unit**2
    rows = np.random.default_rng(0).multivariate_normal(mean, covariance, 24)
    wanted = inpainting.of_gaussian(mean, covariance, rows[:, :SHOWN], 0.0)
    return diffusion.gaussian(jnp.asarray(mean), jnp.asarray(covariance)), rows, wanted


def mixture():
    parts, variance = templates.parts(**TOLD)
    unit = 0.5 / np.sqrt(parts.var() + variance)
    parts, variance = (parts - parts.mean()) * unit, variance * unit**2
    draw = np.random.default_rng(1)
    noise = np.sqrt(variance) * draw.standard_normal((24, SIZE**2))
    rows = parts[draw.integers(0, len(parts), 24)] + noise
    wanted = inpainting.of_mixture(parts, variance, rows[:, :SHOWN])
    known = diffusion.Mixture(jnp.asarray(parts, jnp.float32), jnp.float32(variance))
    return known, rows, wanted


@functools.partial(jax.jit, static_argnames=("particles",))
def islands(denoiser, y, keys, particles):
    made = lambda k: inpainting.expected(denoiser, y, k, particles)
    return jax.lax.map(made, keys)


def asked(denoiser, rows, count=4, particles=16):
    """Means [islands, n, values] of a denoiser, and effective particles."""
    y = jnp.asarray(rows.reshape(-1, SIZE, SIZE, 1), jnp.float32)
    keys = jax.random.split(jax.random.key(7), (count, len(y)))
    means, effective = islands(denoiser, y, keys, particles)
    return np.asarray(means, float).reshape(count, len(y), -1), np.asarray(effective)


def off(means, wanted):
    """Squared distance of the mean of islands, less what their spread explains, and
    its standard error over pictures."""
    noise = means.var(axis=0, ddof=1).mean(axis=1) / len(means)
    far = ((means.mean(axis=0) - wanted) ** 2).mean(axis=1) - noise
    return far.mean(), far.std() / np.sqrt(len(far)), noise.mean()


@pytest.mark.parametrize("truth", [field, mixture])
def test_an_exact_denoiser_expects_what_the_closed_form_does(truth):
    denoiser, rows, wanted = truth()
    means, effective = asked(denoiser, rows)
    far, error, noise = off(means, wanted)
    # Pictures have a variance of 0.25, and lower halves are this far from the closed
    # form: what is left of that once the spread of islands is taken off is nothing.
    missed = ((rows[:, SHOWN:] - wanted) ** 2).mean()
    assert abs(far) < 4 * error + 0.02 * missed and noise < 0.2 * missed
    assert (effective > 4).all() and (effective <= 16.001).all()


def test_the_weights_are_what_makes_it_right():
    """With one particle there are none, which is plain replacement."""
    denoiser, rows, wanted = field()
    (far, error, _), (right, _, _) = (
        off(asked(denoiser, rows, count, particles)[0], wanted)
        for count, particles in ((32, 1), (4, 16))
    )
    assert far > 5 * error and far > 4 * abs(right)


def test_pictures_are_apart_and_their_lower_halves_are_not_read():
    denoiser, rows, _ = field()
    whole, _ = asked(denoiser, rows[:6])
    covered = rows[:6].copy()
    covered[:, SHOWN:] = 3.0
    np.testing.assert_array_equal(asked(denoiser, covered)[0], whole)
    covered[4] = 0.0
    np.testing.assert_array_equal(asked(denoiser, covered)[0][:, :4], whole[:, :4])


def test_closed_forms_are_those_of_a_plain_regression():
    rng = np.random.default_rng(2)
    made = rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6))
    mean, covariance = made.mean(axis=0), np.cov(made.T, bias=True)
    design = np.column_stack([np.ones(len(made)), made[:, :3]])
    fit = np.linalg.lstsq(design, made[:, 3:], rcond=None)[0]
    found = inpainting.of_gaussian(mean, covariance, made[:5, :3], 0.0)
    np.testing.assert_allclose(found, design[:5] @ fit, atol=1e-6)
    two = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 3.0]])
    at = np.array([[0.0, 0.0], [0.5, 0.5], [0.6, 0.6]])
    odds = np.exp((np.array([-2.0, 0.0, 0.4])) / (2 * 0.1))
    wanted = (1 + 3 * odds) / (1 + odds)
    found = inpainting.of_mixture(two, 0.1, at)[:, 0]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
