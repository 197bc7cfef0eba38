"""Kneser-Ney n-grams against a plain one; the runs that count them."""

from __future__ import annotations

import collections
import dataclasses
import random
import types

import numpy as np
import pytest

from scaling import families
from scaling.errors import UserError
from scaling.families import Tokens, ngram
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.record import substance
from scaling.store import Store
from scaling.training import aot, speed, trainer

VOCAB = 6
BYTES = Tokens(257, 32)
SEPARATOR = VOCAB - 1


class Stream:
    """Batches of 4 x 9 tokens with an order to them."""

    vocab, unique_steps = VOCAB, 30

    def __init__(self, seed=0):
        draw = random.Random(seed)
        steps = lambda: draw.choices((1, 2, 3), (6, 3, 1), k=9)
        rows = [np.cumsum([draw.randrange(5), *steps()[1:]]) % 5 for _ in range(120)]
        self.tokens = np.array(rows, np.int32).reshape(30, 4, 9)

    def batch(self, step):
        return self.tokens[step]


def fitted(order, entries=10**6, steps=30, stream=None):
    config = ngram.Config(order, entries)
    return ngram.fit(stream or Stream(), config, {"steps": np.int32(steps)})


def size(model):
    return sum(model.facts[name].sum() for name in ("contexts", "ngrams"))


def windows(tokens):
    """(all tokens before, token) of each position, behind separators."""
    for row in tokens.reshape(-1, tokens.shape[-1]).tolist():
        for t, w in enumerate(row):
            yield (SEPARATOR,) * 9 + tuple(row[:t]), w


class Plain:
    """The textbook's recursion with dictionaries."""

    def __init__(self, tokens, order):
        seen = collections.Counter(
            (h[len(h) - order + 1 :], w) for h, w in windows(tokens)
        )
        self.order, self.counts = order, {order - 1: seen}
        for k in range(order - 2, -1, -1):
            self.counts[k] = collections.Counter(
                (h[1:], w) for h, w in self.counts[k + 1]
            )
        self.discounts = {k: self.discount(c) for k, c in self.counts.items()}

    def discount(self, counts):
        n1, n2, n3, n4 = (
            sum(c == times for c in counts.values()) for times in (1, 2, 3, 4)
        )
        if not (n1 and n2 and n3 and n4):
            return 0.5, 1.0, 1.5
        y = n1 / (n1 + 2 * n2)
        found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        right = all(0 < d <= i for i, d in enumerate(found, 1))
        return found if right else (0.5, 1.0, 1.5)

    def probability(self, h, w, k):
        if k < 0:
            return 1 / VOCAB
        h = h[len(h) - k :]
        of_h = {u: c for (g, u), c in self.counts[k].items() if g == h}
        shorter = self.probability(h[1:], w, k - 1)
        if not of_h:
            return shorter
        take = lambda c: self.discounts[k][min(c, 3) - 1] if c else 0.0
        total, count = sum(of_h.values()), of_h.get(w, 0)
        rest = sum(take(c) for c in of_h.values()) / total
        return (count - take(count)) / total + rest * shorter


@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_are_those_of_the_textbook(order):
    other = Stream(seed=1).tokens[:3].reshape(12, 9)
    plain = Plain(Stream().tokens, order)
    truth = [plain.probability(h, w, order - 1) for h, w in windows(other)]
    found = fitted(order).nats(other).reshape(-1)
    np.testing.assert_allclose(np.exp(-found), truth, rtol=1e-5)
    orders = plain.discounts.values()
    assert order < 4 or any(d != (0.5, 1.0, 1.5) for d in orders)


@pytest.mark.parametrize("entries", [7, 20, 60, 150, 10**6])
def test_any_room_is_kept_to_and_probabilities_sum_to_one(entries):
    model = fitted(5, entries)
    assert size(model) <= entries
    draw = np.random.default_rng(0)
    history = draw.integers(0, VOCAB, (40, 1, 6)).repeat(VOCAB, 1)
    last = np.broadcast_to(np.arange(VOCAB)[:, None], (40, VOCAB, 1))
    tokens = np.concatenate([history, last], axis=2).reshape(-1, 7).astype(np.int32)
    total = np.exp(-model.nats(tokens)[:, -1]).reshape(40, VOCAB).sum(1)
    np.testing.assert_allclose(total, 1.0, atol=1e-5)


