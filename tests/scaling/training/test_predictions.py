"""Predictions kept: of the very model that is scored, the same however it runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scaling import probe_file
from scaling.corpora import _probes
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.record import substance
from scaling.run import Data, Optimiser, Probes
from scaling.store import Store
from scaling.training import trainer
from tests.conftest import every_family

AT = (0.25, 0.5, 1.0)
WIDE = Layout(run=2, width=2)


def probed(made, family="transformer", at=AT, **changes):
    probes = Probes("held", (made.part,), 40, at, per_document=4)
    return made.run(family, probes=(probes,), **changes)


def trained(made, runs, workdir, layout=WIDE, stopping=lambda: False):
    """Records of `runs` by id, after training them as one pack."""
    store = Store(workdir)
    pack = Pack(tuple(runs), made.ids(*runs), layout)
    trainer.train(pack, made.prepared, store, lambda event: None, stopping)
    return {i: store.read(i) for i in pack.run_ids if store.exists(i)}


def kept(record, workdir):
    data = Store(workdir).artifact(record, "predictions", probe_file.MOST)
    return probe_file.Predictions(data)


def same(records):
    return {run_id: substance(record) for run_id, record in records.items()}


@every_family("transformer")
def test_predictions_are_those_of_the_model_that_is_scored(made, tmp_path, family):
    """Probabilities of one, and at each position what the loss there says."""
    everywhere = dataclasses.replace(probed(made, family).probes[0], positions=60)
    run = dataclasses.replace(probed(made, family), probes=(everywhere,))
    ((run_id, record),) = trained(made, [run], tmp_path).items()
    cut = _probes.cut(everywhere, run.length, made.prepared)
    found = kept(record, tmp_path)
    assert found.digests == {"held": cut.digest}
    assert found.fractions("held") == AT
    at_end = found.log_probabilities("held", 1.0)
    assert at_end.shape == (60, 257)
    np.testing.assert_allclose(np.exp(at_end).sum(1), 1.0, atol=2e-3)
    nats = -at_end[np.arange(60), cut.target]
    mean = (nats * cut.weight).mean()
    error = (nats * cut.weight).std() / 60**0.5
    assert abs(mean - record.reading("made").value) < 4 * error
    assert run_id == record.run_id


def test_predictions_on_the_way_are_those_of_a_run_that_ends_there(made, tmp_path):
    """With a rate that does not decay, half of a run is a run of half the length."""
    steady = dataclasses.replace(made.run().schedule, decay_fraction=0.0)
    run = probed(made, schedule=steady)
    half = Data(run.data.corpus, run.data.tokens // 2)
    short = dataclasses.replace(run, data=half)
    records = trained(made, [run, short], tmp_path)
    long, half = (kept(records[i], tmp_path) for i in made.ids(run, short))
    for later, earlier in ((0.5, 1.0), (0.25, 0.5)):
        np.testing.assert_array_equal(
            half.log_probabilities("held", earlier),
            long.log_probabilities("held", later),
        )
    ends = [k.log_probabilities("held", 1.0) for k in (long, half)]
    assert (ends[0] != ends[1]).any()


def test_packed_predictions_are_those_of_runs_alone(made, tmp_path):
    runs = [probed(made), probed(made, optimiser=Optimiser(1e-2), init_seed=4)]
    packed = trained(made, runs, tmp_path / "packed")
    alone = trained(made, runs[:1], tmp_path / "0")
    alone |= trained(made, runs[1:], tmp_path / "1")
    assert same(alone) == same(packed)


def early(made, **changes):
    """A run that reads two steps' text so often that it gets worse on its way."""
    probes = Probes("held", (made.part,), 40, (0.5, 1.0), per_document=4, best=True)
    data = Data((made.part,), tokens=120 * 256, unique_tokens=2 * 256)
    rate = Optimiser(1e-2, weight_decay=0.0)
    given = {"data": data, "optimiser": rate, "evaluations": 8, **changes}
    return made.run("transformer", probes=(probes,), **given)


