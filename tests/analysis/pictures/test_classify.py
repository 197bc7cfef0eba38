"""A classifier of two kinds: chance where they are one, and plain ridge regression."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.pictures import classify

RNG = np.random.default_rng(5)


def drawn(count, spread=1.0, edges=0.0):
    made = spread * RNG.normal(size=(count, 4, 4, 1))
    return 0.5 + 0.1 * (made + edges * np.roll(made, 1, axis=1))


@pytest.mark.parametrize(
    ("other", "low", "high"),
    [({}, 0.38, 0.62), ({"spread": 2.0}, 0.8, 1.0), ({"edges": 1.0}, 0.75, 1.0)],
)
def test_kinds_are_told_apart_by_their_spread_and_edges_and_not_by_chance(
    other, low, high
):
    one, two = drawn(120), drawn(120, **other)
    groups = np.arange(120), 1000 + np.arange(120)
    right = classify.right(one, two, groups)
    assert right.shape == (240,) and low <= right.mean() <= high


def test_pictures_of_one_group_are_judged_by_others_alone():
    # Each group has one picture, copied; its copies are all of one kind.
    one, two = (np.repeat(drawn(20), 6, axis=0) for _ in range(2))
    apart = [np.repeat(np.arange(20), 6), np.repeat(100 + np.arange(20), 6)]
    assert classify.right(one, two, tuple(apart)).mean() < 0.75
    alone = np.arange(120), 1000 + np.arange(120)
    assert classify.right(one, two, alone).mean() > 0.95  # which says nothing


def test_it_is_ridge_regression_with_the_penalty_of_the_least_error_left_one_out():
    known, y = RNG.normal(size=(14, 5)), np.repeat([-1.0, 1.0], 7)
    asked = RNG.normal(size=(3, 5))
    found = classify._scored(known, y, asked)
    middle, scale = known.mean(axis=0), known.std(axis=0) * np.sqrt(5)
    a, b = (known - middle) / scale, (asked - middle) / scale
    mean = np.linalg.eigvalsh(a @ a.T).clip(0).mean()
    best = (np.inf, 0.0)
    for penalty in classify.PENALTIES * mean:
        lost = 0.0
        for i in range(14):  # with the features as they were standardised on all
            rest = np.arange(14) != i
            here = np.concatenate([a[rest], np.ones((13, 1))], axis=1)
            inner = here.T @ here + np.diag([penalty] * 5 + [0.0])
            weights = np.linalg.solve(inner, here.T @ y[rest])
            lost += (y[i] - np.append(a[i], 1.0) @ weights) ** 2
        best = min(best, (lost, penalty))
    weights = np.linalg.solve(a.T @ a + best[1] * np.eye(5), a.T @ y)
    ends = (a @ weights)[:7].mean(), (a @ weights)[7:].mean()
    np.testing.assert_allclose(found, b @ weights - np.mean(ends), atol=1e-9)


def test_halves_are_of_whole_groups_and_levels_are_middles():
    groups = np.repeat(np.arange(9), 3)
    half = classify.halves(groups, 1)
    assert half.sum() == 12 and all(len(set(half[groups == g])) == 1 for g in range(9))
    cut = classify.quantised(np.array([0.0, 15 / 255, 16 / 255, 1.2]), 16)
    np.testing.assert_allclose(255 * cut, [7.5, 7.5, 23.5, 247.5])
    np.testing.assert_allclose(255 * classify.quantised(np.array([0.3]), 256), [76.0])
