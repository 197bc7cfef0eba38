"""From numbers and their intervals to words: the only place where a verdict is phrased.

Every sentence here is a function of the numbers it is given. Where an interval does
not decide, the sentence says so; nothing is called larger or better on a point
estimate alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

Verdict = Literal["above", "below", "undetermined"]

UNDETERMINED = "cannot be told from this grid"

# A share of bootstrap draws this large decides a comparison: the two-sided 95% level.
DECIDES = 0.975

# Notes of these kinds limit what may be concluded.
LIMITS = ("asked", "refused", "undetermined", "disagree", "edge", "bound", "warning")


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
    value += 0.0  # no minus before a zero
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
        # As printed: 999,999,999.9 is 1B and not 1e+03M.
        if abs(float(f"{value:.3g}")) >= unit:
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
    if math.isnan(low) or math.isnan(high):
        return "interval not known"
    if math.isinf(high):
        return f"at least {number(low)}" if math.isfinite(low) else "no upper end"
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


def at(row: Any) -> str:
    """`At ...` for a row's params and tokens, and whether the fits reach as far.

    A row over all cells has neither.
    """
    if math.isnan(row.params) and math.isnan(row.tokens):
        return "Over all cells"
    reached = getattr(row, "fitted", True)
    beyond = "" if reached else " (an extrapolation)"
    return f"At {scale(row.params, row.tokens)}{beyond}"


def _of_whom(family: str, corpus: str) -> str:
    """`of FAMILY on CORPUS`; what the table does not tell apart is not named."""
    family = "" if family == UNNAMED else f" of {family}"
    return family + on(corpus)


def on(corpus: str) -> str:
    """` on CORPUS`, or nothing where the table names no corpus."""
    return "" if corpus == UNNAMED else f" on {corpus}"


# The one family or corpus of a table that has no column for it.
UNNAMED = "all"


def span(frame: pd.DataFrame) -> str:
    """The range of params and tokens of a frame's rows."""
    ends = []
    for name, what in (("params", "parameters"), ("tokens", "tokens")):
        low, high = count(frame[name].min()), count(frame[name].max())
        ends.append(f"{low} {what}" if low == high else f"{low} to {high} {what}")
    return joined(ends)


def told_once(frame: pd.DataFrame, gain: pd.Series) -> pd.DataFrame:
    """Rows of swaps, each told once: the direction with the larger `gain`.

    Args:
      frame: columns source and to, and any of kind, held, target, params, tokens and
        method, which tell different statements about one swap apart.
      gain: by row of `frame`, a number that is larger the more the swap helps.
    """
    pair = [" ".join(sorted(ends)) for ends in zip(frame.source, frame.to, strict=True)]
    known = ("kind", "held", "target", "params", "tokens", "method")
    keys = [frame[name] for name in known if name in frame]
    order = gain.fillna(-math.inf).sort_values(ascending=False, kind="stable").index
    told = frame.assign(_pair=pair).loc[order]
    names = [key.name for key in keys]
    return frame.loc[sorted(told.drop_duplicates([*names, "_pair"]).index)]


def _matched(row: Any) -> str:
    """What is compared: the loss of `to`, reached with `source` on more data."""
    return f"{row.source} → {row.to}"


def _never(row: Any) -> str:
    """The share of draws in which no amount of data is enough, where there are any."""
    if math.isnan(row.p_infinite) or row.p_infinite == 0:
        return ""
    return f"; none is enough in {percent(row.p_infinite)} of draws"


