"""What captions save, against plain sums over groups of pictures."""

from __future__ import annotations

import dataclasses
import math

import pytest

from analysis.questions import captions
from analysis.results import Analysis
from tests.support.made_pictures import PLAN, Plan, loaded, planted, saved

SMALL = Plan(families=("unet",), halves=(1,), noises=4, seeds=2, captions=(0.2, 0.0))


def test_gains_are_paired_group_by_group(tmp_path):
    store = SMALL.write(tmp_path)
    assert store.exists("unet-1-8000-16384-4096-0")
    frame = saved(tmp_path)
    (row,) = frame.itertuples()
    gains = {"no_caption": [], "wrong_caption": []}
    for one in SMALL.runs():
        scores = {k.rpartition(":")[2]: v for k, v in SMALL.scores(one).items()}
        tokens = sum(map(float, scores["tokens"]))
        for how, found in gains.items():
            more = sum(
                float(a) - float(b)
                for a, b in zip(scores[how], scores["nats"], strict=True)
            )
            found.append(more / tokens)
    assert row.over_none == pytest.approx(sum(gains["no_caption"]) / 2)
    assert row.over_wrong == pytest.approx(sum(gains["wrong_caption"]) / 2)
    assert row.over_none_low < row.over_none < row.over_none_high
    assert row.over_none_low > 0.1 and row.over_wrong_low < 0.01 < row.over_wrong_high
    assert row.seeds == 2
    text = captions.caption_text(row, "bits")
    assert "0.206 bits" in text or " bits (" in text
    assert "less than with no caption" in text and "undetermined" in text


def test_runs_without_captions_have_no_row(tmp_path):
    dataclasses.replace(SMALL, captions=()).write(tmp_path)
    assert saved(tmp_path).empty
    table, _ = loaded(tmp_path, False)
    assert not any(":no_caption" in key for d in table.documents.values() for key in d)


def test_it_is_said_of_each_family_on_each_set():
    frame = planted()[1]["captions"]
    assert len(frame) == len(PLAN.families) * 2 * 2
    assert (frame.over_wrong > frame.over_none).all()
    study = Analysis.of(title="", unit="nats", targets=("held out",), captions=frame)
    lines = captions.said(study.view)
    assert lines[0].startswith("Scored on held out, with the right caption ")
    row = frame.iloc[0].copy()
    row["over_none"] = math.nan
    assert "no caption" not in captions.caption_text(row, "nats")
