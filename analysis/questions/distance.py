"""How far apart what models predict lies: seeds, architectures, corpora, in one unit.

Two models of one loss may disagree at every position. Here their predictions are set
beside each other, position by position: see analysis/predictions/contrasts.py for the
distance, its floor (two seeds of one family) and the excess over it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import (
    UNDETERMINED,
    count,
    few,
    interval_text,
    joined,
    number,
    on,
    scale,
)
from analysis.inference.intervals import interval
from analysis.inference.verdict import verdict
from analysis.laws import Array
from analysis.predictions.groups import PLACE, Comparison
from analysis.questions._question import (
    FRONT,
    LIMIT,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View
from analysis.report.style import (
    FAINT,
    INK,
    PALETTE,
    Nothing,
    corpora_of,
    families_of,
    forest_axis,
    key,
    legend,
    looks,
    reach,
    resize,
    side_note,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare

NATS, BITS = "nats/token", "bits/byte"
WHERE = (
    Column("probes", "the probe set that predictions are compared at"),
    "kind baseline alternative fixed params tokens",
    Column("unique_tokens", "unique training tokens", "count"),
)
FRAMES = (
    declare(
        "distances",
        "Mean Jensen-Shannon divergence between the predictions of groups of seeds.",
        *WHERE,
        Column("told", "whether it is at the place that sentences are about"),
        Column("own", "whether one side was trained on the corpus of the probes"),
        Column("seeds", "runs of the smaller of the two groups"),
        Column("distance", "of a run of one from a run of the other", NATS),
        "low high",
        Column("floor", "of two seeds, mean of the two groups", NATS),
        Column("excess", "the distance less the floor", NATS),
        Column("excess_low", "lower end of its 95% interval", NATS),
        Column("excess_high", "upper end of its 95% interval", NATS),
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
    declare(
        "function_map",
        "Runs on a plane whose distances are near the roots of their divergences.",
        Column("probes", "the probe set that predictions are compared at"),
        "run_id family corpus params tokens",
        Column("x", "first axis", "root of nats"),
        Column("y", "second axis", "root of nats"),
        Column("shown", "share of the squared distances that the plane shows"),
    ),
)

# What a swap is of, for the ladder: the model or the data.
OF_DATA = ("order", "data", "quality", "damage", "corpus")


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
    place = _place(found)
    bits = asked.predictions.bits_per_byte
    name = asked.predictions.name
    own = str(asked.predictions.probes.facts.get("corpus", ""))
    rows = [_row(one, name, place, bits) for one in found]
    for row, one in zip(rows, found, strict=True):
        row["own"] = own in (one.before.corpus, one.after.corpus)
    here = [one for one in found if _at(one) == place]
    frames = {
        "distances": pd.DataFrame(rows),
        "function_ratios": pd.DataFrame(_ratios(here, name)),
        "function_map": _map(asked, here),
    }
    return frames, _missing(asked, here)


# --- Numbers -----------------------------------------------------------------------


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
            if before.data_seed == after.data_seed or not _ordered(ends):
                yield head, before, after
    for by, of, text in (
        ("level", "params", "size"),
        ("budget", "tokens", "data"),
        ("data_seed", "data_seed", "order"),
    ):
        shared = (*PLACE, "data_seed") if _ordered(ends) else PLACE
        rest = [c for c in shared if c != by]
        if by == "budget":  # more of it is more unique data, seen once
            rest.remove("unique")
        for _, some in ends.groupby(["family", "corpus", *rest], sort=True):
            if by == "budget":
                some = some[some.tokens == some.unique_tokens]
            if some[by].nunique() < 2:
                continue
            *fewer, last = _rows(some.sort_values([by, "group"]))
            for row in fewer:
                if row[by] == last[by]:
                    continue
                head = {"kind": text, "baseline": _text(of, row)}
                head |= {"alternative": _text(of, last)}
                yield head | {"fixed": f"{row.family}, {row.corpus}"}, row, last


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    return (row for _, row in frame.iterrows())


def _ordered(ends: pd.DataFrame) -> bool:
    """Whether groups of one cell are apart by the order of their data."""
    return bool(ends.duplicated(["cell"]).any())


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


def _at(one: Found) -> tuple[int, int, int]:
    """Level, budget and unique tokens of the larger of two groups."""
    return tuple(int(one.after[name]) for name in PLACE)  # type: ignore[return-value]


def _place(found: Sequence[Found]) -> tuple[int, int, int]:
    """Where sentences are about: the largest place at which most can be told.

    Excess between architectures first, then any excess, then any distance; of those
    the largest budget and size.
    """

    def rank(one: Found) -> tuple[bool, bool, int, int, int]:
        known = bool(np.isfinite(one.excess[0]))
        model = one.head["kind"] == "architecture"
        level, budget, unique = _at(one)
        return (known and model, known or model, budget, level, unique)

    return _at(max(found, key=rank))


def _row(
    one: Found, probes: str, place: tuple[int, int, int], bits: float
) -> dict[str, Any]:
    """A row of `distances`, but for `own`."""
    low, high = interval(one.distance[1:])
    ends = interval(one.excess[1:])
    narrow = interval(one.excess[1:], 0.9)
    return {
        "probes": probes,
        **one.head,
        **{name: one.after[name] for name in ("params", "tokens", "unique_tokens")},
        "told": _at(one) == place,
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
    of_place = _at(here[0])
    rows = [r for r in groups.values() if tuple(r[n] for n in PLACE) == of_place]
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
    """Which groups at the place told have no floor, and the run that would give it."""
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


# --- Words -------------------------------------------------------------------------


def _told(analysis: Analysis) -> pd.DataFrame:
    """The rows of the first probe set at the place that sentences are about.

    Those of the probes' own corpus where there are any.
    """
    frame = analysis.distances
    if frame.empty:
        return frame
    here = frame[(frame.probes == frame.probes.iloc[0]) & frame.told.astype(bool)]
    own = here[here.own.astype(bool)]
    return own if len(own) else here


def _place_text(frame: pd.DataFrame) -> str:
    row = frame.iloc[0]
    return f"At {scale(row.params, row.tokens)}"


def _nats(value: float, low: float, high: float) -> str:
    return f"{number(value)} nats ({interval_text(low, high)})"


def floors_text(rows: pd.DataFrame) -> str:
    """Two seeds of one family; of many families the range."""
    if len(rows) == 1:
        row = rows.iloc[0]
        apart = _nats(row.distance, row.low, row.high)
        who = f"{row.baseline}{on(row.fixed)}"
        bits = number(row.distance_bits)
        return f"two seeds of {who} predict {apart} apart, {bits} bits per byte"
    low, high = rows.distance.min(), rows.distance.max()
    bits = interval_text(rows.distance_bits.min(), rows.distance_bits.max())
    return (
        f"two seeds of one family predict {interval_text(low, high)} nats apart "
        f"({bits} bits per byte; {len(rows)} families and corpora)"
    )


def excess_text(row: Any) -> str:
    """A swap beside its floor: farther apart than seeds, or not to be told."""
    what = f"{row.baseline} → {row.alternative} ({row.fixed})"
    if math.isnan(row.excess):
        apart = _nats(row.distance, row.low, row.high)
        return f"{what}: predictions lie {apart} apart, with no floor to set beside"
    more = _nats(row.excess, row.excess_low, row.excess_high)
    lie = verdict(row.excess_low, row.excess_high, 0.0)
    seeds = f"two seeds, which lie {number(row.floor)} apart"
    if lie == "above":
        return f"{what}: predictions lie {more} farther apart than {seeds}"
    if lie == "below":
        return f"{what}: predictions lie nearer to each other than {seeds}: {more}"
    text = f"{what}: whether predictions lie farther apart than {seeds}"
    return f"{text}, {UNDETERMINED}: {more}"


def ratio_text(row: Any) -> str:
    """One swap of architectures in the unit of another swap."""
    swap = f"{row.baseline} for {row.alternative}{on(row.fixed)}"
    other = f"swapping {row.other_baseline} for {row.other_alternative}"
    if math.isinf(row.high) and not math.isfinite(row.ratio):
        return f"swapping {swap} cannot be set beside {other}, which changes nothing "
    return (
        f"swapping {swap} changes the predictions {number(row.ratio)} times "
        f"({interval_text(row.low, row.high)}) as much as {other} does"
    )


def ratios_said(analysis: Analysis) -> list[str]:
    """Ratios to swaps that change something, the corpus first."""
    frame = analysis.function_ratios
    if frame.empty:
        return []
    known = frame[np.isfinite(frame.high) & (frame.probes == frame.probes.iloc[0])]
    told = _told(analysis)
    mine = known[known.fixed.isin(told.fixed[told.kind == "architecture"])]
    mine = mine.sort_values("other_kind", key=lambda k: k != "corpus", kind="stable")
    return [f"{_place_text(mine)}, {ratio_text(row)}." for row in mine.itertuples()]


def said(view: View) -> list[str]:
    told = _told(view.analysis)
    if told.empty:
        return []
    place = _place_text(told)
    floors = told[(told.kind == "seeds") & told.distance.notna()]
    first = [f"{place}, {floors_text(floors)}."] if len(floors) else []
    swaps = told[told.kind != "seeds"]
    swaps = swaps.sort_values("kind", key=lambda k: k != "architecture", kind="stable")
    apart = [f"{place}, {excess_text(row)}." for row in swaps.itertuples()]
    return first + few(apart) + few(ratios_said(view.analysis))


def answers(view: View) -> list[Sentence]:
    """Of the swaps of architectures the one farthest from seeds and the nearest."""
    told = _told(view.analysis)
    if told.empty:
        return []
    swaps = told[(told.kind == "architecture") & told.excess.notna()]
    if swaps.empty:
        text = "Whether two architectures compute the same function "
        reason = "no two seeds of both are there to say how far apart seeds lie"
        return [Sentence(f"{text}{UNDETERMINED}: {reason}.", 70, LIMIT)]
    place = _place_text(told)
    far, near = swaps.loc[swaps.excess.idxmax()], swaps.loc[swaps.excess.idxmin()]
    lines = [f"{place}, {excess_text(row)}." for row in (far, near)]
    ratios = view.analysis.function_ratios
    if len(ratios):
        names = ["probes", "baseline", "alternative", "fixed"]
        mine = (ratios[names] == far[names]).all(axis=1) & np.isfinite(ratios.high)
        data = ratios[mine & (ratios.other_kind == "corpus")]
        lines += [f"{place}, {ratio_text(row)}." for row in data.head(1).itertuples()]
    lines = list(dict.fromkeys(lines))
    out = [Sentence(text, 85 - 12 * k, FRONT) for k, text in enumerate(lines)]
    return out + [Sentence(text, 62 - k) for k, text in enumerate(lines)]


# --- Figures -----------------------------------------------------------------------

# Rungs of the ladder that one figure has room for.
MOST_RUNGS = 26


def draw_ladder(figure: Figure, analysis: Analysis, target: str) -> None:
    """Distances at one place, of swaps of the data and of the model, on one axis."""
    told = _told(analysis)
    if told.empty:
        raise Nothing
    frame = told[told.distance.notna()].sort_values("distance")
    if len(frame) > MOST_RUNGS:
        # The nearest and the farthest, and those between them in even steps.
        steps = np.linspace(0, len(frame) - 1, MOST_RUNGS).round().astype(int)
        frame = frame.iloc[steps]
    resize(figure, 1.3 + 0.27 * len(frame))
    axes = figure.subplots()
    axes.set_xlim(*reach(frame.low, frame.high, [0.0]))
    labels = []
    for y, row in enumerate(frame.to_dict("records")):
        shown = {"value": row["distance"], "low": row["low"], "high": row["high"]}
        kind = _rung(row["kind"])
        whisker(axes, y, shown, *LOOKS[kind])
        if row["kind"] == "seeds":
            labels.append(f"two seeds: {row['baseline']}, {row['fixed']}")
        else:
            swap = f"{row['baseline']} → {row['alternative']}"
            labels.append(f"{row['kind']}: {swap} ({row['fixed']})")
            if not math.isnan(row["floor"]):
                axes.plot(row["floor"], y, marker="|", color=FAINT, ms=8)
            if not math.isnan(row["excess"]):
                low, high = (number(row[f"excess_{end}"], 2) for end in ENDS)
                ends = f"{low} to {high}"
                side_note(axes, y, f"excess {number(row['excess'], 2)}\n({ends})")
    forest_axis(axes, labels, range(len(frame)))
    axes.axvline(0, color=INK, lw=0.8)
    axes.grid(True, axis="x")
    axes.set_xlabel("mean Jensen-Shannon divergence (nats/token)")
    kinds = dict.fromkeys(_rung(kind) for kind in frame.kind)
    handles = [key(name, *LOOKS[name]) for name in LOOKS if name in kinds]
    legend(figure, [*handles, key("two seeds of either", FAINT, "|")])


ENDS = ("low", "high")
LOOKS = {
    "seeds": (FAINT, "D"),
    "the model": (PALETTE[0], "o"),
    "the data": (PALETTE[1], "s"),
}


def _rung(kind: str) -> str:
    if kind == "seeds":
        return "seeds"
    return "the data" if kind in OF_DATA else "the model"


def draw_map(figure: Figure, analysis: Analysis, target: str) -> None:
    """Every run at one place, on the plane that shows their distances best."""
    frame = analysis.function_map
    if frame.empty:
        raise Nothing
    frame = frame[frame.probes == frame.probes.iloc[0]]
    families, corpora = families_of(analysis), corpora_of(analysis)
    families = families or sorted(set(frame.family))
    resize(figure, 5.0)
    axes = figure.subplots()
    for (family, corpus), runs in frame.groupby(["family", "corpus"], sort=False):
        colour = _colour(families, family)
        marker = looks(corpora, corpus)[1] if corpus in corpora else "o"
        axes.scatter(runs.x, runs.y, color=colour, marker=marker, s=28, alpha=0.85)
    names = sorted(set(frame.family))
    handles = [key(name, _colour(families, name), "o") for name in names]
    several = sorted(set(frame.corpus))
    if len(several) > 1:
        marks = {c: looks(corpora, c)[1] if c in corpora else "o" for c in several}
        handles += [key(c, INK, mark) for c, mark in marks.items()]
    legend(figure, handles)
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.set_xlabel("root of nats")
    share = 100 * float(frame.shown.iloc[0])
    axes.set_title(f"the plane shows {share:.0f}% of the squared distances")


def _colour(families: Sequence[str], family: str) -> str:
    base = family if family in families else family.split(", ")[0]
    return looks(families, base)[0] if base in families else INK


QUESTION = Question(
    name="distance",
    title="Do they compute the same function?",
    place=52,
    absent=Absent("distance between predictions", ("distances",), ("distance",)),
    said=said,
    answers=answers,
    figures={
        "distances": Drawing(
            draw_ladder,
            "How far apart predictions lie when one thing is swapped, in one unit: the "
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
        Table("Architecture in the unit of other swaps", "function_ratios"),
    ),
    compares=compares,
)
