"""Runs over pictures: bits, resume, packs, layouts, readings, of both objectives."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import pytest

from scaling import quantities, run_check
from scaling.corpora import _samples, prepare
from scaling.errors import UserError
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.record import substance
from scaling.run import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Part,
    Run,
    Samples,
    Schedule,
    options,
)
from scaling.store import Store
from scaling.training import mesh, samples, trainer

PART = Part("templates", options=options(size=4, count=4, pictures=700, labels=1))
FAMILY = {"next_token": "lstm", "denoise": "mixer"}
ALONE = Layout()
WORKDIRS = {}  # of records, by id


def run_of(objective, rate=3e-3, **changes):
    """24 steps of 16 pictures of 4 x 4."""
    run = Run(
        model=Model(FAMILY[objective], 8_000),
        data=Data((PART,), 24 * 16, unique_tokens=12 * 16),
        optimiser=Optimiser(rate),
        schedule=Schedule(warmup_tokens=4 * 16),
        batch=16,
        length=1,
        evaluation=(EvaluationSet("held out", (PART,), 24),),
        objective=objective,
        samples=(Samples("made", (PART,), 6, (0.5, 1.0), (0.4,), hidden=3),),
    )
    return dataclasses.replace(run, **changes)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare([PART], tmp_path_factory.mktemp("shapes"), progress=False)


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    """A function that trains runs as one pack; their records and curves."""

    def train(*runs, layout=ALONE, stopping=lambda: False, workdir=None):
        store = Store(workdir or tmp_path_factory.mktemp("runs"))
        digests = {key: made.digest for key, made in prepared.items()}
        ids = tuple(run.run_id(digests) for run in runs)
        pack = Pack(tuple(runs), ids, layout)
        trainer.train(pack, prepared, store, lambda event: None, stopping)
        records = [store.read(i) for i in ids if store.exists(i)]
        for record in records:
            WORKDIRS.setdefault(record.run_id, store.root)
        return [(record, curve(store, record)) for record in records]

    return train


def curve(store, record):
    found = next(a for a in record.artifacts if a.name == "loss_curve")
    return np.load(store.path(found.path))["loss"]


@pytest.fixture(scope="module")
def alone(trained):
    """The record and curve of each objective's run, trained alone."""
    return {name: trained(run_of(name))[0] for name in FAMILY}


@pytest.mark.parametrize("name", FAMILY)
def test_a_record_has_the_quantities_and_units_of_its_objective(name, alone):
    record, losses = alone[name]
    final = {r.quantity: r for r in record.readings if r.kind == "final"}
    wanted = quantities.DENOISE if name == "denoise" else quantities.SEQUENCE
    assert {n: r.unit for n, r in final.items()} == {q.name: q.unit for q in wanted}
    assert record.data_unit == "pictures" and record.tokens == 24 * 16
    assert record.epochs == 2.0 and len(losses) == 24 and record.status == "done"
    assert np.isfinite(losses).all()
    assert all(r.se > 0 for r in final.values())
    if name == "next_token":
        bits = final["loss"].value / math.log(2)
        assert final["bits_per_dim"].value == pytest.approx(bits)
        assert final["loss"].count == 24 * 16  # values; the label is not scored
        assert losses[-8:].mean() < losses[:8].mean()
    else:
        assert final["loss"].count == 24
        levels = [final[f"error_at_{s:g}"].value for s in quantities.LEVELS]
        assert levels == sorted(levels)  # more noise, larger errors


@pytest.mark.parametrize("name", FAMILY)
def test_a_resumed_run_ends_in_the_same_bits(name, alone, trained, tmp_path):
    run, calls = run_of(name), iter([False, True])
    assert trained(run, stopping=lambda: next(calls), workdir=tmp_path) == []
    ((record, losses),) = trained(run, workdir=tmp_path)
    np.testing.assert_array_equal(losses, alone[name][1])
    assert substance(record) == substance(alone[name][0])


