"""Swaps on planted surfaces: equivalents, ratios, interactions, agreement, costs."""

import math

import numpy as np
import pytest

from analysis.design.swaps import Swap, swaps
from analysis.effects import data_equivalents, matched_cells, pooled_cells
from analysis.effects.data_equivalents import Equivalents
from analysis.questions import interaction
from analysis.questions._effect_notes import flagged
from tests.support.made_surfaces import BUDGETS, CORPORA, FAMILIES, SIZES, Truth, cells

POINTS = [(n, d) for n in SIZES[:3] for d in BUDGETS[1:4]]
EVERY = swaps(FAMILIES, CORPORA)


def logs_of(truth: Truth, currency="tokens", **spread):
    model = Equivalents(truth.surface(**spread), POINTS, currency)
    return data_equivalents.log_factors(model, data_equivalents.gains(model, EVERY))


def test_a_swap_exchanges_one_factor_and_stands_in_one_direction():
    assert len(EVERY) == 4
    assert {swap.kind for swap in EVERY} == {"architecture", "corpus"}
    described = {
        "family": {
            "a, adam": {"architecture": "a", "optimiser": "adam"},
            "a, muon": {"architecture": "a", "optimiser": "muon"},
            "b, muon": {"architecture": "b", "optimiser": "muon"},
        }
    }
    found = swaps(list(described["family"]), ["code"], described)
    assert [(s.kind, s.baseline, s.alternative, s.fixed) for s in found] == [
        ("architecture", "a", "b", "muon, code"),
        ("optimiser", "adam", "muon", "a, code"),
    ]


def test_the_gain_is_the_direction_that_is_told():
    logs = logs_of(Truth(rhoD={"a": 1.3, "prose": 0.5}))
    assert {s.pair for s in logs} == {
        ("architecture", "b", "a"),
        ("corpus", "prose", "code"),
    }
    for swap, draws in logs.items():
        wanted = math.log(1.3 if swap.kind == "architecture" else 2.0)
        np.testing.assert_allclose(draws, wanted, atol=2e-3)


def test_a_planted_size_multiplier_is_the_parameter_equivalent():
    logs = logs_of(Truth(rhoN={"b": 1.7}), "params")
    swap = next(s for s in logs if s.kind == "architecture")
    assert (swap.baseline, swap.alternative) == ("a", "b")
    np.testing.assert_allclose(logs[swap], math.log(1.7), atol=2e-3)


def test_what_no_amount_of_data_does_is_infinite_with_its_probability():
    # Half of the draws lift the floor of prose above all that code reaches.
    low, high = Truth().surface(), Truth(floor={"prose": 3.0}).surface()
    lifted = np.arange(41) % 2 == 1

    def surface(*at):
        return np.where(lifted[:, None], high(*at), low(*at))

    model = Equivalents(surface, POINTS)
    swap = Swap("corpus", "prose", "code", "a", ("a", "prose"), ("a", "code"))
    logs = data_equivalents.log_factors(model, [swap])
    row = data_equivalents.equivalents_frame(logs, POINTS, "t", "joint").iloc[-1]
    assert row.fixed == "*" and np.isnan(row.params)
    assert row.factor == pytest.approx(1.0, abs=1e-3) and row.p_infinite == 0.5
    assert np.isposinf(row.high)


def test_lambda_is_the_ratio_of_logs_and_counts_doublings():
    logs = logs_of(Truth(rhoD={"b": 4.0, "prose": 0.5}))
    frame = data_equivalents.ratios_frame(logs, POINTS, "t")
    whole = frame[frame.params.isna()].iloc[0]
    assert whole.architecture == "a -> b" and whole.corpus == "prose -> code"
    assert whole["lambda"] == pytest.approx(2.0, abs=0.01)
    assert whole.doublings == pytest.approx(2.0, abs=0.01)
    assert whole.p_architecture == 1.0 and whole.p_doubling == 1.0
    assert whole.p_corpus_infinite == 0.0


def test_an_infinite_corpus_effect_is_a_probability_and_not_a_ratio_of_zero():
    logs = logs_of(Truth(rhoD={"b": 2.0}, floor={"prose": 3.0}))
    whole = data_equivalents.ratios_frame(logs, POINTS, "t").iloc[-1]
    assert np.isnan(whole["lambda"]) and np.isnan(whole.low)
    assert whole.p_corpus_infinite == 1.0 and whole.p_architecture == 0.0
    assert whole.doublings == pytest.approx(1.0, abs=0.01)


def asked_of(truth: Truth, noise=0.0, **spread):
    found = data_equivalents.gains(Equivalents(truth.surface(), POINTS), EVERY)
    matched = matched_cells.matches(cells(truth.runs(noise)), found)
    return logs_of(truth, **spread), matched


