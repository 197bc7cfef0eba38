"""Quantiles are those of scipy.stats, which no command imports at its start."""

import numpy as np
import pytest
from scipy import stats

from analysis.inference import quantiles


@pytest.mark.parametrize("share", [0.001, 0.025, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("freedom", [1, 3.2, 17, 400])
def test_as_scipy_stats(share, freedom):
    close = {"rtol": 1e-13, "atol": 1e-13}
    found = quantiles.student(share, freedom)
    np.testing.assert_allclose(found, stats.t.ppf(share, freedom), **close)
    found = quantiles.fisher(share, 2, freedom)
    np.testing.assert_allclose(found, stats.f.ppf(share, 2, freedom), **close)
    found = quantiles.fisher_tail(share, 2, freedom)
    np.testing.assert_allclose(found, stats.f.sf(share, 2, freedom), **close)
    found = quantiles.chi_squared(share, freedom)
    np.testing.assert_allclose(found, stats.chi2.ppf(share, freedom), **close)
    found = quantiles.student_log_density(np.array([share, -9.0]), freedom)
    wanted = stats.t.logpdf([share, -9.0], freedom)
    np.testing.assert_allclose(found, wanted, **close)
    assert quantiles.normal(share) == stats.norm.ppf(share)


def test_fair_coins():
    for coins in range(1, 60):
        assert quantiles.fair_coins(0.025, coins) == stats.binom.ppf(0.025, coins, 0.5)
