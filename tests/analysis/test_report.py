"""The report: whole, offline, and no word in it that the numbers do not carry."""

from __future__ import annotations

import json
import math
import re
from contextlib import nullcontext
from xml.etree import ElementTree

import pandas as pd
import pytest

from analysis import command_line, formatting, main, schema
from analysis.questions import ranking
from analysis.questions._question import (
    ASSUMPTIONS,
    CHOICES,
    FRONT,
    Question,
    Sentence,
    drawings,
    questions,
)
from analysis.report import answer, build, checklist, figures, front, markup, saved
from analysis.results import Note
from scaling.errors import UserError
from tests.support.made_analysis import emptied


def _sections(analysis):
    """The HTML of every section by name, without figures."""
    reported = build.sections(analysis, lambda *_: "")
    return {name: inner for name, _, inner in reported}


def test_every_section_in_order(written):
    page = written.read_text()
    names = [question.name for question in questions()]
    assert re.findall(r'<section id="(\w+)">', page) == [
        *("front", "explorer", "answer"),
        *names,
        *("limits", "method"),
    ]
    for section in page.split("<section ")[1:]:
        assert len(re.sub(r"<[^>]+>", " ", section).split()) > 10


def test_every_family_has_its_row(written, study):
    page = written.read_text()
    section = page.split('<section id="standings">')[1].split("</section>")[0]
    rows = re.findall(r"<tr><td>([^<]*)</td>", section.split("<details")[1])
    assert rows == list(dict.fromkeys(study.standings.family))


def test_without_a_shared_cell_the_page_says_so(study):
    other = study.standings[study.standings.target != study.targets[0]]
    for stands in (other, study.standings[:0]):
        page = build.page(study.replace(standings=stands), {})
        section = page.split('<section id="standings">')[1].split("</section>")[0]
        assert ranking.NO_STANDING in section
        assert ("On the other corpora" in section) == (len(stands) > 0)


# What loads something: an attribute or a style that is no place of the page itself, a
# call, an address in what the chart library is told to draw. A namespace loads nothing.
LOADS = re.compile(
    r"""\b(?:src|href|srcset|poster|action)\s*=\s*["']?(?!["']?(?:\#|data:))[^\s>]+
    |@import|url\((?!["']?(?:\#|data:))[^)]*\)|\.src\s*=[^=]|"url"\s*:
    |\b(?:fetch|import|importScripts|XMLHttpRequest|WebSocket|EventSource)\s*\(""",
    re.VERBOSE,
)


def _from_elsewhere(page):
    """What a page would load from another place, the chart library's own code aside."""
    library = r'<script [^>]*id="explorer-vega">.*?</script>'
    return LOADS.findall(re.sub(library, "", page, flags=re.DOTALL))


