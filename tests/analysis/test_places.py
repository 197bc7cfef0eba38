"""Every statement says where it holds, and how many rows stand behind it."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import formatting
from analysis.main import DONE, NOTHING, main, parse
from analysis.questions import _matched_words, variance
from analysis.questions._question import questions
from analysis.report import front, markup


def made(families=("a", "b"), corpora=("d", "e"), sizes=2, budgets=3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for k, family in enumerate(families):
        for j, corpus in enumerate(corpora):
            for params in np.geomspace(1e7, 4e7 * 2 ** (sizes - 2), sizes):
                for tokens in 2e8 * 4.0 ** np.arange(budgets):
                    loss = 1.8 + 300 / params**0.33
                    loss += 900 / (tokens * (1 + 0.5 * k)) ** 0.33
                    loss *= (1 + 0.1 * j) * np.exp(rng.normal(0, 0.002))
                    row = {"family": family, "corpus": corpus, "params": params}
                    rows.append(row | {"tokens": tokens, "loss": loss})
    return pd.DataFrame(rows)


def run(capsys, tmp_path, frame: pd.DataFrame, *options: str) -> tuple[int, str]:
    path = tmp_path / "runs.csv"
    frame.to_csv(path, index=False)
    command, *rest = options
    code = main(parse(["", command, str(path), "--draws", "40", *rest]))
    return code, capsys.readouterr().out


@pytest.fixture
def one_family() -> pd.DataFrame:
    return made(("all",), ("all",), sizes=4, budgets=4)


@pytest.mark.parametrize("named", [False, True])
def test_doubling_the_data_has_its_place(capsys, tmp_path, one_family, named):
    frame = one_family.assign(family="gru", corpus="prose")
    frame = frame if named else frame.drop(columns=["family", "corpus"])
    code, said = run(capsys, tmp_path, frame, "compare")
    (doubling,) = [line for line in said.splitlines() if "doubling the data" in line]
    assert code == DONE
    assert re.match(r"- At \S+ parameters and \S+ tokens, doubling", doubling)
    assert ("of gru on prose" in doubling) == named and "all" not in doubling
    assert "(10M to 160M parameters, 200M to 12.8B tokens)" in said


def test_text_says_the_rows_that_json_says(capsys, tmp_path, one_family):
    slow = one_family.assign(lr=1e-2, loss=one_family.loss * 1.05)
    again = one_family.head(2).assign(unique_tokens=1e8, lr=1e-3)
    frame = pd.concat([one_family.assign(lr=1e-3), slow, again]).reset_index(drop=True)
    frame.loc[0, "loss"] = np.nan
    for command in ("compare", "fit"):
        _, text = run(capsys, tmp_path, frame, command)
        _, body = run(capsys, tmp_path, frame, command, "--json")
        found = json.loads(body)
        counts = {name: column[0] for name, column in found["counts"].items()}
        assert counts["usable"] == 33 and counts["fitted"] == 15
        parts = ("other_settings", "aside", "repeated", "fitted")
        assert sum(counts[name] for name in parts) == counts["usable"]
        seen = [line[2:] for line in text.splitlines() if line.startswith("- ")]
        assert seen == found["answer"]
        (said,) = [line for line in seen if " are fitted" in line]
        assert f"Of {counts['usable']} usable rows, {counts['fitted']} are" in said
        assert f"{counts['other_settings']} are not at the best setting" in said
        assert counts["aside"] == 2 and "2 are withheld" in said
        if command == "fit":
            joint = found["quality"]["law"].index("joint")
            assert found["quality"]["runs"][joint] == counts["fitted"]


def test_paired_effects_are_told_where_no_law_stands(capsys, tmp_path):
    code, said = run(capsys, tmp_path, made(), "compare", "--target", "shared")
    assert code == DONE
    assert "Measured without a law on 12 and 12 matched cells" in said
    assert "the corpus moves the loss more" in said
    assert "10M to 40M parameters and 200M to 3.2B tokens" in said


def test_a_measured_interval_is_told_and_is_in_the_json(capsys, tmp_path):
    frame = made(corpora=("d",), sizes=2, budgets=3)
    frame = frame[frame.params < 2e7].drop(columns="corpus")
    code, text = run(capsys, tmp_path, frame, "compare")
    _, body = run(capsys, tmp_path, frame, "compare", "--json")
    found = json.loads(body)
    seen = [line[2:] for line in text.splitlines() if line.startswith("- ")]
    assert code == DONE and seen == found["answer"]
    assert "interval not known" not in text and "(all)" not in text
    (said,) = [line for line in seen if "a → b" in line]
    logs = [found["measured"][name][0] for name in ("log_ratio", "low", "high")]
    mean, low, high = (f"{formatting.number(100 * np.expm1(log), 2)}%" for log in logs)
    assert f"a → b lowers the loss: {mean} ({low} to {high}) over 3 matched" in said
    # The factor over all cells stands beside it, for whoever reads the frames.
    assert found["equivalents"]["params"][-1] == "NaN"
    assert found["equivalents"]["factor"][-1] > 1
    # Nothing of it is called open, on the front page or beside what it lacks.
    path = tmp_path / "runs.csv"
    study = analysis.analyse(analysis.load(path), draws=40)
    page = front.front(study)
    assert any("lowers the loss" in one for one in page.said)
    assert not any("Gain or loss" in one for one in page.limits)


def test_architectures_are_compared_on_the_text_that_is_scored(capsys, tmp_path):
    frame = made(corpora=("d", "e"), budgets=2).rename(columns={"loss": "loss:d"})
    # On text that it was not trained on, b is far worse.
    frame.loc[(frame.family == "b") & (frame.corpus == "e"), "loss:d"] *= 1.5
    code, said = run(capsys, tmp_path, frame, "compare")
    assert code == DONE
    (line,) = [one for one in said.splitlines() if "a → b lowers the loss" in one]
    assert "over 4 matched cells trained on d (" in line
    frame = frame.rename(columns={"loss:d": "loss:f"})
    _, said = run(capsys, tmp_path, frame, "compare", "--target", "shared")
    assert "over 8 matched cells trained on d and e (" in said


def test_few_cells_have_the_interval_of_their_seeds(capsys, tmp_path):
    parts = [made(("a", "b"), ("d",), sizes=2, budgets=1)]
    rng = np.random.default_rng(1)
    parts += [p.assign(loss=p.loss * np.exp(rng.normal(0, 0.001, 4))) for p in parts]
    frame = pd.concat([p.assign(seed=k) for k, p in enumerate(parts)])
    found = analysis.analyse(analysis.from_frame(frame), draws=40).measured
    (row,) = found.itertuples()
    assert row.cells == 2 and row.low < row.log_ratio < row.high < 0
    # The truth, without noise: b gets half as much again out of its data.
    a, b = 900 / 2e8**0.33, 900 / 3e8**0.33
    sizes = 300 / np.array([1e7, 4e7]) ** 0.33
    truth = np.log((1.8 + sizes + b) / (1.8 + sizes + a)).mean()
    assert row.low < truth < row.high


def test_a_missing_ratio_has_its_reason_once(one_family):
    """Swaps that are open on each of many targets are no reason for it."""
    frame = made(("all",), ("d", "e"), sizes=4, budgets=4).drop(columns="family")
    for name in ("x", "y", "z"):
        frame[f"loss:{name}"] = frame.loss * (1 + 0.1 * (frame.corpus == "e"))
    frame.loc[frame.corpus == "e", ["loss:x", "loss:y", "loss:z"]] /= 1.21
    frame = frame.drop(columns="loss")
    study = analysis.analyse(analysis.from_frame(frame), draws=40)
    assert any(note.about == "swaps" for note in study.notes)
    (ratio,) = [one for one in questions() if one.name == "ratio"]
    page = markup.section(ratio, study.view, lambda *_: "")
    assert "an effect of families needs two" in page
    assert page.count("scored on") == 0


def test_text_names_the_targets_that_it_is_not_about(capsys, tmp_path, one_family):
    frame = one_family.drop(columns=["family", "corpus"])
    frame = frame.rename(columns={"loss": "loss:web"})
    frame["loss:code"] = 1.1 * frame["loss:web"]
    _, said = run(capsys, tmp_path, frame, "compare")
    assert "about the loss on web; the tables also have code." in said


def test_what_does_not_vary_has_no_share_of_the_variance(one_family):
    study = analysis.analyse(analysis.from_frame(one_family), draws=40)
    assert list(study.variance.factor) == ["params", "tokens"]
    assert study.variance.share.sum() == pytest.approx(1.0)
    (_, said) = variance.said(study.view)
    assert said.startswith("The architecture and the text trained on did not vary")
    assert "does not name the optimiser: how much they explain is unknown" in said


def test_a_table_that_tells_nothing_still_ends_in_3(capsys, tmp_path):
    frame = made(("a",), ("d",))
    code, said = run(capsys, tmp_path, frame, "compare")
    assert code == NOTHING and "No law could be fitted" in said


def test_repeated_data_is_pointed_to_its_law(capsys, tmp_path, one_family):
    frame = one_family.assign(unique_tokens=1e8)
    for command in ("compare", "fit"):
        _, said = run(capsys, tmp_path, frame, command)
        assert "16 of 16 rows read some data more than once" in said
        assert "fit TABLE --law data_constrained" in said
    few = one_family.assign(unique_tokens=one_family.tokens)
    few.loc[0, "unique_tokens"] = 1e8
    _, said = run(capsys, tmp_path, few, "fit")
    assert "data_constrained" not in said and "1 repeats data" in said


def test_measured_effects_whose_intervals_meet_are_undetermined():
    row = {
        "baseline": "a",
        "alternative": "b",
        "cells": 5,
        "log_ratio": -0.03,
        "low": -0.05,
    }
    row |= {"high": -0.01, "params_low": 1e7, "params_high": 1e8}
    row |= {"tokens_low": 1e8, "tokens_high": 1e9, "corpora": "prose"}
    rows = [row | {"kind": "architecture"}, row | {"kind": "corpus", "log_ratio": 0.1}]
    (said,) = _matched_words.measured_sentences(pd.DataFrame(rows))
    assert formatting.UNDETERMINED in said
    rows[1] |= {"low": 0.06, "high": 0.14}
    (said,) = _matched_words.measured_sentences(pd.DataFrame(rows))
    assert "the corpus moves the loss more" in said
    assert "the architecture (a → b trained on prose) changes" in said
    rows[1] |= {"low": np.nan}
    (said,) = _matched_words.measured_sentences(pd.DataFrame(rows))
    assert formatting.UNDETERMINED in said and "interval not known" in said
