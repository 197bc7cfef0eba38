"""Claims: what decides them, what does not, and whether a study kept its word."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import schema
from analysis.inference import margins
from analysis.inference.margins import Interval
from analysis.questions import _quantities, claims
from analysis.questions._asked import Whole
from analysis.results import Analysis
from analysis.tables.promises import Promise
from configs import same_data
from scaling import Claim, frozen
from scaling.errors import UserError
from tests.support import made_function
from tests.support.made_predictions import Plan, run_id

SAME = Claim("They are one function.", "variance.share", "within", 0.1)


def plain(claim, stated="before training"):
    return json.loads(json.dumps(dataclasses.asdict(claim))) | {"stated": stated}


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        ("within", -0.05, 0.09, "supported"),
        ("within", 0.11, 0.4, "refuted"),
        ("within", -0.05, 0.11, "undetermined"),  # holds 0, which shows nothing
        ("outside", 0.11, 0.4, "supported"),
        ("outside", -0.05, 0.05, "refuted"),
        ("above", 0.11, 0.4, "supported"),
        ("above", -0.3, 0.09, "refuted"),
        ("above", 0.0, 0.2, "undetermined"),
        ("below", -0.3, -0.2, "supported"),
        ("below", 0.0, 0.2, "refuted"),
        ("within", math.nan, 0.1, "undetermined"),
    ],
)
def test_a_rule_decides_by_the_interval(rule, low, high, verdict):
    row = Interval(0.0, low, high, low, high)
    assert margins.judge(rule, (-0.1, 0.1), row) == verdict


def test_equivalence_is_of_two_one_sided_tests_at_5_percent():
    """The 90% interval shows it, and the 95% interval refutes it."""
    inside = Interval(0.05, 0.0, 0.11, 0.0, 0.09)
    assert margins.judge("within", (-0.1, 0.1), inside) == "supported"
    outside = Interval(0.15, 0.09, 0.3, 0.11, 0.2)
    assert margins.judge("within", (-0.1, 0.1), outside) == "undetermined"


def rows(*ends):
    return [Interval(0.5 * (a + b), a, b, a, b) for a, b in ends]


def decided(*ends, over="every"):
    return margins.decide("within", (-0.1, 0.1), rows(*ends), over)


def test_every_row_supports_and_one_refutes():
    inside, outside = (-0.05, 0.05), (0.3, 0.4)
    assert decided(inside, inside)[0] == "supported"
    assert decided(inside, outside, inside) == ("refuted", 1)
    # Alone it would be refuted; of two, its interval is wider.
    near = (0.1001, 0.2)
    assert decided(near)[0] == "refuted"
    assert decided(inside, near) == ("undetermined", 1)
    assert decided(inside, outside, over="any") == ("supported", 0)
    assert decided(outside, outside, over="any")[0] == "refuted"


def made(**more):
    shares = pd.DataFrame(
        [
            {"target": "web", "factor": factor, "share": share, "box": "all of it"}
            | {"low": share - 0.02, "high": share + 0.02}
            for factor, share in (("architecture", 0.3), ("corpus", 0.05))
        ]
    )
    runs = pd.DataFrame({"run_id": ["a", "b"], "used": [True, False]})
    frames = {"variance": shares, "runs": runs} | more
    return Analysis.of(title="", unit="nats/token", targets=("web",), **frames)


def concluded(*stated, analysis=None, **promise):
    promise = Promise("made", tuple(plain(claim) for claim in stated), **promise)
    whole = analysis or made()
    table = type("Table", (), {"promises": (promise,)})()
    frames, notes = claims.concludes(Whole(table, whole))
    return frames["claims"], frames["promises"], notes


def test_a_claim_is_decided_by_the_rows_it_names():
    one = Claim("Little.", "share of architecture", "below", 0.1)
    two = dataclasses.replace(SAME, where={"factor": "corpus"})
    found, _, notes = concluded(one, two)
    assert list(found.verdict) == ["refuted", "supported"] and not notes
    assert list(found.effect) == [0.3, 0.05] and list(found.scale) == 2 * ["all of it"]
    assert found.change[0].startswith("A margin above 0.280,")
    assert found.change[1].startswith("A margin that does not hold all of 0.0300 to")


def test_a_cut_that_states_the_claims_of_its_whole_adds_none():
    claim = plain(Claim("Little.", "share of architecture", "below", 0.1))
    other = plain(dataclasses.replace(SAME, where={"factor": "corpus"}))
    promises = (
        Promise("whole", (claim | {"stated": "before training"},)),
        Promise("cut", (claim | {"stated": "not frozen"}, other | {"stated": ""})),
    )
    table = type("Table", (), {"promises": promises})()
    found = claims.concludes(Whole(table, made()))[0]["claims"]
    assert list(found.study) == ["whole", "cut"] and found.claim.is_unique


def test_the_front_page_names_the_claims_that_were_decided():
    one = Claim("Architecture matters little.", "share of architecture", "below", 0.1)
    two = dataclasses.replace(SAME, where={"factor": "corpus"})
    three = dataclasses.replace(two, margin=0.06, sentence="They are closer.")
    found, _, _ = concluded(one, two, three)
    (said, *_) = claims.answers(made(claims=found).view)
    assert said.text == (
        "Of 3 claims that the study stated, supported: “They are one function”; "
        "refuted: “Architecture matters little”; undetermined: 1."
    )


def test_what_would_change_it_follows_from_the_numbers():
    row = Interval(0.05, -0.15, 0.25, -0.12, 0.22)
    # 0.17 from its value to the end, 0.05 to the margin's: 3.4 times narrower.
    text = claims.change("undetermined", "within", (-0.1, 0.1), row)
    assert text.startswith("An interval narrower by a factor of 3.4: about 12 times")
    on_it = claims.change("undetermined", "above", (0.05, 0.05), row)
    assert on_it.startswith("Nothing that can be trained would")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quantity": "varianc.share"}, "did you mean 'variance'"),
        ({"quantity": "variance.shares"}, "did you mean 'share'"),
        ({"quantity": "exces"}, "did you mean 'excess'"),
        ({"quantity": "variance.box"}, "no interval of it is known"),
        ({"where": {"size": 3}}, "column 'size'"),
    ],
)
def test_a_claim_of_what_there_is_not_is_undetermined_in_one_line(change, words):
    found, _, (note,) = concluded(dataclasses.replace(SAME, **change))
    assert found.verdict[0] == "undetermined" and words in found.change[0]
    assert words in note.text and "\n" not in note.text


def test_a_quantity_without_rows_says_so():
    found, _, notes = concluded(Claim("Same.", "ratios.lambda", "within", 0.1))
    assert found.verdict[0] == "undetermined" and found.rows[0] == 0
    assert "ratios" in found.change[0] and not notes


@pytest.mark.parametrize("name", _quantities.NAMED)
def test_quantities_with_names_are_of_frames_that_there_are(name):
    asked = _quantities.quantity(name)
    known = schema.frames()[asked.frame]
    assert {asked.column, *asked.where} <= set(known.names)
    assert _quantities.intervals(asked, known.join(())) == []


def test_claims_of_the_study_of_functions_are_decided_on_made_predictions():
    frames = dict(made_function.frames())
    found, _, notes = concluded(*same_data.claims, analysis=made(**frames))
    assert not notes and set(found.verdict) <= {"supported", "refuted", "undetermined"}
    assert found.verdict[0] == "refuted" and found.effect[0] > 0.01
    assert found.verdict[4] != "undetermined" and np.isfinite(found.effect[4])


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "inside"},
        {"margin": 0.0},
        {"margin": (0.1, -0.1)},
        {"margin": "wide"},
        {"at": "last"},
        {"sentence": " "},
    ],
)
def test_a_claim_says_what_is_wrong_with_it(wrong):
    with pytest.raises(UserError):
        dataclasses.replace(SAME, **wrong)


def test_withheld_cells_that_a_fit_saw_were_not_kept():
    cells = (("size 8000", ("a",)), ("size 9000", ("b",)))
    _, kept, _ = concluded(SAME, frozen="2026-01-01", withheld=cells)
    assert list(kept.kept) == [True, False, True]
    assert "1 of its 1 runs were in a fit" in kept.how[1]


@pytest.fixture
def workdir(tmp_path):
    """A made study that froze one claim and now states two, and withholds a size."""
    plan = Plan(families=("lstm", "transformer"), sizes=(8000, 9000), seeds=2)
    store = plan.write(tmp_path)
    first, second = plain(SAME), plain(dataclasses.replace(SAME, margin=9.0))
    first.pop("stated"), second.pop("stated")
    withheld = [{"model.size": 9000}]
    body = {"study": "made", "runs": [], "claims": [first], "withheld": withheld}
    frozen.write(store, "made", body | {"time": "2026-01-01"})
    ids = [run_id(*run) for run in plan.runs()]
    now = {"runs": ids, "claims": [first, second], "withheld": withheld}
    store.write_study("made", now)
    return tmp_path


def test_a_workdir_gives_frozen_claims_and_what_was_changed(workdir):
    (promise,) = analysis.load(workdir).promises
    assert [c["stated"] for c in promise.claims] == [
        "before training",
        "after it was frozen",
    ]
    assert promise.changes == ("its claims were changed (1 before, 2 now)",)
    ((cell, runs),) = promise.withheld
    assert cell == "model.size 9000" and len(runs) == 4


def test_withheld_cells_are_set_aside_and_the_report_has_the_verdicts(workdir):
    result = analysis.analyse(analysis.load(workdir), draws=40)
    aside = result.exclusions[result.exclusions.reason.str.startswith("withheld")]
    assert len(aside) == 4 and aside.run_id.str.contains("9000").all()
    assert list(result.promises.kept) == [False, True]
    assert len(result.claims) == 2
    text = " ".join(claims.said(result.view))
    assert "did not keep what it said" in text and "after the study was frozen" in text


def test_a_frozen_file_that_was_changed_is_told(workdir):
    path = workdir / "frozen" / "made.json"
    path.write_text(path.read_text().replace("0.1", "0.3"))
    (promise,) = analysis.load(workdir).promises
    assert "its digest differs" in promise.changes[0]
    assert {c["stated"] for c in promise.claims} == {"not frozen"}
