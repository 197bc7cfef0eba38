"""What each swap is worth in data, and how that is said; computed in effects.py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.effects.data_equivalents import (
    Equivalents,
    doubling_frame,
    equivalents_frame,
    log_factors,
)
from analysis.effects.matched_cells import paired_frame
from analysis.effects.pooled_cells import measured_frame
from analysis.formatting import (
    MOST_SENTENCES,
    UNDETERMINED,
    UNNAMED,
    among,
    at,
    few,
    interval_text,
    joined,
    number,
    on,
    percent,
    scale,
    scored,
    swap_text,
)
from analysis.inference.verdict import verdict
from analysis.questions import _matched_words
from analysis.questions._effect_notes import flagged, notes, warns
from analysis.questions._plain_worth import plainly, worth_told
from analysis.questions._question import (
    FRONT,
    LIMIT,
    Answer,
    Drawing,
    Finding,
    Placed,
    Question,
    Sentence,
)
from analysis.questions._swap_figures import draw_equivalents, draw_scale
from analysis.questions._swap_words import equivalences
from analysis.questions._view import (
    View,
    at_fitted,
    beyond,
    leading,
    of_target,
    one_way,
)
from analysis.report import markup
from analysis.report.shortlist import centres
from analysis.results import Analysis
from analysis.schema import LOSS, Column, declare, stacked
from analysis.surfaces.nested import BASE

if TYPE_CHECKING:
    from analysis.questions._asked import Asked, Whole

FRAMES = (
    declare(
        "equivalents",
        "Data-equivalents of every swap, each told in the direction in which it helps "
        "overall. params and tokens are NaN in the row over all points. The first of "
        "the methods preferred, joint, family and paired that there is leads.",
        "kind baseline alternative fixed target params tokens factor low high "
        "p_infinite method",
        Column(
            "log_ratio",
            "measured ln loss of `alternative` less that of `baseline` (paired alone)",
        ),
        Column(
            "flag",
            "no difference shown; infinite in ... of draws; varies with ... (a main "
            "effect to be read per cell only)",
        ),
        "fitted",
    ),
    declare(
        "measured",
        "Each swap over its matched cells, without a law; of swaps within one corpus "
        "those trained on the target's own text, where there are any.",
        "kind baseline alternative target",
        Column("corpora", "what the runs of these cells were trained on"),
        Column("cells", "how many matched cells"),
        Column("log_ratio", "mean log loss of `alternative` less that of `baseline`"),
        "low high",
        Column("params_low", "the smallest of the cells", "count"),
        Column("params_high", "the largest of the cells", "count"),
        Column("tokens_low", "the least tokens of the cells", "count"),
        Column("tokens_high", "the most tokens of the cells", "count"),
    ),
    declare(
        "doubling",
        "What doubling the data saves.",
        "family corpus target params tokens",
        Column("gain", "loss saved", LOSS),
        "low high fitted",
    ),
)


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    surfaces, target, where = asked.surfaces, asked.target, asked.points
    measured = asked.measured
    parts = [asked.worth]
    if not asked.leading.plain:
        joint = log_factors(Equivalents(surfaces.of_joint, where), asked.swaps)
        parts.append(equivalents_frame(joint, where, target, "joint"))
    parts.append(equivalents_frame(asked.logs_alone, where, target, "family"))
    parts.append(
        paired_frame(asked.matched, target, measured.noise, measured.document_se)
    )
    doubling = doubling_frame(
        asked.chosen.of_joint, surfaces.families, surfaces.corpora, where, target
    )
    return {
        "equivalents": asked.within(stacked(parts)),
        "measured": measured_frame(
            asked.matched,
            target,
            measured.table.text(target),
            measured.described,
            measured.noise,
            measured.document_se,
        ),
        "doubling": asked.within(doubling),
    }


def concludes(whole: Whole) -> Answer:
    found = whole.analysis
    return {"equivalents": flagged(found.equivalents, found.interactions)}, []


def doubling_sentence(frame: pd.DataFrame, target: str, unit: str) -> str:
    """What doubling the data saves at most, on the target's own corpus if it is one."""
    own = frame[frame.corpus == target] if (frame.corpus == target).any() else frame
    row = max(own.itertuples(), key=lambda row: row.gain)
    text = f"doubling the data{_of_whom(row.family, row.corpus)}"
    saved = f"{number(row.gain)} {unit} ({interval_text(row.low, row.high)})"
    if verdict(row.low, row.high, 0.0) == "undetermined":
        return f"{at(row)}, whether {text} saves anything {UNDETERMINED}: {saved}."
    several = [
        plural
        for plural, names in (("families", own.family), ("corpora", own.corpus))
        if names.nunique() > 1
    ]
    most = f", the most of all {' and '.join(several)}" if several else ""
    return f"{at(row)}, {text} saves {saved}{most}."


