"""More factors than family and corpus, in the same currency."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.design.factors import MOST_LEVELS, fold
from analysis.pipeline import analyse
from analysis.surfaces.lawfit import fit_law
from analysis.tables.load import from_frame
from tests.support.made_surfaces import Truth

MUON = 1.6


def table():
    """One family and one corpus; muon gets 1.6 times as much out of the data."""
    adam = Truth().runs(0.002, 0)
    muon = Truth(rhoD={"a": MUON}).runs(0.002, 1)
    adam, muon = (
        f[(f.family == "a") & (f.corpus == "code")].assign(optimiser=name)
        for f, name in ((adam, "adamw"), (muon, "muon"))
    )
    return from_frame(pd.concat([adam, muon], ignore_index=True), target="shared")


def test_an_optimiser_is_a_factor_with_its_own_data_equivalent():
    found = analyse(table(), draws=40)
    whole = found.equivalents[
        (found.equivalents.fixed == "*") & (found.equivalents.method == "joint")
    ]
    assert list(whole.kind) == ["optimiser"]
    row = whole.iloc[0]
    assert (row.baseline, row.alternative) == ("adamw", "muon")
    assert row.factor == pytest.approx(MUON, rel=0.05)
    assert 1.3 < row.low < row.factor < row.high
    assert set(found.runs.family) == {"a, adamw", "a, muon"}


def test_quality_folds_into_the_corpus_and_says_of_what():
    made = Truth().runs(0.0).assign(quality=lambda f: np.where(f.tokens > 5e6, 1, 0.5))
    folded, described = fold(from_frame(made, target="shared"))
    assert set(folded.runs.corpus) == {
        f"{corpus}, quality {q}" for corpus in ("code", "prose") for q in ("0.5", "1")
    }
    one = described["corpus"]["code, quality 0.5"]
    assert one == {"corpus": "code", "quality": "0.5"}


def test_damaged_text_is_told_from_sound_text_whatever_its_share():
    made = from_frame(Truth().runs(0.0), target="shared")
    worst = made.runs.tokens > 5e6
    runs = made.runs.assign(damage="", quality=np.linspace(1.0, 0.99, len(made.runs)))
    runs["damage"] = runs.damage.where(~worst, "random_bytes 0.5")
    folded, described = fold(dataclasses.replace(made, runs=runs))
    assert set(folded.runs.corpus) == {
        f"{corpus}{damage}"
        for corpus in ("code", "prose")
        for damage in ("", ", random_bytes 0.5")
    }
    assert described["corpus"]["code"] == {"corpus": "code", "quality": "sound"}
    one = described["corpus"]["code, random_bytes 0.5"]
    assert one == {"corpus": "code", "quality": "random_bytes 0.5"}
    # It shows even where there is nothing to compare it with.
    every = dataclasses.replace(made, runs=runs.assign(damage="truncation 0.2"))
    assert set(fold(every)[0].runs.corpus) == {
        "code, truncation 0.2",
        "prose, truncation 0.2",
    }


def test_a_law_that_reads_no_quality_never_mixes_damaged_text_with_sound():
    truth = Truth()
    sound = from_frame(truth.runs(0.0), target="shared")
    runs = sound.runs[(sound.runs.family == "a") & (sound.runs.corpus == "code")]
    worse = runs.assign(run_id=runs.run_id + "w", damage="truncation 0.5", quality=0.5)
    readings = sound.readings[sound.readings.run_id.isin(runs.run_id)]
    shifted = readings.assign(run_id=readings.run_id + "w", loss=readings.loss + 0.3)
    both = dataclasses.replace(
        sound,
        runs=pd.concat([runs, worse], ignore_index=True),
        readings=pd.concat([readings, shifted], ignore_index=True),
    )
    found = fit_law(both, "chinchilla", draws=40).parameters
    floors = found[found.parameter == "E"].set_index("corpus").value
    assert floors["code, truncation 0.5"] - floors["code"] == pytest.approx(0.3, 1e-3)
    assert list(fit_law(both, "quality", draws=40).parameters.corpus.unique()) == [
        "code"
    ]


def test_a_factor_of_one_level_or_of_a_scale_is_left_alone():
    made = Truth().runs(0.0)
    plain = from_frame(made, target="shared")
    assert fold(plain)[0].runs.equals(plain.runs) and fold(plain)[1] == {}
    scale = np.linspace(0.1, 1.0, MOST_LEVELS + 1)
    many = from_frame(made.assign(quality=np.resize(scale, len(made))), target="shared")
    assert fold(many)[1] == {}
