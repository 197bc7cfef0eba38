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
from analysis.questions._question import questions
from analysis.results import Note
from tests.support.made_predictions import Plan

PLAN = Plan(
    families=("convolution", "lstm", "ngram", "transformer"),
    corpora=("docs", "code"),
    budgets=(2048, 4096, 8192, 16384),
    fractions=(0.25, 0.5, 1.0),
    positions=64,
    vocab=12,
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
        return answered(compared(PLAN, folder))[0]
