"""What must be true of training: bits, resume, layouts, packs, compilation."""

from __future__ import annotations

import dataclasses
import queue
import shutil
import threading

import jax
import numpy as np
import pytest

from scaling import families
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.record import substance
from scaling.run import Model, Optimiser
from scaling.store import Store
from scaling.training import programs, trainer
from tests.conftest import every_family

ALONE = Layout()


def rate(run, learning_rate):
    return dataclasses.replace(run, optimiser=Optimiser(learning_rate))


def trained(made, runs, workdir, layout=ALONE, stopping=lambda: False, events=None):
    """Records of `runs` after training them as one pack."""
    store = Store(workdir)
    events = [] if events is None else events
    ids = made.ids(*runs)
    pack = Pack(tuple(runs), ids, layout)
    trainer.train(pack, made.prepared, store, events.append, stopping)
    return [store.read(i) for i in ids if store.exists(i)]


def curve(record, workdir):
    found = next(a for a in record.artifacts if a.name == "loss_curve")
    return np.load(Store(workdir).path(found.path))["loss"]


def test_golden_loss(made, tmp_path):
    (record,) = trained(made, [made.run()], tmp_path)
    losses = curve(record, tmp_path)
    assert len(losses) == 24
    found = losses[0], losses[-1], record.reading("made").value
    assert found == pytest.approx(GOLDEN, rel=1e-4)


@every_family("transformer", "lstm")
def test_resumed_run_ends_in_the_same_bits(made, tmp_path, family):
    run = made.run(family, evaluations=2)
    (whole,) = trained(made, [run], tmp_path / "whole")
    calls = iter([False, True])
    cut = tmp_path / "cut"
    assert trained(made, [run], cut, stopping=lambda: next(calls)) == []
    (run_id,) = made.ids(run)
    assert Store(cut).checkpoint_step(run_id) == run.steps // 2
    (resumed,) = trained(made, [run], cut)
    assert substance(resumed) == substance(whole)
    assert Store(cut).checkpoint_step(run_id) == 0


def test_a_corrupt_checkpoint_gives_way_to_the_one_before(made, tmp_path):
    run = made.run()
    (whole,) = trained(made, [run], tmp_path / "whole")
    cut = tmp_path / "cut"
    (run_id,) = made.ids(run)
    for _ in range(2):
        trained(made, [run], cut, stopping=lambda: True)
    folder = cut / "checkpoints" / run_id
    assert sorted(p.name for p in folder.iterdir() if p.name.isdigit()) == ["16", "8"]
    for path in (folder / "16").rglob("*"):
        if path.is_file() and path.stat().st_size > 200:
            path.write_bytes(b"not a checkpoint")
    events = []
    (resumed,) = trained(made, [run], cut, events=events)
    said, started = events[:2]
    assert said.kind == "note" and "checkpoint 16 of run" in said.message
    assert said.message.endswith("the run goes on from step 8")
    assert (started.kind, started.step) == ("started", 8)
    assert substance(resumed) == substance(whole)


def test_no_readable_checkpoint_starts_afresh(made, tmp_path):
    run = made.run()
    (whole,) = trained(made, [run], tmp_path / "whole")
    cut = tmp_path / "cut"
    trained(made, [run], cut, stopping=lambda: True)
    (run_id,) = made.ids(run)
    shutil.rmtree(cut / "checkpoints" / run_id / "8" / "state")
    (resumed,) = trained(made, [run], cut)
    assert substance(resumed) == substance(whole)


LAYOUTS = {
    "data-parallel": Layout(data=8, replicate=True),
    "fully sharded": Layout(data=8),
    "tensor-parallel, fully sharded": Layout(data=2, model=4),
    "accumulated, scanned": Layout(
        data=4, accumulate=2, scan_layers=True, remat="full"
    ),
}


@every_family("transformer")
def test_layouts_agree(made, tmp_path, family):
    run = made.run(family)
    (alone,) = trained(made, [run], tmp_path / "alone")
    for name, layout in LAYOUTS.items():
        (spread,) = trained(made, [run], tmp_path / name, layout)
        np.testing.assert_allclose(
            curve(spread, tmp_path / name)[:20],
            curve(alone, tmp_path / "alone")[:20],
            rtol=1e-5,
            err_msg=name,
        )


def test_parameters_are_really_sharded(made):
    run = made.run(model=Model("transformer", 30_000, options=(("queries_per_kv", 1),)))
    made_for = programs.compiled(
        run.program(), Layout(data=4, model=2), families.Tokens(257, run.length)
    )
    kinds = jax.tree.leaves(families.groups(made_for.one.model))
    shardings = jax.tree.leaves(made_for.one_shardings.model)
    abstract = jax.tree.leaves(made_for.one.model)
    for leaf, sharding, kind in zip(abstract, shardings, kinds, strict=True):
        if kind == "matrix":
            shard = sharding.shard_shape(leaf.shape)
            assert np.prod(shard) * 8 == leaf.size, (leaf.shape, sharding.spec)


PACKED = Layout(run=2, width=2)


def test_a_run_does_not_see_the_other_slots(made, tmp_path):
    run = made.run()
    packs = {
        "empty": [run],
        "other rate": [run, rate(run, 1e-3)],
        "other seed, second slot": [made.run(init_seed=7), run],
        "diverged": [run, rate(run, 1e30)],
    }
    found = {}
    for name, runs in packs.items():
        records = trained(made, runs, tmp_path / name, PACKED)
        found[name] = substance(records[runs.index(run)])
    for name, body in found.items():
        assert body == found["empty"], name


