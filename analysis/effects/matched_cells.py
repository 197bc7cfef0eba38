"""Model-free effects on matched cells: pairs that differ in one factor alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.design.cells import cells_frame
from analysis.design.settings import APART
from analysis.design.swaps import Swap
from analysis.effects.data_equivalents import overall
from analysis.inference import quantiles
from analysis.inference.intervals import sample
from analysis.inference.seeds import Noise
from analysis.inference.verdict import DECIDES
from analysis.laws import Array
from analysis.tables.table import Table

# (run id, run id) -> paired standard error of the difference of their losses, nats.
DocumentError = Callable[[str, str], float]


@dataclasses.dataclass(frozen=True)
class Match:
    """Two cells that differ in the swapped factor alone.

    Attributes:
      before, after: rows of the cells' frame, of the baseline and of the other; `Index`
        is their (level, budget, experiment).
      slope: of the baseline's log loss in log tokens, about that budget; NaN where it
        has no curve: one budget alone, or a loss that does not fall.
      log_factor: ln M_D by the baseline's own curve; infinite, of either sign, where
        the curve does not reach the other's loss within its cells, NaN without one.
      first, last: at an end of the baseline's curve.
    """

    before: Any
    after: Any
    slope: float
    log_factor: float
    first: bool
    last: bool

    @property
    def log_ratio(self) -> float:
        return math.log(self.after.loss / self.before.loss)


Matches = Mapping[Swap, Sequence[Match]]
# What two matched cells share.
CELL = ("level", "budget")
PLACE = (*CELL, "experiment")
FACTORS = ("family", "corpus")


def document_se(table: Table, target: str, one: str, two: str) -> float:
    """Standard error, in nats per token, of the difference of two runs' losses.

    Documents are paired and are the clusters (ratio estimator, part by part); 0 where
    the table keeps no documents of the two.
    """
    variance = 0.0
    for key, weight in table.parts.get(target, {}).items():
        first = table.documents.get(one, {}).get(key)
        second = table.documents.get(two, {}).get(key)
        if first is None or second is None or first[0].size != second[0].size:
            return 0.0
        (a, tokens), (b, _) = first, second
        count, difference = tokens.size, a - b
        if count < 2:
            return 0.0
        left = difference - difference.sum() / tokens.sum() * tokens
        part = (left**2).sum() / tokens.sum() ** 2 * count / (count - 1)
        variance += weight**2 * part
    return float(np.sqrt(variance))


def of_experiments(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """One-epoch cells, one for each family, corpus, size level, budget and experiment.

    The column `experiment` codes what the table keeps apart, so that no two experiments
    are compared. Where no two families or corpora share one at a place, the best cell
    of each stands there, as of one experiment.
    """
    cells = cells_frame(sample(frame), target).sort_values("loss")
    cells = cells.assign(experiment=0)
    names = [c for c in frame if str(c).startswith(APART)]
    if names:
        code = frame.groupby(names, dropna=False).ngroup().set_axis(frame.run_id)
        cells["experiment"] = _shared_experiments(cells, cells.run_id.map(code))
    return cells.drop_duplicates([*FACTORS, *CELL, "experiment"])


def _shared_experiments(cells: pd.DataFrame, experiment: pd.Series) -> pd.Series:
    """Codes of experiments, -1 at places where no two factors have one in common."""
    place = list(CELL)
    coded = cells.assign(experiment=experiment)
    different = coded.drop_duplicates([*FACTORS, *place, "experiment"])
    sharing = different.groupby([*place, "experiment"]).size()
    most = sharing.groupby(place).max().rename("most").reset_index()
    at_place = coded[place].merge(most, on=place, how="left").most.to_numpy()
    return experiment.where(at_place > 1, -1)


def one_a_place(cells: pd.DataFrame) -> pd.DataFrame:
    """Of each place the cells of the experiment that most factors were run in."""
    place = list(CELL)
    sharing = cells.groupby([*place, "experiment"]).size().rename("sharing")
    best = sharing.reset_index().sort_values("sharing", ascending=False, kind="stable")
    best = best.drop_duplicates(place)[[*place, "experiment"]]
    return cells.merge(best, on=[*place, "experiment"])


def noise_frame(best: pd.DataFrame, target: str) -> pd.DataFrame:
    """Spread of log loss over the seeds of each cell at its best rate.

    Args:
      best: one row a run, with `cell` and `loss`.
    """
    rows = []
    for _, part in best.groupby("cell"):
        if len(part) < 2:
            continue
        first = part.iloc[0]
        rows.append(
            {name: first[name] for name in ("family", "corpus", "params", "tokens")}
            | {
                "target": target,
                "seeds": len(part),
                "sd_log": float(np.log(part.loss).std(ddof=1)),
            }
        )
    return pd.DataFrame(rows)


def matches(cells: pd.DataFrame, found: Sequence[Swap]) -> dict[Swap, list[Match]]:
    """The matched cells of each swap: same size level, same budget, same experiment.

    Args:
      cells: one row a cell, of one target, with `level` (of size), `budget` and, where
        the table keeps experiments apart, `experiment`.
    """
    keys = ["family", "corpus", *(name for name in PLACE if name in cells)]
    # The columns stay: the noise of a cell is asked by its corpus.
    index = cells.set_index(keys, drop=False).sort_index()
    heads = set(zip(cells.family, cells.corpus, strict=True))
    out = {}
    for swap in found:
        if {swap.before, swap.after} <= heads:
            matched = _matched(index.loc[swap.before], index.loc[swap.after])
            if matched:
                out[swap] = matched
    return out


def _matched(one: pd.DataFrame, two: pd.DataFrame) -> list[Match]:
    others = {row.Index: row for row in two.itertuples()}
    out = []
    size = [name for name in one.index.names if name != "budget"]
    for _, group in one.groupby(level=size):
        curve = list(group.sort_values("tokens").itertuples())
        x, y = (
            np.log([getattr(row, name) for row in curve]) for name in ("tokens", "loss")
        )
        pairs = [(k, cell) for k, cell in enumerate(curve) if cell.Index in others]
        if x.size < 2 or y[-1] >= y[0]:
            # The losses are compared all the same; no amount of data is.
            nothing = (math.nan, math.nan, True, True)
            out += [Match(cell, others[cell.Index], *nothing) for _, cell in pairs]
            continue
        y = np.minimum.accumulate(y)
        slopes = (
            np.gradient(y, x) if x.size > 2 else np.full(2, np.diff(y) / np.diff(x))
        )
        overall_slope = (y[-1] - y[0]) / (x[-1] - x[0])
        for k, before in pairs:
            after = others[before.Index]
            # Of its own tokens: budgets of one level differ by a little.
            reached = _inverse(x, y, math.log(after.loss))
            factor = reached - math.log(after.tokens)
            # Noise may flatten a curve in places: at least half its mean slope.
            slope = min(float(slopes[k]), 0.5 * float(overall_slope))
            ends = (k == 0, k == len(curve) - 1)
            out.append(Match(before, after, slope, float(factor), *ends))
    return out


def _inverse(x: Array, y: Array, wanted: float) -> float:
    """x at which a falling curve reaches `wanted`; infinite beyond its ends.

    Monotone cubics between the points (Fritsch and Carlson 1980): straight lines would
    lie above a curve that bends as losses do, and lengthen every distance along it.
    """
    from scipy.interpolate import PchipInterpolator

    if wanted > y[0]:
        return -math.inf
    if wanted < y[-1]:
        return math.inf
    falling = np.flatnonzero(np.diff(y, prepend=math.inf) < 0)
    if falling.size < 2:
        return float(x[0])
    return float(PchipInterpolator(-y[falling], x[falling])(-wanted))


def with_room(matched: Sequence[Match]) -> list[Match]:
    """Those at which the baseline's curve goes on in the direction of the effect.

    At its last cell a gain has no factor, whatever its size: counted as infinite it
    would raise the median of all. Which cells are left out depends on the design and on
    the sign of the mean effect, not on what a cell measured.
    """
    gain = np.mean([match.log_ratio for match in matched]) < 0
    return [match for match in matched if not (match.last if gain else match.first)]


def paired_frame(
    found: Matches, target: str, noise: Noise, document_se: DocumentError
) -> pd.DataFrame:
    """Data-equivalents as measured, a row a matched cell and one over all of them.

    The difference in log loss of two cells is turned into tokens with the baseline's
    own curve at that size (log loss against log tokens, between its cells). Where the
    curve does not reach that far there is no factor, since nothing was measured
    there: the row has its log_ratio alone. One cell's interval is of the difference:
    seed noise over the seeds of each, by Student's t with the freedom that the seeds
    leave, and the paired error over documents. The overall row is the median over
    matched cells with room on the baseline's curve, its interval the order statistics
    that hold it in 95% of samples. A cell without a curve has no row.
    """
    rows: list[dict[str, Any]] = []
    for swap, every in found.items():
        matched = [match for match in every if not math.isnan(match.slope)]
        if not matched:
            continue
        head = swap.head(target) | {"p_infinite": np.nan, "method": "paired"}
        rows += [head | _measured(match, noise, document_se) for match in matched]
        logs = np.array([match.log_factor for match in with_room(matched)])
        low, high = median_interval(logs)
        middle = float(overall(logs[None])[0]) if logs.size else math.nan
        rows.append(
            head
            | {
                "params": np.nan,
                "tokens": np.nan,
                "factor": _measured_factor(middle),
                "low": _measured_factor(low),
                "high": _measured_factor(high),
                "log_ratio": float(np.mean([match.log_ratio for match in matched])),
            }
        )
    return pd.DataFrame(rows)


def median_interval(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Distribution-free interval of a median; NaN with too few values for `level`.

    The widest pair of order statistics k and n + 1 - k whose tails, of a binomial with
    share 1/2, are at most (1 - level) / 2 each (David and Nagaraja 2003, section 7.1).
    """
    ordered = np.sort(values)
    k = quantiles.fair_coins((1.0 - level) / 2.0, ordered.size)
    if ordered.size == 0 or k < 1:
        return math.nan, math.nan
    return float(ordered[k - 1]), float(ordered[ordered.size - k])


