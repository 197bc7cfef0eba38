"""The largest cells: set aside, predicted by several laws, and what is uncertain."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.design.cells import cells_frame, target_frame
from analysis.inference import intervals
from analysis.questions import holdout
from analysis.surfaces.surfaces import Surfaces, fit_all
from analysis.tables.load import from_frame


def runs(bend: float = 0.0, noise: float = 0.002, seed: int = 0) -> pd.DataFrame:
    """Two families on 5 sizes x 5 budgets; `bend` slows the gains of more data."""
    rng = np.random.default_rng(seed)
    rows = []
    for family in ("a", "b"):
        for params in np.geomspace(5e7, 5e9, 5):
            for tokens in np.geomspace(1e9, 3e11, 5):
                loss = 1.8 + 482 * params**-0.35 + 2085 * tokens**-0.37
                loss *= np.exp(bend * np.log(tokens / 1e9) ** 2)
                loss *= np.exp(noise * rng.normal())
                row = {"family": family, "corpus": "d", "params": params}
                rows.append(row | {"tokens": tokens, "loss": loss})
    return pd.DataFrame(rows)


def split(frame: pd.DataFrame) -> tuple[Surfaces, pd.DataFrame]:
    """All laws on the runs below the largest cells, and those cells."""
    table = from_frame(frame, target="shared")
    rows = target_frame(table, table.targets[0])
    aside = holdout.largest(rows)
    drawn = intervals.draw(intervals.sample(rows[~aside]), 100)
    cells = cells_frame(intervals.sample(rows[aside]), "t")
    return fit_all(drawn, 1e-3, 0), cells


@pytest.fixture(scope="module")
def straight() -> tuple[Surfaces, pd.DataFrame]:
    return split(runs())


@pytest.fixture(scope="module")
def predicted(straight) -> tuple[pd.DataFrame, pd.DataFrame]:
    surfaces, cells = straight
    return holdout.predict(surfaces, cells, "t", 1e-3, 0)


def test_several_laws_predict_and_their_weights_add_up(predicted):
    frame, used = predicted
    assert set(frame.law) == {"chinchilla", "joint", "mixture"}
    assert {"chinchilla", "joint", "kaplan", "chinchilla_tied"} <= set(used.law)
    np.testing.assert_allclose(used.groupby("family").weight.sum(), 1.0)
    one = used[used.family == "a"].sort_values("error")
    assert (one.weight.diff().dropna() <= 0).all()


def test_the_law_that_made_the_runs_counts_more_than_one_without_a_floor(predicted):
    _, used = predicted
    weight = used[used.family == "a"].set_index("law").weight
    assert weight["chinchilla"] > 3 * weight["kaplan"]


def test_a_new_run_is_less_certain_than_the_curve(predicted):
    frame, _ = predicted
    assert (frame.low < frame.curve_low).all()
    assert (frame.high > frame.curve_high).all()
    assert (frame.curve_low < frame.curve_high).all()
    assert frame.inside.all()


def test_laws_that_disagree_widen_the_mixture():
    surfaces, cells = split(runs(bend=0.0015))
    frame, used = holdout.predict(surfaces, cells, "t", 1e-3, 0)
    width = (frame.curve_high - frame.curve_low).groupby(frame.law).mean()
    assert width["mixture"] > 1.3 * width["joint"]
    assert used.error.min() > 0.003


def test_weights_see_the_training_rows_only(straight, predicted):
    surfaces, cells = straight
    moved = cells.assign(loss=cells.loss * 1.5)
    frame, used = holdout.predict(surfaces, moved, "t", 1e-3, 0)
    pd.testing.assert_frame_equal(used, predicted[1])
    np.testing.assert_array_equal(frame.predicted, predicted[0].predicted)
    assert not frame.inside.any()


def test_noise_does_not_tell_laws_apart():
    surfaces, _ = split(runs(noise=0.02))
    found = holdout.candidates(surfaces, "a", "d", 1e-3, 0)
    # The joint law knows more runs.
    found = [one for one in found if one.fitted.family != "*"]
    shares = holdout.weights(found)
    errors = np.array([one.error for one in found])
    close = errors < 1.2 * errors.min()
    assert close.sum() >= 2
    assert shares[close].max() < 1.5 * shares[close].min()


def test_without_a_held_out_error_the_first_law_counts_alone(straight):
    surfaces, _ = straight
    found = holdout.candidates(surfaces, "a", "d", 1e-3, 0)[:2]
    blind = [holdout.Candidate(one.fitted, np.nan, one.noise) for one in found]
    np.testing.assert_array_equal(holdout.weights(blind), [1.0, 0.0])


def test_every_family_is_weighed_on_its_own_largest_runs():
    """Also one whose runs are never among the table's largest."""
    frame = runs()
    small = frame.family == "b"
    frame.loc[small, "params"] /= 10
    frame.loc[small, "loss"] = 1.8 + 482 * frame.params**-0.35
    frame.loc[small, "loss"] += 2085 * frame.tokens**-0.37
    surfaces, _ = split(frame)
    found = holdout.candidates(surfaces, "b", "d", 1e-3, 0)
    assert len(found) > 3
    assert not any(np.isnan(one.error) for one in found)


def test_a_law_under_two_names_counts_once():
    one = runs()
    surfaces, cells = split(one[one.family == "a"])
    _, used = holdout.predict(surfaces, cells, "t", 1e-3, 0)
    assert "chinchilla" in set(used.law)
    assert "joint" not in set(used.law)
    np.testing.assert_allclose(used.weight.sum(), 1.0)


def test_what_all_laws_miss_alike_widens_the_interval(straight):
    surfaces, _ = straight
    found = holdout.candidates(surfaces, "a", "d", 1e-3, 0)[:2]
    shares = np.array([0.5, 0.5])
    noise = np.sqrt(np.mean(found[0].noise ** 2))

    def missed(by):
        share = holdout.SHARES[0]
        return [
            dataclasses.replace(one, noise=found[0].noise, misses={share: by * noise})
            for one in found
        ]

    assert holdout.widening(missed(np.full(6, 0.5)), shares) == 1.0
    assert holdout.widening(missed(np.full(6, -4.0)), shares) == pytest.approx(4.0)


def test_the_largest_scale_is_a_budget_where_sizes_are_few():
    frame = pd.DataFrame({"level": [0, 1, 2, 2], "budget": [0, 1, 0, 1]})
    frame = frame.assign(family="a", corpus="d")
    np.testing.assert_array_equal(
        holdout.below_largest(frame), [True, False, True, False]
    )
    more = pd.DataFrame({"level": [0, 1, 2, 3], "budget": [0, 1, 0, 1]})
    more = more.assign(family="a", corpus="d")
    np.testing.assert_array_equal(
        holdout.below_largest(more), [True, True, True, False]
    )
