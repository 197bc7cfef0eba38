"""Sources whose truth is known: their oracles against brute force, and as floors."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from analysis.tables import truth as truths
from scaling import corpora, probe_file
from scaling.corpora import (
    _known,
    _probes,
    _truth,
    evaluation_windows,
    hierarchy,
    hmm,
    markov,
    parity,
)
from scaling.engines.child import Settings
from scaling.errors import UserError
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.run import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Part,
    Probes,
    Run,
    Schedule,
    options,
)
from scaling.scheduling import commands, study_plan
from scaling.scheduling.progress import Progress
from scaling.store import Store
from scaling.training import evaluation, trainer

KINDS = {
    "markov": markov.Markov,
    "hmm": hmm.HMM,
    "hierarchy": hierarchy.Hierarchy,
    "parity": parity.Parity,
}
# So short that every document can be listed, or every hidden path walked.
TINY = {
    "markov": {"order": 2, "symbols": 3, "document": 5},
    "hmm": {"components": 2, "states": 2, "symbols": 3, "document": 5},
    "hierarchy": {"symbols": 3, "rules": 2, "depth": 2, "tail": 0.7, "sentences": 2},
    "parity": {"tasks": 3, "bits": 3, "subset": 2, "queries": 3, "lines": 2},
}


def of_length(length: int) -> Run:
    """A run that is scored in windows of this length."""
    return Run(
        model=Model("transformer", 8_000),
        data=Data((Part("markov"),), 1_024),
        optimiser=Optimiser(1e-2),
        batch=4,
        length=length,
        evaluation=(EvaluationSet("markov", (Part("markov"),), 1_024),),
    )


# Windows of 66 tokens hold whole lines of both by their defaults; of 50 they do not.
ALIGNED, CUTTING = 66, 50


def source(name: str, **chosen):
    return _known.made(KINDS[name], chosen)


def total_nats(kind, text: bytes, start: int, stop: int, end: bool = False) -> float:
    """The oracle's, of a window from `start` to `stop` of a document."""
    tokens = np.frombuffer(text, np.uint8)[start:stop].astype(np.int64)
    if end:
        tokens = np.append(tokens, _known.SEPARATOR)
    nats = _known.oracle(kind, tokens[None], np.array([start]))
    return float(nats.sum())


# --- Against brute force -----------------------------------------------------------


def test_markov_windows_against_its_own_chain():
    """The stationary distribution by eigenvector of the matrix over contexts."""
    kind = source("markov", **TINY["markov"])
    table, end = kind.chances[-1], 1 / kind.document
    matrix = np.zeros((9, 9))
    for a, b, x in itertools.product(range(3), repeat=3):
        matrix[3 * a + b, 3 * b + x] = table[3 * a + b, x]
    values, vectors = np.linalg.eig(matrix.T)
    start = np.real(vectors[:, np.argmax(values.real)])
    start /= start.sum()
    for word in itertools.product(range(3), repeat=4):
        a, b, c, d = word
        chance = start[3 * a + b] * table[3 * a + b, c] * table[3 * b + c, d]
        text = bytes(_known.FIRST + x for x in (0, *word))
        goes_on = 4 * math.log1p(-end)
        found = total_nats(kind, text, 1, 5)
        assert found == pytest.approx(-math.log(chance) - goes_on, rel=1e-9)


def test_forward_algorithm_against_all_hidden_paths():
    kind = source("hmm", **TINY["hmm"])
    first, move, emit = kind.chances
    end = 1 / kind.document
    for model in range(2):  # stationary: a step leaves it as it is
        assert first[model] @ move[model] == pytest.approx(first[model], rel=1e-12)
    for word in itertools.product(range(3), repeat=4):
        chance = 0.0
        paths = itertools.product(range(2), *[range(2)] * 4)
        for model, *path in paths:
            p = kind.shares[model] * first[model, path[0]]
            for t, symbol in enumerate(word):
                p *= emit[model, path[t], symbol]
                p *= move[model, path[t], path[t + 1]] if t < 3 else 1.0
            chance += p
        text = bytes(_known.FIRST + x for x in word)
        wanted = -math.log(chance) - 3 * math.log1p(-end) - math.log(end)
        assert total_nats(kind, text, 0, 4, end=True) == pytest.approx(wanted, rel=1e-9)


