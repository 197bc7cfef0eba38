"""What ensembles reach once a text is exhausted: the mean of seeds' predictions.

Made from kept predictions, at no training. What is left of the gap between two families
when the scatter of their seeds is taken out is a difference of the families.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.formatting import few, interval_text, number, on
from analysis.laws import Array
from analysis.predictions import ensemble
from analysis.predictions.groups import Comparison
from analysis.questions._exhausted import EARLY, FINAL, ONE_SEED, ends_of
from analysis.questions._question import Absent, Answer, Question, Table
from analysis.questions._view import View, at_largest, probed
from analysis.questions.exhausted_data import EPOCHS, READING
from analysis.schema import Column, declare, measured

NATS = "nats/token"
FRAMES = (
    declare(
        "ensembles",
        "Loss at the probes of the mean of seeds' predictions, after the most epochs.",
        "probes family corpus params unique_tokens tokens",
        EPOCHS,
        READING,
        Column("seeds", "runs in the ensemble"),
        Column("loss", "mean loss of a single seed at the probes", NATS),
        Column("ensemble", "loss of the mean of their predictions", NATS),
        *measured("gain", "the former less the latter", NATS),
        Column("floor", "loss of an ensemble of seeds without end", NATS),
        "low high",
        Column("refused", "why no such floor can be given"),
    ),
)


def compares(asked: Comparison) -> Answer:
    """Ensembles of the seeds that read their data most often, at its own probes."""
    rows = []
    for reading, groups in ((EARLY, asked.stopped), (FINAL, asked.ends)):
        mine = groups[
            (groups.corpus == asked.own) & (groups.tokens > groups.unique_tokens)
        ]
        if mine.empty:
            continue
        place = mine.groupby(["family", "level", "unique"])
        most = mine[mine.tokens == place.tokens.transform("max")]
        most = most.sort_values("seeds", ascending=False, kind="stable")
        for _, row in most.drop_duplicates(["family", "level", "unique"]).iterrows():
            rows.append(_ensemble(asked, reading, row))
    return {"ensembles": pd.DataFrame(rows)}, []


def _ensemble(asked: Comparison, reading: str, row: Any) -> dict[str, Any]:
    """To second order what n seeds' mean loses beyond that of many falls as 1 / n."""
    points, compared = asked.points(row), asked.compared
    names = ("family", "corpus", "params", "unique_tokens", "tokens")
    head = {"probes": asked.predictions.name, "reading": reading, "seeds": len(points)}
    head |= {name: row[name] for name in names}
    head |= {"epochs": row.tokens / row.unique_tokens}
    loss = compared.loss(points)
    if len(points) < 2:
        return head | {"loss": loss[0], "refused": ONE_SEED}
    many = _of_mean(asked, points)
    # What a seed moves the ensemble's loss by, from the ensembles without it.
    less = [_of_mean(asked, [p for p in points if p != one]) for one in points]
    share = (len(points) - 1) / len(points)
    parts = {
        one: -share * (value - np.mean(less, axis=0))
        for one, value in zip(points, less, strict=True)
    }
    single = compared.over_documents(asked.predictions.losses(points).mean(axis=0))
    # By convexity the mean never loses more than its runs do on average.
    gain = compared.together(
        single - many, {k: -v for k, v in parts.items()}, (points,)
    )
    tends = many - (single - many) / (len(points) - 1)
    tends = compared.together(tends, parts, (points,))
    return head | {
        **{"loss": loss[0], "ensemble": many[0]},
        **{"gain": gain[0], **ends_of(np.maximum(gain, 0.0), "gain")},
        **{"floor": tends[0], **ends_of(tends), "refused": ""},
    }


def _of_mean(asked: Comparison, points: Any) -> Array:
    """Loss of the mean of predictions over documents, [1 + draws]."""
    logs = ensemble.log_mean(asked.predictions, points)
    target = asked.predictions.probes.target
    return asked.compared.over_documents(-logs[np.arange(len(logs)), target])


# --- Words ----------------------------------------------------------------------------


def text_of(row: Any) -> str:
    gain = f"{number(row.gain)} nats ({interval_text(row.gain_low, row.gain_high)})"
    tends = f"{number(row.floor)} ({interval_text(row.low, row.high)})"
    return (
        f"The mean of {row.seeds} seeds of {row.family}{on(row.corpus)}, each at its "
        f"best step, loses {gain} less than one at {row.probes}; that of seeds without "
        f"end would lose {tends}"
    )


def said(view: View) -> list[str]:
    frame = probed(view.analysis.ensembles)
    reported = at_largest(frame[(frame.reading == EARLY) & (frame.refused == "")])
    return few([f"{text_of(row)}." for row in reported.itertuples()])


QUESTION = Question(
    name="ensembles",
    title="What do ensembles of seeds reach?",
    place=53.3,
    absent=Absent("ensemble of seeds", ("ensembles",), ("ensembles",)),
    said=said,
    about=("ensembles",),
    tables=(Table("Ensembles of seeds", "ensembles"),),
    compares=compares,
)