def test_the_best_scoring_keeps_what_it_predicts(made, tmp_path):
    """Those of a run that ends there, with its step, and no later ones."""
    steady = dataclasses.replace(made.run().schedule, decay_fraction=0.0)
    run = early(made, schedule=steady)
    (record,) = trained(made, [run], tmp_path).values()
    best = record.reading("made", "best")
    assert best.step < run.steps
    assert best.value < record.reading("made").value - 0.01
    found = kept(record, tmp_path)
    assert found.best_step("held") == best.step
    assert found.fractions("held") == (0.5, 1.0)
    ends = dataclasses.replace(run.data, tokens=best.step * 256)
    short = dataclasses.replace(run, data=ends, evaluations=1)
    (ended,) = trained(made, [short], tmp_path).values()
    at_end = kept(ended, tmp_path).log_probabilities("held", 1.0)
    np.testing.assert_array_equal(found.log_probabilities("held", "best"), at_end)
    own = kept(ended, tmp_path)
    np.testing.assert_array_equal(own.log_probabilities("held", "best"), at_end)


def test_the_best_scoring_is_the_same_in_a_pack_and_resumed(made, tmp_path):
    runs = [early(made), early(made, init_seed=4)]
    packed = trained(made, runs, tmp_path / "packed")
    alone = trained(made, runs[:1], tmp_path / "0")
    calls = iter(range(100))
    cut, kept_on = tmp_path / "1", {}
    assert trained(made, runs[1:], cut, stopping=lambda: next(calls) == 6) == {}
    best = packed[made.ids(runs[1])[0]].reading("made", "best").step
    assert best <= Store(cut).checkpoint_step(*made.ids(runs[1])) < runs[1].steps
    kept_on = trained(made, runs[1:], cut)
    assert same(alone | kept_on) == same(packed)


@pytest.mark.slow
def test_on_eight_devices_predictions_are_those_on_one(made, tmp_path):
    (one,) = trained(made, [probed(made)], tmp_path / "one").values()
    wide = Layout(data=8)
    (eight,) = trained(made, [probed(made)], tmp_path / "eight", wide).values()
    for fraction in AT:
        np.testing.assert_allclose(
            kept(eight, tmp_path / "eight").log_probabilities("held", fraction),
            kept(one, tmp_path / "one").log_probabilities("held", fraction),
            atol=8e-3,  # two steps of float16 at 4 to 8 nats
        )


def test_a_run_that_was_stopped_keeps_what_it_had_predicted(made, tmp_path):
    run = probed(made, evaluations=2)
    whole = trained(made, [run], tmp_path / "whole")
    calls = iter(range(100))
    cut = tmp_path / "cut"
    assert trained(made, [run], cut, stopping=lambda: next(calls) == 2) == {}
    assert Store(cut).checkpoint_step(*made.ids(run)) >= run.steps // 2
    resumed = trained(made, [run], cut)
    assert same(resumed) == same(whole)  # the artifacts' digests among it


def test_runs_that_share_a_trunk_keep_their_own_predictions(made, tmp_path):
    for at in ((1.0,), AT):
        runs = [
            dataclasses.replace(run, data=Data(run.data.corpus, steps * 256))
            for run, steps in zip([probed(made, at=at)] * 3, (30, 11, 17), strict=True)
        ]
        folder = tmp_path / str(len(at))
        together = trained(made, runs, folder / "together")
        apart = {}
        for run in runs:
            workdir = folder / str(run.steps)
            apart |= trained(made, [run], workdir)
        assert same(together) == same(apart)


def test_counts_predict_as_they_score(made, tmp_path):
    # Positions depend on where the text lies: enough of them that this does not decide.
    many = {"positions": 120, "per_document": 9, "best": True}
    probes = (dataclasses.replace(probed(made).probes[0], **many),)
    run = dataclasses.replace(probed(made, "ngram"), probes=probes)
    (record,) = trained(made, [run], tmp_path).values()
    cut = _probes.cut(run.probes[0], run.length, made.prepared)
    found = kept(record, tmp_path)
    losses = []
    for fraction in AT:
        logs = found.log_probabilities("held", fraction)
        np.testing.assert_allclose(np.exp(logs).sum(1), 1.0, atol=2e-3)
        losses.append(-(logs[np.arange(120), cut.target] * cut.weight).mean())
    assert losses[0] > losses[2]
    np.testing.assert_array_equal(found.log_probabilities("held", "best"), logs)
    assert found.best_step("held") == run.steps


def test_a_run_that_diverges_keeps_none(made, tmp_path):
    run = probed(made, optimiser=Optimiser(1e30))
    (record,) = trained(made, [run], tmp_path).values()
    assert record.status == "diverged"
    assert [a.name for a in record.artifacts] == ["loss_curve"]


def test_a_run_without_probes_has_no_such_file(made, tmp_path):
    (record,) = trained(made, [made.run()], tmp_path).values()
    assert [a.name for a in record.artifacts] == ["loss_curve", "nats"]
