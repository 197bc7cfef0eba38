"""Probe sets: chosen with known chances, classed by one rule, the same for all."""

import dataclasses
import types

import numpy as np
import pytest

from scaling import corpora
from scaling.corpora import _classes, _probes, _tokens
from scaling.corpora._tokens import DOCUMENT
from scaling.errors import UserError
from scaling.run import Part, Probes

BYTES = _classes.Pieces(_tokens.Bytes().pieces())
LENGTH = 32


def probes(made, positions=60, per_document=6, **changes):
    return Probes("p", (made.part,), positions, per_document=per_document, **changes)


def ids(text: str) -> np.ndarray:
    return np.array([256 if c == "|" else ord(c) for c in text], np.int32)


def test_positions_lie_in_windows_as_evaluation_cuts_them(made):
    found = _probes.cut(probes(made), LENGTH, made.prepared)
    windows = corpora.evaluation_windows(made.part, 6_000, LENGTH, made.prepared)
    scored = {row.tobytes() for row in windows.tokens}
    assert sum(row.tobytes() in scored for row in found.tokens) > 50
    assert found.tokens.shape == (60, LENGTH) and (found.offset % LENGTH == 0).all()
    rows = zip(found.document, found.offset, found.at, strict=True)
    places = {(d, o + a) for d, o, a in rows}
    assert len(places) == 60
    assert np.bincount(np.unique(found.document, return_inverse=True)[1]).max() <= 6
    before = found.tokens[np.arange(LENGTH) < found.at[:, None]]
    assert (before != 256).all()  # nothing follows a document's end


def test_a_set_is_the_same_whenever_it_is_cut(made):
    first = _probes.cut(probes(made), LENGTH, made.prepared)
    _probes._cut.cache_clear()
    again = _probes.cut(probes(made), LENGTH, made.prepared)
    assert again is not first and again.to_bytes() == first.to_bytes()
    renamed = dataclasses.replace(probes(made), name="q", at=(0.5, 1.0))
    other = _probes.cut(renamed, LENGTH, made.prepared)
    np.testing.assert_array_equal(other.at, first.at)


def test_text_that_was_moved_keeps_its_positions(made):
    there = made.prepared[made.part.key]
    part = Part("files", options=(("path", "/elsewhere"),))
    moved = dataclasses.replace(probes(made), parts=(part,))
    here = _probes.cut(probes(made), LENGTH, made.prepared)
    found = _probes.cut(moved, LENGTH, {part.key: there})
    np.testing.assert_array_equal(found.at, here.at)
    np.testing.assert_array_equal(found.document, here.document)


def test_weights_are_one_over_the_chance_of_being_chosen(made, monkeypatch):
    corpus = made.prepared[made.part.key]
    text = _probes._HeldOut(corpus, LENGTH, 6, BYTES)
    draw = np.random.default_rng(0)
    monkeypatch.setattr(
        _probes, "_uniforms", lambda p, hashes, d: draw.random(1 + len(d))
    )
    times, rounds = np.zeros(len(text.tokens)), 3_000
    chance = np.full(len(text.tokens), np.nan)
    for _ in range(rounds):
        place, weight = text.draw(probes(made))
        assert len(place) == 60 and len(set(text.stretch[place])) == 60
        times[place] += 1
        chance[place] = 1 / weight
    assert np.isfinite(chance).all()  # every token can be chosen
    assert chance.sum() == pytest.approx(60, rel=1e-9)
    error = (times / rounds - chance) / np.sqrt(chance * (1 - chance) / rounds)
    assert np.abs(error).max() < 5 and error.std() == pytest.approx(1, abs=0.05)


def test_rare_kinds_come_as_the_root_of_their_share(made):
    corpus = made.prepared[made.part.key]
    text = _probes._HeldOut(corpus, LENGTH, 6, BYTES)
    found = _probes.cut(probes(made), LENGTH, made.prepared)
    shares = np.bincount(text.kind, minlength=8) / len(text.kind)
    kept = np.bincount(found.classes["kind"][0], minlength=8) / 60
    np.testing.assert_allclose(kept, shares**0.5 / (shares**0.5).sum(), atol=0.12)
    weighted = np.bincount(found.classes["kind"][0], found.weight, 8) / 60
    np.testing.assert_allclose(weighted, shares, atol=0.12)


def test_documents_whose_chance_is_one_are_taken_for_certain():
    chance = _probes._chances(np.array([100.0, 1, 1, 1, 1]), 3)
    np.testing.assert_allclose(chance, [1, 0.5, 0.5, 0.5, 0.5])
    for uniform in (0.0, 0.3, 0.999999):
        chosen = _probes._systematic(chance, uniform)
        assert len(chosen) == 3 and chosen[0] == 0
    assert _probes._chances(np.ones(4), 4).tolist() == [1.0] * 4
    assert _probes._systematic(np.ones(4), 0.7).tolist() == [0, 1, 2, 3]


def test_more_positions_than_the_text_gives_are_refused(made):
    index = np.fromfile(
        made.prepared[made.part.key].folder / "held_out.documents", DOCUMENT
    )
    with pytest.raises(UserError, match=f"holds out {len(index)} documents.*per_doc"):
        _probes.cut(probes(made, 100, 1), LENGTH, made.prepared)
    with pytest.raises(UserError, match="at most 2 a document give"):
        _probes.cut(probes(made, 100, 2), LENGTH, made.prepared)


