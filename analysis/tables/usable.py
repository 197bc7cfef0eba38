"""Which rows can be fitted; the others are left out, each with its reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from analysis.design.settings import APART, SETTING
from analysis.tables import subsample
from analysis.tables.exclusions import COLUMNS as EXCLUSION
from analysis.tables.exclusions import excluded
from analysis.tables.experiments import Experiments, others, whole_runs
from analysis.tables.table import COLUMNS, Table
from scaling.errors import UserError


def select(table: Table, most: int, experiments: Experiments | None = None) -> Table:
    """The table with the readings that can be fitted; all others are listed.

    Args:
      table: all readings; in `exclusions` what is known to be unusable already.
      most: how many runs are fitted at most.
      experiments: of the runs, where they are of several; one is kept.

    Raises UserError where nothing is left.
    """
    runs = _with_losses(table)
    # Names are looked up once: with a million of them each look-up takes a second.
    names = pd.Index(runs.run_id)
    readings = table.readings
    place = names.get_indexer(readings.run_id)
    whole = table.exclusions
    known = whole[whole.target == ""]
    gone = names.isin(known.run_id)
    unusable = _unusable_runs(runs[~gone])
    gone |= names.isin(unusable.run_id)
    reasons = _unusable_losses(readings)
    bad = (reasons != "").to_numpy()
    listed = readings[bad].assign(reason=reasons[bad])
    listed = pd.concat([whole[whole.target != ""], listed[EXCLUSION]])
    # A run that is left out of all targets is not listed for each besides.
    listed = listed[~listed.run_id.isin(names[gone])]
    used = ~bad & ~gone[place]
    elsewhere, warned, asked = others(
        runs, readings.assign(place=place)[used], experiments
    )
    pairs = pd.MultiIndex.from_frame(readings[["run_id", "target"]])
    used &= ~pairs.isin(pd.MultiIndex.from_frame(elsewhere[["run_id", "target"]]))
    elsewhere = whole_runs(elsewhere, readings[used])
    thinned = _thinned(runs, np.unique(place[used]), most)
    used &= ~np.isin(place, thinned)
    left = [known, unusable, listed, elsewhere, excluded(names[thinned], THINNED)]
    # The first reason of each row is enough.
    every = pd.concat(left).drop_duplicates(EXCLUSION[:2], ignore_index=True)
    readings = readings[used].reset_index(drop=True)
    _check_any(readings, every, table.title)
    thin = _thin_warnings(thinned.size, readings.run_id.nunique())
    # A target that only rows left out were read on has no answer to lead with.
    targets = tuple(t for t in table.targets if (readings.target == t).any())
    lost = [target for target in table.targets if target not in targets]
    if lost:
        thin += (f"no row has a loss that can be used on {', '.join(lost)}",)
    return dataclasses.replace(
        table,
        runs=runs.drop(columns=[f"loss:{target}" for target in lost]),
        targets=targets,
        readings=readings,
        best=table.best.merge(readings[["run_id", "target"]]),
        exclusions=every,
        warnings=table.warnings
        + warned
        + _unit_warnings(runs, bool(table.mapping))
        + thin,
        asked=table.asked + asked,
    )


def _check_any(readings: pd.DataFrame, left_out: pd.DataFrame, title: str) -> None:
    """Raises UserError, with the first reason, where nothing is left."""
    if readings.empty:
        first = left_out.reason.iloc[0] if len(left_out) else "no reading"
        raise UserError("table", title, f"no row can be used; the first: {first}")


def _with_losses(table: Table) -> pd.DataFrame:
    """The runs with their loss on each target beside them."""
    beside = [c for c in table.runs if c.startswith((SETTING, APART))]
    runs = table.runs[[*COLUMNS, *beside]].reset_index(drop=True)
    place = pd.Index(runs.run_id).get_indexer(table.readings.run_id)
    for target in table.targets:
        mine = (table.readings.target == target).to_numpy()
        column = np.full(len(runs), np.nan)
        column[place[mine]] = table.readings.loss[mine]
        runs[f"loss:{target}"] = column
    return runs


THINNED = "thinned: runs alike are fitted in its place"
# Fewer would leave no design; nothing that small needs thinning.
LEAST_ROWS = 100


def _thinned(runs: pd.DataFrame, usable: np.ndarray, most: int) -> np.ndarray:
    """Places of the usable runs (by place) beyond `most`; see subsample.py."""
    kept = subsample.chosen(runs.iloc[usable], most)
    return usable[~kept]


def _thin_warnings(thinned: int, kept: int) -> tuple[str, ...]:
    if not thinned:
        return ()
    text = (
        f"{thinned + kept} usable runs are more than can be fitted in minutes: {kept} "
        "are, as many of each that are alike in family, corpus, size, budget and rate; "
        "intervals are wider than all would give (--rows fits more)"
    )
    return (text,)


NEEDED = ("params", "tokens", "unique_tokens")
# No count and no loss, in whatever unit, lies outside: 1e308 and the like stand for a
# value that was not measured, and their squares leave the range of float64.
LEAST, MOST = 1e-30, 1e30
OUTSIDE = f"outside {LEAST:g} to {MOST:g}"


def _unusable_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs whose status, size or budget cannot be used, and exact duplicates."""
    reason = pd.Series("", index=runs.index)
    for name in (*NEEDED, "size", "flops", "learning_rate", "batch"):
        values = runs[name]
        if name in NEEDED:
            reason[(reason == "") & values.isna()] = f"{name} is missing"
        reason[(reason == "") & np.isinf(values)] = f"{name} is not finite"
        reason[(reason == "") & (values <= 0)] = f"{name} is not above zero"
        # FLOPs are a product of two counts.
        most = MOST**2 if name == "flops" else MOST
        outside = (values < LEAST) | (values > most)
        span = f"{name} is outside {LEAST:g} to {most:g}"
        reason[(reason == "") & outside] = span
    range_ = (runs.quality > 0) & (runs.quality <= 1)
    reason[(reason == "") & ~range_] = "quality is not above 0 and at most 1"
    other = (reason == "") & (runs.status != "done")
    reason[other] = "status is " + runs.status[other].astype(str)
    reason[(reason == "") & _copies(runs)] = "duplicate of an earlier row"
    bad = reason != ""
    return excluded(runs.run_id[bad].to_numpy(), reason[bad].to_numpy())


