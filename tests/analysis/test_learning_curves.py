"""Learning curves from their starts: which laws foretell them, and what they say."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.questions.learning_curves import choose, extrapolate, rmse_log
from scaling.errors import UserError

SEEN, AHEAD = np.geomspace(1e3, 1e6, 30), np.geomspace(2e6, 1e8, 10)


def with_floor(seen):
    return 0.3 + 5 * seen**-0.3


def test_the_law_that_is_right_is_chosen():
    straight = 5 * SEEN**-0.2
    assert choose([(SEEN, with_floor(SEEN))], ["m1", "power"]) == ("power",)
    assert "m1" in choose([(SEEN, straight)], ["m1", "power"])


def test_the_choice_is_one_for_all_curves():
    """Two curves with a floor outvote a straight one, whichever comes first."""
    floored, straight = (SEEN, with_floor(SEEN)), (SEEN, 5 * SEEN**-0.2)
    for curves in ([floored, floored, straight], [straight, floored, floored]):
        assert choose(curves, ["m1", "power"]) == ("power",)


def test_curves_too_short_to_hold_points_out_choose_every_law():
    assert choose([(SEEN[:5], with_floor(SEEN[:5]))], ["m1", "power"]) == (
        "m1",
        "power",
    )


def test_the_average_is_of_log_losses():
    found = extrapolate(SEEN, with_floor(SEEN), AHEAD, ["m1", "power"])
    middle = np.sqrt(found.by_law["m1"] * found.by_law["power"])
    np.testing.assert_allclose(found.predicted, middle)
    assert rmse_log(found.by_law["power"], with_floor(AHEAD)) < 1e-3
    assert rmse_log(found.by_law["m1"], with_floor(AHEAD)) > 0.1


def test_points_may_come_in_any_order():
    order = np.random.default_rng(0).permutation(SEEN.size)
    noisy = with_floor(SEEN) * np.exp(0.01 * np.sin(np.arange(SEEN.size)))
    one = extrapolate(SEEN, noisy, AHEAD, ["m1", "power"])
    other = extrapolate(SEEN[order], noisy[order], AHEAD, ["m1", "power"])
    np.testing.assert_allclose(one.predicted, other.predicted, rtol=1e-6)
    assert one.last == other.last == noisy[-1]
    assert choose([(SEEN[order], noisy[order])], ["m1", "power"]) == ("power",)


def test_a_curve_is_extrapolated_where_its_parameters_are_unknown():
    """A straight curve leaves the place of a break unknown, not where it goes."""
    straight = 5 * SEEN**-0.2
    found = extrapolate(SEEN, straight, AHEAD, ["bnsl"])
    assert rmse_log(found.predicted, 5 * AHEAD**-0.2) < 0.05


def test_too_short_a_curve_is_refused():
    with pytest.raises(UserError, match="curve"):
        extrapolate(SEEN[:2], with_floor(SEEN[:2]), AHEAD, ["power", "m4"])
