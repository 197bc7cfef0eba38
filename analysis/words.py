"""From numbers and their intervals to words: the only place where a verdict is phrased.

Every sentence here is a function of the numbers it is given. Where an interval does
not decide, the sentence says so; nothing is called larger or better on a point
estimate alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pandas as pd

Verdict = Literal["above", "below", "undetermined"]

UNDETERMINED = "cannot be told from this grid"

# A share of bootstrap draws this large decides a comparison: the two-sided 95% level.
DECIDES = 0.975

# Notes of these kinds limit what may be concluded.
LIMITS = ("refused", "undetermined", "disagree", "edge", "bound", "warning")


def verdict(low: float, high: float, null: float) -> Verdict:
    """Where a 95% interval lies about `null`; a missing end decides nothing."""
    if math.isnan(low) or math.isnan(high):
        return "undetermined"
    if low > null:
        return "above"
    if high < null:
        return "below"
    return "undetermined"


def number(value: float, digits: int = 3) -> str:
    """`digits` significant digits, without an exponent where that stays readable."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    places = 0 if value == 0 else digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, places)}f}".replace("-", "−")


def count(value: float) -> str:
    """Parameters, tokens, FLOPs: 8.2k, 24k, 1.02M, 3B, 2.5e15."""
    if not math.isfinite(value):
        return number(value)
    for unit, suffix in ((1e12, ""), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{suffix}" if suffix else number(value)
    return f"{value:.3g}"


def percent(share: float) -> str:
    """A share in whole percent; never 0% or 100% of what is merely rare or common."""
    if math.isnan(share):
        return "–"
    if 0 < share < 0.01:
        return "under 1%"
    if 0.99 < share < 1:
        return "over 99%"
    return f"{100 * share:.0f}%"


def interval(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{number(low)} up, with no upper end"
    return f"{number(low)} to {number(high)}"


def joined(parts: Iterable[str], last: str = "and") -> str:
    """a; a and b; a, b and c."""
    items = list(parts)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def scale(params: float, tokens: float) -> str:
    """Where on the grid a statement holds."""
    places = []
    if not math.isnan(params):
        places.append(f"{count(params)} parameters")
    if not math.isnan(tokens):
        places.append(f"{count(tokens)} tokens")
    return joined(places)


def unreachable(p_infinite: float, source: str) -> str:
    """The share of draws in which no amount of the source's data is enough."""
    if math.isnan(p_infinite) or p_infinite == 0:
        return ""
    share = "all" if p_infinite == 1 else percent(p_infinite)
    return f"in {share} of draws no amount of data brings {source} there"


def factor(row: Any, what: str = "") -> str:
    """A data-equivalent with its interval and the probability that it is infinite."""
    value = "more than any number of" if math.isinf(row.factor) else number(row.factor)
    text = f"{value} times{what} ({interval_of(row)}"
    never = unreachable(row.p_infinite, row.source)
    return f"{text}; {never})" if never else f"{text})"


def interval_of(row: Any) -> str:
    return f"95% interval {interval(row.low, row.high)}"


def _where(row: Any) -> str:
    if row.kind == "corpus":
        return f"for {row.held}" if row.held else ""
    return f"on {row.held}" if row.held else ""


def _beside_doubling(rows: Sequence[Any]) -> str:
    verdicts = {verdict(row.low, row.high, 2.0) for row in rows}
    if verdicts == {"above"}:
        return "more than a doubling of the data gives"
    if verdicts == {"below"}:
        return "less than a doubling of the data gives"
    return f"whether more or less than a doubling of the data {UNDETERMINED}"


def equivalence(rows: Sequence[Any]) -> str:
    """One sentence on one swap at one scale, for rows that share their verdict.

    Args:
      rows: rows of Analysis.equivalents that differ in `held` alone.
    """
    first = rows[0]
    named = [" the data", *([""] * (len(rows) - 1))]
    found = joined(
        f"{factor(row, what)} {_where(row)}".strip()
        for row, what in zip(rows, named, strict=True)
    )
    at = scale(first.params, first.tokens)
    swap = f"going from {first.source} to {first.to}"
    lie = verdict(first.low, first.high, 1.0)
    if lie == "above":
        text = f"{swap} is worth {found}, at {at}: {_beside_doubling(rows)}"
    elif lie == "below":
        text = (
            f"{swap} loses: {first.source} gets there with {found}, at {at}, "
            "that is with less data"
        )
    else:
        text = (
            f"whether {swap} is a gain or a loss {UNDETERMINED} at {at}: "
            f"data-equivalent {found}"
        )
    return sentence(text) + "."


def equivalences(frame: pd.DataFrame) -> list[str]:
    """A sentence per swap and verdict, for the equivalents of one scale."""
    sentences = []
    for _, group in frame.groupby(["kind", "source", "to"], sort=False):
        alike: dict[Any, list[Any]] = {}
        for row in group.itertuples():
            lie = verdict(row.low, row.high, 1.0)
            alike.setdefault((lie, row.params, row.tokens), []).append(row)
        sentences += [equivalence(rows) for rows in alike.values()]
    return sentences


def ratio(row: Any) -> str:
    """Architecture against data, from one row of Analysis.ratios as a dict."""
    architecture = row["architecture"].replace("->", "→")
    corpus = row["corpus"].replace("->", "→")
    share = row["p_architecture"]
    numbers = (
        f"Λ = {number(row['lambda'])}, 95% interval {interval(row['low'], row['high'])}"
        f"; architecture the larger in {percent(share)} of draws"
    )
    pair = f"the architecture ({architecture}) or the corpus ({corpus})"
    if share >= DECIDES:
        text = f"the architecture ({architecture}) moves the loss more than the corpus "
        return sentence(f"{text}({corpus}): {numbers}.")
    if share <= 1 - DECIDES:
        text = f"the architecture ({architecture}) moves the loss less than the corpus "
        return sentence(f"{text}({corpus}): {numbers}.")
    return f"Which moves the loss more, {pair}, {UNDETERMINED}: {numbers}."


def doubling(frame: pd.DataFrame, unit: str) -> str:
    """What doubling the data saves, over the families and corpora of one scale."""

    def said(row: Any) -> str:
        gain = f"{number(row.gain)} {unit} ({interval(row.low, row.high)})"
        return f"{gain} for {row.family} on {row.corpus}"

    rows = sorted(frame.itertuples(), key=lambda row: row.gain)
    ends = rows if len(rows) < 3 else [rows[0], rows[-1]]
    between = "between " if len(rows) > 1 else ""
    at = scale(rows[-1].params, rows[-1].tokens)
    text = f"Doubling the data at {at} saves {between}{joined(map(said, ends))}"
    open_ = sum(verdict(r.low, r.high, 0.0) == "undetermined" for r in rows)
    if open_:
        text += f"; in {open_} of {len(rows)} cases whether it saves {UNDETERMINED}"
    return f"{text}."


def variance(frame: pd.DataFrame) -> str:
    """Which factor carries most of the variance, if the intervals decide it."""
    ordered = frame.sort_values("share", ascending=False)
    rows = list(ordered.itertuples())
    shares = joined(
        f"{row.factor} {percent(row.share)} ({percent(row.low)} to {percent(row.high)})"
        for row in rows
    )
    box = f" over {rows[0].box}" if rows[0].box else ""
    if len(rows) == 1:
        return f"Share of the variance of the loss{box}: {shares}."
    if rows[0].low > max(row.high for row in rows[1:]):
        return f"Most of the variance of the loss{box} is {rows[0].factor}'s: {shares}."
    return (
        f"Which factor carries most of the variance of the loss{box} "
        f"{UNDETERMINED}: {shares}."
    )


def fitness(row: Any) -> str:
    """Lack of fit beside seed noise, both as relative error."""
    miss, noise = percent_error(row.lack_of_fit), percent_error(row.seed_noise)
    if math.isnan(row.ratio):
        return f"The laws miss the runs by {miss} (seed noise is not measured)."
    return (
        f"The laws miss the runs by {miss}, {number(row.ratio, 2)} times the seed "
        f"noise of {noise}."
    )


def percent_error(log_error: float) -> str:
    """A standard deviation of logs as a relative error."""
    return "–" if math.isnan(log_error) else f"{number(100 * log_error, 2)}%"


def holdout(frame: pd.DataFrame) -> list[str]:
    """By law, how many withheld cells fell where they were predicted."""
    sentences = []
    for law, rows in frame.groupby("law", sort=False):
        error = (rows.observed / rows.predicted - 1).abs().max()
        inside = int(rows.inside.sum())
        sentences.append(
            f"Of the {len(rows)} largest cells, withheld, {inside} fell "
            f"inside the 95% prediction interval of the {law} law; its largest error "
            f"is {number(100 * error, 2)}%."
        )
    return sentences


def disagreements(frame: pd.DataFrame) -> list[str]:
    """Sentences for swaps on which two methods' intervals do not meet."""
    keys = ["kind", "source", "to", "held", "target", "params", "tokens"]
    sentences = []
    for _, group in frame.groupby(keys, sort=False, dropna=False):
        rows = list(group.dropna(subset=["low", "high"]).itertuples())
        apart = len(rows) > 1 and max(r.low for r in rows) > min(r.high for r in rows)
        if apart:
            said = joined(f"{row.method} {interval(row.low, row.high)}" for row in rows)
            first = rows[0]
            sentences.append(
                f"The methods disagree on {first.source} → {first.to} "
                f"{_where(first)} at {scale(first.params, first.tokens)}: {said}."
            )
    return sentences
