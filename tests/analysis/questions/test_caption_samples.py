"""What samples show, beside real pictures and chance, follows what was planted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.questions import caption_samples
from analysis.results import Analysis
from tests.support.made_pictures import Plan, answered, asked

PLAN = Plan(
    families=("unet", "dit"),
    readers=("lstm",),
    halves=(0,),
    shown=(("unet", 0.6), ("dit", 0.12), ("lstm", 0.4)),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = asked(PLAN, tmp_path_factory.mktemp("captions"))
    frames, _ = answered(made, "caption_samples")
    return Analysis.of(title="made", unit="", targets=("held out",), **frames)


def test_shares_are_those_planted_and_two_kinds_of_models_are_asked(study):
    frame = study.caption_samples.set_index("family")
    assert set(frame.index) == {"unet", "dit", "lstm"} and (frame.seeds == 2).all()
    assert frame.right.to_dict() == pytest.approx(
        {"unet": 0.6, "dit": 0.125, "lstm": 0.4}
    )
    assert frame.real.unique() == pytest.approx([0.8])
    assert (frame.chance - 0.1).abs().max() < 1e-6
    assert frame.over_chance_low["unet"] > 0.2 and frame.over_chance_high["unet"] < 0.8
    # Half the samples are one group's: a share as low as this is not told from chance.
    assert frame.over_chance_low["dit"] < 0 < frame.over_chance_high["dit"]


def test_what_is_said_and_drawn_has_the_real_pictures_beside_it(study):
    lines = caption_samples.said(study.view)
    (best,) = caption_samples.answers(study.view)
    assert "60%" in best.text and "the samples of unet" in best.text
    assert "80% of the held-out pictures themselves do, and by chance 10%" in best.text
    (dit,) = [line for line in lines if " dit" in line]
    assert "whether more than by chance is undetermined" in dit
    assert dit.endswith("% of all samples.")
    # A family that read for longer or shorter has its own place.
    assert [line.startswith("At 8k parameters") for line in lines] == [1, 0, 0]
    frame = study.caption_samples
    tokens = np.where(frame.family == "lstm", 2 * frame.tokens, frame.tokens)
    other = study.replace(caption_samples=frame.assign(tokens=tokens))
    starts = [line.startswith("At 8k") for line in caption_samples.said(other.view)]
    assert starts == [1, 1, 1]
    figure = Figure()
    caption_samples.draw_right(figure, study, "held out")
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == [
        "dit, subject",
        "lstm, subject",
        "unet, subject",
    ]


def test_samples_stand_under_the_captions_that_they_were_asked_for(study):
    grid = study.caption_grid
    assert set(grid.family[grid.what == "sample"]) == {"unet", "dit", "lstm"}
    assert (grid.groupby("what").family.nunique() == [1, 3]).all()
    assert (grid.caption == [f"sign-{n}" for n in grid.column]).all()
    figure = Figure()
    caption_samples.draw_grid(figure, study, "held out")
    (axes,) = figure.axes
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert shown == [f"sign-{n}" for n in grid.column.unique()]
    assert len(axes.get_yticks()) == 4


def test_runs_without_captions_have_no_row(tmp_path):
    frames, notes = answered(
        asked(dataclasses.replace(PLAN, shown=()), tmp_path), "caption_samples"
    )
    assert frames["caption_samples"].empty and frames["caption_grid"].empty
    assert notes == []
