"""At which tokens architectures differ: loss and distance of predictions by class.

Classes are those of the probe set (scaling/corpora/_classes.py, and a corpus's own),
and how much the counts of n-grams are surprised by what stands there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.design.cells import REPEATED
from analysis.formatting import UNDETERMINED, interval_text, joined, number, scale
from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.predictions import positions
from analysis.predictions.contrasts import Compared
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
    INK,
    Nothing,
    forest_axis,
    key,
    legend,
    looks,
    reach,
    resize,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare, measured

NATS, TOKENS = "nats/token", "count"
CLASS = (
    "probes",
    Column("by", "what classes are told apart by"),
    Column("level", "the class"),
    Column("order", "its place among those of one kind"),
    Column("share", "its share of all held-out tokens"),
    Column("positions", "of the probe set that are of it"),
)
FRAMES = (
    declare(
        "class_losses",
        "Loss at the probes by class of the token to be predicted.",
        *CLASS,
        "family corpus params tokens unique_tokens",
        Column("loss", "mean over the positions of the class", NATS),
        "low high",
    ),
    declare(
        "class_distances",
        "Distance of two architectures' predictions beyond seeds, by class.",
        *CLASS,
        "baseline alternative fixed params tokens unique_tokens",
        Column("distance", "of a run of one from a run of the other", NATS),
        Column("floor", "of two seeds, mean of the two groups", NATS),
        Column("excess", "the distance less the floor", NATS),
        "low high",
        Column("low_90", "lower end of the 90% interval", NATS),
        Column("high_90", "upper end of the 90% interval", NATS),
        *measured("gap", "loss of `alternative` less that of `baseline`", NATS),
        "factor",
        Column("factor_low", "lower end of its 95% interval"),
        Column("factor_high", "upper end of its 95% interval"),
        Column(
            "less", "unique tokens of the smaller of the two points behind it", TOKENS
        ),
        Column("refused", "why no factor can be given"),
    ),
)

# A class of fewer documents has no interval to be trusted.
LEAST_DOCUMENTS = 20
SURPRISE = 10  # classes of equal share by how surprised the counts are


class Class(NamedTuple):
    """Positions of one class."""

    by: str
    level: str
    order: int
    chosen: Array


def compares(asked: Comparison) -> Answer:
    """The frames of one probe set."""
    swaps = positions.architectures(asked)
    if not swaps:
        text = f"No two architectures predict at {asked.predictions.name} at one size "
        return {}, [Note("undetermined", "classes", f"{text}and budget.")]
    groups = [(asked.points(one), asked.points(two)) for _, one, two in swaps]
    fewer = [_with_less(asked, one) for _, one, _ in swaps]
    groups += [(asked.points(row),) * 2 for row in fewer if row is not None]
    found = positions.Positions.of(asked.compared, groups)
    losses, apart, few = [], [], []
    document = asked.predictions.probes.document
    for one in classes(asked):
        if len(set(document[one.chosen])) < LEAST_DOCUMENTS:
            few.append(f"{one.by} {one.level}")
            continue
        head = _head(asked, one)
        part = found.among(one.chosen)
        rows = {int(row.name): row for _, *ends in swaps for row in ends}
        losses += [head | _loss(asked, part, row) for row in rows.values()]
        for swap, less in zip(swaps, fewer, strict=True):
            row = head | _apart(asked, part, *swap)
            apart.append(row | _factor(asked, part, *swap[1:], less))
    frames = {
        "class_losses": pd.DataFrame(losses),
        "class_distances": pd.DataFrame(apart),
    }
    return frames, _left_out(asked, few)


def _left_out(asked: Comparison, few: list[str]) -> list[Note]:
    if not few:
        return []
    text = f"Of the probe set {asked.predictions.name}, {joined(few)}: under "
    text += f"{LEAST_DOCUMENTS} documents, so no class of its own is told."
    return [Note("excluded", "classes", text)]


def classes(asked: Comparison) -> Iterator[Class]:
    """Every class of the probe set, those of surprise last."""
    for by, (codes, levels) in asked.predictions.probes.classes.items():
        for order, level in enumerate(levels):
            yield Class(by, str(level), order, codes == order)
    by, nats = surprise(asked)
    weight = asked.predictions.probes.weight
    rising = np.argsort(nats, kind="stable")
    # The share of all tokens that surprise the counts less than this one does.
    below = np.empty(len(nats))
    below[rising] = (np.cumsum(weight[rising]) - 0.5 * weight[rising]) / weight.sum()
    codes = np.minimum((below * SURPRISE).astype(int), SURPRISE - 1)
    for order in range(SURPRISE):
        ends = {0: ", least", SURPRISE - 1: ", most"}.get(order, "")
        yield Class(by, f"{order + 1} of {SURPRISE}{ends}", order, codes == order)


def surprise(asked: Comparison) -> tuple[str, Array]:
    """What the study's n-gram model lost at each position, or else single tokens."""
    row = positions.counted(asked)
    if row is None:
        probes = asked.predictions.probes
        return "surprise of single tokens", -np.log(probes.unigram[probes.target])
    nats = asked.predictions.losses(asked.points(row)).mean(axis=0)
    return "surprise of n-grams", nats


