"""A study that says what it will decide before it trains, and whether it kept to it."""

import dataclasses
import io
import json
import types
from pathlib import Path

import pytest

from scaling import frozen
from scaling.engines.child import Settings
from scaling.errors import UserError
from scaling.intact import Unreadable
from scaling.scheduling import commands, study_plan
from scaling.scheduling.progress import Progress
from scaling.store import Store

STUDY = """
import dataclasses
from scaling import Data, EvaluationSet, Model, Optimiser, Probes, Run, corpus, vary

@dataclasses.dataclass(frozen=True)
class Claim:
    sentence: str
    margin: float

claims = (Claim("they become the same", {margin}),)
withheld = ({{"model.size": 16_000}},)

def study(results):
    text = corpus("files", path={path!r})
    run = Run(
        model=Model("transformer", 8_000),
        data=Data(text, 1024),
        optimiser=Optimiser(0.01),
        batch=4, length=16,
        evaluation=(EvaluationSet("own", text, 2_048),),
        probes=(Probes("own", text, 40, per_document=4),),
    )
    rates = vary(run, {{"optimiser.learning_rate": (0.005, 0.01, 0.02)}})
    yield from rates
    yield from vary(results.best(rates), {{"data.tokens": {tokens}}})
"""


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"))

    def write(margin=0.02, tokens=(1024, 2048)):
        path = tmp_path / "little.py"
        text = dict(made.part.options)["path"]
        path.write_text(STUDY.format(path=text, margin=margin, tokens=tokens))
        settings = Settings(made.data_dir, str(tmp_path), worker="fake_worker")
        return study_plan.Options(str(path), str(tmp_path / "w"), settings)

    return write


def progress():
    return Progress(io.StringIO())


def test_what_was_frozen_stands_and_is_kept_to(study, tmp_path):
    store = Store(tmp_path / "w")
    said = commands.freeze(study(), progress())
    assert "2 cells, 1 probe sets, 1 claims, 1 withheld; digest" in said
    assert commands.freeze(study(), progress()) == said  # again: nothing new
    kept = frozen.read(store, "little")
    assert kept["claims"] == [
        {"is": "Claim", "sentence": "they become the same", "margin": 0.02}
    ]
    assert commands.run(study(), progress()) == 0
    now = store.studies()["little"]
    assert now["claims"] == kept["claims"] and now["withheld"] == kept["withheld"]
    assert frozen.changes(kept, now) == []  # the rate that tuning chose is none
    assert commands.freeze(study(), progress()) == said


def test_what_changes_afterwards_shows(study, tmp_path):
    store = Store(tmp_path / "w")
    commands.freeze(study(), progress())
    for changed in ({"margin": 0.5}, {"tokens": (1024, 4096)}):
        with pytest.raises(UserError, match=r"frozen on .* with a different plan"):
            commands.freeze(study(**changed), progress())
    assert commands.run(study(margin=0.5, tokens=(1024, 4096)), progress()) == 0
    kept, now = frozen.read(store, "little"), store.studies()["little"]
    assert frozen.changes(kept, now) == [
        "its claims were changed (1 before, 1 now)",
        "1 cells were added to its grid",
        "1 cells of its grid were dropped",
    ]


def test_after_training_it_is_too_late(study):
    assert commands.run(study(), progress()) == 0
    with pytest.raises(UserError, match="4 of its runs are trained"):
        commands.freeze(study(), progress())


def test_a_changed_file_is_said(tmp_path):
    store = Store(tmp_path)
    assert frozen.read(store, "little") is None
    frozen.write(store, "little", {"claims": [], "time": "now"})
    path = store.path("frozen", "little.json")
    body = json.loads(path.read_text())
    path.write_text(json.dumps(body | {"time": "later"}))
    assert frozen.read(store, "little")["time"] == "later"
    path.write_text(json.dumps(body | {"claims": ["other"]}))
    with pytest.raises(Unreadable, match="was changed since"):
        frozen.read(store, "little")


@dataclasses.dataclass
class Odd:
    value: object


@pytest.mark.parametrize("wrong", ["text", ({1, 2},), (Odd(len),), (float("nan"),)])
def test_claims_that_no_file_can_hold_are_refused(wrong):
    with pytest.raises(UserError, match="claims"):
        frozen.said(types.SimpleNamespace(claims=wrong))
