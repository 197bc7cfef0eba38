"""The token stream's promises: prefixes, epochs, mixtures, and held-out sets."""

from __future__ import annotations

import dataclasses
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from scaling.corpora import TokenStream, evaluation_windows, prepare
from scaling.corpora._stream import Interleaving, Permutation
from scaling.corpora._tokens import DOCUMENT, Bytes, TokenFile
from scaling.errors import UserError
from scaling.run import Data, Optimiser, Part, options

STEP = 8 * 32


def stream(
    made, steps, unique_steps=None, seed=0, corpus=None, prepared=None, **changes
):
    unique = None if unique_steps is None else unique_steps * STEP
    data = Data(corpus or (made.part,), steps * STEP, unique, seed=seed)
    run = made.run(data=data, **changes)
    return TokenStream(run, prepared or made.prepared)


def windows(made):
    """Every training window, by content."""
    folder = made.prepared[made.part.key].folder
    tokens = np.fromfile(folder / "train.tokens", np.uint16).astype(np.int32)
    return tokens[: len(tokens) // 32 * 32].reshape(-1, 32)


def rows(batches):
    return [row.tobytes() for row in batches.reshape(-1, batches.shape[-1])]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two corpora of unequal size, to mix."""
    parts = []
    for name, count in (("large", 3_000), ("small", 1_000)):
        folder = tmp_path_factory.mktemp(name)
        draw = random.Random(name)
        texts = [" ".join(draw.choices(name, k=60)) for _ in range(count)]
        (folder / "all.txt").write_text("\n".join(texts))
        parts.append(Part("files", 1.0, options(path=str(folder), unit="line")))
    return parts, prepare(parts, tmp_path_factory.mktemp("data"), progress=False)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097, 99_991])
def test_permutation_is_a_bijection(size):
    image = Permutation(size, "key")(np.arange(size))
    assert sorted(image) == list(range(size))


def test_permutation_depends_on_its_key_and_leaves_no_order():
    index = np.arange(50_000)
    one, other = Permutation(50_000, "one")(index), Permutation(50_000, "other")(index)
    assert (one == other).mean() < 1e-3
    assert abs(np.corrcoef(index, one)[0, 1]) < 0.02
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.02


def test_permutation_of_a_size_no_table_could_hold():
    size = 10**13
    image = Permutation(size, "key")(np.arange(1000))
    assert len(set(image)) == 1000 and image.min() >= 0 and image.max() < size
    assert np.quantile(image, 0.5) == pytest.approx(size / 2, rel=0.15)


def test_an_epoch_reads_different_windows_of_the_training_tokens(made):
    read = rows(stream(made, 100).batches(0, 100))
    stored = {row.tobytes() for row in windows(made)}
    assert len(set(read)) == len(read) == 800
    assert set(read) <= stored


def test_a_smaller_budget_is_a_prefix_of_a_larger(made):
    large = stream(made, 90).batches(0, 90)
    for steps in (1, 13, 89):
        np.testing.assert_array_equal(
            stream(made, steps).batches(0, steps), large[:steps]
        )
    repeated = stream(made, 90, unique_steps=20)
    np.testing.assert_array_equal(repeated.batches(0, 20), large[:20])


def test_later_epochs_permute_the_prefix_keyed_by_seed_epoch_and_budget(made):
    steps = stream(made, 60, unique_steps=15).batches(0, 60)
    epochs = [rows(steps[i : i + 15]) for i in (0, 15, 30, 45)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    # Neither the length of the run nor anything but seed and U enters.
    longer = stream(made, 90, unique_steps=15).batches(15, 30)
    assert rows(longer) == epochs[1]
    other = stream(made, 60, unique_steps=15, seed=1).batches(15, 30)
    assert rows(other) != epochs[1]
    one, two = (Permutation(120, f"epoch/0/1/{u}")(np.arange(120)) for u in (1, 2))
    assert list(one) != list(two)


def test_a_batch_depends_on_nothing_but_data_batch_length_and_step(made):
    first = stream(made, 40)
    other = stream(made, 40, init_seed=7, family="lstm", optimiser=Optimiser(1.0))
    backwards = [other.batch(step) for step in reversed(range(40))][::-1]
    np.testing.assert_array_equal(first.batches(0, 40), np.stack(backwards))
    assert first.batch(3).dtype == np.int32 and first.batch(3).shape == (8, 32)
    assert rows(stream(made, 40, seed=1).batches(0, 40)) != rows(first.batches(0, 40))


def test_reading_far_ahead_and_across_chunks_and_epochs(made):
    one = stream(made, 2_000, unique_steps=7)
    expected = one.batches(0, 2_000)
    jumps = stream(made, 2_000, unique_steps=7)
    for step in (1999, 0, 511, 512, 513, 1024):
        np.testing.assert_array_equal(jumps.batch(step), expected[step])


def test_an_uneven_last_epoch(made):
    read = stream(made, 25, unique_steps=10).batches(0, 25)
    assert set(rows(read[20:])) < set(rows(read[:10]))


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (0.1, 0.2, 0.7)])
def test_a_mixture_holds_its_weights_in_every_prefix(weights):
    mixture = Interleaving(list(weights))
    part, index = mixture(np.arange(20_000))
    for i, weight in enumerate(weights):
        mine = part == i
        assert list(index[mine]) == list(range(mine.sum()))
        share = np.cumsum(mine) - np.arange(1, 20_001) * weight / sum(weights)
        assert abs(share).max() < 4  # 1 of unevenness, 20,000 / 8192 of rounding
        for slots in (0, 1, 4095, 4096, 9_999):
            assert mixture.taken(slots)[i] == mine[:slots].sum()


def test_a_mixture_is_a_prefix_too_and_keeps_each_part_in_its_own_order(made, pair):
    (large, small), prepared = pair
    mixed = (dataclasses.replace(large, weight=3.0), small)

    def read(corpus, steps):
        data = stream(made, steps, corpus=corpus, prepared=prepared, evaluation=())
        return data.batches(0, steps)

    long = read(mixed, 40)
    np.testing.assert_array_equal(read(mixed, 11), long[:11])
    alone = rows(read((large,), 30))
    letters = set(b"large \n".replace(b"\n", b""))
    of_large = [
        row.tobytes()
        for row in long.reshape(-1, 32)
        if set(row.tolist()) <= letters | {256}
    ]
    assert of_large == alone[: len(of_large)]
    assert len(of_large) == 240


def test_a_budget_larger_than_the_corpus_says_what_there_is(made):
    whole = made.prepared[made.part.key].train_tokens // STEP
    stream(made, whole)
    with pytest.raises(UserError, match=f"{whole * STEP:,} training tokens") as error:
        stream(made, whole + 1)
    assert error.value.field == "data.tokens"
    with pytest.raises(UserError) as error:
        stream(made, 3 * whole, unique_steps=whole + 1)
    assert error.value.field == "data.unique_tokens"
    stream(made, 3 * whole, unique_steps=whole)


def test_a_mixture_is_limited_by_the_part_that_runs_out_first(made, pair):
    (large, small), prepared = pair
    most = prepared[small.key].train_tokens
    with pytest.raises(UserError) as error:
        stream(
            made,
            2 * most // STEP + 2,
            corpus=(large, small),
            prepared=prepared,
            evaluation=(),
        )
    said = int(error.value.expected.split(" has ")[1].split()[0].replace(",", ""))
    assert 2 * most - 3 * STEP < said <= 2 * most


def test_damage_of_an_unknown_kind_is_refused(made):
    data = Data((made.part,), 10 * STEP, quality="shuffled", quality_level=0.5)
    with pytest.raises(UserError, match="shuffled"):
        TokenStream(made.run(data=data), made.prepared)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGESIZE"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_random_reads_of_a_large_file_keep_nothing_of_it(tmp_path):
    tokens = np.arange(1 << 24).astype("<u2")
    path = tmp_path / "train.tokens"
    with open(path, "wb") as out:  # at once, so that the system keeps it in large pages
        out.write(tokens.tobytes())
    file, draw = TokenFile(path), np.random.default_rng(0)
    before = resident_bytes()
    for _ in range(20):
        numbers = draw.integers(0, len(tokens) // 32, 64)
        np.testing.assert_array_equal(
            file.windows(32, numbers), tokens.reshape(-1, 32)[numbers]
        )
    assert resident_bytes() - before < 8e6 < len(tokens)


def test_pieces_of_a_file_are_read_wherever_they_lie(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 257, 1_000).astype("<u2")
    tokens.tofile(tmp_path / "t")
    file, whole = TokenFile(tmp_path / "t"), tokens.astype(np.int32)
    assert len(file) == 1_000
    places = np.array([[3, 4, 5], [9, 8, 999], [0, 1, 1]])
    np.testing.assert_array_equal(file.at(places), whole[places])
    numbers = np.array([7, 8, 9, 2, 2, 61])
    rows = whole[:992].reshape(-1, 16)[numbers]
    np.testing.assert_array_equal(file.windows(16, numbers), rows)
    np.testing.assert_array_equal(file.slice(10, 700), whole[10:700])
    assert file.windows(16, numbers[:0]).shape == (0, 16)
    assert file.at(places).dtype == file.slice(4, 4).dtype == np.int32
    for wrong in (np.array([62]), np.array([-1])):
        with pytest.raises(IndexError, match="has 1000 tokens"):
            file.windows(16, wrong)


def held_out(made, tokens=2_048, length=32):
    return evaluation_windows(made.part, tokens, length, made.prepared)


def test_evaluation_windows_are_whole_held_out_documents(made):
    found = held_out(made)
    corpus = made.prepared[made.part.key]
    index = np.fromfile(corpus.folder / "held_out.documents", DOCUMENT)
    tokens = TokenFile(corpus.folder / "held_out.tokens")
    known = {f"{row['hash']:016x}": i for i, row in enumerate(index)}
    ends = np.append(index["start"][1:], corpus.held_out_tokens)
    for number, name in enumerate(found.names):
        mine = found.document == number
        read = found.tokens[mine][found.weight[mine] > 0]
        row = known[name]
        stored = tokens.slice(int(index["start"][row]), int(ends[row]))
        np.testing.assert_array_equal(read, stored)
        assert read[-1] == corpus.separator and len(read) == found.bytes[number] + 1
    assert 0.8 * 2_048 <= found.count == found.weight.sum() <= 2_048
    assert found.tokens.dtype == found.document.dtype == np.int32
    assert found.weight.dtype == np.float32
    assert (found.tokens[found.weight == 0] == corpus.separator).all()
    assert found.weight.any(axis=1).all()


def test_evaluation_sets_grow_in_hash_order_and_do_not_depend_on_length(made):
    found = held_out(made)
    assert held_out(made, length=50).names == found.names
    first = held_out(made, tokens=1_024).names
    assert list(found.names) == sorted(found.names)
    assert first[0] == found.names[0] and set(first) & set(found.names)


def test_no_held_out_text_is_in_the_training_tokens(made):
    corpus = made.prepared[made.part.key]
    train = np.fromfile(corpus.folder / "train.tokens", np.uint16)
    texts = set(train_documents(train))
    found = held_out(made)
    for number in range(len(found.names)):
        mine = found.document == number
        text = Bytes().decode(found.tokens[mine][found.weight[mine] > 0])
        assert len(text) == found.bytes[number]
        assert text not in texts


def train_documents(tokens):
    cuts = np.flatnonzero(tokens == 256)
    return [Bytes().decode(part) for part in np.split(tokens, cuts + 1)]


def test_an_evaluation_set_larger_than_the_held_out_split(made):
    with pytest.raises(UserError, match="give no more than that") as error:
        held_out(made, tokens=10**6)
    assert error.value.field == "evaluation.tokens"
