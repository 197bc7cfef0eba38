"""Corpora of pictures: groups, halves, rows, streams, truth, and what goes wrong."""

from __future__ import annotations

import dataclasses
import math
from contextlib import nullcontext

import jax.numpy as jnp
import numpy as np
import pytest

from scaling import corpora, quantities, study
from scaling.corpora import TokenStream, _pictures, glyphs, prepare, scored_windows
from scaling.errors import UserError
from scaling.families import Tokens
from scaling.layout import Layout
from scaling.objective import make
from scaling.quantities import CAPTIONS
from scaling.run import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Part,
    Probes,
    Run,
    options,
)
from scaling.training import mesh, outcome

FONTS = ("DejaVuSansMono-BoldOblique.ttf", "STIXGeneral.ttf", "cmr10.ttf")


def rows(made, split):
    return np.fromfile(made.folder / f"{split}.tokens", "<u2").reshape(
        -1, made.images.row
    )


def index(made, split):
    return np.fromfile(made.folder / f"{split}.documents", corpora._tokens.DOCUMENT)


def run_of(part, objective="denoise", tokens=256, evaluation=(), **data):
    return Run(
        model=Model("lstm", 8_000),
        data=Data((part,), tokens, **data),
        optimiser=Optimiser(1e-3),
        batch=8,
        length=1,
        evaluation=evaluation or (EvaluationSet("seen", (part,), 20),),
        objective=objective,
    )


