"""Columns that nothing here reads and that vary between rows of one size and budget.

Such rows are different experiments (contexts, schedules, subsets of a study), and no
seeds of each other: one experiment is fitted (experiments.py), and it is said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from analysis.design import settings
from analysis.design.levels import BUDGET, level_codes
from analysis.laws import Array
from analysis.tables import flags, typed
from analysis.tables.experiments import Experiments, options

# What rows share that would be seeds of each other. Sizes count as they are: a law
# reads them, and shapes of nearly one size are points of its curve.
SHARED = ("family", "corpus", "size", "params", "tokens", "unique_tokens", "quality")
# Words in the names of what tells runs apart but is no experiment of its own: seeds,
# names, and what was measured or logged.
LABELS = frozenset(
    (
        *("seed", "seeds", "replicate", "rep", "repeat", "trial", "rng", "id", "run"),
        *("name", "url", "path", "file", "date", "time", "timestamp", "created"),
        *("host", "node", "gpu", "device", "commit", "user", "note", "notes", "tags"),
        *("comment", "seconds", "secs", "sec", "hours", "minutes", "duration", "mfu"),
        *("runtime", "loss", "ppl", "perplexity", "acc", "accuracy", "err", "error"),
        *("score", "bpb", "grad", "norm", "memory", "throughput", "flops", "flop"),
        *("step", "steps", "epoch", "index", "row", "uuid", "sha", "hash"),
        "source",
    )
)
EPOCHS = ("epochs", "n_epochs", "num_epochs", "epoch count")
MOST_LEVELS = 40
MOST_NAMED = 4


def columns(
    frame: pd.DataFrame, runs: pd.DataFrame, used: Collection[str]
) -> list[str]:
    """The unused columns that make rows of one size and budget differ.

    Args:
      frame: the table [n]; its rows that can be used.
      runs: the same rows under our names.
      used: columns of the table that are taken for something.
    """
    shared = [*SHARED, *settings.names(runs)]
    shared += [c for c in runs if str(c).startswith(settings.APART)]
    near = {c: _levels(runs[c].to_numpy(float)) for c in settings.COUNTS}
    exact, place = (_codes(rows, shared) for rows in (runs, runs.assign(**near)))
    if len(place) == len(np.unique(place)):
        return []
    found = []
    for name in frame.columns:
        if name in used or _is_label(name) or flags.is_mark(name):
            continue
        levels = pd.factorize(frame[name].map(str), use_na_sentinel=False)[0]
        count = int(levels.max(initial=-1)) + 1
        # What was measured, or names a run, hardly ever has one value twice.
        if not 2 <= count <= min(MOST_LEVELS, max(2, len(levels) // 2)):
            continue
        # Budgets are rounded to whole steps, and so to other counts in another
        # experiment. Where one has several counts they are points of its curve.
        cell = place if _number(place, levels) == _number(exact, levels) else exact
        if _number(cell, levels) > len(np.unique(cell)):
            found.append(name)
    return found


def _levels(values: Array) -> Array:
    """Codes [n] of the levels of counts; of what is no count, one of its own."""
    counts = np.isfinite(values) & (values > 0)
    codes = np.full(len(values), -1)
    codes[counts] = level_codes(values[counts], BUDGET)
    return codes


def _codes(runs: pd.DataFrame, columns: list[str]) -> Array:
    """Codes [n] of the rows that are alike in all of the columns."""
    return runs.groupby(columns, dropna=False, sort=False).ngroup().to_numpy()


def _number(one: Array, two: Array) -> int:
    """How many pairs of two codes [n] there are."""
    return len(np.unique(one * (int(two.max(initial=0)) + 1) + two))


def experiments(
    frame: pd.DataFrame, names: list[str], mapping: Mapping[str, str] | None = None
) -> Experiments | None:
    """The experiments that rows [n] are of which differ in these columns.

    Args:
      mapping: our columns that the table has, and its names for them; a column of text
        may be a missing one.
    """
    if not names:
        return None
    mapping = mapping or {}
    first = names[0]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    listed = ", ".join(names[:MOST_NAMED]) + more
    factors = [ours for ours in ("family", "corpus") if ours not in mapping]
    kind = frame[first].dtype
    text = pd.api.types.is_bool_dtype(kind) or not pd.api.types.is_numeric_dtype(kind)
    compares = "".join(
        f"{typed.mapped({ours: first})} compares its values if each is a {ours}, "
        for ours in factors
        if text
    )
    tokens = mapping.get("tokens")
    for name in names:
        if name.strip().lower() in EPOCHS and tokens and "unique_tokens" not in mapping:
            unique = typed.mapped({"unique_tokens": f"{tokens}/{name}"})
            compares += f"{unique} says that {tokens} were seen in {name}, "
    best = typed.mapped({settings.SETTING + name: name for name in names})
    apart = typed.mapped({settings.APART + name: name for name in names})
    none = typed.mapped({settings.APART + name: "" for name in names})
    return Experiments(
        options(frame, names),
        f"rows of one size and budget differ in {listed}",
        f"{compares}{best} takes the best in each cell, {apart} keeps all of them as "
        f"cells of their own and fits one law to all, {none} says that it makes no "
        "difference",
    )


def _is_label(name: str) -> bool:
    words = set(re.split(r"[\W_]+", name.strip().lower()))
    return bool(LABELS & words)
