"""Words of the front page: what moves the loss, predictions, no rounding as numbers."""

from __future__ import annotations

import doctest
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis import formatting
from analysis.questions import _distance_words, ranking, variance


def apart(low: float, high: float, floor: float = 0.05) -> SimpleNamespace:
    excess = (low + high) / 2
    ends = {"excess": excess, "excess_low": low, "excess_high": high}
    names = {"baseline": "lstm", "alternative": "gru", "fixed": "code"}
    return SimpleNamespace(**names, **ends, floor=floor, distance=floor + excess)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.01, 0.02), "do not make the same predictions: theirs differ 1.3 times"),
        ((-0.02, -0.01), "differ no more than those of two runs of one architecture"),
        ((-0.01, 0.02), formatting.UNDETERMINED),
    ],
)
def test_the_front_page_says_plainly_whether_predictions_differ(ends, said):
    text = _distance_words.plain_excess(apart(*ends))
    assert said in text and "random start" in text and text.endswith(").")
    assert text.startswith("Trained on code, ") and "lstm and gru" in text
    # No difference shown is never called the same function.
    assert "the same function" not in text


def test_seeds_that_agree_exactly_give_no_endless_ratio():
    text = _distance_words.plain_excess(apart(0.01, 0.02, floor=0.0))
    assert "differ more than those of two runs" in text and "inf" not in text


def test_rounding_is_no_number():
    assert doctest.testmod(formatting).failed == 0
    assert formatting.percent_error(5.7e-16) == "under 0.001%"
    assert formatting.interval_text(-6.98e-30, 0.357) == "0 to 0.357"
    assert formatting.interval_text(-0.01, 0.357) == "−0.0100 to 0.357"
    assert formatting.percent_error(math.nan) == "–"


DESCRIBED = {
    "family": {
        f"{family}, {optimiser}": {"architecture": family, "optimiser": optimiser}
        for family in ("gru", "lstm")
        for optimiser in ("adam", "muon")
    }
}


def cells() -> pd.DataFrame:
    """The optimiser moves the loss by 0.4, the architecture by 0.1."""
    rows = []
    grid = itertools.product(("gru", "lstm"), ("adam", "muon"), range(4), range(4))
    rng = np.random.default_rng(0)
    for family, optimiser, level, budget in grid:
        loss = 3.0 - 0.02 * level - 0.02 * budget + 1e-3 * rng.normal()
        loss -= 0.1 * (family == "lstm") + 0.4 * (optimiser == "muon")
        name = {"family": f"{family}, {optimiser}", "corpus": "web", "loss": loss}
        place = {"level": level, "budget": budget}
        rows.append(name | place | {"params": 2.0**level, "tokens": 4.0**budget})
    return pd.DataFrame(rows)


def test_the_optimiser_has_a_share_of_its_own():
    measured = variance.measured_frame(cells(), "web", 0, DESCRIBED)
    shares = measured.set_index("factor").share
    assert shares.optimiser > 0.85 and 0.03 < shares.architecture < 0.1
    together = variance.measured_frame(cells(), "web", 0)
    assert "optimiser" not in set(together.factor)

    def surface(family, corpus, params, tokens):
        part = DESCRIBED["family"][family]
        loss = 3.0 - 0.1 * (part["architecture"] == "lstm")
        loss -= 0.4 * (part["optimiser"] == "muon")
        return np.full((3, len(params)), loss)

    box = ((1e6, 1e7), (1e8, 1e9))
    names = list(DESCRIBED["family"])
    law = variance.variance_frame(surface, names, ["web"], box, "web", DESCRIBED)
    shares = law.set_index("factor").share
    assert shares.optimiser == pytest.approx(16 / 17, abs=1e-6)
    # Without every combination there is no grid: they stand together.
    some = variance.variance_frame(surface, names[:3], ["web"], box, "web", DESCRIBED)
    assert some.factor.iloc[0] == "architecture and optimiser"


@pytest.mark.parametrize(
    ("optimisers", "said"),
    [
        (
            ["adamw", "adamw"],
            "The architecture and the optimiser did not vary: how much they explain is",
        ),
        (
            ["", ""],
            "did not vary and the table does not name the optimiser: how much they",
        ),
        (["adamw", "lion"], "The optimiser has 2 values and is not separated"),
    ],
)
def test_what_the_study_cannot_tell_of_the_optimiser_is_said(optimisers, said):
    runs = pd.DataFrame({"used": [True, True], "optimiser": optimisers})
    frame = pd.DataFrame({"factor": ["corpus", "params", "tokens"]})
    text = " ".join(variance.fixed(SimpleNamespace(runs=runs), frame))
    assert said in text


def test_the_ranking_sets_a_law_that_orders_otherwise_beside_the_measured_loss():
    head = {"corpus": "web", "params": 1e6, "tokens": 1e8}
    head |= {"fit_params": 1e6, "fit_tokens": 5e7}
    first = head | {"family": "lstm", "loss": 1.71, "factor": 1.0, "low": np.nan}
    second = head | {"family": "conv", "loss": 1.75, "factor": 0.87, "low": 0.78}
    second |= {"high": 0.96, "above": 0.04, "above_low": -0.07, "above_high": 0.15}
    text = ranking.sentence(pd.DataFrame([first, second]), "nats/token")
    assert "The law has conv ahead of lstm, with 0.870 times the data" in text
    assert "an interval that includes 0" in text
    held = pd.DataFrame([first, second | {"high": 1.1}])
    assert "ahead of" not in ranking.sentence(held, "nats/token")