def sentences(kind) -> dict[bytes, float]:
    """Every line of a hierarchy without its end, by derivation, and its chance."""
    found: dict[bytes, float] = {}

    def expand(level: int, row: list[int], chance: float) -> None:
        if level == kind.depth:
            text = bytes(_known.FIRST + x for x in row)
            found[text] = found.get(text, 0.0) + chance
            return
        for rules in itertools.product(range(kind.rules), repeat=len(row)):
            p = math.prod(kind.chances[r] for r in rules)
            pairs = zip(row, rules, strict=True)
            below = [int(x) for s, r in pairs for x in kind.grammar[level, s, r]]
            expand(level + 1, below, chance * p)

    for root in range(kind.symbols):
        expand(0, [root], 1 / kind.symbols)
    return found


def lines(kind) -> dict[bytes, float]:
    """Every line of a parity source without its end, and its chance."""
    found = {}
    for bits in itertools.product((0, 1), repeat=kind.bits):
        for tasks in itertools.product(range(kind.tasks), repeat=kind.queries):
            text = "".join(map(str, bits))
            for task in tasks:
                answer = sum(bits[b] for b in kind.subsets[task]) % 2
                text += chr(parity.NAMES[task]) + str(answer)
            chance = math.prod(kind.chances[task] for task in tasks)
            found[text.encode()] = chance / 2**kind.bits
    return found


@pytest.mark.parametrize(
    ("name", "every"), [("hierarchy", sentences), ("parity", lines)]
)
def test_cut_lines_against_all_lines(name, every):
    """Windows that begin anywhere in a line: the sum over all that is not seen."""
    kind = source(name, **TINY[name])
    known = every(kind)
    assert sum(known.values()) == pytest.approx(1.0, rel=1e-12)
    width = kind.period - 1
    for text in list(known)[:: len(known) // 24]:
        for start in range(width):
            alike = (p for other, p in known.items() if other[start:] == text[start:])
            wanted = -math.log(sum(alike))
            found = total_nats(kind, text, start, width)
            assert found == pytest.approx(wanted, rel=1e-9)


def test_sentences_are_scored_alike_however_many_at_a_time(monkeypatch):
    kind = source("hierarchy", **TINY["hierarchy"])
    tokens, _, offset, _ = _known.windows(_known.block(kind, 0, 20), 7)
    whole = _known.oracle(kind, tokens, offset)
    monkeypatch.setattr(hierarchy, "MESSAGES", 1)
    assert (_known.oracle(kind, tokens, offset) == whole).all()


@pytest.mark.parametrize("name", KINDS)
def test_chances_of_the_next_token_add_up_to_one(name):
    kind = source(name, **TINY[name])
    texts = _known.block(kind, 0, 40)
    text = max(texts, key=len)
    for start, place in itertools.product((0, 4), range(4, min(len(text), 30))):
        before = np.frombuffer(text, np.uint8)[start:place]
        tokens = np.zeros((257, len(before) + 1), np.int64)
        tokens[:, :-1], tokens[:, -1] = before, np.arange(257)
        nats = _known.oracle(kind, tokens, np.full(257, start))
        assert np.exp(-nats[:, -1]).sum() == pytest.approx(1.0, rel=1e-9)


def test_a_long_sentence_does_not_underflow():
    kind = source("hierarchy", symbols=90, rules=90, depth=9, sentences=1)
    nats = total_nats(kind, _known.block(kind, 0, 1)[0], 0, 512)
    assert nats == pytest.approx(512 * math.log(90), rel=1e-9)  # all are as likely


# --- Entropy -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "length"),
    [("markov", 3), ("markov", 40), ("hierarchy", ALIGNED), ("parity", ALIGNED)],
)
def test_oracle_reaches_the_exact_entropy(name, length):
    kind = source(name, document=20) if name == "markov" else source(name)
    exact, se = kind.entropy(length)
    assert se == 0.0
    mean, se = _known.measured(kind, length, 1_024)
    assert 0 < se < 0.01 * exact
    assert abs(mean - exact) < 4 * se


