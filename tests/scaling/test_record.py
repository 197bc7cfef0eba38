"""The store: written once, whole or not at all, nothing lost in silence."""

import dataclasses
import json
import os

import pytest

from scaling import record as records
from scaling.address import absolute
from scaling.errors import UserError
from scaling.record import Attempt, Reading, Record, substance
from scaling.store import Store

READINGS = tuple(
    Reading("kjv", "loss", kind, 2.0, 0.1, "nats/token", 65_536, 160)
    for kind in ("final", "best")
)


def make_record(run_id="a" * 16, **changes):
    record = Record(
        run_id=run_id,
        status="done",
        run={"model.family": "lstm"},
        digests={"kjv": "1611"},
        trajectory=run_id,
        params_total=18_556,
        params_active=18_556,
        params_embedding=10_280,
        steps=160,
        tokens=81_920,
        unique_tokens=81_920,
        epochs=1.0,
        flops=1e9,
        flops_xla=None,
        flops_xla_reason="a loop",
        readings=READINGS,
        artifacts=(),
        attempt=1,
        layout={"run": 2},
        wall_seconds=3.5,
        finished="2026-11-23T13:00:00+00:00",
        host="here",
        device="cpu",
        versions={"jax": "0.12"},
        commit="abc",
    )
    return dataclasses.replace(record, **changes)


def make_attempt(number, **changes):
    attempt = Attempt("a" * 16, number, "crash", "signal 9", "log", "cpu", "now")
    return dataclasses.replace(attempt, **changes)


def test_a_record_is_read_as_it_was_written(tmp_path):
    store, record = Store(tmp_path), make_record()
    assert not store.exists(record.run_id)
    assert store.write(record)
    assert store.exists(record.run_id) and store.read(record.run_id) == record
    assert record.reading("kjv").kind == "final"
    with pytest.raises(KeyError, match="code"):
        record.reading("code")


def test_a_record_older_than_a_field_is_read_with_its_default():
    body = make_record(damage=0.25).to_json()
    assert Record.from_json(body).damage == 0.25
    del body["damage"]
    assert Record.from_json(body) == make_record()
    with pytest.raises(ValueError, match=r"fields differ: .*dammage"):
        Record.from_json(body | {"dammage": 0.0})
    del body["steps"]
    with pytest.raises(ValueError, match=r"fields differ: .*steps"):
        Record.from_json(body)


def test_a_record_is_written_once(tmp_path):
    store, first = Store(tmp_path), make_record()
    assert store.write(first)
    assert not store.write(make_record(status="diverged"))
    assert store.records() == ([first], {})
    assert [path.name for path in (tmp_path / "records").iterdir()] == [
        f"{first.run_id}.json"
    ]


def test_a_write_that_is_cut_short_leaves_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def cut(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="No space"):
        store.write(make_record())
    with pytest.raises(OSError, match="No space"):
        store.write_study("s", {"runs": []})
    assert store.records() == ([], {}) and store.studies() == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is empty"),
        ('{"run_id": "a"', "is no JSON"),
        ("[]", "holds a JSON list"),
        ('{"schema": 0}', "schema 0"),
        ('{"schema": 1, "run_id": "a"}', "fields differ"),
    ],
)
def test_a_corrupt_record_is_named_and_set_aside(tmp_path, text, wrong):
    store, good = Store(tmp_path), make_record()
    store.write(good)
    path = tmp_path / "records" / "b.json"
    for again in range(2):
        path.write_text(text)
        found, corrupt = store.records()
        assert found == [good] and list(corrupt) == [str(path)]
        assert wrong in corrupt[str(path)]
        moved = store.set_aside(str(path))
        assert moved.name == f"b.{again}.json" and moved.read_text() == text
        assert not store.exists("b") and store.records() == ([good], {})


def test_substance_leaves_out_the_circumstances_alone():
    record = make_record()
    again = make_record(
        attempt=2, wall_seconds=9.0, finished="later", host="there", device="gpu"
    )
    assert substance(again) == substance(record)
    assert substance(make_record(layout={"run": 1})) != substance(record)
    assert set(record.to_json()) - set(substance(record)) == set(records.CIRCUMSTANCE)


