"""What moves the verdict: the same questions under other defensible choices.

A verdict that flips with the law, with delta, without the smallest size, when
embeddings are counted or on another target is a statement about that choice. The
refits take fewer draws than the analysis; each row says how many.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.design import levels
from analysis.design.cells import at_optimum
from analysis.design.cells import points as points_of_interest
from analysis.design.swaps import Swap
from analysis.effects import data_equivalents
from analysis.effects.data_equivalents import Equivalents, Surface
from analysis.fitting.fit import DELTA
from analysis.formatting import joined, scored
from analysis.inference.verdict import decided
from analysis.questions._question import (
    CHOICES,
    FRONT,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View, of_target
from analysis.report.style import (
    ALARM,
    PALETTE,
    WIDTH,
    Nothing,
    factor_axis,
    forest_axis,
    panels_of,
    resize,
    rows_of,
    side_note,
    span,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare
from analysis.surfaces.nested import MODELS
from analysis.surfaces.surfaces import PLAIN, Form, Surfaces, joint_surfaces

if TYPE_CHECKING:
    from analysis.questions._asked import Asked, Whole

FRAMES = (
    declare(
        "verdicts",
        "The overall effects under other choices.",
        "target",
        Column("question", "architecture, corpus, or architecture or corpus"),
        "baseline alternative",
        Column("setting", "the choice: as reported, or what differs"),
        Column("draws", "draws behind the interval"),
        Column("value", "data-equivalent, or architecture over corpus"),
        "low high",
        Column("p", "share of infinite draws, or in which the architecture is larger"),
        Column("verdict", "gain, loss, architecture, corpus or undetermined"),
        Column("moves", "whether it is another verdict than reported"),
    ),
)

DRAWS = 60
REPORTED = "as reported"


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    if asked.leading.nested is None or not asked.swaps:
        return {}
    frame = verdicts_frame(
        asked.chosen,
        asked.swaps,
        asked.measured.once,
        asked.target,
        asked.delta,
        asked.seed,
        MODELS[asked.leading.model],
        None if asked.leading.plain else asked.surfaces.of_joint,
    )
    return {"verdicts": frame}


def concludes(whole: Whole) -> Answer:
    frame = across_targets(whole.analysis.verdicts, whole.table.targets)
    return {"verdicts": frame}, []


@dataclasses.dataclass(frozen=True)
class Setting:
    """One defensible choice: its name, and the joint law's surfaces under it."""

    name: str
    frame: pd.DataFrame
    surface: Surface
    draws: int


def verdicts_frame(
    surfaces: Surfaces,
    found: Sequence[Swap],
    frame: pd.DataFrame,
    target: str,
    delta: float,
    seed: int,
    form: Form = PLAIN,
    simpler: Surface | None = None,
) -> pd.DataFrame:
    """Every overall effect, and which of architecture and corpus is larger, by setting.

    Args:
      found: swaps in the direction in which they are reported.
      frame: one-epoch runs of the target, with `level` and `budget`.
      form: of the joint law that leads, which every refit keeps.
      simpler: the plain joint law, where another leads.
    """
    parts = []
    for setting in settings(surfaces, frame, delta, seed, form, simpler):
        where = points_of_interest(setting.frame)
        logs = data_equivalents.log_factors(Equivalents(setting.surface, where), found)
        whole = data_equivalents.equivalents_frame(logs, where, target, "joint")
        ratios = data_equivalents.ratios_frame(logs, where, target)
        rows = [*_of_swaps(whole), *_of_ratios(ratios)]
        named = {"setting": setting.name, "draws": setting.draws, "target": target}
        parts.append(pd.DataFrame([named | row for row in rows]))
    return moved(pd.concat(parts, ignore_index=True))


