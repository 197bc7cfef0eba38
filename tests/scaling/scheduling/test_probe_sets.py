"""Probes in a study: kept before training, told by the plan, refused in one line."""

import io
import json
from pathlib import Path

import pytest

from scaling import probe_file
from scaling.engines.child import Settings
from scaling.errors import UserError
from scaling.scheduling import commands, plan_tables, study_plan
from scaling.scheduling.progress import Progress
from scaling.store import Store

STUDY = """
from scaling import Data, EvaluationSet, Model, Optimiser, Probes, Run
from scaling import corpus, mixture, vary

def study(results):
    text = corpus("files", path={path!r})
    run = Run(
        model=Model("transformer", 8_000),
        data=Data(text, 1024),
        optimiser=Optimiser(0.01),
        batch=4, length=16,
        evaluation=(EvaluationSet("own", text, 2_048),),
    )
    runs = vary(run, {{"init_seed": (0, 1)}})
    yield from vary(runs, {{"probes": {probes}}})
"""
ONE = '((Probes("own", text, 40, (0.25, 1), per_document=4),),)'


@pytest.fixture
def options(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "support"))

    def build(probes=ONE):
        path = tmp_path / "little.py"
        text = dict(made.part.options)["path"]
        path.write_text(STUDY.format(path=text, probes=probes))
        settings = Settings(made.data_dir, str(tmp_path), worker="fake_worker")
        return study_plan.Options(str(path), str(tmp_path / "w"), settings)

    return build


def test_a_set_is_kept_once_and_before_training(options, tmp_path):
    chosen, store = options(), Store(tmp_path / "w")
    assert commands.run(chosen, Progress(io.StringIO())) == 0
    (digest,) = probe_file.digests(store)
    found = probe_file.read(store, digest)
    assert found.name == "own" and found.facts["positions"] == 40
    assert probe_file.read_truth(store, digest) is None
    path = store.path("probes", f"{digest}.npz")
    before = (path.stat().mtime, path.read_bytes())
    assert commands.run(chosen, Progress(io.StringIO())) == 0
    path = store.path("probes", f"{digest}.npz")
    assert (path.stat().mtime, path.read_bytes()) == before
    (record, _) = store.records()[0]
    (kept,) = record.run["probes"]
    assert kept["name"] == "own" and kept["at"] == [0.25, 1]


def test_the_plan_tells_what_predictions_take(options):
    entries = commands.plan(options(), Progress(io.StringIO()))
    assert [entry.predictions for entry in entries] == [2 * 40 * 257 * 2] * 2
    table = plan_tables.plan_table(entries)
    assert "predictions kept at probes take at most 82.2kB on disk (own: 40" in table
    assert "at 0.25, 1 of the training)" in table
    (first, _) = json.loads(plan_tables.plan_json(entries))
    assert first["predictions_bytes"] == 41_120
    best = options('((Probes("own", text, 40, per_document=12, best=True),),)')
    entries = commands.plan(best, Progress(io.StringIO()))
    assert [entry.predictions for entry in entries] == [2 * 40 * 257 * 2] * 2
    assert "at 1 of the training and at its best step)" in plan_tables.plan_table(
        entries
    )
    entries = commands.plan(options("((),)"), Progress(io.StringIO()))
    assert "probes" not in plan_tables.plan_table(entries)


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ('((Probes("a", text, 400),),)', "probes.positions.*holds out .* documents"),
        ('((Probes("a", mixture(code=1, kjv=1)),),)', "probes lie in one corpus"),
        ('((Probes("a", corpus("kjw")),),)', "'kjw'.*did you mean|kjw.*kjv"),
        ('((Probes("a", text, 40, (0.5, 2)),),)', "probes.at.*up to 1"),
        ('((Probes("a", text, 4),), (Probes("a", text, 5),))', "names two sets"),
    ],
)
def test_wrong_probes_are_refused_before_training(options, tmp_path, probes, said):
    with pytest.raises(UserError, match=said) as error:
        commands.run(options(probes), Progress(io.StringIO()))
    assert "\n" not in str(error.value)
    assert Store(tmp_path / "w").records()[0] == []
