"""Every sentence that gives a loss names its unit."""

from __future__ import annotations

import pandas as pd

from analysis import schema
from analysis.questions._question import questions
from analysis.report import answer
from tests.support.made_analysis import made_analysis
from tests.support.made_answers import answers

UNIT = "bits/byte"
# Distances of predictions are computed from chances, and are nats whatever a loss is.
OWN_UNIT = {"distance", "excess", "where_they_differ", "truth_distance"}


def said(analysis):
    """The sentences of all questions and of the answer, by where they stand."""
    for one in questions():
        if one.said is not None and one.name not in OWN_UNIT:
            for place, text in enumerate(one.said(analysis.view)):
                yield f"{one.name} {place}", text
    for place, text in enumerate(answer.summary(analysis)):
        yield f"answer {place}", text
    for note in analysis.notes:
        yield f"note on {note.about}", note.text


def scaled(analysis, factor):
    """The same with every loss larger, and nothing else changed."""
    frames = {}
    for name, known in schema.frames().items():
        frame = getattr(analysis, name, pd.DataFrame())
        losses = [
            column.name
            for column in known.columns
            if column.unit == schema.LOSS and column.name in frame
        ]
        if losses and len(frame):
            frames[name] = frame.assign(**{c: factor * frame[c] for c in losses})
    assert len(frames) > 5
    return analysis.replace(**frames)


def test_every_sentence_that_gives_a_loss_names_its_unit():
    own = {one.name: one for one in questions()}
    assert OWN_UNIT.issubset(own)
    analysis = made_analysis().replace(**answers(), unit=UNIT)
    before, after = dict(said(analysis)), dict(said(scaled(analysis, 1.371)))
    assert before.keys() == after.keys()
    of_losses = [text for key, text in before.items() if after[key] != text]
    assert len(of_losses) > 1
    for text in of_losses:
        assert UNIT in text, text
    for text in before.values():
        assert "object at 0x" not in text
