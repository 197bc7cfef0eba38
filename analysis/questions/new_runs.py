"""What a run that nobody has done yet would end at, and how surely.

Three uncertainties add up: of the curve (the bootstrap draws of a law), of a run about
it (what the law leaves over, each trajectory left out of the fit) and of the law (all
laws of size and data that the runs identify, each by what it was worth on their largest
sizes; see holdout.py). The last hardly shows inside the runs and leads far outside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.inference.intervals import Draws, mixture, new_run
from analysis.laws import Array
from analysis.questions import holdout
from analysis.questions.holdout import Candidate
from analysis.surfaces.surfaces import Fitted, Surfaces, fit_joint, fit_one

# What a law of the mixture may read.
SIZE_AND_DATA = {"params", "tokens", "family", "corpus"}


@dataclasses.dataclass(frozen=True)
class Mixed:
    """Laws that predict together, and the weight of each."""

    laws: Sequence[Candidate]
    weights: Array

    @property
    def counted(self) -> int:
        """How many laws have a weight to speak of."""
        return int((self.weights > 0.01).sum())

    def runs(self, columns: Mapping[str, Array], draws: int, seed: int) -> Array:
        """Draws [B, k] of the loss of a new run at each of k places."""
        drawn = [self._runs(one, columns, draws, seed) for one in self.laws]
        return mixture(np.stack(drawn), self.weights, seed)

    @staticmethod
    def _runs(
        one: Candidate, columns: Mapping[str, Array], draws: int, seed: int
    ) -> Array:
        assert one.fitted.theta is not None
        loss = one.fitted.law.predict(one.fitted.theta, columns)
        known = loss[1:][~np.isnan(loss[1:, 0])]
        if not len(known):  # too few runs to say how well the curve is known
            return np.full((draws, loss.shape[1]), np.nan)
        return new_run(known[np.arange(draws) % len(known)], one.noise, seed)


def alone(fitted: Fitted, draws: Draws, delta: float) -> Mixed:
    """One law and no other: for what other laws do not read, as repeated data."""
    noise = holdout.left_over(fitted, draws, delta)
    return Mixed([Candidate(fitted, np.nan, noise)], np.ones(1))


def mixed(
    fits: Sequence[Fitted], draws: Draws, delta: float, seed: int
) -> dict[tuple[str, str], Mixed]:
    """By family and corpus, the laws that predict it; those of `fits` among them.

    Args:
      fits: a law's fits under the draws, to each family and corpus or to all at once.
    """
    surfaces = _surfaces(fits, draws, delta, seed)
    out = {}
    for family, corpus in surfaces.single:
        found = holdout.candidates(surfaces, family, corpus, delta, seed)
        if found:
            out[family, corpus] = Mixed(found, holdout.weights(found))
    return out


def _surfaces(
    fits: Sequence[Fitted], draws: Draws, delta: float, seed: int
) -> Surfaces:
    """The joint law and each family's and corpus's own; what is fitted is reused."""
    known = {(one.law.name, one.family, one.corpus): one for one in fits}
    frame = draws.data.frame
    single = {}
    for (family, corpus), part in frame.groupby(["family", "corpus"]):
        rows = frame.index.isin(part.index)
        own = known.get(("chinchilla", family, corpus))
        head = (family, corpus, np.nan)
        single[family, corpus] = own or fit_one(
            "chinchilla", head, draws, rows, delta, seed
        )
    joint = known.get(("joint", "*", "*")) or fit_joint(draws, delta, seed)
    families = tuple(sorted(frame.family.unique()))
    corpora = tuple(sorted(frame.corpus.unique()))
    return Surfaces(draws.data, draws, families, corpora, single, [], joint)