def test_what_a_cut_line_costs():
    """The same text in windows that cut lines costs more, never less."""
    for name in ("hierarchy", "parity"):
        kind = source(name)
        cut, se = _known.measured(kind, CUTTING, 256)
        assert cut - 6 * se > kind.entropy(ALIGNED)[0]


def test_heavier_heads_of_the_tail_leave_less_entropy():
    exact = ("markov", "hierarchy", "parity")
    flat = [source(name, tail=0.0).entropy(ALIGNED)[0] for name in exact]
    steep = [source(name, tail=2.0).entropy(ALIGNED)[0] for name in exact]
    assert all(s < f - 0.1 for s, f in zip(steep, flat, strict=True))
    assert source("hmm", tail=2.0).shares[0] > 10 * source("hmm", tail=0.0).shares[0]


# --- As corpora --------------------------------------------------------------------


def test_documents_do_not_depend_on_who_makes_them():
    kind = source("hmm", tokens=30_000)
    here = list(_known.documents(kind))
    assert list(_known.documents(kind, children=2, size=7, alone=3_000)) == here


@pytest.mark.parametrize("name", KINDS)
def test_documents_do_not_depend_on_how_many_are_made_at_a_time(name):
    kind = source(name, tokens=30_000)
    here = list(_known.documents(kind))
    assert list(_known.documents(kind, size=7)) == here
    smaller = list(corpora.load(name).documents(tokens=10_000))
    assert smaller == here[: len(smaller)] and len(smaller) < len(here)
    sizes = [len(text) + 1 for _, text in smaller]
    assert sum(sizes[:-1]) < 10_000 <= sum(sizes)
    other = next(iter(corpora.load(name).documents(seed=1)))
    assert other[1] != here[0][1]


@pytest.mark.parametrize(
    ("name", "chosen", "said"),
    [
        ("markov", {"ordre": 2}, "did you mean 'order'"),
        ("markov", {"order": 9}, "0 to 5"),
        ("markov", {"tail": "heavy"}, "a number"),
        ("markov", {"order": 1.5}, "a whole number"),
        ("hmm", {"states": 0}, "1 to 256"),
        ("hierarchy", {"rules": 17}, "1 to 16"),
        ("parity", {"tasks": 500}, "1 to 92"),
        ("parity", {"tokens": 0}, "1 or more"),
    ],
)
def test_wrong_options_are_named(name, chosen, said):
    with pytest.raises(UserError, match=said):
        corpora.load(name).version(**chosen)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """An easy Markov source and the default of each other, prepared as always."""
    parts = [Part("markov", options=EASY)]
    parts += [Part(name, options=options(tokens=400_000)) for name in list(KINDS)[1:]]
    folder = tmp_path_factory.mktemp("known")
    return {p.name: p for p in parts}, corpora.prepare(parts, folder, progress=False)


EASY = options(order=1, symbols=6, document=64, tokens=600_000)


@pytest.mark.parametrize("name", KINDS)
def test_truth_of_the_windows_that_are_scored(prepared, name):
    parts, made = prepared
    held_out = EvaluationSet(name, (parts[name],), 16_384)
    found = _truth.of_set(held_out, of_length(ALIGNED), made)
    windows = evaluation_windows(parts[name], 16_384, ALIGNED, made)
    assert found.count == windows.count
    assert abs(found.loss - found.entropy) < 4 * math.hypot(found.se, found.entropy_se)
    assert found.se < 0.03 * found.entropy


