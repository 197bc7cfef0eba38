"""Laws that predict together: what each counts for, and how wide they are."""

import dataclasses

import numpy as np
import pytest

from analysis.surfaces import mixture
from analysis.surfaces.backtests import SHARES, Backtest
from analysis.surfaces.mixture import Candidate, Mixture
from tests.support.made_grid import runs, split

AT = {"params": np.array([1e9, 1e6]), "tokens": np.array([1e10, 1e8])}
AT |= {"family": np.zeros(2, int), "corpus": np.zeros(2, int)}


@pytest.fixture(scope="module")
def found() -> list[Candidate]:
    surfaces, _ = split(runs())
    return mixture.candidates(surfaces, "a", "d", 1e-3, 0)


def held_out(one: Candidate, off: float, claimed: float = 0.01) -> Candidate:
    """The law as if its back-tests had missed six runs by `off`."""
    curves = np.zeros((3, 6))
    noise = np.array([claimed, -claimed])
    tests = {share: Backtest(np.full(6, off), curves, noise) for share in SHARES}
    return dataclasses.replace(one, tests=tests, noise=noise)


def test_noise_does_not_tell_laws_apart():
    frame = runs(noise=0.02)
    surfaces, _ = split(frame[frame.family == "a"])
    found = mixture.candidates(surfaces, "a", "d", 1e-3, 0)
    shares = Mixture.of(found).at(AT, 50, 0).weights[:, 0]
    errors = np.array([one.error for one in found])
    close = errors < 1.05 * errors.min()
    assert close.sum() >= 2
    assert shares[close].max() < 3 * shares[close].min()


def test_weights_are_densities_of_what_was_held_out(found):
    near, far = held_out(found[0], 0.0), held_out(found[0], 0.03)
    mixed = Mixture.of([near, far])
    weights = mixed.at(AT, 50, 0).weights
    gap = sum(near.tests[s].score - far.tests[s].score for s in SHARES)
    # Both claim the same at every place, which leaves the scores.
    np.testing.assert_allclose(weights[0] / weights[1], np.exp(gap))
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)


def test_a_law_that_the_runs_do_not_hold_at_a_place_counts_less_there(found):
    """Equal in the back-tests, and less certain far below the runs."""
    one = held_out(found[0], 0.0)
    theta = one.fitted.theta.copy()
    spread = np.random.default_rng(0).normal(size=len(theta) - 1)
    theta[1:, 3] += 0.05 * spread  # the exponent of N
    loose = dataclasses.replace(
        one, fitted=dataclasses.replace(one.fitted, theta=theta)
    )
    near, far = Mixture.of([one, loose]).at(AT, 50, 0).weights[1]
    assert far < 0.5 * near


def test_without_back_tests_the_first_law_counts_alone(found):
    blind = [dataclasses.replace(one, tests={}) for one in found[:3]]
    weights = Mixture.of(blind).at(AT, 50, 0).weights
    np.testing.assert_array_equal(weights, np.eye(3)[0][:, None].repeat(2, axis=1))


def test_a_law_that_could_not_be_tested_counts_only_where_none_could(found):
    untested = dataclasses.replace(found[0], tests={})
    mixed = Mixture.of([untested, held_out(found[1], 0.0)])
    np.testing.assert_array_equal(mixed.at(AT, 50, 0).weights[0], 0.0)
    part = held_out(found[0], 0.0)
    part = dataclasses.replace(part, tests={SHARES[0]: part.tests[SHARES[0]]})
    one, other = mixture.scores([part, held_out(found[1], 0.02)])
    # What it was not fitted for counts as for the other.
    assert one - other == pytest.approx(
        part.tests[SHARES[0]].score - held_out(found[1], 0.02).tests[SHARES[0]].score
    )


def test_what_all_laws_miss_alike_widens_the_interval(found):
    close = Mixture.of([held_out(one, 0.002) for one in found[:2]])
    off = Mixture.of([held_out(one, 0.04) for one in found[:2]])
    assert close.widening == 1.0
    assert off.widening == pytest.approx(4.0)
    narrow, wide = close.at(AT, 400, 0), off.at(AT, 400, 0)
    np.testing.assert_allclose(narrow.point, wide.point)
    ratio = np.log(wide.run / wide.point) / np.log(narrow.run / narrow.point)
    np.testing.assert_allclose(ratio, 4.0)


def test_a_law_that_says_nothing_sure_anywhere_has_no_interval(found):
    theta = found[0].fitted.theta.copy()
    theta[1:] = np.nan
    fitted = dataclasses.replace(found[0].fitted, theta=theta)
    said = Mixture.of([dataclasses.replace(found[0], fitted=fitted)]).at(AT, 50, 0)
    assert np.isfinite(said.point).all() and np.isnan(said.run).all()
