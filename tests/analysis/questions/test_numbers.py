"""Every number that a sentence gives is in a frame that its question reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd
import pytest

from analysis.questions._question import Question, questions
from analysis.results import Analysis
from tests.support.made_analysis import made_analysis
from tests.support.made_answers import answers

SHOWN = re.compile(r"(?<![\w.])[−-]?\d[\d,]*(?:\.\d+)?(?:e−?\d+)?(?:[kMB]\b)?%?")
NUMBER = SHOWN.pattern.replace(r"(?<![\w.])", "")
# An interval: 1.39 times the data (1.15 to 1.67).
ENDS = re.compile(rf"\(({NUMBER}) to ({NUMBER})\)")
TIMES = {"k": 1e3, "M": 1e6, "B": 1e9, "%": 0.01}
# Frames of single runs, of which sentences tell counts and ranges alone.
RANGES = {"runs", "cells"}
# Levels and thresholds that sentences name.
CONSTANTS = {"95%", "90%", "0%", "100%"}


class Read(dict):
    """Frames that remember which of them were read."""

    def __init__(self, frames: dict[str, pd.DataFrame]):
        super().__init__(frames)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> pd.DataFrame:
        self.names.add(name)
        return super().__getitem__(name)


def said(question: Question, analysis: Analysis) -> tuple[list[str], set[str]]:
    """What a question says, in its section and elsewhere, and the frames it read."""
    view = analysis.view
    reported = view.reported
    frames = Read(dict(analysis.frames)), Read(dict(reported.frames))
    view = Analysis(analysis.title, analysis.unit, analysis.targets, frames[0]).view
    view.__dict__["reported"] = reported.__class__(
        reported.title, reported.unit, reported.targets, frames[1]
    )
    texts = [*question.said(view), *(one.text for one in question.answers(view))]
    texts += [one.text for one in question.findings(view)]
    return texts, frames[0].names | frames[1].names


def parsed(text: str) -> tuple[float, float]:
    """A number as it is printed, and half of what its last digit is worth."""
    plain = text.replace("−", "-").replace(",", "")
    scale = 1.0
    while plain[-1] in TIMES:
        scale *= TIMES[plain[-1]]
        plain = plain[:-1]
    digits, _, power = plain.partition("e")
    scale *= float(f"1e{power or 0}")  # infinite where an id looks like a power
    last = 10.0 ** -len(digits.partition(".")[2])
    if "." not in digits and abs(float(digits)) >= 1e4:
        # Of long numbers three digits are given, and the rest are zeros.
        last = 10.0 ** (len(digits) - len(digits.rstrip("0")))
    return float(digits) * scale, 0.5 * last * scale


def known(frames: Mapping[str, pd.DataFrame], target: str) -> np.ndarray:
    """Every number of the frames' rows on a target, and what sentences make of some."""
    every = []
    for of, frame in frames.items():
        if "target" in frame and frame.target.eq(target).any():
            frame = frame[frame.target == target]
        for name in frame:
            column = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
            column = column[np.isfinite(column)]
            if column.size:
                ends = [column.min(), column.max()]
                every += [ends, [ends[0] and ends[1] / ends[0]]]
                every += [column] * (of not in RANGES)
        every += [_digits(column) for _, column in frame.items()]
        if {"observed", "predicted"} <= set(frame):
            every.append((frame.observed / frame.predicted - 1.0).to_numpy())
        if "difference" in frame:  # of logs, told as a factor
            every.append(
                np.exp(frame[["difference", "low", "high"]]).to_numpy().ravel()
            )
    return np.unique(np.abs(np.concatenate([*every, [0.0]])))


def _digits(column: pd.Series) -> list[float]:
    """Numbers in the text of a column, as a box or a warning has them."""
    texts = {text for text in column if isinstance(text, str)}
    return [parsed(found)[0] for text in texts for found in SHOWN.findall(text)]


def missing(
    texts: Iterable[str], values: np.ndarray, rows: int
) -> Iterator[tuple[str, str]]:
    """Numbers that are neither values nor counts of rows, each with its text."""
    for text in texts:
        for shown in SHOWN.findall(text):
            value, half = parsed(shown)
            among = values
            if shown.endswith("%"):
                among = np.concatenate([values, 1.0 - values[values <= 1.0]])
            near = np.abs(among - abs(value)) <= half * (1 + 1e-6) + 1e-12
            counts = shown.isdigit() and value <= rows
            if shown not in CONSTANTS and not counts and not near.any():
                yield shown, text


@pytest.fixture(scope="module")
def made() -> Analysis:
    return made_analysis().replace(**answers())


def read_by(one: Question, made: Analysis, times: float = 1.0) -> tuple:
    """What a question says, the numbers of the frames it read, and their rows."""
    texts, names = said(one, made)
    frames = {name: made.frames[name] for name in names}
    scaled = {
        name: frame.assign(**times * frame[list(frame.select_dtypes("number"))])
        for name, frame in frames.items()
    }
    rows = max(map(len, frames.values()), default=0)
    return texts, known(scaled, made.targets[0]), rows


@pytest.mark.parametrize("one", questions(), ids=lambda one: one.name)
def test_every_number_of_a_sentence_is_in_a_frame(one, made):
    assert list(missing(*read_by(one, made))) == []


def test_numbers_of_other_frames_are_missed(made):
    """The search is not so wide that it would find any number at all."""
    every, lost = 0, 0
    for one in questions():
        texts, *rest = read_by(one, made, times=1.1)
        every += sum("." in shown for text in texts for shown in SHOWN.findall(text))
        lost += sum("." in shown for shown, _ in missing(texts, *rest))
    assert every > 100 and lost > 0.6 * every, (every, lost)


def in_one_row(triple: tuple[str, ...], frame: pd.DataFrame) -> bool:
    """Whether a row has all of the numbers."""
    values = np.abs(frame.select_dtypes("number").to_numpy(float))
    if "difference" in frame:
        logs = frame[["difference", "low", "high"]].to_numpy(float)
        values = np.concatenate([values, np.exp(logs)], axis=1)
    rows = np.ones(len(values), bool)
    for shown in triple:
        value, half = parsed(shown)
        near = np.abs(values - abs(value)) <= half * (1 + 1e-6) + 1e-12
        rows &= near.any(axis=1)
    return bool(rows.any())


def intervals(text: str) -> Iterator[list[tuple[str, ...]]]:
    """Of each interval its ends with either of the two numbers before it."""
    for found in ENDS.finditer(text):
        before = SHOWN.findall(text[: found.start()])[-2:]
        if before:
            yield [(value, *found.groups()) for value in before]


def test_a_value_and_its_interval_are_of_one_row(made):
    reported = 0
    for one in questions():
        texts, names = said(one, made)
        frames = [made.frames[name] for name in names]
        for text in dict.fromkeys(texts):
            for either in intervals(text):
                reported += 1
                assert any(in_one_row(t, f) for t in either for f in frames), text
    assert reported > 100
