"""Losses of text that is read again and again: curves over epochs, with their draws.

A cell is one family, corpus, size, amount of unique data and number of epochs, at its
best setting, all of whose runs are seeds. It has two losses on held-out text of its own
corpus: the final one, and the early-stopped one, the best scoring of each run.

Draws have two parts. Each seed moves its cell's mean by its own distance from it, times
a normal number of its own, widened as Student's t asks. A cell has few seeds, so its
variance is moderated by those of all cells of its corpus (Smyth 2004, Statistical
Applications in Genetics and Molecular Biology 3): the more alike they are, the more of
them count. Held-out documents
move every cell by what their nats say, with the same numbers for all cells, so that
differences are paired; the documents' part of an early-stopped loss is taken to be that
of the final one, whose nats are kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.design.cells import REPEATED, target_frame
from analysis.inference import quantiles
from analysis.inference.intervals import interval
from analysis.laws import Array
from analysis.predictions.groups import seeds_of_cells
from analysis.tables.table import Table

EARLY, FINAL = READINGS = ("early-stopped", "final")
DRAWS = 2000
ONE_SEED = "one seed only: how far seeds scatter is not known"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number of epochs of a curve.

    Attributes:
      epochs, tokens: of the whole training.
      runs: run_id of the seeds.
      mean: by reading, nats a token.
      variance: by reading, of a seed about the mean, NaN of one seed.
      seeds: by reading, what seeds move the mean by, [1 + draws], the first 0.
      freedom: by reading, degrees of freedom of that, and of all cells together.
      documents: what held-out documents move it by, [1 + draws], the first 0.
      stopped: mean epoch of the best scoring.
      past_best: whether every run had its best scoring before its end.
    """

    epochs: float
    tokens: float
    runs: tuple[str, ...]
    mean: Mapping[str, float]
    variance: Mapping[str, float]
    seeds: Mapping[str, Array]
    freedom: Mapping[str, tuple[float, float]]
    documents: Array
    stopped: float
    past_best: bool = False


@dataclasses.dataclass(frozen=True)
class Curve:
    """One family, corpus, size and amount of unique data, over rising epochs.

    Attributes:
      scored: the evaluation set of its corpus.
      level, unique: codes of size and unique data.
    """

    family: str
    corpus: str
    scored: str
    level: int
    unique: int
    params: float
    unique_tokens: float
    cells: tuple[Cell, ...]

    @property
    def single(self) -> bool:
        """Whether some cell has one seed, so that the noise of seeds is not known."""
        return any(len(cell.runs) < 2 for cell in self.cells)


def drawn(asked: Sequence[tuple[Cell, str]]) -> list[Array]:
    """Draws [1 + draws] of the losses of cells, for one statistic of all of them."""
    several = {(cell.runs, reading): cell.freedom[reading] for cell, reading in asked}
    own, together = zip(*several.values(), strict=True)
    wide = _widened(min(sum(own), *together))
    return [
        cell.mean[reading] + cell.seeds[reading] * wide + cell.documents
        for cell, reading in asked
    ]


def _widened(freedom: float) -> Array:
    """What makes a normal number one of Student's t, [1 + draws]."""
    if not 1 <= freedom < math.inf:
        return np.ones(1 + DRAWS)
    share = np.random.default_rng(1).random(DRAWS)
    return np.append(1.0, np.sqrt(freedom / quantiles.chi_squared(share, freedom)))


def ends_of(draws: Array, name: str = "", level: float = 0.95) -> dict[str, float]:
    """Interval of draws [1 + draws] as columns NAME_low and NAME_high."""
    low, high = interval(draws[1:], level)
    prefix, suffix = f"{name}_" if name else "", "" if level == 0.95 else "_90"
    return {
        f"{prefix}low{suffix}": float(low),
        f"{prefix}high{suffix}": float(high),
    }


# --- From a table --------------------------------------------------------------------


def curves(table: Table) -> list[Curve]:
    """Curves of two points or more, of runs that were scored on their own corpus."""
    if table.best.empty:
        return []
    out = []
    for corpus, scored in _own_sets(table).items():
        frame = target_frame(table, scored)
        frame = frame[frame.corpus == corpus]
        best = table.best[table.best.target == scored]
        best = best[["run_id", "loss", "tokens"]]
        best = best.rename(columns={"loss": "best_loss", "tokens": "best_tokens"})
        frame = frame.merge(best, on="run_id")
        if frame.empty:
            continue
        chosen = seeds_of_cells(frame)
        # Of several orders of the data the one that most runs read.
        most = chosen.data_seed.value_counts(sort=True).index[0]
        chosen = chosen[chosen.data_seed == most]
        documents = _Documents(table, scored)
        keys = ["family", "level", "unique"]
        made = [
            _curve(some, scored, documents)
            for _, some in chosen.groupby(keys, sort=True)
        ]
        out += moderated(
            [m for m in made if len(m.cells) > 1 and m.cells[-1].epochs > REPEATED]
        )
    return out


def _own_sets(table: Table) -> dict[str, str]:
    """By corpus, the first target that is held-out text of it alone."""
    own: dict[str, str] = {}
    for target in table.targets:
        keys = {name.rsplit(":", 1)[0] for name in table.parts.get(target, {})}
        if len(keys) == 1:
            own.setdefault(keys.pop(), target)
    sources = {name: table.sources.get(name, name) for name in table.runs.corpus}
    return {
        name: own[source] for name, source in sorted(sources.items()) if source in own
    }


