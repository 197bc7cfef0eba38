"""Variance shares and gap attribution: Shapley's axioms, planted shares, sums."""

import numpy as np
import pandas as pd
import pytest

from analysis.effects import anova
from analysis.effects.attribution import attribute, shares
from analysis.questions import variance
from analysis.tables.load import from_frame
from scaling.errors import UserError
from tests.support.made_surfaces import CORPORA, FAMILIES, Truth, cells


def game(seed: int, players: int = 4):
    rng = np.random.default_rng(seed)
    worth = {}

    def value(coalition):
        return worth.setdefault(coalition, rng.normal(size=3))

    return value


def test_shapley_values_add_up():
    value = game(0)
    found = variance.shapley(value, 4)
    gained = value(frozenset(range(4))) - value(frozenset())
    np.testing.assert_allclose(found.sum(axis=1), gained)


def test_shapley_values_are_symmetric_linear_and_give_a_dummy_nothing():
    first, second = game(1), game(2)

    def alike(c):
        # Players 0 and 1 count alike, 2 adds 5 always, 3 adds nothing.
        return np.array([len(c & {0, 1}) ** 2 + 5.0 * (2 in c)])

    found = variance.shapley(alike, 4)[0]
    np.testing.assert_allclose(found, [2.0, 2.0, 5.0, 0.0])
    both = variance.shapley(lambda c: first(c) + 2.0 * second(c), 4)
    apart = variance.shapley(first, 4) + 2.0 * variance.shapley(second, 4)
    np.testing.assert_allclose(both, apart)


def test_shares_on_a_box_add_up_and_grow_with_it():
    truth = Truth(rhoD={"b": 1.3, "prose": 0.7})
    small = ((8e3, 72e3), (1e6, 1e7))
    wide = ((8e3, 72e3), (1e6, 1e9))
    found = {
        box: variance.variance_frame(
            truth.surface(), FAMILIES, CORPORA, box, "t"
        ).set_index("factor")
        for box in (small, wide)
    }
    for box, frame in found.items():
        assert frame.share.sum() == pytest.approx(1.0)
        assert (frame.box == variance.box_text(box)).all()
    assert found[wide].share["tokens"] > found[small].share["tokens"]


def test_balanced_cells_get_type_two_and_omega_squared():
    made = cells(Truth(rhoD={"b": 3.0}).runs(0.001))
    frame = variance.measured_frame(made, "t", 0).set_index("factor")
    assert (frame.method == "type II, omega squared").all()
    # Balanced: sums of squares by hand.
    total = ((made.loss - made.loss.mean()) ** 2).sum()
    between = made.groupby("family").loss.transform("mean") - made.loss.mean()
    assert frame.share["architecture"] == pytest.approx(
        (between**2).sum() / total, abs=2e-3
    )
    assert frame.share["corpus"] < 1e-4
    assert frame.share["architecture x tokens"] > 0.001
    assert frame.share.sum() == pytest.approx(1.0)
    assert (frame.low <= frame.share + 1e-3).all()


def test_omega_squared_leaves_noise_mostly_unexplained():
    rng = np.random.default_rng(0)
    made = cells(Truth().runs(0.0))
    found = []
    for _ in range(15):
        noise = made.assign(loss=3.0 + 0.1 * rng.normal(size=len(made)))
        frame = variance.measured_frame(noise, "t", 0).set_index("factor")
        found.append(frame.share["unexplained"])
    # Without the correction for chance, about half would look explained.
    assert np.mean(found) > 0.72


def test_unbalanced_cells_get_shapley_r_squared():
    made = cells(Truth(rhoD={"b": 3.0}).runs(0.001))
    gone = (made.family == "a") & (made.level > 1) & (made.budget > 2)
    frame = variance.measured_frame(made[~gone], "t", 0).set_index("factor")
    assert (frame.method == "Shapley R2").all()
    assert frame.share.sum() == pytest.approx(1.0)
    assert frame.share["tokens"] > frame.share["architecture"] > 0.05
    assert frame.share["corpus"] < 0.01


def test_shapley_r_squared_halves_between_twins():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 1))
    terms = {"one": x, "two": x.copy(), "none": rng.normal(size=(60, 1))}
    loss = 2.0 * x[:, 0] + 0.01 * rng.normal(size=60)
    found = anova.shapley_r2(terms, loss[None])[0]
    assert found[0] == pytest.approx(found[1])
    assert found[0] == pytest.approx(0.5, abs=0.05) and found[3] < 0.001


TRUTH = Truth(rhoD={"b": 1.5, "prose": 0.6}, floor={"prose": 0.1})


def test_attribution_adds_up_and_is_turned_by_turning():
    one = pd.Series({"family": "a", "corpus": "prose", "params": 8e3, "tokens": 1e6})
    two = pd.Series({"family": "b", "corpus": "code", "params": 72e3, "tokens": 1e7})
    there = shares(TRUTH.surface(), one, two)
    gap = TRUTH.loss("b", "code", 72e3, 1e7) - TRUTH.loss("a", "prose", 8e3, 1e6)
    np.testing.assert_allclose(there.sum(axis=1), gap)
    np.testing.assert_allclose(there, -shares(TRUTH.surface(), two, one))
    same = two | {"family": "a"} if isinstance(two, dict) else two.copy()
    same["family"] = "a"
    assert shares(TRUTH.surface(), one, same)[0, 0] == 0.0


def test_two_runs_of_a_table_are_told_apart_by_cause():
    frame = TRUTH.runs(0.002)
    table = from_frame(
        frame.assign(id=[f"r{i:03d}" for i in range(len(frame))]), target="shared"
    )
    found = attribute(table, "r000", "r079", draws=60).set_index("factor")
    gap = frame.loss[79] - frame.loss[0]
    assert found.nats["total"] == pytest.approx(gap)
    parts = found.drop("total")
    assert parts.nats.sum() == pytest.approx(gap)
    assert parts.share.sum() == pytest.approx(1.0)
    wanted = shares(TRUTH.surface(), frame.loc[0], frame.loc[79])[0]
    for factor, nats in zip(variance.FACTORS, wanted, strict=True):
        row = found.loc[factor]
        assert row.nats == pytest.approx(nats, abs=0.03)
        assert row.low <= row.nats <= row.high
    assert abs(found.nats["unexplained"]) < 0.03


def test_attribution_wants_two_known_runs_of_one_epoch():
    frame = TRUTH.runs(0.002).assign(unique_tokens=lambda f: f.tokens)
    frame.loc[5, "unique_tokens"] = 1e5
    table = from_frame(
        frame.assign(id=[f"r{i:03d}" for i in range(len(frame))]), target="shared"
    )
    with pytest.raises(UserError, match="from"):
        attribute(table, "nope", "r001")
    with pytest.raises(UserError, match="to"):
        attribute(table, "r001", "r0")
    with pytest.raises(UserError, match="reads its data once"):
        attribute(table, "r001", "r005", draws=40)
