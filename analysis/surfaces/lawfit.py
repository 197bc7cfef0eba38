"""One law on a table: its parameters, how well they are known, and its curve."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from analysis import laws
from analysis.design import factors
from analysis.design.cells import codes, counts_frame, repeated, target_frame
from analysis.fitting.fit import DELTA, Refusal
from analysis.inference import intervals
from analysis.laws import Law
from analysis.surfaces.surfaces import Fitted, determined_frame, parameters_frame
from analysis.surfaces.surfaces import fit_law as fit_surfaces
from analysis.tables.table import Table
from scaling.errors import UserError, unknown

DRAWS = 300
REFUSED = ["family", "corpus", "target", "law", "params", "reason"]


@dataclasses.dataclass(frozen=True)
class LawFit:
    """A law fitted to every family and corpus of a table, or to all of them at once.

    Attributes:
      law: its name.
      parameters: family, corpus, target, law, params (NaN unless the law is of one
        size), parameter, value, low, high, bound; "*" is all families or corpora.
      quality: how well each fit is determined; columns as in `Analysis.quality`.
      counts: what became of the usable rows of each target; as `Analysis.counts`.
      refused: family, corpus, target, law, params, reason: the fits that the design
        cannot give.
    """

    law: str
    parameters: pd.DataFrame
    quality: pd.DataFrame
    counts: pd.DataFrame
    refused: pd.DataFrame
    fits: tuple[tuple[str, Fitted], ...] = dataclasses.field(repr=False)
    names: tuple[tuple[str, ...], tuple[str, ...]] = dataclasses.field(repr=False)

    def predict(
        self,
        params: float,
        tokens: float,
        unique_tokens: float | None = None,
        quality: float = 1.0,
    ) -> pd.DataFrame:
        """Loss of the curve at a size and budget, a row a fit: loss, low, high.

        The interval is that of the curve, and not of a new run about it.

        Raises:
          UserError: a number that is not above zero.
        """
        unique = tokens if unique_tokens is None else unique_tokens
        given = {"params": params, "tokens": tokens, "unique_tokens": unique}
        for name, value in (given | {"quality": quality}).items():
            if not value > 0:
                raise UserError(name, value, "give a number above zero")
        columns = {k: np.array([float(v)]) for k, v in given.items()}
        columns["quality"] = np.array([float(quality)])
        rows = []
        for target, fitted in self.fits:
            if fitted.theta is None:
                continue
            for family, corpus in self._members(fitted):
                member = {
                    "family": codes(pd.Series([family]), self.names[0]),
                    "corpus": codes(pd.Series([corpus]), self.names[1]),
                }
                loss = fitted.law.predict(fitted.theta, columns | member)[:, 0]
                low, high = intervals.interval(loss[1:, None])
                head = fitted.head(target) | {"family": family, "corpus": corpus}
                at = {"params": params, "tokens": tokens}
                found = {"loss": float(loss[0]), "low": low[0], "high": high[0]}
                rows.append(head | at | found)
        return pd.DataFrame(rows)

    def _members(self, fitted: Fitted) -> list[tuple[str, str]]:
        if fitted.family != "*":
            return [(fitted.family, fitted.corpus)]
        return [(a, d) for a in self.names[0] for d in self.names[1]]


def fit_law(
    table: Table,
    law: str = "chinchilla",
    draws: int = DRAWS,
    seed: int = 0,
    delta: float = DELTA,
    bootstrap: str = "wild",
) -> LawFit:
    """Fits one law, by its name, to all usable rows of a table.

    Args:
      table: from `analysis.load`.
      law: a file of analysis/laws, or one that was included.
      draws: bootstrap draws behind every interval.
      seed: keys the draws and the random starts.
      delta: Huber's threshold in log loss; infinity is least squares.
      bootstrap: "wild" or "pairs"; see analysis/intervals.py.

    Raises:
      UserError: unknown law, draws or delta out of range.
    """
    check(law)
    if draws < 40:
        raise UserError("draws", draws, "give at least 40; a 95% interval needs them")
    if not delta > 0:
        raise UserError("delta", delta, "give a number above zero, or inf")
    columns = _columns(law, table)
    if "quality" not in columns:
        table, _ = factors.fold(table, ("damage",))
    fits: list[tuple[str, Fitted]] = []
    counts = []
    for target in table.targets:
        frame = target_frame(table, target)
        again = repeated(frame) & ("unique_tokens" not in columns)
        if again.all():
            continue
        data = intervals.sample(frame[~again])
        drawn = intervals.draw(data, draws, seed, bootstrap)
        seen = data.frame.run_id[drawn.chosen > 0]
        counts.append(counts_frame(frame, seen, again, np.zeros_like(again), target))
        fits += [(target, one) for one in fit_surfaces(law, drawn, delta, seed)]
    return LawFit(
        law=law,
        parameters=_joined([parameters_frame([one], target) for target, one in fits]),
        quality=_joined([determined_frame([one], target) for target, one in fits]),
        counts=_joined(counts),
        refused=_refused(fits),
        fits=tuple(fits),
        names=_names(table),
    )


def _columns(law: str, table: Table) -> tuple[str, ...]:
    """What a law reads of the table's runs."""
    families, corpora = _names(table)
    levels = {"family": families, "corpus": corpora}
    bound: Law = laws.load(law).bind(levels, {"params": 0.0, "tokens": 0.0})
    return bound.columns


def _names(table: Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Families and corpora of the runs that have a loss."""
    known = table.runs[table.runs.run_id.isin(table.readings.run_id)]
    return tuple(sorted(known.family.unique())), tuple(sorted(known.corpus.unique()))


def check(law: str) -> None:
    """Raises UserError, with the known names, where `law` is none of them."""
    if law not in laws.names():
        raise unknown("law", law, laws.names())


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if not part.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _refused(fits: list[tuple[str, Fitted]]) -> pd.DataFrame:
    rows = [
        one.head(target) | {"reason": one.outcome.reason}
        for target, one in fits
        if isinstance(one.outcome, Refusal)
    ]
    return pd.DataFrame(rows, columns=REFUSED)
