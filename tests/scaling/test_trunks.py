"""What must be true of shared trunks: the same records, fewer steps."""

from __future__ import annotations

import dataclasses

import pytest

from scaling import trunks
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.record import substance
from scaling.run import Optimiser, Schedule
from scaling.store import Store
from scaling.training import checkpoint, trainer
from tests.conftest import every_family

WIDE = Layout(run=2, width=2)


def budget(run, steps, **changes):
    data = dataclasses.replace(run.data, tokens=steps * run.tokens_per_step)
    return dataclasses.replace(run, data=data, **changes)


def budgets(made, family="transformer", steps=(30, 5, 17, 11)):
    """Of one trunk; the shortest is not the first, and forks lie within calls."""
    return [budget(made.run(family), n) for n in steps]


def trained(made, runs, workdir, layout=WIDE, stopping=lambda: False):
    """Records by run_id, and the events, of one pack."""
    store, events = Store(workdir), []
    pack = Pack(tuple(runs), made.ids(*runs), layout)
    trainer.train(pack, made.prepared, store, events.append, stopping)
    return {i: store.read(i) for i in pack.run_ids if store.exists(i)}, events


def alone(made, runs, workdir, layout=WIDE):
    """Records by run_id of runs that share nothing."""
    found = {}
    for k, run in enumerate(runs):
        found |= trained(made, [run], workdir / f"alone-{k}", layout)[0]
    return found


def bodies(records):
    return {run_id: substance(record) for run_id, record in records.items()}


@every_family("transformer", "lstm")
def test_a_shared_trunk_gives_the_same_records(made, tmp_path, family):
    runs = budgets(made, family)
    together, events = trained(made, runs, tmp_path / "together")
    assert bodies(together) == bodies(alone(made, runs, tmp_path))
    begun = {e.run_id: e.step for e in events if e.kind == "started"}
    assert list(begun.values()) == [0, 4, 8, 13]  # 80% of 5, 11 and 17 steps
    assert begun[made.ids(runs[0])[0]] == 0


def test_only_the_steps_that_nobody_shares_are_made(made, tmp_path, monkeypatch):
    made_steps = []
    advance = trainer.Trainer._advance

    def counted(self):
        before = sum(slot.step for slot in self.slots if slot)
        advance(self)
        made_steps.append(sum(slot.step for slot in self.slots if slot) - before)

    monkeypatch.setattr(trainer.Trainer, "_advance", counted)
    runs = budgets(made)
    trained(made, runs, tmp_path)
    saved = sum(trunks.shared(runs).values())
    assert saved == 4 + 13 + 8
    assert sum(made_steps) == sum(run.steps for run in runs) - saved


@pytest.mark.parametrize("cut", (1, 3, 4))
def test_cut_short_anywhere_it_resumes_to_the_same_records(made, tmp_path, cut):
    runs = budgets(made)
    whole, _ = trained(made, runs, tmp_path / "whole")
    calls = iter(range(1, 100))
    stopping = lambda: next(calls) == cut
    workdir = tmp_path / "cut"
    first, _ = trained(made, runs, workdir, stopping=stopping)
    assert len(first) < len(runs)
    rest, events = trained(made, runs, workdir)
    assert bodies(rest) == bodies(whole)
    begun = [e.step for e in events if e.kind == "started"]
    assert max(begun) > 0  # not from the start


def test_a_trunk_that_went_on_without_its_branches_is_no_loss(made, tmp_path):
    runs = budgets(made)
    whole, _ = trained(made, runs, tmp_path / "whole")
    workdir, calls = tmp_path / "cut", iter(range(1, 100))
    trained(made, runs, workdir, stopping=lambda: next(calls) == 3)
    store = Store(workdir)
    (leader, *others) = made.ids(*runs)
    assert store.checkpoint_step(leader) > 0
    for run_id in others:
        checkpoint.delete(store, run_id)
    rest, _ = trained(made, runs, workdir)
    assert bodies(rest) == bodies(whole)


def test_a_trunk_that_diverges_takes_its_branches_along(made, tmp_path):
    wild = [dataclasses.replace(r, optimiser=Optimiser(1e30)) for r in budgets(made)]
    together, _ = trained(made, wild, tmp_path / "together")
    assert {record.status for record in together.values()} == {"diverged"}
    assert bodies(together) == bodies(alone(made, wild, tmp_path))


def test_what_differs_before_the_decay_shares_nothing(made):
    run = made.run()
    longer = budget(run, 40)
    others = {
        "rate": dataclasses.replace(run, optimiser=Optimiser(0.5)),
        "seed": dataclasses.replace(run, init_seed=9),
        "cosine": dataclasses.replace(run, schedule=Schedule("cosine")),
        "scored on its way": dataclasses.replace(run, evaluations=3),
        "all decay": dataclasses.replace(run, schedule=Schedule(decay_fraction=1.0)),
        "repeated": dataclasses.replace(
            run, data=dataclasses.replace(run.data, unique_tokens=1_024)
        ),
    }
    assert trunks.shared([run, longer]) == {run: trunks.fork(run), longer: 0}
    for name, other in others.items():
        assert not any(trunks.shared([other, longer]).values()), name
        assert trunks.followers(longer, 0, [(other, "other")]) == [], name
    assert trunks.followers(longer, trunks.fork(run), [(run, "late")]) == []


def test_runs_of_one_trunk_are_one_trajectory(made, tmp_path):
    runs = [*budgets(made), made.run(init_seed=3)]
    records = list(trained(made, runs, tmp_path)[0].values())
    found = [record.trajectory for record in records]
    assert len(set(found[:-1])) == 1 and found[-1] != found[0]
