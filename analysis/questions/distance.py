"""Distances between predictions of seeds, architectures and corpora, in one unit.

Two models with the same loss may disagree at every position. Here their predictions are
compared position by position: see analysis/predictions/contrasts.py for the distance,
its floor (two seeds of one family) and the excess over it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.formatting import (
    UNDETERMINED,
    capitalised,
    count,
    few,
    joined,
    on,
    scale,
)
from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.predictions.groups import PLACE, Comparison
from analysis.questions import _distance_ladder
from analysis.questions._distance_figures import draw_ladder, draw_map
from analysis.questions._distance_words import (
    excess_text,
    floors_text,
    ladder_said,
    place_text,
    plain_excess,
    ratio_text,
    ratios_said,
)
from analysis.questions._question import (
    FRONT,
    LIMIT,
    UNKEPT,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View, probed
from analysis.results import Note
from analysis.schema import Column, declare, measured

NATS, BITS = "nats/token", "bits/byte"
PLACED = ("params", "tokens", "unique_tokens")
WHERE = ("probes kind baseline alternative fixed params tokens unique_tokens",)
FRAMES = (
    declare(
        "distances",
        "Mean Jensen-Shannon divergence between the predictions of groups of seeds.",
        *WHERE,
        "reported",
        Column("own", "whether one side was trained on the corpus of the probes"),
        Column("seeds", "runs of the smaller of the two groups"),
        Column("distance", "of a run of one from a run of the other", NATS),
        "low high",
        Column("floor", "of two seeds, mean of the two groups", NATS),
        *measured("excess", "the distance less the floor", NATS),
        Column("excess_low_90", "lower end of its 90% interval", NATS),
        Column("excess_high_90", "upper end of its 90% interval", NATS),
        Column("distance_bits", "the distance", BITS),
        Column("excess_bits", "the excess", BITS),
    ),
    declare(
        "function_ratios",
        "What the architecture changes over what another swap changes, at one place.",
        *WHERE,
        Column("other_kind", "what the other swap exchanges"),
        Column("other_baseline", "what it swaps out"),
        Column("other_alternative", "what it swaps in"),
        Column("ratio", "excess of the architecture over the other's"),
        "low high",
    ),
    _distance_ladder.FRAME,
    declare(
        "function_map",
        "Runs on a plane whose distances are near the roots of their divergences.",
        "probes",
        "run_id family corpus params tokens",
        Column("x", "first axis", "root of nats"),
        Column("y", "second axis", "root of nats"),
        Column("shown", "share of the squared distances that the plane shows"),
    ),
)


class Found(NamedTuple):
    """A pair of groups: what differs, the two rows of groups, and draws in nats."""

    head: dict[str, Any]
    before: Any
    after: Any
    distance: Array
    floor: Array
    excess: Array


def compares(asked: Comparison) -> Answer:
    """The frames of one probe set."""
    pairs = list(_pairs(asked))
    points = asked.points
    asked.compared.need([(points(a), points(b)) for _, a, b in pairs])
    found = [_found(asked, head, a, b) for head, a, b in pairs]
    if not found:
        return {}, [_alone(asked)]
    name = asked.predictions.name
    rows = [_row(one, asked) for one in found]
    here = [one for one in found if asked.reported(one.after)]
    mine = [asked.own in (one.before.corpus, one.after.corpus) for one in here]
    where = {"probes": name} | {n: here[0].after[n] for n in PLACED}
    frames = {
        "distances": pd.DataFrame(rows),
        "function_ratios": pd.DataFrame(_ratios(here, name)),
        "function_ladder": pd.DataFrame(_distance_ladder.rows(here, mine, where)),
        "function_map": _map(asked, here),
    }
    return frames, _missing(asked, here)


def _pairs(asked: Comparison) -> Iterator[tuple[dict[str, Any], Any, Any]]:
    """Groups at the end of training that differ in one thing, and what it is."""
    ends = asked.ends
    for row in _rows(ends):
        names = {"baseline": row.family, "alternative": row.family}
        yield {"kind": "seeds", **names, "fixed": row.corpus}, row, row
    for swap in asked.swaps:
        head = {"kind": swap.kind, "baseline": swap.baseline}
        head |= {"alternative": swap.alternative, "fixed": swap.fixed}
        for before, after in asked.pairs(ends, swap):
            if before.data_seed == after.data_seed or not asked.ordered:
                yield head, before, after
    for by, of, text in (
        ("level", "params", "size"),
        ("budget", "tokens", "data"),
        ("data_seed", "data_seed", "order"),
    ):
        shared = (*PLACE, "data_seed") if asked.ordered else PLACE
        rest, rows = [c for c in shared if c != by], ends
        if by == "budget":  # more of it is more unique data, seen once
            rest.remove("unique")
            rows = ends[ends.tokens == ends.unique_tokens]
        for row, last in asked.steps(rows, by, rest):
            head = {"kind": text, "baseline": _text(of, row)}
            head |= {"alternative": _text(of, last)}
            yield head | {"fixed": f"{row.family}, {row.corpus}"}, row, last


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    return (row for _, row in frame.iterrows())


def _text(of: str, row: Any) -> str:
    if of == "data_seed":
        return f"data seed {row[of]}"
    return f"{count(row[of])} {'parameters' if of == 'params' else 'tokens'}"


def _found(asked: Comparison, head: dict[str, Any], before: Any, after: Any) -> Found:
    compared, f, g = asked.compared, asked.points(before), asked.points(after)
    if head["kind"] == "seeds":
        floor = compared.within(f)
        return Found(head, before, after, floor, floor, np.full(floor.shape, np.nan))
    distance, excess = compared.between(f, g), compared.excess(f, g)
    floor = 0.5 * (compared.within(f) + compared.within(g))
    return Found(head, before, after, distance, floor, excess)


def _row(one: Found, asked: Comparison) -> dict[str, Any]:
    """A row of `distances`."""
    bits = asked.predictions.bits_per_byte
    low, high = interval(one.distance[1:])
    ends = interval(one.excess[1:])
    narrow = interval(one.excess[1:], 0.9)
    return {
        "probes": asked.predictions.name,
        **one.head,
        **{name: one.after[name] for name in ("params", "tokens", "unique_tokens")},
        "reported": asked.reported(one.after),
        "own": asked.own in (one.before.corpus, one.after.corpus),
        "seeds": int(min(one.before.seeds, one.after.seeds)),
        **{"distance": one.distance[0], "low": float(low), "high": float(high)},
        **{"floor": one.floor[0], "excess": one.excess[0]},
        **{"excess_low": float(ends[0]), "excess_high": float(ends[1])},
        **{"excess_low_90": float(narrow[0]), "excess_high_90": float(narrow[1])},
        "distance_bits": bits * one.distance[0],
        "excess_bits": bits * one.excess[0],
    }


def _ratios(here: Sequence[Found], probes: str) -> list[dict[str, Any]]:
    """Each swap of architectures over each other swap that one of the two is part of.

    The other swap's excess is the mean over the two architectures, where both have it.
    """
    rows = []
    others: dict[tuple[str, str, str], list[Found]] = {}
    for one in here:
        if one.head["kind"] not in ("architecture", "seeds"):
            names = ("kind", "baseline", "alternative")
            kind, baseline, alternative = (one.head[name] for name in names)
            others.setdefault((kind, baseline, alternative), []).append(one)
    for one in here:
        if one.head["kind"] != "architecture" or np.isnan(one.excess[0]):
            continue
        for (kind, baseline, alternative), several in others.items():
            mine = [two.excess for two in several if _shares(one, two)]
            mine = [excess for excess in mine if np.isfinite(excess[0])]
            if not mine:
                continue
            other = np.mean(mine, axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                # Where the other cannot be told from nothing, no ratio can be given.
                ratio = np.where(other > 0, one.excess / other, np.inf)
            low, high = interval(ratio[1:])
            row: dict[str, Any] = {"probes": probes, **one.head}
            row |= {n: one.after[n] for n in ("params", "tokens", "unique_tokens")}
            row |= {"other_kind": kind, "other_baseline": baseline}
            row |= {"other_alternative": alternative, "ratio": float(ratio[0])}
            rows.append(row | {"low": float(low), "high": float(high)})
    return rows


def _shares(one: Found, two: Found) -> bool:
    """Whether a swap is of one of two architectures, and touches their corpus."""
    families = {one.before.family, one.after.family}
    corpora = {two.before.corpus, two.after.corpus}
    return two.before.family in families and one.before.corpus in corpora


# Runs that a map shows at most: those of the first groups.
MOST_ON_MAP = 120


def _map(asked: Comparison, here: Sequence[Found]) -> pd.DataFrame:
    """Classical multidimensional scaling (Torgerson 1952) of the roots of distances."""
    groups = {int(r.name): r for one in here for r in (one.before, one.after)}
    rows = [row for row in groups.values() if asked.reported(row)]
    runs = [(point, row) for row in rows for point in asked.points(row)][:MOST_ON_MAP]
    if len(runs) < 3:
        return pd.DataFrame()
    every = [point for point, _ in runs]
    asked.compared.need([(every, every)])
    squared = np.zeros((len(runs), len(runs)))
    for i, j in itertools.combinations(range(len(runs)), 2):
        squared[i, j] = squared[j, i] = asked.compared.distance(every[i], every[j])[0]
    centred = np.eye(len(runs)) - 1.0 / len(runs)
    values, vectors = np.linalg.eigh(-0.5 * centred @ squared @ centred)
    plane = vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0.0))
    shown = float(values[[-1, -2]].clip(0).sum() / values.clip(0).sum())
    return pd.DataFrame(
        [
            {"probes": asked.predictions.name, "run_id": point[0]}
            | {name: row[name] for name in ("family", "corpus", "params", "tokens")}
            | {"x": x, "y": y, "shown": shown}
            for (point, row), (x, y) in zip(runs, plane, strict=True)
        ]
    )


def _alone(asked: Comparison) -> Note:
    text = f"No two groups of runs with predictions at {asked.predictions.name} "
    return Note("undetermined", "distance", f"{text}differ in one thing alone.")


def _missing(asked: Comparison, here: Sequence[Found]) -> list[Note]:
    """Which groups at the place have no floor, and the run that would give it."""
    groups = {int(r.name): r for one in here for r in (one.before, one.after)}
    single = [row for row in groups.values() if row.seeds < 2]
    if not single:
        return []
    names = joined(dict.fromkeys(f"{row.family}{on(row.corpus)}" for row in single))
    first = single[0]
    text = (
        f"One seed only of {names} at {scale(first.params, first.tokens)}: there is no "
        f"floor, so no excess at {asked.predictions.name}; a run like {first.run_id} "
        "with another init_seed would give it"
    )
    return [Note("undetermined", "distance", f"{text}{_each(single)}.")]


def _each(single: Sequence[Any]) -> str:
    return "" if len(single) == 1 else ", and so for each"


def said(view: View) -> list[str]:
    reported = probed(view.analysis.distances)
    if reported.empty:
        return []
    place = place_text(reported)
    floors = reported[(reported.kind == "seeds") & reported.distance.notna()]
    first = [f"{place}, {floors_text(floors)}."] if len(floors) else []
    swaps = reported[reported.kind != "seeds"]
    swaps = swaps.sort_values("kind", key=lambda k: k != "architecture", kind="stable")
    apart = [f"{place}, {excess_text(row)}." for row in swaps.itertuples()]
    ladder = ladder_said(view.analysis)
    return first + ladder + few(apart) + few(ratios_said(view.analysis))


def answers(view: View) -> list[Sentence]:
    """Of the swaps of architectures the one farthest from seeds and the nearest."""
    reported = probed(view.analysis.distances)
    if reported.empty:
        return []
    swaps = reported[(reported.kind == "architecture") & reported.excess.notna()]
    if swaps.empty:
        text = "Whether two architectures compute the same function "
        reason = "no two of them have the two seeds each that show how far seeds differ"
        return [Sentence(f"{text}{UNDETERMINED}: {reason}.", 70, LIMIT)]
    place = place_text(reported)
    far, near = swaps.loc[swaps.excess.idxmax()], swaps.loc[swaps.excess.idxmin()]
    lines = [f"{place}, {excess_text(row)}." for row in (far, near)]
    plain = plain_excess(far)
    ratios = view.analysis.function_ratios
    if len(ratios):
        names = ["probes", "baseline", "alternative", "fixed"]
        mine = (ratios[names] == far[names]).all(axis=1) & np.isfinite(ratios.high)
        data = ratios[mine & (ratios.other_kind == "corpus")].head(1)
        lines += [f"{place}, {ratio_text(row)}." for row in data.itertuples()]
        plain = " ".join(
            [plain, *(f"{capitalised(ratio_text(row))}." for row in data.itertuples())]
        )
    lines = list(dict.fromkeys(lines))
    out = [Sentence(plain, 75, FRONT)]
    return out + [Sentence(text, 62 - k) for k, text in enumerate(lines)]


QUESTION = Question(
    name="distance",
    title="Do they compute the same function?",
    place=52,
    absent=Absent(
        "distance between predictions", ("distances",), ("distance",), UNKEPT
    ),
    said=said,
    answers=answers,
    figures={
        "distances": Drawing(
            draw_ladder,
            "How far apart predictions are when one thing is swapped, in one unit: the "
            "mean Jensen-Shannon divergence of a run of one from a run of the other, "
            "with 95% intervals by documents and seeds together. The grey strokes are "
            "the mean distance of two seeds of either; beside each row stands what is "
            "left above it.",
            scored=False,
            front=20,
        ),
        "function_map": Drawing(
            draw_map,
            "Runs at one size and budget; the nearer, the more alike what they "
            "predict. Classical multidimensional scaling of the roots of "
            "Jensen-Shannon divergences: a plane cannot show all of them, and the "
            "title says how much it does.",
            scored=False,
        ),
    },
    about=("distance",),
    tables=(
        Table("Distances of all pairs", "distances"),
        Table("Classes of swaps, the nearest first", "function_ladder"),
        Table("Architecture in the unit of other swaps", "function_ratios"),
    ),
    compares=compares,
)
