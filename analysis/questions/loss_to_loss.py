"""Loss on one evaluation set against another: does corpus or family move the line?

Models that reach one loss on a set reach about one loss on another (Brandfonbrener et
al. 2024, "Loss-to-loss prediction", arXiv 2411.12925); which line they lie on hung on
the training data and little on the architecture in Mayilvahanan et al. 2025, "LLMs on
the line" (arXiv 2502.12120). Here the log loss on the other set is a quadratic in that
on the first, with an intercept and a slope of each corpus's and each family's own. A
factor moves the line by the root mean square of what its terms explain beside the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import UNDETERMINED, joined, percent, percent_error
from analysis.inference import quantiles
from analysis.inference.intervals import interval
from analysis.inference.verdict import DECIDES
from analysis.laws import Array
from analysis.questions._question import Absent, Answer, Drawing, Question, Table
from analysis.questions._view import View
from analysis.report.style import (
    MOST_COLUMNS,
    Nothing,
    corpora_of,
    families_of,
    key,
    legend,
    log_axis,
    looks,
    plain,
    span,
    wrapped,
)
from analysis.results import Analysis
from analysis.schema import Column, declare

if TYPE_CHECKING:
    from analysis.questions._asked import Whole

FRAMES = (
    declare(
        "lines",
        "What moves the line of the loss on one evaluation set against another's.",
        "target",
        Column("other", "the evaluation set that is read off the line"),
        Column("factor", "corpus or family"),
        Column("levels", "how many there are"),
        Column("runs", "how many were scored on both"),
        Column("moved", "root mean square of log loss by which it moves the line"),
        "low high",
        Column("p", "chance of as much by F's test where the factor moves nothing"),
        Column("p_larger", "share of draws in which it moves the line more"),
        Column("scatter", "standard deviation of log loss about the lines"),
    ),
)

FACTORS = ("corpus", "family")
DRAWS = 300
# Runs for each parameter of the lines, at least.
ROOM = 2
# Rows of a table that has each score in a row of its own are one run where these agree.
SAME = (
    *("family", "corpus", "params", "tokens", "unique_tokens", "optimiser"),
    *("learning_rate", "batch", "seed", "data_seed"),
)


def concludes(whole: Whole) -> Answer:
    found = frame(whole.analysis.runs, whole.table.targets, whole.seed)
    return {"lines": found}, []


def both(runs: pd.DataFrame, one: str, two: str) -> pd.DataFrame:
    """family, corpus, trajectory, x and y of the runs scored on both sets.

    A table may have each score in a row of its own: rows of the same settings are then
    one run, where no two of one set are.
    """
    names = f"loss:{one}", f"loss:{two}"
    if not set(names) <= set(runs):
        return pd.DataFrame()
    read = {name: runs[name].between(0, np.inf, "neither") for name in names}
    whole = runs[read[names[0]] & read[names[1]]]
    keep = ["family", "corpus", "trajectory"]
    if len(whole):
        return whole[[*keep, *names]].set_axis([*keep, "x", "y"], axis=1)
    known = [name for name in SAME if name in runs]
    parts = []
    for name in names:
        part = runs[read[name]].drop_duplicates(known, keep=False)
        parts.append(part[[*known, "trajectory", name]])
    merged = parts[0].merge(parts[1], on=known, suffixes=("", "_other"))
    if merged.empty:
        return pd.DataFrame()
    return merged[[*keep, *names]].set_axis([*keep, "x", "y"], axis=1)


def _terms(x: Array, codes: Array) -> Array:
    """An intercept and a slope [n, 2 (levels - 1)] of every level but the first."""
    marks = (codes[:, None] == np.arange(1, codes.max(initial=0) + 1)).astype(float)
    return np.concatenate([marks, marks * x[:, None]], axis=1)


def _left(columns: Sequence[Array], y: Array) -> float:
    """Residual sum of squares."""
    design = np.concatenate(columns, axis=1)
    beta, *_ = np.linalg.lstsq(design, y, rcond=None)
    return float(((y - design @ beta) ** 2).sum())


def _moved(
    x: Array, y: Array, codes: dict[str, Array]
) -> tuple[dict[str, float], float]:
    """What each factor moves the line by, and the residual sum of squares of all."""
    x = x - x.mean()
    curve = np.stack([np.ones_like(x), x, x**2], axis=1)
    terms = {name: _terms(x, code) for name, code in codes.items()}
    whole = _left([curve, *terms.values()], y)
    moved = {}
    for name in terms:
        others = [term for other, term in terms.items() if other != name]
        gained = max(0.0, _left([curve, *others], y) - whole)
        moved[name] = float(np.sqrt(gained / y.size))
    return moved, whole


def frame(runs: pd.DataFrame, targets: Sequence[str], seed: int) -> pd.DataFrame:
    """A row a factor for the first target against each other one.

    Intervals resample whole trajectories. A factor of one level has no row, and neither
    has a pair of sets with too few runs for their lines.
    """
    rows: list[dict[str, object]] = []
    for other in targets[1:]:
        rows += _pair(both(runs[runs.used], targets[0], other), targets[0], other, seed)
    return pd.DataFrame(rows)


def _pair(
    found: pd.DataFrame, target: str, other: str, seed: int
) -> list[dict[str, object]]:
    if found.empty:
        return []
    codes = {name: pd.factorize(found[name], sort=True)[0] for name in FACTORS}
    codes = {name: code for name, code in codes.items() if code.max() > 0}
    free = 3 + sum(2 * int(code.max()) for code in codes.values())
    if not codes or len(found) < ROOM * free:
        return []
    x, y = np.log(found.x.to_numpy(float)), np.log(found.y.to_numpy(float))
    moved, left = _moved(x, y, codes)
    freedom = y.size - free
    drawn = _drawn(x, y, codes, pd.factorize(found.trajectory)[0], seed)
    rows = []
    for name, value in moved.items():
        low, high = interval(drawn[name][:, None])
        extra = 2 * int(codes[name].max())
        ratio = (y.size * value**2 / extra) / (left / freedom) if left > 0 else np.inf
        against = [drawn[rest] for rest in drawn if rest != name]
        larger = float((drawn[name] > against[0]).mean()) if against else np.nan
        row: dict[str, object] = {"target": target, "other": other, "factor": name}
        row |= {"levels": int(codes[name].max()) + 1, "runs": y.size, "moved": value}
        row |= {"low": float(low[0]), "high": float(high[0])}
        row |= {"p": quantiles.fisher_tail(ratio, extra, freedom), "p_larger": larger}
        rows.append(row | {"scatter": float(np.sqrt(left / freedom))})
    return rows


def _drawn(
    x: Array, y: Array, codes: dict[str, Array], clusters: Array, seed: int
) -> dict[str, Array]:
    """What each factor moves in each draw of trajectories, [DRAWS]."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(clusters == k) for k in range(clusters.max() + 1)]
    out: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(DRAWS):
        chosen = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[k] for k in chosen])
        moved, _ = _moved(
            x[rows], y[rows], {n: code[rows] for n, code in codes.items()}
        )
        for name, value in moved.items():
            out[name].append(value)
    return {name: np.array(values) for name, values in out.items()}


