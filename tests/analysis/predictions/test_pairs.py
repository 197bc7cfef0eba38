"""Streamed distances beside a plain double loop in float64."""

import itertools
import math

import numpy as np
import pytest

from analysis.predictions import ensemble, pairs
from analysis.predictions.load import held, normalised
from tests.support.made_predictions import Plan, run_id

PLAN = Plan(positions=150, vocab=37, seeds=3)
POINTS = [(run_id(*run), 1.0) for run in PLAN.runs()]
EVERY = np.array(list(itertools.combinations(range(len(POINTS)), 2)))


def rounded():
    """The made predictions as files have them, some chances zero."""
    kept = PLAN.predictions()
    arrays = {point: kept.source(*point).astype(np.float16) for point in POINTS}
    arrays[POINTS[1]][:, 3] = -np.inf
    arrays[POINTS[2]][:, :30] = -np.inf
    return held(PLAN.probes, arrays, PLAN.truth)


def chances(predictions, point):
    q = np.exp(predictions.source(*point).astype(np.float64))
    return q / q.sum(axis=1, keepdims=True)


def divergence(a: np.ndarray, b: np.ndarray) -> float:
    """Of two lists of chances, term by term."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        m = 0.5 * (x + y)
        total += 0.5 * x * math.log(x / m) if x > 0 else 0.0
        total += 0.5 * y * math.log(y / m) if y > 0 else 0.0
    return total


@pytest.mark.parametrize("in_memory", [True, False])
def test_distances_are_those_of_a_double_loop(in_memory, monkeypatch):
    monkeypatch.setattr(pairs, "IN_MEMORY", 1 << 28 if in_memory else 0)
    predictions = rounded()
    rng = np.random.default_rng(0)
    weights = rng.exponential(size=(3, PLAN.positions))
    found = pairs.distances(predictions, POINTS, EVERY, weights)
    assert found.shape == (3, len(EVERY)) and found.dtype == np.float64
    every = [chances(predictions, point) for point in POINTS]
    for k, (i, j) in enumerate(EVERY):
        each = [divergence(a, b) for a, b in zip(every[i], every[j], strict=True)]
        for w, weight in enumerate(weights):
            wanted = np.dot(each, weight) / weight.sum()
            assert found[w, k] == pytest.approx(wanted, abs=2e-7)


def test_chosen_pairs_in_any_order_give_the_same():
    predictions = rounded()
    weights = np.ones((1, PLAN.positions))
    whole = pairs.distances(predictions, POINTS, EVERY, weights)[0]
    order = np.random.default_rng(1).permutation(len(EVERY))
    turned = EVERY[order][:, ::-1]
    again = pairs.distances(predictions, POINTS, turned, weights)[0]
    np.testing.assert_allclose(again, whole[order], atol=1e-9)
    some = pairs.distances(predictions, POINTS, EVERY[[4, 0]], weights)[0]
    np.testing.assert_allclose(some, whole[[4, 0]], atol=1e-9)
    each = pairs.by_position(predictions, POINTS, EVERY[:2])
    assert each.shape == (PLAN.positions, 2)
    np.testing.assert_allclose(each.mean(axis=0), whole[:2], atol=1e-7)


def test_ends_of_the_scale():
    """A run and itself are 0 apart; runs that agree on nothing are ln 2 apart."""
    predictions = rounded()
    one = np.full((PLAN.positions, PLAN.vocab), -np.inf)
    two = one.copy()
    one[:, 0], two[:, 1] = 0.0, 0.0
    more = held(PLAN.probes, {("a", 1.0): one, ("b", 1.0): two})
    apart = [("a", 1.0), ("b", 1.0)]
    weights = np.ones((1, PLAN.positions))
    ends = np.array([[0, 0], [0, 1]])
    np.testing.assert_allclose(
        pairs.distances(more, apart, ends, weights), [[0.0, math.log(2)]], atol=1e-6
    )
    same = pairs.distances(predictions, POINTS, np.array([[2, 2]]), weights)
    assert abs(same.item()) < 1e-6
    assert pairs.distances(predictions, POINTS, np.zeros((0, 2)), weights).size == 0


def test_products_are_those_of_the_errors():
    predictions = rounded()
    weights = np.random.default_rng(2).exponential(size=(2, PLAN.positions))
    found = pairs.products(predictions, POINTS, EVERY, weights)
    truth = np.sqrt(np.exp(PLAN.truth.astype(np.float64)))
    wrong = [np.sqrt(chances(predictions, point)) - truth for point in POINTS]
    for k, (i, j) in enumerate(EVERY):
        each = (wrong[i] * wrong[j]).sum(axis=1)
        wanted = weights @ each / weights.sum(axis=1)
        np.testing.assert_allclose(found[:, k], wanted, atol=2e-7)
    with pytest.raises(ValueError, match="no truth"):
        pairs.products(held(PLAN.probes, {}), [], EVERY[:0], weights)


def test_an_ensemble_is_the_mean_of_chances():
    predictions = PLAN.predictions()
    mean = ensemble.log_mean(predictions, POINTS[:3])
    wanted = np.mean([np.exp(predictions.read(*p)) for p in POINTS[:3]], axis=0)
    np.testing.assert_allclose(np.exp(mean), wanted, atol=1e-6)
    np.testing.assert_allclose(normalised(mean), mean, atol=1e-5)
    with pytest.raises(ValueError, match="no runs"):
        ensemble.log_mean(predictions, [])
