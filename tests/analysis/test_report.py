"""The report: whole, offline, and no word in it that the numbers do not carry."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pandas as pd
import pytest

from analysis import formatting, main, schema
from analysis.questions import (
    _swap_words,
    _view,
    currencies,
    equivalents,
    fits,
    ranking,
    ratio,
    variance,
)
from analysis.questions._question import (
    ANSWER,
    ASSUMPTIONS,
    CHOICES,
    FRONT,
    Finding,
    Question,
    Sentence,
    at_odds,
    drawings,
    questions,
    sentences,
)
from analysis.report import (
    answer,
    build,
    checklist,
    figures,
    front,
    markup,
    saved,
    style,
)
from analysis.results import Note
from tests.support.browser import BROWSER, opened
from tests.support.made_analysis import emptied, made_analysis
from tests.support.made_answers import answers


@pytest.fixture(scope="module")
def study():
    return made_analysis().replace(**answers())


@pytest.fixture(scope="module")
def written(study, tmp_path_factory):
    """The report on one target; one drawing stands for each, all are in test_plots."""
    one = study.replace(targets=("mixture",))
    drawing = style.render(fits.draw_fits, one, "mixture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "render", lambda *_: drawing)
        return build.write(one, tmp_path_factory.mktemp("report"))


def _sections(analysis):
    """The HTML of every section by name, without figures."""
    told = build.sections(analysis, lambda *_: "")
    return {name: inner for name, _, inner in told}


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
    one = figures.draw(study)
    assert set(one) == set(few)
    assert figures.draw(study, processes=2) == one


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
    assert page.count("<section ") == len(questions()) + 5
    told = _sections(bare)
    named = {"cells": "loss", "ratios": "ratio"}.get(name, name)
    if named in told:
        assert "No " in told[named]
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
    assert "1.35 times as large (1.11 to 1.65)" in section
    assert "No change is shown in 6 of 8" in section
    section = _sections(study)["verdict"]
    assert "lstm → transformer changes with: least squares (undetermined)" in section
    assert "1 of 2 verdicts over all cells holds under both other choices" in section
    section = _sections(study)["sharing"]
    assert "Across corpora these differ: E (p 0.010)" in section
    assert "no difference is shown in alpha (p 0.40)" in section
    section = _sections(study)["currencies"]
    assert "transformer is ahead of lstm on docstrings from 3.00e12 FLOPs" in section


# Words follow numbers


def swap(factor, low, high, p_infinite=0.0, **more):
    base = {"kind": "architecture", "baseline": "lstm", "alternative": "transformer"}
    base |= {"fixed": "code", "params": 72e3, "tokens": 1.2e6, "method": "joint"}
    row = base | {"factor": factor, "low": low, "high": high}
    return SimpleNamespace(**(row | {"p_infinite": p_infinite} | more))


@pytest.mark.parametrize(
    ("row", "said", "unsaid"),
    [
        (swap(3.0, 2.2, 4.1), ["is worth 3.00 times", "more than a doubling"], "loss"),
        (swap(1.5, 1.2, 1.8), ["is worth", "less than a doubling"], "more than"),
        (swap(1.9, 1.2, 2.8), ["is worth 1.90", "(1.20 to 2.80)"], "doubling"),
        (swap(1.4, 0.9, 2.1), [formatting.UNDETERMINED, "1.40 times"], "is worth"),
        (swap(0.4, 0.3, 0.6), ["is a loss", "0.400 times"], "is worth"),
        (swap(math.nan, math.nan, math.nan), ["Nothing can be said"], "–"),
    ],
)
def test_direction_follows_the_interval(row, said, unsaid):
    sentence = _swap_words.equivalence(row)
    assert all(part in sentence for part in said), sentence
    assert unsaid not in sentence
    assert sentence.count("(") <= 1


def test_infinity_is_said_with_its_probability():
    rare = _swap_words.equivalence(swap(2.5, 2.1, 9.0, 0.004))
    assert "infinite in under 1% of draws" in rare
    never = swap(math.inf, math.inf, math.inf, 1.0)
    assert _swap_words.equivalence(never) == (
        "No amount of data on code gives what transformer gives to lstm "
        "(100% of draws)."
    )
    open_ = _swap_words.equivalence(swap(math.inf, 0.4, math.inf, 0.62))
    assert formatting.UNDETERMINED in open_ and "no finite amount" in open_
    assert "at least 0.400; infinite in 62% of draws" in open_


def corpora(**more):
    base = {
        "kind": "corpus",
        "baseline": "kjv",
        "alternative": "code",
        "target": "code",
    }
    return vars(swap(math.inf, math.inf, math.inf, 1.0)) | base | more


def test_families_that_share_a_verdict_share_a_sentence():
    rows = [corpora(fixed="lstm"), corpora(fixed="transformer")]
    assert _swap_words.equivalences(pd.DataFrame(rows), "code") == [
        "No amount of kjv gives what code gives, for lstm or transformer "
        "(100% of draws)."
    ]
    rows[1] |= {"factor": 3.0, "low": 2.2, "high": 4.1, "p_infinite": 0.0}
    one, two = _swap_words.equivalences(pd.DataFrame(rows), "code")
    assert "is worth 3.00" in two and one.endswith("for lstm (100% of draws).")


def test_the_target_comes_first_and_what_is_open_elsewhere_shares_a_line():
    rows = [
        swap(1.1, 0.8, 1.5, fixed="kjv"),
        swap(3.0, 2.2, 4.1),
        swap(1.2, 0.7, 1.9, fixed="kjv", baseline="gru"),
    ]
    frame = pd.DataFrame([vars(row) for row in rows])
    first, second = _swap_words.equivalences(frame, "code")
    assert "is worth 3.00" in first
    assert second == (
        f"Trained on kjv, whether these help {formatting.UNDETERMINED}: "
        "lstm → transformer and gru → transformer."
    )


def test_a_swap_is_told_once_and_as_a_gain():
    rows = [
        swap(0.4, 0.3, 0.6),
        swap(2.5, 2, 3, baseline="transformer", alternative="lstm"),
    ]
    frame = pd.DataFrame([vars(row) for row in rows])
    told = _view.told_once(frame, frame.factor)
    assert told.factor.tolist() == [2.5]
    (said,) = _swap_words.equivalences(frame, "code")
    assert said.startswith("transformer → lstm on code is worth 2.50")
    apart = frame.assign(fixed=["code", "kjv"])
    assert len(_view.told_once(apart, apart.factor)) == 2


def test_many_swaps_share_a_sentence_the_smallest_first():
    rows = [vars(swap(3.0 + i, 2.2, 9.1, baseline=f"f{9 - i}")) for i in range(9)]
    rows.append(vars(swap(1.2, 0.9, 1.5, baseline="near")))
    (first,) = _swap_words.equivalences(pd.DataFrame(rows), "code")
    assert "near 1.20 (0.900 to 1.50), f9 3.00 (2.20 to 9.10), f8 4.00" in first
    assert all(f"f{i} " in first for i in range(1, 10))
    assert first.endswith(f"Whether near differs {formatting.UNDETERMINED}.")


def test_where_a_lead_begins_is_told_as_far_as_it_is_known():
    row = {"kind": "architecture", "baseline": "a", "alternative": "b", "fixed": "code"}
    row |= {"compute": 2e9, "range_low": 1e8, "range_high": 1e12, "p_none": 0.1}
    known, open_ = currencies.crossovers(
        pd.DataFrame(
            [row | {"low": 1e9, "high": 4e9}, row | {"low": 0.0, "high": math.inf}]
        )
    )
    assert known == "b is ahead of a on code from 2.00e9 FLOPs on (1.00e9 to 4.00e9)."
    assert "2.00e9" in open_ and formatting.UNDETERMINED in open_
    many = currencies.crossovers(pd.DataFrame([row | {"low": 1e9, "high": 4e9}] * 9))
    assert len(many) == formatting.MOST_SENTENCES + 1


def test_what_stays_many_is_left_to_the_table():
    rows = [
        vars(swap(3.0, 2.2, 4.1, baseline=f"f{i}", alternative=f"t{i}"))
        for i in range(10)
    ]
    said = _swap_words.equivalences(pd.DataFrame(rows), "code")
    assert len(said) == formatting.MOST_SENTENCES + 1
    assert said[-1].startswith("4 more ")


def test_a_refused_fit_says_why(study):
    note = Note("refused", "joint", "The joint law is refused: one budget only.")
    nothing = study.equivalents.assign(factor=math.nan, low=math.nan, high=math.nan)
    kept = ("runs", "cells", "equivalents")
    bare = emptied(study, *(name for name in schema.frames() if name not in kept))
    bare = bare.replace(equivalents=nothing, notes=(note,))
    said = answer.summary(bare)
    # What is said of predictions and claims needs no law, and stands among it.
    assert [one for one in said if "law" in one.lower()] == [
        "No law could be fitted.",
        note.text,
    ]
    assert formatting.UNDETERMINED in said[0] and "–" not in " ".join(said)


def test_notes_that_change_a_verdict_come_first_and_the_rest_is_folded():
    notes = [Note("bound", "fits", f"law {i} ends on a bound") for i in range(9)]
    notes += [Note("disagree", "joint", f"target {i} disagrees") for i in range(3)]
    page = markup.notes_of(notes)
    assert page.count('class="kind"') == 2 and page.count("<details>") == 2
    seen = re.sub(r"<details>.*?</details>", "", page)
    assert "target 0 disagrees" in seen and "target 1" not in seen
    assert "on a bound" not in seen.replace("parameters on a bound", "")
    assert page.index("disagrees") < page.index("law 0 ends")
    for note in notes:
        assert note.text in page


def test_an_infinite_corpus_effect_has_no_lambda():
    row = {"architecture": "a -> b", "corpus": "d -> e", "p_architecture": 0.0}
    said = ratio.sentence(row | {"lambda": -0.0, "low": -0.0, "high": 0.0})
    assert said == (
        "The corpus (d → e) moves the loss more than the architecture (a → b) "
        "(100% of draws): no amount of data makes up for it."
    )


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.99, "more than"), (0.01, "less than"), (0.9, formatting.UNDETERMINED)],
)
def test_ratio_needs_the_draws(share, said):
    row = {"architecture": "a -> b", "corpus": "d -> e", "p_architecture": share}
    sentence = ratio.sentence(row | {"lambda": 2.5, "low": 0.4, "high": 9.0})
    kinds = ("more than", "less than", formatting.UNDETERMINED)
    assert [kind for kind in kinds if kind in sentence] == [said]


def test_variance_names_a_factor_only_if_clear():
    frame = pd.DataFrame(
        {"factor": ["tokens", "family"], "share": [0.5, 0.3], "box": ["", ""]}
    )
    apart = frame.assign(low=[0.45, 0.2], high=[0.6, 0.4])
    assert "Most of" in variance.sentence(apart)
    assert formatting.UNDETERMINED in variance.sentence(apart.assign(high=[0.6, 0.46]))


def test_disagreement_is_reported(study):
    rows = [swap(3.0, 2.2, 4.1), swap(1.2, 1.0, 1.5, method="paired")]
    frame = pd.DataFrame([vars(row) | {"target": "mixture"} for row in rows])
    assert len(equivalents.disagreements(frame)) == 1
    frame.loc[1, "high"] = 2.3
    assert equivalents.disagreements(frame) == []


def test_what_was_measured_leads_where_the_law_disagrees(study):
    head = {"target": "mixture", "question": "architecture", "value": 2.0, "low": 1.5}
    head |= {"alternative": "lstm", "verdict": "gain", "moves": False}
    verdicts = [
        head | {"baseline": baseline, "setting": setting}
        for baseline in ("transformer", "convolution")
        for setting in ("as reported", "another")
    ]
    row = {"kind": "architecture", "baseline": "transformer", "alternative": "lstm"}
    row |= {"fixed": "code", "target": "mixture", "cells": 8, "measured": -0.02}
    row |= {"low": -0.03, "high": -0.01, "modelled": -0.05, "model_low": -0.06}
    agreement = pd.DataFrame([row | {"model_high": -0.04, "agrees": False}])
    apart = study.replace(agreement=agreement, verdicts=pd.DataFrame(verdicts))
    for part in (FRONT, ANSWER):
        said = sentences(apart.view, part)
        assert said[0].startswith("Measured on 8 matched cells, transformer → lstm")
        assert "The leading law disagrees" in said[0]
    # Nothing beside it says that the same verdict holds.
    front, answer = (" ".join(sentences(apart.view, p)) for p in (FRONT, ANSWER))
    assert "1 of the 2 comparisons keeps its outcome under every" in front
    assert "1 of 2 verdicts over all cells holds under" in answer
    agreed = apart.replace(agreement=agreement.assign(agrees=True))
    said = " ".join(sentences(agreed.view, FRONT))
    assert "Both comparisons keep their outcome under every" in said


def test_what_seems_to_disagree_stands_side_by_side(study, monkeypatch):
    head = ("lstm", "transformer", "code")
    back = ("transformer", "lstm", "code")
    law = Finding(*head, "the law", "2 times", 0.5, 0.9, "data", "one cell")
    cells = Finding(*back, "cells", "loss up", 0.1, 0.2, "log loss", "every cell")
    near = Finding(*head, "path", "1.5 times", 0.2, 0.6, "data", "its own size")
    above = Finding(*head, "path", "9 times", 1.5, 2.6, "data", "its own size")

    def shown(*found):
        new = Question("moon", "Moon", 1, findings=lambda view: found)
        monkeypatch.setattr("analysis.questions._question.questions", lambda: (new,))
        return markup.side_by_side(at_odds(study.view))

    assert "<table" not in shown(law, near)
    assert "<table" not in shown(law, dataclasses.replace(cells, fixed="kjv"))
    for other in (cells, above, dataclasses.replace(near, disputed=True)):
        page = shown(law, other)
        assert page.count("<tr>") == 3 and "one cell" in page


def test_limits_name_what_is_open(study):
    frame = study.equivalents.assign(low=0.5, high=3.0, factor=1.2)
    said = " ".join(front.unsaid(study.replace(equivalents=frame)))
    assert formatting.UNDETERMINED in said and "lstm → transformer (code)" in said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.0123"),
        (-2.5, "−2.50"),
        (1234.6, "1235"),
        (3e-9, "3.00e−9"),
        (math.inf, "∞"),
        (math.nan, "–"),
    ],
)
def test_numbers(value, text):
    assert formatting.number(value) == text


def test_counts():
    values = (950, 8_160, 72_000, 2_457_600, 1e9 - 0.1, 3e9, 2.5e15)
    shown = ["950", "8.16k", "72k", "2.46M", "1B", "3B", "2.50e15"]
    assert [formatting.count(value) for value in values] == shown


# The command


def test_mapping_is_read():
    assert main.mapping("params=N, tokens=D") == {"params": "N", "tokens": "D"}
    for wrong in ("params", "=N", "params=N,params=M"):
        with pytest.raises(main.UserError, match="map"):
            main.mapping(wrong)


def test_page_and_json_have_one_front(written):
    told = front.front(saved.read(written.parent / "report.json"))
    assert 2 <= len(told.said) <= front.MOST_SAID and told.limits
    body = json.loads((written.parent / "report.json").read_text())
    assert body["front"]["said"] == told.said
    assert body["front"]["limits"] == told.limits
    page = written.read_text()
    first = page[: page.index('id="explorer"')]
    assert all(markup.text_of(text) in first for text in told.said + told.limits)
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
    assert front.front(study).said[0] == text


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
    monkeypatch.setattr(figures, "draw", lambda *_: {})
    assert command("report", analysed, "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "out" / "report.html") in said
    told = front.front(study)
    sentences = [*answer.summary(study), *told.said, *told.limits]
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


# The browser


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_opens_in_a_browser_without_errors(written, study):
    """Runs the page's script: a table sorted, a figure enlarged, no complaint."""
    check = """(async () => {
      const fold = document.querySelector("#fits .packed").parentNode;
      fold.open = true;
      await new Promise((done) => new MutationObserver(done).observe(
        fold, {childList: true}));
      const head = fold.querySelector("th.num");
      head.click();
      const column = [...head.parentNode.cells].indexOf(head);
      const keys = [...head.closest("table").tBodies[0].rows]
        .map((row) => Number(row.cells[column].dataset.v));
      const sorted = keys.every((key, i) => i === 0 || keys[i - 1] <= key);
      document.querySelector(".zoom").click();
      const enlarged = document.querySelector("dialog[open] svg") !== null;
      document.querySelector("dialog button").click();
      const open = document.querySelector("#fits details").open;
      document.body.dataset.check =
        `sorted ${sorted} of ${keys.length} enlarged ${enlarged} unfolded ${open}`;
    })();"""
    page, complaints = opened(written, check, "#fits")
    rows = len(study.fits)
    assert rows > markup.MOST_PLAIN
    said = f"sorted true of {rows} enlarged true unfolded true"
    assert f'data-check="{said}"' in page
    assert complaints == []


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_runs_are_explored_in_a_browser(written):
    """Families and sizes go and come back, laws stand over runs, a run is looked up."""
    check = """
      (async () => {
        document.querySelector("#explorer details").open = true;
        await explorer.open();
        const said = [explorer.marks(), explorer.lines() > 0];
        await explorer.change({families: ["lstm"]});
        said.push(explorer.marks(), explorer.hover(
          [...Array(200).keys()].find((i) => explorer.hover(i).includes("lstm"))));
        await explorer.change(
          {families: ["lstm", "transformer", "convolution"], x: "flops"});
        said.push(explorer.marks());
        await explorer.change({what: "residual"});
        said.push(explorer.marks() > 0);
        await explorer.change({what: "loss", x: "params"});
        explorer.pick(0);
        said.push(explorer.told());
        document.body.dataset.check = JSON.stringify(said);
      })();
    """
    page, complaints = opened(written, check)
    found = re.search(r'data-check="([^"]*)"', page)
    assert found is not None, complaints
    every, laws, some, run, again, residuals, picked = json.loads(
        html.unescape(found[1])
    )
    runs = saved.read(written.parent / "report.json").runs
    losses = runs.filter(like="loss:").iloc[:, 0]
    lstm = losses[(runs.family == "lstm").to_numpy()]
    assert (every, some, again) == (losses.count(), lstm.count(), losses.count())
    assert laws and residuals
    assert "lstm, trained on" in run and "parameters" in run and "loss" in run
    assert runs.run_id[0] in picked and "learning rate" in picked
    assert [line for line in complaints if "willReadFrequently" not in line] == []
