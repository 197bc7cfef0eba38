"""What questions are asked of: the runs of a target, the laws fitted to them, and all.

Numbers that several questions stand on are made here once, when the first of them asks.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd

from analysis.design.cells import (
    cells_frame,
    largest,
    points,
    repeated,
    target_frame,
)
from analysis.design.references import references
from analysis.design.swaps import Described, Swap, swaps
from analysis.effects import data_equivalents, frontier, matched_cells
from analysis.effects.data_equivalents import Equivalents, LogFactors
from analysis.effects.frontier import Frontier, Rate
from analysis.effects.matched_cells import Matches
from analysis.fitting.fit import Refusal
from analysis.inference import intervals, seeds
from analysis.inference.intervals import Sample
from analysis.inference.likelihood import Likelihood
from analysis.inference.seeds import Noise
from analysis.laws import Array
from analysis.laws.joint import NEEDS
from analysis.results import Analysis
from analysis.surfaces.nested import Leading, likelihood_of
from analysis.surfaces.surfaces import Surfaces
from analysis.tables.table import Table


@dataclasses.dataclass(frozen=True)
class Measured:
    """The runs of one target as they were measured, before any law is fitted.

    Attributes:
      table: with its other factors folded into families and corpora.
      described: what the levels of these are made of; see design/swaps.py.
      hold_out: whether the largest cells are to be set aside.
      seed: keys every draw.
    """

    table: Table
    described: Described
    target: str
    hold_out: bool
    seed: int

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """Every run with a usable loss [n], a row a run; see `target_frame`."""
        return target_frame(self.table, self.target)

    @functools.cached_property
    def references(self) -> dict[str, str]:
        """The families that are compared with and fitted by no law, with the reason."""
        return references(self.frame[~self.repeats], NEEDS)

    @functools.cached_property
    def beside(self) -> Array:
        """Marks the runs [n] of these families."""
        return self.frame.family.isin(self.references).to_numpy()

    @functools.cached_property
    def sample(self) -> Sample:
        """The runs of all other families."""
        return intervals.sample(self.frame[~self.beside])

    @functools.cached_property
    def cells(self) -> pd.DataFrame:
        """One row a cell, at its best setting, without those of references."""
        return cells_frame(self.sample, self.target)

    @functools.cached_property
    def repeats(self) -> Array:
        """Marks the runs [n] that read some data more than once."""
        return repeated(self.frame)

    @functools.cached_property
    def _withheld(self) -> Array:
        """Marks the runs [n] that a study withholds until they are predicted."""
        cells = (cell for one in self.table.promises for cell in one.withheld)
        runs = {run for _, members in cells for run in members}
        return self.frame.run_id.isin(runs).to_numpy()

    @functools.cached_property
    def aside(self) -> Array:
        """Marks the runs [n] that are set aside before fitting and predicted."""
        if self._withheld.any() or not self.hold_out:
            return ~self.repeats & self._withheld
        out = np.zeros(len(self.frame), bool)
        once = ~self.repeats & ~self.beside
        out[once] = largest(self.frame[once])
        return out

    @property
    def why_aside(self) -> str:
        return "withheld by the study" if self._withheld.any() else "largest cell"

    @functools.cached_property
    def once(self) -> pd.DataFrame:
        """The runs that read no data twice, those set aside included; no references."""
        return self.frame[~self.repeats & ~self.beside]

    @functools.cached_property
    def fitted(self) -> pd.DataFrame:
        """The runs that laws are fitted to; empty where every run repeats its data."""
        return self.frame[~self.repeats & ~self.beside & ~self.aside]

    @functools.cached_property
    def seen(self) -> pd.DataFrame:
        """Those of `fitted` at their cell's best setting, with `cell`."""
        return _best(self.fitted) if len(self.fitted) else self.fitted

    @functools.cached_property
    def seeds(self) -> pd.DataFrame:
        """The spread between the seeds of every one-epoch cell."""
        return matched_cells.noise_frame(_best(self.once), self.target)

    @functools.cached_property
    def noise(self) -> Noise:
        return seeds.of(self.seeds, self.seed)

    @functools.cached_property
    def matched(self) -> pd.DataFrame:
        """One-epoch cells: one a family, corpus, level, budget and experiment."""
        return matched_cells.of_experiments(self.once, self.target)

    @functools.cached_property
    def places(self) -> pd.DataFrame:
        """Of these, one for each family, corpus, size level and budget."""
        return matched_cells.one_a_place(self.matched)

    def document_se(self, one: str, two: str) -> float:
        """Standard error of the difference of two runs' losses over documents, nats."""
        return matched_cells.document_se(self.table, self.target, one, two)