@pytest.mark.parametrize("name", FAMILY)
def test_packed_and_spread_runs_are_as_alone(name, alone, trained):
    record, losses = alone[name]
    other = run_of(name, rate=1e-2)
    packed = trained(run_of(name), other, layout=Layout(run=2, width=2))
    np.testing.assert_allclose(packed[0][1], losses, rtol=1e-5)
    assert not np.allclose(packed[1][1], losses)
    assert packed[0][0].run_id == record.run_id
    ((spread, again),) = trained(run_of(name), layout=Layout(data=8))
    np.testing.assert_allclose(again, losses, rtol=1e-4)
    ((_, parts),) = trained(run_of(name), layout=Layout(accumulate=2))
    np.testing.assert_allclose(parts, losses, rtol=1e-4)
    for one, two in zip(record.readings, spread.readings, strict=True):
        assert one.value == pytest.approx(two.value, rel=1e-3)


def test_samples_are_kept_at_their_times(alone, prepared):
    record, _ = alone["denoise"]
    found = files(record)
    made = prepared[PART.key]
    cut = _samples.cut(run_of("denoise").samples[0], prepared)
    assert str(found.pop("made:digest")) == cut.digest
    assert found.pop("made:read").tolist() == [192, 0]  # there is no other half
    shapes = {name: (a.shape, a.dtype.name) for name, a in found.items()}
    made_of, seen_of = ((6, 4, 4, 1), "float16"), ((1, 6, 4, 4, 1), "float16")
    each = {"pictures": made_of, "denoised": seen_of}
    each |= {"near": ((6, 2), "float32"), "nearest": ((6, 4, 4, 1), "uint8")}
    wanted = {f"made:{at}:{k}": v for at in ("0.5", "1") for k, v in each.items()}
    wanted |= {f"made:{name}": a for name, a in HIDDEN.items()}
    for name in ("linear", "copies", "exact"):
        wanted |= {f"made:{name}": made_of, f"made:{name}_denoised": seen_of}
    assert shapes == wanted
    # After a few steps it denoises better than not at all, and says pixels over 255.
    shown = cut.rows[:, : made.images.size].reshape(6, 4, 4, 1) / 255.0
    noise = 0.4 * cut.seen / 0.5 * made.images.std
    error = ((found["made:1:denoised"][0] - shown) ** 2).mean()
    assert error < 0.7 * (noise**2).mean()
    assert (found["made:1:pictures"] != found["made:0.5:pictures"]).any()


HIDDEN = {
    "hidden": ((3, 2, 4, 1), "float16"),
    "hidden_numbers": ((3,), "int64"),
    "hidden_variance": ((3,), "float32"),
    "hidden_effective": ((3,), "float32"),
    "linear_hidden": ((3, 2, 4, 1), "float16"),
    "exact_hidden": ((3, 2, 4, 1), "float16"),
}


@pytest.mark.parametrize("name", FAMILY)
def test_what_is_expected_of_lower_halves_is_kept(name, alone, prepared):
    record, _ = alone[name]
    found = files(record)
    kept = {k.removeprefix("made:"): a for k, a in found.items() if "hidden" in k}
    assert kept["hidden_numbers"].tolist() == [0, 2, 4]
    assert ("hidden_effective" in kept) == (name == "denoise")
    for what, array in kept.items():
        assert (array.shape, array.dtype.name) == HIDDEN[what]
    assert (kept["hidden_variance"] > 0).all()
    # A model that is told the template expects it, and so does the truth.
    cut = _samples.cut(run_of(name).samples[0], prepared)
    lower = cut.rows[[0, 2, 4], 8:16].reshape(3, 2, 4, 1) / 255.0
    wrong = ((kept["exact_hidden"] - lower) ** 2).mean()
    assert wrong == pytest.approx((12 / 255) ** 2, rel=0.5)
    for what in ("hidden", "linear_hidden"):
        assert 0.5 * wrong < ((kept[what] - lower) ** 2).mean() < 0.1


