"""More factors than family and corpus, in the same currency."""

import numpy as np
import pandas as pd
import pytest
from made_surfaces import Truth

from analysis.analyse import analyse
from analysis.factors import MOST_LEVELS, fold
from analysis.table import from_frame

MUON = 1.6


def table():
    """One family and one corpus; muon gets 1.6 times as much out of the data."""
    adam = Truth().runs(0.002, 0)
    muon = Truth(rhoD={"a": MUON}).runs(0.002, 1)
    adam, muon = (
        f[(f.family == "a") & (f.corpus == "code")].assign(optimiser=name)
        for f, name in ((adam, "adamw"), (muon, "muon"))
    )
    return from_frame(pd.concat([adam, muon], ignore_index=True))


def test_an_optimiser_is_a_factor_with_its_own_data_equivalent():
    found = analyse(table(), draws=40)
    whole = found.equivalents[
        (found.equivalents.held == "*") & (found.equivalents.method == "joint")
    ]
    assert list(whole.kind) == ["optimiser"]
    row = whole.iloc[0]
    assert (row.source, row.to) == ("adamw", "muon")
    assert row.factor == pytest.approx(MUON, rel=0.05)
    assert 1.3 < row.low < row.factor < row.high
    assert set(found.runs.family) == {"a, adamw", "a, muon"}


def test_quality_folds_into_the_corpus_and_says_of_what():
    made = Truth().runs(0.0).assign(quality=lambda f: np.where(f.tokens > 5e6, 1, 0.5))
    folded, described = fold(from_frame(made))
    assert set(folded.runs.corpus) == {
        f"{corpus}, quality {q}" for corpus in ("code", "prose") for q in ("0.5", "1")
    }
    one = described["corpus"]["code, quality 0.5"]
    assert one == {"corpus": "code", "quality": "0.5"}


def test_a_factor_of_one_level_or_of_a_scale_is_left_alone():
    made = Truth().runs(0.0)
    plain = from_frame(made)
    assert fold(plain)[0].runs.equals(plain.runs) and fold(plain)[1] == {}
    scale = np.linspace(0.1, 1.0, MOST_LEVELS + 1)
    many = from_frame(made.assign(quality=np.resize(scale, len(made))))
    assert fold(many)[1] == {}