def test_attempts_come_in_order(tmp_path):
    store = Store(tmp_path)
    for number in (10, 9, 1, 2):
        store.add_attempt(make_attempt(number))
    store.add_attempt(make_attempt(1, run_id="b" * 16, cause="out of memory"))
    assert [attempt.number for attempt in store.attempts("a" * 16)] == [1, 2, 9, 10]
    assert [attempt.run_id[0] for attempt in store.attempts()] == list("aaaab")
    assert list(store.attempts("c" * 16)) == []


def test_artifacts_carry_their_hash(tmp_path):
    store = Store(tmp_path)
    artifact = store.write_artifact("a", "curve.npz", b"loss")
    assert (tmp_path / artifact.path).read_bytes() == b"loss"
    assert artifact.name == "curve" and len(artifact.sha256) == 64
    assert store.write_artifact("a", "curve.npz", b"loss") == artifact


def test_two_attempts_that_end_together_leave_one_record_with_its_own_files(tmp_path):
    """A machine that was given up finishes beside the one that took over."""
    stores = [Store(tmp_path), Store(tmp_path)]
    files = [
        s.write_artifact("a" * 16, "curve.npz", bytes([i]))
        for i, s in enumerate(stores)
    ]
    wrote = [
        s.write(make_record(artifacts=(file,), attempt=i))
        for i, (s, file) in enumerate(zip(stores, files, strict=True))
    ]
    assert wrote == [True, False]
    record = stores[1].read("a" * 16)
    assert record.attempt == 0 and stores[1].artifact(record, "curve", 99) == b"\0"


def test_attempts_of_two_machines_do_not_replace_each_other(tmp_path):
    store = Store(tmp_path)
    for cause in ("crash", "lost"):
        store.add_attempt(make_attempt(1, cause=cause))
    kept = [(attempt.number, attempt.cause) for attempt in store.attempts()]
    assert kept == [(1, "crash"), (2, "lost")]


def test_a_study_keeps_its_runs(tmp_path):
    store = Store(tmp_path)
    store.write_study("one", {"runs": ["a"]})
    store.write_study("one", {"runs": ["a", "b"]})
    assert store.studies() == {"one": {"runs": ["a", "b"]}}


def test_a_workdir_has_one_absolute_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute("runs/x/") == str(tmp_path / "runs" / "x")
    assert absolute(tmp_path / "a" / ".." / "b") == str(tmp_path / "b")
    assert absolute("~/runs") == "/home/me/runs"
    assert absolute("./~") == str(tmp_path / "~")
    assert absolute("gs://bucket/runs") == "gs://bucket/runs"
    with pytest.raises(UserError, match="no such user"):
        absolute("~nobody-of-that-name/runs")
    store = Store("runs/x")
    monkeypatch.chdir("/")
    assert str(store.root) == str(tmp_path / "runs" / "x")


def test_a_path_with_signs_of_a_pattern_is_a_path(tmp_path):
    store = Store(tmp_path / "a [b] * ? ü")
    store.write_study("s", {"runs": []})
    store.add_attempt(Attempt("r", 1, "crash", "", "", "", ""))
    store.path("checkpoints", "r", "8").mkdir(parents=True)
    assert list(store.studies()) == ["s"] and store.checkpoint_step("r") == 8
    assert [a.number for a in store.attempts()] == [1]
    assert [a.number for a in store.attempts("r")] == [1]
    assert list(store.attempts("other")) == []


def test_a_record_of_a_newer_version_stays_where_it_is(tmp_path):
    store = Store(tmp_path)
    store.write(make_record("a" * 16))
    store.write(make_record("b" * 16))
    path = tmp_path / "records" / f"{'b' * 16}.json"
    body = json.loads(path.read_text()) | {"schema": 2, "hue": "red"}
    path.write_text(json.dumps(body))
    records, corrupt = store.records()
    assert [record.run_id for record in records] == ["a" * 16] and not corrupt
    assert store.newer == {str(path): "b" * 16}
    (line,) = store.complaints()
    assert line.startswith(f"{path} was written by a newer version (schema 2;")
    assert json.loads(path.read_text()) == body
