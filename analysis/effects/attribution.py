"""Why one run is better than another: the gap in loss, shared among its causes.

Two runs may differ in architecture, corpus, parameters and tokens at once. The joint
law says what the loss would be at each of the sixteen mixtures of the two, and Shapley
values share the gap: each factor gets what it changes, averaged over all orders in
which the factors could have been exchanged. What the law does not predict of the two
losses stands as unexplained.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.design import factors
from analysis.design.cells import repeated, target_frame
from analysis.design.references import references
from analysis.effects.data_equivalents import Surface
from analysis.effects.shapley import FACTORS, shapley
from analysis.fitting.fit import DELTA
from analysis.formatting import interval_text, joined, number
from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.laws.joint import NEEDS
from analysis.surfaces.surfaces import Surfaces, joint_surfaces
from analysis.tables.table import Table
from scaling.errors import UserError

NAMES = ("family", "corpus", "params", "tokens")
DRAWS = 200


def shares(surface: Surface, baseline: pd.Series, alternative: pd.Series) -> Array:
    """What each of FACTORS adds to the loss from baseline to `alternative`, [B, 4].

    Rows add up to the surface's loss at `alternative` less that at the baseline.

    Args:
      baseline, alternative: family, corpus, params and tokens of the two.
    """

    def loss(exchanged: frozenset[int]) -> Array:
        family, corpus, params, tokens = (
            (alternative if k in exchanged else baseline)[name]
            for k, name in enumerate(NAMES)
        )
        return surface(family, corpus, np.array([params]), np.array([tokens]))[:, 0]

    return shapley(loss, len(NAMES))


def attribute(
    table: Table,
    baseline: str,
    alternative: str,
    draws: int = DRAWS,
    seed: int = 0,
    delta: float = DELTA,
    bootstrap: str = "wild",
) -> pd.DataFrame:
    """The gap between two runs on every target, by cause.

    Args:
      baseline, alternative: one run each, named as `find_run` reads it.
      draws: bootstrap draws behind the intervals.
      bootstrap: how they are drawn; see analysis/intervals.py.

    Returns:
      target; baseline and alternative (run ids); factor ("architecture", "corpus",
      "params", "tokens", "unexplained", "total"); nats (negative: `alternative` is
      better for it), low, high; share (of the total measured gap).

    Raises:
      UserError: no such run, several, a run that repeats its data or has no loss, or a
        table whose joint law cannot be fitted.
    """
    table, _ = factors.fold(table)
    ids = find_run(table, "from", baseline), find_run(table, "to", alternative)
    parts = []
    for target in table.targets:
        frame = target_frame(table, target)
        found = frame[frame.run_id.isin(ids)].set_index("run_id")
        if set(ids) <= set(found.index):
            how = (draws, seed, delta, bootstrap)
            parts.append(_attributed(frame, found, ids, target, *how))
    if not parts:
        expected = "two runs with a usable loss on the same target"
        raise UserError("from, to", ", ".join(ids), expected)
    return pd.concat(parts, ignore_index=True)


def find_run(table: Table, option: str, name: str) -> str:
    """The id of the one run that `name` means.

    Args:
      option: what the name was given as, for the error.
      name: a run id, a beginning that one run alone has, or "column=value" pairs joined
        by commas, which one run alone fulfils: "family=lstm,params=1.2e6".

    Raises:
      UserError: no run, several, or a column that the runs do not have.
    """
    known = table.runs
    if name in set(known.run_id):
        return name
    if "=" in name:
        found = known[_fulfil(table, option, name)].run_id
    else:
        found = known.run_id[known.run_id.str.startswith(name)]
    if len(found) == 1:
        return str(found.iloc[0])
    some = ", ".join((found if len(found) else known.run_id).head(5))
    way = "its id, a beginning of it, or pairs such as family=NAME,tokens=COUNT"
    said = f"{len(found)} runs fit" if len(found) else "no run fits"
    raise UserError(option, name, f"{said}; name one run by {way}; such as {some}")


def _fulfil(table: Table, option: str, name: str) -> pd.Series:
    """Marks the runs with all of the named values; numbers to the digits given."""
    known = table.runs
    kept = pd.Series(True, index=known.index)
    for pair in name.split(","):
        column, equals, value = (part.strip() for part in pair.partition("="))
        # The table's own word for a column will do.
        ours = {theirs: mine for mine, theirs in table.mapping.items()}
        column = column if column in known else ours.get(column, column)
        if not equals or column not in known:
            columns = ", ".join(str(c) for c in known if known[c].notna().any())
            raise UserError(option, pair, f"write column=value with one of {columns}")
        if pd.api.types.is_numeric_dtype(known[column]):
            try:
                number = float(value)
            except ValueError as error:
                wanted = f"a number for {column}"
                raise UserError(option, pair, wanted) from error
            kept &= np.isclose(known[column], number, rtol=1e-3, atol=0.0)
        else:
            kept &= known[column].astype(str) == value
    return kept


def _attributed(
    frame: pd.DataFrame,
    found: pd.DataFrame,
    ids: tuple[str, str],
    target: str,
    draws: int,
    seed: int,
    delta: float,
    bootstrap: str,
) -> pd.DataFrame:
    """One target's part of `attribute`."""
    again = repeated(frame)
    for run_id in ids:
        if frame[again].run_id.eq(run_id).any():
            expected = "a run that reads its data once; the law knows no repetition"
            raise UserError("run", run_id, expected)
    known = references(frame[~again], NEEDS)
    for family in found.family:
        if family in known:
            expected = f"a run of a family that the law fits; {family} is a "
            raise UserError("run", family, expected + known[family])
    seen = frame[~again & ~frame.family.isin(known)]
    surfaces: Surfaces = joint_surfaces(seen, draws, seed, delta, bootstrap)
    one, two = (found.loc[run_id] for run_id in ids)
    drawn = shares(surfaces.of_joint, one, two)
    if np.isnan(drawn[0]).any():
        expected = f"a table whose joint law can be fitted on target {target}"
        raise UserError("table", "refused", expected)
    gap = float(two.loss - one.loss)
    left = gap - drawn.sum(axis=1, keepdims=True)
    every = np.concatenate([drawn, left, np.full((len(drawn), 1), gap)], axis=1)
    low, high = interval(every[1:])
    return pd.DataFrame(
        {
            "target": target,
            "baseline": ids[0],
            "alternative": ids[1],
            "factor": [*FACTORS, "unexplained", "total"],
            "nats": every[0],
            "low": low,
            "high": high,
            "share": every[0] / gap + 0.0 if gap else np.nan,
        }
    )


def sentences(frame: pd.DataFrame, unit: str) -> list[str]:
    """The gap between two runs, a sentence a target; rows of attribution.attribute."""
    sentences = []
    for target, rows in frame.groupby("target", sort=False):
        by = rows.set_index("factor")
        gap = by.loc["total"]
        causes = by.drop("total").sort_values("nats", key=abs, ascending=False)
        said = joined(
            f"{factor} {number(row.nats)} ({interval_text(row.low, row.high)})"
            for factor, row in causes.iterrows()
        )
        sentences.append(
            f"On {target}, {gap.alternative} less {gap.baseline} is "
            f"{number(gap.nats)} {unit}: "
            f"{said}."
        )
    return sentences
