"""What a study claims: supported, refuted or undetermined, by rules that it stated.

A claim (scaling/claim.py) names a quantity, a margin and where the quantity is to lie;
see analysis/inference/margins.py for the rules. Rows of any frame may decide one.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from analysis import schema
from analysis.formatting import capitalised, count, interval_text, joined, number
from analysis.inference.margins import (
    OPEN,
    REFUTED,
    SUPPORTED,
    Interval,
    Margin,
    decide,
    times_narrower,
)
from analysis.questions._quantities import Quantity, intervals, quantity, rows_of
from analysis.questions._question import (
    FRONT,
    Answer,
    Drawing,
    Placed,
    Question,
    Sentence,
    questions,
)
from analysis.questions._view import View
from analysis.report import markup
from analysis.report.style import (
    FAINT,
    INK,
    PALETTE,
    Nothing,
    forest_axis,
    plain,
    reach,
    resize,
    side_note,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare
from analysis.tables.promises import AFTER, BEFORE, Promise
from scaling import claim as rules
from scaling.errors import UserError, unknown

if TYPE_CHECKING:
    from analysis.questions._asked import Whole

FRAMES = (
    declare(
        "claims",
        "What studies claim, decided by the rules that they stated.",
        Column("study", "the study that states it"),
        Column("claim", "the sentence"),
        Column("verdict", "supported, refuted or undetermined"),
        Column("quantity", "FRAME.COLUMN that decides it"),
        Column("rule", "where it is claimed to lie about the margin"),
        Column("margin_low", "lower end of the margin, in the quantity's unit"),
        Column("margin_high", "upper end of the margin"),
        Column("effect", "the quantity, of several rows of the one that decides"),
        "low high",
        Column("unit", "of the quantity; empty for shares, counts and ratios"),
        Column("of", "what the row that decides is about"),
        Column("rows", "how many rows it is about"),
        Column("scale", "range of sizes and training tokens of those rows"),
        Column("change", "what would change the verdict"),
        Column("stated", "before training; not frozen; after it was frozen"),
    ),
    declare(
        "promises",
        "What studies said before they trained, and whether it was kept.",
        Column("study", "the study"),
        Column("what", "what was said"),
        Column("kept", "whether it was kept"),
        Column("how", "how, or how not"),
    ),
)


# --- What would change it ------------------------------------------------------------

ELSEWHERE = "or runs outside of this range of scale"


def change(verdict: str, rule: str, margin: Margin, row: Interval) -> str:
    """What would change a verdict, from the numbers of the row that decides."""
    if math.isnan(row.low) or math.isnan(row.high):
        return "An interval, which takes more seeds."
    if verdict == OPEN:
        return _narrower(times_narrower(rule, margin, row))
    if rule in (rules.ABOVE, rules.BELOW):
        above = row.value > (margin[1] if rule == rules.ABOVE else margin[0])
        end = row.low if above else row.high
        side = "above" if above else "below"
        return f"A margin {side} {number(end)}, {ELSEWHERE}."
    if (verdict == SUPPORTED) == (rule == rules.WITHIN):
        ends = interval_text(row.low_90, row.high_90)
        return f"A margin that does not hold all of {ends}, {ELSEWHERE}."
    end = row.low if row.value > margin[1] else row.high
    return f"A margin that reaches to {number(end)}, {ELSEWHERE}."


MOST_TIMES = 30.0


def _narrower(times: float) -> str:
    if not times < MOST_TIMES:
        return (
            "Nothing that can be trained would: the effect lies on the margin's end, "
            "or its interval has no end. Another margin or quantity would."
        )
    return (
        f"An interval narrower by a factor of {number(times, 2)}: about "
        f"{number(times**2, 2)} times the seeds and documents, if the effect stays "
        "where it is."
    )


# --- Frames --------------------------------------------------------------------------


def concludes(whole: Whole) -> Answer:
    analysis = whole.analysis
    rows, kept, notes = [], [], []
    for promise in whole.table.promises:
        for claim in _own(promise, whole.table.promises):
            row = {"study": promise.study, "claim": claim.get("sentence", "")}
            row |= {"stated": claim["stated"], "rows": 0, "verdict": OPEN}
            try:
                rows.append(row | _decided(claim, analysis))
            except UserError as error:
                nothing = {"rule": "", "change": capitalised(f"{error}.")}
                rows.append(row | nothing)
                text = f"The claim “{row['claim']}” cannot be decided: {error}."
                notes.append(Note("refused", "claims", text))
        kept += _kept(promise, analysis)
    return {"claims": pd.DataFrame(rows), "promises": pd.DataFrame(kept)}, notes


def _own(promise: Promise, every: Sequence[Promise]) -> Iterator[Mapping[str, Any]]:
    """Its claims without those that an earlier study states, such as its whole."""
    earlier = itertools.takewhile(lambda one: one is not promise, every)
    known = [dict(claim) | {"stated": ""} for one in earlier for claim in one.claims]
    for claim in promise.claims:
        if dict(claim) | {"stated": ""} not in known:
            yield claim


NEEDED = ("sentence", "quantity", "rule", "margin")


def _decided(claim: Mapping[str, Any], analysis: Analysis) -> dict[str, Any]:
    """A row of `claims`, but for its head."""
    for name in NEEDED:
        if name not in claim:
            raise UserError(name, None, "write the claim as a scaling.Claim")
    if claim["rule"] not in rules.RULES:
        raise unknown("rule", claim["rule"], rules.RULES)
    margin = rules.ends(claim["rule"], claim["margin"])
    asked = quantity(claim["quantity"])
    row: dict[str, Any] = {"quantity": f"{asked.frame}.{asked.column}"}
    row |= {"rule": claim["rule"], "unit": _unit(asked, analysis)}
    row |= {"margin_low": margin[0], "margin_high": margin[1]}
    frame = rows_of(claim, analysis)
    if frame.empty:
        return row | {"rows": 0, "verdict": OPEN, "change": _lacking(asked, analysis)}
    values = intervals(asked, frame)
    over = claim.get("over", rules.EVERY)
    verdict, k = decide(claim["rule"], margin, values, over)
    row |= {"verdict": verdict, "effect": values[k].value}
    row |= {"low": values[k].low, "high": values[k].high}
    row |= {"rows": len(frame), "of": _about(frame.iloc[k]), "scale": _scale(frame)}
    return row | {"change": change(verdict, claim["rule"], margin, values[k])}


def _unit(asked: Quantity, analysis: Analysis) -> str:
    known = schema.frames()[asked.frame].columns
    unit = next(column.unit for column in known if column.name == asked.column)
    return analysis.unit if unit == schema.LOSS else unit


def _lacking(asked: Quantity, analysis: Analysis) -> str:
    """Why a quantity has no rows, by the notes of the question that gives it."""
    if len(analysis.frames[asked.frame]):
        return f"{asked.frame} has no row that it is about with a {asked.column}."
    for question in questions():
        absent = question.absent
        if absent is not None and asked.frame in absent.frames:
            for note in analysis.notes:
                if note.about in absent.about and note.kind == "refused":
                    return note.text
    return f"This design gives no {asked.frame}."


def _about(row: pd.Series) -> str:
    """What a row of any frame is about, as far as its columns say."""
    known = row.to_dict()
    parts = []
    if "baseline" in known and "alternative" in known:
        parts.append(f"{known['baseline']} → {known['alternative']}")
    names = ("family", "factor", "class", "level", "fixed", "corpus", "probes")
    parts += [known[n] for n in names if isinstance(known.get(n), str)]
    return ", ".join(dict.fromkeys(p for p in parts if p != "*"))


def _scale(frame: pd.DataFrame) -> str:
    """The range of what the rows say of sizes and tokens."""
    if "box" in frame:
        return joined(dict.fromkeys(map(str, frame.box)))
    out = []
    for name, what in (
        ("params", "parameters"),
        ("tokens", "tokens"),
        ("unique_tokens", "unique tokens"),
    ):
        values = frame[name].dropna() if name in frame else pd.Series(dtype=float)
        if len(values):
            low, high = count(values.min()), count(values.max())
            out.append(f"{low} {what}" if low == high else f"{low} to {high} {what}")
    return joined(out)


def _kept(promise: Promise, analysis: Analysis) -> list[dict[str, Any]]:
    """Rows of `promises`: the frozen study, and each withheld cell."""
    head = {"study": promise.study}
    out: list[dict[str, Any]] = []
    if promise.frozen:
        how = f"frozen on {promise.frozen}, and nothing of it was changed"
        if promise.changes:
            how = "; ".join(promise.changes)
        what = "grid, claims with their margins, and withheld cells"
        out.append(head | {"what": what, "kept": not promise.changes, "how": how})
    elif promise.changes:
        broken = {"what": "the frozen study", "kept": False}
        out.append(head | broken | {"how": "; ".join(promise.changes)})
    used = set(analysis.runs.run_id[analysis.runs.used.astype(bool)])
    for cell, runs in promise.withheld:
        seen = len(used & set(runs))
        how = f"none of its {len(runs)} runs was in a fit"
        if seen:
            how = f"{seen} of its {len(runs)} runs were in a fit"
        if not runs:
            how = "no run of the table is of it"
        out.append(head | {"what": f"withheld: {cell}", "kept": not seen, "how": how})
    return out


# --- Words and figure ----------------------------------------------------------------


def sentence(row: Any) -> str:
    text = f"“{row.claim}” is {row.verdict}"
    if row.verdict == OPEN and not row.rows:
        return f"{text}: {row.change[:1].lower()}{row.change[1:]}"
    unit = f" {row.unit}" if row.unit else ""
    ends = interval_text(row.low, row.high)
    of = f" ({row.of})" if row.of else ""
    over = f" of {row.rows} rows the one that decides is" if row.rows > 1 else ""
    return (
        f"{text}:{over} {number(row.effect)}{unit} ({ends}){of}, claimed to be "
        f"{rule_text(row)}."
    )


def rule_text(row: Any) -> str:
    low, high = number(row.margin_low), number(row.margin_high)
    return {
        rules.WITHIN: f"within {low} to {high}",
        rules.OUTSIDE: f"outside of {low} to {high}",
        rules.ABOVE: f"above {high}",
        rules.BELOW: f"below {low}",
    }[row.rule]


def said(view: View) -> list[str]:
    claims, promises = view.analysis.claims, view.analysis.promises
    out = [sentence(row) for row in claims.itertuples()]
    for study, some in promises.groupby("study", sort=False):
        broken = some[~some.kept.astype(bool)]
        if len(broken):
            parts = [f"{row.what}: {row.how}" for row in broken.itertuples()]
            out.append(f"{study} did not keep what it said: {'; '.join(parts)}.")
        else:
            out.append(f"{study} kept what it said before it trained.")
    late = claims[claims.stated != BEFORE] if len(claims) else claims
    for when, some in late.groupby("stated", sort=False):
        names = f"{len(some)} of {len(claims)} claims"
        text = "stated after the study was frozen" if when == AFTER else "not frozen"
        out.append(f"{names} {'is' if len(some) == 1 else 'are'} {text}.")
    return out


def answers(view: View) -> list[Sentence]:
    claims = view.analysis.claims
    if claims.empty:
        return []
    text = _verdicts(claims)
    if len(claims) == 1:
        text = sentence(next(claims.itertuples()))
    return [
        Sentence(text, 88, FRONT),
        *(Sentence(sentence(row), 85) for row in claims.itertuples()),
    ]


MOST_CLAIMS = 3  # of a verdict that the front page quotes
MOST_LETTERS = 110  # of a claim there


def _verdicts(claims: pd.DataFrame) -> str:
    """Which claims were decided, in their own words, and how many were not."""
    parts = []
    for verdict in (SUPPORTED, REFUTED):
        every = claims.claim[claims.verdict == verdict]
        quoted = [
            f"“{textwrap.shorten(claim.rstrip('.'), MOST_LETTERS, placeholder=' …')}”"
            for claim in every[:MOST_CLAIMS]
        ]
        if len(every) > MOST_CLAIMS:
            quoted.append(f"{len(every) - MOST_CLAIMS} more")
        if quoted:
            parts.append(f"{verdict}: {joined(quoted)}")
    left = int((claims.verdict == OPEN).sum())
    if left:
        parts.append(f"{OPEN}: {left}")
    return f"Of {len(claims)} claims that the study stated, {'; '.join(parts)}."


def draw_claims(figure: Figure, analysis: Analysis, target: str) -> None:
    """Each claim's quantity about its margin, in units of the margin."""
    rows = analysis.claims[analysis.claims.effect.notna()]
    if rows.empty:
        raise Nothing
    resize(figure, 1.2 + 0.6 * len(rows))
    axes = figure.subplots()
    scaled = [_in_margins(row) for row in rows.to_dict("records")]
    axes.set_xscale("symlog", linthresh=1.0)
    ends = [value for row in scaled for value in row.values()]
    axes.set_xlim(*reach(ends, [-1.5, 1.5]))
    axes.xaxis.set_major_locator(FixedLocator(_ticks(*axes.get_xlim())))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.axvspan(-1, 1, color="#f0f0f0", lw=0)
    for x in (-1, 1):
        axes.axvline(x, color=FAINT, lw=0.8, ls=":")
    colours = {SUPPORTED: PALETTE[2], REFUTED: PALETTE[1], OPEN: INK}
    for y, (row, at) in enumerate(zip(rows.itertuples(), scaled, strict=True)):
        whisker(axes, y, at, colours[row.verdict], "o")
        side_note(axes, y, row.verdict)
    names = [_wrapped(claim) for claim in rows.claim]
    forest_axis(axes, names, range(len(rows)))
    axes.set_xlabel("distance from the middle of the margin, in half margins")


