"""Classes of tokens: planted differences are found where they were planted."""

import numpy as np
import pytest

from analysis.formatting import UNDETERMINED
from analysis.predictions import positions
from analysis.questions import where_they_differ
from analysis.results import Analysis
from tests.support.made_function import answered, compared
from tests.support.made_predictions import Plan


class AtDigits(Plan):
    """Families differ at digits alone."""

    def _normal(self, *names):
        found = super()._normal(*names)
        if names[0] == "family":
            found = found * (self.probes.target % 2 == 1)[:, None]
        return found


def result(plan, folder):
    asked = compared(plan, folder, 100)
    frames, notes = answered(asked, "where_they_differ")
    every = {"title": "made", "unit": "nats/token", "targets": plan.corpora}
    return Analysis.of(**every, notes=tuple(notes), **frames), asked


SMALL = {"families": ("lstm", "ngram", "transformer"), "positions": 200, "vocab": 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return result(AtDigits(**SMALL), tmp_path_factory.mktemp("made"))


def swap(frame, by):
    mine = (frame.baseline == "lstm") & (frame.alternative == "transformer")
    return frame[mine & (frame.by == by)].set_index("level")


def test_a_difference_is_found_in_the_class_that_has_it(made):
    analysis, _ = made
    found = swap(analysis.class_distances, "kind")
    assert found.low["digit"] > 0.005
    assert found.low["letter"] < 0 < found.high["letter"]
    assert (found.low <= found.low_90).all() and (found.high_90 <= found.high).all()
    said = " ".join(where_they_differ.said(analysis.view))
    assert "by kind of token, predictions differ most beyond seeds at digit" in said


def test_classes_together_are_the_whole(made):
    analysis, asked = made
    for by in ("kind", "surprise of n-grams"):
        found = swap(analysis.class_distances, by)
        (f, g) = next(
            (asked.points(one), asked.points(two))
            for head, one, two in positions.architectures(asked)
            if set(head.values()) >= {"lstm", "transformer"}
        )
        whole = asked.compared.excess(f, g)[0]
        assert (found.share * found.excess).sum() == pytest.approx(whole, rel=1e-5)
        assert found.share.sum() == pytest.approx(1.0)
        assert found.positions.sum() == 200
    losses = analysis.class_losses
    mine = losses[(losses.by == "kind") & (losses.family == "lstm")]
    loss = asked.compared.loss(f)[0]
    assert (mine.share * mine.loss).sum() == pytest.approx(loss, rel=1e-5)


def test_surprise_is_that_of_the_studys_counts(made):
    analysis, _ = made
    counts = analysis.class_losses
    counts = counts[(counts.by == "surprise of n-grams") & (counts.family == "ngram")]
    assert counts.sort_values("order").loss.is_monotonic_increasing


def test_without_counts_single_tokens_surprise_and_one_seed_has_no_excess(tmp_path):
    plan = Plan(families=("lstm", "transformer"), seeds=1, positions=60, vocab=12)
    analysis, _ = result(plan, tmp_path)
    found = analysis.class_distances
    assert found.excess.isna().all() and found.distance.notna().all()
    assert where_they_differ.said(analysis.view) == []
    # Ten classes of six positions each are too few documents: left out, and told.
    assert not found.by.str.startswith("surprise").any()
    (note,) = analysis.notes
    assert note.kind == "excluded" and "surprise of single tokens 1 of 10" in note.text


def test_no_difference_planted_is_told_as_undetermined(tmp_path):
    plan = Plan(same=(("lstm", "transformer"),), positions=200, vocab=12)
    analysis, _ = result(plan, tmp_path)
    said = [t for t in where_they_differ.said(analysis.view) if "by kind" in t]
    assert len(said) == 1 and UNDETERMINED in said[0]
    assert np.isfinite(analysis.class_distances.gap_low).all()


class MoreData(Plan):
    """One family is at digits where another is after a fourth of the data."""

    def log_probabilities(self, family, corpus, size, tokens, seed, fraction=1.0):
        run = (corpus, size, tokens, seed, fraction)
        found = super().log_probabilities(family, *run)
        if family == "late":
            run = (corpus, size, tokens // 4, seed, fraction)
            digits = (self.probes.target % 2 == 1)[:, None]
            late = super().log_probabilities("late", *run)
            found = np.where(digits, late, found)
        return found


def test_data_equivalents_are_found_in_the_class_that_has_them(tmp_path):
    plan = MoreData(
        families=("early", "late"),
        budgets=(512, 2048),
        positions=300,
        vocab=12,
        family=0.1,
        seed=0.05,
        floor=0.0,
        rate=0.5,
    )
    analysis, _ = result(plan, tmp_path)
    found = analysis.class_distances
    found = found[found.by == "kind"].set_index("level")
    assert (found.refused == "").all() and (found.less == 512).all()
    # The early family has the late one's loss at digits with a quarter of its data.
    digit, letter = found.loc["digit"], found.loc["letter"]
    assert digit.factor == pytest.approx(0.25, rel=0.35) and digit.factor_high < 0.5
    assert letter.factor == pytest.approx(1.0, rel=0.35)
    assert digit.factor_low < digit.factor < digit.factor_high
    said = where_they_differ.said(analysis.view)
    (text,) = [t for t in said if "times" in t and "by kind" in t]
    assert "early (docstrings) needs for the loss of late from" in text
    assert UNDETERMINED not in text


def test_without_less_data_no_equivalent_is_given(made):
    analysis, _ = made
    found = analysis.class_distances
    assert found.factor.isna().all()
    assert (found.refused == "one amount of data only").all()
