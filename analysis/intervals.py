"""Intervals: whole trajectories are resampled, and the best rate is chosen again.

A draw is a number of copies for every trajectory (pairs bootstrap, within each family
and corpus, which the design fixed). Inside a draw the best learning rate of each cell
is selected again from the copies that are there, so that tuning noise is in the
interval.
Every fit of an analysis uses the same draws: differences between fits are paired.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from analysis.laws import Array

# What two runs of one cell share; they differ in rate, seeds and nothing else.
CELL = ["family", "corpus", "size", "params", "tokens", "unique_tokens", "batch"]


@dataclasses.dataclass(frozen=True)
class Sample:
    """The runs that laws are fitted to, on one target, ordered by cell and rate.

    Attributes:
      frame: one row a run [n]: columns of the table's runs, `loss`, `se`.
      loss: [n], nats.
      cell, group: [n]: codes of the cell, and of the rate within its cell.
      cluster, stratum: [n]: codes of the trajectory, and of its family and corpus.
    """

    frame: pd.DataFrame
    loss: Array
    cell: Array
    group: Array
    cluster: Array
    stratum: Array


def sample(frame: pd.DataFrame) -> Sample:
    """Codes cells, rates and clusters; `frame` has a row a run with its `loss`."""
    frame = frame.sort_values([*CELL, "learning_rate", "run_id"]).reset_index(drop=True)
    cell = frame.groupby(CELL, dropna=False, sort=False).ngroup()
    rates = frame.learning_rate.fillna(-1.0)
    group = frame.assign(cell=cell, rate=rates).groupby(["cell", "rate"], sort=False)
    cluster = frame.groupby("trajectory", sort=False).ngroup()
    stratum = frame.groupby(["family", "corpus"], sort=False).ngroup()
    # A trajectory belongs to one stratum, that of its first run.
    stratum = stratum.groupby(cluster).transform("first")
    return Sample(
        frame=frame,
        loss=frame.loss.to_numpy(np.float64),
        cell=cell.to_numpy(),
        group=group.ngroup().to_numpy(),
        cluster=cluster.to_numpy(),
        stratum=stratum.to_numpy(),
    )


def draw(data: Sample, draws: int, seed: int = 0) -> Array:
    """Copies of each run in each draw, [draws, n]; equal within a trajectory."""
    rng = np.random.default_rng(seed)
    first = np.unique(data.cluster, return_index=True)[1]
    stratum = data.stratum[first]
    copies = np.zeros((draws, first.size))
    for code in np.unique(stratum):
        members = np.flatnonzero(stratum == code)
        share = np.full(members.size, 1.0 / members.size)
        copies[:, members] = rng.multinomial(members.size, share, size=draws)
    return copies[:, data.cluster]


def select(data: Sample, copies: Array) -> Array:
    """Weights [B, n]: the copies of the runs at their cell's best rate, else zero.

    The best rate is the one with the lowest mean loss over the copies in that draw; of
    two equal ones the lower rate.
    """
    starts = np.flatnonzero(np.diff(data.group, prepend=-1))
    count = np.add.reduceat(copies, starts, axis=1)
    total = np.add.reduceat(copies * data.loss, starts, axis=1)
    mean = np.full(count.shape, np.inf)
    np.divide(total, count, out=mean, where=count > 0)
    first = np.flatnonzero(np.diff(data.cell[starts], prepend=-1))
    lowest = np.minimum.reduceat(mean, first, axis=1)
    of_cell = data.cell[starts]
    best = mean == lowest[:, of_cell]
    # The first of equal ones: no earlier group of the cell is best too.
    before = np.cumsum(best, axis=1) - best
    best &= before == before[:, first][:, of_cell]
    return copies * best[:, data.group]


def interval(draws: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Percentile interval over axis 0, of finite and infinite draws alike.

    NaN draws (a law that its draw could not identify) are left out; with fewer than 20
    left there is no interval and both ends are NaN.
    """
    draws = np.asarray(draws, np.float64)
    flat = draws.reshape(len(draws), -1)
    tail = 100.0 * (1.0 - level) / 2.0
    ends = np.full((2, flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        kept = flat[~np.isnan(flat[:, column]), column]
        if kept.size >= 20:
            # An order statistic, since the mean of two draws may not exist.
            ends[:, column] = np.percentile(
                kept, [tail, 100.0 - tail], method="closest_observation"
            )
    low, high = ends.reshape(2, *draws.shape[1:])
    return low, high