def _best(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs at their cell's best setting, with `cell`."""
    data = intervals.sample(frame)
    weights = intervals.select(data, np.ones((1, data.loss.size)))[0]
    return data.frame.assign(cell=data.cell)[weights > 0]


@dataclasses.dataclass(frozen=True)
class Asked:
    """One target with every law fitted to its runs.

    Attributes:
      surfaces: every law, fitted under the same draws.
      leading: the law that effects are reported by.
      delta: Huber's threshold of the fits.
    """

    measured: Measured
    surfaces: Surfaces
    leading: Leading
    delta: float

    @property
    def target(self) -> str:
        return self.measured.target

    @property
    def seed(self) -> int:
        return self.measured.seed

    @property
    def chosen(self) -> Surfaces:
        """The surfaces with the law that leads as the joint one."""
        return self.leading.surfaces

    @property
    def method(self) -> str:
        """What effects by the law that leads are called in `method` of frames."""
        return "joint" if self.leading.plain else "preferred"

    @functools.cached_property
    def likelihood(self) -> Likelihood | None:
        """Of the law that leads; None where it was refused."""
        joint = self.chosen.joint
        if isinstance(joint.outcome, Refusal):
            return None
        return likelihood_of(joint, self.chosen.draws, self.delta)

    @functools.cached_property
    def points(self) -> list[tuple[float, float]]:
        """The (N, D) that effects are given at."""
        return points(self.measured.once)

    @functools.cached_property
    def covered(self) -> set[tuple[float, float]]:
        """The points at which no effect is an extrapolation."""
        return data_equivalents.covered(self.points, self.surfaces.data.frame)

    def within(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with `fitted`: no extrapolation, at its own point or over all."""
        if frame.empty:
            return frame
        at = zip(frame.params, frame.tokens, strict=True)
        inner = [np.isnan(p) or (p, t) in self.covered for p, t in at]
        return frame.assign(fitted=inner)

    @functools.cached_property
    def _first(self) -> Equivalents:
        return Equivalents(self.chosen.of_joint, self.points)

    @functools.cached_property
    def _alone(self) -> Equivalents:
        return Equivalents(self.surfaces.of_single, self.points)

    @functools.cached_property
    def swaps(self) -> list[Swap]:
        """Every swap, in the direction that helps."""
        families, corpora = self.surfaces.families, self.surfaces.corpora
        every = swaps(families, corpora, self.measured.described)
        gains = data_equivalents.gains
        return gains(self._first, gains(self._alone, every))

    @functools.cached_property
    def logs(self) -> LogFactors:
        """ln M_D of each swap by the law that leads."""
        return data_equivalents.log_factors(self._first, self.swaps)

    @functools.cached_property
    def logs_alone(self) -> LogFactors:
        """The same by the laws of each family and corpus alone."""
        return data_equivalents.log_factors(self._alone, self.swaps)

    @functools.cached_property
    def worth(self) -> pd.DataFrame:
        """Data-equivalents by the law that leads."""
        return data_equivalents.equivalents_frame(
            self.logs, self.points, self.target, self.method
        )

    @functools.cached_property
    def matched(self) -> Matches:
        """The matched cells of each swap."""
        return matched_cells.matches(self.measured.matched, self.swaps)

    @functools.cached_property
    def rate(self) -> Rate:
        """Training FLOPs per parameter and token of each family."""
        return frontier.flop_rate(self.measured.once)

    @functools.cached_property
    def comparable(self) -> list[str]:
        """The families that are compared at equal compute."""
        return frontier.comparable(self.surfaces.data.frame)

    @functools.cached_property
    def frontiers(self) -> dict[str, Frontier]:
        """The lowest loss at each compute, by method: the law that leads, and alone."""
        fitted = self.surfaces.data.frame
        sizes = (float(fitted.params.min()), float(fitted.params.max()))
        spent = fitted.flops[fitted.family.isin(self.comparable)]
        reach = float(spent.min()), frontier.computes(fitted)[-1]
        return {
            name: Frontier(surface, self.rate, sizes, reach)
            for name, surface in (
                (self.method, self.chosen.of_joint),
                ("family", self.surfaces.of_single),
            )
        }


def _nothing() -> pd.Series:
    return pd.Series(dtype=object)


@dataclasses.dataclass(frozen=True)
class Whole:
    """All targets, once each of them is answered.

    Attributes:
      table: with its other factors folded into families and corpora.
      analysis: what was answered, so far.
      unlisted: run_id of the rows of the table that no frame names.
      seed: keys every draw.
    """

    table: Table
    analysis: Analysis
    unlisted: pd.Series = dataclasses.field(
        default_factory=lambda: pd.Series(dtype=str)
    )
    seed: int = 0
