"""Damage to training text: what each kind does, nested, and never to held-out text."""

from __future__ import annotations

import random

import numpy as np
import pytest

from scaling import study
from scaling.canonical import canonical
from scaling.corpora import TokenStream, _stream, prepare
from scaling.corpora._quality import BLANK, KINDS, ORIGINALS, STRETCH, open_text
from scaling.errors import UserError
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.run import Data, Part, options
from scaling.store import Store
from scaling.training import evaluation, trainer

STEP = 8 * 32
LEVELS = (0.0, 0.2, 0.55, 1.0)
IN_PLACE = ("random_bytes", "random_strings", "shuffled_words")
every_kind = pytest.mark.parametrize("kind", sorted(KINDS))


def data(made, kind="", level=0.0, steps=40, unique=None, **changes):
    unique = None if unique is None else unique * STEP
    changes = {"corpus": (made.part,)} | changes
    return Data(
        tokens=steps * STEP,
        unique_tokens=unique,
        quality=kind,
        quality_level=level,
        **changes,
    )


def stream(made, kind="", level=0.0, steps=40, unique=None, prepared=None, **changes):
    asked = data(made, kind, level, steps, unique, **changes)
    return TokenStream(made.run(data=asked), prepared or made.prepared)


def read(*args, steps=40, **changes):
    return stream(*args, steps=steps, **changes).batches(0, steps)


def text(made, kind, level, seed=0, part=None, prepared=None):
    """The whole training text, damaged."""
    one = (prepared or made.prepared)[(part or made.part).key]
    found = open_text(data(made, kind, level, seed=seed), one)
    return found.windows(1, np.arange(found.tokens))[:, 0]


