"""Records of several texts under one name: one is taken, the rest is told."""

from __future__ import annotations

import json

import pytest

from analysis.tables import load as tables
from scaling import pooling
from scaling.errors import UserError
from scaling.record import Reading, Record
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run, options
from scaling.scheduling import plan_tables
from scaling.store import Store

MINE = Part("files", options=options(path="t"))
OLD, NEW, KJV = "0" * 64, "1" * 64, "2" * 64


def record(run_id, finished=1, corpus=(MINE,), sets=None, digests=None, **more):
    """A record trained on `corpus` and scored on `sets`, by default on the same."""
    sets = sets or (EvaluationSet("own", (MINE,), 4096),)
    run = Run(
        model=Model("lstm", 8_000),
        data=Data(corpus, 6400, **more),
        optimiser=Optimiser(1e-3),
        batch=4,
        length=16,
        evaluation=sets,
    )
    loss = 2.0 + 0.01 * int(run_id[1:])
    return Record(
        run_id=run_id,
        status="done",
        run=json.loads(json.dumps(run.flat())),
        digests={MINE.key: OLD} if digests is None else digests,
        trajectory=run_id,
        params_total=10_000,
        params_active=10_000,
        params_embedding=2_000,
        steps=run.steps,
        tokens=run.tokens,
        unique_tokens=run.unique_tokens,
        epochs=1.0,
        flops=1e9,
        flops_xla=None,
        flops_xla_reason="scan",
        readings=tuple(
            Reading(s.name, "loss", "final", loss, 0.01, "nats/token", 100, 100)
            for s in sets
        ),
        artifacts=(),
        attempt=1,
        layout={},
        wall_seconds=1.0,
        finished=f"2026-01-01T00:00:{finished:02}+00:00",
        host="",
        device="",
        versions={},
        commit="",
    )


def new(run_id, finished=2, **more):
    return record(run_id, finished, digests={MINE.key: NEW}, **more)


def left_out(pool):
    return {(a.run_id, a.target) for a in pool.apart}


def put(folder, records, **studies):
    """A workdir of records; studies are lists of ids, or more that they say."""
    store = Store(folder)
    for one in records:
        store.write(one)
    for name, body in studies.items():
        body = body if isinstance(body, dict) else {"runs": body}
        store.write_study(name, {"planned": {}, "provisional": 0} | body)
    return store


def test_one_text_of_a_name_is_pooled_whole():
    records = [record("r1"), record("r2", 5), record("r3", tokenizer="bytes")]
    assert pooling.choose(records) == pooling.Pool((), ())


def test_the_text_of_the_newest_run_is_taken():
    records = [record("r1", 1), record("r2", 3), new("r3", 2), new("r4", 4)]
    assert left_out(pooling.choose(records)) == {("r1", ""), ("r2", "")}
    records[3] = new("r4", 0)
    assert left_out(pooling.choose(records)) == {("r3", ""), ("r4", "")}


def test_runs_that_a_study_names_today_come_before_newer_ones():
    """The older file is put back: its records are there already and stay as old."""
    records = [record("r1", 1), new("r2", 2)]
    assert left_out(pooling.choose(records, {"r1"})) == {("r2", "")}
    assert left_out(pooling.choose(records, {"r1", "r2"})) == {("r1", "")}


def test_another_text_is_asked_for_by_its_digest():
    records = [record("r1"), new("r2")]
    assert left_out(pooling.choose(records, text="00")) == {("r2", "")}
    assert left_out(pooling.choose(records, text=NEW)) == {("r1", "")}
    with pytest.raises(UserError, match="one of 11111111, 00000000"):
        pooling.choose(records, text="7")
    with pytest.raises(UserError, match="no name has two texts"):
        pooling.choose(records[:1], text="0")


def test_a_changed_evaluation_set_leaves_out_its_readings_alone():
    code = (Part("code"),)
    own, kjv = EvaluationSet("own", (MINE,), 4096), EvaluationSet("kjv", (Part("kjv"),))
    both = {"code": KJV, "kjv": KJV}
    records = [
        record("r1", 1, code, (own, kjv), both | {MINE.key: OLD}),
        record("r2", 2, code, (own, kjv), both | {MINE.key: NEW}),
    ]
    pool = pooling.choose(records)
    assert left_out(pool) == {("r1", "own")}
    assert pool.apart[0].reason.startswith("scored on another text of the same name: ")


