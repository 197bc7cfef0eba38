"""Preconditioning, sampler and landmarks against closed forms and brute force."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from scaling import diffusion
from scaling.families import Conditions, Output

LEVELS = np.array([0.002, 0.03, 0.5, 4.0, 80.0])
SHAPE = (3, 2, 1)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def pictures(n, seed=0):
    """Correlated and off centre, [n, 3, 2, 1]."""
    numbers = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(6, 6)) * 0.2
    return (numbers.normal(size=(n, 6)) @ mix + 0.2).reshape(n, *SHAPE)


def normal(n, seed=1):
    return np.random.default_rng(seed).normal(size=(n, *SHAPE))


# --- Preconditioning and training levels -------------------------------------


def test_the_networks_input_and_target_have_unit_variance_at_every_level(float64):
    c, data = diffusion.coefficients(LEVELS), diffusion.SIGMA_DATA
    np.testing.assert_allclose(c.into**2 * (data**2 + LEVELS**2), 1.0)
    # Of (y - c_skip x) / c_out, with x = y + sigma n.
    target = ((1 - c.skip) * data) ** 2 + (c.skip * LEVELS) ** 2
    np.testing.assert_allclose(target, c.out**2)
    np.testing.assert_allclose(diffusion.weight(LEVELS) * c.out**2, 1.0)
    np.testing.assert_allclose(c.noise, np.log(LEVELS) / 4)
    # c_skip is what makes c_out least: of the error that F amplifies.
    for off in (-0.01, 0.01):
        skip = c.skip + off
        assert (((1 - skip) * data) ** 2 + (skip * LEVELS) ** 2 > c.out**2).all()


def test_every_level_is_trained_and_small_ones_often():
    draw = jax.jit(jax.vmap(functools.partial(diffusion.sigmas, n=16)))
    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    assert drawn.shape == (4000, 16) and drawn.dtype == np.float32
    assert 0.25 < (drawn < 0.1).mean() < 0.4
    edges = np.geomspace(diffusion.SIGMA_MIN, diffusion.SIGMA_MAX, 17)
    assert (np.histogram(drawn, edges)[0] / drawn.size > 0.02).all()
    # Each place of a batch alone is distributed as all together are.
    whole = np.quantile(drawn, np.linspace(0.05, 0.95, 19))
    for place in range(16):
        below = (drawn[:, place, None] < whole).mean(axis=0)
        np.testing.assert_allclose(below, np.linspace(0.05, 0.95, 19), atol=0.03)
    # And a batch is spread evenly: half of it below the median, every time.
    assert set(np.unique((drawn < whole[9]).sum(axis=1))) <= {7, 8, 9}


def test_denoise_is_equation_7_and_tells_the_network_its_level():
    x = jnp.asarray(normal(2), jnp.float32)
    sigma = jnp.array([0.1, 3.0])
    labels = jnp.array([4, 5])
    condition = []

    def network(x, cond):
        condition.append(cond)
        return Output(jnp.sin(x), {})

    found = diffusion.denoise(network, x, sigma, Conditions(None, label=labels))
    for n, level in enumerate(sigma):
        c = diffusion.coefficients(level)
        wanted = c.skip * x[n] + c.out * jnp.sin(c.into * x[n])
        np.testing.assert_allclose(found[n], wanted, rtol=1e-6)
    np.testing.assert_allclose(condition[0].noise, np.log(sigma) / 4, rtol=1e-6)
    assert condition[0].label is labels and condition[0].caption is None
    one = diffusion.denoise(network, x, 0.1)
    np.testing.assert_allclose(one[0], found[0], rtol=1e-6)
    assert condition[1].noise.shape == (2,)


# --- Sampling ----------------------------------------------------------------


def test_the_schedule_falls_from_the_largest_level_to_zero():
    levels = np.asarray(diffusion.schedule(18))
    assert levels.shape == (19,) and levels[-1] == 0.0
    np.testing.assert_allclose(levels[[0, -2]], [80.0, 0.002], rtol=1e-5)
    np.testing.assert_allclose(np.diff(levels[:-1] ** (1 / 7), n=2), 0.0, atol=1e-5)


def exact(float_pictures):
    return diffusion.linear(jnp.asarray(float_pictures))


def test_the_sampler_follows_the_closed_form_of_gaussian_pictures(float64):
    truth, noise = exact(pictures(50)), jnp.asarray(normal(5))
    found = diffusion.heun(truth, noise, diffusion.schedule(512))
    np.testing.assert_allclose(found, truth.samples(noise), atol=1e-4)


def test_the_samplers_error_falls_with_the_square_of_its_steps(float64):
    truth, noise = exact(pictures(50)), jnp.asarray(normal(5))

    def error(steps):
        found = diffusion.heun(truth, noise, diffusion.schedule(steps))
        return float(jnp.abs(found - ends).max())

    # Not the closed form: Euler's last step, to 0, is the same at every count.
    ends = diffusion.heun(truth, noise, diffusion.schedule(4096))
    errors = np.array([error(steps) for steps in (64, 128, 256)])
    order = -np.diff(np.log2(errors))
    assert (np.abs(order - 2.0) < 0.2).all()


# --- Landmarks ---------------------------------------------------------------


def test_the_closed_form_of_samples_solves_the_equation(float64):
    truth, noise = exact(pictures(50)), jnp.asarray(normal(2))

    def slope(log_sigma, x):
        sigma, x = np.exp(log_sigma), jnp.asarray(x.reshape(noise.shape))
        return np.asarray(x - truth(x, sigma)).reshape(-1)

    ends = np.log([diffusion.SIGMA_MAX, 1e-6])
    first = np.asarray(diffusion.SIGMA_MAX * noise).reshape(-1)
    solved = integrate.solve_ivp(slope, ends, first, rtol=1e-9, atol=1e-9)
    wanted = solved.y[:, -1].reshape(noise.shape)
    np.testing.assert_allclose(truth.samples(noise), wanted, atol=1e-5)


@pytest.mark.parametrize("sigma", LEVELS)
def test_the_linear_denoiser_has_the_least_error_of_all_linear_ones(float64, sigma):
    """By the normal equations, with the noise's share of each product exact."""
    rows = pictures(20).reshape(20, 6)
    ones = np.concatenate([np.ones((20, 1)), rows], axis=1)
    noisy = ones.T @ ones + 20 * sigma**2 * np.diag([0, 1, 1, 1, 1, 1, 1])
    weights = np.linalg.solve(noisy, ones.T @ rows)
    x = jnp.asarray(normal(4) * (1 + sigma))
    wanted = np.concatenate([np.ones((4, 1)), x.reshape(4, 6)], axis=1) @ weights
    landmark = diffusion.linear(jnp.asarray(pictures(20)))
    np.testing.assert_allclose(landmark(x, sigma).reshape(4, 6), wanted, atol=1e-7)