def test_what_is_predicted_at_a_place_is_what_is_scored_there():
    text = Stream().batch(7)
    for model in (fitted(4), fitted(5, 40)):
        nats = model.nats(text)
        for t in range(text.shape[1]):
            logs = model.log_probabilities(text, np.full(len(text), t))
            assert logs.shape == (len(text), VOCAB)
            assert logs.dtype == np.float32
            np.testing.assert_allclose(np.exp(logs).sum(1), 1.0, rtol=1e-5)
            np.testing.assert_array_equal(
                -logs[np.arange(len(text)), text[:, t]], nats[:, t]
            )


def test_where_part_of_the_ngrams_is_kept_counts_pass_to_shorter_ones():
    """Room for all tokens, and for the one bigram that comes twice."""
    tokens = np.array([[[0, 1, 0, 2, 0, 1, 3, 4, 0]]], np.int32)
    stream = types.SimpleNamespace(vocab=VOCAB, unique_steps=1)
    stream.batch = lambda step: tokens[step]
    part = fitted(2, 1 + 5 + 1 + 1, 1, stream)
    table = part.orders[1].table
    assert table.contexts.tolist() == [0] and table.seen.tolist() == [3]
    assert table.ngrams.tolist() == [1] and table.counts.tolist() == [2]
    np.testing.assert_allclose(part.orders[1].probabilities, (2 - 1) / 3, rtol=1e-6)
    np.testing.assert_allclose(part.orders[1].rest, 2 / 3, rtol=1e-6)
    # Of 1, behind 0 alone, one is left; of 0, never behind it, all four.
    shares = part.orders[0].probabilities, part.orders[0].rest
    counts = np.array([4, 1, 1, 1, 1])
    halves = np.array([1.5, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(shares[0], (counts - halves) / 8, rtol=1e-6)
    np.testing.assert_allclose(shares[1], halves.sum() / 8, rtol=1e-6)


def test_more_room_and_longer_contexts_fit_the_text_better():
    text = Stream().tokens.reshape(-1, 9)
    losses = [fitted(4, entries).nats(text).mean() for entries in (8, 30, 80, 500)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.3
    by_order = [fitted(order).nats(text).mean() for order in (1, 2, 3)]
    assert by_order == sorted(by_order, reverse=True)


def test_what_fits_to_the_last_number_is_kept_whole():
    whole = size(fitted(5))
    assert size(fitted(5, whole)) == whole
    assert whole / 2 < size(fitted(5, whole - 1)) < whole


def test_a_full_table_gets_better_with_more_text():
    text = Stream(seed=1).tokens.reshape(-1, 9)
    models = [fitted(4, 40, steps) for steps in (3, 8, 30)]
    losses = [model.nats(text).mean() for model in models]
    assert losses == sorted(losses, reverse=True)
    for model in models:
        assert 30 < size(model) <= 40


def test_counting_reaches_the_truth_of_a_source_at_its_order_and_not_below():
    """Symbols 0 to 4 that depend on the two before; scored from the third on."""
    draw = np.random.default_rng(0)
    chances = draw.dirichlet(np.full(5, 0.5), (5, 5))
    tokens = np.zeros((2_400, 50), np.int32)
    for t in range(2, 50):
        below = chances[tokens[:, t - 2], tokens[:, t - 1]].cumsum(-1)
        tokens[:, t] = (draw.random((2_400, 1)) > below[:, :-1]).sum(-1)
    stream = types.SimpleNamespace(vocab=VOCAB, unique_steps=200)
    stream.batch = tokens[:2_000].reshape(200, 10, 50).__getitem__
    new = tokens[2_000:]
    truth = -np.log(chances[new[:, :-2], new[:, 1:-1]])
    truth = np.take_along_axis(truth, new[:, 2:, None], -1).mean()
    excess = [
        fitted(order, steps=200, stream=stream).nats(new)[:, 2:].mean() - truth
        for order in (2, 3, 4)
    ]
    assert excess[0] > 0.1 and abs(excess[1]) < 0.002 and abs(excess[2]) < 0.01


def test_repeated_epochs_and_small_chunks_change_nothing(monkeypatch):
    once, text = fitted(4), Stream().tokens[0]
    np.testing.assert_array_equal(fitted(4, steps=90).nats(text), once.nats(text))
    assert (fitted(4, steps=3).nats(text) != once.nats(text)).any()
    monkeypatch.setattr(ngram, "_CHUNK", 27)
    np.testing.assert_array_equal(fitted(4).nats(text), once.nats(text))


def test_sizes_give_orders_and_what_cannot_be_counted_is_refused():
    spec = Tokens(257, 64)
    assert [ngram.ladder(n, spec).order for n in (300, 8e3, 1e6, 1e9)] == [2, 4, 7, 12]
    assert ngram.ladder(8_000, spec).entries == 8_000
    with pytest.raises(UserError, match=r"size_by.*active"):
        ngram.ladder(8_000, spec, by="flops")
    with pytest.raises(UserError, match=r"model\.size"):
        ngram.ladder(257, spec)


def trained(made, runs, workdir, stopping=lambda: False):
    store, events = Store(workdir), []
    pack = Pack(tuple(runs), made.ids(*runs), Layout(run=2, width=2))
    trainer.train(pack, made.prepared, store, events.append, stopping)
    return {i: store.read(i) for i in pack.run_ids if store.exists(i)}, events


def test_runs_are_counted_one_after_another_into_the_same_records(made, tmp_path):
    short = made.run("ngram")
    data = dataclasses.replace(short.data, tokens=4 * short.data.tokens)
    long = dataclasses.replace(short, data=data)
    records, events = trained(made, [long, short], tmp_path)
    kinds = [(e.kind, e.run_id) for e in events]
    assert kinds == [(k, i) for i in made.ids(long, short) for k in ("started", "done")]
    few, many = (records[i] for i in made.ids(short, long))
    assert many.reading("made").value < few.reading("made").value < np.log(257) - 1
    assert {r.kind for r in few.readings} == {"final", "best"}
    assert few.params_total == 8_000 and few.params_embedding == 0
    assert few.flops == 2 * 4 * few.tokens and few.flops_xla is None
    facts = next(a for a in few.artifacts if a.name == "fit")
    with np.load(Store(tmp_path).path(facts.path)) as arrays:
        assert arrays["contexts"][0] == 1 and len(arrays["contexts"]) == 4
        assert 2_000 < arrays["contexts"].sum() + arrays["ngrams"].sum() <= 8_000
    again, events = trained(made, [long, short], tmp_path)
    assert not events and again == records


def test_a_stopped_pack_of_counts_goes_on_with_the_runs_it_has_not_done(made, tmp_path):
    runs = [made.run("ngram"), made.run("ngram", size=16_000)]
    whole, _ = trained(made, runs, tmp_path / "whole")
    answers = iter([False, True])
    cut, _ = trained(made, runs, tmp_path / "cut", lambda: next(answers))
    assert list(cut) == list(made.ids(runs[0]))
    cut, _ = trained(made, runs, tmp_path / "cut")
    bodies = lambda records: {i: substance(r) for i, r in records.items()}
    assert bodies(cut) == bodies(whole)


def test_no_layout_is_measured_with_a_family_that_takes_no_steps(made):
    assert families.fitted("ngram") and not families.fitted("transformer")
    assert speed.tokens_per_second(made.run("ngram"), Layout(), BYTES) is None


def test_a_plan_for_another_machine_reckons_with_the_table_and_compiles_nothing(made):
    step = aot.step(made.run("ngram"), BYTES, Layout(platform="tpu"), "v5e-4")
    assert (step.memory, step.flops) == (12 * 8_000, 2 * 4 * 256)
    assert (step.reason, step.how) == ("", "modelled")
