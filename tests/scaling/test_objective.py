"""Objectives: what a denoiser is read for, against data whose truth is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import diffusion, objective, quantities
from scaling.corpora import gaussian_field, templates
from scaling.errors import UserError
from scaling.families import Images, Output, Tokens

# The spec of a corpus that was never stored: what is known of it is exact.
SIZE = 8


def spec_of(module, **chosen):
    pixels = np.array([p.pixels for p in module.pictures(**chosen)]) / 255.0
    return Images(SIZE, SIZE, mean=float(pixels.mean()), std=float(pixels.std()))


def rows_of(module, number, **chosen):
    drawn = module.pictures(**chosen)
    return np.array([next(drawn).pixels.reshape(-1) for _ in range(number)], np.int32)


class Exact:
    """The model whose denoiser, once preconditioned, is a given one."""

    def __init__(self, denoiser):
        self.denoiser = denoiser

    def __call__(self, x_BxHxWxC, cond):
        sigma_B = jnp.exp(4.0 * cond.noise)
        c = diffusion.coefficients(sigma_B[:, None, None, None])
        seen = x_BxHxWxC / c.into
        return Output((self.denoiser(seen, sigma_B) - c.skip * seen) / c.out, {})


def said(goal, denoiser, rows, first=0):
    """What `read` gives of a denoiser, for pictures numbered from `first` on."""
    read = jax.jit(lambda x, at: goal.read(Exact(denoiser), x, at))
    return read(rows, jnp.arange(first, first + len(rows)))


FIELD = {"size": SIZE, "pictures": 2_000}


@pytest.fixture(scope="module")
def field():
    """Objective, pictures and exact denoiser of a Gaussian field."""
    spec = spec_of(gaussian_field, **FIELD)
    mean, covariance = gaussian_field.moments(**FIELD)
    scale = diffusion.SIGMA_DATA / spec.std
    centred = jnp.asarray((mean - spec.mean) * scale, jnp.float32)
    known = diffusion.gaussian(centred, jnp.asarray(covariance * scale**2, jnp.float32))
    return objective.Denoise(spec), rows_of(gaussian_field, 1_000, **FIELD), known


@pytest.fixture(scope="module")
def read(field):
    """What the exact denoiser of the field is read for: {column: [pictures]}."""
    goal, rows, known = field
    values, nothing = said(goal, known, rows)
    assert nothing.shape == (len(rows), 0)
    return dict(zip(goal.columns, np.asarray(values, np.float64).T, strict=True))


def test_errors_at_stated_levels_are_the_least_there_can_be(field, read):
    _, _, known = field
    variances = np.asarray(known.variances, np.float64)
    weighed = 0.0
    for sigma in quantities.LEVELS:
        least = np.mean(variances * sigma**2 / (variances + sigma**2))
        errors = read[f"{sigma:g}"]
        assert errors.mean() == pytest.approx(least, abs=4 * _se(errors))
        weighed += errors * float(diffusion.weight(sigma)) / len(quantities.LEVELS)
    np.testing.assert_allclose(read["nats"], weighed, rtol=1e-4)


def test_the_bound_lies_just_above_the_entropy(read):
    bits = read["bound"] / np.log(2.0)
    exact = gaussian_field.bits_per_dimension(**FIELD)
    error = 3 * _se(bits)
    assert error < 0.04
    assert exact - error < bits.mean() < exact + 0.02 + error


@pytest.mark.slow
def test_how_far_the_bound_lies_above_the_entropy(field):
    """Over 16,000 pictures: its bias with a standard error below 0.005 bits."""
    goal, _, known = field
    many = FIELD | {"pictures": 16_000}
    rows = rows_of(gaussian_field, 16_000, **many)
    parts = [
        np.asarray(said(goal, known, rows[i : i + 4_000], first=i)[0])[:, -1]
        for i in range(0, 16_000, 4_000)
    ]
    bits = np.concatenate(parts).astype(np.float64) / np.log(2.0)
    above = bits.mean() - gaussian_field.bits_per_dimension(**FIELD)
    print(f"{above:.4f} bits above the entropy, standard error {_se(bits):.4f}")
    assert _se(bits) < 0.005
    assert above > 1.96 * _se(bits) and above + 1.96 * _se(bits) < 0.02


def test_the_bound_of_a_worse_denoiser_is_higher(field, read):
    goal, rows, known = field
    blind = lambda x, sigma: known.mean.reshape(SIZE, SIZE, 1) + 0.0 * x
    worse, _ = said(goal, blind, rows[:200])
    assert (np.asarray(worse)[:, -1] > read["bound"][:200] + 0.5).all()


def test_the_bound_is_tight_for_pictures_that_are_sure(tmp_path):
    """Of two pictures a denoiser that knows them needs one bit a picture."""
    draw = np.random.default_rng(0).integers(0, 256, (2, SIZE * SIZE))
    pixels = draw / 255.0
    spec = Images(SIZE, SIZE, mean=float(pixels.mean()), std=float(pixels.std()))
    goal = objective.Denoise(spec)
    scaled = (pixels - spec.mean) * diffusion.SIGMA_DATA / spec.std
    two = diffusion.Mixture(jnp.asarray(scaled.reshape(2, SIZE, SIZE, 1), jnp.float32))
    rows = np.tile(draw, (100, 1)).astype(np.int32)
    values, _ = said(goal, two, rows)
    bits = np.asarray(values)[:, -1] / np.log(2.0)
    exact = 1.0 / (SIZE * SIZE)
    # The decoder has its least width in one of ten pictures, and says so.
    spare = np.log2(10) / SIZE**2 - np.log2(1 - 1e-3)
    error = 3 * _se(bits)
    assert exact - error < bits.mean() < exact + spare + 0.01 + error


def test_the_noise_of_a_reading_is_keyed_by_the_picture_alone(field):
    goal, rows, known = field
    whole, _ = said(goal, known, rows[:40])
    later, _ = said(goal, known, rows[20:60], first=20)
    np.testing.assert_allclose(whole[20:], later[:20], rtol=1e-5)
    moved, _ = said(goal, known, rows[20:60])
    assert (np.abs(moved - later) > 1e-6).all()


def test_the_training_loss_is_the_weighed_error_at_drawn_levels(field):
    goal, rows, known = field
    batch = jnp.asarray(rows[:256])
    sigma, noise = goal.draw(jax.random.key(3), batch)
    assert sigma.shape == (256,) and noise.shape == (256, SIZE, SIZE, 1)
    loss = goal.loss(Exact(known), batch, (sigma, noise))
    y, _ = goal.pictures(batch)
    assert float(y.std()) == pytest.approx(0.5, rel=0.05)
    seen = known(y + sigma[:, None, None, None] * noise, sigma)
    by_hand = diffusion.weight(sigma) * ((seen - y) ** 2).mean((1, 2, 3))
    assert float(loss) == pytest.approx(float(by_hand.mean()), rel=1e-4)
    silent = Exact(lambda x, s: diffusion.coefficients(s[:, None, None, None]).skip * x)
    assert float(goal.loss(silent, batch, (sigma, noise))) == pytest.approx(1, rel=0.1)


def test_the_average_of_weights_reaches_back_over_a_share_of_the_training():
    goal = objective.Denoise(Images(SIZE, SIZE))
    assert goal.average(jnp.int32(1)) == 0.0
    for steps in (200, 2_000):
        kept = [float(goal.average(jnp.int32(t))) for t in range(1, steps + 1)]
        after = np.append(np.cumprod(kept[::-1])[::-1][1:], 1.0)
        weights = (1 - np.array(kept)) * after
        place = np.arange(1, steps + 1) / steps
        mean = weights @ place
        assert weights.sum() == pytest.approx(1.0)
        assert np.sqrt(weights @ (place - mean) ** 2) == pytest.approx(0.05, rel=0.1)


def test_a_prefix_is_read_and_not_scored():
    spec = Tokens(vocab=9, length=6, prefix=2)
    goal = objective.NextToken(spec)
    logits = jax.random.normal(jax.random.key(0), (3, 6, 9))
    model = lambda x: Output(logits, {})
    batch = jax.random.randint(jax.random.key(1), (3, 6), 0, 9)
    nats, _ = goal.read(model, batch, jnp.zeros(3, jnp.int32))
    assert goal.loss(model, batch) == pytest.approx(float(nats[:, 2:].mean()))


def test_objectives_refuse_what_they_do_not_read():
    with pytest.raises(UserError, match="objective 'denoise': it reads pictures"):
        objective.make("denoise", Tokens(257, 8))
    with pytest.raises(UserError, match="objective 'next_token': it reads sequences"):
        objective.make("next_token", Images(8, 8))


def test_labels_and_captions_reach_the_model():
    spec = Images(2, 2, labels=3, caption=2)
    batch = jnp.array([[0, 0, 0, 255, 2, 65, 256]])
    y, condition = objective.Denoise(spec).pictures(batch)
    assert y.shape == (1, 2, 2, 1) and y[0, 1, 1, 0] == 0.5
    assert condition.label.tolist() == [2] and condition.caption.tolist() == [[65, 256]]


def test_excess_over_the_truth_is_the_gap_between_scores():
    """On templates a linear denoiser's excess is its distance from the exact one."""
    chosen = {"size": SIZE, "count": 3, "pictures": 400}
    spec = spec_of(templates, **chosen)
    parts, variance = templates.parts(**chosen)
    scale = diffusion.SIGMA_DATA / spec.std
    shaped = (parts - spec.mean).reshape(3, SIZE, SIZE, 1) * scale
    exact = diffusion.Mixture(jnp.asarray(shaped, jnp.float32), variance * scale**2)
    goal = objective.Denoise(spec)
    rows = jnp.asarray(rows_of(templates, 400, **chosen))
    y, _ = goal.pictures(rows)
    flat = shaped.reshape(3, -1)
    spread = np.cov(flat.T, bias=True) + variance * scale**2 * np.eye(SIZE * SIZE)
    linear = diffusion.gaussian(jnp.asarray(flat.mean(0)), jnp.asarray(spread))
    good, _ = said(goal, exact, rows)
    plain, _ = said(goal, linear, rows)
    number = 1 + quantities.LEVELS.index(0.4)
    excess = np.asarray(plain - good)[:, number]
    noise = jax.random.normal(jax.random.key(0), y.shape)
    x = y + 0.4 * noise
    gap = ((linear(x, 0.4) - exact(x, 0.4)) ** 2).mean((1, 2, 3))
    assert excess.mean() == pytest.approx(float(gap.mean()), abs=4 * _se(excess))


def _se(values):
    return np.std(values) / np.sqrt(len(values))
