"""The floors of fitted laws beside the true losses of made corpora."""

from __future__ import annotations

import math

import pandas as pd

from analysis.questions import known_floor
from analysis.report import markup, saved
from analysis.tables import truth
from tests.support.made_analysis import emptied, made_analysis


def test_fitted_floors_stand_beside_the_truth():
    key = "parity[tokens=9]"
    row = {"family": "lstm", "corpus": key, "target": "own", "law": "chinchilla"}
    row |= {"parameter": "E", "value": 1.0, "low": 0.9, "high": 1.1, "bound": False}
    far = row | {"family": "moe", "value": 0.5, "low": 0.4, "high": 0.6}
    one_size = row | {"value": 3.0, "params": 8_000.0}
    other = row | {"parameter": "alpha"}
    fits = pd.DataFrame([row, far, other, one_size], columns=[*row, "params"])
    cells = pd.DataFrame(
        [
            {"family": family, "corpus": corpus, "target": "own", "loss": loss}
            for family, corpus, loss in (
                *(("lstm", key, 1.3), ("lstm", key, 1.2), ("moe", key, 1.4)),
                *(("gru", key, 1.5), ("lstm", "kjv", 2.0)),
            )
        ]
    )
    joint = pd.DataFrame(columns=JOINT)
    study = {"truth": [FACT, FACT | {"evaluation": "unread"}]}
    parts = {"own": {f"{key}:8192": 1.0}}
    made = known_floor.frame(truth.facts([study]), parts, cells, fits, joint)
    own = made[made.own].set_index("family")
    assert sorted(own.index) == ["gru", "lstm", "moe"] and set(made.target) == {"own"}
    assert own.interval[["gru", "lstm", "moe"]].tolist() == ["", "contains", "below"]
    assert own.floor["lstm"] == 1.0 and own.lowest["lstm"] == 1.2
    assert not made[made.corpus == "kjv"].own.any()
    said = " ".join(known_floor.sentences(made, "nats/token"))
    assert (
        "lstm by chinchilla, 1.000 (0.900 to 1.10), has an interval that contains the"
        in said
    )
    assert "truth, 1.050 nats/token on own; the lowest loss measured is 1.200." in said
    assert "is 0.550 below the truth" in said
    assert "No floor was fitted to gru; the truth is 1.050 nats/token on own" in said


def test_the_floors_of_many_families_are_counted():
    ends = {"a": (0.9, 1.0, "below"), "b": (1.0, 1.1, "contains")}
    ends |= {"c": (1.0, 1.3, "contains"), "d": (1.0, 2.0, "contains")}
    ends |= {"e": (math.nan, math.nan, "")}
    rows = pd.DataFrame(
        [
            {"family": family, "corpus": "own", "target": "own", "law": "chinchilla"}
            | {"floor": 1.0, "low": low, "high": high, "interval": lie}
            | {"truth": 1.05, "lowest": 1.2, "own": True}
            for family, (low, high, lie) in ends.items()
        ]
    )
    (said,) = known_floor.sentences(rows, "nats/token")
    assert "where the truth is 1.050 nats/token, of the intervals of 5" in said
    assert "3 contain it, 1 lie below it (a) and 1 are not known (e)." in said
    assert "The narrowest is a's, 1.000 (0.900 to 1.00)." in said


JOINT = ["target", "law", "parameter", "kind", "level", "value", "low", "high", "bound"]
FACT = {"evaluation": "own", "length": 66, "loss": 1.05, "se": 0.01}
FACT |= {"entropy": 1.04, "entropy_se": 0.0, "count": 8_000}


def test_a_floor_of_all_families_is_that_of_the_one_corpus_they_read():
    row = {"target": "own", "law": "joint", "parameter": "E", "kind": "shared"}
    row |= {"level": "", "value": 1.2, "low": 1.1, "high": 1.3, "bound": False}
    joint = pd.DataFrame([row, row | {"parameter": "alpha"}])
    names = ["family", "corpus", *JOINT, "params"]
    fits = pd.DataFrame(columns=names, dtype=float)  # where every fit was refused
    cell = {"family": "lstm", "corpus": "hmm", "target": "own", "loss": 1.4}
    known, parts = truth.facts([{"truth": [FACT]}]), {"own": {"hmm:8192": 1.0}}
    one = known_floor.frame(known, parts, pd.DataFrame([cell]), fits, joint)
    assert one[one.family == "*"].own.tolist() == [True]
    assert one[one.family == "*"].interval.tolist() == ["above"]
    cells = pd.DataFrame([cell, cell | {"corpus": "kjv"}])
    two = known_floor.frame(known, parts, cells, fits, joint)
    assert two[two.family == "*"].own.tolist() == [False]
    refused = known_floor.frame(known, parts, cells, fits, joint[:0].astype(float))
    assert refused.floor.isna().all() and refused.own.tolist() == [True, False]
    assert known_floor.frame(truth.facts([]), parts, cells, fits, joint).empty


def test_the_report_tells_the_truth_with_laws_and_without():
    study = made_analysis()
    parts = {target: {f"{target}:100": 1.0} for target in study.targets}
    known = truth.facts([{"truth": [FACT | {"evaluation": "code"}]}])
    made = known_floor.frame(known, parts, study.cells, study.fits, study.joint)
    reported = study.replace(truth=made)
    written = [
        markup.section(known_floor.QUESTION, analysis.view, lambda *name, **chosen: "")
        for analysis in (study, reported, emptied(reported, "fits"))
    ]
    shown = ["The floor of lstm by chinchilla" in text for text in written]
    assert shown == [False, True, True]
    read = saved.from_json(saved.to_json(reported))
    pd.testing.assert_frame_equal(read.truth, made, check_dtype=False)
