"""Corpus and family told from predictions: planted, and where nothing is planted."""

import dataclasses

import numpy as np
import pytest

from analysis.predictions import classify
from analysis.questions import who_is_it
from analysis.report.canvas import figure
from analysis.results import Analysis
from tests.support.made_function import answered, compared
from tests.support.made_predictions import Plan

PLAN = Plan(
    families=("conv", "gru", "lstm"),
    corpora=("docs", "code"),
    positions=100,
    vocab=12,
    stop=0.5,
)


def result(plan, folder, draws=40):
    asked = compared(plan, folder, draws)
    frames, notes = answered(asked, "who_is_it")
    every = {"title": "made", "unit": "nats/token", "targets": ("docs",)}
    return Analysis.of(**every, notes=tuple(notes), **frames, runs=asked.groups)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return result(PLAN, tmp_path_factory.mktemp("made"))


def rows(analysis):
    return analysis.identity.set_index(["moment", "what", "unseen"])


def test_what_is_planted_is_told(made):
    reported = rows(made)
    assert len(reported) == 8 and set(reported.index.get_level_values(0)) == {
        "at the end",
        "early-stopped",
    }
    end = reported.loc["at the end"]
    assert (end.right == 1).all() and (end.p < 0.05).all()
    assert set(end.chance.round(3)) == {0.5, 0.333}
    assert (end.information > 0.8 * end.most).all() and (end.high <= end.most).all()
    assert (end.low > 0.5 * end.most).all() and (end.low <= end.information).all()
    assert (end.permuted_high < 0.95).all()
    assert (end.runs == 18).all()


def test_what_is_not_planted_is_not_told(tmp_path):
    """One family under three names: its name is not in the predictions."""
    same = (("conv", "gru"), ("conv", "lstm"))
    reported = rows(result(dataclasses.replace(PLAN, same=same, stop=None), tmp_path))
    for unseen in ("seed", "seed and corpus"):
        family = reported.loc["at the end", "family", unseen]
        assert family.low < 0.1 and family.p > 0.05
        assert 0 < family.right < 0.7 and abs(family.permuted - 1 / 3) < 0.15
    corpus = reported.loc["at the end", "corpus", "seed and family"]
    assert corpus.right == 1 and corpus.low > 0.5


def test_no_run_is_judged_by_its_own_seed_or_what_is_to_be_unseen():
    """A run is at no distance from one of its seed, which would tell its label."""
    label, nuisance, seed = np.indices((2, 2, 3)).reshape(3, -1)
    for apart in (False, True):
        task = classify.Task(label, nuisance, seed, apart)
        distance = np.full((1, 12, 12), 1.0) - np.eye(12)
        mine = seed[:, None] == seed
        if apart:
            mine |= nuisance[:, None] == nuisance
        alike = label[:, None] == label
        distance[0][mine & alike] = 0.0
        guess = classify.chances(task, distance, classify.folds(task, distance[0]))
        np.testing.assert_allclose(guess, 0.5, atol=1e-9)
        np.testing.assert_allclose(classify.surprise(task, guess), 1.0)


def test_bits_are_what_a_plain_sum_gives(made):
    row = rows(made).loc["at the end", "family", "seed"]
    assert row.most == pytest.approx(np.log2(3)) and row.classes == 3


def test_what_is_said_follows_from_the_numbers(made):
    said = who_is_it.said(made.view)
    assert len(said) == 8
    assert "predictions alone tell the corpus of 100% of 18 runs" in said[0]
    assert "(by chance 50%; with permuted labels at most" in said[0]
    assert any("an unseen seed and an unseen family" in line for line in said)
    fronts = [one.text for one in who_is_it.answers(made.view) if one.part == "front"]
    assert len(fronts) == 2 and all("unseen" in text for text in fronts)
    assert figure(who_is_it.draw_identity, made, "docs").axes


def test_with_one_seed_it_says_why_not(tmp_path):
    one = result(dataclasses.replace(PLAN, seeds=1), tmp_path)
    assert one.identity.empty
    (note,) = one.notes
    assert note.about == "identity" and "with two seeds each" in note.text
    assert who_is_it.said(one.view) == []
