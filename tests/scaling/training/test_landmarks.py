"""What samples are set beside, against plain loops and other forms of the same."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from scaling import diffusion, objective
from scaling.corpora import _samples, gaussian_field, prepare, templates
from scaling.run import Data, Model, Optimiser, Part, Run, Samples, options
from scaling.training import landmarks

TOLD = {"size": 4, "count": 3, "pictures": 500, "labels": 1}
FIELD = {"size": 4, "pictures": 500}
PARTS = {
    "templates": Part("templates", options=options(**TOLD)),
    "gaussian_field": Part("gaussian_field", options=options(**FIELD)),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    where = tmp_path_factory.mktemp("shapes")
    return prepare(PARTS.values(), where, progress=False)


def run_of(name, half=1, unique=80, batch=16):
    return Run(
        model=Model("mixer", 8_000),
        data=Data((PARTS[name],), 2 * unique, unique_tokens=unique, half=half),
        optimiser=Optimiser(3e-3),
        batch=batch,
        length=1,
        evaluation=(),
        objective="denoise",
        samples=(Samples("made", (PARTS[name],), count=5, sigmas=(0.1, 0.8)),),
    )


def pixels_of(run, prepared):
    return np.concatenate(list(landmarks.Reading.of(run, prepared).pixels()))


def test_the_nearest_pictures_are_those_of_a_plain_loop(prepared, monkeypatch):
    run = run_of("templates")
    rows = pixels_of(run, prepared)
    assert rows.shape == (80, 16) and len(np.unique(rows, axis=0)) == 80
    other = pixels_of(run_of("templates", half=2), prepared)
    noisy = rows[3] + 0.01 * np.sin(np.arange(16))
    asked = np.stack([rows[7], noisy, other[0]]).reshape(3, 4, 4, 1)
    monkeypatch.setattr(landmarks, "AT_ONCE", 32)  # in several parts
    found = landmarks.neighbours(asked, run, prepared)
    for i, picture in enumerate(asked.reshape(3, 16)):
        for name, some in (("near", rows), ("near_other", other)):
            far = sorted(float(np.sqrt(np.mean((picture - r) ** 2))) for r in some)
            np.testing.assert_allclose(found[name][i], far[:2], atol=1e-6)
    assert found["near"][0, 0] < 1e-6 < found["near_other"][0, 0]
    assert found["near_other"][2, 0] < 1e-6 < found["near"][2, 0]
    for i, k in enumerate((7, 3)):
        wanted = np.rint(255 * rows[k]).reshape(4, 4, 1)
        np.testing.assert_array_equal(found["nearest"][i], wanted)


def test_the_other_half_is_cut_to_what_there_is(prepared):
    whole = run_of("templates", half=0)
    assert "near_other" not in landmarks.neighbours(
        np.zeros((1, 4, 4, 1)), whole, prepared
    )
    made = prepared[PARTS["templates"].key]
    smaller = 1 + int(made.halves[1] < made.halves[0])
    most = made.readable(3 - smaller) // 16 * 16
    counts = landmarks.counts(run_of("templates", 3 - smaller, most), prepared)
    assert counts.tolist() == [most, made.readable(smaller) // 16 * 16]
    assert counts[1] < counts[0]


@pytest.mark.parametrize("name", PARTS)
def test_landmarks_are_the_denoisers_that_they_are_named_for(name, prepared):
    run, images = run_of(name), prepared[PARTS[name].key].images
    made = _samples.cut(run.samples[0], prepared)
    found = landmarks.landmarks(run, prepared, made, PARTS[name])
    of = objective.Denoise(images)
    rows = np.concatenate(list(landmarks.Reading.of(run, prepared).rows()))
    read, _ = of.pictures(jnp.asarray(rows))
    denoisers = {"linear": diffusion.linear(read), "copies": diffusion.Mixture(read)}
    unit = 0.5 / images.std
    if name == "gaussian_field":
        mean, covariance = gaussian_field.moments(**FIELD)
        mean = (mean - images.mean) * unit
        exact = diffusion.gaussian(jnp.asarray(mean), jnp.asarray(covariance * unit**2))
        denoisers["exact"] = exact
    seen, told = of.pictures(jnp.asarray(made.rows))
    for which, denoiser in denoisers.items():
        for k, sigma in enumerate(made.sigmas):
            said = of.pixels(denoiser(seen + sigma * made.seen, sigma))
            np.testing.assert_allclose(found[f"{which}_denoised"][k], said, atol=2e-3)
        levels = diffusion.schedule(objective.STEPS)
        samples = of.pixels(diffusion.heun(denoiser, jnp.asarray(made.noise), levels))
        np.testing.assert_allclose(found[which], samples, atol=5e-3)
    if name == "templates":
        parts, variance = templates.parts(**TOLD)
        for i, label in enumerate(np.asarray(told.label)):
            x = np.asarray(of.pixels(seen + 0.8 * made.seen))[i].reshape(-1)
            share = variance / (variance + (0.8 / unit) ** 2)
            wanted = parts[label] + share * (x - parts[label])
            got = found["exact_denoised"][1, i].reshape(-1)
            np.testing.assert_allclose(got, wanted, atol=2e-3)


def test_copies_are_training_pictures_and_landmarks_are_made_once(prepared):
    run = run_of("gaussian_field", unique=32)
    made = _samples.cut(run.samples[0], prepared)
    found = landmarks.landmarks(run, prepared, made, PARTS["gaussian_field"])
    near = landmarks.neighbours(found["copies"].astype(float), run, prepared)
    assert near["near"][:, 0].max() < 2e-3 < near["near_other"][:, 0].min()
    other = dataclasses.replace(run, init_seed=5, model=Model("unet", 9_000))
    again = landmarks.landmarks(other, prepared, made, PARTS["gaussian_field"])
    assert again["copies"] is found["copies"]


def test_what_would_take_too_long_is_left_out(prepared, monkeypatch):
    monkeypatch.setattr(landmarks, "MOST_PAIRS", 5 * 47)
    monkeypatch.setattr(landmarks, "MOST_VALUES", 15)
    run = run_of("gaussian_field", unique=48)
    made = _samples.cut(run.samples[0], prepared)
    found = landmarks.landmarks(run, prepared, made, PARTS["gaussian_field"])
    assert set(found) == {"exact", "exact_denoised"}
