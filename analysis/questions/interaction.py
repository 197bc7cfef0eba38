"""Does a swap's effect depend on what is held fixed or on scale?

Asked of the laws fitted to each family and corpus alone, since the joint law shares its
multipliers and could not show it; and of the matched cells, with no law at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.design.swaps import Swap
from analysis.effects.data_equivalents import SIZES, LogFactors, by_pair, overall
from analysis.effects.matched_cells import Match, Matches
from analysis.effects.pooled_cells import agreement_frame
from analysis.formatting import (
    among,
    count,
    few,
    interval_text,
    number,
    scored,
    swap_text,
    swaps_text,
)
from analysis.inference import quantiles
from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.questions._matched_words import disputed
from analysis.questions._question import (
    FRONT,
    Absent,
    Drawing,
    Finding,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View, of_target
from analysis.report.style import (
    ALARM,
    PALETTE,
    Nothing,
    factor_axis,
    forest_axis,
    resize,
    rows_of,
    span,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare, stacked

if TYPE_CHECKING:
    from analysis.questions._asked import Asked

FRAMES = (
    declare(
        "interactions",
        "How a swap's effect differs between two places.",
        "kind baseline alternative fixed target",
        Column("by", "what differs: fixed, params or tokens"),
        Column("first", "the one level"),
        Column("second", "the other level"),
        Column("quantity", "ln M_D or log loss ratio"),
        Column("difference", "of the quantity, at the second less at the first"),
        "low high",
        Column("differs", "whether the interval leaves out zero"),
        "method",
    ),
    declare(
        "agreement",
        "Swaps as measured on matched cells and as the leading law has them there.",
        "kind baseline alternative fixed target",
        Column("cells", "how many matched cells"),
        Column("measured", "mean log loss ratio over them"),
        "low high",
        Column("modelled", "the same by the leading law"),
        Column("model_low", "lower end of its 95% interval"),
        Column("model_high", "upper end of its 95% interval"),
        Column("agrees", "whether the two intervals overlap"),
    ),
)

# Of an interval, and of all answers about one swap together (Bonferroni): with a dozen
# questions a swap, one in two would show some interaction where there is none.
LEVEL = 0.95
# Where both ends of a difference are infinite in more draws than this, it says nothing.
MOST_UNKNOWN = 0.5


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    target, matched = asked.target, asked.matched
    parts = [
        modelled_frame(asked.logs_alone, asked.points, target, "family"),
        measured_frame(matched, target),
    ]
    agreement = agreement_frame(asked.chosen.of_joint, matched, target)
    return {"interactions": stacked(parts), "agreement": agreement}


def modelled_frame(
    draws: LogFactors, points: Sequence[tuple[float, float]], target: str, method: str
) -> pd.DataFrame:
    """Differences of ln M_D between fixed levels, and from least to most N or D.

    Args:
      draws: ln M_D [B, points] of each swap, by surfaces that share no multiplier.
    """
    rows = []
    for (kind, baseline, alternative), members in by_pair(draws).items():
        head = {
            "kind": kind,
            "baseline": baseline,
            "alternative": alternative,
            "target": target,
        }
        head |= {"quantity": "ln M_D", "method": method}
        gaps: list[tuple[dict[str, str], Array]] = []
        for one, two in itertools.combinations(members, 2):
            with np.errstate(invalid="ignore"):
                gap = overall(draws[two]) - overall(draws[one])
            names = {
                "fixed": "*",
                "by": "fixed",
                "first": one.fixed,
                "second": two.fixed,
            }
            gaps.append((names, gap))
        for swap in members:
            for name, gap in _along(draws[swap], points):
                gaps.append(({"fixed": swap.fixed} | name, gap))
        rows += [head | names | _drawn(gap, len(gaps)) for names, gap in gaps]
    return pd.DataFrame(rows)


def _along(
    logs: Array, points: Sequence[tuple[float, float]]
) -> Iterator[tuple[dict[str, str], Array]]:
    """Effect at the most of N (D) less that at the least, over all D (N), [B]."""
    for axis, name in enumerate(SIZES):
        values = np.array([point[axis] for point in points])
        least, most = values.min(), values.max()
        if most <= least:
            continue
        with np.errstate(invalid="ignore"):
            gap = overall(logs[:, values == most]) - overall(logs[:, values == least])
        yield {"by": name, "first": f"{least:.3g}", "second": f"{most:.3g}"}, gap


def _drawn(gap: Array, asked: int) -> dict[str, Any]:
    """An interval, and whether that for all `asked` questions at once excludes zero."""
    known = np.isnan(gap[1:]).mean() <= MOST_UNKNOWN
    low, high, least, most = (
        float(end) if known else np.nan
        for level in (LEVEL, 1.0 - (1.0 - LEVEL) / asked)
        for end in interval(gap[1:], level)
    )
    reported = {"difference": float(gap[0]), "low": low, "high": high}
    return reported | {"differs": bool(least > 0 or most < 0)}


def measured_frame(found: Matches, target: str) -> pd.DataFrame:
    """The same from matched cells, in log loss: no law, no data-equivalent.

    Between fixed levels: the mean difference over the sizes and budgets that both have.
    Along N and D: least squares of the log ratio on ln N and ln D, times their range.
    Student's intervals, with the scatter of the cells as the noise.
    """
    rows = []
    pairs: dict[tuple[str, str, str], list[Swap]] = {}
    for swap in found:
        pairs.setdefault(swap.pair, []).append(swap)
    for (kind, baseline, alternative), members in pairs.items():
        head = {
            "kind": kind,
            "baseline": baseline,
            "alternative": alternative,
            "target": target,
        }
        head |= {"quantity": "log loss ratio", "method": "paired"}
        asked = math.comb(len(members), 2) + len(SIZES) * len(members)
        for one, two in itertools.combinations(members, 2):
            first, second = _by_place(found[one]), _by_place(found[two])
            gap = np.array([second[k] - first[k] for k in first if k in second])
            if gap.size >= 3:
                names = {"by": "fixed", "first": one.fixed, "second": two.fixed}
                spread = float(gap.std(ddof=1)) / math.sqrt(gap.size)
                reported = _by_students_t(
                    float(gap.mean()), spread, gap.size - 1, asked
                )
                rows.append(head | {"fixed": "*"} | names | reported)
        for swap in members:
            for name, reported in _slopes(found[swap], asked):
                rows.append(head | {"fixed": swap.fixed} | name | reported)
    return pd.DataFrame(rows)


def _by_place(matched: Sequence[Match]) -> dict[Any, float]:
    """Log loss ratio by (level, budget)."""
    return {match.before.Index: match.log_ratio for match in matched}


def _by_students_t(
    difference: float, error: float, freedom: int, asked: int
) -> dict[str, Any]:
    """As `_drawn`, by Student's t."""
    reach, far = (
        error * quantiles.student(1.0 - (1.0 - LEVEL) / (2.0 * count), freedom)
        for count in (1, asked)
    )
    row = {"difference": difference, "low": difference - reach}
    return row | {
        "high": difference + reach,
        "differs": bool(abs(difference) > far),
    }