@every_family("transformer", "convolution")
def test_packed_agrees_with_alone(made, tmp_path, family):
    runs = [rate(made.run(family), r) for r in (1e-3, 3e-3)]
    alone = trained(made, runs, tmp_path / "alone")
    packed = trained(made, runs, tmp_path / "packed", PACKED)
    for a, b in zip(alone, packed, strict=True):
        np.testing.assert_allclose(
            curve(b, tmp_path / "packed"), curve(a, tmp_path / "alone"), rtol=1e-4
        )


def test_slots_are_filled_again_as_runs_end(made, tmp_path):
    runs = [
        dataclasses.replace(
            made.run(), data=dataclasses.replace(made.run().data, tokens=256 * steps)
        )
        for steps in (5, 40, 11, 3)
    ]
    alone = [
        trained(made, [run], tmp_path / str(i), PACKED)[0] for i, run in enumerate(runs)
    ]
    together = trained(made, runs, tmp_path / "together", PACKED)
    assert [substance(r) for r in together] == [substance(r) for r in alone]


def forget():
    programs.compiled.cache_clear()
    programs._ready.cache_clear()


def test_a_run_pauses_at_its_own_step_within_a_call(made, tmp_path, monkeypatch):
    data = dataclasses.replace(made.run().data, tokens=256 * 10)
    run = made.run(data=data, evaluations=2)  # scored after steps 5 and 10
    (by_eight,) = trained(made, [run], tmp_path / "by eight")
    monkeypatch.setattr(programs, "STEPS_PER_CALL", 1)
    forget()
    (by_one,) = trained(made, [run], tmp_path / "by one")
    forget()
    np.testing.assert_allclose(
        by_eight.reading("made").value, by_one.reading("made").value, rtol=1e-5
    )


def test_five_rates_compile_once(made, tmp_path):
    made_new = []

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            made_new.append(event)

    base = made.run(size=10_000)  # that no other test compiles
    runs = [rate(base, r) for r in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)]
    before = programs.compiled.cache_info().misses
    trained(made, runs[:1], tmp_path)
    jax.monitoring.register_event_duration_secs_listener(listen)
    trained(made, runs, tmp_path)
    assert not made_new
    assert programs.compiled.cache_info().misses == before + 1


def test_the_next_program_compiles_in_a_thread(made, tmp_path, monkeypatch):
    now, following = made.run(), made.run(size=20_000)
    asked = queue.SimpleQueue()
    ready = programs.ready

    def listen(program, *rest):
        asked.put((program, threading.current_thread() is threading.main_thread()))
        return ready(program, *rest) if program == now.program() else None

    monkeypatch.setattr(programs, "ready", listen)
    pack = Pack((now,), made.ids(now), ALONE, ahead=(following, ALONE))
    trainer.train(pack, made.prepared, Store(tmp_path), lambda event: None)
    assert asked.get(timeout=60) == (now.program(), True)
    assert asked.get(timeout=60) == (following.program(), False)


def test_what_was_compiled_ahead_outlives_the_memory_given_back(
    made, tmp_path, monkeypatch
):
    now, following = made.run(), made.run(size=18_000)
    made_ready, again = queue.SimpleQueue(), []
    ready = programs.ready

    def tell(program, *rest):
        found = ready(program, *rest)
        made_ready.put(program)
        return found

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            again.append(event)

    monkeypatch.setattr(programs, "ready", tell)
    pack = Pack((now,), made.ids(now), ALONE, ahead=(following, ALONE))
    trainer.train(pack, made.prepared, Store(tmp_path), lambda event: None)
    while made_ready.get(timeout=60) != following.program():
        pass
    programs.give_back()
    jax.monitoring.register_event_duration_secs_listener(listen)
    trained(made, [following], tmp_path)
    assert not again


def test_analytic_flops_agree_with_the_compiled_program(made, tmp_path):
    for name, layout in {"alone": ALONE, "packed": PACKED}.items():
        (record,) = trained(made, [made.run()], tmp_path / name, layout)
        assert record.flops_xla == pytest.approx(record.flops, rel=0.05), name


def test_divergence_is_a_record(made, tmp_path):
    (record,) = trained(made, [rate(made.run(), 1e30)], tmp_path)
    assert record.status == "diverged"
    assert record.reading("made").value is None
    assert not np.isfinite(curve(record, tmp_path)[-1])


def test_budgets_and_epochs_in_the_record(made, tmp_path):
    base = made.run(evaluations=3)
    run = dataclasses.replace(
        base, data=dataclasses.replace(base.data, tokens=6_100, unique_tokens=1_500)
    )
    (record,) = trained(made, [run], tmp_path)
    assert (record.tokens, record.unique_tokens, record.epochs) == (6_144, 1_536, 4.0)
    best, final = record.reading("made", "best"), record.reading("made")
    assert best.value <= final.value
    assert best.step in (8, 16, 24)
    assert record.reading("made", quantity="bits_per_byte").value == pytest.approx(
        final.value / np.log(2), rel=0.02
    )


def test_standard_error_matches_a_document_bootstrap(made, tmp_path):
    (record,) = trained(made, [made.run()], tmp_path)
    found = next(a for a in record.artifacts if a.name == "nats")
    arrays = np.load(tmp_path / found.path)
    nats, tokens = (
        next(arrays[k] for k in arrays if k.endswith(end)) for end in ("nats", "tokens")
    )
    draws = np.random.default_rng(0).integers(len(nats), size=(4_000, len(nats)))
    bootstrap = np.std(nats[draws].sum(1) / tokens[draws].sum(1))
    assert record.reading("made").se == pytest.approx(bootstrap, rel=0.15)


GOLDEN = (5.544186, 2.383011, 2.396071)