def documents(tokens):
    """Bytes of each document, without its separator."""
    cuts = np.flatnonzero(tokens == 256)
    return [d[d < 256] for d in np.split(tokens, cuts + 1)][:-1]


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Documents of several stretches and of a few bytes."""
    folder = tmp_path_factory.mktemp("long")
    draw = random.Random(0)
    words = ["one", "three", "é\u2014", "twelve-or-so", "a"]
    for i, count in enumerate((700, 450, 900)):
        (folder / f"{i}.txt").write_text("  ".join(draw.choices(words, k=count)))
    for i in range(60):
        (folder / f"short{i}.txt").write_text(f"{i} and " * i)
    part = Part("files", options=options(path=str(folder)))
    return part, prepare([part], tmp_path_factory.mktemp("data"), progress=False)


@every_kind
def test_level_0_is_untouched(made, kind):
    np.testing.assert_array_equal(read(made, kind, 0.0), read(made))
    assert stream(made, kind, 0.0).damage() == stream(made).damage() == 0.0


@pytest.mark.parametrize("kind", [*IN_PLACE, "duplicates"])
def test_a_worse_level_does_all_that_a_better_one_does(made, kind):
    clean, *worse = (read(made, kind, level) for level in LEVELS)
    changed = [tokens != clean for tokens in worse]
    for (mild, some), (harsh, more) in zip(
        zip(changed, worse, strict=True),
        list(zip(changed, worse, strict=True))[1:],
        strict=False,
    ):
        assert mild.any() and not (mild & ~harsh).any()
        np.testing.assert_array_equal(more[mild], some[mild])
        assert mild.sum() < harsh.sum()


def test_truncation_keeps_beginnings_of_what_a_better_level_keeps(made):
    clean, *worse = (documents(text(made, "truncation", level)) for level in LEVELS)
    before = clean
    for level, cut in zip(LEVELS[1:], worse, strict=True):
        assert len(cut) == len(clean)
        for whole, more, less in zip(clean, before, cut, strict=True):
            assert len(less) == int((1 - level) * len(whole))
            np.testing.assert_array_equal(less, more[: len(less)])
        before = cut


def test_random_bytes_replace_a_share_of_the_bytes(made):
    clean = text(made, "", 0.0)
    for level in (0.2, 1.0):
        tokens = text(made, "random_bytes", level)
        assert (tokens != clean).mean() == pytest.approx(level * 255 / 256, abs=0.01)
        np.testing.assert_array_equal(tokens == 256, clean == 256)
    counts = np.bincount(tokens, minlength=257)[:256]
    assert counts.min() > 0.7 * counts.mean() and counts.max() < 1.3 * counts.mean()


def test_random_strings_replace_a_share_of_the_documents(made):
    clean = documents(text(made, "", 0.0))
    for level in (0.2, 1.0):
        found = documents(text(made, "random_strings", level))
        hit = [(a != b).any() for a, b in zip(clean, found, strict=True)]
        assert np.mean(hit) == pytest.approx(level, abs=0.06)
        strings = [b for b, struck in zip(found, hit, strict=True) if struck]
        together = np.concatenate(strings)
        assert set(together) == set(range(32, 127))
        counts = np.bincount(together)[32:]
        assert counts.max() < 1.6 * counts.mean()


def test_words_are_shuffled_within_a_share_of_the_documents(made):
    clean = documents(text(made, "", 0.0))
    for level in (0.2, 1.0):
        found = documents(text(made, "shuffled_words", level))
        hit = [(a != b).any() for a, b in zip(clean, found, strict=True)]
        assert np.mean(hit) == pytest.approx(level, abs=0.06)
        for before, after in zip(clean, found, strict=True):
            assert len(before) == len(after)
            assert words(before) == words(after)


def words(document):
    return sorted(document.astype(np.uint8).tobytes().split())


def test_long_documents_are_shuffled_by_stretches(made, long):
    part, prepared = long
    clean = documents(text(made, "", 0.0, 0, part, prepared))
    found = documents(text(made, "shuffled_words", 1.0, 0, part, prepared))
    assert max(map(len, clean)) > 3 * STRETCH and min(map(len, clean)) < 10
    for before, after in zip(clean, found, strict=True):
        for start in range(0, len(before), STRETCH):
            one, two = (d[start : start + STRETCH] for d in (before, after))
            assert words(one) == words(two)
            # What stands between words stays, in its order.
            np.testing.assert_array_equal(one[BLANK[one]], two[BLANK[two]])
            if len(set(words(one))) > 20:
                assert (one != two).mean() > 0.5


@pytest.mark.parametrize("kind", [*IN_PLACE, "truncation"])
def test_windows_of_any_length_see_the_same_damaged_text(made, long, kind):
    part, prepared = long
    whole = text(made, kind, 0.5, 0, part, prepared)
    damaged = open_text(data(made, kind, 0.5), prepared[part.key])
    for length in (7, 64, 1500):
        count = len(whole) // length
        order = np.random.default_rng(0).permutation(count)
        rows = damaged.windows(length, order)
        expected = whole[: count * length].reshape(count, length)
        np.testing.assert_array_equal(rows, expected[order])


def test_duplicates_are_copies_of_windows_read_before(made):
    clean = read(made, steps=400).reshape(-1, 32)
    for level in (0.5, 1.0):
        tokens = read(made, "duplicates", level, steps=400).reshape(-1, 32)
        copied = (tokens != clean).any(axis=1)
        expected = level * (1 - 1 / ORIGINALS)
        assert copied.mean() == pytest.approx(expected, abs=0.03)
        assert not copied[::ORIGINALS].any()
        for place in np.flatnonzero(copied):
            earlier = (clean[: place + 1 : ORIGINALS] == tokens[place]).all(axis=1)
            assert earlier.any()
    assert len(np.unique(tokens, axis=0)) <= len(clean) / ORIGINALS


@every_kind
def test_the_seed_decides_what_is_damaged(made, kind):
    if kind == "truncation":  # cuts every document alike
        same = (text(made, kind, 0.5, seed) for seed in (0, 1))
        np.testing.assert_array_equal(*same)
        return
    one, other = (
        open_text(data(made, kind, 0.5, seed=seed), made.prepared[made.part.key])
        for seed in (0, 1)
    )
    index = np.arange(320)
    rows = [each.windows(32, each.source(index)) for each in (one, other)]
    assert (rows[0] != rows[1]).any(axis=1).mean() > 0.1


@every_kind
def test_batches_are_a_pure_function_of_the_step(made, kind):
    expected = read(made, kind, 0.55)
    once = stream(made, kind, 0.55)
    backwards = [once.batch(step) for step in reversed(range(40))][::-1]
    np.testing.assert_array_equal(np.stack(backwards), expected)
    resumed = stream(made, kind, 0.55)
    resumed.read_ahead(17, 25)
    np.testing.assert_array_equal(resumed.batches(17, 25), expected[17:25])
    assert expected.dtype == np.int32 and 0 <= expected.min() <= expected.max() <= 256


@every_kind
def test_a_smaller_budget_is_a_prefix_of_a_larger(made, kind):
    long = read(made, kind, 0.55)
    np.testing.assert_array_equal(read(made, kind, 0.55, steps=11), long[:11])
    repeated = read(made, kind, 0.55, steps=22, unique=11)
    np.testing.assert_array_equal(repeated[:11], long[:11])
    # Later epochs read the same damaged windows again.
    rows = lambda batches: sorted(row.tobytes() for row in batches.reshape(-1, 32))
    assert rows(repeated[11:]) == rows(repeated[:11])


@pytest.mark.parametrize("kind", [*IN_PLACE, "duplicates"])
def test_the_share_of_bytes_changed_is_counted_exactly(made, kind, monkeypatch):
    monkeypatch.setattr(_stream, "COUNTED", 32 * 13)
    clean = read(made, steps=12)
    for level in (0.2, 1.0):
        tokens = read(made, kind, level, steps=12)
        share = ((tokens != clean) & (clean != 256)).sum() / (clean != 256).sum()
        assert stream(made, kind, level, steps=12).damage() == pytest.approx(share)
        repeated = stream(made, kind, level, steps=30, unique=12)
        assert repeated.damage() == pytest.approx(share)


def test_the_share_that_truncation_cuts(made):
    one = made.prepared[made.part.key]
    whole = documents(text(made, "", 0.0))
    for level in (0.3, 0.8):
        left = documents(text(made, "truncation", level))
        lost = 1 - sum(map(len, left)) / sum(map(len, whole))
        found = open_text(data(made, "truncation", level), one)
        every = np.arange(found.tokens)
        cut, of = found.changed(1, every, lambda index: index)
        assert cut / of == pytest.approx(lost) == pytest.approx(level, abs=0.01)
        some = stream(made, "truncation", level, steps=20).damage()
        assert some == pytest.approx(lost, abs=0.01)
    nothing = open_text(data(made, "truncation", 1.0), one)
    assert nothing.tokens == one.train_documents
    cut, of = nothing.changed(32, np.arange(10), lambda index: index)
    assert cut == of > 0


def test_a_mixture_is_damaged_part_by_part(made, long):
    part, prepared = long
    mixed = (Part(part.name, 0.1, part.options), made.part)
    prepared = {**prepared, **made.prepared}
    how = {"corpus": mixed, "prepared": prepared, "steps": 12}
    clean = read(made, **how)
    tokens = read(made, "random_bytes", 0.4, **how)
    share = ((tokens != clean) & (clean != 256)).sum() / (clean != 256).sum()
    damage = stream(made, "random_bytes", 0.4, **how).damage()
    assert damage == pytest.approx(share) == pytest.approx(0.4, abs=0.05)
    # Copies come from their own part, so the weights hold.
    copied = read(made, "duplicates", 1.0, **how)
    foreign = lambda batches: (batches == 0xC3).any(axis=2)
    assert foreign(clean).any()
    assert not (foreign(copied) & ~mine(made, how)).any()


def mine(made, how):
    """The windows of the mixture's first part, bool [steps, batch]."""
    slots, _ = stream(made, **how)._mixture(np.arange(12 * 8))
    return (slots == 0).reshape(12, 8)