def settings(
    surfaces: Surfaces,
    frame: pd.DataFrame,
    delta: float,
    seed: int,
    form: Form = PLAIN,
    simpler: Surface | None = None,
) -> Iterator[Setting]:
    """The choices, the reported one first; those that change nothing are left out."""
    fitted = surfaces.data.frame
    draws = len(surfaces.draws)
    yield Setting(REPORTED, frame, surfaces.of_joint, draws)
    if simpler is not None:
        yield Setting("law: joint", frame, simpler, draws)
    yield Setting("law: each family alone", frame, surfaces.of_single, draws)
    other = math.inf if math.isfinite(delta) else DELTA
    for name, part, threshold in (
        ("least squares" if math.isinf(other) else f"delta {other:g}", fitted, other),
        ("smallest size dropped", fitted[fitted.level > fitted.level.min()], delta),
        ("smallest budget dropped", fitted[fitted.budget > fitted.budget.min()], delta),
        ("embeddings counted otherwise", _counted(fitted), delta),
        ("quadratic in the log rate", at_optimum(fitted), delta),
    ):
        same = len(part) == len(fitted) and part.params.equals(fitted.params)
        if part.empty or (threshold == delta and same):
            continue
        again = joint_surfaces(
            part, min(DRAWS, draws), seed, threshold, surfaces.draws.scheme, form
        )
        yield Setting(name, part, again.of_joint, min(DRAWS, draws))


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Parameters with embeddings where the table had them without."""
    counted = frame.assign(params=frame.params_total)
    codes = levels.level_codes(counted.params.to_numpy(float), levels.SIZE)
    return counted.assign(level=codes)


def _of_swaps(whole: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in whole[whole.fixed == "*"].itertuples() if len(whole) else ():
        lie = "gain" if row.low > 1 else "loss" if row.high < 1 else "undetermined"
        yield {
            "question": row.kind,
            "baseline": row.baseline,
            "alternative": row.alternative,
            "value": row.factor,
            "low": row.low,
            "high": row.high,
            "p": row.p_infinite,
            "verdict": lie,
        }


def _of_ratios(ratios: pd.DataFrame) -> Iterator[dict[str, Any]]:
    whole = ratios[ratios.params.isna()] if len(ratios) else ratios
    for row in whole.to_dict("records"):
        share = row["p_architecture"]
        larger = "undetermined"
        if decided(share):
            larger = "architecture" if share > 0.5 else "corpus"
        yield {
            "question": "architecture or corpus",
            "baseline": row["architecture"],
            "alternative": row["corpus"],
            "value": row["lambda"],
            "low": row["low"],
            "high": row["high"],
            "p": share,
            "verdict": larger,
        }


def moved(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds `moves`: whether the verdict is another than the reported one.

    A setting that cannot answer, such as a law refused on fewer sizes, has no row; one
    that gives a value and no interval decides nothing, and moves nothing.
    """
    keys = ["target", "question", "baseline", "alternative"]
    reported = frame[frame.setting == REPORTED].set_index(keys).verdict
    if frame.empty or reported.empty:
        return frame.assign(moves=False)
    known = pd.MultiIndex.from_frame(frame[keys])
    base = reported.reindex(known).to_numpy()
    moves = (base != frame.verdict.to_numpy()) & pd.notna(base)
    return frame.assign(moves=moves & ~silent(frame))