def nothing(families: int, corpora: int) -> str:
    """That no effect could be stated, and what the runs lack for one."""
    text = "Whether architecture or data matters more {}"
    lacks = [
        one
        for one, many in (("one family", families), ("one corpus", corpora))
        if many < 2
    ]
    if not lacks:
        return text.format(UNDETERMINED) + "."
    has = " and ".join(lacks)
    cannot = f"cannot be said: the table has {has}, and a comparison needs two"
    return text.format(cannot) + "."


def _of_whom(family: str, corpus: str) -> str:
    """`of FAMILY on CORPUS`; what the table does not distinguish is not named."""
    family = "" if family == UNNAMED else f" of {family}"
    return family + on(corpus)


def centre(by_target: Mapping[str, str], families: int) -> list[str]:
    """Which of many swaps figures and text show, where they do not show all."""
    if not by_target:
        return []
    firsts = joined(f"{family} ({target})" for target, family in by_target.items())
    pairs = families * (families - 1) // 2
    return [
        "Figures and sentences show only pairs with the best family on a target: "
        f"{firsts}. "
        f"All {pairs} pairs are in report.json."
    ]


UNRULED = "Over matched cells, without a law{} (95% intervals; x → y: x replaced by y):"


def opening(row: Any, target: str, model: str, above: float) -> str:
    """Where and by which law the answer holds.

    Args:
      row: of Analysis.equivalents, the first that is reported.
      model: of Analysis.models, the law that leads.
      above: AICc of the joint law over it.
    """
    if row.method == "paired":
        return UNRULED.format(scored(target))
    place = f"At {scale(row.params, row.tokens)}"
    place += (
        ", the largest cell that was fitted" if row.fitted else ", an extrapolation"
    )
    law = ""
    if row.method == "preferred":
        by = model.replace("by cell", "free for each pair of family and corpus")
        law = f", by the joint law with {by} (AICc {number(above, 2)} lower)"
    return f"{place}{law}{scored(target)} (95% intervals; x → y: x replaced by y):"


def joint_instead(lead: pd.DataFrame, joint: pd.DataFrame) -> str:
    """Where the joint law gives another verdict than the law that leads.

    Args:
      lead, joint: rows of Analysis.equivalents at one cell, by the two laws.
    """
    keys = ["kind", "baseline", "alternative", "fixed"]
    both = lead.merge(joint, on=keys, suffixes=("", "_joint"))
    if both.empty:
        return ""
    said = []
    for row in both.itertuples():
        own = verdict(row.low, row.high, 1.0)
        other = verdict(row.low_joint, row.high_joint, 1.0)
        if own != other:
            ends = interval_text(row.low_joint, row.high_joint)
            swap = f"{swap_text(row)}{among(row.fixed)}"
            said.append(f"{swap}, {number(row.factor_joint)} times the data ({ends})")
    if not said:
        same = "verdict" if len(both) == 1 else f"{len(both)} verdicts"
        return f"The plain joint law gives the same {same}."
    verdicts = "another verdict" if len(said) == 1 else "other verdicts"
    return f"The plain joint law gives {verdicts} on {joined(said)}."


def extrapolated(frame: pd.DataFrame) -> str:
    """The equivalents at a cell that was not fitted, in one sentence."""
    frame = frame[frame.factor.notna()]
    if frame.empty:
        return ""
    first = frame.iloc[0]
    said = [
        f"{swap_text(row)}{among(row.fixed)} {number(row.factor)} "
        f"({interval_text(row.low, row.high)})"
        for row in frame.head(MOST_SENTENCES).itertuples()
    ]
    if len(frame) > MOST_SENTENCES:
        said.append(f"{len(frame) - MOST_SENTENCES} more below")
    return f"Extrapolated to {scale(first.params, first.tokens)}: {joined(said)}."


