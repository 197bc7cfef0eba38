"""How far predictions lie from the truth, where a made corpus gives it.

KL(p || q) of the true chances p from a run's q is what its loss has above the entropy.
It is split into what the mean model of many seeds gets wrong and what seeds scatter;
and what two families get wrong is compared: do they make the same mistakes?
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import UNDETERMINED, few, interval_text, number, on, percent
from analysis.formatting import scale as scale_text
from analysis.inference.intervals import interval
from analysis.inference.verdict import NORMAL, verdict
from analysis.laws import Array
from analysis.predictions import ensemble
from analysis.predictions.groups import Comparison
from analysis.predictions.load import BEST, Point, Predictions, normalised
from analysis.questions._question import (
    ANSWER,
    Absent,
    Answer,
    Drawing,
    Question,
    Sentence,
    Table,
)
from analysis.questions._view import View, probed
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
    side_note,
    whisker,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare, measured

NATS = "nats/token"
WHERE = ("probes family corpus params tokens unique_tokens",)
FRAMES = (
    declare(
        "truth_distances",
        "Distance of predictions to the true chances, at the end of training.",
        *WHERE,
        "reported",
        Column("seeds", "how many runs there are"),
        Column("kl", "mean KL of the truth from a run's prediction", NATS),
        "low high",
        *measured("mean_model", "of it, what the mean of many seeds gets wrong", NATS),
        *measured("scatter", "of it, what seeds scatter about their mean", NATS),
        Column("loss", "mean loss at the probes", NATS),
        Column("entropy", "of the true chances there", NATS),
        Column("check", "the loss less entropy and KL", NATS),
        Column("check_se", "its standard error, over documents", NATS),
        Column("holds", "whether the loss is their sum within its error"),
    ),
    declare(
        "same_mistakes",
        "Cosine of what two families get wrong.",
        "probes baseline alternative fixed params tokens unique_tokens",
        "reported",
        Column("at", "equal budget or equal loss"),
        Column("loss", "at the probes, mean of the two", NATS),
        Column("cosine", "of the errors of the two families, seeds' noise taken out"),
        "low high",
        Column("one_run", "the same of a run of each, with the noise of seeds"),
        Column("ceiling", "of two seeds of one family, mean of the two families"),
    ),
)


def compares(asked: Comparison) -> Answer:
    """The frames of one probe set; none where no truth is known there."""
    if asked.predictions.truth is None or asked.ends.empty:
        return {}, []
    rows = [_row(asked, row) for _, row in asked.ends.iterrows()]
    frames = {
        "truth_distances": pd.DataFrame(rows),
        "same_mistakes": pd.DataFrame(_mistakes(asked)),
    }
    return frames, [*_off(rows), *_single(asked)]


def _off(rows: list[dict[str, Any]]) -> list[Note]:
    """Groups whose loss is not entropy and KL, more of them than chance would have."""
    off = [row for row in rows if not row["holds"]]
    if len(off) <= max(1, 0.1 * len(rows)):
        return []
    far = max(off, key=lambda row: abs(row["check"]) / row["check_se"])
    text = (
        f"The loss at {far['probes']} is not the entropy and the distance to the truth "
        f"in {len(off)} of {len(rows)} groups; {far['family']} is off by "
        f"{number(far['check'])} nats ({number(far['check_se'])} standard error)."
    )
    return [Note("warning", "truth", text)]


def _single(asked: Comparison) -> list[Note]:
    if (asked.ends.seeds > 1).any():
        return []
    text = "No group has two seeds, so what seeds scatter is not known"
    return [Note("undetermined", "truth", f"{text} at {asked.predictions.name}.")]


# --- Distance to the truth -----------------------------------------------------------


def _row(asked: Comparison, row: Any) -> dict[str, Any]:
    points, predictions = asked.points(row), asked.predictions
    kl_each = np.stack([divergence(predictions, predictions.read(*p)) for p in points])
    kl = _mean(asked, kl_each, points)
    mean_model, scatter = _split(asked, kl, kl_each.mean(axis=0), points)
    loss = predictions.losses(points).mean(axis=0)
    entropy = _entropy(predictions)
    check = asked.compared.over_documents(loss - entropy - kl_each.mean(axis=0))
    error = float(check[1:].std())
    return {
        "probes": predictions.name,
        **{name: row[name] for name in ("family", "corpus", "params", "tokens")},
        "unique_tokens": row.unique_tokens,
        "reported": asked.reported(row),
        "seeds": len(points),
        **_ends("kl", kl, plain=True),
        **_ends("mean_model", mean_model),
        **_ends("scatter", scatter),
        "loss": float(asked.compared.over_documents(loss)[0]),
        "entropy": float(asked.compared.over_documents(entropy)[0]),
        **{"check": float(check[0]), "check_se": error},
        "holds": bool(abs(check[0]) <= NORMAL * error),
    }


def _ends(name: str, draws: Array, plain: bool = False) -> dict[str, float]:
    low, high = interval(draws[1:])
    before = "" if plain else f"{name}_"
    return {name: float(draws[0]), f"{before}low": float(low)} | {
        f"{before}high": float(high)
    }


def divergence(predictions: Predictions, logs: Array) -> Array:
    """KL(truth || prediction) at each position, float64 [positions].

    What a prediction gives no chance at all counts as one of 1e-30.
    """
    truth = _truth(predictions)
    floor = np.maximum(logs.astype(np.float64), math.log(1e-30))
    return (np.exp(truth) * (truth - floor)).sum(axis=1)


def _truth(predictions: Predictions) -> Array:
    assert predictions.truth is not None
    logs = normalised(predictions.truth).astype(np.float64)
    return np.maximum(logs, math.log(1e-30))


def _entropy(predictions: Predictions) -> Array:
    truth = _truth(predictions)
    return -(np.exp(truth) * truth).sum(axis=1)


def _mean(asked: Comparison, each: Array, points: Any) -> Array:
    """Mean over runs and positions of [runs, positions], with both in its draws."""
    own = np.array([asked.compared.over_documents(values) for values in each])
    mean = own.mean(axis=0)
    parts: Mapping[Point, Array] = dict(
        zip(points, (own - mean) / len(points), strict=True)
    )
    return asked.compared.together(mean, dict(parts), (points,))


def _split(
    asked: Comparison, kl: Array, each: Array, points: Any
) -> tuple[Array, Array]:
    """KL of the mean model, and the rest, draws of both; NaN of one run.

    The mean of n seeds still has an n-th of their scatter, to second order: the scatter
    about the mean of n is (n - 1) / n of that about the mean of many.
    """
    count = len(points)
    if count < 2:
        nothing = np.full(kl.shape, np.nan)
        return nothing, nothing
    logs = ensemble.log_mean(asked.predictions, points)
    seen = each - divergence(asked.predictions, logs)
    scatter = asked.compared.over_documents(seen) * count / (count - 1)
    return kl - scatter, scatter


# --- The same mistakes ---------------------------------------------------------------


def _mistakes(asked: Comparison) -> list[dict[str, Any]]:
    """Cosines of every swap of architectures at equal budget, and at equal loss."""
    rows = []
    pairs = [
        (swap, before, after)
        for swap in asked.swaps
        if swap.kind == "architecture"
        for before, after in asked.pairs(asked.groups, swap)
    ]
    points = asked.points
    ends = [(s, a, b) for s, a, b in pairs if a.fraction == 1.0]
    matched = [
        (s, a, b) for swap, a, b in ends for s, a, b in _matched(asked, swap, a, b)
    ]
    asked.compared.need_products(
        [(points(a), points(b)) for _, a, b in (*ends, *matched)]
    )
    for at, some in (("equal budget", ends), ("equal loss", matched)):
        for swap, before, after in some:
            head = swap.head("")
            del head["target"], head["kind"]
            losses = [asked.compared.loss(points(row))[0] for row in (before, after)]
            rows.append(
                {"probes": asked.predictions.name, **head, "at": at}
                | {n: after[n] for n in ("params", "tokens", "unique_tokens")}
                | {"reported": asked.reported(after), "loss": float(np.mean(losses))}
                | _cosine(asked, points(before), points(after))
            )
    return rows


def _matched(asked: Comparison, swap: Any, before: Any, after: Any) -> list[Any]:
    """The pair with the better side at the time at which its loss was nearest.

    None where that is its end too: then equal budget is as near as it comes.
    """
    compared, points, groups = asked.compared, asked.points, asked.groups
    losses = [compared.loss(points(row))[0] for row in (before, after)]
    worse = int(losses[1] > losses[0])
    better = (before, after)[1 - worse]
    mine = (groups.family == better.family) & (groups.corpus == better.corpus)
    on_its_way = groups.fraction != BEST
    near = groups[mine & (groups.level == better.level) & on_its_way]
    if len(near) < 2:
        return []
    gap = [
        abs(compared.loss(points(row))[0] - losses[worse]) for _, row in near.iterrows()
    ]
    chosen = near.iloc[int(np.argmin(gap))]
    if int(chosen.name) == int(better.name):
        return []
    return [(swap, chosen, after) if worse else (swap, before, chosen)]


def _cosine(asked: Comparison, f: Any, g: Any) -> dict[str, float]:
    """Cosine of errors: with seeds' own noise taken out, and of single runs.

    Two runs of one family share what the family gets wrong and not their noise, so that
    the mean product of different seeds is the squared length of the family's error.
    """
    product = asked.compared.product
    across = np.mean([product(a, b) for a in f for b in g], axis=0)
    own = [np.mean([product(a, a) for a in some], axis=0) for some in (f, g)]
    one_run = across / np.sqrt(own[0] * own[1])
    shared = []
    for some in (f, g):
        pairs = [product(a, b) for a in some for b in some if a < b]
        shared.append(np.mean(pairs, axis=0) if pairs else np.full(len(across), np.nan))
    with np.errstate(invalid="ignore"):
        cosine = across / np.sqrt(shared[0] * shared[1])
    ceiling = 0.5 * (shared[0] / own[0] + shared[1] / own[1])
    low, high = interval(cosine[1:])
    return {
        **{"cosine": float(cosine[0]), "low": float(low), "high": float(high)},
        **{"one_run": float(one_run[0]), "ceiling": float(ceiling[0])},
    }


# --- Words -------------------------------------------------------------------------


def kl_text(row: Any) -> str:
    """How far one family is from the truth, and whose fault it is."""
    kl = f"{number(row.kl)} nats ({interval_text(row.low, row.high)})"
    text = f"predictions of {row.family}{on(row.corpus)} are {kl} from the truth"
    if math.isnan(row.scatter):
        return f"{text}; one seed does not show how much of it is scatter of seeds"
    share = percent(row.mean_model / row.kl)
    ends = interval_text(row.mean_model_low, row.mean_model_high)
    mean = f"{number(row.mean_model)} ({ends})"
    return f"{text}: {mean}, {share} of it, is the error of the mean over seeds"


def cosine_text(row: Any) -> str:
    """Whether two families make the same mistakes."""
    what = f"{row.baseline} and {row.alternative}{on(row.fixed)}, at {row.at}"
    value = f"cosine {number(row.cosine)} ({interval_text(row.low, row.high)})"
    runs = (
        f"{number(row.one_run)} between single runs and {number(row.ceiling)} between "
        "two seeds"
    )
    below = verdict(row.low, row.high, 1.0) == "below"
    above = verdict(row.low, row.high, 0.0) == "above"
    if below and above:
        said = "part of their mistakes is the same"
    elif below:
        said = "whether they share mistakes at all " + UNDETERMINED
    elif above:
        said = "they share mistakes, and none of their own are shown"
    else:
        said = "whether their mistakes are the same " + UNDETERMINED
    return f"{what}: {said}, {value}; {runs}"


def said(view: View) -> list[str]:
    reported = probed(view.analysis.truth_distances)
    if reported.empty:
        return []
    first = reported.iloc[0]
    place = f"At {scale_text(first.params, first.tokens)}"
    holds = reported.holds.astype(bool)
    kl = [f"{place}, {kl_text(row)}." for row in reported.itertuples()]
    check = "Entropy and distance add up to the measured loss, within its error, in "
    check += f"{int(holds.sum())} of {len(reported)} groups."
    same = probed(view.analysis.same_mistakes)
    same = same[same.cosine.notna()] if len(same) else same
    return [
        *few(kl),
        check,
        *few([f"{cosine_text(row)}." for row in same.itertuples()]),
    ]


def answers(view: View) -> list[Sentence]:
    """The pair at equal loss, or at equal budget, that shares the least."""
    same = probed(view.analysis.same_mistakes)
    if same.empty or same.cosine.isna().all():
        return []
    equal = same[(same["at"] == "equal loss") & same.cosine.notna()]
    least = (equal if len(equal) else same).nsmallest(1, "cosine")
    return [Sentence(f"{cosine_text(row)}.", 54, ANSWER) for row in least.itertuples()]


# --- Figures -----------------------------------------------------------------------


def draw_truth(figure: Figure, analysis: Analysis, target: str) -> None:
    """Distance to the truth of each family, split into mean model and scatter."""
    frame = probed(analysis.truth_distances)
    if frame.empty:
        raise Nothing
    frame = frame.sort_values("kl")
    resize(figure, 1.3 + 0.32 * len(frame))
    axes = figure.subplots()
    axes.set_xlim(*reach(frame.high, frame.kl, [0.0]))
    for y, row in enumerate(frame.to_dict("records")):
        if not math.isnan(row["mean_model"]):
            axes.barh(y, row["mean_model"], color=PALETTE[0], alpha=0.35, height=0.5)
            left = row["mean_model"]
            axes.barh(
                y, row["scatter"], left=left, color=PALETTE[1], alpha=0.35, height=0.5
            )
        whisker(axes, y, {"value": row["kl"], **row}, INK, "o")
        side_note(axes, y, f"loss {number(row['loss'])}")
    labels = [f"{row.family}, {row.corpus}" for row in frame.itertuples()]
    forest_axis(axes, labels, range(len(frame)))
    axes.set_xlabel("KL from the true chances (nats/token)")
    axes.grid(True, axis="x")
    handles = [key("of one run", INK, "o"), key("mean of seeds", PALETTE[0], "s")]
    legend(figure, [*handles, key("scatter of seeds", PALETTE[1], "s")])


# Pairs of families that the figure shows at equal budget, and at equal loss.
MOST_MISTAKES = 15


def draw_mistakes(figure: Figure, analysis: Analysis, target: str) -> None:
    """Cosine of what pairs of families get wrong, beside two seeds of one."""
    frame = probed(analysis.same_mistakes)
    frame = frame[frame.cosine.notna()] if len(frame) else frame
    if frame.empty:
        raise Nothing
    frame = frame.sort_values(["at", "cosine"]).groupby("at").head(MOST_MISTAKES)
    resize(figure, 1.3 + 0.32 * len(frame))
    axes = figure.subplots()
    axes.set_xlim(
        *reach(frame.low, frame.high, frame.one_run, frame.ceiling, [0.0, 1.0])
    )
    looks = {"equal budget": (PALETTE[0], "o"), "equal loss": (PALETTE[1], "s")}
    for y, row in enumerate(frame.to_dict("records")):
        whisker(axes, y, {"value": row["cosine"], **row}, *looks[row["at"]])
        axes.plot(row["one_run"], y, marker="x", color=FAINT, ms=5, ls="")
        axes.plot(row["ceiling"], y, marker="|", color=FAINT, ms=9, ls="")
    for x in (0.0, 1.0):
        axes.axvline(x, color=INK, lw=0.8, ls=":" if x else "-")
    labels = [
        f"{row.baseline}, {row.alternative} ({row.fixed})" for row in frame.itertuples()
    ]
    forest_axis(axes, labels, range(len(frame)))
    axes.set_xlabel("cosine of errors: 1 the same mistakes, 0 none in common")
    axes.grid(True, axis="x")
    names = [name for name in looks if name in set(frame["at"])]
    handles = [key(f"at {name}", *looks[name]) for name in names]
    more = [key("of single runs", FAINT, "x"), key("two seeds of one", FAINT, "|")]
    legend(figure, [*handles, *more])


QUESTION = Question(
    name="truth_distance",
    title="How far from the truth, and with the same mistakes?",
    place=56,
    absent=Absent(
        "distance to a known truth",
        ("truth_distances",),
        ("truth",),
        "It needs runs that kept predictions on a corpus whose true probabilities are "
        "known; see docs/function.md.",
    ),
    said=said,
    answers=answers,
    figures={
        "truth_distances": Drawing(
            draw_truth,
            "Distance of predictions from the true chances of a made corpus, with 95% "
            "intervals by documents and seeds together: what the mean of many seeds "
            "gets wrong, and what seeds scatter about it.",
            scored=False,
        ),
        "same_mistakes": Drawing(
            draw_mistakes,
            "Whether two families make the same mistakes: the cosine of what they get "
            "wrong (root of the predicted less root of the true chances), the noise of "
            "seeds taken out. The null, errors that have nothing in common, is 0. "
            f"Of more than {MOST_MISTAKES} pairs at equal budget or equal loss the "
            "least alike are shown; the table has all.",
            scored=False,
        ),
    },
    about=("truth",),
    tables=(
        Table("Distance to the truth of every group", "truth_distances"),
        Table("Mistakes in common", "same_mistakes"),
    ),
    compares=compares,
)