@pytest.mark.parametrize("name", KINDS)
def test_true_chances_at_probes_are_the_oracle_s(prepared, name):
    """Of the token that stands there the oracle's; their weighted mean, the entropy."""
    parts, made = prepared
    length = CUTTING if name == "hierarchy" else ALIGNED
    probes = Probes("p", (parts[name],), 96, per_document=4)
    cut = _probes.cut(probes, length, made)
    logs = _truth.predictive(parts[name], cut)
    np.testing.assert_allclose(np.exp(logs).sum(1), 1.0, rtol=1e-6)
    oracle = corpora.load(name).oracle
    nats = oracle(cut.tokens, cut.offset, **dict(parts[name].options))
    rows = np.arange(96)
    np.testing.assert_allclose(-logs[rows, cut.target], nats[rows, cut.at], atol=1e-9)
    own = -logs[rows, cut.target] * cut.weight
    expected, _ = corpora.load(name).entropy(length, **dict(parts[name].options))
    assert abs(own.mean() - expected) < 4 * own.std() / 96**0.5


def test_an_oracle_whose_chances_do_not_add_up_is_refused(prepared, monkeypatch):
    parts, made = prepared
    cut = _probes.cut(Probes("p", (parts["markov"],), 8), ALIGNED, made)
    half = lambda tokens, offset, /, **options: np.full(tokens.shape, 7.0)
    monkeypatch.setattr(markov, "oracle", half)
    with pytest.raises(UserError, match=r"miss a sum of one by 0\.77"):
        _truth.predictive(parts["markov"], cut)


def test_tokens_that_the_text_lacks_have_their_chances_too(prepared):
    """A probe set whose training text is said to lack most symbols."""
    parts, made = prepared
    cut = _probes.cut(Probes("p", (parts["markov"],), 8), ALIGNED, made)
    unigram = np.full(257, 1e-9)
    unigram[_known.FIRST] = 0.5
    less = dataclasses.replace(cut, unigram=unigram)
    np.testing.assert_allclose(
        _truth.predictive(parts["markov"], less),
        _truth.predictive(parts["markov"], cut),
    )


def test_a_mixture_of_sets_is_weighted_and_real_text_has_no_truth(prepared, made):
    parts, built = prepared
    one, two = parts["hierarchy"], parts["parity"]
    both = (Part(one.name, 3.0, one.options), Part(two.name, 1.0, two.options))
    alone = [EvaluationSet("x", (part,), 4_096) for part in (one, two)]
    losses = [
        _truth.of_set(held_out, of_length(ALIGNED), built).loss for held_out in alone
    ]
    mixed = EvaluationSet("x", both, 4_096)
    found = _truth.of_set(mixed, of_length(ALIGNED), built)
    assert found.loss == pytest.approx(0.75 * losses[0] + 0.25 * losses[1])
    assert not _truth.known(EvaluationSet("x", (one, made.part)))


def test_counting_reaches_the_markov_source_at_its_order_and_not_below(prepared):
    """N-grams with counts plus one half; windows are scored as models are."""
    parts, made = prepared
    part = parts["markov"]
    corpus = made[part.key]
    held_out = evaluation_windows(part, 16_384, ALIGNED, made)
    nats, tokens = _truth.by_document(part, held_out)
    train_tokens = np.fromfile(corpus.folder / "train.tokens", "<u2").astype(np.int64)
    losses = []
    for order in (0, 1, 2):
        own = counted(train_tokens, held_out.tokens, order)
        own = np.bincount(held_out.document, (own * held_out.weight).sum(1))
        above, variance = corpora.ratio(own - nats, tokens)
        assert above > -4 * math.sqrt(variance)  # nothing beats the truth
        losses.append(above)
    # A window's first token is foreseen less well by those that look further back.
    assert losses[0] > 0.05 and losses[1] < 0.002 and losses[2] < 0.01