def _in_margins(row: Mapping[str, Any]) -> dict[str, float]:
    low, high = row["margin_low"], row["margin_high"]
    # A one-sided claim has one number: its size is the unit, and its end stands at 1.
    half = (high - low) / 2 or abs(high) or 1.0
    middle = (low + high) / 2 if high > low else high - half
    names = {"value": "effect", "low": "low", "high": "high"}
    return {name: (row[of] - middle) / half for name, of in names.items()}


def _ticks(low: float, high: float) -> list[float]:
    """0, and 1, 3, 10, 30 ... to either side, as far as an axis reaches."""
    steps = [s * k * 10.0**n for s in (-1, 1) for n in range(7) for k in (1, 3)]
    return sorted([0.0, *(step for step in steps if low <= step <= high)])


LETTERS = 48  # of a line of a claim beside its row


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, LETTERS)[:3])


CAPTION = (
    "Equivalence is shown where the 90% interval lies inside the margin (two one-sided "
    "tests at 5%; by the 95% interval where a quantity has that alone), and refuted "
    "where the 95% interval lies outside of it. An interval that does neither leaves "
    "the claim undetermined: no difference shown is not the same function."
)
SHOWN = ["claim", "verdict", "quantity", "claimed", "effect", "low", "high", "unit"]
SHOWN += ["of", "rows", "scale", "change", "stated"]


