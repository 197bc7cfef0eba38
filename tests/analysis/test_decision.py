"""Compute-equivalents, crossovers and decisions on planted surfaces."""

import numpy as np
import pandas as pd
import pytest

from analysis.design.swaps import swaps
from analysis.effects import frontier
from analysis.effects.frontier import Frontier, compute_logs, crossing, flop_rate
from analysis.questions.decision import (
    _regret,
    best_share,
    decisions_frame,
    of_compute,
    small_ranks,
)
from tests.support.made_surfaces import CORPORA, FAMILIES, SIZES, Truth, cells

EVERY = swaps(FAMILIES, CORPORA)
REACH = (5e10, 6e15)


def of(truth: Truth, **spread) -> Frontier:
    rate = flop_rate(cells(truth.runs(0.0)))
    return Frontier(truth.surface(**spread), rate, (SIZES[0], SIZES[-1]), REACH)


def test_the_frontier_is_the_closed_form_of_hoffmann():
    truth = Truth(alpha=0.35, beta=0.35)
    compute = 1e13
    # Equal exponents: G = (A / B)^(1 / 2 alpha), N = G sqrt(C / 6).
    size = (truth.A / truth.B) ** (1 / 0.7) * np.sqrt(compute / 6.0)
    wanted = truth.loss("a", "code", size, compute / 6.0 / size)
    assert of(truth).at("a", "code", compute)[0] == pytest.approx(wanted, rel=3e-4)


def test_a_multiplier_on_both_sizes_is_its_product_in_compute():
    truth = Truth(rhoN={"b": 1.5}, rhoD={"b": 1.2})
    found = [s for s in EVERY if s.kind == "architecture"]
    for logs in compute_logs(of(truth), found, [1e12, 1e14]).values():
        np.testing.assert_allclose(np.exp(logs), 1.8, rtol=1e-2)


def test_a_costlier_family_gains_less_compute():
    truth = Truth(rhoN={"b": 1.5}, rhoD={"b": 1.2})
    runs = cells(truth.runs(0.0))
    runs["flops"] *= np.where(runs.family == "b", 1.8, 1.0)
    dear = Frontier(truth.surface(), flop_rate(runs), (SIZES[0], SIZES[-1]), REACH)
    found = [s for s in EVERY if s.kind == "architecture"]
    for logs in compute_logs(dear, found, [1e12]).values():
        np.testing.assert_allclose(np.exp(logs), 1.0, rtol=1e-2)


def test_a_floor_above_is_an_infinite_compute_equivalent():
    truth = Truth(floor={"a": 3.0})
    found = [s for s in EVERY if s.kind == "architecture"]
    logs = compute_logs(of(truth), found, [1e14])
    frame = frontier.multipliers_frame(logs, [{"compute": 1e14}], "compute", "t")
    assert np.isposinf(frame.factor).all() and (frame.p_infinite == 1.0).all()
    assert set(frame.fixed) == {*CORPORA, "*"}


def test_a_planted_crossover_is_found_and_none_is_said_so():
    steeper = Truth(betas={"b": 0.45}, floor={"b": 0.02})
    found = [s for s in EVERY if s.kind == "architecture"][:1]
    row = frontier.crossovers_frame(of(steeper), found, REACH, "t").iloc[0]
    curve = of(steeper)
    at = [curve.at(f, "code", row.compute)[0] for f in FAMILIES]
    assert at[0] == pytest.approx(at[1], rel=1e-4)
    assert REACH[0] < row.compute < REACH[1] and row.p_none == 0.0
    better = Truth(rhoD={"b": 1.3})
    row = frontier.crossovers_frame(of(better), found, REACH, "t").iloc[0]
    assert row.compute == 0.0 and row.p_none == 1.0 and row.alternative == "b"


def test_crossings_are_the_last_and_open_ends_are_infinite():
    grid = np.arange(5.0)
    ahead = np.array(
        [
            [-1.0, 1.0, -1.0, 1.0, 2.0],
            [1.0, 1.0, 1.0, 1.0, 1.0],
            [1.0, 1.0, 1.0, 1.0, -1.0],
            [np.nan] * 5,
        ]
    )
    np.testing.assert_array_equal(crossing(ahead, grid), [2.5, -np.inf, np.inf, np.nan])


def test_decision_probabilities_are_shares_of_draws():
    losses = np.array([[1.0, 1.0, 2.0, np.nan], [2.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(best_share(losses), [0.5, 0.5])
    assert np.isnan(best_share(np.full((2, 3), np.nan))).all()


def test_families_far_from_the_others_in_compute_are_not_ranked():
    runs = cells(Truth().runs(0.0))
    assert frontier.comparable(runs) == list(FAMILIES)
    runs["flops"] /= np.where(runs.family == "b", 2 * frontier.FAR, 1.0)
    assert frontier.comparable(runs) == ["a"]
    (note,) = of_compute(runs, "t")
    assert note.text.startswith("At equal compute b is not compared")


def test_the_small_scale_misleads_where_the_curves_cross():
    truth = Truth(betas={"b": 0.5}, floor={"b": 0.02})
    made = cells(truth.runs(0.0))
    frame = decisions_frame(
        of(truth), made, FAMILIES, CORPORA, [REACH[1]], "t", "joint"
    ).set_index(["corpus", "family"])
    for corpus in CORPORA:
        best = frame.loc[(corpus, "b")]
        assert best.p_best == 1.0 and best["rank"] == 1 and best.regret == 0.0
        assert best.small_rank == 2 and frame.loc[(corpus, "a")].small_rank == 1
        assert frame.loc[(corpus, "a")].regret > 0.0
        assert best.small_params == SIZES[0]


def test_two_alike_are_a_coin_toss():
    frame = decisions_frame(
        of(Truth(), draws=400, spread=0.01),
        cells(Truth().runs(0.0)),
        FAMILIES,
        CORPORA,
        [1e13],
        "t",
        "joint",
    )
    assert frame.p_best.between(0.4, 0.6).all()


def test_no_shared_small_cell_gives_no_small_rank():
    made = cells(Truth().runs(0.0))
    apart = made[(made.family == "a") == (made.budget < 2)]
    ranks, small = small_ranks(apart, FAMILIES, "code")
    assert ranks == {} and np.isnan(small).all()


def test_flops_per_parameter_and_token_are_those_of_the_family():
    runs = pd.DataFrame(
        {"family": "a", "params": [1e3, 1e5], "tokens": 1e6, "flops": [2e10, 6e11]}
    )
    rate = flop_rate(runs)
    at = rate("a", np.array([1e2, 1e3, 1e4, 1e5, 1e6]))
    np.testing.assert_allclose(at, [20, 20, np.sqrt(120), 6, 6])
    np.testing.assert_allclose(rate("new", np.array([1e3])), 6.0)


def test_regret_is_over_draws_that_tell_every_family():
    losses = np.array([[1.0, np.nan, 3.0], [2.0, 1.0, 2.5]])
    np.testing.assert_allclose(_regret(losses), [0.25, 0.5])
    assert np.isnan(_regret(losses[:, 1:2])).all()
