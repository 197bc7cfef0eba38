"""Planted twins agree at the floor, strangers at the null, and copies are found."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import schema
from analysis.pictures.agreement import BEYOND
from analysis.pictures.groups import ACROSS, ARCHITECTURE, HALVES, SEEDS
from analysis.questions import (
    _picture_steps,
    _quantities,
    memorisation,
    same_picture,
    score_distance,
)
from analysis.questions._same_picture_words import pair_text, plain_text, trend_text
from analysis.report.style import Nothing
from analysis.results import Analysis
from tests.support.made_pictures import PLAN, Plan, answered, asked, planted

SMALL = Plan(families=("unet", "dit"), noises=12)


@pytest.fixture(scope="module")
def frames():
    return planted()[1]


@pytest.fixture(scope="module")
def study(frames):
    return Analysis.of(
        title="made", unit="weighed squared error", targets=("held out",), **frames
    )


def reported(frames, kind, *families):
    frame = frames["same_pictures"]
    frame = frame[frame.reported.astype(bool) & (frame.kind == kind)]
    if kind == HALVES:
        return frame[frame.fixed.isin(families)]
    return frame[frame.baseline.isin(families) & frame.alternative.isin(families)]


@pytest.mark.parametrize("kind", [ARCHITECTURE, ACROSS])
def test_twins_agree_at_the_floor_and_others_below_it(kind, frames):
    twins = reported(frames, kind, "twin", "unet")
    others = reported(frames, kind, "dit", "unet")
    assert len(twins) == 2 and len(others) == 2
    assert (twins.shortfall_low < 0.01).all() and (twins.shortfall.abs() < 0.02).all()
    # Two seeds make wide intervals: Student's t of two degrees of freedom.
    assert (others.shortfall_low > 0).any() and (others.shortfall > 0.04).all()
    assert set(others.floor_of) == {"halves" if kind == ACROSS else "seeds"}
    assert (others.null_high < others.beyond_linear_low).all()


def test_the_numbers_are_those_of_a_plain_loop(frames):
    made, _, _ = planted()
    row = reported(frames, ARCHITECTURE, "dit", "unet").iloc[0]
    runs = {
        family: [i for i in made.pictures.runs.run_id if i.startswith(f"{family}-1-")]
        for family in ("dit", "unet")
    }
    runs = {f: [i for i in ids if "-4096-" in i] for f, ids in runs.items()}

    def beyond(one, two):
        x, y, a, b = (
            made.pictures.read(*of).reshape(24, -1)
            for of in (
                (one, "pictures", 1.0),
                (two, "pictures", 1.0),
                (one, "linear"),
                (two, "linear"),
            )
        )
        x, y, a, b = (s - s.mean(axis=0) for s in (x, y, a, b))
        given = np.stack([a.ravel(), b.ravel()], axis=1)
        x, y = (
            s.ravel() - given @ np.linalg.lstsq(given, s.ravel(), rcond=None)[0]
            for s in (x, y)
        )
        return x @ y / np.sqrt((x @ x) * (y @ y))

    across = np.mean([beyond(a, b) for a in runs["dit"] for b in runs["unet"]])
    floor = np.mean([beyond(*ids) for ids in runs.values()])
    assert row.beyond_linear == pytest.approx(across, abs=1e-6)
    assert row.floor == pytest.approx(floor, abs=1e-6)
    assert row.shortfall == pytest.approx(floor - across, abs=1e-6)


def test_halves_come_nearer_with_data_and_copies_have_nothing_in_common(frames):
    trends = frames["same_picture_trends"]
    mine = trends[(trends.kind == HALVES) & (trends.axis == "data")]
    assert set(mine.fixed) == {*PLAN.families}
    grown = mine[mine.fixed != "copier"]
    assert (grown.change > 0.02).all() and (grown.closed > 0.02).all()
    assert (grown.change_high > grown.change).all()
    copies = reported(frames, HALVES, "copier").iloc[0]
    assert copies.beyond_linear == pytest.approx(copies.copies, abs=1e-9)
    assert abs(copies.beyond_linear) < 0.2 < copies.shortfall_low


def test_strangers_are_at_the_null(tmp_path):
    plan = dataclasses.replace(SMALL, shared=0.0, half=0.0, linear=0.1, own=0.0)
    rows = answered(asked(plan, tmp_path), "same_picture")[0]
    mine = reported(rows, ARCHITECTURE, "dit", "unet")
    assert (mine.beyond_linear.abs() < 0.15).all()
    assert (mine.beyond_linear_low < mine.null_high).all()
    # As they are they correlate all the same: the linear part does that.
    assert (mine.correlation > 0.7).all()


def test_scores_of_twins_are_as_far_apart_as_seeds(frames):
    frame = frames["score_distances"]
    frame = frame[frame.reported.astype(bool) & (frame.kind == ARCHITECTURE)]
    pairs = frame.baseline + frame.alternative
    assert (frame[pairs == "twinunet"].excess_low < 0.01).all()
    assert (frame[pairs == "ditunet"].excess_low > 0).all()
    assert set(frame.sigma) == {0.1, 0.8} and (frame.linear > 1).all()
    assert not frame.duplicated(["baseline", "alternative", "fixed", "sigma"]).any()


def test_copies_are_found_and_the_other_half_is_not(frames):
    frame = frames["memorisation"]
    copier = frame[frame.family == "copier"]
    assert (copier.copied == 1).all() and (copier.copied_other == 0).all()
    assert (copier.nearer == 1).all()
    others = frame[frame.family != "copier"]
    assert (others.copied == 0).all() and (others.nearer == 0.5).all()
    # None of 24 noises does not say that none would; nor do all that all would.
    assert (others.copied_high > 0.1).all() and (copier.copied_low < 0.9).all()
    near = np.array([[0.1, 0.2], [0.1, 0.31], [0.0, 0.5], [np.nan, 1.0]])
    np.testing.assert_array_equal(memorisation.copied(near), [0, 1, 1, np.nan])


def test_runs_that_began_with_the_same_weights_are_not_set_against_seeds(tmp_path):
    plan = dataclasses.replace(SMALL, families=("unet",), half=0.0, start=0.4)
    made = asked(plan, tmp_path / "two")
    rows = answered(made, "same_picture")[0]
    halves, seeds = (
        reported(rows, HALVES, "unet").iloc[0],
        reported(rows, SEEDS, "unet"),
    )
    assert halves.started and abs(halves.shortfall) < 0.02
    assert halves.beyond_linear == pytest.approx(seeds.beyond_linear.mean(), abs=0.02)
    # By hand: the two pairs of other weights, of four.
    f, g = (made.points(row) for _, row in made.ends.iterrows())
    contrasts = made.measured[BEYOND]
    apart = [contrasts.distance(f[0], g[1])[0], contrasts.distance(f[1], g[0])[0]]
    assert 1 - halves.beyond_linear == pytest.approx(np.mean(apart), abs=1e-12)
    assert contrasts.between(f, g)[0] < np.mean(apart)
    one = answered(asked(dataclasses.replace(plan, seeds=1), tmp_path / "one"))[0]
    row = reported(one, HALVES, "unet").iloc[0]
    assert not row.started and "began with the same weights" in pair_text(row)


def test_seeds_that_some_groups_lack_are_stated():
    made, _, notes = planted()
    assert not any("have one seed" in note.text for note in notes)
    seeds = np.where(made.groups.corpus.str.endswith("half 2"), 1, made.groups.seeds)
    fewer = dataclasses.replace(made, groups=made.groups.assign(seeds=seeds))
    (text,) = [n.text for n in same_picture._notes(fewer) if "have one seed" in n.text]
    assert text.startswith("4 of the 8 groups of shapes") and "half 2: how far" in text


def test_one_seed_and_one_half_are_said_in_one_line_each(tmp_path):
    alone = dataclasses.replace(SMALL, seeds=1, halves=(0,), bare=True)
    frames, notes = answered(asked(alone, tmp_path))
    texts = [note.text for note in notes]
    assert sum("One seed only" in text for text in texts) == 1
    assert sum("disjoint halves" in text for text in texts) == 1
    assert sum("kept no linear samples" in text for text in texts) == 1
    assert sum("kept no nearest training pictures" in text for text in texts) == 1
    rows = frames["same_pictures"]
    assert set(rows.kind) == {ARCHITECTURE} and rows.shortfall.isna().all()
    assert rows.correlation.notna().all() and rows.beyond_linear.isna().all()
    bare = Analysis.of(title="made", unit="", targets=("held out",), **frames)
    assert any("is not known" in text for text in same_picture.said(bare.view))
    assert len(frames["memorisation"]) == 0


def test_a_path_without_a_floor_tends_to_nothing(tmp_path):
    unique = (64, 128, 256, 512)
    plan = dataclasses.replace(SMALL, halves=(1,), seeds=1, unique=unique)
    trends = answered(asked(plan, tmp_path), "same_picture")[0]["same_picture_trends"]
    assert (trends.points == 4).all() and trends.tends.isna().all()
    assert set(trends.refused) == {"not every point has a floor to compare"}


def test_a_report_of_sequences_compares_no_samples(tmp_path):
    made = asked(dataclasses.replace(SMALL, readers=("lstm",)), tmp_path)
    none = dataclasses.replace(made, groups=made.groups[:0])
    frames, notes = answered(none, "same_picture")
    assert all(frame.empty for frame in frames.values())
    assert [n.text for n in notes] == [
        "Samples of shapes are not compared noise by noise: the runs of this report do "
        "not denoise."
    ]


def test_what_is_said_follows_from_the_intervals(study, frames):
    lines = same_picture.said(study.view)
    assert lines[0].startswith("At 8k parameters, 4.1k different pictures of 16.4k")
    whole = "\n".join(lines)
    assert (
        "Dit on templates[size=4], half 1 and on templates[size=4], half 2: " in whole
    )
    row = reported(frames, ARCHITECTURE, "dit", "unet").iloc[0].copy()
    ends = {"above": (0.05, 0.1), "no less": (-0.2, -0.1), "undetermined": (-0.1, 0.1)}
    said = {}
    for name, (low, high) in ends.items():
        row["shortfall_low"], row["shortfall_high"] = low, high
        said[name] = pair_text(row)
    assert "less than the" in said["above"] and "no less than" in said["no less"]
    assert "is undetermined on this grid" in said["undetermined"]
    assert all("other noises give" in text for text in said.values())
    # Both copy the same training pictures, or those of another half.
    across = reported(frames, ACROSS, "dit", "unet").iloc[0]
    assert "denoisers that copy" not in said["above"]
    assert "denoisers that copy" in pair_text(across)
    assert "disjoint halves" in plain_text(across, 1)
    assert "agrees the least" not in plain_text(across, 1)
    assert plain_text(across, 6).endswith("Of 6 such pairs this one agrees the least.")
    assert len(score_distance.said(study.view)) > 2


@pytest.mark.parametrize("name", ["same picture", "shortfall of pictures"])
def test_claims_can_name_them(name, study):
    claim = {"quantity": name, "where": {"baseline": "dit", "alternative": "unet"}}
    rows = _quantities.rows_of(claim, study)
    values = _quantities.intervals(_quantities.quantity(name), rows)
    assert len(values) == 2 and all(v.low < v.value < v.high for v in values)
    assert all(v.low <= v.low_90 <= v.high_90 <= v.high for v in values)


def test_figures_are_drawn_and_the_grid_has_a_row_a_run(study):
    for question in (same_picture, score_distance, memorisation):
        for name, drawing in question.QUESTION.figures.items():
            if name == "picture_grid_larger":  # all are of one size
                continue
            figure = Figure(layout="constrained")
            drawing.draw(figure, study, "held out")
            assert figure.axes
    grid = study.picture_grid
    assert grid.column.max() == 9 and set(grid.height) == {4}
    assert (grid.what == "linear sample").sum() == 10
    samples = grid[grid.what == "sample"]
    # Six of the most data and three of the least: no family is left out for another's
    # second half.
    assert grid[grid.what == "nearest training picture"].run_id.nunique() == 9
    by = samples.drop_duplicates("run_id").groupby("unique_tokens").family
    assert by.nunique().to_dict() == {64: 3, 4096: 4} and by.size().sum() == 9
    wide = study.replace(picture_grid=schema.frames()["picture_grid"].join([]))
    for draw in (same_picture.draw_grid, same_picture.draw_larger):
        with pytest.raises(Nothing):
            draw(Figure(), wide, "held out")
    with pytest.raises(Nothing):
        same_picture.draw_larger(Figure(), study, "held out")
    larger = grid[grid.run_id == grid.run_id[0]].assign(samples="letters", height=2)
    larger = larger.assign(width=8)
    both = study.replace(picture_grid=pd.concat([larger.assign(samples="a"), grid]))
    figure = Figure()
    same_picture.draw_larger(figure, both, "held out")
    (axes,) = figure.axes
    assert len(axes.get_yticks()) == 19
    assert BEYOND in planted()[0].measured and SEEDS in set(study.same_pictures.kind)


def test_what_tends_along_an_axis_is_the_shortfall_and_not_the_agreement(frames):
    row = frames["same_picture_trends"].dropna(subset=["closed"]).iloc[0].copy()
    row["tends"], row["low"], row["high"], row["refused"] = 0.1, 0.05, 0.15, ""
    tends = "its shortfall from the floor tends to 0.100 (0.0500 to 0.150)"
    assert trend_text(row).endswith(tends)
    row["refused"] = "too few points"
    assert "where its shortfall tends to is not known: too few" in trend_text(row)


def test_the_answer_follows_its_pair_along_every_axis(study):
    _, *lines = [one.text for one in same_picture.answers(study.view)]
    pair = lines[0].partition(": ")[0].partition(", ")[2]
    followed = [text for text in lines if "agreement beyond linear" in text]
    axes = {text.partition(": ")[0].rpartition(", ")[2] for text in followed}
    assert axes == {"with more data"} and len(followed) == len(axes)
    names = {name for name in ("dit", "unet", "copier", "twin") if name in pair.lower()}
    assert all(name in text.lower() for text in followed for name in names)


def test_samples_over_training_are_of_runs_that_kept_several(tmp_path):
    """Of each family and corpus in turn, and no more than a page may hold."""
    plan = Plan(fractions=(0.25, 1.0), readers=("lstm",), unique=(64, 4096), noises=10)
    made = asked(plan, tmp_path)
    frame = pd.DataFrame(_picture_steps.steps(made))
    runs = frame.drop_duplicates("run_id")
    assert len(runs) == len(plan.families + plan.readers) * 2 * 2 * 2
    first = runs.head(6)
    assert set(zip(first.family, first.corpus.str[-6:], strict=True)) == {
        (family, f"half {half}")
        for family in ("unet", "dit", "lstm")
        for half in (1, 2)
    }
    assert (first.unique_tokens == 4096).all()
    one = frame[frame.run_id == runs.run_id[0]]
    assert one.what.tolist() == [
        *("sample", "nearest training picture") * 2,
        "linear sample",
    ]
    pixels = np.frombuffer(base64.b64decode(one.pixels.iloc[0]), np.uint8)
    kept = made.pictures.read(one.run_id.iloc[0], "pictures", 0.25)[:8]
    np.testing.assert_array_equal(
        pixels, np.rint(255 * kept.clip(0, 1)).astype(np.uint8).ravel()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_picture_steps, "BYTES", 3 * 5 * 8 * 16)
        few = pd.DataFrame(_picture_steps.steps(made))
    assert few.run_id.nunique() == 3
    plain = dataclasses.replace(plan, fractions=(1.0,))
    assert _picture_steps.steps(asked(plain, tmp_path / "plain")) == []


def test_a_page_holds_few_noises_of_large_pictures(tmp_path):
    made = asked(Plan(fractions=(0.5, 1.0), noises=10, seeds=1), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_picture_steps, "OF_RUN", 16 * 5 * 4)
        row = next(iter(_picture_steps.steps(made)))
    assert len(base64.b64decode(row["pixels"])) == 16 * 4
