"""Each family's standing at the largest cell that all share."""

import numpy as np
import pytest

from analysis.effects.data_equivalents import Equivalents
from analysis.effects.matched_cells import Noise
from analysis.questions.ranking import standings_frame
from tests.support.made_surfaces import BUDGETS, CORPORA, FAMILIES, SIZES, Truth, cells

PLACE = (SIZES[-2], BUDGETS[-2])
NOISE = Noise(0.01, 4)


def of(truth, made=None, noise=NOISE, spread=0.0, families=FAMILIES):
    made = cells(truth.runs(0.0)) if made is None else made
    made = made.assign(target="t", learning_rate=0.01, edge="")
    model = Equivalents(truth.surface(spread=spread), [PLACE])
    paired = lambda one, two: 0.02
    frame = standings_frame(made, model, families, CORPORA, noise, paired)
    return frame.set_index(["corpus", "family"])


def test_the_data_needed_is_the_planted_multiplier():
    frame = of(Truth(rhoD={"b": 1.7}), spread=0.001)
    for corpus in CORPORA:
        best, other = frame.loc[(corpus, "b")], frame.loc[(corpus, "a")]
        assert (best["rank"], other["rank"], other.against) == (1, 2, "b")
        assert best.factor == 1.0 and np.isnan(best.low) and best.above == 0.0
        assert other.factor == pytest.approx(1.7, rel=1e-2)
        assert other.low < 1.7 < other.high
        assert (other.params, other.tokens) == (SIZES[-1], BUDGETS[-1])
        assert (other.fit_params, other.fit_tokens) == PLACE


def test_the_distance_has_seed_noise_and_paired_documents():
    frame = of(Truth(rhoD={"b": 1.7}))
    best, other = frame.loc[("code", "b")], frame.loc[("code", "a")]
    assert other.above == pytest.approx(other.loss - best.loss)
    # Student's t with 4 degrees of freedom.
    error = np.sqrt(2 * (0.01 * best.loss) ** 2 + 0.02**2)
    assert other.above_high - other.above == pytest.approx(2.776 * error, rel=1e-3)
    unknown = of(Truth(rhoD={"b": 1.7}), noise=Noise(float("nan"), 0))
    assert unknown.above_low.isna().all() and unknown.above.notna().all()


def test_families_are_compared_where_all_have_a_cell():
    truth = Truth(rhoD={"b": 1.7})
    made = cells(truth.runs(0.0))
    short = made[(made.family == "a") | (made.budget < 3)]
    frame = of(truth, short)
    assert set(frame.tokens) == {BUDGETS[2]}
    apart = made[(made.family == "a") == (made.budget < 2)]
    assert of(truth, apart).empty
    assert of(truth, families=FAMILIES[:1]).empty


def test_what_no_data_reaches_is_said():
    frame = of(Truth(floor={"a": 3.0}))
    other = frame.loc[("code", "a")]
    assert np.isposinf(other.factor) and other.p_infinite == 1.0


def test_without_a_law_there_is_no_factor():
    truth = Truth(rhoD={"b": 1.7})
    made = cells(truth.runs(0.0)).assign(target="t", learning_rate=0.01, edge="")
    none = lambda family, corpus, params, tokens: np.full((41, params.size), np.nan)
    for model in (None, Equivalents(none, [PLACE])):
        frame = standings_frame(
            made, model, FAMILIES, CORPORA, NOISE, lambda one, two: 0.02
        )
        assert frame.factor.isna().all() and frame.above.notna().all()