def test_page_is_self_contained(written):
    page = written.read_text()
    assert not _from_elsewhere(page)
    for text in (
        '<img src="https://a.org/b.png">',
        "<a href='page.html'>",
        "<style>@import 'a.css'; b { background: url(c.png) }</style>",
        "<script>fetch(x); image.src = y; import('./z.js')</script>",
        """<script type="application/json">{"url": "runs.csv"}</script>""",
    ):
        assert _from_elsewhere(text)
    assert "$" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_figures_beside_the_page(written, study):
    folder = written.parent / "figures"
    names = {path.stem for path in folder.glob("*.png")}
    assert names == set(drawings()) == {path.stem for path in folder.glob("*.svg")}
    page = written.read_text()
    for name in names:
        assert f'id="figure-{name}"' in page
        root = ElementTree.fromstring((folder / f"{name}.svg").read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_several_processes_draw_what_one_draws(study, monkeypatch):
    few = {name: drawings()[name] for name in ("noise", "verdicts")}
    monkeypatch.setattr(figures, "drawings", lambda: few)
    with figures.drawing(study) as drawn:
        one = drawn()
    assert set(one) == set(few)
    with figures.drawing(study, processes=2) as drawn:
        assert drawn() == one


def test_json_gives_the_analysis_back(written, study):
    back = saved.read(written.parent / "report.json")
    assert (back.title, back.unit, back.notes) == (study.title, study.unit, study.notes)
    for name in schema.frames():
        frame, known = getattr(back, name), getattr(study, name)
        pd.testing.assert_frame_equal(
            frame, known.reset_index(drop=True), rtol=0, atol=0
        )
    assert (back.equivalents.high == math.inf).any()
    assert back.runs["loss:code"].isna().any()


def test_json_is_plain(written):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (written.parent / "report.json").read_text()
    body = json.loads(text, parse_constant=refuse)
    assert "Infinity" in body["frames"]["equivalents"]["high"]
    assert body["answer"] and body["encoding"]
    with pytest.raises(ValueError, match="schema"):
        saved.from_json(body | {"schema": 99})


@pytest.mark.parametrize("name", [n for n in schema.frames() if n != "runs"])
def test_an_empty_frame_gives_its_reason(study, name):
    bare = emptied(study, name)
    page = build.page(bare, {})
    reported = _sections(bare)
    assert page.count("<section ") == len(reported) + 1
    for question in questions():
        if name in getattr(question.absent, "frames", ()) and question.absent.holds(
            bare.view
        ):
            inner = reported.get(question.name) or reported["unasked"]
            assert f"No {markup.text_of(question.absent.what)}" in inner
    assert "nan" not in re.sub(r"<style>.*</style>", "", page, flags=re.S).split()


def test_the_reason_is_the_notes(study):
    note = Note(
        "refused", "joint", "All runs lie on one D/N line: B and beta are lost."
    )
    bare = emptied(study.replace(notes=(note,)), "joint")
    assert note.text in _sections(bare)["joint"]


def test_nothing_measured_is_nothing_concluded(study):
    names = [n for n in schema.frames() if n not in ("runs", "cells")]
    sentences = answer.summary(emptied(study, *names))
    assert formatting.UNDETERMINED in sentences[0]
    assert sentences[1:] == ["No law could be fitted."]


def test_markup_in_names_is_text(study):
    odd = study.replace(title="<b>a & b</b>")
    page = build.page(odd, {})
    assert "<b>a &amp; b" not in page and "&lt;b&gt;a &amp; b&lt;/b&gt;" in page


def test_the_checklist_is_answered_from_the_numbers(written, study):
    body = json.loads((written.parent / "checklist.json").read_text())
    assert list(body) == ["general", "hypothesis", "training", "data", "fitting"]
    counts = body["hypothesis"]["parameters a law"]
    assert (
        counts["chinchilla"]
        == study.fits[study.fits.law == "chinchilla"].parameter.nunique()
    )
    assert body["data"]["points a law"]["most"] == study.quality.runs.max()
    assert body["training"]["models trained"] == len(study.runs)
    assert body["training"]["runs that repeat data"] == 1
    assert body["data"]["evaluation sets"] == ["mixture"]
    form = body["hypothesis"]["form of the law and its source"]["chinchilla"]
    assert "L = E + A / N^alpha" in form
    left = body["fitting"]["points left out, by reason"]
    assert sum(left.values()) == len(study.exclusions)
    report_ = json.loads((written.parent / "report.json").read_text())
    assert report_["checklist"] == body


def test_parameters_are_printed_to_the_digits_that_predictions_need(study):
    """Predictions from the printed digits are within 1e-6 of those from float64."""
    fits = study.fits[study.fits.law == "chinchilla"]
    for _, one in fits.groupby(["family", "corpus", "target"]):
        page = markup.table(one)
        cells = re.findall(r'data-v="([^"]+)">([^<]+)</td>', page)
        shown = {float(exact): float(text.replace("−", "-")) for exact, text in cells}
        exact = one.set_index("parameter").value
        printed = exact.map(shown)
        for params, tokens in ((1e3, 1e5), (1e12, 1e14)):
            losses = [
                p.E + p.A * params**-p.alpha + p.B * tokens**-p.beta
                for p in (exact, printed)
            ]
            assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_further_questions_are_answered_in_words(study):
    said = " ".join(answer.summary(study))
    assert "which family is best" not in said
    assert (
        "FLOPs on code, transformer is the best of 3 families (98% of draws); in the"
        in said
    )
    section = _sections(study)["interaction"]
    assert "1.35 times that for" in section and "(1.11 to 1.65)" in section
    assert "No change is shown in 6 of 8" in section
    section = _sections(study)["verdict"]
    assert "lstm → transformer changes with: least squares (undetermined)" in section
    assert "1 of 2 verdicts over all cells holds under both other choices" in section
    section = _sections(study)["sharing"]
    assert "Across corpora these differ: E (p 0.010)" in section
    assert "no difference is shown in alpha (p 0.40)" in section
    section = _sections(study)["currencies"]
    assert "transformer is ahead of lstm on docstrings from 3.00e12 FLOPs" in section


# The command


def test_mapping_is_read():
    assert command_line.mapping("params=N, tokens=D") == {"params": "N", "tokens": "D"}
    for wrong in ("params", "=N", "params=N,params=M"):
        with pytest.raises(UserError, match="map"):
            command_line.mapping(wrong)


def test_page_and_json_have_one_front(written):
    page_ = front.front(saved.read(written.parent / "report.json"))
    assert 2 <= len(page_.said) <= front.MOST_SAID and page_.limits
    body = json.loads((written.parent / "report.json").read_text())
    assert body["front"]["said"] == page_.said
    assert body["front"]["limits"] == page_.limits
    page = written.read_text()
    first = page[: page.index('id="explorer"')]
    assert all(markup.text_of(text) in first for text in page_.said + page_.limits)
    assert '<figure id="front-growth">' in first


def test_front_concludes_nothing_that_intervals_do_not(study):
    open_ = study.equivalents.assign(low=0.5, high=3.0, factor=1.2)
    shares = study.variance.assign(low=0.0, high=1.0)
    flat = study.interactions.assign(differs=False)
    changed = study.replace(equivalents=open_, variance=shares, interactions=flat)
    changed = changed.replace(shares=study.shares.assign(low=0.0, high=1.0))
    said = " ".join(front.front(changed).said)
    assert " times the data" not in said and " grows " not in said.replace(
        "grows or", ""
    )
    assert said.count(formatting.UNDETERMINED) >= 2


def test_a_new_question_reaches_the_front_by_its_interface(study, monkeypatch):
    text = "The moon was full in all of it."
    new = Question("moon", "Moon", 1, answers=lambda _: [Sentence(text, 99, FRONT)])
    every = (*questions(), new)
    monkeypatch.setattr("analysis.questions._question.questions", lambda: every)
    fresh = study.replace(title=study.title)  # a view asks each question once
    assert front.front(fresh).said[0] == text


def test_a_question_answers_the_checklist_by_its_interface(study, monkeypatch):
    new = Question("moon", "Moon", 1, checks={ASSUMPTIONS: lambda view: ["Full."]})
    monkeypatch.setattr(checklist, "questions", lambda: (new,))
    body = checklist.checklist(study)
    assert body["hypothesis"][ASSUMPTIONS] == ["Full."]
    assert body["fitting"][CHOICES] == []


def command(*arguments):
    return main.main(main.parse(["scaling-analysis", *arguments]))


@pytest.fixture
def analysed(study, monkeypatch, tmp_path):
    """The command with the made results for any table."""
    monkeypatch.setattr("analysis.pipeline.analyse", lambda *_, **__: study)
    table = tmp_path / "runs.csv"
    table.write_text("params,tokens,loss\n1000,20000,3.0\n2000,20000,2.9\n")
    return str(table)


def test_report_prints_where_and_what(analysed, study, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(figures, "drawing", lambda *_: nullcontext(dict))
    assert command("report", analysed, "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "out" / "report.html") in said
    page_ = front.front(study)
    sentences = [*answer.summary(study), *page_.said, *page_.limits]
    assert all(sentence in said for sentence in sentences)
    assert (tmp_path / "out" / "report.json").exists()


def test_fit_and_compare_for_machines(analysed, study, capsys):
    assert command("fit", analysed, "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["fits"]["value"] == study.fits.value.tolist()
    assert command("compare", analysed, "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert set(body["equivalents"]["kind"]) == {"architecture", "corpus"}


def test_user_errors_are_one_line(analysed, capsys):
    for arguments in (
        ("report", "/no/such/workdir"),
        ("fit", analysed, "--law", "chinchila"),
        ("compare", analysed, "--map", "params"),
    ):
        assert command(*arguments) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("scaling-analysis: ") and "\n" not in error