def test_a_planted_interaction_is_found_and_flags_the_main_effect():
    truth = Truth(rhoD={"b": 1.3, "b x prose": 2.0})
    logs, matched = asked_of(truth, noise=0.002, spread=0.002)
    for frame in (
        interaction.modelled_frame(logs, POINTS, "t", "family"),
        interaction.measured_frame(matched, "t"),
    ):
        fixed = frame[(frame.kind == "architecture") & (frame.by == "fixed")].iloc[0]
        assert fixed.differs and (fixed["first"], fixed.second) == ("code", "prose")
        assert fixed.low > 0 or fixed.high < 0
    asked = interaction.modelled_frame(logs, POINTS, "t", "family")
    reported = flagged(
        data_equivalents.equivalents_frame(logs, POINTS, "t", "joint"), asked
    )
    main = reported[(reported.fixed == "*") & (reported.kind == "architecture")].iloc[0]
    assert "varies with what is held" in main.flag
    assert not reported[reported.params.notna()].flag.str.contains("varies").any()


def test_no_interaction_is_rarely_found_where_there_is_none():
    wrong = 0
    for seed in range(30):
        truth = Truth(rhoD={"b": 1.3, "prose": 0.7})
        found = data_equivalents.gains(Equivalents(truth.surface(), POINTS), EVERY)
        matched = matched_cells.matches(cells(truth.runs(0.004, seed)), found)
        frame = interaction.measured_frame(matched, "t")
        # Log loss ratios shrink with scale where M_D does not: ask of corpora alone.
        fixed = frame[(frame.kind == "architecture") & (frame.by == "fixed")]
        wrong += bool(fixed.differs.any())
    assert wrong <= 4
    logs = logs_of(truth, spread=0.0)
    modelled = interaction.modelled_frame(logs, POINTS, "t", "family")
    assert modelled.difference.abs().max() < 5e-3


def test_agreement_is_seen_and_so_is_its_absence():
    truth = Truth(rhoD={"b": 1.3})
    _, matched = asked_of(truth, noise=0.002)
    right = pooled_cells.agreement_frame(truth.surface(spread=0.0005), matched, "t")
    assert right.agrees.all() and (right.cells == 20).all()
    other = Truth(rhoD={"b": 1.6})
    wrong = pooled_cells.agreement_frame(other.surface(spread=0.0005), matched, "t")
    assert not wrong[wrong.kind == "architecture"].agrees.any()
    assert wrong[wrong.kind == "corpus"].agrees.all()


def test_measured_intervals_hold_the_truth_as_often_as_they_say():
    truth, inside, narrow = Truth(rhoD={"b": 1.3}), [], []
    found = [s for s in EVERY if s.kind == "architecture"]
    for seed in range(40):
        matched = matched_cells.matches(cells(truth.runs(0.004, seed)), found)
        noise = matched_cells.Noise(0.004, 1000)
        frame = matched_cells.paired_frame(matched, "t", noise, lambda one, two: 0.0)
        whole = frame[frame.params.isna()].dropna(subset=["low", "high"])
        inside += list((whole.low <= 1.3) & (whole.high >= 1.3))
        narrow += list(whole.high / whole.low)
    assert np.mean(inside) > 0.9 and np.median(narrow) < 2.0


def test_the_interval_of_a_median_needs_six_values():
    assert np.isnan(matched_cells.median_interval(np.arange(5.0))).all()
    assert matched_cells.median_interval(np.arange(6.0)) == (0.0, 5.0)
    rng = np.random.default_rng(0)
    ends = [matched_cells.median_interval(rng.normal(size=15)) for _ in range(2000)]
    covered = np.mean([low <= 0.0 <= high for low, high in ends])
    assert 0.95 <= covered <= 0.985


def test_few_seeds_widen_the_interval_of_a_cell():
    truth = Truth(rhoD={"b": 1.3})
    matched = matched_cells.matches(cells(truth.runs(0.0)), EVERY[:1])

    def width(freedom: int) -> float:
        noise = matched_cells.Noise(0.004, freedom)
        frame = matched_cells.paired_frame(matched, "t", noise, lambda one, two: 0.0)
        row = frame[frame.factor.notna()].iloc[0]
        return math.log(row.high / row.low)

    assert width(2) > 2.0 * width(100)
    assert np.isnan(width(0))


def test_costs_stand_beside_gains():
    truth = Truth(rhoD={"b": 1.3})
    made = cells(truth.runs(0.0))
    made["flops"] *= np.where(made.family == "b", 1.5, 1.0)
    seconds = made.assign(wall_seconds=np.where(made.family == "b", 30.0, 10.0))
    logs, _ = asked_of(truth)
    matched = matched_cells.matches(made, list(logs))
    table = data_equivalents.equivalents_frame(logs, POINTS, "t", "joint")
    frame = pooled_cells.costs_frame(matched, seconds, table, "t")
    row = frame[frame.kind == "architecture"].iloc[0]
    assert row.flops_ratio == pytest.approx(1.5)
    assert row.wall_ratio == pytest.approx(3.0)
    assert row.factor == pytest.approx(1.3, rel=1e-2) and row.cells == 40
