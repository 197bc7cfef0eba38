"""Agreement of samples against plain loops over noises and pixels, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.pictures import agreement
from analysis.pictures.agreement import BEYOND, CORRELATION, MEASURES, PSNR, R2
from tests.support.made_pictures import planted

RNG = np.random.default_rng(3)
X, Y, L, M = RNG.normal(0.5, 0.2, (4, 9, 3, 2, 1))
Y = 0.6 * X + 0.3 * L + 0.2 * Y
WEIGHTS = np.stack([np.ones(9), RNG.integers(0, 3, 9).astype(float)])


def looped(weights):
    """The four measures, noise by noise and value by value."""
    n, total = len(X), sum(weights)
    correlation = psnr = squares = spread = 0.0
    for i in range(n):
        x, y = X[i].ravel(), Y[i].ravel()
        a = [float(v) - sum(map(float, x)) / 6 for v in x]
        b = [float(v) - sum(map(float, y)) / 6 for v in y]
        top = sum(p * q for p, q in zip(a, b, strict=True))
        size = math.sqrt(sum(p * p for p in a) * sum(q * q for q in b))
        correlation += weights[i] * top / size
        mse = sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) / 6
        psnr += weights[i] * -10 * math.log10(mse)
        squares += weights[i] * mse
        for some in (X, Y):
            about = some[i] - sum(some[j] for j in range(n)) / n
            spread += weights[i] * 0.5 * float((about**2).sum()) / 6
    # The partial correlation from least squares over every noise and value.
    root = np.sqrt(np.repeat(weights, 6))
    flat = [(s - s.mean(axis=0)).reshape(-1) * root for s in (X, Y, L, M)]
    given = np.stack(flat[2:], axis=1)
    left = [s - given @ np.linalg.lstsq(given, s, rcond=None)[0] for s in flat[:2]]
    beyond = left[0] @ left[1] / math.sqrt((left[0] @ left[0]) * (left[1] @ left[1]))
    return {
        CORRELATION: correlation / total,
        PSNR: psnr / total,
        R2: 1 - squares / spread,
        BEYOND: beyond,
    }


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_is_that_of_a_plain_loop(measure):
    found = agreement.sums(X, Y, (L, M)).read(measure, WEIGHTS)
    wanted = [looped(list(weights))[measure] for weights in WEIGHTS]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_what_is_linear_alone_has_nothing_beyond():
    same = agreement.sums(2 * L - M, L + M, (L, M)).read(BEYOND, WEIGHTS)
    np.testing.assert_array_equal(same, 0.0)
    # One linear sample given twice is one condition.
    twice = agreement.sums(X, Y, (L, L)).read(BEYOND, WEIGHTS)
    once = agreement.sums(X, Y, (L,)).read(BEYOND, WEIGHTS)
    np.testing.assert_allclose(twice, once, atol=1e-7)
    assert np.isnan(agreement.sums(X, Y, ()).read(BEYOND, WEIGHTS)).all()


def test_a_picture_of_one_colour_correlates_with_nothing():
    flat = np.full_like(X, 0.5)
    assert agreement.sums(X, flat, ()).read(CORRELATION, WEIGHTS).tolist() == [0.0, 0.0]


def test_the_null_reads_other_noises():
    made, _, _ = planted()
    first, second = made.points(made.ends.iloc[0])[0], made.points(made.ends.iloc[4])[0]
    null = made.samples.null(first, second)
    count = made.pictures.count
    assert len(null[BEYOND]) == min(agreement.SHIFTS, count - 1)
    x, y = (made.pictures.read(i, "pictures", f) for i, f in (first, second))
    by_hand = [
        np.mean(
            [
                np.corrcoef(x[i].ravel(), y[(i + 1) % count].ravel())[0, 1]
                for i in range(count)
            ]
        )
    ]
    assert null[CORRELATION][0] == pytest.approx(by_hand[0], abs=1e-9)


def test_scores_are_compared_in_units_of_their_error():
    made, _, _ = planted()
    _, contrasts = made.scores[1]
    f, g = (made.points(row) for _, row in made.ends.iloc[[0, 4]].iterrows())
    real = made.pictures.real.reshape(made.pictures.count, -1)
    ratios = []
    for one in f:
        for two in g:
            a, b = (made.pictures.read(p[0], "denoised", p[1])[1] for p in (one, two))
            a, b = a.reshape(real.shape), b.reshape(real.shape)
            apart = error = 0.0
            for i in range(len(real)):
                for j in range(real.shape[1]):
                    apart += (a[i, j] - b[i, j]) ** 2
                    error += 0.5 * (a[i, j] - real[i, j]) ** 2
                    error += 0.5 * (b[i, j] - real[i, j]) ** 2
            ratios.append(apart / error)
    assert contrasts.between(f, g)[0] == pytest.approx(np.mean(ratios), rel=1e-9)
    # Noises of one group are drawn together.
    weights = made.held_out.weights
    np.testing.assert_array_equal(weights[:, 0::2], weights[:, 1::2])
