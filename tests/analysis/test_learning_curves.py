"""Learning curves from their starts: which laws foretell them, and what they say."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.questions.learning_curves import choose, extrapolate, rmse_log
from scaling.errors import UserError

SEEN, AHEAD = np.geomspace(1e3, 1e6, 30), np.geomspace(2e6, 1e8, 10)


def with_floor(seen):
    return 0.3 + 5 * seen**-0.3


def test_the_law_that_is_right_counts_most():
    straight = 5 * SEEN**-0.2
    found = extrapolate(SEEN, with_floor(SEEN), AHEAD, ["m1", "power"])
    assert found.weights["power"] > 0.99
    found = extrapolate(SEEN, straight, AHEAD, ["m1", "power"])
    assert found.weights["m1"] == pytest.approx(0.5, abs=0.05)


def test_what_a_law_counts_for_is_of_the_curve_itself():
    """Half of it: a kind of curves that m1 foretells best does not outvote a floor."""
    kind = {"m1": 0.8, "power": 0.2}
    alone = extrapolate(SEEN, with_floor(SEEN), AHEAD, list(kind)).weights
    both = extrapolate(SEEN, with_floor(SEEN), AHEAD, kind).weights
    assert alone["power"] > 0.99
    assert both["power"] == pytest.approx((alone["power"] + 0.2) / 2)


def test_the_kind_is_one_for_all_curves():
    """Two curves with a floor outvote a straight one, whichever comes first."""
    noise = np.exp(0.02 * np.sin(37.0 * np.arange(SEEN.size)))
    floored, straight = (SEEN, with_floor(SEEN) * noise), (SEEN, 5 * SEEN**-0.2 * noise)
    for curves in ([floored, floored, straight], [straight, floored, floored]):
        found = choose(curves, ["m1", "power"])
        assert found["power"] > found["m1"]
        assert sum(found.values()) == pytest.approx(1.0)


def test_curves_too_short_to_hold_points_out_tell_no_law_from_another():
    assert choose([(SEEN[:5], with_floor(SEEN[:5]))], ["m1", "power"]) == {
        "m1": 0.5,
        "power": 0.5,
    }
    found = extrapolate(SEEN[:6], with_floor(SEEN[:6]), AHEAD, ["m1", "power"])
    assert set(found.weights.values()) == {0.5}


def test_a_law_without_numbers_of_the_kind_does_not_stop_the_others():
    found = extrapolate(SEEN, with_floor(SEEN), AHEAD, {"power": 0.0, "m1": 0.0})
    assert sum(found.weights.values()) == pytest.approx(1.0)


def test_the_average_is_of_log_losses():
    found = extrapolate(SEEN, 5 * SEEN**-0.2, AHEAD, ["m1", "power"])
    logs = [found.weights[name] * np.log(found.by_law[name]) for name in found.by_law]
    np.testing.assert_allclose(found.predicted, np.exp(sum(logs)))
    found = extrapolate(SEEN, with_floor(SEEN), AHEAD, ["m1", "power"])
    assert rmse_log(found.by_law["power"], with_floor(AHEAD)) < 1e-3
    assert rmse_log(found.by_law["m1"], with_floor(AHEAD)) > 0.1
    assert rmse_log(found.predicted, with_floor(AHEAD)) < 1e-3


def test_points_may_come_in_any_order():
    order = np.random.default_rng(0).permutation(SEEN.size)
    noisy = with_floor(SEEN) * np.exp(0.01 * np.sin(np.arange(SEEN.size)))
    one = extrapolate(SEEN, noisy, AHEAD, ["m1", "power"])
    other = extrapolate(SEEN[order], noisy[order], AHEAD, ["m1", "power"])
    np.testing.assert_allclose(one.predicted, other.predicted, rtol=1e-6)
    assert one.last == other.last == noisy[-1]
    again = choose([(SEEN[order], noisy[order])], ["m1", "power"])
    assert again == pytest.approx(choose([(SEEN, noisy)], ["m1", "power"]), rel=1e-3)


def test_a_curve_is_extrapolated_where_its_parameters_are_unknown():
    """A straight curve leaves the place of a break unknown, not where it goes."""
    straight = 5 * SEEN**-0.2
    found = extrapolate(SEEN, straight, AHEAD, ["bnsl"])
    assert rmse_log(found.predicted, 5 * AHEAD**-0.2) < 0.05


def test_too_short_a_curve_is_refused():
    with pytest.raises(UserError, match="curve"):
        extrapolate(SEEN[:2], with_floor(SEEN[:2]), AHEAD, ["power", "m4"])