def across_targets(frame: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """Rows for the other targets as settings of the first, by what each reported.

    On another target a swap may help in the other direction; its verdict is then a
    loss, and its factor, of the way back, is not repeated.
    """
    rows: list[Mapping[str, Any]] = []
    if frame.empty:
        return frame
    reported = frame[(frame.setting == REPORTED)]
    first = reported[reported.target == targets[0]]
    for base in first.to_dict("records"):
        for target in targets[1:]:
            mine = reported[
                (reported.target == target) & (reported.question == base["question"])
            ]
            row = _other(base, mine)
            if row:
                rows.append(row | {"setting": f"target {target}"})
    if not rows:
        return frame
    return moved(pd.concat([frame, pd.DataFrame(rows)], ignore_index=True))


def _other(base: Mapping[str, Any], mine: pd.DataFrame) -> dict[str, Any] | None:
    """The row of `mine` on the same swap, in the direction of `base`."""
    wanted = _ends(base)
    for row in mine.to_dict("records"):
        if _ends(row) != wanted:
            continue
        out = dict(row) | {"target": base["target"]}
        if (row["baseline"], row["alternative"]) == (
            base["baseline"],
            base["alternative"],
        ):
            return out
        out |= {"baseline": base["baseline"], "alternative": base["alternative"]}
        if base["question"] != "architecture or corpus":
            turned = {"gain": "loss", "loss": "gain"}
            out |= {"value": np.nan, "low": np.nan, "high": np.nan, "p": np.nan}
            out["verdict"] = turned.get(row["verdict"], row["verdict"])
        return out
    return None


def _ends(row: Mapping[str, Any]) -> frozenset[Any]:
    """What is compared, whatever the direction of each swap."""
    if row["question"] != "architecture or corpus":
        return frozenset((row["baseline"], row["alternative"]))
    return frozenset(
        (end, frozenset(row[end].split(" -> "))) for end in ("baseline", "alternative")
    )


def silent(frame: pd.DataFrame) -> pd.Series:
    """Marks settings that give a value and no interval: they decide nothing."""
    open_ = frame.verdict == "undetermined"
    return open_ & frame.value.notna() & frame.low.isna()


def _asked_of(question: str, baseline: str, alternative: str) -> list[frozenset[str]]:
    """The swaps that a verdict is about: one, or the two that are compared."""
    if " or " not in question:
        return [frozenset((baseline, alternative))]
    return [frozenset(text.split(" -> ")) for text in (baseline, alternative)]


def sentences(frame: pd.DataFrame, agreement: pd.DataFrame | None = None) -> list[str]:
    """Which verdicts other choices move, and how many stay as reported.

    Args:
      agreement: of the law with matched cells, as in Analysis. A verdict on a swap for
        which they disagree is not said to hold.
    """
    apart = _disputed_ends(agreement)
    others = frame[(frame.setting != "as reported") & ~silent(frame)]
    if others.empty:
        return []
    sentences, steady, against = [], 0, 0
    keys = ["question", "baseline", "alternative"]
    for (question, baseline, alternative), rows in others.groupby(keys, sort=False):
        moves = rows[rows.moves.astype(bool)]
        if moves.empty:
            doubted = any(
                one in apart for one in _asked_of(question, baseline, alternative)
            )
            against += doubted
            steady += not doubted
            continue
        swap = (
            f"{baseline} against {alternative}"
            if " or " in question
            else f"{baseline} → {alternative}"
        )
        said = joined(f"{row.setting} ({row.verdict})" for row in moves.itertuples())
        swap = swap.replace("->", "→")
        text = f"Over all cells, the verdict on {swap} changes with: {said}."
        sentences.append(text)
    tried = others.setting.nunique()
    every = {1: "the one other choice", 2: "both other choices"}
    checks = every.get(tried, f"all {tried} other choices")
    total = steady + against + len(sentences)
    if against:
        which = _of_verdicts(against, total, "rests on a swap", "rest on swaps")
        text = f"{which} for which measured matched cells and the leading law disagree."
        sentences.append(text)
    if steady:
        which = _of_verdicts(steady, total, "holds", "hold")
        sentences.append(f"{which} under {checks}.")
    return sentences


def _of_verdicts(some: int, total: int, does: str, do: str) -> str:
    """How many of all verdicts do something, as one says it."""
    if total == 1:
        return f"The one verdict over all cells {does}"
    if some == total:
        every = "Both" if total == 2 else f"All {total}"
        return f"{every} verdicts over all cells {do}"
    return f"{some} of {total} verdicts over all cells {does if some == 1 else do}"


def _disputed_ends(agreement: pd.DataFrame | None) -> set[frozenset[str]]:
    """The two levels of each swap on which the law and what was measured disagree."""
    if agreement is None or agreement.empty:
        return set()
    apart = agreement[~agreement.agrees.astype(bool)]
    return {
        frozenset(ends) for ends in zip(apart.baseline, apart.alternative, strict=True)
    }


def draw_verdicts(figure: Figure, analysis: Analysis, target: str) -> None:
    """Each overall effect under other choices; what moves its verdict is red."""
    frame = rows_of(analysis.verdicts, target)
    frame = frame[frame.question != "architecture or corpus"]
    if frame.empty:
        raise Nothing
    settings = list(dict.fromkeys(frame.setting))
    swaps = list(dict.fromkeys(zip(frame.baseline, frame.alternative, strict=True)))
    columns = min(3, len(swaps))
    lines = math.ceil(len(swaps) / columns)
    resize(figure, 0.6 + lines * (0.6 + 0.22 * len(settings)), WIDTH + 0.6)
    panels = panels_of(figure, lines, columns).ravel()
    for axes, swap in itertools.zip_longest(panels, swaps):
        if swap is None:
            axes.set_axis_off()
            continue
        mine = frame[(frame.baseline == swap[0]) & (frame.alternative == swap[1])]
        low, high = span(
            mine.value, mine.low.clip(lower=0.05), mine.high.clip(upper=50), [0.9, 1.1]
        )
        factor_axis(axes, (max(low, 0.04), min(high, 60)))
        rows = mine.drop_duplicates("setting").set_index("setting").reindex(settings)
        for y, row in enumerate(rows.to_dict("records")):
            colour = ALARM if row["moves"] is True else PALETTE[0]
            whisker(axes, y, row, colour, "s" if row["moves"] is True else "o")
            if math.isinf(row["value"]):
                side_note(axes, y, "∞")
        forest_axis(axes, settings, range(len(settings)))
        axes.set_title(f"{swap[0]} → {swap[1]}")
    figure.supxlabel(
        "data-equivalent over all cells (red: another verdict)", fontsize=8.5
    )


def answers(view: View) -> list[Sentence]:
    """Which verdicts other choices move; where many do, how many hold."""
    agreement = of_target(view.reported.agreement, view.target)
    moved = sentences(view.rows("verdicts"), agreement)
    said = [Sentence(text, 50) for text in (moved if len(moved) <= 3 else moved[-1:])]
    others = view.rows("verdicts")
    others = others[(others.setting != REPORTED) & ~silent(others)]
    swaps = others.groupby(["question", "baseline", "alternative"]).moves.any()
    if len(swaps):
        # What matched cells contradict is no finding that holds.
        apart = _disputed_ends(agreement)
        holds = [
            not moves and not any(one in apart for one in _asked_of(*asked))
            for asked, moves in swaps.items()
        ]
        same, total = sum(holds), len(holds)
        text = f"{_keeping(same, total)} under every other choice of law, data and "
        text += "target" + (", and on matched cells." if apart else ".")
        said.append(Sentence(text, 60, FRONT))
    return said


def _keeping(same: int, total: int) -> str:
    """How many of the comparisons keep their outcome, to begin a sentence."""
    if total == 1:
        which = "The comparison " + ("keeps" if same else "does not keep")
        return f"{which} its outcome"
    if same == total:
        which = "Both" if total == 2 else f"All {total}"
        return f"{which} comparisons keep their outcome"
    which = f"{same or 'None'} of the {total} comparisons "
    return which + ("keep their outcome" if same > 1 else "keeps its outcome")


def notes(view: View) -> Iterator[Note]:
    """Choices of the analysis that change a verdict."""
    frame = view.analysis.verdicts
    asked = frame.drop_duplicates(["target", "question", "baseline", "alternative"])
    every = asked.groupby("target").size()
    moves = frame[frame.moves.astype(bool)]
    for target, part in moves.groupby("target", sort=False):
        counts = part.setting.value_counts()
        changed = ", ".join(f"{name} ({n})" for name, n in counts.items())
        text = (
            f"Other choices of the analysis change some of {every[target]} verdicts"
            f"{scored(target)}: {changed}."
        )
        yield Note("warning", "effects", text)


QUESTION = Question(
    name="verdict",
    title="Which choices of the analysis change a verdict",
    place=70,
    absent=Absent("other choices tried", ("verdicts",), ("effects",)),
    said=lambda view: sentences(view.rows("verdicts"), view.analysis.agreement),
    answers=answers,
    checks={
        CHOICES: lambda view: sentences(view.analysis.verdicts, view.analysis.agreement)
    },
    figures={
        "verdicts": Drawing(
            draw_verdicts,
            "The overall data-equivalents under other choices of law, of Huber's "
            "delta, of the runs that are kept and of how parameters are counted.",
        )
    },
    tables=(
        Table("Every choice", "verdicts"),
        Table("Every model within 4 AICc", "model_multipliers"),
    ),
    compute=compute,
    concludes=concludes,
    notes=notes,
)