def test_held_out_text_stays_clean_and_the_record_has_the_share(
    made, tmp_path, monkeypatch
):
    scored = []
    score = evaluation.score

    def spy(read, windows, *rest):
        scored.append(windows.tokens)
        return score(read, windows, *rest)

    monkeypatch.setattr(evaluation, "score", spy)
    runs = [
        made.run("ngram", data=data(made, *how, steps=12))
        for how in ((), ("random_bytes", 1.0))
    ]
    ids = made.ids(*runs)
    store = Store(tmp_path)
    pack = Pack(tuple(runs), ids, Layout())
    trainer.train(pack, made.prepared, store, lambda event: None)
    clean, damaged = map(store.read, ids)
    np.testing.assert_array_equal(*scored)
    assert (clean.damage, clean.run["data.quality"]) == (0.0, "")
    share = stream(made, "random_bytes", 1.0, steps=12).damage()
    assert damaged.damage == share > 0.98
    assert damaged.reading("made").value > clean.reading("made").value + 1.0


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"kind": "random_byte", "level": 0.5}, "data.quality", "'random_bytes'"),
        ({"kind": "noise", "level": 0.5}, "data.quality", "known: duplicates, random_"),
        ({"level": 0.5}, "data.quality", "of level 0.5: duplicates, "),
        ({"kind": "truncation", "level": 1.5}, "data.quality_level", "between 0 and 1"),
        (
            {"kind": "truncation", "level": float("nan")},
            "data.quality_level",
            "between 0 and 1",
        ),
        (
            {"kind": "truncation", "level": 0.5, "tokenizer": "sentencepiece:500"},
            "data.tokenizer",
            "bytes",
        ),
    ],
)
def test_damage_that_cannot_be_done_is_refused(made, changes, field, says):
    run = made.run(data=data(made, **changes))
    for refuse in (study.validate, lambda runs: TokenStream(runs[0], made.prepared)):
        with pytest.raises(UserError) as error:
            refuse([run])
        assert error.value.field == field and says in str(error.value)
        assert "\n" not in str(error.value)


def test_truncation_leaves_less_to_read(made):
    steps = made.prepared[made.part.key].train_tokens // STEP
    for level, share in ((0.1, 0.85), (0.5, 0.6)):
        run = made.run(data=data(made, "truncation", level, int(share * steps)))
        study.check_budgets([run], made.prepared)
        if share < 1 - level:
            study.check_damaged([run], made.prepared)
            continue
        with pytest.raises(UserError, match="training tokens in whole steps"):
            study.check_damaged([run], made.prepared)


def test_runs_on_untouched_text_keep_their_ids(made):
    assert not {"quality", "quality_level"} & set(canonical(data(made)))
    runs = [made.run(data=data(made, *how)) for how in ((), ("truncation", 0.1))]
    assert len(set(made.ids(*runs))) == 2
    assert runs[0].program() == runs[1].program()
