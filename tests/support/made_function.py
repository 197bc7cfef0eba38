"""Frames of the questions about predictions, from a small planted workdir."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping

import pandas as pd

import analysis
from analysis import schema
from analysis.design import factors
from analysis.predictions.groups import Comparison, comparison
from analysis.questions import exhausted_data
from analysis.questions._asked import Whole
from analysis.questions._question import questions
from analysis.results import Analysis, Note
from tests.support.made_predictions import Plan

PLAN = Plan(
    families=("convolution", "lstm", "ngram", "transformer"),
    corpora=("docs", "code"),
    budgets=(2048, 4096, 8192, 16384),
    fractions=(0.25, 0.5, 1.0),
    positions=64,
    vocab=12,
)
# Runs that read their data again, and get worse from half of their training on.
EXHAUSTED = Plan(
    families=("gru", "lstm"),
    corpora=("docs",),
    unique=1024,
    budgets=tuple(1024 * epochs for epochs in (1, 4, 16, 64, 256)),
    positions=100,
    vocab=12,
    stop=0.5,
    worse=0.5,
    floor=0.5,
    rate=0.7,
)


def compared(plan: Plan, folder: str, draws: int = 40) -> Comparison:
    """The comparison that an analysis of the planted workdir makes."""
    plan.write(folder)
    table, described = factors.fold(analysis.load(folder))
    return comparison(table, described, table.predictions[0], draws)


def answered(
    asked: Comparison, *names: str
) -> tuple[dict[str, pd.DataFrame], list[Note]]:
    """Frames and notes of the questions of these names, or of all."""
    frames: dict[str, list[pd.DataFrame]] = {}
    notes: list[Note] = []
    for question in questions():
        if question.compares is None or (names and question.name not in names):
            continue
        parts, said = question.compares(asked)
        notes += said
        for name, part in parts.items():
            frames.setdefault(name, []).append(part)
    known = schema.frames()
    return {name: known[name].join(parts) for name, parts in frames.items()}, notes


@functools.cache
def frames() -> Mapping[str, pd.DataFrame]:
    """All of them for one plan, made once."""
    with tempfile.TemporaryDirectory() as folder:
        made = answered(compared(PLAN, folder))[0]
    with tempfile.TemporaryDirectory() as folder:
        return made | exhausted(folder)[0]


def exhausted(folder: str) -> tuple[dict[str, pd.DataFrame], list[Note], Comparison]:
    """Frames of what is left once data is exhausted, and the comparison behind them."""
    asked = compared(EXHAUSTED, folder)
    table, _ = factors.fold(analysis.load(folder))
    nothing = Analysis.of(title="made", unit="nats/token", targets=("docs",))
    parts, notes = exhausted_data.concludes(Whole(table, nothing))
    frames = answered(asked, "ensembles")[0]
    known = schema.frames()
    mine = {name: known[name].join([part]) for name, part in parts.items()}
    return {**mine, **frames}, list(notes), asked
