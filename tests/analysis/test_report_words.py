"""The words of the report follow the numbers, and say no more than these carry."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import math
import re
from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.text import Text

from analysis import formatting, schema
from analysis.questions import (
    _swap_words,
    _view,
    currencies,
    equivalents,
    ratio,
    variance,
)
from analysis.questions._question import (
    ANSWER,
    FRONT,
    Finding,
    Question,
    at_odds,
    sentences,
)
from analysis.report import answer, build, front, markup, saved
from analysis.results import Note
from tests.support.made_analysis import emptied


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
        (swap(math.nan, math.nan, math.nan), ["has no data-equivalent"], "–"),
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
        "No amount of data on code reaches the loss of transformer with lstm "
        "(in 100% of draws)."
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
        "No amount of kjv reaches the loss of code for lstm or transformer "
        "(in 100% of draws)."
    ]
    rows[1] |= {"factor": 3.0, "low": 2.2, "high": 4.1, "p_infinite": 0.0}
    one, two = _swap_words.equivalences(pd.DataFrame(rows), "code")
    assert "is worth 3.00" in two and one.endswith("for lstm (in 100% of draws).")


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
    reported = _view.reported_once(frame, frame.factor)
    assert reported.factor.tolist() == [2.5]
    (said,) = _swap_words.equivalences(frame, "code")
    assert said.startswith("transformer → lstm on code is worth 2.50")
    apart = frame.assign(fixed=["code", "kjv"])
    assert len(_view.reported_once(apart, apart.factor)) == 2


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
    assert "The largest part of" in variance.sentence(apart)
    assert "Most of" in variance.sentence(apart.assign(low=[0.55, 0.2]))
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


def test_a_table_of_pictures_is_told_in_pictures(study):
    pictures = study.replace(counted="pictures", unit="nats/dim")
    page = build.page(pictures, {})
    packed = re.findall(r'class="packed[^>]*>([^<]+)', page)
    folds = [gzip.decompress(base64.b64decode(held)).decode() for held in packed]
    assert "training pictures" in page and any("pictures" in fold for fold in folds)
    for html in (page, *folds):
        shown = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
        assert not re.findall(r">[^<]*\btokens?\b[^<]*", shown)
    body = saved.to_json(pictures)
    said = [*body["front"]["said"], *body["answer"], *body["checklist"]["training"]]
    assert any("pictures" in text for text in said)
    assert not any(re.search(r"\btokens?\b", text) for text in said)
    assert saved.from_json(body).counted == "pictures"
    assert "pictures" in pictures.describe("runs").meaning.str.cat(sep=" ")
    labels = [text.get_text() for text in pictures.plot("loss").findobj(Text)]
    assert any("training pictures" in label for label in labels)
    assert not any("tokens" in label for label in labels)