def said(view: View) -> list[str]:
    """Which of corpus and family moves each line more, if the draws decide it."""
    sentences = []
    for other, rows in view.rows("lines").groupby("other", sort=False):
        reported = [
            f"the {row.factor} moves it by {percent_error(row.moved)} "
            f"({percent_error(row.low)} to {percent_error(row.high)}"
            + ("" if row.p < 1 - DECIDES else ", no more than chance")
            + ")"
            for row in rows.itertuples()
        ]
        scatter = percent_error(rows.scatter.iloc[0])
        text = f"Of runs with one loss on {view.target}, loss on {other}: "
        text += f"{joined(reported)}; runs scatter by {scatter} about their line"
        if len(rows) > 1:
            first = rows.loc[rows.p_larger.idxmax()]
            share = f"{percent(first.p_larger)} of draws"
            text += (
                f". The {first.factor} moves it more ({share})"
                if first.p_larger >= DECIDES
                else f". Which moves it more {UNDETERMINED} ({first.factor} in {share})"
            )
        sentences.append(f"{text}.")
    return sentences


def draw_lines(figure: Figure, analysis: Analysis, target: str) -> None:
    """Losses on the other sets against those on the first, by corpus and by family."""
    if analysis.lines.empty:
        raise Nothing
    others = list(dict.fromkeys(analysis.lines.other))[:MOST_COLUMNS]
    names = {"corpus": corpora_of(analysis), "family": families_of(analysis)}
    rows = [name for name in FACTORS if len(names[name]) > 1]
    used = analysis.runs[analysis.runs.used.astype(bool)]
    found = {other: both(used, target, other) for other in others}
    panels = wrapped(figure, len(rows), len(others), 2.4, (1.0, 1.2), narrowest=2)
    limits = (
        span(*(part.x for part in found.values()), pad=0.08),
        span(*(part.y for part in found.values()), pad=0.08),
    )
    for (i, j), axes in panels.items():
        part, levels = found[others[j]], names[rows[i]]
        log_axis(axes.xaxis, plain, limits[0])
        log_axis(axes.yaxis, plain, limits[1])
        for level, mine in part.groupby(rows[i]):
            colour, marker, line = looks(levels, level)
            axes.plot(mine.x, mine.y, marker, color=colour, ms=3.2, alpha=0.8)
            # Runs of several corpora lie on no one line.
            if rows[i] == "corpus" or len(rows) == 1:
                axes.plot(*_parabola(mine, limits[1]), color=colour, ls=line)
        if i == 0:
            axes.set_title(f"on {others[j]}", fontsize=8.5)
        if j == 0:
            axes.set_ylabel(f"by {rows[i]}\nloss ({analysis.unit})")
    figure.supxlabel(f"loss on {target} ({analysis.unit})", fontsize=8.5)
    legend(figure, [key(str(n), *looks(names[r], n)) for r in rows for n in names[r]])


