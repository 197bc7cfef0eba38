"""Floors of short curves: found where points tell them, else refused."""

import numpy as np

from analysis.predictions.asymptote import floor

X = 2.0 ** np.arange(7)
RNG = np.random.default_rng(3)


def drawn(curve, noise, draws=200):
    """Points that lie off the curve by one noise, and draws about them."""
    seen = curve + noise * RNG.standard_normal(len(curve))
    return np.concatenate(
        [seen[None], seen + noise * RNG.standard_normal((draws, len(curve)))]
    )


def test_a_planted_floor_is_held_by_its_interval():
    held = sum(
        found.low <= 0.5 <= found.high
        for found in (floor(X, drawn(0.5 + X**-0.8, 0.005)) for _ in range(60))
    )
    assert held >= 53
    exact = floor(X, drawn(0.5 + X**-0.8, 2e-4))
    assert abs(exact.value - 0.5) < 2e-3 and abs(exact.exponent - 0.8) < 0.02


def test_what_points_cannot_tell_is_refused():
    few = floor(X[:3], drawn(0.5 + X[:3] ** -0.8, 0.005))
    assert few.refused == "3 points for a curve of 3 parameters"
    slow = floor(X, drawn(2.0 - 0.1 * np.log(X), 0.005))
    assert "a fall without an end" in slow.refused
    flat = floor(X, drawn(np.full(7, 0.5), 0.005))
    assert "a fall without an end" in flat.refused
    bent = floor(X, drawn(0.5 + np.exp(-((np.log(X) - 2) ** 2)), 0.005))
    assert "bend otherwise" in bent.refused
    for one in (few, slow, flat, bent):
        assert np.isnan([one.value, one.low, one.high]).all()


def test_no_floor_is_below_the_least():
    found = floor(X, drawn(X**-0.8, 0.005))
    assert found.low == 0 and found.high < 0.05


def test_points_without_noise_tell_no_floor():
    found = floor(np.array([1.0, 2.0, 4.0, 8.0]), np.ones((30, 4)))
    assert found.refused == "the points are the same in all draws"
