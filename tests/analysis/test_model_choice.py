"""Which parameters are shared, and what moves the verdict, on planted tables."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.design.cells import points, target_frame
from analysis.design.swaps import swaps
from analysis.effects import data_equivalents
from analysis.effects.data_equivalents import Equivalents
from analysis.inference.intervals import interval
from analysis.questions import (
    _matched_words,
    model_choice,
    sensitivity,
)
from analysis.surfaces import nested
from analysis.surfaces.surfaces import Surfaces, fit_joint, joint_surfaces
from analysis.tables.load import from_frame
from tests.support.made_surfaces import CORPORA, FAMILIES, Truth

DELTA = 1e-3
SHARED = Truth(rhoD={"b": 1.3, "prose": 0.7}, floor={"prose": 0.3})


def surfaces_of(truth: Truth, noise=0.003, seed=0, **columns) -> Surfaces:
    table = from_frame(truth.runs(noise, seed).assign(**columns), target="shared")
    return joint_surfaces(target_frame(table, "loss"), 60, 0, DELTA)


def asked(truth: Truth, seed=0) -> pd.DataFrame:
    fits = nested.fit_nested(surfaces_of(truth, seed=seed), DELTA, 0)
    frame = model_choice.questions_frame(fits, "loss", 0)
    return frame.set_index(["parameter", "across"])


def test_a_planted_exponent_of_one_family_is_found():
    frame = asked(dataclasses.replace(SHARED, betas={"b": 0.6}))
    assert frame.differs[("beta", "families")]
    row = frame.loc[("beta", "families")]
    assert row.delta_aicc < -4 and row.statistic > row.threshold
    assert row.freed_error < row.fixed_error
    assert not frame.differs[("beta", "corpora")]


def test_shared_parameters_are_mostly_called_shared():
    frames = [asked(SHARED, seed) for seed in range(3)]
    # The floor differs between the corpora, and nothing else does.
    assert all(frame.differs[("E", "corpora")] for frame in frames)
    wrong = [frame.drop(("E", "corpora")).differs.sum() for frame in frames]
    assert sum(wrong) <= 4


def test_a_planted_cell_effect_is_no_product_of_two():
    truth = dataclasses.replace(SHARED, rhoD={"b": 1.3, "prose": 0.7, "b x prose": 1.8})
    assert asked(truth).differs[("rhoD", "cells")]


def test_every_law_near_the_best_gives_its_multiplier():
    surfaces = surfaces_of(SHARED)
    fits = nested.fit_nested(surfaces, DELTA, 0)
    where = points(surfaces.data.frame)
    model = Equivalents(surfaces.of_joint, where)
    found = data_equivalents.gains(model, swaps(FAMILIES, CORPORA))
    frame = model_choice.multipliers_frame(fits, found, where, "loss")
    models = model_choice.models_frame(fits, "loss")
    near = set(models.model[models.delta_aicc <= nested.WITHIN])
    assert set(frame.model) == near and len(near) > 1
    assert "one E" not in near
    whole = frame[(frame.fixed == "*") & (frame.kind == "architecture")]
    assert ((whole.low < 1.36) & (whole.high > 1.24)).all()
    assert (frame.draws == len(surfaces.draws)).all()


def test_an_outer_exponent_is_chosen_where_it_was_planted():
    # How often such intervals hold the truth is for tests/benchmarks/coverage.py.
    truth = dataclasses.replace(SHARED, rhoD={"b": 2.0, "prose": 0.7}, outer=0.5)
    surfaces = surfaces_of(truth, noise=0.002, seed=2)
    leading = nested.lead(surfaces, DELTA, 0)
    assert leading.model == nested.OUTER
    model = Equivalents(leading.surfaces.of_joint, [(72e3, 15e6)])
    drawn = np.exp(model.log_factors(("a", "prose"), ("b", "prose"))[:, 0])
    low, high = interval(drawn[1:])
    assert low < 2.0 < high < 2.6 and drawn[0] == pytest.approx(2.0, rel=0.1)


def test_the_law_is_chosen_again_in_every_draw():
    surfaces = surfaces_of(dataclasses.replace(SHARED, outer=0.93), 0.004, seed=2)
    leading = nested.lead(surfaces, DELTA, 0)
    choice = leading.surfaces.choice
    names = list(choice.fits)
    assert names[choice.picked[0]] == leading.model
    shares = choice.shares()
    assert sum(shares.values()) == pytest.approx(1.0)
    # Several laws describe these runs, and each draw is read by its own.
    assert len({name for name, share in shares.items() if share > 0}) > 1
    columns = {"params": np.array([5e4]), "tokens": np.array([1e7])}
    levels = {"family": np.array([1]), "corpus": np.array([0])}
    drawn = leading.surfaces.of_joint("b", "code", *columns.values())
    for row, picked in enumerate(choice.picked):
        fitted = choice.fits[names[picked]]
        own = fitted.law.predict(fitted.theta[row], columns | levels)
        np.testing.assert_allclose(drawn[row], own)
    models = model_choice.models_frame(leading.nested, "loss")
    said = models.set_index("model").chosen
    assert said.dropna().to_dict() == pytest.approx(shares)
    # What lies too far off is not tried again.
    assert "one E" not in shares and np.isnan(said["one E"])
    (said,) = model_choice.chosen(models)
    assert "draw chooses its law anew" in said and "include this choice" in said


def test_few_trajectories_leave_the_joint_law():
    endless = np.full((2, 3), np.inf)
    assert nested.picked(endless, 1).tolist() == [1, 1, 1]
    criteria = np.array([[9.0, 0.0, np.inf], [0.0, 9.0, 9.0]])
    assert nested.picked(criteria, 0).tolist() == [1, 0, 1]


def test_a_law_whose_own_parameter_is_on_a_bound_is_no_candidate():
    surfaces = surfaces_of(SHARED)
    outer = fit_joint(surfaces.draws, DELTA, 0, nested.MODELS[nested.OUTER])
    held = dataclasses.replace(outer.outcome, at_bound=("E[code]", "k"))
    found = dataclasses.replace(outer, outcome=held)
    said = nested._undetermined(found, surfaces.joint)
    assert said == "the runs do not tell k: on a bound"
    held = dataclasses.replace(outer.outcome, at_bound=("E[code]",))
    found = dataclasses.replace(outer, outcome=held)
    assert nested._undetermined(found, surfaces.joint) == ""


def test_one_family_leaves_the_questions_about_corpora():
    runs = SHARED.runs(0.003)
    table = from_frame(runs[runs.family == "a"], target="shared")
    surfaces = joint_surfaces(target_frame(table, "loss"), 40, 0, DELTA)
    fits = nested.fit_nested(surfaces, DELTA, 0)
    assert {q.across for q in fits.questions} == {"corpora"}


def verdicts(truth: Truth, **columns) -> pd.DataFrame:
    surfaces = surfaces_of(truth, **columns)
    model = Equivalents(surfaces.of_joint, points(surfaces.data.frame))
    found = data_equivalents.gains(model, swaps(FAMILIES, CORPORA))
    return sensitivity.verdicts_frame(
        surfaces, found, surfaces.data.frame, "loss", DELTA, 0
    )


def test_a_clear_verdict_moves_with_nothing():
    frame = verdicts(dataclasses.replace(SHARED, rhoD={"b": 1.6, "prose": 0.4}))
    assert not frame.moves.any()
    assert {"as reported", "least squares", "smallest size dropped"} <= set(
        frame.setting
    )
    whole = frame[frame.question == "architecture or corpus"]
    assert (whole.verdict == "corpus").all()
    refits = frame[frame.setting == "least squares"]
    assert (refits.draws == min(60, sensitivity.DRAWS)).all()


def test_counting_embeddings_moves_a_verdict_that_rests_on_it():
    # With its large embeddings counted, b is no longer the smaller model.
    truth = Truth(rhoN={"b": 1.6})
    runs = truth.runs(0.003)
    total = np.where(runs.family == "b", 3.0, 1.0) * runs.params
    frame = verdicts(truth, params_total=total)
    mine = frame[frame.question == "architecture"].set_index("setting")
    assert mine.verdict["as reported"] == "gain"
    other = mine.loc["embeddings counted otherwise"]
    assert other.verdict == "loss" and other.moves


def test_another_target_is_told_in_the_first_ones_direction():
    keys = {"question": "corpus", "setting": "as reported", "draws": 9}
    rows = [
        keys
        | {
            "target": "x",
            "baseline": "d",
            "alternative": "e",
            "verdict": "gain",
            "value": 2,
        },
        keys
        | {
            "target": "y",
            "baseline": "e",
            "alternative": "d",
            "verdict": "gain",
            "value": 3,
        },
        keys
        | {
            "target": "z",
            "baseline": "d",
            "alternative": "e",
            "verdict": "gain",
            "value": 4,
        },
    ]
    frame = sensitivity.across_targets(pd.DataFrame(rows), ("x", "y", "z"))
    added = frame[frame.target == "x"].set_index("setting")
    assert added.verdict["target y"] == "loss" and added.moves["target y"]
    assert np.isnan(added.value["target y"])
    assert added.value["target z"] == 4 and not added.moves["target z"]


def test_a_setting_without_an_interval_moves_no_verdict():
    head = {
        "target": "t",
        "question": "architecture",
        "baseline": "a",
        "alternative": "b",
    }
    rows = [
        {"setting": "as reported", "value": 2.0, "low": 1.5, "verdict": "gain"},
        {"setting": "no draws", "value": 3.0, "low": np.nan, "verdict": "undetermined"},
        {"setting": "wide", "value": 2.0, "low": 0.5, "verdict": "undetermined"},
        {"setting": "turned", "value": np.nan, "low": np.nan, "verdict": "loss"},
    ]
    frame = pd.DataFrame([head | row for row in rows])
    moved = sensitivity.moved(frame)
    assert moved.moves.tolist() == [False, False, True, True]
    assert sensitivity.sentences(moved[:2]) == []
    (said,) = sensitivity.sentences(moved)
    assert "wide (undetermined) and turned (loss)" in said


def test_no_verdict_holds_against_what_was_measured():
    head = {"target": "t", "question": "architecture", "value": 2.0, "low": 1.5}
    rows = [
        head
        | {
            "baseline": baseline,
            "alternative": "c",
            "setting": setting,
            "verdict": "gain",
        }
        for baseline in ("a", "b")
        for setting in ("as reported", "another", "a third")
    ]
    frame = sensitivity.moved(pd.DataFrame(rows))
    row = {"kind": "architecture", "baseline": "c", "alternative": "a", "fixed": "d"}
    row |= {"target": "t", "cells": 8, "measured": 0.02, "low": 0.01, "high": 0.03}
    row |= {"modelled": 0.05, "model_low": 0.04, "model_high": 0.06, "agrees": False}
    agreement = pd.DataFrame([row])
    (said,) = sensitivity.sentences(frame, agreement.assign(agrees=True))
    assert "Both verdicts" in said
    against, holds = sensitivity.sentences(frame, agreement)
    assert "1 of 2" in holds and "hold" in holds
    assert "1 of 2" in against and "disagree" in against
    (first,) = _matched_words.disputed(agreement)
    assert "Measured" in first and "The leading law disagrees: 0.05" in first
    assert _matched_words.disputed(agreement.assign(agrees=True)) == []


def test_a_law_without_an_aicc_is_worse_by_no_number():
    tests = pd.DataFrame(
        [["t", "beta", "families", True, nested.BASE]],
        columns=["target", "parameter", "across", "differs", "fixed"],
    )
    models = pd.DataFrame(
        {"target": "t", "model": [nested.BASE, "one E"], "refused": ""}
    )
    for above, said in ((np.inf, "so few runs"), (7.2, "lower by 7,")):
        known = models.assign(aicc=[above, 0.0], delta_aicc=[above, 0.0])
        (note,) = model_choice.of_nested(tests, known)
        assert said in note.text and "inf" not in note.text
