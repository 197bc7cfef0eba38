"""The largest cells: set aside, predicted by several laws, and what is uncertain."""

import numpy as np
import pandas as pd
import pytest

from analysis.questions import holdout
from analysis.surfaces.surfaces import Surfaces
from tests.support.made_grid import runs, split


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
    assert used.widening.min() >= 1.0


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


def test_a_law_under_two_names_counts_once():
    one = runs()
    surfaces, cells = split(one[one.family == "a"])
    _, used = holdout.predict(surfaces, cells, "t", 1e-3, 0)
    assert "chinchilla" in set(used.law)
    assert "joint" not in set(used.law)
    np.testing.assert_allclose(used.weight.sum(), 1.0)
