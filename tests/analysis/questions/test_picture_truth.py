"""Distances from the exact denoiser, and the two objectives, as they were planted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.questions import autoregression_diffusion, picture_truth
from analysis.results import Analysis
from tests.support.made_pictures import PLAN, Plan, answered, asked, planted

QUESTION = "autoregression_diffusion"


@pytest.fixture(scope="module")
def frames():
    return planted()[1]


@pytest.fixture(scope="module")
def study(frames):
    return Analysis.of(title="made", unit="", targets=("held out",), **frames)


def test_the_distance_is_that_of_a_plain_loop(frames):
    made, _, _ = planted()
    frame = frames["picture_truth"]
    row = frame[(frame.family == "dit") & (frame.sigma == 0.8)].iloc[-1]
    mine = made.pictures.runs
    mine = mine[(mine.family == "dit") & (mine.corpus == row.corpus)]
    mine = mine[mine.unique_tokens == row.unique_tokens]
    assert len(mine) == row.seeds == 2
    real = made.pictures.real
    far = least = 0.0
    for run in mine.run_id:
        said = made.pictures.read(run, "denoised", 1.0)[1]
        exact = made.pictures.read(run, "exact_denoised")[1]
        for i in range(len(real)):
            far += float(((said[i] - exact[i]) ** 2).sum())
            least += float(((exact[i] - real[i]) ** 2).sum())
    assert row.excess == pytest.approx(far / least, rel=1e-9)
    assert row.low < row.excess < row.high < row.linear


def test_errors_add_up_and_the_distance_falls_with_data(frames):
    frame = frames["picture_truth"]
    assert frame.holds.astype(bool).mean() > 0.7
    assert len(frame) == 4 * 2 * 2 * 2  # families, halves, amounts of data, levels
    trends = frames["picture_truth_trends"]
    assert set(trends.axis) == {"data"} and (trends.change < 0.02).all()
    assert trends.refused.str.contains("2 points").all()


@pytest.mark.parametrize(("family", "zero"), [(0.0, True), (0.6, False)])
def test_a_floor_of_zero_is_told_from_another(tmp_path, family, zero):
    plan = Plan(
        families=("unet",),
        halves=(1,),
        unique=(64, 128, 256, 512, 1024, 4096, 16384),
        budgets=(65_536,),
        family=family,
        half=1.0,
        seed=0.02,
        seeds=4,
        noises=60,
        rate=1.0,
    )
    made = asked(plan, tmp_path, 100)
    trends = answered(made, "picture_truth")[0]["picture_truth_trends"]
    assert (trends.refused == "").all() and len(trends) == 2
    # Seeds scatter in any case, by a thousandth of what halves do at first.
    assert ((trends.low < 0.002) == zero).all() and (trends.low <= trends.floor).all()
    known = Analysis.of(title="", unit="", targets=("a",), picture_truth_trends=trends)
    words = [
        picture_truth.trend_text(r) for r in known.picture_truth_trends.itertuples()
    ]
    assert all("it tends to" in text for text in words)


def test_without_a_truth_nothing_is_said(tmp_path):
    plan = dataclasses.replace(Plan(), bare=True, noises=6, families=("unet",), seeds=1)
    frames, notes = answered(asked(plan, tmp_path), "picture_truth")
    assert all(frame.empty for frame in frames.values()) and not notes


# --- Two objectives ------------------------------------------------------------------


def test_bits_and_kinds_are_compared_at_one_place(frames):
    made, _, _ = planted()
    frame = frames["two_objectives"]
    assert len(frame) == len(PLAN.families) * 2 * 2  # halves, amounts of data
    row = frame.iloc[0]
    runs = made.pictures.runs
    runs = runs[(runs.corpus == row.corpus) & (runs.unique_tokens == row.unique_tokens)]
    for family, name in ((row.denoiser, "upper_bound"), (row.reader, "exact")):
        mine = runs.bits[runs.family == family]
        assert len(mine) == 2 and row[name] == pytest.approx(mine.mean())
    assert row.bound_less_exact == pytest.approx(row.upper_bound - row.exact)
    se = np.hypot(
        *(
            np.hypot(0.01, runs.bits[runs.family == f].sem())
            for f in (row.denoiser, row.reader)
        )
    )
    assert row.bound_less_exact_high - row.bound_less_exact == pytest.approx(
        1.96 * se, rel=1e-3
    )
    # Real pictures against each other are at chance, with as many as the samples have.
    assert (frame.real_real_low < 0.5).all() and (frame.real_real_high > 0.5).all()
    assert (frame.pictures == made.pictures.count // 2).all()


def test_bits_stand_beside_those_of_the_true_chances(tmp_path):
    plan = Plan(
        readers=("lstm",), halves=(1,), seeds=1, noises=8, unique=(64, 4096), rate=0.1
    )
    made = asked(plan, tmp_path)
    assert answered(made, QUESTION)[0]["two_objectives"].true_bits.isna().all()
    scored = made.pictures.runs.scored.iloc[0]
    known = dataclasses.replace(made.pictures, truth={scored: 1.2345, "other": 1.0})
    frames, _ = answered(dataclasses.replace(made, pictures=known), QUESTION)
    frame = frames["two_objectives"]
    assert (frame.true_bits == 1.2345).all() and len(frame) == 4
    text = autoregression_diffusion.truth_text(frame)
    last = frame[frame.unique_tokens == 4096]
    bounds = {row.denoiser: f"{row.upper_bound:.3f}" for row in last.itertuples()}
    assert f"{text.split(' need ')[1].split()[0]}" == "1.234"
    assert f"exactly lstm {last.exact.iloc[0]:.3f}; " in text
    assert f"dit {bounds['dit']} and unet {bounds['unet']}." in text
    assert "After 16.4k pictures, 4.1k of them different" in text


def test_samples_of_another_spread_are_told_from_real_ones(tmp_path):
    plan = dataclasses.replace(
        Plan(), families=("unet",), readers=("lstm",), seeds=1, halves=(1,), noises=64
    )
    apart = {}
    for wide in (1.0, 2.0):
        mine = dataclasses.replace(plan, wide=wide)
        made = asked(mine, tmp_path / str(wide))
        apart[wide] = answered(made, "autoregression_diffusion")[0][
            "two_objectives"
        ].iloc[0]
    assert apart[1.0].reader_real_low < 0.6 and apart[2.0].reader_real_low > 0.6
    text = autoregression_diffusion.apart_text(apart[2.0])
    assert (
        "of those of the model of pixels" in text
        and "held-out pictures from each other" in text
    )


def test_unequal_models_are_not_set_beside_each_other(tmp_path):
    plan = Plan(families=("unet",), readers=("lstm",), seeds=1, halves=(1,), noises=8)
    made = asked(plan, tmp_path)
    runs = made.pictures.runs.assign(
        params=np.where(made.pictures.runs.family == "lstm", 20_000.0, 8_000.0)
    )
    larger = dataclasses.replace(made.pictures, runs=runs)
    frames, notes = answered(
        dataclasses.replace(made, pictures=larger), "autoregression_diffusion"
    )
    assert frames["two_objectives"].empty
    (note,) = notes
    assert "within a factor of 1.3" in note.text and "\n" not in note.text
    # Bits per dimension of one evaluation set are not those of another.
    runs = made.pictures.runs
    other = runs.assign(scored=runs.scored.where(runs.family == "unet", "others"))
    moved = dataclasses.replace(made.pictures, runs=other)
    frames, _ = answered(
        dataclasses.replace(made, pictures=moved), "autoregression_diffusion"
    )
    assert frames["two_objectives"].empty
    frames, _ = answered(made, "autoregression_diffusion")
    assert len(frames["two_objectives"]) == 1
    # Nor are those of 16 levels those of 256; the samples are compared all the same.
    reads = runs.objective == "next_token"
    own, few = (
        dataclasses.replace(made.pictures, runs=runs[which], levels=levels)
        for which, levels in ((~reads, 256), (reads, 16))
    )
    frames, _ = answered(
        dataclasses.replace(made, pictures=own, others=(few,)),
        "autoregression_diffusion",
    )
    (row,) = frames["two_objectives"].itertuples()
    assert np.isnan(row.bound_less_exact) and row.apart > 0
    assert "not compared" in autoregression_diffusion.bits_text(row)


def test_what_a_bound_can_say_follows_from_where_it_lies(study):
    row = study.two_objectives.iloc[0].copy()
    said = {}
    for name, low, high in (("below", -2, -1), ("above", 1, 2), ("open", -1, 1)):
        row["bound_less_exact_low"], row["bound_less_exact_high"] = low, high
        said[name] = autoregression_diffusion.bits_text(row)
    assert "so the denoiser's bits are fewer" in said["below"]
    assert "is not known" in said["above"] and "undetermined" in said["open"]
    lines = autoregression_diffusion.said(study.view)
    assert "have nothing to do with" in lines[0]
