"""Lower halves that models expect: planted twins, strangers, chance and bad files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.pictures.groups import ACROSS, ARCHITECTURE, HALVES, SEEDS
from analysis.pictures.halves import Halves
from analysis.questions import hidden_half
from analysis.questions._hidden_half_words import BOTH, error_text, pair_text
from analysis.results import Analysis
from tests.support.made_pictures import PLAN, Plan, answered, asked, planted

# The LSTM reads pixels in order; what it expects of lower halves is the U-Net's.
TWINS = Plan(
    families=("unet", "dit"),
    readers=("lstm",),
    same=(("unet", "lstm"),),
    noises=60,
    hidden=60,
)


@pytest.fixture(scope="module")
def frames():
    return planted()[1]


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    made = asked(TWINS, tmp_path_factory.mktemp("twins"))
    return answered(made, "hidden_half")[0]["hidden_halves"]


def of_pair(frame, kind, *families):
    frame = frame[(frame.kind == kind) & frame.baseline.isin(families)]
    return frame[frame.alternative.isin(families)]


@pytest.mark.parametrize("kind", [ARCHITECTURE, ACROSS])
def test_twins_of_two_objectives_agree_at_the_floor_and_others_below_it(kind, twins):
    same, other = (of_pair(twins, kind, f, "lstm") for f in ("unet", "dit"))
    assert len(same) == len(other) == 2 and set(same["of"]) == {BOTH}
    assert (same.excess.abs() < 0.25 * same.floor).all()
    assert (same.shortfall.abs() < 0.02).all()
    assert (other.excess > 1.5 * other.floor).all() and (other.shortfall > 0.02).all()
    assert (same.distance_low < same.distance).all()
    assert same.null.min() > 5 * other.distance.max() and (same.null_beyond < 0.3).all()
    assert set(same.floor_of) == {"halves" if kind == ACROSS else "seeds"}


def test_halves_that_began_with_the_same_weights_are_not_compared(tmp_path):
    plan = dataclasses.replace(TWINS, families=("unet",), half=0.0, start=0.4)
    made = asked(plan, tmp_path)
    frame = answered(made, "hidden_half")[0]["hidden_halves"]
    (row,) = of_pair(
        frame.assign(baseline="", alternative="")[frame.fixed == "unet"], HALVES, ""
    ).itertuples()
    ids = made.pictures.runs.run_id
    first, second = ([(i, 1.0) for i in ids if f"unet-{h}-" in i] for h in (1, 2))
    distance = Halves(made).apart.distance
    apart = [distance(first[k], second[1 - k])[0] for k in (0, 1)]
    assert row.distance == pytest.approx(np.mean(apart), abs=1e-12)
    alike = [distance(first[k], second[k])[0] for k in (0, 1)]
    assert max(alike) < min(apart)
    across = of_pair(frame, ACROSS, "unet", "lstm")
    assert (across.floor > 0.9 * np.mean(apart)).any()


def test_strangers_agree_on_what_is_linear_alone(tmp_path):
    plan = dataclasses.replace(TWINS, same=(), shared=0.0, half=0.0, family=1.0)
    frame = answered(asked(plan, tmp_path), "hidden_half")[0]["hidden_halves"]
    mine = of_pair(frame, ARCHITECTURE, "unet", "lstm")
    assert (mine.beyond_linear.abs() < 0.15).all() and (mine.shortfall > 0.7).all()
    assert (mine.distance < mine.null).all()


def test_the_numbers_are_those_of_a_plain_loop(frames):
    made, _, _ = planted()
    row = of_pair(frames["hidden_halves"], ARCHITECTURE, "dit", "lstm").iloc[0]
    runs = made.pictures.runs
    here = runs[(runs.corpus == row.fixed) & (runs.unique_tokens == row.unique_tokens)]
    numbers = np.arange(16) * 24 // 16
    real = made.pictures.real[numbers][:, 2:].reshape(16, -1)
    ratios = []
    for one in here.run_id[here.family == "dit"]:
        for two in here.run_id[here.family == "lstm"]:
            a, b = (made.pictures.read(i, "hidden").reshape(16, -1) for i in (one, two))
            apart = error = 0.0
            for i in range(16):
                apart += float(((a[i] - b[i]) ** 2).mean()) - 2 * PLAN.chance**2
                for x in (a, b):
                    far = float(((x[i] - real[i]) ** 2).mean()) - PLAN.chance**2
                    error += 0.5 * far
            ratios.append(apart / error)
    assert len(ratios) == 4 and row.distance == pytest.approx(np.mean(ratios), rel=1e-5)
    assert row.pictures == 16 and row.chance > 0


def test_chance_moves_neither_distances_nor_agreement(tmp_path):
    """Draws that are four times as noisy give the same, and wider intervals."""
    found = {}
    for chance in (0.005, 0.02):
        plan = dataclasses.replace(TWINS, chance=chance, noises=120, hidden=120)
        frame = answered(asked(plan, tmp_path / str(chance)), "hidden_half")[0]
        found[chance] = frame["hidden_halves"]
    few, many = found.values()
    assert (many.chance > 15 * few.chance).all()
    assert many.chance.mean() > 2 * few.distance.mean()
    for name in ("distance", "beyond_linear"):
        assert many[name].mean() == pytest.approx(few[name].mean(), rel=0.1)


def test_errors_stand_beside_the_linear_function_and_the_truth(frames):
    frame = frames["hidden_half_errors"]
    assert set(frame.family) == {*PLAN.families, *PLAN.readers}
    assert (frame.error_low < frame.error).all() and (frame.truth > 0).all()
    assert frame.effective.isna().tolist() == (frame.family == "lstm").tolist()
    row = frame.iloc[0].copy()
    said = {}
    for name, low, high in (("less", 0.5, 0.9), ("more", 1.1, 2), ("open", 0.9, 1.1)):
        row["over_linear_low"], row["over_linear_high"] = low, high
        said[name] = error_text(row)
    assert "errs less" in said["less"] and "errs more" in said["more"]
    assert "undetermined" in said["open"] and "from the truth" in said["open"]


def test_what_is_said_follows_from_the_intervals(frames):
    study = Analysis.of(title="made", unit="", targets=("held out",), **frames)
    lines = hidden_half.said(study.view)
    assert lines[0].startswith("Given the upper half of 16 held-out pictures")
    row = of_pair(frames["hidden_halves"], ARCHITECTURE, "dit", "lstm").iloc[0].copy()
    said = {}
    for name, low, high in (("more", 0.1, 0.2), ("no", -0.2, -0.1), ("open", -1, 1)):
        row["excess_low"], row["excess_high"] = low, high
        said[name] = pair_text(row)
    assert "more than the" in said["more"] and "no more than the" in said["no"]
    assert "whether that is more" in said["open"] and "other pictures" in said["open"]
    kinds = {HALVES, SEEDS, ARCHITECTURE, ACROSS}
    assert set(frames["hidden_halves"].kind) == kinds
    for drawing in hidden_half.QUESTION.figures.values():
        figure = Figure(layout="constrained")
        drawing.draw(figure, study, "held out")
        assert figure.axes


def test_runs_of_other_pictures_are_left_out_and_none_says_nothing(tmp_path):
    plan = dataclasses.replace(TWINS, seeds=1, noises=12, hidden=6, halves=(1,))
    made = asked(plan, tmp_path)
    source = made.pictures.source

    def other(run_id, name):
        array = source(run_id, name)
        moved = name == "hidden_numbers" and run_id.startswith("dit")
        return array + 1 if moved else array

    pictures = dataclasses.replace(made.pictures, source=other)
    frames, notes = answered(
        dataclasses.replace(made, pictures=pictures), "hidden_half"
    )
    assert set(frames["hidden_half_errors"].family) == {"unet", "lstm"}
    (note,) = notes
    assert "1 runs of shapes have lower halves of other pictures" in note.text
    gone = lambda i, name: None if "hidden" in name else source(i, name)
    pictures = dataclasses.replace(made.pictures, source=gone)
    frames, notes = answered(
        dataclasses.replace(made, pictures=pictures), "hidden_half"
    )
    assert not frames and not notes
    assert not len(Halves(dataclasses.replace(made, pictures=pictures)).numbers)