def _copies(runs: pd.DataFrame) -> pd.Series:
    """Marks the rows that say what an earlier one says, but for their names."""
    same = [c for c in runs.columns if c not in ("run_id", "trajectory")]
    # All columns are compared only where the losses and budgets are the same already.
    first = ["tokens", *(c for c in same if c.startswith("loss:"))]
    alike = runs.duplicated(first, keep=False)
    copies = runs[alike].duplicated(same)
    return copies.reindex(runs.index, fill_value=False)


def _unusable_losses(readings: pd.DataFrame) -> pd.Series:
    reason = pd.Series("", index=readings.index)
    loss = readings.loss
    reason[loss.isna()] = "loss is missing or NaN"
    reason[np.isinf(loss)] = "loss is infinite"
    reason[loss == 0] = "loss is zero"
    reason[(loss < 0) & np.isfinite(loss)] = "loss is negative"
    outside = (loss > 0) & (loss < LEAST) | np.isfinite(loss) & (loss > MOST)
    reason[outside] = f"loss is {OUTSIDE}"
    return reason


# No model has fewer parameters, and none is trained on fewer tokens.
FEWEST = 1000
# Attention, experts and embeddings move FLOPs about 6ND, but not by so much.
MOST_APART = 10_000


def _unit_warnings(runs: pd.DataFrame, foreign: bool) -> tuple[str, ...]:
    """Counts that look like millions or billions, in all rows or in some.

    Args:
      foreign: whether others counted. In a workdir n-grams have next to no FLOPs.
    """
    out = []
    for name in ("params", "tokens"):
        values = runs[name][np.isfinite(runs[name]) & (runs[name] > 0)]
        small = values < FEWEST
        if values.empty or not small.any():
            continue
        if values.median() < FEWEST:
            out.append(
                f"{name} has a median of {values.median():g}: if the table gives it in "
                "millions or billions, multiply it out, or every multiplier below is "
                "off"
            )
        else:
            first = ", ".join(runs.run_id[values[small].index[:3]])
            out.append(
                f"{name} is below {FEWEST} in {small.sum()} of {len(values)} rows and "
                f"has a median of {values.median():g}: units look mixed (first {first})"
            )
    counted = runs.flops / (6.0 * runs.params * runs.tokens)
    counted = counted[np.isfinite(counted) & (counted > 0)]
    if foreign and len(counted) and counted.max() > MOST_APART * counted.min():
        ends = runs.run_id[counted.idxmin()], runs.run_id[counted.idxmax()]
        out.append(
            f"flops over 6 x params x tokens goes from {counted.min():.2g} "
            f"({ends[0]}) to {counted.max():.2g} ({ends[1]}): units look mixed"
        )
    return tuple(out)