def _head(asked: Comparison, one: Class) -> dict[str, Any]:
    weight = asked.predictions.probes.weight
    return {
        "probes": asked.predictions.name,
        **{"by": one.by, "level": one.level, "order": one.order},
        "share": float(weight[one.chosen].sum() / weight.sum()),
        "positions": int(one.chosen.sum()),
    }


PLACED = ("params", "tokens", "unique_tokens")


def _loss(asked: Comparison, part: Compared, row: Any) -> dict[str, Any]:
    loss = part.loss(asked.points(row))
    low, high = interval(loss[1:])
    names = {name: row[name] for name in ("family", "corpus", *PLACED)}
    return names | {"loss": loss[0], "low": float(low), "high": float(high)}


def _apart(
    asked: Comparison, part: Compared, head: dict[str, str], one: Any, two: Any
) -> dict[str, Any]:
    f, g = asked.points(one), asked.points(two)
    distance, excess = part.between(f, g), part.excess(f, g)
    gap = part.loss(g) - part.loss(f)
    out = {**head, **{name: two[name] for name in PLACED}, "distance": distance[0]}
    out |= {"floor": 0.5 * (part.within(f)[0] + part.within(g)[0])}
    out |= {"excess": excess[0], "gap": gap[0]}
    for draws, names in (
        (interval(excess[1:]), ("low", "high")),
        (interval(excess[1:], 0.9), ("low_90", "high_90")),
        (interval(gap[1:]), ("gap_low", "gap_high")),
    ):
        out |= dict(zip(names, map(float, draws), strict=True))
    return out


def _with_less(asked: Comparison, row: Any) -> Any | None:
    """The same family that read less data as often, of all such the most."""
    ends = asked.ends
    alike = ends.data_seed == row.data_seed
    for name in ("family", "corpus", "level"):
        alike &= ends[name] == row[name]
    alike &= np.isclose(ends.epochs.astype(float), row.epochs, rtol=REPEATED - 1.0)
    less = ends[alike & (ends["unique"] < row["unique"])]
    return less.sort_values("unique_tokens").iloc[-1] if len(less) else None


def _factor(
    asked: Comparison, part: Compared, one: Any, two: Any, less: Any | None
) -> dict[str, Any]:
    """How many times the data `one` needs for the loss of `two` in a class.

    Its loss is taken to go straight along the logarithm of its data, through the amount
    at hand and the next smaller one.
    """
    row = {"factor": math.nan, "factor_low": math.nan, "factor_high": math.nan}
    if less is None:
        return row | {"refused": "one amount of data only"}
    row |= {"less": float(less.unique_tokens)}
    if min(one.seeds, two.seeds, less.seeds) < 2:
        return row | {"refused": "one seed only"}
    before, now, wanted = (part.loss(asked.points(r)) for r in (less, one, two))
    slope = (before - now) / math.log(one.unique_tokens / less.unique_tokens)
    if not interval(slope[1:])[0] > 0:
        return row | {"refused": "more data is not shown to lower its loss there"}
    with np.errstate(over="ignore"):
        factor = np.exp((now - wanted) / np.maximum(slope, 1e-12))
    low, high = map(float, interval(factor[1:]))
    named = {"factor": float(factor[0]), "factor_low": low, "factor_high": high}
    return row | named | {"refused": ""}


# --- Words and figure ----------------------------------------------------------------


# What the classes that every corpus has are told apart by; a corpus's own keep their
# name.
BY = {
    "kind": "kind of token",
    "word": "how common the word is",
    "repeat": "length of a repeat (tokens)",
    "back": "distance to the repeated passage (tokens)",
}


def sentence(rows: pd.DataFrame) -> str:
    """Where one swap's predictions lie farthest apart and where nearest."""
    row = rows.iloc[0]
    swap = f"{row.baseline} → {row.alternative} ({row.fixed})"
    far, near = rows.loc[rows.excess.idxmax()], rows.loc[rows.excess.idxmin()]
    place, by = f"At {scale(row.params, row.tokens)}, {swap}", BY.get(row.by, row.by)
    reported = [f"{r.level} ({number(r.excess)} nats, {_ends(r)})" for r in (far, near)]
    if far.low > near.high:
        return (
            f"{place}: by {by}, predictions differ most beyond seeds at {reported[0]} "
            f"and least at {reported[1]}."
        )
    return (
        f"{place}: by {by}, where predictions differ more beyond seeds "
        f"{UNDETERMINED}: from {reported[1]} to {reported[0]}."
    )


def _ends(row: Any) -> str:
    return interval_text(row.low, row.high)


