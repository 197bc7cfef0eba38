"""Probe sets and predictions survive the round trip, and damage is said."""

import dataclasses

import numpy as np
import pytest

from scaling import probe_file
from scaling.intact import Unreadable
from scaling.store import Store


def made(positions=6, length=8, vocab=257, **changes):
    draw = np.random.default_rng(0)
    probes = probe_file.ProbeSet(
        tokens=draw.integers(0, vocab, (positions, length)),
        at=draw.integers(0, length, positions),
        document=np.arange(positions) + np.uint64(1 << 63),
        offset=8 * np.arange(positions),
        weight=np.ones(positions),
        unigram=np.full(vocab, 1 / vocab),
        bytes_per_token=0.99,
        classes={"kind": (draw.integers(-1, 2, positions), ("letter", "digit"))},
        facts={"name": "made", "vocab": vocab, "length": length},
    )
    return dataclasses.replace(probes, **changes)


def test_a_probe_set_survives_the_round_trip(tmp_path):
    store, probes = Store(tmp_path), made()
    digest = probe_file.write(store, probes)
    back = probe_file.read(store, digest)
    assert back.digest == digest == made().digest
    assert back.to_bytes() == probes.to_bytes()
    assert back.facts == probes.facts and back.name == "made"
    assert back.classes["kind"][1] == ("letter", "digit")
    np.testing.assert_array_equal(back.classes["kind"][0], probes.classes["kind"][0])
    np.testing.assert_array_equal(back.target, probes.tokens[range(6), probes.at])
    assert back.document.dtype == np.uint64
    assert probe_file.digests(store) == [digest]


def test_the_digest_tells_every_change():
    facts = dict(made().facts, name="other")
    others = [made(weight=np.full(6, 2.0)), made(facts=facts), made(classes={})]
    assert len({probes.digest for probes in (made(), *others)}) == 4


def test_a_changed_or_cut_file_is_not_read(tmp_path):
    store = Store(tmp_path)
    digest = probe_file.write(store, made())
    path = store.path("probes", f"{digest}.npz")
    path.write_bytes(made(bytes_per_token=0.5).to_bytes())
    with pytest.raises(Unreadable, match="its digest differs"):
        probe_file.read(store, digest)
    for damaged in (path.read_bytes()[:-40], b"no file", b""):
        path.write_bytes(damaged)
        with pytest.raises(Unreadable):
            probe_file.read(store, digest)
    path.write_bytes(made(at=np.full(6, 8)).to_bytes())
    with pytest.raises(Unreadable, match="outside of its windows"):
        probe_file.read(store, digest)
    with pytest.raises(FileNotFoundError):
        probe_file.read(store, "0" * 16)


def test_truth_is_there_or_not(tmp_path):
    store = Store(tmp_path)
    assert probe_file.read_truth(store, "a") is None
    logs = np.array([[-1.5, -0.25], [-np.inf, 0.0]], np.float32)
    probe_file.write_truth(store, "a", logs)
    np.testing.assert_array_equal(probe_file.read_truth(store, "a"), logs)
    assert probe_file.digests(store) == []
    store.path("probes", "a.truth.npz").write_bytes(b"")
    with pytest.raises(Unreadable):
        probe_file.read_truth(store, "a")


def test_predictions_survive_the_round_trip():
    draw = np.random.default_rng(1)
    kept = {
        probe_file.key("a b", f): draw.random((3, 5)).astype(np.float16)
        for f in (0.125, 1.0)
    }
    data = probe_file.predictions(kept, {"a b": "d1g"})
    assert data == probe_file.predictions(dict(reversed(kept.items())), {"a b": "d1g"})
    back = probe_file.Predictions(data)
    assert back.digests == {"a b": "d1g"} and back.fractions("a b") == (0.125, 1.0)
    np.testing.assert_array_equal(back.log_probabilities("a b", 1.0), kept["a b:1"])
    with pytest.raises(Unreadable, match=r"a b:0\.5"):
        back.log_probabilities("a b", 0.5)


@pytest.mark.parametrize("cut", (0, 10, 200, -30))
def test_predictions_that_are_cut_are_not_read(cut):
    data = probe_file.predictions({"a:1": np.zeros((30, 9), np.float16)}, {"a": "d"})
    with pytest.raises(Unreadable):
        probe_file.Predictions(data[:cut])