def few_fonts(patch):
    """Has glyphs drawn from three fonts alone."""
    all_fonts = glyphs._fonts()
    patch.setattr(glyphs, "_fonts", lambda: [f for f in all_fonts if f.name in FONTS])


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """Glyphs of three fonts, with captions."""
    part = Part("glyphs", options=options(size=8, captions=40))
    with pytest.MonkeyPatch.context() as patch:
        few_fonts(patch)
        return part, prepare([part], tmp_path_factory.mktemp("x"), progress=False)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Templates with labels."""
    part = Part("templates", options=options(pictures=600, labels=1, count=4))
    return part, prepare([part], tmp_path_factory.mktemp("shapes"), progress=False)


# Groups, halves and rows.


def test_a_group_is_held_out_whole_and_lies_in_one_half(letters):
    part, prepared = letters
    made = prepared[part.key]
    train, held_out = index(made, "train"), index(made, "held_out")
    assert not set(train["hash"]) & set(held_out["hash"])
    assert (held_out["hash"] < 0.05 * 2**64).all()
    sizes = np.diff(train["start"], append=made.train_tokens)
    assert sizes.max() == 2  # a character of two fonts
    numbers = [corpora._pictures.of_half(made, half) for half in (1, 2)]
    assert sorted(np.concatenate(numbers)) == list(range(made.train_tokens))
    assert [len(n) for n in numbers] == list(made.halves)
    groups = np.repeat(train["hash"], sizes)
    assert not set(groups[numbers[0]]) & set(groups[numbers[1]])
    assert made.halves[0] == pytest.approx(made.halves[1], rel=0.1)


def test_a_character_is_one_group_in_all_fonts_but_symbols(monkeypatch):
    assert len(glyphs._fonts()) > 30
    assert not any(path.name.startswith("LastResort") for path in glyphs._fonts())
    few_fonts(monkeypatch)
    by = {p.key: p for p in glyphs.pictures(size=16, captions=60)}
    assert by["DejaVuSansMono-BoldOblique/0041"].group == "0041"
    assert by["STIXGeneral/0041"].group == "0041"
    assert by["cmr10/0041"].group == "cmr10/0041" and by["cmr10/0041"].caption == b""
    bold = by["DejaVuSansMono-BoldOblique/0061"].caption
    assert bold == b"mono bold oblique: latin small letter a"
    assert by["STIXGeneral/0061"].caption == b"times: latin small letter a"
    with pytest.raises(UserError, match="size 9: glyphs have 8, 12, 16, 32, 64 pixels"):
        glyphs.version(size=9)


def test_constants_are_those_of_the_whole_set(letters):
    part, prepared = letters
    made = prepared[part.key]
    both = np.concatenate([rows(made, split) for split in ("train", "held_out")])
    pixels = both[:, :64] / 255.0
    assert made.images.mean == pytest.approx(pixels.mean(), abs=1e-12)
    assert made.images.std == pytest.approx(pixels.std(), abs=1e-12)
    assert len(np.unique(both[:, :64], axis=0)) == len(both)  # distinct


def test_rows_as_pictures_and_as_sequences(letters, shapes):
    part, prepared = letters
    made = prepared[part.key]
    assert made.images.row == 64 + 40
    some = rows(made, "train")[:50].astype(np.int32)
    as_pictures = corpora._pictures.arranged(some, made, made.spec(run_of(part)))
    np.testing.assert_array_equal(as_pictures, some)
    spec = made.spec(run_of(part, "next_token"))
    assert spec == Tokens(256 + 256 + 1, 104, prefix=40)
    sequence = corpora._pictures.arranged(some, made, spec)
    np.testing.assert_array_equal(sequence[:, 40:], some[:, :64])
    caption = sequence[0, :40]
    assert ((caption >= 256) & (caption <= made.separator)).all()
    read = bytes((caption[caption < made.separator] - 256).astype(np.uint8))
    assert read == bytes(some[0, 64:][some[0, 64:] < 256].astype(np.uint8))
    part, prepared = shapes
    spec = prepared[part.key].spec(run_of(part, "next_token"))
    assert spec == Tokens(256 + 4 + 1, 65, prefix=1)
    some = rows(prepared[part.key], "train")[:50].astype(np.int32)
    sequence = corpora._pictures.arranged(some, prepared[part.key], spec)
    np.testing.assert_array_equal(sequence[:, 0], some[:, 64] + 256)


def test_levels_are_equal_stretches_of_pixels(tmp_path):
    part = Part("gaussian_field", options=options(pictures=200))
    fine = prepare([part], tmp_path, progress=False)[part.key]
    made = prepare([part], tmp_path, "levels:16", progress=False)[part.key]
    np.testing.assert_array_equal(rows(made, "train"), rows(fine, "train") // 16)
    assert (fine.vocab, made.vocab) == (257, 17) and fine.digest != made.digest
    for wrong in ("levels:7", "sentencepiece:500", "words"):
        with pytest.raises(UserError, match=r"data.tokenizer .*: of pictures it is"):
            prepare([part], tmp_path, wrong, progress=False)


# What runs read.


def test_smaller_budgets_are_prefixes_and_epochs_permute(shapes):
    part, prepared = shapes
    large = TokenStream(run_of(part, tokens=512), prepared)
    small = TokenStream(run_of(part, tokens=512, unique_tokens=64), prepared)
    assert large.batch(0).shape == (8, 65)
    np.testing.assert_array_equal(large.batches(0, 8), small.batches(0, 8))
    first = {row.tobytes() for row in small.batches(0, 8).reshape(64, 65)}
    again = small.batches(8, 16).reshape(64, 65)
    assert {row.tobytes() for row in again} == first
    assert (again != small.batches(0, 8).reshape(64, 65)).any()
    other = TokenStream(run_of(part, tokens=512, seed=1), prepared)
    assert (other.batches(0, 8) != large.batches(0, 8)).any()


def test_a_half_gives_its_own_pictures_alone(shapes):
    part, prepared = shapes
    made = prepared[part.key]
    read = {}
    for half in (1, 2):
        whole = made.halves[half - 1] // 8 * 8
        stream = TokenStream(run_of(part, tokens=whole, half=half), prepared)
        batches = stream.batches(0, whole // 8).reshape(whole, -1)
        read[half] = {row.tobytes() for row in batches}
        assert len(read[half]) == whole
        too_many = run_of(part, tokens=whole + 80, half=half)
        with pytest.raises(UserError, match=f"data.tokens {whole + 80}: .*half {half}"):
            study.check_budgets([too_many], prepared)
        with pytest.raises(UserError, match=f"has {whole:,} training pictures in whol"):
            TokenStream(too_many, prepared)
    assert not read[1] & read[2]


def test_held_out_pictures_are_whole_groups_and_never_move(letters):
    part, prepared = letters
    made = prepared[part.key]
    for objective in ("denoise", "next_token"):
        run = run_of(part, objective)
        cut = scored_windows(part, 40, run, prepared)
        half = dataclasses.replace(run.data, half=1, seed=3)
        moved = scored_windows(part, 40, dataclasses.replace(run, data=half), prepared)
        np.testing.assert_array_equal(cut.tokens, moved.tokens)
        assert 32 <= len(cut.tokens) <= 40
        counts = np.bincount(cut.document)
        np.testing.assert_array_equal(cut.bytes, 64 * counts)
        sizes = np.diff(index(made, "held_out")["start"], append=made.held_out_tokens)
        assert counts.max() == sizes.max() == 2
        each = 1 if objective == "denoise" else 64  # the caption is not scored
        assert cut.count == each * len(cut.tokens)
    with pytest.raises(UserError, match=r"evaluation.tokens 90000: .* pictures in"):
        scored_windows(part, 90_000, run_of(part), prepared)


# Captions.


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Glyphs of three fonts for a study of captions: each way of holding some out."""
    both = [
        Part("glyphs", options=options(size=8, captions=40, new=new))
        for new in ("combinations", "characters")
    ]
    with pytest.MonkeyPatch.context() as patch:
        few_fonts(patch)
        return both, prepare(both, tmp_path_factory.mktemp("told"), progress=False)