def equivalence(row: Any) -> str:
    """One sentence on one swap, from a row of Analysis.equivalents."""
    held = row.held or UNNAMED
    place = f" for {held}" if row.kind != "architecture" else f" on {held}"
    place = place if held != UNNAMED else ""
    lie = verdict(row.low, row.high, 1.0)
    span = f"({interval(row.low, row.high)}{_never(row)})"
    if math.isnan(row.factor):
        return f"Nothing can be said of {_matched(row)}{place}."
    if lie == "above" and math.isinf(row.factor):
        what = row.source if row.kind == "corpus" else f"data{place}"
        gives = f"gives what {row.to} gives" + (
            place if row.kind == "corpus" else f" to {row.source}"
        )
        share = percent(row.p_infinite)
        return f"No amount of {what} {gives} ({share} of draws)."
    if lie == "above":
        beside = {
            "above": ", more than a doubling",
            "below": ", less than a doubling",
            "undetermined": "",
        }[verdict(row.low, row.high, 2.0)]
        worth = f"is worth {number(row.factor)} times the data {span}{beside}"
        return f"{_matched(row)}{place} {worth}."
    if lie == "below":
        less = f"{row.source} does as well with {number(row.factor)} times the data"
        return f"{_matched(row)}{place} is a loss: {less} {span}."
    value = "no finite amount of" if math.isinf(row.factor) else number(row.factor)
    worth = f"{value} times the data" if math.isfinite(row.factor) else f"{value} data"
    open_ = f"whether {_matched(row)}{place} helps {UNDETERMINED}"
    return sentence(f"{open_}: {worth} {span}.")


def _merged(rows: Sequence[Any]) -> list[str]:
    """Sentences of one corpus swap; families for which nothing differs share one."""
    never = [row for row in rows if math.isinf(row.factor) and row.low > 1]
    if len(never) < 2:
        return [equivalence(row) for row in rows]
    first, least = never[0], min(row.p_infinite for row in never)
    held = joined((row.held for row in never), "or")
    text = f"No amount of {first.source} gives what {first.to} gives, for {held}"
    share = f"{percent(least)} of draws" + (" or more" if least < 1 else "")
    rest = [equivalence(row) for row in rows if row not in never]
    return [f"{text} ({share}).", *rest]


# So many sentences on one kind of swap are read; a table is better for more.
MOST_SENTENCES = 6


def equivalences(frame: pd.DataFrame, target: str) -> list[str]:
    """Short sentences on the swaps of one kind at one scale, the target's own first.

    What is trained on another text than the one that is scored, and is undetermined,
    shares one sentence. Many swaps share theirs.
    """
    gained = told_once(frame, frame.factor)
    gained = gained[gained.factor.notna()]
    kinds = set(gained.kind)
    if len(gained) > MOST_SENTENCES and kinds <= {"architecture", "corpus"}:
        return _together(gained, target)
    if (gained.kind == "corpus").any():
        groups = [list(g.itertuples()) for _, g in gained.groupby(["source", "to"])]
        return _few([text for rows in groups for text in _merged(rows)])
    own = gained[gained.held == target] if (gained.held == target).any() else gained
    sentences = [equivalence(row) for row in own.itertuples()]
    for held, rows in gained.drop(own.index).groupby("held", sort=False):
        open_ = []
        for row in rows.itertuples():
            if verdict(row.low, row.high, 1.0) == "undetermined":
                open_.append(_matched(row))
            else:
                sentences.append(equivalence(row))
        if open_:
            text = f"Trained on {held}, whether these help {UNDETERMINED}"
            sentences.append(f"{text}: {joined(open_)}.")
    return _few(sentences)


def _together(frame: pd.DataFrame, target: str) -> list[str]:
    """A sentence for all swaps to or from one family, or all of one pair of corpora."""
    ordered = frame.sort_values("factor", kind="stable")
    ordered = ordered.sort_values("held", key=lambda h: h != target, kind="stable")
    if (frame.kind == "corpus").any():
        groups = ordered.groupby(["source", "to"], sort=False)
        return _few([_sentence(rows, "held") for _, rows in groups])
    # Each swap beside those with which it shares an end: the one that more have.
    by_to, by_source = (
        ordered.groupby(["held", end]).factor.transform("size")
        for end in ("to", "source")
    )
    from_one = by_source > by_to
    groups = [
        *ordered[~from_one].groupby(["held", "to"], sort=False),
        *ordered[from_one].groupby(["held", "source"], sort=False),
    ]
    texts = [
        (key[0], _sentence(rows, "to" if from_one[rows.index[0]] else "source"))
        for key, rows in groups
    ]
    order = list(dict.fromkeys(ordered.held))
    texts.sort(key=lambda pair: order.index(pair[0]))
    return _few([text for _, text in texts])


