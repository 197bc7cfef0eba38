"""An Analysis as a result object: asked, described, drawn, saved and read again."""

from __future__ import annotations

import json

import matplotlib.figure
import pandas as pd
import pytest

import analysis
from analysis import schema
from analysis.report import answer, front
from scaling.errors import UserError
from tests.support.made_analysis import made_analysis


@pytest.fixture(scope="module")
def study():
    return made_analysis()


def test_every_column_of_every_frame_has_a_meaning():
    for frame in schema.frames().values():
        assert frame.meaning
        assert all(column.meaning for column in frame.columns)
        assert len(set(frame.names)) == len(frame.names)


def test_frames_are_attributes_and_described(study):
    assert study.cells is study.frames["cells"]
    assert set(study.describe().frame) == set(study.frames)
    columns = study.describe("cells")
    assert set(study.cells.columns) <= set(columns.column)
    copy = study.to_frame("cells")
    copy["loss"] = 0.0
    assert study.cells.loss.min() > 0
    for call in (study.to_frame, study.describe):
        with pytest.raises(UserError, match="did you mean 'cells'"):
            call("cell")
    with pytest.raises(AttributeError, match="no frame or attribute 'cell'"):
        _ = study.cell


def test_an_empty_frame_has_its_columns():
    bare = analysis.Analysis.of(title="t", unit="nats/token", targets=("loss",))
    for name, frame in bare.frames.items():
        assert list(frame.columns) == schema.frames()[name].names
    with pytest.raises(UserError, match="frame"):
        analysis.Analysis.of(
            title="t", unit="u", targets=("loss",), nothing=pd.DataFrame()
        )


def test_saved_and_read_it_is_the_same(study, tmp_path):
    study.save(tmp_path / "result.json")
    again = analysis.read(tmp_path / "result.json")
    assert again.notes == study.notes and again.targets == study.targets
    for name, frame in study.frames.items():
        pd.testing.assert_frame_equal(again.frames[name], frame.reset_index(drop=True))


def test_what_an_older_version_saved_is_one_line(study, tmp_path):
    path = tmp_path / "report.json"
    study.save(path)
    body = json.loads(path.read_text())
    body["versions"]["datalaw"] = "0.0.7"
    del body["frames"]["runs"]["params_total"]
    path.write_text(json.dumps(body))
    with pytest.raises(UserError) as found:
        analysis.read(path)
    assert "saved by version 0.0.7 of datalaw" in str(found.value)
    assert "the frame runs has no params_total" in str(found.value)
    assert "write the report again from its table" in str(found.value)


def test_a_gap_in_a_column_of_text_is_read_back_as_one(study, tmp_path):
    notes = ["NaN", None] * len(study.runs)
    runs = study.runs.assign(note=pd.Series(notes[: len(study.runs)], dtype="str"))
    study.replace(runs=runs).save(tmp_path / "study.json")
    again = analysis.read(tmp_path / "study.json").runs.note
    pd.testing.assert_series_equal(again, runs.note, check_exact=True)


def test_figures_are_matplotlib_figures(study):
    figure = study.plot("equivalents", study.targets[1])
    assert isinstance(figure, matplotlib.figure.Figure) and figure.axes
    for name, target in (("equivalent", None), ("equivalents", "elsewhere")):
        with pytest.raises(UserError, match="known"):
            study.plot(name, target)
    empty = study.replace(equivalents=study.equivalents[:0])
    with pytest.raises(UserError, match="nothing to draw"):
        empty.plot("equivalents")


def test_it_speaks_for_itself(study):
    assert "\n" not in repr(study) and "quickstart" in repr(study)
    first, *said = str(study).splitlines()
    assert first == answer.extent(study) and 4 <= len(said) <= 10
    assert said == front.brief(study).splitlines()[1:]
    shown = study._repr_html_()
    assert study.summary()[0].split(" (")[0] in shown and "<svg" in shown