def _shown(claims: pd.DataFrame) -> pd.DataFrame:
    """The table of claims as the page has it."""
    reported = [rule_text(row) if row.rule else "" for row in claims.itertuples()]
    return claims.assign(claimed=reported)[SHOWN]


def build(view: View, figure: Placed) -> str:
    claims, promises = view.analysis.claims, view.analysis.promises
    parts = []
    if claims.empty:
        reason = "No study of this table states one; docs/studies.md says how."
        parts = [f'<p class="none">No claims. {markup.text_of(reason)}</p>']
        if promises.empty:
            return parts[0]
    parts.append(markup.bullets(said(view)))
    if len(claims):
        parts.append(markup.table(_shown(claims), CAPTION))
    parts.append(figure("claims"))
    parts.append(markup.about(view.analysis, "claims"))
    parts.append(markup.fold("What was said before training", promises))
    return "".join(parts)


QUESTION = Question(
    name="claims",
    title="Claims and verdicts",
    place=8,
    said=said,
    answers=answers,
    figures={
        "claims": Drawing(
            draw_claims,
            "What decides each claim, with 95% intervals, about its margin (grey), on "
            "an axis that is logarithmic outside of the margin. A claim of one end has "
            "it at 1, and the size of that number as its unit.",
            scored=False,
        )
    },
    build=build,
    concludes=concludes,
)