def _sentence(rows: pd.DataFrame, differs: str) -> str:
    """One sentence on swaps that differ in `differs`: held, source or to."""
    if len(rows) == 1:
        return equivalence(next(rows.itertuples()))
    first, told, open_ = rows.iloc[0], [], []
    for row in rows.itertuples():
        level = str(getattr(row, differs))
        told.append(
            f"{level} {number(row.factor)} ({interval(row.low, row.high)}{_never(row)})"
        )
        if verdict(row.low, row.high, 1.0) == "undetermined":
            open_.append(level)
    named = first.held != UNNAMED
    place, the = (f"On {first.held}, ", "the") if named else ("", "The")
    lead = {
        "held": f"{first.source} → {first.to} is worth so many times the data: for",
        "source": f"{place}{the} loss of {first.to} takes so many times the data: of",
        "to": f"{place}{first.source} takes so many times its data for the loss: of",
    }[differs]
    text = f"{lead} {joined(told)}."
    if open_:
        which = "any of these" if len(open_) == len(told) > 1 else joined(open_, "or")
        text += f" Whether {which} differs {UNDETERMINED}."
    return text


def _few(sentences: list[str]) -> list[str]:
    more = len(sentences) - MOST_SENTENCES
    if more <= 1:
        return sentences
    return [*sentences[:MOST_SENTENCES], f"{more} more stand in the tables."]


def ratio(row: Any) -> str:
    """Architecture against data, from one row of Analysis.ratios as a dict."""
    architecture = f"the architecture ({row['architecture'].replace('->', '→')})"
    corpus = f"the corpus ({row['corpus'].replace('->', '→')})"
    share, low, high = row["p_architecture"], row["low"], row["high"]
    value = f"Λ = {number(row['lambda'])} ({interval(low, high)})"
    if math.isnan(row["lambda"]) and math.isnan(share):
        return sentence(f"{architecture} against {corpus}: no ratio can be given.")
    if math.isnan(row["lambda"]) or row["lambda"] == low == high == 0:
        # An infinite effect has no ratio: the share of draws says all there is.
        if share <= 1 - DECIDES:
            more = f"{corpus} moves the loss more than {architecture}"
            more += f" ({percent(1 - share)} of draws)"
            return sentence(f"{more}: no amount of data makes up for it.")
        value = f"the architecture in {percent(share)} of draws"
    if share >= DECIDES:
        return sentence(f"{architecture} moves the loss more than {corpus}: {value}.")
    if share <= 1 - DECIDES:
        return sentence(f"{architecture} moves the loss less than {corpus}: {value}.")
    pair = f"{architecture} or {corpus}"
    return f"Which moves the loss more, {pair}, {UNDETERMINED}: {value}."


def ratios(frame: pd.DataFrame) -> list[str]:
    """A sentence a pair; pairs in which the corpus's effect is infinite share one.

    Args:
      frame: rows of Analysis.ratios, all at one place.
    """
    rows = frame.to_dict("records")
    known = ~pd.isna(frame["lambda"]).to_numpy()
    shared: dict[str, list[dict[str, Any]]] = {}
    sentences = []
    for row, given in zip(rows, known, strict=True):
        if not given and row["p_architecture"] <= 1 - DECIDES:
            shared.setdefault(row["corpus"], []).append(row)
        else:
            sentences.append(ratio(row))
    for corpus, some in shared.items():
        if len(some) == 1:
            sentences.append(ratio(some[0]))
            continue
        swaps = joined((row["architecture"].replace("->", "→") for row in some), "or")
        least = min(1 - row["p_architecture"] for row in some)
        text = f"The corpus ({corpus.replace('->', '→')}) moves the loss more than the "
        text += f"architecture ({swaps}), in {percent(least)} of draws"
        text += " or more" * (least < 1)
        sentences.append(f"{text}: no amount of data makes up for it.")
    if "params" not in frame or frame.empty:
        return sentences
    place = at(next(frame.itertuples()))
    return [f"{place}, {text[:1].lower()}{text[1:]}" for text in sentences]