def _foremost(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """The swaps that lie farthest apart over all classes of one kind.

    Those with the n-gram model are reported where there are no others.
    """
    ends = frame[["baseline", "alternative"]]
    plain = frame[~ends.map(positions.is_counted).any(axis=1)]
    frame = plain if len(plain) else frame
    first = frame[frame.by == frame.by.iloc[0]]
    keys = ["baseline", "alternative", "fixed"]
    means = (first.excess * first.share).groupby([first[k] for k in keys]).sum()
    kept = pd.DataFrame(list(means.nlargest(most).index), columns=keys)
    return kept.merge(frame, on=keys, how="left")


def data_sentence(rows: pd.DataFrame) -> str:
    """In which class one needs the most, and the least, of the data of the other."""
    row = rows.iloc[0]
    most, least = rows.loc[rows.factor.idxmax()], rows.loc[rows.factor.idxmin()]
    reported = [
        f"{number(r.factor)} times ({interval_text(r.factor_low, r.factor_high)}) at "
        f"{r.level}"
        for r in (most, least)
    ]
    text = (
        f"At {scale(row.params, row.tokens)}, by {BY.get(row.by, row.by)}, "
        f"{row.baseline} "
        f"({row.fixed}) needs for the loss of {row.alternative} from {reported[1]} to "
        f"{reported[0]} the data"
    )
    if most.factor_low > least.factor_high:
        return f"{text}."
    return f"{text}; whether classes differ in that {UNDETERMINED}."


def said(view: View) -> list[str]:
    frame = probed(view.analysis.class_distances)
    frame = frame[frame.excess.notna()]
    if frame.empty:
        return []
    rows = _foremost(frame, 1)
    several = [some for _, some in rows.groupby("by", sort=False)]
    known = [some[some.factor.notna()] for some in several]
    return [
        *(sentence(some) for some in several if len(some) > 1),
        *(data_sentence(some) for some in known if len(some) > 1),
    ]


def answers(view: View) -> list[Sentence]:
    return [Sentence(text, 45 - k) for k, text in enumerate(said(view))]


MOST_SWAPS = 4


def draw_classes(figure: Figure, analysis: Analysis, target: str) -> None:
    """Excess and gap of the loss by class, of the swaps that lie farthest apart."""
    frame = probed(analysis.class_distances)
    if frame.empty:
        raise Nothing
    known = frame[frame.excess.notna()]
    frame = _foremost(known if len(known) else frame.assign(excess=0.0), MOST_SWAPS)
    kinds = list(dict.fromkeys(frame.by))
    heights = [frame.level[frame.by == by].nunique() for by in kinds]
    resize(figure, 1.2 + 0.24 * sum(heights) + 0.45 * len(kinds), 7.2)
    grid = figure.subplots(
        len(kinds), 2, squeeze=False, height_ratios=heights, sharex="col"
    )
    swaps = list(dict.fromkeys(zip(frame.baseline, frame.alternative, strict=True)))
    columns = (("excess", "low", "high"), ("gap", "gap_low", "gap_high"))
    for side, names in enumerate(columns):
        grid[0, side].set_xlim(*reach(frame[list(names)].to_numpy(), [0.0]))
        for axes, by in zip(grid[:, side], kinds, strict=True):
            _draw_kind(axes, frame[frame.by == by], names, swaps)
            if side:
                axes.set_yticklabels([])
            else:
                axes.set_title(BY.get(by, by), loc="left")
    grid[-1, 0].set_xlabel("excess over seeds (nats/token)")
    grid[-1, 1].set_xlabel("loss of b less that of a (nats/token)")
    handles = [key(f"{a} → {b}", *looks(swaps, (a, b))[:2]) for a, b in swaps]
    legend(figure, handles)


def _draw_kind(
    axes: Axes,
    frame: pd.DataFrame,
    names: tuple[str, str, str],
    swaps: list[tuple[str, str]],
) -> None:
    """One panel: a row a class, and in it a whisker a swap."""
    levels = list(dict.fromkeys(frame.sort_values("order").level))
    step = 0.7 / len(swaps)
    for row in frame.to_dict("records"):
        k = swaps.index((row["baseline"], row["alternative"]))
        y = levels.index(row["level"]) + step * (k - 0.5 * (len(swaps) - 1))
        shown = dict(
            zip(("value", "low", "high"), (row[n] for n in names), strict=True)
        )
        colour, marker, _ = looks(swaps, swaps[k])
        whisker(axes, y, shown, colour, marker, ms=3.5)
    axes.axvline(0, color=INK, lw=0.8)
    forest_axis(axes, levels, range(len(levels)))
    axes.grid(True, axis="x")


QUESTION = Question(
    name="where_they_differ",
    title="At which tokens do they differ?",
    place=53.5,
    absent=Absent(
        "distance by class of token", ("class_distances",), ("classes",), UNKEPT
    ),
    said=said,
    answers=answers,
    figures={
        "classes": Drawing(
            draw_classes,
            "By class of the token to be predicted. Left: how much farther apart the "
            "predictions of two architectures a → b are than those of two seeds. "
            "Right: the loss of b less that of a. 95% intervals over documents and "
            "seeds together. The table has each class's share of all tokens.",
            scored=False,
        )
    },
    about=("classes",),
    tables=(
        Table("Loss by class", "class_losses"),
        Table("Distance by class", "class_distances"),
    ),
    compares=compares,
)