def _parabola(points: pd.DataFrame, limits: tuple[float, float]) -> tuple[Array, Array]:
    """x and y [n] of the parabola through the logs of points, within limits of y.

    Without a number where it leaves them, which between points far apart it may by far;
    empty where points are too few or too close to have one.
    """
    x, y = np.log(points.x.to_numpy(float)), np.log(points.y.to_numpy(float))
    middle, half = (x.max() + x.min()) / 2, max(np.ptp(x) / 2, 1e-12)
    design = np.vander((x - middle) / half, 3)
    fitted, _, rank, _ = np.linalg.lstsq(design, y, rcond=1e-9)
    if len(x) < 4 or rank < 3:
        return np.zeros(0), np.zeros(0)
    place = np.linspace(-1.0, 1.0, 40)
    logs = np.polyval(fitted, place)
    logs[(logs < np.log(limits[0])) | (logs > np.log(limits[1]))] = np.nan
    return np.exp(middle + half * place), np.exp(logs)


QUESTION = Question(
    name="lines",
    title="Loss on one set against loss on another",
    place=85,
    absent=Absent(
        "lines between two evaluation sets",
        ("lines",),
        ("lines",),
        "They need runs that are scored on two sets.",
    ),
    said=said,
    figures={
        "lines": Drawing(
            draw_lines,
            "Every run's loss on another evaluation set against its loss on the first, "
            "with a quadratic in logs through each corpus's runs. "
            "Where runs of all families follow the line of their corpus, the training "
            "text alone decides which loss on one set goes with a loss on the other.",
        )
    },
    tables=(Table("What moves each line", "lines"),),
    concludes=concludes,
)
