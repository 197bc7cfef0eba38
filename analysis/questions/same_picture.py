"""Do two runs make the same picture of the same noise?

Samples from the same noises are compared between seeds, disjoint halves of a corpus,
architectures, sizes and amounts of data; see analysis/pictures/agreement.py for the
measures. A number never stands alone: beside it are the floor (two seeds of one, or two
halves of one architecture), the null (other noises), what a linear denoiser gives for
nothing, and what denoisers that copy their training pictures would agree on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.formatting import on
from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.pictures.agreement import BEYOND, CORRELATION, PSNR, R2
from analysis.pictures.groups import (
    ACROSS,
    ARCHITECTURE,
    HALVES,
    SEEDS,
    Compare,
    Pictured,
    half_of,
)
from analysis.pictures.load import LINEAR, NEXT_TOKEN
from analysis.predictions.asymptote import Floor, floor
from analysis.questions._picture_grid import GRID, draw_grid, draw_larger, grid
from analysis.questions._picture_steps import STEPS, steps
from analysis.questions._question import (
    UNSAMPLED,
    Absent,
    Answer,
    Drawing,
    Question,
    Table,
)
from analysis.questions._same_picture_figures import draw_agreement, draw_pairs
from analysis.questions._same_picture_words import answers, said
from analysis.results import Note
from analysis.schema import Column, declare, measured

SAMPLES = Column("samples", "the set of noises")
FRACTION = Column("fraction", "of the training, after which the samples were made")
PLACED = ("kind baseline alternative fixed params tokens unique_tokens",)
NARROW = (
    Column("shortfall_low_90", "lower end of its 90% interval"),
    Column("shortfall_high_90", "upper end of its 90% interval"),
)
FRAMES = (
    declare(
        "same_pictures",
        "Agreement of samples from the same noises, by what differs between runs.",
        SAMPLES,
        *PLACED,
        FRACTION,
        "reported",
        Column("seeds", "runs of the smaller of the two groups"),
        Column("started", "whether runs that are compared began with other weights"),
        *measured("correlation", "of the values of a picture, mean over noises"),
        Column("r2", "share of the variance of one that the other tells"),
        Column("psnr", "of one as the other, mean over noises", "dB"),
        *measured("beyond_linear", "partial correlation given both linear samples"),
        Column("beyond_linear_low_90", "lower end of its 90% interval"),
        Column("beyond_linear_high_90", "upper end of its 90% interval"),
        Column(
            "floor", "beyond linear: of two seeds or halves of one, mean of the two"
        ),
        Column("floor_of", "what the floor is of: seeds or halves"),
        *measured("shortfall", "the floor less beyond linear"),
        *NARROW,
        Column("null", "beyond linear at other noises, mean of several"),
        Column("null_high", "the highest of these"),
        Column("raw_null", "the correlation at other noises"),
        Column("linear", "correlation with the linear sample, mean of the two"),
        Column("copies", "beyond linear: of denoisers that copy the same pictures"),
    ),
    declare(
        "same_picture_trends",
        "Agreement beyond linear from the first point of an axis to the last.",
        SAMPLES,
        "kind baseline alternative fixed",
        Column("axis", "what grows: data, training, within a run, or size"),
        "params tokens unique_tokens",
        Column("points", "how many there are"),
        Column("from_x", "the first place on the axis"),
        Column("to_x", "the last"),
        Column("first", "beyond linear at the first"),
        *measured("last", "beyond linear at the last"),
        *measured("change", "the last less the first"),
        *measured("closed", "shortfall at the first less that at the last"),
        Column("tends", "the shortfall that the path tends to"),
        "low high",
        Column("refused", "why that is not known"),
    ),
    GRID,
    STEPS,
)
# Axis: the column of its places, and the columns that points share.
AXES = {
    "data": ("unique_tokens", ("params", "tokens", "fraction")),
    "training": ("tokens", ("params", "unique_tokens", "fraction")),
    "within a run": ("fraction", ("params", "tokens", "unique_tokens")),
    "size": ("params", ("tokens", "unique_tokens", "fraction")),
}
# Whose agreement is followed along axes.
FOLLOWED = (SEEDS, HALVES, ARCHITECTURE, ACROSS)


NOWHERE = math.nan, math.nan, math.nan, math.nan
NO_FLOOR = Floor(*NOWHERE, "not every point has a floor to compare")


class Found(NamedTuple):
    """A pair of groups, and draws of its agreement beyond linear and its shortfall."""

    pair: Compare
    beyond: Array
    floor: Array
    shortfall: Array


def pictures(asked: Pictured) -> Answer:
    """The frames of one set of samples."""
    pairs = asked.pairs_of_groups
    points = asked.points
    for contrasts in asked.measured.values():
        contrasts.need([(points(p.before), points(p.after)) for p in pairs])
    found = [_found(asked, pair) for pair in pairs]
    rows = [_row(asked, one) for one in found]
    frames = {
        "same_pictures": pd.DataFrame(rows),
        "same_picture_trends": pd.DataFrame(_trends(asked, found, rows)),
        "picture_grid": pd.DataFrame(grid(asked)),
        "picture_steps": pd.DataFrame(steps(asked)),
    }
    return frames, list(_notes(asked))


def _found(asked: Pictured, pair: Compare) -> Found:
    apart = asked.contrasted(pair, asked.measured[BEYOND])
    return Found(pair, 1.0 - apart.distance, 1.0 - apart.floor, apart.excess)


def _row(asked: Pictured, one: Found) -> dict[str, Any]:
    """A row of `same_pictures`."""
    pair, contrasts = one.pair, asked.measured
    f, g = asked.points(pair.before), asked.points(pair.after)
    agreed = {
        name: 1.0 - asked.contrasted(pair, of).distance
        for name, of in contrasts.items()
    }
    first = (f[0], f[1]) if pair.kind == SEEDS else (f[0], g[0])
    null = asked.samples.null(*first)
    linear = [asked.samples.to_linear(some[0]).mean() for some in (f, g)]
    return {
        "samples": asked.pictures.name,
        **pair.head(),
        "reported": asked.reported(pair.after) and pair.after.fraction == 1.0,
        "seeds": int(min(pair.before.seeds, pair.after.seeds)),
        "started": pair.kind == SEEDS or bool(asked.started_apart(*pair[-2:]).any()),
        **_measured("correlation", agreed[CORRELATION]),
        **{"r2": float(agreed[R2][0]), "psnr": float(agreed[PSNR][0])},
        **_measured("beyond_linear", one.beyond, narrow=True),
        "floor": float(one.floor[0]),
        "floor_of": pair.floor_of if np.isfinite(one.floor[0]) else "",
        **_measured("shortfall", one.shortfall, narrow=True),
        "null": float(null[BEYOND].mean()),
        "null_high": float(null[BEYOND].max()),
        "raw_null": float(null[CORRELATION].mean()),
        "linear": float(np.mean(linear)),
        "copies": asked.samples.copies(BEYOND, first[0][0], first[1][0]),
    }


def _measured(name: str, draws: Array, narrow: bool = False) -> dict[str, float]:
    """A value with the ends of its intervals, as frames name them."""
    ends = interval(draws[1:])
    row = {name: float(draws[0])}
    row |= {f"{name}_low": float(ends[0]), f"{name}_high": float(ends[1])}
    if narrow:
        ends = interval(draws[1:], 0.9)
        row |= {f"{name}_low_90": float(ends[0]), f"{name}_high_90": float(ends[1])}
    return row


# --- Along an axis -------------------------------------------------------------------


def _trends(
    asked: Pictured, found: Sequence[Found], rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every path of two points or more."""
    frame = pd.DataFrame(rows)
    if frame.empty:
        return []
    frame = frame[frame.kind.isin(FOLLOWED) & frame.beyond_linear.notna()]
    who = ["kind", "baseline", "alternative", "fixed"]
    out = []
    for axis, (column, shared) in AXES.items():
        mine = frame if axis == "within a run" else frame[frame.fraction == 1.0]
        for place, some in mine.groupby([*who, *shared], sort=False):
            some = some.sort_values(column).drop_duplicates(column)
            if len(some) > 1:
                head = dict(zip(who, place, strict=False))
                path = [found[i] for i in some.index]
                head = {"samples": asked.pictures.name, **head, "axis": axis}
                out.append(head | _trend(path, some[column].to_numpy(float)))
    return out