def counted(train_tokens, windows, order) -> np.ndarray:
    """float64 [n, length]: nats of an n-gram model of this order, separators first."""
    ids, train_tokens = np.unique(train_tokens, return_inverse=True)
    separator = len(ids) - 1
    span = np.concatenate([np.full(order, separator), train_tokens])
    grams = [span[i : i + len(train_tokens)] for i in range(order + 1)]
    joint = np.full((len(ids),) * (order + 1), 0.5)
    np.add.at(joint, tuple(grams), 1.0)
    chances = joint / joint.sum(-1, keepdims=True)
    front = np.full((len(windows), order), separator)
    row = np.concatenate([front, np.searchsorted(ids, windows)], 1)
    index = tuple(row[:, i : i + windows.shape[1]] for i in range(order + 1))
    return -np.log(chances[index])


def test_a_trained_model_comes_near_the_truth_and_does_not_beat_it(prepared, tmp_path):
    parts, made = prepared
    part = parts["markov"]
    held_out = EvaluationSet("markov", (part,), 8_192)
    run = Run(
        model=Model("transformer", 8_000),
        data=Data((part,), tokens=240 * 8 * 32),
        optimiser=Optimiser(1e-2),
        schedule=Schedule(warmup_tokens=20 * 256),
        batch=8,
        length=32,
        evaluation=(held_out,),
    )
    run_id = run.run_id({part.key: made[part.key].digest})
    store = Store(tmp_path)
    trainer.train(Pack((run,), (run_id,), Layout()), made, store, lambda event: None)
    path = store.path("artifacts", run_id, "nats.npz")
    own = np.load(path)[f"{part.key}:8192:nats"]
    windows = evaluation_windows(part, 8_192, 32, made)
    nats, tokens = _truth.by_document(part, windows)
    above, variance = corpora.ratio(own - nats, tokens)
    assert store.read(run_id).reading("markov").value == pytest.approx(
        above + _truth.of_set(held_out, run, made).loss, rel=1e-6
    )
    assert 4 * math.sqrt(variance) < above < 0.2


# --- In a study and its report -----------------------------------------------------

STUDY = """
from scaling.run import Data, EvaluationSet, Model, Optimiser, Probes, Run
from scaling.study import corpus, vary

def study(results):
    easy = corpus("parity", tokens=400_000)
    run = Run(
        model=Model("transformer", 8_000),
        data=Data(easy, 1024),
        optimiser=Optimiser(0.01),
        batch=4, length=66,
        evaluation=(EvaluationSet("own", easy, 8_192),),
        probes=(Probes("own", easy, 32, (0.5, 1.0)),),
    )
    yield from vary(run, {"length": (33, 66)})
"""


def test_a_study_keeps_the_truth_in_its_workdir(prepared, tmp_path, monkeypatch):
    parts, made = prepared
    folder = made[parts["parity"].key].folder.parents[1]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "support"))
    path = tmp_path / "little.py"
    path.write_text(STUDY)
    settings = Settings(str(folder), str(tmp_path), worker="fake_worker")
    chosen = study_plan.Options(str(path), str(tmp_path / "w"), settings)
    for _ in range(2):  # what is known already stays as it is
        assert commands.run(chosen, Progress(io.StringIO())) == 0
        body = Store(tmp_path / "w").studies()["little"]
        known = truths.facts([body, body])
        assert known.target.tolist() == ["own", "own"]
        assert known.length.tolist() == [33, 66]
    store = Store(tmp_path / "w")
    sets = [probe_file.read(store, digest) for digest in probe_file.digests(store)]
    assert sorted(made.facts["length"] for made in sets) == [33, 66]
    for found in sets:
        truth = probe_file.read_truth(store, found.digest)
        assert truth.shape == (32, 257) and truth.dtype == np.float32
    held_out = EvaluationSet("own", (parts["parity"],), 8_192)
    wanted = _truth.of_set(held_out, of_length(66), made)
    assert known.truth[1] == wanted.loss and known.entropy[1] == wanted.entropy


def test_score_and_truth_share_their_error():
    draw = np.random.default_rng(0)
    nats, tokens = draw.random(50), draw.integers(1, 9, 50).astype(float)
    part = evaluation.Score(nats, tokens, tokens)
    (loss, *_) = evaluation.TEXT
    assert corpora.ratio(nats, tokens) == part.mean(loss)
    assert part.loss == part.mean(loss)[0]
