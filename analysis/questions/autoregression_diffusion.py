"""Do denoisers and models of pixels in order have the same distribution of pictures?

The two are compared as distributions alone, at equal parameters and pictures seen. The
noise that a denoiser begins with and the numbers that a model of sequences draws its
pixels with have nothing to do with each other: that two pictures have one number means
nothing. Bits per dimension are exact for models of sequences and an upper bound for
denoisers. A classifier (analysis/pictures/classify.py) says whether samples can be told
from each other and from held-out pictures, beside held-out pictures against each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import (
    UNDETERMINED,
    capitalised,
    count,
    few,
    interval_text,
    joined,
    number,
    on,
    percent,
)
from analysis.inference.intervals import interval
from analysis.inference.verdict import NORMAL, verdict
from analysis.laws import Array
from analysis.pictures import classify
from analysis.pictures.groups import Pictured
from analysis.pictures.load import DENOISE, NEXT_TOKEN, Pictures
from analysis.questions._question import (
    UNSAMPLED,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._same_picture_words import of_first
from analysis.questions._view import View
from analysis.report.style import (
    FAINT,
    INK,
    PALETTE,
    Nothing,
    forest_axis,
    key,
    legend,
    reach,
    resize,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare, measured

BITS = "bits/dim"
# Parameters of two models may differ by this factor.
ALIKE = 1.3
FRAMES = (
    declare(
        "two_objectives",
        "Denoisers beside models of pixels in order, as distributions of pictures.",
        Column("samples", "the set of noises and held-out pictures"),
        Column("denoiser", "its family"),
        Column("reader", "the family that reads pixels in order"),
        "corpus",
        Column("params", "parameters of the denoiser", "count"),
        Column("reader_params", "parameters of the reader", "count"),
        "tokens unique_tokens",
        Column("upper_bound", "of the denoiser: an upper bound", BITS),
        Column("exact", "of the reader", BITS),
        *measured(
            "bound_less_exact", "the bound less the exact, of the same levels", BITS
        ),
        Column("true_bits", "what the true chances need, where they are known", BITS),
        Column("pictures", "of each kind that a classifier saw"),
        *measured("apart", "share of samples of the two that are told apart"),
        Column("denoiser_found", "of the denoiser's samples, the share assigned to it"),
        Column(
            "reader_found",
            "of the samples of the model of pixels, the share assigned to it",
        ),
        *measured("denoiser_real", "the denoiser's samples against held-out pictures"),
        *measured(
            "reader_real", "samples of the model of pixels against held-out pictures"
        ),
        *measured("real_real", "held-out pictures against other held-out pictures"),
    ),
)


def pictures(asked: Pictured) -> Answer:
    """The frame of one set of samples that both kinds of models made."""
    sets = (asked.pictures, *asked.others)
    if not asked.pictures.of(DENOISE):
        return {}, []
    denoisers = _places(asked.pictures, DENOISE)
    readers = [(one, row) for one in sets for row in _places(one, NEXT_TOKEN)]
    if not readers:
        return {}, []
    judges = {made.levels: Judge(asked, made.levels) for made, _ in readers}
    rows = [
        _row(judges[made.levels], row, made, other)
        for row, (made, other) in itertools.product(denoisers, readers)
        if _matched(row, other)
    ]
    notes = []
    if not rows:
        text = (
            f"No denoiser and reader of {asked.pictures.name} have the same training "
            "pictures, evaluation set, length of training and, within a factor of "
            f"{ALIKE:g}, parameters: they are not set beside each other."
        )
        notes.append(Note("refused", "objectives", text))
    return {"two_objectives": pd.DataFrame(rows)}, notes


def _places(made: Pictures, objective: str) -> list[pd.DataFrame]:
    """The runs of each family, corpus, size and data, at its best setting: seeds."""
    runs = made.runs[(made.runs.objective == objective) & made.runs.bits.notna()]
    out = []
    names = ["family", "corpus", "params", "tokens", "unique_tokens"]
    for _, some in runs.groupby(names, sort=True):
        by = some.groupby("setting").bits.mean()
        out.append(some[some.setting == by.idxmin()])
    return out


def _matched(one: pd.DataFrame, two: pd.DataFrame) -> bool:
    a, b = one.iloc[0], two.iloc[0]
    names = ("corpus", "tokens", "unique_tokens", "scored")
    same = all(a[name] == b[name] for name in names)
    return same and max(a.params, b.params) <= ALIKE * min(a.params, b.params)


def _row(
    judge: Judge, one: pd.DataFrame, made: Pictures, two: pd.DataFrame
) -> dict[str, Any]:
    asked = judge.asked
    a, b = one.iloc[0], two.iloc[0]
    bits = [float(some.bits.mean()) for some in (one, two)]
    error = math.hypot(*(_error(some) for some in (one, two)))
    # Fewer levels are said in fewer bits, whatever the model.
    alike = made.levels == asked.pictures.levels
    less = bits[0] - bits[1] if alike else math.nan
    out = {
        **{"samples": asked.pictures.name, "denoiser": a.family, "reader": b.family},
        **{"corpus": a.corpus, "params": a.params, "reader_params": b.params},
        **{"tokens": a.tokens, "unique_tokens": a.unique_tokens},
        **{"upper_bound": bits[0], "exact": bits[1], "bound_less_exact": less},
        "bound_less_exact_low": less - NORMAL * error,
        "bound_less_exact_high": less + NORMAL * error,
        "true_bits": judge.asked.pictures.truth.get(str(a.scored), math.nan),
    }
    sets = [
        {i: source.read(i, "pictures", source.fractions[i][-1]) for i in some.run_id}
        for source, some in ((asked.pictures, one), (made, two))
    ]
    real = {"": asked.pictures.real}
    out |= {"pictures": int(judge.half.sum())}
    found = judge.apart(*sets)
    out |= _share("apart", found)
    out |= {"denoiser_found": found[1], "reader_found": found[2]}
    out |= _share("denoiser_real", judge.apart(sets[0], real))
    out |= _share("reader_real", judge.apart(sets[1], real))
    return out | _share("real_real", judge.apart(real, real))


def _error(some: pd.DataFrame) -> float:
    """Standard error of a mean of bits: of pictures, and of seeds where there are."""
    pictures_ = float(some.bits_se.mean())
    seeds = float(some.bits.sem()) if len(some) > 1 else 0.0
    return math.hypot(pictures_, seeds)


# Accuracy [1 + draws], and the shares of either set that are assigned to it.
Told = tuple[Array, float, float]
# Pictures of runs, by run_id; held-out ones are of "".
Made = Mapping[str, Array]
SPLITS = 2


class Judge:
    """Classifiers of pictures of two kinds, all of them of equally many pictures.

    One half of the numbers is taken of the one kind and the other half of the other, so
    that held-out pictures can be set against each other in the same way. Splits are
    several, and each pair of runs has them. Each two kinds are compared once.
    """

    def __init__(self, asked: Pictured, levels: int):
        self.asked, self.levels = asked, levels
        self.groups = asked.pictures.groups
        self.half = classify.halves(self.groups, 0)
        self._known: dict[tuple[str, ...], Told] = {}

    def apart(self, one: Made, two: Made) -> Told:
        """How many of two kinds can be told apart, mean over runs and splits."""
        key = (*one, "and", *two)
        if key not in self._known:
            # Run by run, as often as the kind of more runs has them.
            count = max(len(one), len(two))
            firsts, seconds = (itertools.cycle(kind.values()) for kind in (one, two))
            pairs = list(itertools.islice(zip(firsts, seconds, strict=False), count))
            self._known[key] = self._judged(pairs)
        return self._known[key]

    def _judged(self, pairs: Sequence[tuple[Array, Array]]) -> Told:
        every, first, second = [], [], []
        for (a, b), split in itertools.product(pairs, range(SPLITS)):
            half = classify.halves(self.groups, split)
            kinds = [classify.quantised(x, self.levels) for x in (a[half], b[~half])]
            groups = self.groups[half], self.groups[~half]
            right = classify.right(kinds[0], kinds[1], groups, split)
            whole = np.empty(len(half))
            whole[half], whole[~half] = right[: half.sum()], right[half.sum() :]
            every.append(whole)
            first.append(whole[half].mean())
            second.append(whole[~half].mean())
        weights = self.asked.held_out.weights
        share = weights / weights.sum(axis=1, keepdims=True)
        # Splits see the same pictures, so that their mean varies as one of them does.
        one = share @ np.mean(every[::SPLITS], axis=0)
        found = np.mean(every) + one - one[0]
        return found, float(np.mean(first)), float(np.mean(second))


def _share(name: str, told: Told) -> dict[str, float]:
    low, high = interval(told[0][1:])
    row = {name: float(told[0][0]), f"{name}_low": float(low)}
    return row | {f"{name}_high": float(high)}


# --- Words ---------------------------------------------------------------------------

APART = (
    "The numbers that models of pixels draw with have nothing to do with a denoiser's "
    "noise, so that pictures of one number are not compared: samples are two sets."
)


def place_text(row: Any) -> str:
    return (
        f"{row.denoiser} of {count(row.params)} parameters and {row.reader} of "
        f"{count(row.reader_params)}{on(row.corpus)}, {count(row.tokens)} pictures "
        f"read, {count(row.unique_tokens)} of them different"
    )


def bits_text(row: Any) -> str:
    if math.isnan(row.bound_less_exact):
        return (
            f"the bound of {number(row.upper_bound)} bits/dim and the exact "
            f"{number(row.exact)} are of pictures in other levels, and not compared"
        )
    less = f"{number(row.bound_less_exact)} ({_ends(row, 'bound_less_exact')})"
    lie = verdict(row.bound_less_exact_low, row.bound_less_exact_high, 0.0)
    bound = f"the bound of {number(row.upper_bound)} bits/dim"
    exact = f"the exact {number(row.exact)}"
    if lie == "below":
        return f"{bound} is below {exact} by {less}, so the denoiser's bits are fewer"
    if lie == "above":
        return (
            f"{bound} is above {exact} by {less}; since a bound may lie above, which "
            "of the two needs fewer bits is not known"
        )
    return f"whether {bound} is below {exact} {UNDETERMINED}: {less}"


def _ends(row: Any, name: str) -> str:
    low, high = (getattr(row, f"{name}_{end}") for end in ("low", "high"))
    return interval_text(low, high)


def apart_text(row: Any) -> str:
    lie = verdict(row.apart_low, row.apart_high, 0.5)
    share = f"{percent(row.apart)} ({_percents(row, 'apart')})"
    if lie == "above":
        text = f"a linear classifier tells {share} of their samples apart"
    else:
        text = f"whether their samples can be told apart {UNDETERMINED}: {share} are"
    return (
        f"{text}, where chance is 50%; from held-out pictures it tells "
        f"{percent(row.denoiser_real)} ({_percents(row, 'denoiser_real')}) of those of "
        f"the denoiser, {percent(row.reader_real)} ({_percents(row, 'reader_real')}) "
        f"of those of the model of pixels, and held-out pictures from each other "
        f"{percent(row.real_real)} ({_percents(row, 'real_real')})"
    )


def _percents(row: Any, name: str) -> str:
    low, high = (getattr(row, f"{name}_{end}") for end in ("low", "high"))
    return f"{percent(low)} to {percent(high)}"


def most(analysis: Analysis) -> pd.DataFrame:
    """Of each pair of families the place with the most data, longest and largest."""
    frame = of_first(analysis.two_objectives)
    if frame.empty:
        return frame
    order = ["unique_tokens", "tokens", "params"]
    frame = frame.sort_values(order, ascending=False, kind="stable")
    return frame.drop_duplicates(["denoiser", "reader", "corpus"])


def truth_text(rows: pd.DataFrame) -> str:
    """What the truth needs of one corpus, and the largest of each family with the most
    data."""
    place = ["unique_tokens", "tokens"]
    rows = rows.sort_values([*place, "params"], ascending=False, kind="stable")
    rows = rows[(rows[place] == rows[place].iloc[0]).all(axis=1)]
    row = rows.iloc[0]
    readers = _listed(rows, "reader", "exact")
    denoisers = _listed(rows, "denoiser", "upper_bound")
    return (
        f"Models of {row.corpus} are scored on pictures whose true chances are known, "
        f"and need {number(row.true_bits, 4)} bits/dim. After "
        f"{count(row.tokens)} pictures, {count(row.unique_tokens)} of them different, "
        f"models of pixels in order need exactly {readers}; denoisers at most "
        f"{denoisers}."
    )


def _listed(rows: pd.DataFrame, who: str, what: str) -> str:
    """The first row of each family, with its bits."""
    first = rows.drop_duplicates(who)
    pairs = zip(first[who], first[what], strict=True)
    return joined(f"{family} {number(bits, 4)}" for family, bits in pairs)


def said(view: View) -> list[str]:
    frame = most(view.analysis)
    if frame.empty:
        return []
    known = view.analysis.two_objectives
    known = known[known.true_bits.notna()]
    truths = [truth_text(rows) for _, rows in known.groupby("corpus", sort=False)]
    lines = [
        f"{capitalised(place_text(row))}: {bits_text(row)}; {apart_text(row)}."
        for row in frame.itertuples()
    ]
    return [APART, *few(lines), *few(truths)]


def answers(view: View) -> list[Sentence]:
    frame = most(view.analysis)
    if frame.empty:
        return []
    row = next(frame.nlargest(1, "apart").itertuples())
    return [Sentence(f"{capitalised(place_text(row))}: {apart_text(row)}.", 52)]


# --- Figure --------------------------------------------------------------------------

SHOWN = {
    "apart": ("the two", PALETTE[0], "o"),
    "denoiser_real": ("denoiser from real", PALETTE[1], "s"),
    "reader_real": ("model of pixels from real", PALETTE[2], "^"),
    "real_real": ("real from real", FAINT, "D"),
}
MOST = 12


def draw_apart(figure: Figure, analysis: Analysis, target: str) -> None:
    """Shares that a classifier tells apart, four to a pair of models."""
    frame = most(analysis).head(MOST)
    if frame.empty:
        raise Nothing
    resize(figure, 1.4 + 0.62 * len(frame))
    axes = figure.subplots()
    ends = [frame[f"{name}_{end}"] for name in SHOWN for end in ("low", "high")]
    axes.set_xlim(*reach(*ends, [0.5, 1.0]))
    labels = []
    for y, row in enumerate(frame.to_dict("records")):
        for k, (name, (_, colour, marker)) in enumerate(SHOWN.items()):
            shown = {"value": row[name]}
            shown |= {end: row[f"{name}_{end}"] for end in ("low", "high")}
            whisker(axes, y + 0.18 * (k - 1.5), shown, colour, marker)
        labels.append(
            f"{row['denoiser']}, {row['reader']}\n{row['corpus']}, "
            f"{count(row['unique_tokens'])} pictures"
        )
    forest_axis(axes, labels, range(len(frame)))
    axes.axvline(0.5, color=INK, lw=0.8)
    axes.grid(True, axis="x")
    axes.set_xlabel("share told apart by a linear classifier; 0.5 is chance")
    legend(figure, [key(*look) for look in SHOWN.values()])


QUESTION = Question(
    name="autoregression_diffusion",
    title="Autoregression against diffusion",
    place=57.6,
    absent=Absent(
        "comparison of the two objectives",
        ("two_objectives",),
        ("objectives",),
        f"{UNSAMPLED} It needs runs of both objectives.",
    ),
    said=said,
    answers=answers,
    figures={
        "two_objectives": Drawing(
            draw_apart,
            "How many pictures a linear classifier assigns to the right kind: a "
            "denoiser's samples and those of a model of pixels in order, either of "
            "them and held-out pictures, and held-out pictures and other held-out "
            "pictures, with 95% intervals by groups of pictures. All have equally many "
            "pictures, cut to the coarser of the two models' levels.",
            scored=False,
        ),
    },
    about=("objectives",),
    tables=(Table("Denoisers beside models of pixels", "two_objectives"),),
    pictures=pictures,
)