def doubling(frame: pd.DataFrame, target: str, unit: str) -> str:
    """What doubling the data saves at most, on the target's own corpus if it is one."""
    own = frame[frame.corpus == target] if (frame.corpus == target).any() else frame
    row = max(own.itertuples(), key=lambda row: row.gain)
    text = f"doubling the data{_of_whom(row.family, row.corpus)}"
    saved = f"{number(row.gain)} {unit} ({interval(row.low, row.high)})"
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
    """That no effect could be told, and what the runs lack for one."""
    text = f"Architecture against data {UNDETERMINED}"
    lacks = [
        one
        for one, many in (("one family", families), ("one corpus", corpora))
        if many < 2
    ]
    if not lacks:
        return f"{text}."
    return f"{text}: it has {' and '.join(lacks)}, and a comparison needs two."


def measured(frame: pd.DataFrame) -> list[str]:
    """Architecture against corpus on matched cells, where no law can compare them.

    Args:
      frame: rows of Analysis.measured, of one target.
    """
    sentences = []
    for one in frame[frame.kind == "architecture"].itertuples():
        for two in frame[frame.kind == "corpus"].itertuples():
            least, most = _size(one), _size(two)
            both = f"architecture ({_matched(one)}) {_change(one)} and the corpus"
            both += f" ({_matched(two)}) {_change(two)}"
            if least[0] > most[1]:
                larger = "the architecture moves the loss more"
            elif most[0] > least[1]:
                larger = "the corpus moves the loss more"
            else:
                larger = f"which moves the loss more {UNDETERMINED}"
            cells = f"{one.cells} and {two.cells} matched cells"
            text = f"Measured without a law on {cells} ({_cells(one, two)}), the {both}"
            sentences.append(f"{text}: {larger}.")
    return _few(sentences)


def _change(row: Any) -> str:
    """What a swap does to the loss, in percent of it."""
    mean, low, high = (
        f"{number(100 * math.expm1(log), 2)}%"
        for log in (row.log_ratio, row.low, row.high)
    )
    known = math.isfinite(row.low) and math.isfinite(row.high)
    ends = f"{low} to {high}" if known else "interval not known"
    return f"changes the loss by {mean} ({ends})"


def _size(row: Any) -> tuple[float, float]:
    """The interval of a change whatever its sign; unknown ends decide nothing."""
    if not (math.isfinite(row.low) and math.isfinite(row.high)):
        return 0.0, math.inf
    ends = sorted((abs(row.low), abs(row.high)))
    return (0.0 if row.low <= 0.0 <= row.high else ends[0]), ends[1]


def _cells(*rows: Any) -> str:
    ends = {
        "params": [end for row in rows for end in (row.params_low, row.params_high)],
        "tokens": [end for row in rows for end in (row.tokens_low, row.tokens_high)],
    }
    return span(pd.DataFrame(ends))


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
    """Lack of fit beside seed noise, both as relative error, and of which runs."""
    miss, noise = percent_error(row.lack_of_fit), percent_error(row.seed_noise)
    text = f"The {row.law} law misses the {row.runs:.0f} runs it is fitted to"
    text += f" ({row.box}) by {miss}"
    if math.isnan(row.ratio):
        return f"{text}; seed noise is not measured."
    return f"{text}, {number(row.ratio, 2)} times the seed noise of {noise}."


def counts(row: Any) -> str:
    """What became of a target's usable rows, from a row of Analysis.counts."""
    left = [
        f"{value:.0f} {are if value > 1 else is_} {what}"
        for value, is_, are, what in (
            (row.other_settings, "is", "are", "not at the best setting of their cell"),
            (row.aside, "is", "are", "set aside to be predicted"),
            (
                row.repeated,
                "repeats",
                "repeat",
                "data, and these laws are of one epoch",
            ),
        )
        if value
    ]
    text = f"Rows fitted on {row.target}: {row.fitted:.0f} of {row.usable:.0f} usable"
    return text + (f"; {joined(left)}." if left else ".")