def test_a_known_covariance_gives_what_a_set_with_it_does(float64):
    sample = pictures(20)
    mean, covariance = sample.mean(axis=0), np.cov(sample.reshape(20, 6).T, bias=True)
    known = diffusion.gaussian(jnp.asarray(mean), jnp.asarray(covariance))
    x, sigma = jnp.asarray(normal(3)), jnp.array([0.1, 0.5, 9.0])
    found = diffusion.linear(jnp.asarray(sample))
    np.testing.assert_allclose(known(x, sigma), found(x, sigma), atol=1e-9)
    np.testing.assert_allclose(known.samples(x), found.samples(x), atol=1e-7)
    # Fewer pictures than values: what no picture varies in is the mean's.
    few = diffusion.linear(jnp.asarray(sample[:3]))
    inside = np.linalg.matrix_rank(few.samples(x).reshape(3, 6) - few.mean)
    assert inside == 2


def test_a_mixtures_denoiser_is_its_posterior_mean(float64):
    """By quadrature, of pictures of one value."""
    templates, chances, variance = np.array([-1.0, 0.2, 0.5]), [0.5, 0.2, 0.3], 0.04
    bell = lambda x, var: np.exp(-(x**2) / (2 * var)) / np.sqrt(2 * np.pi * var)
    truth = diffusion.Mixture(
        jnp.asarray(templates)[:, None, None, None], variance, jnp.asarray(chances)
    )
    y = np.linspace(-4, 4, 80_001)
    prior = sum(
        c * bell(y - t, variance) for c, t in zip(chances, templates, strict=True)
    )
    for x in (-1.5, -0.3, 0.4):
        for sigma in (0.05, 0.4, 3.0):
            joint = prior * bell(x - y, sigma**2)
            wanted = integrate.trapezoid(y * joint, y) / integrate.trapezoid(joint, y)
            found = truth(jnp.full((1, 1, 1, 1), x), sigma)
            np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_denoisers_are_the_scores_of_their_noisy_pictures(float64, sigma):
    """(D - x) / sigma^2 is the gradient of the log-density (their equation 3)."""
    x, templates = jnp.asarray(normal(3)), jnp.asarray(pictures(4))
    log_normal = jax.scipy.stats.multivariate_normal.logpdf

    def mixture(x):
        total = (0.09 + sigma**2) * jnp.eye(6)
        each = [log_normal(x.reshape(-1), t.reshape(-1), total) for t in templates]
        return jax.nn.logsumexp(jnp.stack(each))

    def gaussian(x):
        rows = pictures(50).reshape(50, 6)
        covariance = jnp.cov(rows.T, bias=True) + sigma**2 * jnp.eye(6)
        return log_normal(x.reshape(-1), rows.mean(axis=0), covariance)

    denoisers = {
        mixture: diffusion.Mixture(templates, variance=0.09),
        gaussian: exact(pictures(50)),
    }
    for density, denoiser in denoisers.items():
        score = (denoiser(x, sigma) - x) / sigma**2
        np.testing.assert_allclose(jax.vmap(jax.grad(density))(x), score, atol=1e-7)


