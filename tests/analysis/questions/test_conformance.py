"""Every question of the folder keeps to what a question is."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import questions as folder
from analysis import schema
from analysis.questions._question import drawings, questions
from analysis.report import markup, saved
from analysis.report.style import Nothing
from analysis.results import Analysis
from tests.support.made_analysis import made_analysis
from tests.support.made_answers import answers

# Sections that list what there is, and are never without it.
ALWAYS = {"runs"}


@pytest.fixture(scope="module")
def made():
    return made_analysis().replace(**answers()).view


@pytest.fixture(scope="module")
def empty():
    bare = Analysis.of(title="nothing", unit="nats/token", targets=("web",))
    return bare.view


def test_every_file_of_the_folder_is_found():
    names = [module.name for module in pkgutil.iter_modules(folder.__path__)]
    files = [importlib.import_module(f"{folder.__name__}.{name}") for name in names]
    declared = [file.QUESTION for file in files if hasattr(file, "QUESTION")]
    assert sorted(one.name for one in declared) == sorted(q.name for q in questions())


def test_names_and_places_are_apart():
    for of in ("name", "title", "place"):
        values = [getattr(one, of) for one in questions()]
        assert len(set(values)) == len(values), of
    assert [one.place for one in questions()] == sorted(q.place for q in questions())
    every = [name for one in questions() for name in one.figures]
    assert sorted(every) == sorted(drawings())


def test_every_column_of_every_frame_has_a_meaning():
    for frame in schema.frames().values():
        assert frame.meaning[-1] in ".?", frame.name
        assert all(column.meaning for column in frame.columns), frame.name


def test_every_column_has_a_heading_for_people():
    for frame in schema.frames().values():
        shown = [schema.heading(name) for name in frame.names]
        assert not [text for text in shown if "_" in text or ":" in text], frame.name
        assert len(set(shown)) == len(shown), (frame.name, shown)


@pytest.mark.parametrize("one", questions(), ids=lambda one: one.name)
def test_it_is_whole(one):
    assert one.title and not one.title.endswith(".")
    assert re.fullmatch(r"[a-z_]+", one.name)
    for drawing in one.figures.values():
        assert drawing.caption.endswith(".")
        assert drawing.draw.__doc__
    frames = [table.frame for table in one.tables if isinstance(table.frame, str)]
    frames += one.absent.frames if one.absent else ()
    assert set(frames) <= set(schema.frames())


@pytest.mark.parametrize("one", questions(), ids=lambda one: one.name)
def test_without_numbers_it_says_why_and_nothing_else(one, empty):
    assert list(one.said(empty)) == [] and list(one.notes(empty)) == []
    page = markup.section(one, empty, lambda *_: "")
    if one.name not in ALWAYS:
        assert page.startswith('<p class="none">No ')
    assert "<table" not in page and "nan" not in page


@pytest.mark.parametrize("one", questions(), ids=lambda one: one.name)
def test_what_it_says_is_sentences(one, made):
    for sentence in one.said(made):
        assert sentence.endswith("."), sentence
    assert all(note.text.endswith(".") for note in one.notes(made))
    page = markup.section(one, made, lambda *_: "")
    assert 'class="none"' not in page


@pytest.mark.parametrize("name", drawings())
def test_a_figure_of_nothing_is_not_drawn(name, empty):
    with pytest.raises(Nothing):
        drawings()[name].draw(Figure(), empty.analysis, "web")


def test_the_numbers_of_every_question_are_written_and_read_back(made):
    study = made.analysis
    read = saved.from_json(saved.to_json(study))
    assert set(read.frames) == set(study.frames)
    for name, frame in study.frames.items():
        pd.testing.assert_frame_equal(
            read.frames[name], frame.reset_index(drop=True), check_dtype=False, obj=name
        )