def _trend(path: Sequence[Found], x: Array) -> dict[str, Any]:
    first, last = path[0], path[-1]
    row = last.pair.head()
    place = {name: row[name] for name in ("params", "tokens", "unique_tokens")}
    short = np.stack([one.shortfall for one in path], axis=1)
    tends = floor(x, short, -1.0) if np.isfinite(short).all() else NO_FLOOR
    return {
        **place,
        "points": len(path),
        **{"from_x": x[0], "to_x": x[-1], "first": float(first.beyond[0])},
        **_measured("last", last.beyond),
        **_measured("change", last.beyond - first.beyond),
        **_measured("closed", first.shortfall - last.shortfall),
        **{"tends": tends.value, "low": tends.low, "high": tends.high},
        "refused": tends.refused,
    }


# --- What cannot be known -------------------------------------------------------------


def _notes(asked: Pictured) -> Iterator[Note]:
    """One line for each thing that the design does not give."""
    name, ends = asked.pictures.name, asked.ends
    if ends.empty:
        kinds = set(asked.pictures.runs.objective)
        why = "the runs of this report do not denoise"
        if kinds == {NEXT_TOKEN}:
            why = "no run that kept samples there denoises"
        text = f"Samples of {name} are not compared noise by noise: {why}."
        yield Note("refused", "pictures", text)
        return
    if (ends.seeds < 2).all():
        first = ends.iloc[0]
        text = (
            f"One seed only of every group that made {name}: there is no floor of "
            f"seeds, and intervals are of noises alone; a run like {first.run_id} with "
            "another init_seed would give one."
        )
        yield Note("undetermined", "pictures", text)
    here = ends[[asked.reported(row) for _, row in ends.iterrows()]]
    alone = here[here.seeds < 2]
    if 0 < len(alone) < len(here):
        first = alone.iloc[0]
        text = (
            f"{len(alone)} of the {len(here)} groups of {name} that sentences are "
            f"about have one seed, as {first.family}{on(first.corpus)}: how far others "
            "would lie from it is not in the intervals of their pairs."
        )
        yield Note("undetermined", "pictures", text)
    halves = {half_of(corpus) for corpus in ends.corpus}
    if not {"1", "2"} <= halves:
        text = (
            f"No two runs of {name} read disjoint halves of a corpus (Data(half=1) and "
            "half=2), so what disjoint data agree on is not known."
        )
        yield Note("undetermined", "pictures", text)
    bare = [row for _, row in ends.iterrows() if _unset(asked, row)]
    if bare:
        text = (
            f"{len(bare)} of {len(ends)} groups of {name} kept no linear samples, as "
            f"{bare[0].run_id}: what lies beyond linear is not known of them."
        )
        yield Note("undetermined", "pictures", text)