# From this share of a table on, data that is repeated is what the table is about.
MOSTLY = 0.5
REPEATED_LAW = "data_constrained"


def repeats(row: Any) -> list[str]:
    """Which law takes the rows that repeat data, where they are most of the table."""
    if not row.usable or row.repeated < MOSTLY * row.usable:
        return []
    return [
        f"{row.repeated:.0f} of {row.usable:.0f} rows on {row.target} read some data "
        "more than once: the law made for that takes all of them, by "
        f"`scaling-analysis fit TABLE --law {REPEATED_LAW}`."
    ]


def percent_error(log_error: float) -> str:
    """A standard deviation of logs as a relative error."""
    return "–" if math.isnan(log_error) else f"{number(100 * log_error, 2)}%"


def holdout(frame: pd.DataFrame) -> list[str]:
    """By law, how many withheld cells fell where they were predicted."""
    if frame.empty:
        return []
    said = []
    for law, rows in frame.groupby("law", sort=False):
        error = (rows.observed / rows.predicted - 1).abs().max()
        inside = int(rows.inside.sum())
        worst = f"largest error {number(100 * error, 2)}%"
        said.append(f"{inside} of {len(rows)} by the {law} law ({worst})")
    return [
        f"Of the largest cells ({span(frame)}), withheld, so many fell inside their "
        f"95% prediction interval: {joined(said)}."
    ]


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
                f"The methods disagree on {_matched(first)} ({first.held}) "
                f"at {scale(first.params, first.tokens)}: {said}."
            )
    return sentences


def _place(name: str) -> str:
    """A level that two effects are compared at; counts are shortened."""
    try:
        return count(float(name))
    except ValueError:
        return name


def compared(row: Any) -> str:
    """What an interaction compares, from a row of Analysis.interactions."""
    held = f" ({row.held})" if row.held != "*" else ""
    unit = {"params": " parameters", "tokens": " tokens"}.get(row.by, "")
    first, second = _place(str(row.first)), _place(str(row.second))
    return f"{_matched(row)}{held}: {second} against {first}{unit}"


def interactions(frame: pd.DataFrame) -> list[str]:
    """Which effects change with what is held, with size or with budget."""
    frame = frame[(frame.quantity == "ln M_D") & frame.difference.notna()]
    if frame.empty:
        return []
    open_ = len(frame) - int(frame.differs.astype(bool).sum())
    sentences = []
    for row in frame[frame.differs.astype(bool)].itertuples():
        ends = interval(_exp(row.low), _exp(row.high))
        times = f"{number(_exp(row.difference))} times as large"
        if math.isinf(_exp(row.difference)):
            times = "infinite there and finite here"
        sentences.append(f"{compared(row)}, its data-equivalent is {times} ({ends}).")
    if open_:
        text = f"No change is shown in {open_} of {len(frame)} such comparisons."
        return [*_few(sentences), text]
    return _few(sentences)


def _exp(log: float) -> float:
    return math.exp(log) if log < 700 else math.inf


def decisions(frame: pd.DataFrame) -> list[str]:
    """The best family of each corpus at the largest compute that was run."""
    if frame.empty:
        return []
    sentences = []
    # Computes are 0.1, 1, 10 and 100 times that of the largest run.
    at = sorted(frame.compute.unique())[min(1, frame.compute.nunique() - 1)]
    for corpus, rows in frame[frame.compute == at].groupby("corpus", sort=False):
        if len(rows) < 2:
            continue
        best = max(rows.itertuples(), key=lambda row: row.p_best)
        where = f"At {number(at)} FLOPs{on(corpus)}"
        share = f"{percent(best.p_best)} of draws"
        if best.p_best >= DECIDES:
            text = (
                f"{where}, {best.family} is the best of {len(rows)} families ({share})"
            )
        else:
            text = f"{where}, which family is best {UNDETERMINED}"
            text += f": {best.family} in {share}"
        if not math.isnan(best.small_rank) and best.small_rank > 1:
            place = scale(best.small_params, best.small_tokens)
            text += f"; in the smallest cell, {place}, it ranked {best.small_rank:.0f}"
        sentences.append(f"{text}.")
    return sentences