def test_of_a_very_long_text_the_first_documents_by_hash_are_read(made, monkeypatch):
    corpus = made.prepared[made.part.key]
    whole = _probes._HeldOut(corpus, LENGTH, 6, BYTES)
    monkeypatch.setattr(_probes, "HELD_OUT", len(whole.tokens) // 2)
    half = _probes._HeldOut(corpus, LENGTH, 6, BYTES)
    assert len(whole.tokens) // 2 <= len(half.tokens) < len(whole.tokens)
    np.testing.assert_array_equal(half.tokens, whole.tokens[: len(half.tokens)])


def test_what_is_known_of_the_text_stands_in_the_set(made):
    found = _probes.cut(probes(made), LENGTH, made.prepared)
    corpus = made.prepared[made.part.key]
    read = np.fromfile(corpus.folder / "train.tokens", "<u2")
    counts = np.bincount(read, minlength=257) + 1
    np.testing.assert_allclose(found.unigram, counts / counts.sum())
    held_out = np.fromfile(corpus.folder / "held_out.tokens", "<u2")
    assert found.bytes_per_token == pytest.approx((held_out < 256).mean())
    facts = {"name": "p", "corpus": made.part.key, "vocab": 257, "length": LENGTH}
    assert facts.items() <= found.facts.items()


# --- Classes ---------------------------------------------------------------------


def test_kinds_of_bytes():
    text = "if (Día_2 == 'a'):\n\tx\x01|be"
    said = np.array(_classes.KINDS)[_classes.kinds(ids(text), BYTES)].tolist()
    first, rest, space, digit, bracket, mark, end, other = _classes.KINDS
    wanted = [first, rest, space, bracket, first, rest, rest, mark, digit, space]
    wanted += [mark, mark, space, bracket, first, bracket, bracket, mark]
    wanted += [space, space, first, other, end, first, rest]
    assert said == wanted


def test_kinds_of_pieces_of_words():
    pieces = _classes.Pieces([b" the", b"re", b"  ", b" (", b"a1", b"", b"\xc3"])
    said = _classes.kinds(np.array([0, 1, 2, 1, 3, 4, 1, 5, 7, 6]), pieces)
    names = [_classes.FIRST, _classes.REST, _classes.SPACE, _classes.FIRST]
    names += [_classes.BRACKET, _classes.FIRST, _classes.FIRST, _classes.OTHER]
    assert said.tolist() == [*names, _classes.SEPARATOR, _classes.FIRST]


def test_words_are_common_or_rare_by_their_count():
    sample = ids(" ".join(["the"] * 2_000 + ["Cat"] + ["dog"] * 18_500))
    counted = _classes.words(sample, _classes.kinds(sample, BYTES), BYTES)[1]
    assert len(counted) == 20_501
    text = ids("The cat, dot")
    number, hashes = _classes.words(text, _classes.kinds(text, BYTES), BYTES)
    assert number.tolist() == [0, 0, 0, -1, 1, 1, 1, -1, -1, 2, 2, 2]
    assert _classes.commonness(hashes, counted).tolist() == [0, 2, 2]
    assert _classes.commonness(hashes, counted[:0]).tolist() == [2, 2, 2]
    assert _classes.commonness(hashes, np.repeat(hashes, 9)).tolist() == [0, 0, 0]


def by_hand(window, at):
    """The longest match that ends in the target, by trying every place and length."""
    best = (0, 0)
    for j in range(at):
        k = 0
        while k < j and window[j - k - 1] == window[at - k - 1]:
            k += 1
        if window[j] == window[at] and k >= best[0] and k > 0:
            best = (k, at - j)
    return best


def test_repeats_against_every_place_and_length():
    draw = np.random.default_rng(1)
    tokens = draw.integers(0, 3, (200, 24)).astype(np.int32)
    tokens[:50, 12:] = tokens[:50, :12]
    at = draw.integers(0, 24, 200).astype(np.int32)
    most, back = _classes.repeats(tokens, at)
    wanted = [by_hand(row.tolist(), t) for row, t in zip(tokens, at, strict=True)]
    assert np.stack([most, back], 1).tolist() == [list(pair) for pair in wanted]
    assert most.max() > 8 and most.min() == 0


def test_levels_of_repeats():
    window = ids("abcdefghij, abcdefghij; aj")[None]
    found = [
        _classes.of_context(window, np.array([at])) for at in (0, 12, 13, 16, 21, 25)
    ]
    assert [int(f["repeat"][0][0]) for f in found] == [0, 0, 1, 2, 3, 0]
    assert [int(f["back"][0][0]) for f in found] == [-1, -1, 0, 0, 0, -1]


def test_a_corpus_of_ones_own_may_add_classes(made, monkeypatch):
    given = {}
    module = types.ModuleType("own")
    module.classes = lambda tokens, at, path: dict(given)
    monkeypatch.setattr(corpora, "load", lambda name: module)
    own = lambda: _probes._of_corpus(probes(made), np.zeros((60, 4)), np.zeros(60))
    given["half"] = (np.arange(60) % 2, ("even", "odd"))
    assert own()["half"][1] == ("even", "odd")
    for name, wrong in (
        ("half", (np.arange(60), ("even", "odd"))),
        ("half", (np.zeros(60), ("even",))),
        ("half", None),
        ("kind", given["half"]),
    ):
        given.clear()
        given[name] = wrong
        with pytest.raises(UserError, match=rf"data.corpus classes.*{name}"):
            own()


def test_another_tokenizer_gives_pieces():
    pytest.importorskip("sentencepiece")
    texts = lambda: iter(
        [b"the cat sat on the mat, quickly brown foxes jump \xc3\xa9 " * 50]
    )
    learnt = _tokens.load("x", _tokens.train("sentencepiece:300", texts))
    pieces = learnt.pieces()
    assert len(pieces) == learnt.separator == 300
    text = b"the cat \xc3\xa9"
    assert b"".join(pieces[i] for i in learnt.encode(text)) == text