def disagreements(frame: pd.DataFrame) -> list[str]:
    """Sentences for swaps on which two methods' intervals do not meet."""
    keys = ["kind", "baseline", "alternative", "fixed", "target", "params", "tokens"]
    sentences = []
    for _, group in frame.groupby(keys, sort=False, dropna=False):
        rows = list(group.dropna(subset=["low", "high"]).itertuples())
        apart = len(rows) > 1 and max(r.low for r in rows) > min(r.high for r in rows)
        if apart:
            said = joined(
                f"{row.method} {interval_text(row.low, row.high)}" for row in rows
            )
            first = rows[0]
            sentences.append(
                f"The methods disagree on {swap_text(first)}{among(first.fixed)} "
                f"at {scale(first.params, first.tokens)}: {said}."
            )
    return sentences


def _agreement(frame: pd.DataFrame) -> str:
    methods = list(dict.fromkeys(frame.method))
    if len(methods) < 2:
        return f"One method only, {joined(methods)}: nothing to check it against."
    named = joined(methods)
    return f"The intervals of the methods ({named}) overlap for every swap."


def said(view: View) -> list[str]:
    """Where the methods disagree at the largest fitted cell, or that none does."""
    shown = at_fitted(one_way(view.rows("equivalents")))
    if shown.empty:
        return []
    return disagreements(shown) or [_agreement(shown)]


def answers(view: View) -> list[Sentence]:
    """What each swap is worth, or that none can be said."""
    analysis, target = view.reported, view.target
    ratios = at_fitted(of_target(analysis.ratios, target))
    own = of_target(analysis.measured, target)
    measured = _matched_words.measured_sentences(own) if ratios.empty else []
    found = view.headline[worth_told(view.headline)]
    # Without a law the factor of few matched cells has no interval; the change of the
    # loss has one, and is told instead.
    changed = _matched_words.changes(_without_factor(own, view.headline))
    worth = few([text for text, _ in changed])
    for kind in dict.fromkeys(("architecture", "corpus", *found.kind)):
        worth += equivalences(found[found.kind == kind], target)
    if worth:
        beside = _beside(analysis, found) if len(found) else []
        worth = [_opening(analysis, view.headline, target), *worth, *beside]
    elif not measured:
        used = analysis.runs.used.astype(bool)
        fitted = analysis.runs[used] if used.any() else analysis.runs
        worth = [nothing(fitted.family.nunique(), fitted.corpus.nunique())]
    said = [Sentence(text, 90) for text in [*worth, *measured]] + plainly(view)
    decided = [text for text, known in changed if known]
    said += [Sentence(text, 50 if k else 80, FRONT) for k, text in enumerate(decided)]
    if not any(one.part == FRONT for one in said):
        text = changed[0][0] if changed else [*worth, *measured][0]
        said.append(Sentence(text, 80, FRONT))
    doubling = at_fitted(of_target(analysis.doubling, target)).dropna(subset="gain")
    if len(doubling):
        text = doubling_sentence(doubling, target, analysis.unit)
        said += [Sentence(text, 75), Sentence(text, 40, FRONT)]
    limits = [*_open(found), *(text for text, known in changed if not known)]
    return said + [Sentence(text, 60, LIMIT) for text in limits]


def findings(view: View) -> list[Finding]:
    """What the law that leads says of each swap at the cell of the answer."""
    out = []
    for row in view.headline[worth_told(view.headline)].itertuples():
        if row.method == "paired" or not row.low > 0:
            continue
        way = f"the law that leads, at {scale(row.params, row.tokens)}"
        ends = interval_text(row.low, row.high)
        text = f"{number(row.factor)} times the data ({ends})"
        low, high = math.log(row.low), math.log(row.high)
        swap = (row.baseline, row.alternative, row.fixed)
        out.append(Finding(*swap, way, text, low, high, "data", ONE_CELL))
    return out


ONE_CELL = "a fitted curve at one cell; at other cells the swap may be worth other data"


