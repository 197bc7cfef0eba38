"""One experiment of several: which runs are fitted where a table holds different ones.

Runs at two contexts, or of two evaluations, follow two laws, and one law through both
is wrong for each. So one experiment is fitted, the one with most runs; every run of
another is left out with the option that fits it instead. Where no experiment is a
design of its own (shapes of nearly one size, or one budget), all are kept, as cells
apart: of one experiment alone no law could be fitted, and fewer cells compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.design import levels
from analysis.formatting import joined
from analysis.laws import Array
from analysis.tables import typed
from analysis.tables.exclusions import excluded

# As many sizes and as many budgets as a law needs.
LEAST = 3
MOST_NAMED = 4
# Where more than this share is left out, the reader is asked which runs are meant.
MOST_LEFT = 0.5


@dataclasses.dataclass(frozen=True)
class Experiments:
    """Which experiment each run is of.

    Attributes:
      options: [n] the options that keep its experiment alone, as one types them; one
        experiment has one text.
      differ: in what the runs of one size and budget differ, as the warning begins.
      instead: what else may be done about it.
    """

    options: Array
    differ: str
    instead: str


def options(frame: pd.DataFrame, names: Sequence[str]) -> Array:
    """Of each row [n] the conditions that keep its experiment alone."""
    texts = [_conditions(frame[name], name) for name in names]
    return np.array([" ".join(some) for some in zip(*texts, strict=True)], dtype=object)


def _conditions(column: pd.Series, name: str) -> list[str]:
    codes, values = pd.factorize(column.map(str, na_action="ignore"))
    known = [typed.condition(name, str(value).strip()) for value in values]
    return [known[code] if code >= 0 else typed.condition(name, "") for code in codes]


def others(
    runs: pd.DataFrame, readings: pd.DataFrame, found: Experiments | None
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """On each target, the runs of other experiments than the largest; what to say.

    The largest has most usable runs; of two alike the one with more compute counts.

    Args:
      readings: those that could be fitted: target and place, of the run.

    Returns exclusions; a warning where there is more than one experiment; and the same
    as a question to the reader instead, where most of the runs are left out.
    """
    left = [excluded([], [])]
    said: dict[str, str] = {}
    if found is not None:
        for target, part in readings.groupby("target", sort=False):
            mine = runs.iloc[part.place].assign(option=found.options[part.place])
            out, text = _others(mine, str(target), found)
            left.append(out)
            said |= {text: str(target)} if text and text not in said else {}
    texts = [f"on target {target} {text}" for text, target in said.items()]
    texts = list(said) if len(said) == 1 else texts
    exclusions = pd.concat(left, ignore_index=True)
    if len(exclusions) <= MOST_LEFT * len(readings):
        return exclusions, tuple(texts), ()
    lost = f"Most of the runs are left out ({len(exclusions)} of {len(readings)})"
    return exclusions, (), tuple(f"{lost}: {text}." for text in texts)


def _others(
    mine: pd.DataFrame, target: str, found: Experiments
) -> tuple[pd.DataFrame, str]:
    """Of one target's runs those of other experiments, and the warning."""
    sums = mine.groupby("option", sort=False).agg(
        rows=("run_id", "size"), flops=("flops", "sum")
    )
    if len(sums) < 2:
        return excluded([], []), ""
    sums = sums.sort_values(["rows", "flops"], ascending=False, kind="stable")
    first, rest = sums.index[0], sums.index[1:]
    if not _is_design(mine[mine.option == first], mine):
        text = (
            f"{found.differ}: they are taken for different experiments, and not for "
            "seeds, and no experiment alone has the sizes and budgets that a law "
            f"needs, so that all are kept, as cells of their own; {first} keeps one of "
            f"them, {found.instead}"
        )
        return excluded([], []), text
    out = mine[mine.option != first]
    reasons = "of another experiment: " + out.option + " fits it instead"
    left = [f"{option} ({sums.rows[option]} runs)" for option in rest[:MOST_NAMED]]
    more = len(rest) - len(left)
    left += [f"{more} more"] if more else []
    text = (
        f"{found.differ}: they are taken for different experiments, and not for seeds; "
        f"the largest is fitted ({sums.rows[first]} runs, {first}), and left out are "
        f"{joined(left)}; {found.instead}"
    )
    return excluded(out.run_id.to_numpy(), reasons.to_numpy(), target), text


def whole_runs(left: pd.DataFrame, used: pd.DataFrame) -> pd.DataFrame:
    """Exclusions, where a run that no target uses is left out once, of all of them."""
    gone = ~left.run_id.isin(used.run_id)
    left = left.assign(target=left.target.mask(gone, ""))
    return left.drop_duplicates(["run_id", "target"], ignore_index=True)


def _is_design(one: pd.DataFrame, all_: pd.DataFrame) -> bool:
    """Whether an experiment alone has the sizes and budgets to fit a law to."""
    sizes = levels.count(all_.params.to_numpy(float))
    # Of one size alone its curve over budgets can be fitted; of one budget nothing.
    least = {"params": min(LEAST, sizes), "tokens": LEAST}
    return all(levels.count(one[n].to_numpy(float)) >= k for n, k in least.items())