def _unset(asked: Pictured, row: Any) -> bool:
    return asked.pictures.get(asked.points(row)[0][0], LINEAR) is None


QUESTION = Question(
    name="same_picture",
    title="Same noise, same picture?",
    place=57.1,
    absent=Absent(
        "comparison of samples",
        ("same_pictures", "same_picture_trends"),
        ("pictures",),
        UNSAMPLED,
    ),
    said=said,
    answers=answers,
    figures={
        "same_pictures": Drawing(
            draw_pairs,
            "Agreement of samples from the same noises beyond what the best linear "
            "denoisers give, with 95% intervals by noises and seeds together. Grey "
            "marks: the floor (two seeds of one; across halves, two halves of one "
            "architecture), the highest of several null readings (other noises), and "
            "what denoisers that copy the training pictures of each would agree on. "
            "Beside each pair: how its samples correlate as they are.",
            scored=False,
        ),
        "same_picture_data": Drawing(
            draw_agreement,
            "Agreement of samples from the same noises beyond linear against how many "
            "different pictures the runs read, at the place with the most of them; "
            "bands are 95% intervals. Dotted: the floor, two seeds of one (across "
            "halves, two halves of one architecture). Crosses: denoisers that copy the "
            "two sets of training pictures. Grey line: the null, other noises.",
            scored=False,
            front=12,
        ),
        "picture_grid": Drawing(
            draw_grid,
            "Samples of one set of noises: a column a noise, a row a run, and under "
            "each row the nearest training picture of each sample. On top what the "
            "best linear denoiser of the first run's training pictures makes of them.",
            scored=False,
        ),
        "picture_grid_larger": Drawing(
            draw_larger,
            "The same of the set of samples with the largest pictures.",
            scored=False,
        ),
    },
    about=("pictures",),
    tables=(
        Table("Along an axis", "same_picture_trends"),
        Table("Agreement of every pair", "same_pictures"),
    ),
    pictures=pictures,
)
