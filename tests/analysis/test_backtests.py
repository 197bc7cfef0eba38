"""Laws fitted to the cheaper of their runs, and asked for the others."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.surfaces import backtests
from analysis.surfaces.backtests import Backtest
from tests.support.made_grid import runs, split


def made(off: float, claimed: float, curve: float = 0.0) -> Backtest:
    """Runs that lie `off` a curve, known to `curve`, with a noise of `claimed`."""
    curves = np.array([[1.0, 1.0], [1.0 + curve, 1.0], [1.0 - curve, 1.0]])
    return Backtest(np.full(2, 1.0 + off), curves, np.array([claimed, -claimed]))


def test_a_score_is_a_mean_log_density():
    """Of Student's t with 4 degrees of freedom, whose variance is twice its scale."""
    scale = 0.3 / np.sqrt(2.0)
    expected = stats.t.logpdf(0.5, 4.0, scale=scale)
    assert made(0.5, 0.3).score == pytest.approx(expected)


def test_near_misses_and_honest_claims_score_high():
    assert made(0.1, 0.3).score > made(0.5, 0.3).score
    # Twice as far off as it claims is worse than claiming so much.
    assert made(0.6, 0.6).score > made(0.6, 0.3).score
    # Claiming more than that is worse again.
    assert made(0.6, 0.6).score > made(0.6, 5.0).score


def test_the_variance_is_of_the_curve_and_of_a_run():
    found = made(0.0, 0.3, curve=0.4).variance
    np.testing.assert_allclose(found, [0.4**2 + 0.3**2, 0.3**2])


def test_every_family_is_tested_on_its_own_dearest_runs():
    """Also one whose runs are never among the table's dearest."""
    frame = runs()
    small = frame.family == "b"
    frame.loc[small, "params"] /= 30
    surfaces, _ = split(frame)
    draws = surfaces.draws
    for family in ("a", "b"):
        law = surfaces.single[family, "d"]
        tried = backtests.tried(law, draws, 1e-3, 0)
        pair = (draws.data.frame.family == family).to_numpy()
        found = backtests.backtests(tried, draws, pair)
        assert set(found) == set(backtests.SHARES)
        flops = draws.data.frame.flops[pair]
        for share, test in found.items():
            assert test.observed.size == (flops > 1.001 * share * flops.max()).sum()


def test_the_largest_scale_is_a_budget_where_sizes_are_few():
    frame = pd.DataFrame({"level": [0, 1, 2, 2], "budget": [0, 1, 0, 1]})
    frame = frame.assign(family="a", corpus="d")
    np.testing.assert_array_equal(
        backtests.below_largest(frame), [True, False, True, False]
    )
    more = pd.DataFrame({"level": [0, 1, 2, 3], "budget": [0, 1, 0, 1]})
    more = more.assign(family="a", corpus="d")
    np.testing.assert_array_equal(
        backtests.below_largest(more), [True, True, True, False]
    )