def test_samples_of_sequences_are_levels_drawn_pixel_by_pixel(alone):
    record, _ = alone["next_token"]
    found = files(record)
    pictures = found["made:1:pictures"].astype(np.float64) * 255
    assert pictures.shape == (6, 4, 4, 1) and "made:1:denoised" not in found
    np.testing.assert_allclose(pictures, np.rint(pictures), atol=0.1)
    assert pictures.min() >= 0 and pictures.max() <= 255


def test_a_sequence_is_drawn_given_what_was_drawn_before(prepared):
    """A model that says the next level is one more than the last, from the label on."""
    run, made = run_of("next_token"), prepared[PART.key]

    def read(rows, at):
        last = np.take_along_axis(np.asarray(rows), np.asarray(at)[:, None] - 1, 1)[
            :, 0
        ]
        logs = np.full((len(rows), made.vocab), -np.inf, np.float32)
        logs[np.arange(len(rows)), (last + 1) % 256] = 0.0
        return None, jax.numpy.asarray(logs)

    sampler = samples.Sampler(prepared, mesh.windows(mesh.make(ALONE).mesh))
    cut = _samples.cut(run.samples[0], prepared)
    drawn = sampler._drawn(read, cut, made, run) * 255
    # Given the upper half a level is as sure: so are its means, without a spread.
    kept = sampler._hidden(run, run.samples[0], read, ())
    assert (kept["hidden_variance"] < 1e-12).all()
    follows = (cut.rows[[0, 2, 4], 7, None] + 1 + np.arange(8)) % 256
    np.testing.assert_allclose(255 * kept["hidden"].reshape(3, 8), follows, atol=0.1)
    label = cut.rows[:, -1]  # its id is 256 and more: the first pixel is that and one
    wanted = (label[:, None] + 1 + np.arange(16)) % 256
    np.testing.assert_allclose(drawn.reshape(6, 16), wanted, atol=1e-3)


def test_the_noises_are_the_same_for_every_corpus_of_the_shape(prepared, tmp_path):
    other = Part("gaussian_field", options=options(size=4, pictures=300))
    both = prepared | prepare([other], tmp_path, progress=False)
    few = _samples.cut(Samples("a", (PART,), count=4), both)
    many = _samples.cut(Samples("b", (other,), count=9), both)
    np.testing.assert_array_equal(few.noise, many.noise[:4])
    assert few.digest != many.digest
    with pytest.raises(UserError, match=r"samples.count 5000: gaussian_field"):
        _samples.cut(Samples("b", (other,), count=5_000), both)


def test_hidden_pictures_are_of_the_set_and_change_no_set_and_no_other_id(prepared):
    run = run_of("denoise")
    digests = {key: made.digest for key, made in prepared.items()}
    (asked,) = run.samples
    plain = dataclasses.replace(asked, hidden=0)
    default = Samples("made", (PART,), 6, (0.5, 1.0), (0.4,))
    ids = [
        run_of("denoise", samples=(one,)).run_id(digests)
        for one in (plain, default, asked)
    ]
    assert ids[0] == ids[1] != ids[2]
    many = dataclasses.replace(asked, hidden=7)
    with pytest.raises(UserError, match=r"samples.hidden 7: give 0 to 6"):
        run_check.check(run_of("denoise", samples=(many,)))


def files(record):
    """The arrays of a record's samples."""
    found = next(a for a in record.artifacts if a.name == "samples")
    with np.load(WORKDIRS[record.run_id] / found.path) as file:
        return {name: file[name] for name in file.files}


def test_every_family_and_rate_sees_the_same_noise_and_another_seed_does_not(
    alone, trained
):
    first = alone["denoise"][1][0]
    idle = run_of("denoise", rate=1e-6)
    again = trained(dataclasses.replace(idle, init_seed=1))[0][1]
    # Before it learns, a model's loss is that of the noise: about its weight.
    assert again[0] == pytest.approx(first, rel=0.2)
    seeded = dataclasses.replace(idle, data=dataclasses.replace(idle.data, seed=1))
    assert trained(seeded)[0][1][0] != again[0]
