"""Do architectures agree on more than what counts of n-grams explain?

Two models may agree because both hold the counts of short contexts. Here that part is
taken away; see analysis/predictions/given.py for the measures and their nulls, beside
which every agreement stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import UNDETERMINED, few, interval_text, number, scale
from analysis.inference.intervals import interval
from analysis.inference.verdict import verdict
from analysis.predictions import given, positions
from analysis.predictions.groups import Comparison
from analysis.questions._question import (
    UNKEPT,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View, probed
from analysis.report.style import (
    FAINT,
    INK,
    PALETTE,
    Nothing,
    forest_axis,
    key,
    legend,
    reach,
    resize,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare, measured

FRAMES = (
    declare(
        "agreements",
        "Agreement of two architectures' predictions, beside its nulls.",
        "probes baseline alternative fixed params tokens unique_tokens",
        Column("anchor", "the run of n-grams whose part is taken away"),
        Column(
            "measure",
            "function: cosine of what is left of ln p; top-1: share of positions; "
            "loss: correlation over positions",
        ),
        Column("agreement", "of a run of one with a run of the other"),
        "low high",
        Column("seeds", "the same of two seeds of one, mean of the two groups"),
        Column("permuted", "null: the other is read at any position"),
        Column("given", "null: it is read where the n-gram model is most alike"),
        *measured("beyond", "the agreement less the null given n-grams"),
        Column("beyond_low_90", "lower end of its 90% interval"),
        Column("beyond_high_90", "upper end of its 90% interval"),
    ),
)


# Fewer documents have no positions that are alike.
LEAST_DOCUMENTS = 30


def compares(asked: Comparison) -> Answer:
    """The frame of one probe set."""
    name = asked.predictions.name
    anchor = positions.counted(asked)
    swaps = [
        swap
        for swap in positions.architectures(asked)
        if not any(positions.is_counted(row.family) for row in swap[1:])
    ]
    lacking = ""
    if anchor is None:
        lacking = f"no run of {positions.COUNTED} trained on its corpus has predictions"
    elif not swaps:
        lacking = "no two other architectures are at one size and budget"
    elif len(set(asked.predictions.probes.document)) < LEAST_DOCUMENTS:
        lacking = f"it has under {LEAST_DOCUMENTS} documents"
    if lacking:
        text = f"Agreement beyond n-grams at {name} is undetermined: {lacking}."
        return {}, [Note("undetermined", "agreements", text)]
    rows = list(_rows(asked, anchor, swaps))
    return {"agreements": pd.DataFrame(rows)}, []


def _rows(
    asked: Comparison, anchor: Any, swaps: list[positions.Pair]
) -> Iterator[dict[str, Any]]:
    point = asked.points(anchor)[0]
    counts = given.Counts.of(asked.predictions, asked.predictions.read(*point))
    runs = {p for _, *ends in swaps for row in ends for p in asked.points(row)}
    known = {p: given.seen(asked.predictions, counts, p) for p in sorted(runs)}
    for head, one, two in swaps:
        where = {name: two[name] for name in ("params", "tokens", "unique_tokens")}
        where |= {"probes": asked.predictions.name, "anchor": point[0]}
        f, g = asked.points(one), asked.points(two)
        for measure in given.MEASURES:
            row = {**head, **where, "measure": measure}
            yield row | _row(asked, counts, measure, (f, g), known)


def _row(
    asked: Comparison, counts: given.Counts, measure: str, sides: Any, known: Any
) -> dict[str, Any]:
    compared = asked.compared
    found, permuted, alike, beyond = given.agreement(
        compared, counts, measure, sides, known
    )
    low, high = interval(found[1:])
    wide, narrow = interval(beyond[1:]), interval(beyond[1:], 0.9)
    own = [
        given.agreement(compared, counts, measure, (side, side), known)[0][0]
        if len(side) > 1
        else float("nan")
        for side in sides
    ]
    return {
        **{"agreement": found[0], "low": float(low), "high": float(high)},
        **{"seeds": sum(own) / 2, "permuted": permuted[0], "given": alike[0]},
        **{"beyond": beyond[0]},
        **{"beyond_low": float(wide[0]), "beyond_high": float(wide[1])},
        **{"beyond_low_90": float(narrow[0]), "beyond_high_90": float(narrow[1])},
    }


# --- Words and figure ----------------------------------------------------------------

PLAIN = {
    given.FUNCTION: "cosine of their log-probabilities without the n-gram part",
    given.TOP: "share of positions with the same most likely token",
    given.LOSS: "correlation of their losses over positions",
}


def sentence(row: Any) -> str:
    """An agreement, its nulls and what is beyond them."""
    place = f"At {scale(row.params, row.tokens)}, {row.baseline} and {row.alternative}"
    seeds = "unknown" if math.isnan(row.seeds) else number(row.seeds)
    text = (
        f"{place} ({row.fixed}): {PLAIN[row.measure]} {number(row.agreement)} "
        f"({interval_text(row.low, row.high)}), of two seeds {seeds}; "
        f"{number(row.permuted)} with positions permuted, and {number(row.given)} "
        "where the n-gram model is equally sure"
    )
    ends = interval_text(row.beyond_low, row.beyond_high)
    more = f"{number(row.beyond)} ({ends})"
    lie = verdict(row.beyond_low, row.beyond_high, 0.0)
    if lie == "above":
        return f"{text}. They agree beyond n-grams, by {more}."
    if lie == "below":
        return f"{text}. They agree less than n-grams explain, by {more}."
    return f"{text}. Whether they agree beyond n-grams {UNDETERMINED}: {more}."


def said(view: View) -> list[str]:
    return few([sentence(row) for row in probed(view.analysis.agreements).itertuples()])


def answers(view: View) -> list[Sentence]:
    """Of the agreement of the functions, the pair that agrees most and least."""
    frame = probed(view.analysis.agreements)
    frame = frame[frame.measure == given.FUNCTION] if len(frame) else frame
    if frame.empty:
        return []
    ends = {frame.beyond.idxmax(), frame.beyond.idxmin()}
    rows = frame.loc[sorted(ends)]
    return [Sentence(sentence(row), 48) for row in rows.itertuples()]


def draw_agreements(figure: Figure, analysis: Analysis, target: str) -> None:
    """Each agreement with its two nulls and that of seeds, a panel a measure."""
    frame = probed(analysis.agreements)
    if frame.empty:
        raise Nothing
    pairs = list(dict.fromkeys(zip(frame.baseline, frame.alternative, strict=True)))
    resize(figure, 1.4 + 0.3 * len(pairs), 7.6)
    panels = figure.subplots(1, len(given.MEASURES), squeeze=False)[0]
    for axes, measure in zip(panels, given.MEASURES, strict=True):
        rows = frame[frame.measure == measure].to_dict("records")
        shown = ["low", "high", "permuted", "given", "seeds"]
        axes.set_xlim(*reach([[row[n] for n in shown] for row in rows], [0.0]))
        for y, row in enumerate(rows):
            whisker(axes, y, row | {"value": row["agreement"]}, PALETTE[0], "o")
            for name, (colour, marker) in NULLS.items():
                axes.plot(row[name], y, marker, color=colour, ms=7, mfc="none")
        axes.axvline(0, color=INK, lw=0.8)
        names = [f"{row['baseline']}, {row['alternative']}" for row in rows]
        forest_axis(axes, names, range(len(rows)))
        if axes is not panels[0]:
            axes.set_yticklabels([])
        axes.set_xlabel(LABELS[measure])
        axes.grid(True, axis="x")
    reported = {"permuted": "positions permuted", "given": "explained by n-grams"}
    reported["seeds"] = "two seeds of one"
    handles = [key("agreement", PALETTE[0], "o")]
    legend(figure, handles + [key(reported[n], *look) for n, look in NULLS.items()])


NULLS = {"permuted": (FAINT, "x"), "given": (PALETTE[1], "|"), "seeds": (INK, "D")}
LABELS = {
    given.FUNCTION: "cosine of ln p without n-grams",
    given.TOP: "share of same most likely token",
    given.LOSS: "correlation of losses",
}

QUESTION = Question(
    name="beyond_ngrams",
    title="Do they agree beyond what n-grams explain?",
    place=54,
    absent=Absent("agreement beyond n-grams", ("agreements",), ("agreements",), UNKEPT),
    said=said,
    answers=answers,
    figures={
        "agreements": Drawing(
            draw_agreements,
            "Agreement of two architectures, with 95% intervals over documents and "
            "seeds together, beside the agreement with positions permuted, the part "
            "that n-grams explain, and the agreement of two seeds of one architecture.",
            scored=False,
        )
    },
    about=("agreements",),
    tables=(Table("Agreement and its nulls", "agreements"),),
    compares=compares,
)