def test_the_best_denoiser_of_a_set_weighs_its_pictures_and_ends_in_copies():
    rows = pictures(40).astype(np.float32)
    landmark = diffusion.Mixture(jnp.asarray(rows))
    for n, sigma in enumerate(LEVELS):
        x = rows[:5] + sigma * normal(5, seed=n).astype(np.float32)
        found = landmark(jnp.asarray(x), jnp.full(5, sigma))
        apart = rows.astype(np.float64) - x[:, None].astype(np.float64)
        far = (apart**2).sum(axis=(2, 3, 4)) / (2 * sigma**2)
        weights = np.exp(far.min(axis=1, keepdims=True) - far)
        weights /= weights.sum(axis=1, keepdims=True)
        wanted = np.einsum("bn,nhwc->bhwc", weights, rows)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    noise = jnp.asarray(normal(8), jnp.float32)
    samples = diffusion.heun(landmark, noise, diffusion.schedule(40))
    apart = np.abs(np.asarray(samples)[:, None] - rows).max(axis=(2, 3, 4))
    assert (apart.min(axis=1) < 1e-3).all()
    assert len(np.unique(apart.argmin(axis=1))) > 2


def test_a_single_template_with_noise_is_a_gaussian(float64):
    template = jnp.asarray(pictures(1))
    noise = jnp.asarray(normal(3))
    mixture = diffusion.Mixture(template, variance=0.25)
    truth = diffusion.gaussian(template[0], 0.25 * jnp.eye(6))
    np.testing.assert_allclose(mixture(noise, 0.7), truth(noise, 0.7), atol=1e-9)
    found = diffusion.heun(mixture, noise, diffusion.schedule(512))
    np.testing.assert_allclose(found, truth.samples(noise), atol=1e-4)
