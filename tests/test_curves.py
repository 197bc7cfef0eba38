"""A learning curve from its start: laws weighted by how right they were so far."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.curves import extrapolate, rmse_log
from scaling.errors import UserError

SEEN, AHEAD = np.geomspace(1e3, 1e6, 30), np.geomspace(2e6, 1e8, 10)


def with_floor(seen):
    return 0.3 + 5 * seen**-0.3


def test_the_law_that_is_right_gets_nearly_all_the_weight():
    found = extrapolate(SEEN, with_floor(SEEN), AHEAD, ["m1", "power"])
    assert found.weights["power"] > 0.99
    assert sum(found.weights.values()) == pytest.approx(1)
    assert rmse_log(found.predicted, with_floor(AHEAD)) < 1e-3
    assert rmse_log(found.by_law["m1"], with_floor(AHEAD)) > 0.1


def test_points_may_come_in_any_order():
    order = np.random.default_rng(0).permutation(SEEN.size)
    noisy = with_floor(SEEN) * np.exp(0.01 * np.sin(np.arange(SEEN.size)))
    one = extrapolate(SEEN, noisy, AHEAD, ["m1", "power"])
    other = extrapolate(SEEN[order], noisy[order], AHEAD, ["m1", "power"])
    np.testing.assert_allclose(one.predicted, other.predicted, rtol=1e-6)
    assert one.last == other.last == noisy[-1]


def test_too_short_a_curve_is_refused():
    with pytest.raises(UserError, match="curve"):
        extrapolate(SEEN[:2], with_floor(SEEN[:2]), AHEAD, ["power", "m4"])
