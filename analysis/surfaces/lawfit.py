"""One law on a table: its parameters, how well they are known, and its curve."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from etils import epath

from analysis import laws, schema
from analysis.design import factors
from analysis.design.cells import counts_frame, repeated, target_frame
from analysis.design.references import beside
from analysis.fitting.fit import DELTA, Refusal
from analysis.inference import intervals
from analysis.inference.intervals import Draws
from analysis.laws import Array, Law
from analysis.laws.joint import NEEDS
from analysis.schema import stacked
from analysis.surfaces import backtests, mixture, places
from analysis.surfaces.mixture import Mixture
from analysis.surfaces.surfaces import Fitted, determined_frame, parameters_frame
from analysis.surfaces.surfaces import fit_law as fit_surfaces
from analysis.tables.table import Table
from scaling.errors import UserError, unknown
from scaling.writing import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWS = 300
# A law of less weight is not counted among those that the runs do not rule out.
COUNTED = 0.01
REFUSED = ["family", "corpus", "target", "law", "params", "reason"]
# The frames of a LawFit, and those of them whose columns a question declares.
MEANINGS = {
    "parameters": "The law's parameters with 95% intervals.",
    "quality": "How well each fit is determined.",
    "counts": "What became of the rows with a usable loss.",
    "refused": "Fits that the design cannot give, and why.",
}
DECLARED = {"parameters": "fits", "quality": "quality", "counts": "counts"}


@dataclasses.dataclass(frozen=True)
class How:
    """What the fits were made with, by target, and the laws that predict with them.

    Attributes:
      mixed: by target, the laws of size and data for each family and corpus.
      alone: other laws by themselves, by target, family, corpus and size.
    """

    draws: Mapping[str, Draws]
    delta: float
    seed: int
    mixed: dict[str, dict[tuple[str, str], Mixture]] = dataclasses.field(
        default_factory=dict
    )
    alone: dict[tuple[str, str, str, str], Mixture] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True, repr=False)
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
    how: How = dataclasses.field(repr=False)

    def predict(
        self,
        params: float | Array | pd.DataFrame,
        tokens: float | Array | None = None,
        unique_tokens: float | Array | None = None,
        quality: float | Array = 1.0,
    ) -> pd.DataFrame:
        """Loss at sizes and budgets: a row for each fit and place.

        Args:
          params, tokens: a number or an array each, of one shape; or one frame with
            columns params and tokens, and unique_tokens and quality where the law
            reads them. Its columns family and corpus, if any, say which fit each row
            asks for; by default all are asked.
          unique_tokens, quality: the same, for laws that read them.

        Returns, beside what names the fit (fitted_params is the size of a law of one
        size, of which the nearest answers) and the place:
          loss: of this law's curve.
          expected: of all laws together that the runs do not rule out; `laws` says how
            many those are. See analysis/surfaces/mixture.py.
          low, high: 95% interval of a new run, about `expected`. It holds what is
            unknown of the curve, a run's own noise, how far the laws differ, and how
            much further off they were on runs that were held out than they claimed.
          curve_low, curve_high: of this law's curve alone.
          beyond: where the place lies outside the fitted runs, and by how much; "" in
            their range.

        Raises:
          UserError: a number that is not above zero, arrays of unlike shapes, a frame
            without its columns, a family or corpus that was not fitted.

        >>> fit.predict(params=1e8, tokens=[2e9, 2e10]).loss.round(2).tolist()
        [3.27, 2.79, 3.09, 2.7]
        """
        asked = places.asked(params, tokens, unique_tokens, quality)
        places.check_known(asked, *self.names)
        parts = []
        for target, fitted in self.fits:
            if fitted.theta is None:
                continue
            for family, corpus in self.members(target, fitted):
                at = places.of(asked, family, corpus)
                if np.isfinite(fitted.params):  # a law of one size
                    at = at[self._nearest(target, fitted, at)]
                if len(at):
                    found = self._predicted(target, fitted, family, corpus, at)
                    parts.append(found)
        return stacked(parts)

    def summary(self) -> list[str]:
        """Each fit's parameters with their intervals, and what could not be fitted.

        Returns:
          A sentence an entry.

        >>> len(fit.summary()) > 1
        True
        """
        from analysis.report import law_fit

        return law_fit.summary(self)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Percentile intervals of the parameters over the bootstrap draws.

        Args:
          alpha: 1 less the coverage: 0.05 gives 95% intervals.

        Returns:
          family, corpus, target, law, params, parameter, low, high; NaN where fewer
          than 20 draws could identify the law.

        Raises:
          UserError: alpha not between 0 and 1.

        >>> ends = fit.conf_int().query("family == 'lstm' and parameter == 'beta'")
        >>> ends[["low", "high"]].round(2).to_numpy().tolist()
        [[0.28, 0.28]]
        """
        if not 0 < alpha < 1:
            raise UserError("alpha", alpha, "give a number between 0 and 1, as 0.05")
        parts = []
        for target, fitted in self.fits:
            if fitted.theta is not None:
                drawn = fitted.law.natural(fitted.theta[1:])
                low, high = intervals.interval(drawn, 1 - alpha)
                ends = {"parameter": fitted.law.names, "low": low, "high": high}
                parts.append(pd.DataFrame(fitted.head(target) | ends))
        return stacked(parts)

    def to_frame(self, name: str = "parameters") -> pd.DataFrame:
        """A copy of one frame.

        Args:
          name: parameters, quality, counts or refused.

        Returns:
          The frame; its columns are what `describe(name)` says.

        Raises:
          UserError: no frame of that name.

        >>> fit.to_frame("refused").empty
        True
        """
        if name not in MEANINGS:
            raise unknown("frame", name, list(MEANINGS))
        return getattr(self, name).copy()

    def describe(self, name: str | None = None) -> pd.DataFrame:
        """What a frame's columns mean, or, without a name, what the frames are.

        Args:
          name: parameters, quality, counts or refused.

        Returns:
          column, unit, meaning; or frame, rows, meaning.

        Raises:
          UserError: no frame of that name.

        >>> fit.describe("counts").column.tolist()[:2]
        ['target', 'usable']
        """
        if name is None:
            every = [(n, len(self.to_frame(n)), text) for n, text in MEANINGS.items()]
            return pd.DataFrame(every, columns=["frame", "rows", "meaning"])
        frame = self.to_frame(name)
        known = schema.frames()
        declared = known[DECLARED.get(name, "fits")].columns
        meanings = {column.name: (column.unit, column.meaning) for column in declared}
        meanings["reason"] = ("", "what the design lacks")
        columns = [(column, *meanings[column]) for column in frame]
        return pd.DataFrame(columns, columns=["column", "unit", "meaning"])

    def plot(self, target: str | None = None) -> Figure:
        """Runs and fitted curves with 95% bands, as a matplotlib Figure.

        Args:
          target: the evaluation set; the first one by default.

        Returns:
          A new figure, to show or to change.

        Raises:
          UserError: no such target, or no law that could be fitted to it.

        >>> len(fit.plot().axes)
        2
        """
        from analysis.report import law_fit

        return law_fit.plot(self, target)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all of it as JSON, from which `analysis.read` gives it back.

        Args:
          path: of the file, local or gs://.

        >>> fit.save("fit.json")
        >>> analysis.read("fit.json").law
        'chinchilla'
        """
        from analysis.report import law_fit, saved

        write_atomic(epath.Path(path), saved.dumped(law_fit.to_json(self)))

    def __repr__(self) -> str:
        fitted = sum(one.theta is not None for _, one in self.fits)
        targets = ", ".join(dict.fromkeys(target for target, _ in self.fits))
        return (
            f"<LawFit {self.law!r}: {fitted} fits, {len(self.refused)} refused, "
            f"targets {targets}; print it for the parameters>"
        )

    def __str__(self) -> str:
        return "\n".join(f"- {sentence}" for sentence in self.summary())

    def _repr_html_(self) -> str:
        from analysis.report import law_fit

        return law_fit.in_notebook(self)

    def _nearest(self, target: str, fitted: Fitted, at: pd.DataFrame) -> Array:
        """Marks the places [k] to whose size no other fit of its kind is nearer."""
        head = (target, fitted.family, fitted.corpus)
        sizes = [
            one.params
            for name, one in self.fits
            if (name, one.family, one.corpus) == head and one.theta is not None
        ]
        off = np.abs(np.log(np.divide.outer(at.params.to_numpy(), np.array(sizes))))
        return np.array(sizes)[off.argmin(axis=1)] == fitted.params

    def _predicted(
        self, target: str, fitted: Fitted, family: str, corpus: str, at: pd.DataFrame
    ) -> pd.DataFrame:
        """One fit at the places [k], for one family and corpus."""
        columns = {name: at[name].to_numpy(np.float64) for name in places.NUMBERS}
        names = backtests.names(self.how.draws[target])
        for name, level, known in zip(
            places.LEVELS, (family, corpus), names, strict=True
        ):
            columns[name] = np.full(len(at), known.index(level))
        assert fitted.theta is not None
        curve = fitted.law.predict(fitted.theta, columns)
        curve_low, curve_high = intervals.interval(curve[1:])
        mixed = self._mixed(target, fitted, family, corpus)
        together = mixed.at(columns, max(len(curve) - 1, 1), self.how.seed)
        low, high = intervals.interval(together.run)
        head = fitted.head(target) | {"family": family, "corpus": corpus}
        head["fitted_params"] = head.pop("params")
        shown = [name for name in places.NUMBERS if name in fitted.columns]
        fields = {name: columns[name] for name in ("params", "tokens", *shown)}
        fields |= {"loss": curve[0], "expected": together.point}
        fields |= {"low": low, "high": high}
        fields |= {"curve_low": curve_low, "curve_high": curve_high}
        fields |= {"laws": (together.weights > COUNTED).sum(axis=0)}
        fields |= {"beyond": places.beyond(fitted, columns)}
        return pd.DataFrame(head | fields)

    def _mixed(self, target: str, fitted: Fitted, family: str, corpus: str) -> Mixture:
        """The laws that predict together; found once for each target."""
        draws, delta, seed = self.how.draws[target], self.how.delta, self.how.seed
        reads = set(fitted.law.columns)
        if "params" in reads and reads <= mixture.SIZE_AND_DATA:
            if target not in self.how.mixed:
                fits = [one for name, one in self.fits if name == target]
                self.how.mixed[target] = mixture.of_pairs(fits, draws, delta, seed)
            found = self.how.mixed[target].get((family, corpus))
            if found is not None:
                return found
        key = (target, family, corpus, f"{fitted.params:g}")
        if key not in self.how.alone:
            self.how.alone[key] = mixture.alone(
                fitted, draws, family, corpus, delta, seed
            )
        return self.how.alone[key]

    def members(self, target: str, fitted: Fitted) -> list[tuple[str, str]]:
        """The families and corpora that a fit speaks of.

        Args:
          target, fitted: of an entry of `fits`.

        Returns:
          Pairs of a family and a corpus; all of them for the law of all.

        >>> fit.members(*fit.fits[0])
        [('lstm', 'all')]
        """
        if fitted.family != "*":
            return [(fitted.family, fitted.corpus)]
        families, corpora = backtests.names(self.how.draws[target])
        return [(a, d) for a in families for d in corpora]


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

    Returns:
      The law of every family and corpus, or the one of all of them.

    Raises:
      UserError: unknown law, draws or delta out of range.

    >>> analysis.fit_law(table, "power", draws=40)
    <LawFit 'power': 8 fits, 0 refused, targets loss; print it for the parameters>
    """
    check(law)
    intervals.check_draws(draws)
    if not delta > 0:
        raise UserError("delta", delta, "give a number above zero, or inf")
    columns = _columns(law, table)
    if "quality" not in columns:
        table, _ = factors.fold(table, ("damage",))
    fits: list[tuple[str, Fitted]] = []
    counts, drawn = [], {}
    for target in table.targets:
        frame = target_frame(table, target)
        again = repeated(frame) & ("unique_tokens" not in columns)
        if again.all():
            continue
        # A law at one size needs no ladder of sizes.
        aside = beside(frame, again, NEEDS) & ("params" in columns)
        data = intervals.sample(frame[~again & ~aside])
        drawn[target] = intervals.draw(data, draws, seed, bootstrap)
        seen = data.frame.run_id[drawn[target].chosen > 0]
        none = np.zeros_like(again)
        counts.append(counts_frame(frame, seen, aside, again, none, target))
        fits += [(target, one) for one in fit_surfaces(law, drawn[target], delta, seed)]
    return LawFit(
        law=law,
        parameters=stacked([parameters_frame([one], target) for target, one in fits]),
        quality=stacked([determined_frame([one], target) for target, one in fits]),
        counts=stacked(counts),
        refused=_refused(fits),
        fits=tuple(fits),
        names=_names(table),
        how=How(drawn, delta, seed),
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


def _refused(fits: list[tuple[str, Fitted]]) -> pd.DataFrame:
    rows = [
        one.head(target) | {"reason": one.outcome.reason}
        for target, one in fits
        if isinstance(one.outcome, Refusal)
    ]
    return pd.DataFrame(rows, columns=REFUSED)
