"""Pictures whose truth is known: chances of pixels in raster order, and the entropy."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from analysis.tables import truth as truths
from scaling import corpora
from scaling.corpora import _truth, gaussian_field, templates
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run, options

SMALL = {"size": 4, "pictures": 4_096}
LEVELS = np.arange(256)


def pixels(module, **chosen) -> np.ndarray:
    """int64 [n, d]: pictures as rows of levels."""
    made = module.pictures(**chosen)
    return np.array([one.pixels.ravel() for one in made], np.int64)


def chances_of(module, row: np.ndarray, at: int, **chosen) -> np.ndarray:
    """[256]: of each level of the pixel at `at`, given those before it in the row."""
    rows = np.tile(row[: at + 1], (256, 1))
    rows = np.pad(rows, ((0, 0), (0, len(row) - at - 1)), constant_values=128)
    rows[:, at] = LEVELS
    return np.exp(-module.oracle(rows, np.zeros(256, int), **chosen)[:, at])


@pytest.mark.parametrize("exponent", [0.0, 2.0, 5.0])
def test_a_field_s_pixel_is_normal_given_those_before_it(exponent):
    chosen = {**SMALL, "exponent": exponent, "pictures": 8}
    mean, covariance = gaussian_field.moments(**chosen)
    mean, covariance = 255.0 * mean, 255.0**2 * covariance
    row = pixels(gaussian_field, **chosen)[3]
    for at in (0, 5, 15):
        before = covariance[:at, :at]
        weights = np.linalg.solve(before, covariance[:at, at])
        middle = mean[at] + weights @ (row[:at] - mean[:at])
        # The pixel before its own rounding.
        own = covariance[at, at] - 1 / 12 - weights @ covariance[:at, at]
        normal = stats.norm(middle, math.sqrt(own))
        wanted = normal.cdf(LEVELS + 0.5) - normal.cdf(LEVELS - 0.5)
        wanted[0], wanted[255] = normal.cdf(0.5), normal.sf(254.5)
        found = chances_of(gaussian_field, row, at, **chosen)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-12)
        assert found.sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("labels", [0, 1])
def test_a_template_s_pixels_by_the_sum_over_all_templates(labels):
    chosen = {**SMALL, "labels": labels, "count": 3, "pictures": 8}
    made = list(templates.pictures(**chosen))
    flat = templates.Templates(**chosen).templates.reshape(3, -1)
    for one in made[:3]:
        row = one.pixels.ravel().astype(int)
        edges = np.stack([row - 0.5, row + 0.5])
        below = stats.norm(flat[:, None], 12.0).cdf(edges)  # [template, end, pixel]
        each = (below[:, 1] - below[:, 0]).prod(axis=1)
        wanted = each[one.label] if labels else each.mean()
        read = np.append(256 + one.label, row) if labels else row
        nats = templates.oracle(read[None], np.zeros(1, int), **chosen)
        assert nats.shape == (1, len(read))
        assert nats.sum() == pytest.approx(-math.log(wanted), rel=1e-9)
    if not labels:
        found = chances_of(templates, row, 9, **chosen)
        assert found.sum() == pytest.approx(1.0, abs=1e-9)


def test_templates_are_scored_alike_however_many_at_a_time(monkeypatch):
    rows = pixels(templates, **SMALL | {"pictures": 40})
    whole = templates.oracle(rows, np.zeros(40, int), **SMALL)
    monkeypatch.setattr(templates, "CHANCES", 1)
    assert (templates.oracle(rows, np.zeros(40, int), **SMALL) == whole).all()


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("gaussian_field", {}),
        ("gaussian_field", {"exponent": 5.0}),
        ("templates", {}),
        ("templates", {"labels": 1}),
    ],
)
def test_truth_of_held_out_pictures_is_near_the_entropy(tmp_path, name, chosen):
    part = Part(name, options=options(**SMALL | chosen))
    made = corpora.prepare([part], tmp_path, progress=False)
    held_out = EvaluationSet("held out", (part,), 128)
    run = Run(
        model=Model("transformer", 8_000),
        data=Data((part,), 64),
        optimiser=Optimiser(1e-2),
        batch=4,
        length=1,
        evaluation=(held_out,),
        objective="next_token",
    )
    known = _truth.sets([run, dataclasses.replace(run, objective="denoise")])
    assert known == {(held_out, 1): run}
    found = _truth.of_set(held_out, run, made)
    assert found.unit == "nats/dim" and found.count == 128 * 16
    assert 0.0 < found.se < 0.02
    # The closed form of a field misses the rounding of its finest waves by little.
    error = math.hypot(found.se, found.entropy_se)
    assert abs(found.loss - found.entropy) < 4 * error + 0.003
    levels = dataclasses.replace(run.data, tokenizer="levels:16")
    assert not _truth.sets([dataclasses.replace(run, data=levels)])


def test_the_truth_of_pictures_is_in_bits_beside_the_bounds():
    pictures = {"evaluation": "fields", "unit": "nats/dim", "length": 1, "count": 8}
    text = {"evaluation": "text", "length": 8, "count": 8}  # as before pictures had one
    shared = {"loss": 2.0, "se": 0.1, "entropy": 2.0, "entropy_se": 0.0}
    known = truths.facts([{"truth": [pictures | shared, text | shared]}])
    assert known.unit.tolist() == ["nats/dim", "nats/token"]
    bits = truths.bits_of_pictures(known)
    assert bits == {"fields": pytest.approx(2.0 / math.log(2.0))}