def _curve(some: pd.DataFrame, scored: str, documents: _Documents) -> Curve:
    some = some.assign(epochs=(some.tokens / some.unique_tokens).round(6))
    first = some.iloc[0]
    cells = []
    for epochs, runs in some.groupby("epochs", sort=True):
        losses = {EARLY: runs.best_loss, FINAL: runs.loss}
        names = tuple(runs.run_id)
        cells.append(
            Cell(
                epochs=float(epochs),
                tokens=float(runs.tokens.iloc[0]),
                runs=names,
                mean={name: float(x.mean()) for name, x in losses.items()},
                variance={name: float(x.var(ddof=1)) for name, x in losses.items()},
                seeds={n: _seeds(names, x.to_numpy()) for n, x in losses.items()},
                freedom=dict.fromkeys(READINGS, (len(names) - 1.0, math.inf)),
                documents=documents.moved(names),
                stopped=float((runs.best_tokens / runs.unique_tokens).mean()),
                past_best=bool((runs.best_tokens < runs.tokens).all()),
            )
        )
    return Curve(
        family=str(first.family),
        corpus=str(first.corpus),
        scored=scored,
        level=int(first.level),
        unique=int(first["unique"]),
        params=float(first.params),
        unique_tokens=float(first.unique_tokens),
        cells=tuple(cells),
    )


def _seeds(names: Sequence[str], losses: Array) -> Array:
    """What seeds move their mean by, [1 + draws]: of n its variance is s**2 / n."""
    count = len(losses)
    moved = np.zeros(1 + DRAWS)
    if count > 1:
        own = (losses - losses.mean()) / math.sqrt(count * (count - 1))
        for name, part in zip(names, own, strict=True):
            moved += part * _normal(name)
    return moved


def moderated(found: Sequence[Curve]) -> list[Curve]:
    """The curves of one corpus with the variances of their seeds moderated.

    ln s**2 of a cell of d degrees of freedom varies by trigamma(d / 2) about what is
    true of it; what it varies beyond that between cells says for how many degrees of
    freedom the common variance counts (Smyth 2004, equations 7 to 10).
    """
    cells = [c for one in found for c in one.cells if len(c.runs) > 1]
    made = {id(c): (dict(c.seeds), dict(c.freedom)) for c in cells}
    for reading in READINGS:
        spread = np.array([c.variance[reading] for c in cells])
        free = np.array([len(c.runs) - 1.0 for c in cells])
        known = spread > 0
        if known.sum() < 2:
            continue
        logs = np.log(spread[known]) - special.digamma(free[known] / 2)
        logs += np.log(free[known] / 2)
        beyond = logs.var(ddof=1) - special.polygamma(1, free[known] / 2).mean()
        prior = 2.0 * _inverse_trigamma(beyond) if beyond > 0 else math.inf
        common = math.exp(logs.mean())
        if math.isfinite(prior):
            common *= math.exp(special.digamma(prior / 2)) / (prior / 2)
        for cell, own, d in zip(cells, spread, free, strict=True):
            share = 1.0 if math.isinf(prior) else prior / (prior + d)
            variance = share * common + (1 - share) * own
            seeds, freedom = made[id(cell)]
            unit = seeds[reading] / math.sqrt(own / len(cell.runs)) if own > 0 else None
            if unit is None:
                unit = np.mean([_normal(name) for name in cell.runs], axis=0)
                unit = unit * math.sqrt(len(cell.runs))
            seeds[reading] = unit * math.sqrt(variance / len(cell.runs))
            freedom[reading] = (min(prior + d, free.sum()), float(free.sum()))
    return [
        dataclasses.replace(
            one,
            cells=tuple(
                dataclasses.replace(c, seeds=made[id(c)][0], freedom=made[id(c)][1])
                if id(c) in made
                else c
                for c in one.cells
            ),
        )
        for one in found
    ]


def _inverse_trigamma(value: float) -> float:
    """x where trigamma(x) = value > 0, by Newton's method (Smyth 2004, appendix)."""
    x = 0.5 + 1.0 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x


def _normal(name: str) -> Array:
    """A run's own numbers [1 + draws], the first 0."""
    key = hashlib.sha256(name.encode()).digest()
    rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
    return np.append(0.0, rng.standard_normal(DRAWS))


class _Documents:
    """What the held-out documents of one set move the mean loss of runs by."""

    def __init__(self, table: Table, scored: str):
        (self.key,) = table.parts[scored]
        self.kept = table.documents
        self.numbers: Array | None = None

    def moved(self, names: Sequence[str]) -> Array:
        """[1 + draws], the first 0; 0 where the table keeps no documents of them."""
        found: list[Any] = [self.kept.get(name, {}).get(self.key) for name in names]
        if any(one is None or len(one[0]) != len(found[0][0]) for one in found):
            return np.zeros(1 + DRAWS)
        nats = np.mean([one[0] for one in found], axis=0)
        tokens = found[0][1]
        count = len(tokens)
        if count < 2:
            return np.zeros(1 + DRAWS)
        if self.numbers is None:
            rng = np.random.default_rng(0)
            self.numbers = rng.standard_normal((DRAWS, count))
        if self.numbers.shape[1] != count:
            return np.zeros(1 + DRAWS)
        # Ratio estimator: each document's nats beyond the mean loss of its tokens.
        left = (nats - nats.sum() / tokens.sum() * tokens) / tokens.sum()
        left *= math.sqrt(count / (count - 1))
        return np.append(0.0, self.numbers @ left)