def standings(frame: pd.DataFrame, unit: str) -> str:
    """What the table of standings on one corpus shows, and where."""
    first, last = frame.iloc[0], frame.iloc[-1]
    measured = scale(first.params, first.tokens)
    needed = ""
    if frame.factor.notna().sum() > 1:
        fitted = scale(first.fit_params, first.fit_tokens)
        needed = (
            " Data needed: how many times its own data a family takes for the loss of "
            f"{first.family}, by the law at {fitted}."
        )
    trained = "With" if first.corpus == UNNAMED else f"Trained on {first.corpus} with"
    return (
        f"{trained} {measured}, the largest cell that all "
        f"{len(frame)} families share, the measured loss goes from "
        f"{number(first.loss)} ({first.family}) to {number(last.loss)} {unit} "
        f"({last.family}).{needed}"
    )


def centre(by_target: Mapping[str, str], families: int) -> list[str]:
    """Which of many swaps figures and sentences tell, where they do not tell all."""
    if not by_target:
        return []
    firsts = joined(f"{family} ({target})" for target, family in by_target.items())
    pairs = families * (families - 1) // 2
    return [
        f"Of {pairs} pairs of families, figures and sentences tell those with the one "
        f"that stands first on a target: {firsts}. All are in report.json."
    ]


def silent(frame: pd.DataFrame) -> pd.Series:
    """Marks settings that give a value and no interval: they decide nothing."""
    open_ = frame.verdict == "undetermined"
    return open_ & frame.value.notna() & frame.low.isna()


def disputed(agreement: pd.DataFrame) -> list[str]:
    """What was measured on swaps for which the leading law says something else.

    Args:
      agreement: as in Analysis; each swap is told once, as it helps when measured.
    """
    if agreement.empty:
        return []
    apart = agreement[~agreement.agrees.astype(bool)]
    sentences = []
    for row in told_once(apart, -apart.measured).itertuples():
        held = "on" if row.kind == "architecture" else "for"
        sentences.append(
            f"Measured on {row.cells} matched cells, {_matched(row)} {held} {row.held} "
            f"changes the log loss by {number(row.measured)} "
            f"({interval(row.low, row.high)}). The leading law disagrees: "
            f"{number(row.modelled)} ({interval(row.model_low, row.model_high)})."
        )
    return _few(sentences)


def _disputed_ends(agreement: pd.DataFrame | None) -> set[frozenset[str]]:
    """The two levels of each swap on which the law and what was measured disagree."""
    if agreement is None or agreement.empty:
        return set()
    apart = agreement[~agreement.agrees.astype(bool)]
    return {frozenset(ends) for ends in zip(apart.source, apart.to, strict=True)}


def _swaps_of(question: str, source: str, to: str) -> list[frozenset[str]]:
    """The swaps that a verdict is about: one, or the two that are compared."""
    if " or " not in question:
        return [frozenset((source, to))]
    return [frozenset(text.split(" -> ")) for text in (source, to)]


def moved(frame: pd.DataFrame, agreement: pd.DataFrame | None = None) -> list[str]:
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
    keys = ["question", "source", "to"]
    for (question, source, to), rows in others.groupby(keys, sort=False):
        moves = rows[rows.moves.astype(bool)]
        if moves.empty:
            doubted = any(one in apart for one in _swaps_of(question, source, to))
            against += doubted
            steady += not doubted
            continue
        swap = f"{source} against {to}" if " or " in question else f"{source} → {to}"
        said = joined(f"{row.setting} ({row.verdict})" for row in moves.itertuples())
        swap = swap.replace("->", "→")
        text = f"Over all cells, the verdict on {swap} moves with: {said}."
        sentences.append(text)
    tried = others.setting.nunique()
    checks = f"all of {tried} other choices" if tried > 1 else "the one other choice"
    total = steady + against + len(sentences)
    if against:
        text = f"{against} of {total} verdicts over all cells rest on swaps for which "
        sentences.append(text + "measured matched cells and the leading law disagree.")
    if steady:
        text = f"{steady} of {total} verdicts over all cells hold under {checks}."
        sentences.append(text)
    return sentences