def test_a_set_that_is_cut_anew_is_another_set():
    longer = (EvaluationSet("own", (MINE,), 8192),)
    mixed = (EvaluationSet("own", (MINE, Part("kjv", 0.5)), 4096),)
    digests = {MINE.key: OLD, "kjv": KJV}
    for changed in (longer, mixed):
        records = [record("r1"), record("r2", 2, sets=changed, digests=digests)]
        assert left_out(pooling.choose(records)) == {("r1", "own")}
    twice = (EvaluationSet("own", (Part("files", 2.0, MINE.options),), 4096),)
    assert not left_out(pooling.choose([record("r1"), record("r2", 2, sets=twice)]))


def test_one_part_of_a_mixture_changed():
    mixture = (MINE, Part("kjv", 1.0))
    kjv = {"corpus": (Part("kjv"),), "sets": (EvaluationSet("k", (Part("kjv"),)),)}
    records = [
        record("r1", 1, mixture, digests={MINE.key: OLD, "kjv": KJV}),
        record("r2", 2, mixture, digests={MINE.key: NEW, "kjv": KJV}),
        record("r3", 1, digests={"kjv": KJV}, **kjv),
    ]
    assert left_out(pooling.choose(records)) == {("r1", "")}


def test_another_tokenizer_is_another_text():
    records = [record("r1"), new("r2", tokenizer="sentencepiece:300")]
    (apart,) = pooling.choose(records, text=OLD).apart
    assert "(sentencepiece:300)" in apart.reason


def test_a_workdir_gives_the_runs_of_one_text(tmp_path):
    put(tmp_path, [record("r1"), record("r2"), new("r3")], mine=["r3"])
    table = tables.load(tmp_path)
    assert list(table.readings.run_id) == ["r3"] and len(table.runs) == 3
    assert set(table.exclusions.run_id) == {"r1", "r2"}
    (warning,) = table.warnings
    assert warning == (
        "files[path=t] names several texts: scaling-analysis takes 11111111 and leaves "
        "out 2 records of 00000000 (--text 00000000 takes that instead)"
    )
    old = tables.load(tmp_path, text="0")
    assert list(old.readings.run_id) == ["r1", "r2"]
    assert tables.load(tmp_path, study="mine").warnings == ()
    assert warning in plan_tables.status(str(tmp_path))


def test_a_name_whose_text_a_table_lacks(tmp_path):
    (tmp_path / "a.csv").write_text("N,D,loss\n1e6,1e8,3\n")
    with pytest.raises(UserError, match="only a workdir knows that"):
        tables.load(tmp_path / "a.csv", text="0")


def test_two_workdirs_copied_together(tmp_path):
    """Two folders of one name, in a study each: the newer one is taken."""
    put(tmp_path, [record("r1"), new("r2")], one=["r1"], two=["r2"])
    assert list(tables.load(tmp_path).readings.run_id) == ["r2"]
    assert list(tables.load(tmp_path, study="one").readings.run_id) == ["r1"]


def test_the_truth_is_that_of_the_set_which_is_taken(tmp_path):
    """Two studies call different made texts by one name."""
    parts = [Part("markov", options=options(order=n)) for n in (1, 2)]
    records = [
        record(f"r{n}", n, (p,), (EvaluationSet("made", (p,)),), {p.key: str(n) * 64})
        for n, p in enumerate(parts)
    ]
    truth = {"evaluation": "made", "length": 16, "se": 0.1, "entropy": 1.0}
    truth |= {"entropy_se": 0.0, "count": 100}
    studies = {
        f"s{n}": {"runs": [f"r{n}"], "truth": [truth | {"loss": float(n)}]}
        for n in range(2)
    }
    put(tmp_path, records, **studies)
    table = tables.load(tmp_path)
    assert list(table.readings.run_id) == ["r1"]
    assert list(table.truth.truth) == [1.0]
    assert table.parts == {"made": {"markov[order=2]:65536": 1.0}}
