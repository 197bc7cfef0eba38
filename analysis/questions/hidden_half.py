"""Do models expect the same of the hidden half of a picture?

The upper half of held-out pictures is shown, and what runs expect of the lower one is
compared: see analysis/pictures/halves.py. It is the one place where a model of pixels
in order and a denoiser can be compared picture by picture. Beside each pair
are the floor (two seeds of one architecture, or two halves of the corpus), the null
(lower halves of other pictures) and the best linear function of the upper half.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.pictures.groups import (
    ACROSS,
    ARCHITECTURE,
    HALVES,
    SEEDS,
    Pictured,
    half_of,
    stem,
)
from analysis.pictures.halves import LEAST, Halves, squares
from analysis.pictures.load import DENOISE, NEXT_TOKEN
from analysis.predictions.load import Point
from analysis.questions._hidden_half_figures import GRID, draw_grid, draw_halves, grid
from analysis.questions._hidden_half_words import answers, said
from analysis.questions._question import (
    UNSAMPLED,
    Absent,
    Answer,
    Drawing,
    Question,
    Table,
)
from analysis.questions.autoregression_diffusion import ALIKE
from analysis.results import Note
from analysis.schema import Column, declare, measured

ERRORS = "squared errors"
SQUARE = "of pixels over 255"
SAMPLES = Column("samples", "the set of held-out pictures")
# What is compared: two denoisers, two models of pixels, or one of each.
OF = {(DENOISE,): "diffusion", (NEXT_TOKEN,): "pixels in order"}
BOTH = "pixels in order and diffusion"
FRAMES = (
    declare(
        "hidden_halves",
        "What two models expect of the lower half of a picture, given its upper half.",
        SAMPLES,
        Column("of", "which kinds of models are compared"),
        "kind baseline alternative fixed",
        Column("params", "parameters of the smaller", "count"),
        "tokens unique_tokens",
        Column("seeds", "runs of the smaller of the two groups"),
        Column("pictures", "whose lower half is hidden"),
        *measured("distance", "squared distance of the two, less chance", ERRORS),
        Column("floor", "of two seeds or halves of one, mean of the two", ERRORS),
        Column("floor_of", "what the floor is of: seeds or halves"),
        *measured("excess", "the distance less the floor", ERRORS),
        Column("null", "distance from lower halves of other pictures", ERRORS),
        Column("linear", "distance of the two from the best linear one", ERRORS),
        *measured("beyond_linear", "partial correlation given both linear ones"),
        Column("floor_beyond", "the same of two seeds or halves of one"),
        *measured("shortfall", "that floor less beyond linear"),
        Column("null_beyond", "beyond linear with other pictures' lower halves"),
        Column("chance", "what chance adds to the distance, taken off it", ERRORS),
    ),
    declare(
        "hidden_half_errors",
        "How far what models expect is from the lower half as it is.",
        SAMPLES,
        "family corpus params tokens unique_tokens",
        Column("objective", "denoise or next_token"),
        Column("seeds", "how many runs there are"),
        Column("pictures", "whose lower half is hidden"),
        *measured("error", f"mean squared error, less chance, {SQUARE}"),
        Column("linear_error", f"of the best linear function, {SQUARE}"),
        *measured("over_linear", "the error over that of the best linear function"),
        Column("truth", "squared distance from the truth where it is known", ERRORS),
        Column("chance", f"variance by chance, taken off the error, {SQUARE}"),
        Column("effective", "particles of a denoiser, mean over levels and pictures"),
    ),
    GRID,
)
PLACE = ["family", "corpus", "params", "tokens", "unique_tokens"]


class Group(NamedTuple):
    """Runs of one family, corpus, size and data at the best of their settings."""

    first: Any
    points: tuple[Point, ...]


class Pair(NamedTuple):
    kind: str
    one: Group
    two: Group


def pictures(asked: Pictured) -> Answer:
    """The frames of one set of samples that denoisers made."""
    if not asked.pictures.of(DENOISE):
        return {}, []
    halves = Halves(asked)
    if not len(halves.numbers):
        return {}, []
    groups = list(_groups(halves))
    floors = Floors(halves, groups)
    rows = [_row(halves, floors, pair) for pair in _pairs(groups)]
    frames = {
        "hidden_halves": pd.DataFrame(rows),
        "hidden_half_errors": pd.DataFrame([_errors(halves, one) for one in groups]),
        "hidden_half_grid": pd.DataFrame(grid(halves, groups)),
    }
    return frames, _left_out(halves)


def _left_out(halves: Halves) -> list[Note]:
    if not halves.others:
        return []
    text = (
        f"{len(halves.others)} runs of {halves.asked.pictures.name} have lower halves "
        f"of other pictures than the {len(halves.numbers)} of most, and are not "
        f"compared: "
        f"{', '.join(sorted(halves.others)[:3])}."
    )
    return [Note("excluded", "hidden", text)]


def _groups(halves: Halves) -> Iterator[Group]:
    """In order of the objective and the place; settings by the fewest bits."""
    runs = halves.runs[halves.runs.bits.notna()]
    for _, some in runs.groupby(["objective", *PLACE], sort=True):
        by = some.groupby("setting").bits.mean()
        best = some[some.setting == by.idxmin()].sort_values("run_id")
        yield Group(best.iloc[0], tuple((i, 1.0) for i in best.run_id))


def _pairs(groups: Sequence[Group]) -> Iterator[Pair]:
    for one in groups:
        if len(one.points) > 1:
            yield Pair(SEEDS, one, one)
    for one, two in itertools.combinations(groups, 2):
        kind = _kind(one.first, two.first)
        if kind:
            swapped = kind != HALVES and two.first.family < one.first.family
            yield Pair(kind, two, one) if swapped else Pair(kind, one, two)


def _kind(a: Any, b: Any) -> str:
    """What two groups differ in; "" of more than one thing."""
    same = a.tokens == b.tokens and a.unique_tokens == b.unique_tokens
    if not same or stem(a.corpus) != stem(b.corpus):
        return ""
    disjoint = {half_of(a.corpus), half_of(b.corpus)} == {"1", "2"}
    if a.family == b.family:
        return HALVES if disjoint and a.params == b.params else ""
    if max(a.params, b.params) > ALIKE * min(a.params, b.params):
        return ""
    if a.corpus == b.corpus:
        return ARCHITECTURE
    return ACROSS if disjoint else ""


def started_apart(halves: Halves, one: Group, two: Group) -> Array | None:
    """bool [one, two]: which runs begin with different weights; None for all of them.

    Two models of one shape and seed begin with the same ones, which brings them nearer
    to each other than two seeds are.
    """
    a, b = one.first, two.first
    if (a.family, a.params) != (b.family, b.params):
        return None
    seeds = dict(zip(halves.runs.run_id, halves.runs.seed, strict=True))
    first, second = ([seeds[run] for run, _ in group.points] for group in (one, two))
    apart = np.array([[i != j for j in second] for i in first])
    return apart if apart.any() else None


class Floors:
    """Two seeds of a group, or the same of the two halves: [1 + draws] in a measure."""

    def __init__(self, halves: Halves, groups: Sequence[Group]):
        self.measures = {"distance": halves.apart, "unlike": halves.unlike}
        self.halves, self.groups = halves, groups

    def of(self, pair: Pair, measure: str) -> Array:
        """Mean of the two sides that have one; NaN where neither has."""
        contrasts = self.measures[measure]
        if pair.kind == ACROSS:
            found = [self._halves(one, measure) for one in (pair.one, pair.two)]
        else:
            found = [contrasts.within(one.points) for one in (pair.one, pair.two)]
        known = [one for one in found if np.isfinite(one[0])]
        return np.mean(known, axis=0) if known else found[0]

    def _halves(self, group: Group, measure: str) -> Array:
        contrasts = self.measures[measure]
        for other in self.groups:
            if _kind(group.first, other.first) == HALVES:
                apart = started_apart(self.halves, group, other)
                return contrasts.between(group.points, other.points, apart)
        return np.full(len(contrasts.resampling) + 1, np.nan)


def _row(halves: Halves, floors: Floors, pair: Pair) -> dict[str, Any]:
    f, g = pair.one.points, pair.two.points
    a, b = pair.one.first, pair.two.first
    seeds = pair.kind == SEEDS
    apart = started_apart(halves, pair.one, pair.two)
    between = lambda c: c.within(f) if seeds else c.between(f, g, apart)
    distance, beyond = between(halves.apart), 1.0 - between(halves.unlike)
    nothing = np.full(len(distance), np.nan)
    floor, level = nothing, nothing
    if pair.kind not in (SEEDS, HALVES):
        floor = floors.of(pair, "distance")
        level = 1.0 - floors.of(pair, "unlike")
    run, other = f[0][0], g[-1][0]
    null = halves.null(run, other)
    fixed = a.family if pair.kind == HALVES else a.corpus
    names = (a.corpus, b.corpus) if pair.kind == HALVES else (a.family, b.family)
    if pair.kind == ACROSS:
        fixed = f"{a.corpus} and half {half_of(b.corpus)}"
    return {
        "samples": halves.asked.pictures.name,
        "of": OF.get(tuple({a.objective, b.objective}), BOTH),
        **{"kind": pair.kind, "baseline": names[0], "alternative": names[1]},
        **{"fixed": fixed, "params": float(min(a.params, b.params))},
        **{"tokens": a.tokens, "unique_tokens": a.unique_tokens},
        **{"seeds": min(len(f), len(g)), "pictures": len(halves.numbers)},
        **_interval("distance", distance),
        "floor": floor[0],
        "floor_of": _floor_of(pair) if np.isfinite(floor[0]) else "",
        **_interval("excess", distance - floor),
        **{"null": null[0], "linear": _linear(halves, (run, other))},
        **_interval("beyond_linear", beyond),
        "floor_beyond": level[0],
        **_interval("shortfall", level - beyond),
        **{"null_beyond": null[1], "chance": _chance(halves, run, other)},
    }


def _floor_of(pair: Pair) -> str:
    return "halves" if pair.kind == ACROSS else "seeds"


def _interval(name: str, draws: Array) -> dict[str, float]:
    low, high = interval(draws[1:])
    row = {name: float(draws[0]), f"{name}_low": float(low)}
    return row | {f"{name}_high": float(high)}


def _linear(halves: Halves, runs: Sequence[str]) -> float:
    """How far runs are from their own linear landmark, in their errors; mean."""
    far = []
    for run in runs:
        one = halves.of(run)
        if one.linear is None:
            return math.nan
        apart = squares(one.mean, one.linear) - one.variance
        far.append(apart.mean() / max(halves.errors(run).mean(), LEAST))
    return float(np.mean(far))


def _chance(halves: Halves, one: str, two: str) -> float:
    added = sum(halves.of(run).variance.mean() for run in (one, two))
    errors = 0.5 * sum(halves.errors(run).mean() for run in (one, two))
    return float(added / max(errors, LEAST))


def _errors(halves: Halves, group: Group) -> dict[str, Any]:
    runs = [run for run, _ in group.points]
    of = [halves.of(run) for run in runs]
    contrasts = halves.apart
    own = np.stack([contrasts.over_documents(halves.errors(run)) for run in runs])
    error = contrasts.mean(group.points, own)
    linear, truth = np.full(len(error), np.nan), math.nan
    if of[0].linear is not None:
        linear = contrasts.over_documents(squares(of[0].linear, halves.real))
    exact = of[0].exact
    if exact is not None:
        far = np.mean([squares(one.mean, exact) - one.variance for one in of])
        truth = float(far / max(error[0], LEAST))
    effective = [one.effective.mean() for one in of if one.effective is not None]
    first = group.first
    return {
        "samples": halves.asked.pictures.name,
        **{name: first[name] for name in PLACE},
        **{"objective": first.objective, "seeds": len(runs)},
        "pictures": len(halves.numbers),
        **_interval("error", error),
        "linear_error": float(linear[0]),
        **_interval("over_linear", error / np.maximum(linear, LEAST)),
        "truth": truth,
        "chance": float(np.mean([one.variance.mean() for one in of])),
        "effective": float(np.mean(effective)) if effective else math.nan,
    }


QUESTION = Question(
    name="hidden_half",
    title="Do models expect the same of a hidden half?",
    place=57.65,
    absent=Absent(
        "comparison of hidden halves",
        ("hidden_halves", "hidden_half_errors"),
        ("hidden",),
        f"{UNSAMPLED} Lower halves are hidden by Samples(..., hidden=64).",
    ),
    said=said,
    answers=answers,
    figures={
        "hidden_halves": Drawing(
            draw_halves,
            "What two models expect of the lower half of a held-out picture, given its "
            "upper half. Left: the mean squared distance of the two, in units of their "
            "mean squared error. Right: the partial correlation given what the best "
            "linear functions of their training pictures expect. With 95% intervals by "
            "groups of pictures and seeds together; what the draws behind each add by "
            "chance is taken off, so that a distance may be below 0; by what so few "
            "particles move a denoiser in one direction is not. Floor: two seeds of "
            "one architecture or, across halves, two halves of one. Null: lower halves "
            "of other pictures. Numbers say which half was read.",
            scored=False,
        ),
        "hidden_half_grid": Drawing(
            draw_grid,
            "Held-out pictures whose lower half is hidden. From above: what is shown, "
            "the picture as it is, and the lower half that is expected by the best "
            "linear function of the upper half and by each model.",
            scored=False,
        ),
    },
    about=("hidden",),
    tables=(
        Table("What pairs of models expect", "hidden_halves"),
        Table("Errors of what models expect", "hidden_half_errors"),
    ),
    pictures=pictures,
)