def _slopes(
    matched: Sequence[Match], asked: int
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    logs = np.array([match.log_ratio for match in matched])
    at = np.log([[getattr(match.before, name) for name in SIZES] for match in matched])
    centred = at - at.mean(axis=0)
    design = np.column_stack([np.ones(logs.size), centred])
    freedom = logs.size - design.shape[1]
    if freedom < 3 or np.linalg.matrix_rank(design, tol=1e-6) < design.shape[1]:
        return
    beta, *_ = np.linalg.lstsq(design, logs, rcond=None)
    noise = ((logs - design @ beta) ** 2).sum() / freedom
    spread = np.sqrt(noise * np.diag(np.linalg.inv(design.T @ design)))
    for axis, name in enumerate(SIZES):
        reach = np.ptp(at[:, axis])
        middle, error = float(beta[axis + 1] * reach), float(spread[axis + 1] * reach)
        least, most = np.exp(at[:, axis].min()), np.exp(at[:, axis].max())
        names = {"by": name, "first": f"{least:.3g}", "second": f"{most:.3g}"}
        yield names, _by_students_t(middle, error, freedom, asked)


def flags(interactions: pd.DataFrame) -> dict[tuple[str, str, str, str, str], str]:
    """What a main effect depends on, by (target, kind, baseline, alternative, fixed).

    The laws of each family and corpus alone decide where they could be fitted, else the
    matched cells. An effect that depends on what is held fixed has no value over all of
    it (fixed "*"); one that depends on scale has none over all points.
    """
    out: dict[tuple[str, str, str, str, str], str] = {}
    if interactions.empty:
        return out
    for (target, kind, baseline, alternative), part in interactions.groupby(
        ["target", "kind", "baseline", "alternative"]
    ):
        deciding = part[part.method == "family"]
        reported = part[part.method == "paired"] if deciding.empty else deciding
        for row in reported[reported.differs].itertuples():
            varies = "what is held fixed" if row.by == "fixed" else "scale"
            for fixed in (row.fixed, "*"):
                key = (target, kind, baseline, alternative, fixed)
                known = out.get(key, "")
                if varies not in known:
                    out[key] = f"{known} and {varies}" if known else varies
    return out


def sentences(frame: pd.DataFrame) -> list[str]:
    """Which effects change with what is held fixed, with size or with budget."""
    frame = frame[(frame.quantity == "ln M_D") & frame.difference.notna()]
    if frame.empty:
        return []
    open_ = len(frame) - int(frame.differs.astype(bool).sum())
    sentences = []
    for row in frame[frame.differs.astype(bool)].itertuples():
        ends = interval_text(_exp(row.low), _exp(row.high))
        swap, first, second = _sides(row)
        if math.isinf(_exp(row.difference)):
            finite = f"finite for {first} and infinite for {second}"
            text = f"{swap}: the data-equivalent is {finite} (ratio {ends})."
        else:
            times = f"{number(_exp(row.difference))} times that for {first}"
            text = f"{swap}: the data-equivalent for {second} is {times} ({ends})."
        sentences.append(text)
    if open_:
        text = f"No change is shown in {open_} of {len(frame)} such comparisons."
        return [*few(sentences), text]
    return few(sentences)


def compared(row: Any) -> str:
    """What an interaction compares, from a row of Analysis.interactions."""
    swap, first, second = _sides(row)
    unit = {"params": " parameters", "tokens": " tokens"}.get(row.by, "")
    return f"{swap}: {second.removesuffix(unit)} against {first}"


def _sides(row: Any) -> tuple[str, str, str]:
    """The swap, and the two places or levels at which it is compared."""
    fixed = "" if row.fixed == "*" else among(row.fixed)
    unit = {"params": " parameters", "tokens": " tokens"}.get(row.by, "")
    first, second = (_place(str(x)) + unit for x in (row.first, row.second))
    return f"{swap_text(row)}{fixed}", first, second


def _place(name: str) -> str:
    """A level that two effects are compared at; counts are shortened."""
    try:
        return count(float(name))
    except ValueError:
        return name


def _exp(log: float) -> float:
    return math.exp(log) if log < 700 else math.inf


def draw_interactions(figure: Figure, analysis: Analysis, target: str) -> None:
    """How each swap's data-equivalent changes with what is held fixed, size and budget.

    What has no interval shows nothing, and is left to the table.
    """
    frame = rows_of(analysis.interactions, target)
    frame = frame[(frame.quantity == "ln M_D") & np.isfinite(frame.difference)]
    frame = frame[frame.low.notna() & frame.high.notna()]
    if frame.empty:
        raise Nothing
    ratio = pd.DataFrame(
        {
            "value": np.exp(frame.difference),
            "low": np.exp(frame.low),
            "high": np.exp(frame.high),
            "differs": frame.differs,
        }
    )
    resize(figure, 0.9 + 0.24 * len(frame))
    axes = figure.subplots()
    low, high = span(ratio.value, ratio.low.clip(0.1, 10), ratio.high.clip(0.1, 10))
    factor_axis(axes, (min(low, 0.9), max(high, 1.1)))
    for y, row in enumerate(ratio.to_dict("records")):
        colour = ALARM if row["differs"] else PALETTE[0]
        whisker(axes, y, row, colour, "s" if row["differs"] else "o")
    names = [compared(row) for row in frame.itertuples()]
    forest_axis(axes, names, range(len(frame)))
    axes.set_xlabel("times the data-equivalent (red: its interval leaves out 1)")


def answers(view: View) -> list[Sentence]:
    """Where the law and what was measured disagree, what was measured comes first."""
    said = disputed(of_target(view.reported.agreement, view.target))
    front = [Sentence(text, 100, FRONT) for text in said[:1]]
    return [*(Sentence(text, 100) for text in said), *front]


def findings(view: View) -> list[Finding]:
    """Swaps as measured on matched cells, and as the law has them at these."""
    out = []
    for row in of_target(view.reported.agreement, view.target).itertuples():
        swap = (row.baseline, row.alternative, row.fixed)
        ends = interval_text(row.low, row.high)
        text = f"log loss changes by {number(row.measured)} ({ends})"
        way = f"{row.cells} matched cells, as measured"
        loss = "log loss"
        out.append(Finding(*swap, way, text, -row.high, -row.low, loss, MEASURED))
        low, high = row.model_low, row.model_high
        ends = interval_text(low, high)
        text = f"log loss changes by {number(row.modelled)} ({ends})"
        way = f"the law that leads, over the same {row.cells} cells"
        apart = not row.agrees
        out.append(Finding(*swap, way, text, -high, -low, loss, MODELLED, apart))
    return out


MEASURED = "no law: the mean over the sizes and budgets that both were measured at"
MODELLED = "the fitted curves at these cells; a law that misses there differs"


def notes(view: View) -> Iterator[Note]:
    yield from of_agreement(view.analysis.agreement)
    yield from of_interactions(view.analysis.interactions)


def of_agreement(frame: pd.DataFrame) -> Iterator[Note]:
    """How many measured effects the leading law does not give, the furthest off."""
    every = frame.groupby("target").size()
    apart = frame[~frame.agrees.astype(bool)]
    for target, part in apart.groupby("target", sort=False):
        row = part.loc[(part.measured - part.modelled).abs().idxmax()]
        text = (
            f"Matched cells and the leading law disagree on {len(part)} of "
            f"{every[target]} swaps, on target {target}; most on {row.baseline} to "
            f"{row.alternative}{among(row.fixed)}: log loss {row.measured:+.4f} "
            f"measured, {row.modelled:+.4f} by the law."
        )
        yield Note("disagree", "effects", text)


def of_interactions(frame: pd.DataFrame) -> Iterator[Note]:
    """Which swaps have no single effect: it depends on scale or the fixed level."""
    deciding = frame[frame.method == "family"]
    deciding = frame if deciding.empty else deciding
    differs = deciding[deciding.differs.astype(bool)]
    for target, part in differs.groupby("target", sort=False):
        text = (
            f"The effect of {swaps_text(part)} depends on scale or on what is held "
            f"fixed{scored(target)}: read it cell by cell, since its overall value is "
            "an average of different effects."
        )
        yield Note("warning", "effects", text)


QUESTION = Question(
    name="interaction",
    title="Does an effect change with scale, or with what is held fixed?",
    place=50,
    absent=Absent("interactions", ("interactions", "agreement"), ("effects",)),
    said=lambda view: sentences(view.rows("interactions")),
    answers=answers,
    findings=findings,
    figures={
        "interactions": Drawing(
            draw_interactions,
            "How the data-equivalent of a swap changes between the two places named: "
            "1 is no change. Lines are 95% intervals.",
        )
    },
    tables=(
        Table("All comparisons", "interactions"),
        Table("Measured on matched cells against modelled there", "agreement"),
    ),
    compute=compute,
    notes=notes,
)
