"""Agreement beyond n-grams: found where it is planted, and not where it is not."""

import dataclasses

import numpy as np
import pytest

from analysis.predictions import given
from analysis.questions import beyond_ngrams
from analysis.results import Analysis
from tests.support.made_function import answered, compared
from tests.support.made_predictions import Plan, run_id

PLAN = Plan(families=("lstm", "ngram", "transformer"), positions=200, vocab=12, seeds=2)


class Independent(Plan):
    """All models are the n-gram model and something of their own: the null."""

    def _normal(self, *names):
        found = super()._normal(*names)
        return found * (0.0 if "ngram" in names else 1.0)

    def log_probabilities(self, family, corpus, size, tokens, seed, fraction=1.0):
        seed = 0 if family == "ngram" else seed
        own = dataclasses.replace(self, seed=0.0) if family == "ngram" else self
        return Plan.log_probabilities(own, family, corpus, size, tokens, seed, fraction)


def result(plan, folder):
    asked = compared(plan, folder, 100)
    frames, notes = answered(asked, "beyond_ngrams")
    every = {"title": "made", "unit": "nats/token", "targets": plan.corpora}
    return Analysis.of(**every, notes=tuple(notes), **frames), asked


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return result(PLAN, tmp_path_factory.mktemp("planted"))


def test_what_both_know_and_the_counts_do_not_is_found(planted):
    analysis, _ = planted
    found = analysis.agreements.set_index("measure")
    assert list(found.index) == list(given.MEASURES)
    # Losses are one number a position: they show it last.
    assert (found.beyond_low[["function", "top-1"]] > 0).all()
    assert (found.beyond > 0).all()
    assert np.allclose(found.beyond, found.agreement - found.given)
    assert (found.seeds > found.agreement).all()
    said = beyond_ngrams.said(analysis.view)
    assert len(said) == 3 and all("beyond n-grams" in text for text in said)
    assert "They agree beyond n-grams" in said[0]
    assert all("permuted" in text and "two seeds" in text for text in said)


def test_models_that_share_nothing_but_the_counts_do_not_agree(tmp_path):
    analysis, _ = result(Independent(**vars_of(PLAN)), tmp_path)
    found = analysis.agreements.set_index("measure")
    assert (found.beyond_low < 0).all(), found.T
    assert found.agreement["loss"] > 0.5  # and agree much all the same


def vars_of(plan):
    return {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan)}


def test_measures_are_those_of_a_plain_loop(planted):
    predictions = planted[1].predictions
    place = ("docstrings", 8000, 8192, 0)
    runs = [(run_id(family, *place), 1.0) for family in PLAN.families]
    f, n, g = (predictions.read(*run).astype(float) for run in runs)
    unigram = np.log(predictions.probes.unigram)
    total = np.zeros(3)
    for p in range(len(f)):
        weight = np.exp(n[p])
        terms = [np.ones(12), n[p], n[p] ** 2, n[p] ** 3, unigram]
        bases = np.stack(terms, 1) * np.sqrt(weight)[:, None]
        left = []
        for logs in (f[p], g[p]):
            y = logs * np.sqrt(weight)
            left.append(y - bases @ np.linalg.lstsq(bases, y, rcond=None)[0])
        total += [left[0] @ left[1], left[0] @ left[0], left[1] @ left[1]]
    counts = given.Counts.of(predictions, predictions.read(*runs[1]))
    one, two = (given.seen(predictions, counts, run) for run in (runs[0], runs[2]))
    share = np.full((1, 200), 1 / 200)
    found = given.BY_MEASURE["function"](one, two, counts.alike["function"], share)
    assert found[0][0] == pytest.approx(
        total[0] / np.sqrt(total[1] * total[2]), rel=1e-4
    )
    found = given.BY_MEASURE["top-1"](one, two, counts.alike["top-1"], share)
    assert found[0][0] == pytest.approx((f.argmax(1) == g.argmax(1)).mean())
    found = given.BY_MEASURE["loss"](one, two, counts.alike["loss"], share)
    losses = predictions.losses([runs[0], runs[2]])
    assert found[0][0] == pytest.approx(np.corrcoef(losses)[0, 1])


def test_alike_positions_are_of_other_documents(tmp_path):
    plan = dataclasses.replace(PLAN, per_document=4)
    predictions = plan.predictions()
    run = (run_id("ngram", "docstrings", 8000, 8192, 0), 1.0)
    document = predictions.probes.document
    counts = given.Counts.of(predictions, predictions.read(*run))
    for near in counts.alike.values():
        assert near.shape == (200, given.ALIKE)
        assert (document[near] != document[:, None]).all()


def test_without_counts_the_run_that_lacks_is_named(tmp_path):
    plan = dataclasses.replace(PLAN, families=("lstm", "transformer"))
    analysis, _ = result(plan, tmp_path)
    assert analysis.agreements.empty
    (note,) = analysis.notes
    assert "no run of ngram" in note.text
