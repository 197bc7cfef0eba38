"""Distance to a known truth: its split, the check by the loss, and shared mistakes."""

import dataclasses

import numpy as np
import pytest

from analysis.predictions.load import Predictions
from analysis.questions import truth_distance
from analysis.report.canvas import figure
from analysis.results import Analysis
from tests.support.made_function import answered, compared
from tests.support.made_predictions import Plan

PLAN = Plan(
    families=("gru", "lstm", "twin"),
    same=(("lstm", "twin"),),
    corpora=("docs",),
    budgets=(2048, 8192),
    positions=300,
    vocab=12,
    shared=0.2,
    family=0.3,
    seed=0.3,
    corpus=0.0,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    asked = compared(PLAN, tmp_path_factory.mktemp("made"), 100)
    frames, notes = answered(asked, "truth_distance")
    every = {"title": "made", "unit": "nats/token", "targets": ("docs",)}
    return Analysis.of(**every, notes=tuple(notes), **frames, runs=asked.groups), asked


def test_divergence_is_that_of_a_double_loop():
    predictions = PLAN.predictions()
    logs = predictions.read(predictions.runs[0])
    found = truth_distance.divergence(predictions, logs)
    truth = PLAN.truth.astype(np.float64)
    for k in range(20):
        wanted = sum(
            np.exp(p) * (p - q) for p, q in zip(truth[k], logs[k], strict=True)
        )
        assert found[k] == pytest.approx(wanted, abs=1e-5)
    np.testing.assert_allclose(
        truth_distance.divergence(predictions, predictions.truth), 0, atol=1e-6
    )


def test_the_loss_is_entropy_and_distance_within_its_error(made):
    frame = made[0].truth_distances
    assert len(frame) == 6
    assert frame.holds.mean() >= 0.8 and not made[0].notes
    total = frame.entropy + frame.kl + frame.check
    np.testing.assert_allclose(total, frame.loss, atol=1e-9)
    assert (frame.check_se > 0).all() and (frame.check_se < 0.1).all()


def test_the_split_adds_up_and_finds_what_seeds_scatter(made):
    frame = made[0].truth_distances
    np.testing.assert_allclose(frame.mean_model + frame.scatter, frame.kl, atol=1e-12)
    assert ((frame.scatter_low > 0) & (frame.mean_model_low > 0)).all()
    # Of 16 seeds the mean model has hardly any scatter left: theirs is the answer.
    many = dataclasses.replace(PLAN, seeds=16, budgets=(8192,), families=("lstm",))
    predictions = many.predictions()
    mean = np.mean([np.exp(predictions.read(run)) for run in predictions.runs], axis=0)
    wanted = truth_distance.divergence(predictions, np.log(mean)).mean()
    last = frame[(frame.family == "lstm") & (frame.tokens == 8192)].iloc[0]
    assert last.mean_model == pytest.approx(wanted, rel=0.1)


def test_twins_make_the_same_mistakes_and_others_some(made):
    frame = made[0].same_mistakes
    last = frame[(frame.tokens == 8192) & (frame["at"] == "equal budget")]
    twin = last[(last.baseline == "lstm") & (last.alternative == "twin")].iloc[0]
    assert twin.low < 1 < twin.high and twin.one_run < 0.9
    assert twin.one_run == pytest.approx(twin.ceiling, abs=0.05)
    gru = last[(last.baseline == "gru") & (last.alternative == "lstm")].iloc[0]
    # They share 0.2**2 of the 0.2**2 + 0.3**2 that families get wrong.
    assert gru.high < 0.5 and gru.low > 0.1
    assert gru.cosine == pytest.approx(0.04 / 0.13, abs=0.1)


def test_what_is_said_follows_from_the_numbers(made):
    analysis, _ = made
    said = truth_distance.said(analysis.view)
    (reported,) = truth_distance.answers(analysis.view)
    assert " at equal loss: " in reported.text or " at equal budget: " in reported.text
    assert any(
        "from the truth" in line and "the mean over seeds" in line for line in said
    )
    assert any("part of their mistakes" in line for line in said if "gru" in line)
    assert any("none of their own are shown" in line for line in said if "twin" in line)
    for draw in (truth_distance.draw_truth, truth_distance.draw_mistakes):
        assert figure(draw, analysis, "docs").axes


def test_without_a_truth_there_is_nothing(made):
    _, asked = made
    kept = asked.predictions
    bare = Predictions(kept.probes, kept.fractions, kept.source)
    assert truth_distance.compares(dataclasses.replace(asked, predictions=bare)) == (
        {},
        [],
    )