def _without_factor(measured: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Measured swaps of which no law says anything, and no factor is known."""
    lawful = worth_told(found) | (found.method != "paired")
    reported = {*zip(*(found[lawful][end] for end in ENDS), strict=True)}
    reported |= {(two, one) for one, two in reported}
    ends = zip(*(measured[end] for end in ENDS), strict=True)
    return measured[np.array([pair not in reported for pair in ends], bool)]


ENDS = ("baseline", "alternative")


def _opening(analysis: Analysis, found: pd.DataFrame, target: str) -> str:
    """Where and by which law the answer holds."""
    if found.empty:
        return UNRULED.format(scored(target))
    models = of_target(analysis.models, target).set_index("model")
    leads = models[models.preferred.eq(True)].index if len(models) else []
    named = found[found.factor.notna()]
    first = next((named if len(named) else found).itertuples())
    model = str(leads[0]) if len(leads) else BASE
    return opening(first, target, model, models.delta_aicc.get(BASE, math.nan))


def _beside(analysis: Analysis, found: pd.DataFrame) -> list[str]:
    """The joint law's verdicts where another leads, and the withheld largest cell."""
    target = str(found.target.iloc[0])
    reported = one_way(of_target(analysis.equivalents, target))
    said = []
    if (found.method == "preferred").any():
        joint = at_fitted(reported[reported.method == "joint"])
        said.append(joint_instead(found, joint))
    far = beyond(leading(reported))
    # What leads with an extrapolation has said it already.
    far = far[(far.kind == "architecture") & found.fitted.astype(bool).any()]
    own = far[far.fixed == target]
    said.append(extrapolated(own if len(own) else far))
    return [sentence for sentence in said if sentence]


def _open(found: pd.DataFrame) -> list[str]:
    """Swaps of the answer without a verdict, and those without an upper end."""
    said = []
    lies = [verdict(row.low, row.high, 1.0) for row in found.itertuples()]
    open_ = [
        f"{swap_text(row)}{among(row.fixed)}"
        for row, lie in zip(found.itertuples(), lies, strict=True)
        if lie == "undetermined"
    ]
    if open_:
        swaps = joined(dict.fromkeys(open_))
        said.append(f"Gain or loss {UNDETERMINED}: {swaps}.")
    never = [
        f"{swap_text(row)} ({_of(row.fixed)}{percent(row.p_infinite)} of draws)"
        for row in found[found.p_infinite > 0].itertuples()
    ]
    if never:
        said.append(f"There is no upper bound for {joined(never)}.")
    return said


def _of(level: str) -> str:
    return "" if level == UNNAMED else f"{level}; "


def _built(view: View, figure: Placed) -> str:
    frame = view.analysis.equivalents
    if frame.empty:
        return markup.absent(view.analysis, "data-equivalents", "effects", "joint")
    parts = [
        markup.paragraph(
            "The data-equivalent of a swap a → b is the number of times its data that "
            "a needs to reach the loss of b, with the other factor held fixed. Above 1 "
            "the swap is a gain, at 2 it is worth a doubling of the data, and it is "
            "infinite where no amount of data is enough.",
            *centre(centres(view.analysis), view.analysis.cells.family.nunique()),
        ),
        figure("equivalents"),
        figure("scale"),
        markup.elsewhere(view, figure, "equivalents"),
        markup.about(view.analysis, "effects", "swaps"),
    ]
    doubling = at_fitted(of_target(view.analysis.doubling, view.target))
    if len(doubling):
        caption = (
            f"For comparison: loss saved by doubling the data ({view.analysis.unit})"
        )
        parts.append(markup.fold(caption, doubling))
    reported = one_way(frame)
    both = pd.concat([at_fitted(reported), beyond(reported)], ignore_index=True)
    title = "Data-equivalents at the largest fitted cell and beyond it"
    parts.append(markup.fold(title, both))
    shown = at_fitted(one_way(view.rows("equivalents")))
    apart = disagreements(shown)
    parts.append(markup.bullets(apart) or markup.paragraph(_agreement(shown)))
    every = "Data-equivalents at every cell."
    parts.append(markup.fold("At every cell", frame, every, counted=False))
    return "".join(parts)


QUESTION = Question(
    name="equivalents",
    title="What a better architecture is worth in data",
    place=20,
    said=said,
    answers=answers,
    findings=findings,
    figures={
        "equivalents": Drawing(
            draw_equivalents,
            "Data-equivalent of each swap a → b at the largest fitted cell: how many "
            "times its data a needs to reach the loss of b (in brackets, what is held "
            "fixed). Lines are 95% intervals; an arrow marks an interval that goes on, "
            "to infinity where a share of draws is given.",
            every=True,
            front=50,
        ),
        "scale": Drawing(
            draw_scale,
            "The data-equivalent of each architecture swap against training tokens, by "
            "size. Bands are 95% intervals; a number with an arrow is above the axis, "
            "∞ where no amount of data is enough. Dashed: a doubling of the data.",
        ),
    },
    build=_built,
    compute=compute,
    warns=warns,
    concludes=concludes,
    notes=notes,
)