def test_new_combinations_are_of_known_characters_and_new_characters_are_not(told):
    both, prepared = told
    combinations, characters = (prepared[part.key] for part in both)
    assert combinations.images == characters.images
    np.testing.assert_array_equal(
        *(rows(m, "train") for m in (combinations, characters))
    )
    known = set(index(combinations, "train")["hash"])
    new = index(characters, "held_out")["hash"]
    assert len(new) and not known & set(new)
    again = index(combinations, "held_out")["hash"]
    assert len(again) and set(again) <= known
    assert (rows(combinations, "held_out")[:, 64] != 256).all()  # all have captions
    run = run_of(
        both[0], evaluation=tuple(EvaluationSet(p.key, (p,), 20) for p in both)
    )
    study.validate([run])
    corpora.check_alike(run, prepared)
    for times, fits in ((1.0 + 1e-15, True), (1.01, False)):
        images = characters.images._replace(mean=times * characters.images.mean)
        assert images != characters.images
        moved = {both[1].key: dataclasses.replace(characters, images=images)}
        with nullcontext() if fits else pytest.raises(UserError, match=r"mean is 0\.1"):
            corpora.check_alike(run, prepared | moved)
    with pytest.raises(UserError, match="new 'combos': did you mean 'combinations'"):
        glyphs.version(new="combos")


@pytest.mark.parametrize("objective", ["denoise", "next_token"])
def test_captions_are_withheld_and_exchanged_alone(told, objective):
    (part, _), prepared = told
    made, spec = prepared[part.key], prepared[part.key].spec(run_of(part, objective))
    cut = scored_windows(part, 40, run_of(part, objective), prepared).tokens
    none, wrong = (_pictures.retold(cut, made, spec, how) for how in CAPTIONS)
    start = 0 if objective == "next_token" else 64
    captions = slice(start, start + 40)
    others = np.delete(np.arange(spec.row), np.r_[captions])
    for changed in (none, wrong):
        np.testing.assert_array_equal(changed[:, others], cut[:, others])
    nothing = made.separator if objective == "next_token" else 256
    assert (none[:, captions] == nothing).all()
    assert (wrong[:, captions] != cut[:, captions]).any(1).all()
    assert {*map(bytes, wrong[:, captions])} == {*map(bytes, cut[:, captions])}
    run = run_of(
        part, objective, 2048, unique_tokens=1024, half=1, caption_dropout=0.25
    )
    read = TokenStream(run, prepared).batches(0, 256).reshape(2048, -1)
    full = (
        TokenStream(
            dataclasses.replace(
                run, data=dataclasses.replace(run.data, caption_dropout=0.0)
            ),
            prepared,
        )
        .batches(0, 256)
        .reshape(2048, -1)
    )
    gone = (read[:, captions] == nothing).all(1)
    assert 0.2 < gone.mean() < 0.3 and gone[:1024].sum() != gone[1024:].sum()
    np.testing.assert_array_equal(read[~gone], full[~gone])
    np.testing.assert_array_equal(read[:, others], full[:, others])


@pytest.mark.parametrize("objective", ["denoise", "next_token"])
def test_a_set_with_captions_is_read_with_the_right_none_and_a_wrong_one(
    told, objective
):
    (part, _), prepared = told
    run = run_of(part, objective)
    images = prepared[part.key].images
    spec = prepared[part.key].spec(run)
    columns = make(objective, spec).columns

    def read(rows, at):
        """As large as the first byte of the caption."""
        told = rows[:, :1] if objective == "next_token" else rows[:, images.size :]
        told = jnp.where(told == prepared[part.key].separator, 256, told)[:, :1]
        shape = len(rows), len(columns) or spec.row
        return jnp.broadcast_to(told, shape), None

    one = mesh.make(Layout()).mesh
    (score,) = outcome.Scorer(prepared, mesh.windows(one), columns)(run, read).values()
    known = {q.name: q for q in quantities.of(spec, True, True)}
    right, none, wrong = (
        score.mean(known[name])[0]
        for name in ("loss", "loss_no_caption", "loss_wrong_caption")
    )
    assert none == pytest.approx(256) != right
    # All captions of the set are there once more, at other pictures.
    assert wrong == pytest.approx(right)
    assert {known[n].unit for n in known if n.startswith("loss")} == {
        known["loss"].unit
    }
    assert len(known) == 2 + len(quantities.of(spec, True))