def shared(frame: pd.DataFrame) -> list[str]:
    """Which parameters families and corpora share, by the nested models."""
    sentences = []
    for across, rows in frame.groupby("across", sort=False):
        apart = rows[rows.differs.astype(bool)]
        same = rows[~rows.differs.astype(bool)]
        said = joined(
            f"{row.parameter} (p {number(row.p, 2)})" for row in apart.itertuples()
        )
        if len(apart):
            sentences.append(f"Across {across} these differ: {said}.")
        if len(same):
            names = joined(
                f"{row.parameter} (p {number(row.p, 2)})" for row in same.itertuples()
            )
            sentences.append(f"Across {across} no difference is shown in {names}.")
    return sentences


def crossovers(frame: pd.DataFrame) -> list[str]:
    """A sentence a crossover, of many the first."""
    return _few([crossover(row) for row in frame.itertuples()])


def crossover(row: Any) -> str:
    """From which compute one system is ahead of another."""
    place = f"on {row.held}" if row.kind == "architecture" else f"for {row.held}"
    swap = f"{row.to} is ahead of {row.source} {place}"
    reach = f"{number(row.range_low)} to {number(row.range_high)} FLOPs"
    if math.isnan(row.compute):
        return f"{swap}: where it begins {UNDETERMINED}."
    if row.compute == 0:
        share = percent(row.p_none)
        return f"{swap} all the way from {reach} (no crossing in {share})."
    if math.isinf(row.compute):
        share = percent(row.p_none)
        return f"{swap} nowhere from {reach} (no crossing in {share})."
    start = f"{swap} from {number(row.compute)} FLOPs on"
    if row.low == 0 and math.isinf(row.high):
        return f"{start} by the law; where it begins {UNDETERMINED}."
    return f"{start} ({interval(row.low, row.high)})."


def attribution(frame: pd.DataFrame, unit: str) -> list[str]:
    """The gap between two runs, a sentence a target; rows of attribution.attribute."""
    sentences = []
    for target, rows in frame.groupby("target", sort=False):
        by = rows.set_index("factor")
        gap = by.loc["total"]
        causes = by.drop("total").sort_values("nats", key=abs, ascending=False)
        said = joined(
            f"{factor} {number(row.nats)} ({interval(row.low, row.high)})"
            for factor, row in causes.iterrows()
        )
        sentences.append(
            f"On {target}, {gap.to} less {gap.source} is {number(gap.nats)} {unit}: "
            f"{said}."
        )
    return sentences


def opening(row: Any, target: str, model: str, above: float) -> str:
    """Where and by which law the answer holds.

    Args:
      row: of Analysis.equivalents, the first that is told.
      model: of Analysis.models, the law that leads.
      above: AICc of the joint law over it.
    """
    if row.method == "paired":
        return f"Over matched cells, without a law, scored on {target} (95% intervals):"
    place = f"At {scale(row.params, row.tokens)}"
    place += (
        ", the largest cell that was fitted" if row.fitted else ", an extrapolation"
    )
    law = ""
    if row.method == "preferred":
        by = model.replace("by cell", "free for each pair of family and corpus")
        law = f", by the joint law with {by} (AICc {number(above, 2)} lower)"
    return f"{place}{law}, scored on {target} (95% intervals):"


