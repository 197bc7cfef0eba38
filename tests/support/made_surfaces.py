"""Surfaces with planted effects, and tables of runs made from them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.effects.data_equivalents import Surface

FAMILIES = ("a", "b")
CORPORA = ("code", "prose")
SIZES = (8e3, 24e3, 72e3, 216e3)
BUDGETS = (1e6, 2.5e6, 6e6, 15e6, 40e6)


@dataclasses.dataclass(frozen=True)
class Truth:
    """L = E + A (rN N)^-alpha + B (rD D)^-beta; level -> its own value of each.

    rhoD of a pair, such as "b x prose", multiplies those of its two levels. An outer
    exponent bends the sum of the two terms and leaves it in the middle of the design.
    """

    E: float = 1.0
    A: float = 30.0
    B: float = 150.0
    alpha: float = 0.35
    beta: float = 0.35
    floor: Mapping[str, float] = dataclasses.field(default_factory=dict)
    rhoN: Mapping[str, float] = dataclasses.field(default_factory=dict)
    rhoD: Mapping[str, float] = dataclasses.field(default_factory=dict)
    betas: Mapping[str, float] = dataclasses.field(default_factory=dict)
    outer: float = 1.0

    def loss(self, family: str, corpus: str, params, tokens):
        size = self.rhoN.get(family, 1.0) * self.rhoN.get(corpus, 1.0)
        data = self.rhoD.get(family, 1.0) * self.rhoD.get(corpus, 1.0)
        data *= self.rhoD.get(f"{family} x {corpus}", 1.0)
        floor = self.E + self.floor.get(family, 0.0) + self.floor.get(corpus, 0.0)
        beta = self.betas.get(family, self.beta)
        size_term = self.A * (size * params) ** -self.alpha
        # Of equal worth in the middle of the design, whatever the exponent.
        worth = self.B * 6e6**-self.beta
        data_term = worth * (data * tokens / 6e6) ** -beta
        middle = self.A * 4e4**-self.alpha + worth
        return floor + middle * ((size_term + data_term) / middle) ** self.outer

    def surface(self, draws: int = 40, spread: float = 0.0, seed: int = 0) -> Surface:
        """Draws multiply the excess over 0 by factors of a level's own."""
        rng = np.random.default_rng(seed)
        levels = list(itertools.product(FAMILIES, CORPORA))
        jitter = {key: spread * rng.normal(size=1 + draws) for key in levels}

        def surface(family, corpus, params, tokens):
            loss = self.loss(family, corpus, params, tokens)
            factor = np.exp(jitter[family, corpus])
            factor[0] = 1.0
            return factor[:, None] * loss[None]

        return surface

    def runs(self, noise: float = 0.002, seed: int = 0) -> pd.DataFrame:
        """A factorial design, one run a cell."""
        rng = np.random.default_rng(seed)
        grid = itertools.product(FAMILIES, CORPORA, SIZES, BUDGETS)
        frame = pd.DataFrame(grid, columns=["family", "corpus", "params", "tokens"])
        loss = [self.loss(*row) for row in frame.itertuples(index=False)]
        return frame.assign(loss=loss * np.exp(noise * rng.normal(size=len(frame))))


def cells(frame: pd.DataFrame) -> pd.DataFrame:
    """As the analysis has them: a row a cell, with level and budget."""
    level = pd.factorize(frame.params, sort=True)[0]
    budget = pd.factorize(frame.tokens, sort=True)[0]
    return frame.assign(
        level=level,
        budget=budget,
        flops=6.0 * frame.params * frame.tokens,
        seeds=1,
        run_id=[f"run {i}" for i in range(len(frame))],
    )
