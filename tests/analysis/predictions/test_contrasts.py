"""Distances between groups: their values, and intervals that hold what was planted."""

import dataclasses
import itertools

import numpy as np
import pytest

from analysis.inference.intervals import interval
from analysis.predictions import pairs
from analysis.predictions.contrasts import Compared, Resampling
from tests.support.made_predictions import Plan, run_id

PLAN = Plan(positions=200, vocab=12)


def group(family, plan=PLAN):
    return [
        (run_id(family, "docstrings", 8000, 8192, s), 1.0) for s in range(plan.seeds)
    ]


def apart(compared, one, two):
    found = pairs.by_position(compared.predictions, [one, two], np.array([[0, 1]]))
    return found.mean()


def test_statistics_are_means_over_pairs():
    compared = Compared(PLAN.predictions(), draws=20)
    f, g = group("lstm"), group("transformer")
    between = np.mean([apart(compared, a, b) for a in f for b in g])
    floors = [
        np.mean([apart(compared, a, b) for a, b in itertools.combinations(some, 2)])
        for some in (f, g)
    ]
    assert compared.between(f, g)[0] == pytest.approx(between, abs=1e-6)
    assert compared.within(f)[0] == pytest.approx(floors[0], abs=1e-6)
    excess = compared.excess(f, g)
    assert excess[0] == pytest.approx(between - np.mean(floors), abs=1e-6)
    np.testing.assert_allclose(excess, compared.excess(g, f), atol=1e-9)
    assert excess.shape == (21,)


def test_documents_are_drawn_whole_and_with_their_weights():
    plan = dataclasses.replace(PLAN, per_document=4)
    weights = Resampling.of(plan.predictions(), draws=50).weights
    assert weights.shape == (51, 200)
    by_document = weights.reshape(51, 50, 4)
    assert (by_document == by_document[:, :, :1]).all()
    assert (weights[0] == 1).all() and (weights[1:].sum(axis=1) == 200).all()
    probes = dataclasses.replace(plan.probes, weight=np.linspace(0.5, 1.5, 200))
    uneven = dataclasses.replace(plan.predictions(), probes=probes)
    np.testing.assert_allclose(Resampling.of(uneven, 3).weights[0], probes.weight)


def test_without_two_seeds_there_is_no_floor_and_no_excess():
    compared = Compared(PLAN.predictions(), draws=20)
    f, g = group("lstm")[:1], group("transformer")
    assert np.isnan(compared.within(f)).all()
    assert np.isnan(compared.excess(f, g)).all()
    assert np.isfinite(compared.between(f, g)).all()
    assert np.isfinite(compared.excess(group("lstm")[:2], g[:2])).all()


def test_a_planted_gap_is_found_and_one_family_under_two_names_is_not():
    held, found = 0, 0
    for draw in range(20):
        plan = dataclasses.replace(PLAN, draw=draw, same=(("lstm", "transformer"),))
        compared = Compared(plan.predictions(), 200, draw)
        low, high = interval(compared.excess(group("lstm"), group("transformer"))[1:])
        held += low <= 0 <= high
        compared = Compared(dataclasses.replace(plan, same=()).predictions(), 200, draw)
        low, _ = interval(compared.excess(group("lstm"), group("transformer"))[1:])
        found += low > 0
    assert held >= 18 and found == 20


def test_seeds_that_spread_widen_the_interval_and_documents_are_not_counted_twice():
    compared = Compared(PLAN.predictions(), 200)
    value = np.append(1.0, np.ones(200))
    f = group("lstm")
    # One run adds 0.3 whatever the documents: that is the seeds' own.
    steady = dict(zip(f, [np.full(201, x) for x in (0.2, -0.1, -0.1)], strict=True))
    assert compared.together(value, steady, [f])[1:].std() > 0.1
    # What each run adds is all a matter of which documents were drawn.
    rng = np.random.default_rng(0)
    noisy = {point: part + rng.normal(0, 1, 201) for point, part in steady.items()}
    for point in f:
        noisy[point][0] = steady[point][0]
    np.testing.assert_array_equal(compared.together(value, noisy, [f]), value)


def test_a_choice_of_pairs_is_their_mean_and_all_of_them_the_plain_one():
    compared = Compared(PLAN.predictions(), draws=20)
    f, g = group("lstm"), group("transformer")
    each = np.array([[compared.distance(a, b) for b in g] for a in f])
    whole = compared.between(f, g)
    np.testing.assert_array_equal(whole[0], each.mean(axis=(0, 1))[0])
    every = np.ones((3, 3), bool)
    np.testing.assert_array_equal(compared.between(f, g, every), whole)
    chosen = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)  # one with none
    some = compared.between(f, g, chosen)
    assert some[0] == pytest.approx(each[chosen].mean(axis=0)[0], abs=1e-15)
    assert np.isfinite(some).all() and some[1:].std() > 0