def joint_instead(lead: pd.DataFrame, joint: pd.DataFrame) -> str:
    """Where the joint law gives another verdict than the law that leads.

    Args:
      lead, joint: rows of Analysis.equivalents at one cell, by the two laws.
    """
    keys = ["kind", "source", "to", "held"]
    both = lead.merge(joint, on=keys, suffixes=("", "_joint"))
    if both.empty:
        return ""
    said = []
    for row in both.itertuples():
        own = verdict(row.low, row.high, 1.0)
        other = verdict(row.low_joint, row.high_joint, 1.0)
        if own != other:
            ends = interval(row.low_joint, row.high_joint)
            swap = f"{_matched(row)} ({row.held})"
            said.append(f"{swap} {number(row.factor_joint)} times ({ends})")
    if not said:
        return f"The plain joint law gives the same {len(both)} verdicts."
    return f"The plain joint law decides otherwise on {joined(said)}."


def _held(level: str) -> str:
    """` (LEVEL)`, or nothing where the table does not name it."""
    return "" if level == UNNAMED else f" ({level})"


def extrapolated(frame: pd.DataFrame) -> str:
    """The equivalents at a cell that was not fitted, in one sentence."""
    frame = frame[frame.factor.notna()]
    if frame.empty:
        return ""
    first = frame.iloc[0]
    said = [
        f"{_matched(row)}{_held(row.held)} {number(row.factor)} "
        f"({interval(row.low, row.high)})"
        for row in frame.head(MOST_SENTENCES).itertuples()
    ]
    if len(frame) > MOST_SENTENCES:
        said.append(f"{len(frame) - MOST_SENTENCES} more below")
    return f"Extrapolated to {scale(first.params, first.tokens)}: {joined(said)}."


def powers(frame: pd.DataFrame) -> list[str]:
    """What the methods without a law say of the compute-optimal size."""
    sentences = []
    for (family, corpus), rows in frame[frame.of == "params"].groupby(
        ["family", "corpus"]
    ):
        said = joined(
            f"{row.method} {number(row.exponent)} ({interval(row.low, row.high)})"
            for row in rows.itertuples()
        )
        sentences.append(
            f"The best size of {family}{on(corpus)} grows as compute to the power: "
            f"{said}."
        )
    return sentences


def no_optimum(frame: pd.DataFrame) -> list[str]:
    """Why no budget shows a best size by itself; nothing where one does."""
    if frame.empty or frame.params.notna().any():
        return []
    budgets = frame.drop_duplicates(["family", "corpus", "compute"])
    reasons = frame.warning.str.replace(r"\d", "", regex=True)
    common = frame.warning[reasons == reasons.mode().iloc[0]].iloc[0]
    return [
        f"Methods that know no law find no best size at any of {len(budgets)} budgets; "
        f"most often: {common}."
    ]


def influential(frame: pd.DataFrame) -> list[str]:
    """Outliers by name, and the run that a parameter hangs on most."""
    if frame.empty:
        return []
    out = frame[frame.flagged.astype(bool)]
    sentences = []
    if len(out):
        few = joined(str(run) for run in out.run_id.head(MOST_SENTENCES))
        more = ", ..." if len(out) > MOST_SENTENCES else ""
        sentences.append(f"{len(out)} of {len(frame)} runs are outliers: {few}{more}.")
    else:
        sentences.append(f"None of the {len(frame)} runs is an outlier.")
    row = frame.loc[frame.spreads.abs().idxmax()]
    sentences.append(
        f"Without run {row.run_id} ({row.family} on {row.corpus}, "
        f"{scale(row.params, row.tokens)}) {row.parameter} moves furthest, by "
        f"{number(abs(row.spreads), 2)} of its standard deviations."
    )
    return sentences


def seeds(row: Any) -> str:
    """The fitted density's spread beside that of the seeds."""
    lie = verdict(row.low, row.high, 1.0)
    meaning = {
        "above": "the law misses something that the seeds repeat",
        "below": "the fitted density is narrower than the seeds' spread",
        "undetermined": f"whether the law misses anything {UNDETERMINED}",
    }[lie]
    return (
        f"The spread of the {row.law} law's density is {number(row.ratio)} times that "
        f"of the seeds ({interval(row.low, row.high)}): {meaning}."
    )