def margin(before: Any, after: Any, noise: Noise, document_se: DocumentError) -> float:
    """Half the 95% interval of the difference of two cells' log losses.

    From the seed noise, by Student's t, and the paired error over documents; NaN where
    no cell has two seeds: the documents alone would flatter.

    Args:
      before, after: rows of the cells' frame.
    """
    seeds = sum(noise.at(cell) ** 2 / cell.seeds for cell in (before, after))
    documents = document_se(before.run_id, after.run_id) / before.loss
    error = math.sqrt(seeds + documents**2)
    return (
        quantiles.student(DECIDES, noise.freedom) * error if noise.freedom else math.nan
    )


def _measured(
    match: Match, noise: Noise, document_se: DocumentError
) -> dict[str, float]:
    before, after = match.before, match.after
    steep = np.maximum(-match.slope, 1e-12)
    reach = margin(before, after, noise, document_se) / steep
    return {
        "params": float(before.params),
        "tokens": float(before.tokens),
        "factor": _measured_factor(match.log_factor),
        "low": _measured_factor(match.log_factor - reach),
        "high": _measured_factor(match.log_factor + reach),
        "log_ratio": match.log_ratio,
    }


def _measured_factor(log_factor: float) -> float:
    """NaN for what lies outside the measured range."""
    return math.exp(log_factor) if abs(log_factor) < 700.0 else math.nan