# Known truth.


def test_a_gaussian_field_has_the_moments_and_the_entropy_it_states():
    module = corpora.load("gaussian_field")
    chosen = {"size": 4, "pictures": 20_000, "exponent": 2.0}
    drawn = [p.pixels.reshape(-1) / 255.0 for p in module.pictures(**chosen)]
    mean, covariance = module.moments(**chosen)
    error = np.cov(np.array(drawn).T) - covariance
    assert np.abs(np.mean(drawn, 0) - mean).max() < 5 * (32 / 255) / np.sqrt(20_000)
    assert np.abs(error).max() < 5 * (32 / 255) ** 2 * np.sqrt(2 / 20_000)
    _, logarithm = np.linalg.slogdet(covariance * 255.0**2)
    bits = 0.5 * (np.log2(2 * np.pi * np.e) + logarithm / np.log(2) / 16)
    assert module.bits_per_dimension(**chosen) == pytest.approx(bits, abs=1e-9)
    # Independent pixels: the entropy of one rounded normal, added up exactly.
    edges = (np.arange(257) - 128.5) / 32.0
    chance = np.diff([0.5 * (1 + math.erf(e / np.sqrt(2))) for e in edges])
    exact = -(chance * np.log2(chance)).sum()
    said = module.bits_per_dimension(size=4, exponent=0.0)
    assert said == pytest.approx(exact, abs=2e-3)


def test_templates_are_what_noise_is_added_to():
    module = corpora.load("templates")
    chosen = {"count": 3, "labels": 1, "pictures": 3_000, "noise": 8.0}
    drawn = list(module.pictures(**chosen))
    parts, variance = module.parts(**chosen)
    pixels = np.array([p.pixels.reshape(-1) / 255.0 for p in drawn])
    left = pixels - parts[[p.label for p in drawn]]
    assert left.var() == pytest.approx(variance, rel=0.01)
    assert abs(left.mean()) < 1e-3


# A user's own pictures.


# Runs that do not go with what their corpora hold.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"length": 8}, "length 8: budgets of templates count pictures: give length=1"),
        ({"tokenizer": "levels:16"}, "denoise reads pixels as they are: give bytes"),
        ({"tokenizer": "levels:5"}, "levels:N of 2, 4"),
        ({"quality": "truncation", "quality_level": 0.5}, "truncation': damages text"),
        ({"half": 3}, "data.half 3: give 1 or 2, or 0 for all"),
        ({"caption_dropout": 1.0}, "captions that are left out: 0 or more, below 1"),
        (
            {"probes": (Probes("p", (Part("templates"),)),)},
            "lie in text, and templ",
        ),
        (
            {"evaluation": (EvaluationSet("kjv", (Part("kjv"),)),)},
            "on one kind: kjv is text, templates is pictures",
        ),
    ],
)
def test_fields_that_pictures_do_not_have_are_refused(changes, says):
    run = run_of(Part("templates"))
    fields = {f.name for f in dataclasses.fields(Data)}
    data = {k: v for k, v in changes.items() if k in fields}
    rest = {k: v for k, v in changes.items() if k not in fields}
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, **data), **rest)
    with pytest.raises(UserError, match=says):
        study.validate([run])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"half": 1}, "data.half 1: only pictures have halves, and kjv is text"),
        ({"tokenizer": "levels:16"}, "cuts pixels, and kjv is text: give bytes"),
        ({"caption_dropout": 0.1}, "leaves out captions of pictures, and kjv is text"),
    ],
)
def test_fields_that_text_does_not_have_are_refused(changes, says):
    run = run_of(Part("kjv"), "next_token")
    data = dataclasses.replace(run.data, tokens=64, **changes)
    run = dataclasses.replace(run, data=data, length=8)
    with pytest.raises(UserError, match=says):
        study.validate([run])
    text = run_of(Part("kjv"))
    data = dataclasses.replace(text.data, tokens=64)
    text = dataclasses.replace(text, data=data, length=8)
    with pytest.raises(UserError, match="denoise reads pictures, and kjv is text"):
        study.validate([text])


def test_pictures_of_one_run_are_alike(shapes, tmp_path):
    part, prepared = shapes
    other = Part("templates", options=options(pictures=100, size=4))
    both = prepared | prepare([other], tmp_path, progress=False)
    run = run_of(part)
    run = dataclasses.replace(run, evaluation=(EvaluationSet("x", (other,), 5),))
    with pytest.raises(UserError, match=r"alike: height is 8 in .* and 4 in templates"):
        TokenStream(run, both)
