"""Intervals: trajectories are drawn again, and the best setting is chosen again.

A draw is a new set of losses for the same design (wild cluster bootstrap, the default)
or a number of copies for every trajectory (pairs cluster bootstrap, within each family
and corpus, which the design fixed). Points of one trajectory share one factor of the
draw: they are one measurement of the noise. So do the seeds of a cell, which share what
a law misses there. Inside a draw the best setting of each cell
(its learning rate, batch and whatever else was tried) is selected again, so that tuning
noise is in the interval. Every fit of an
analysis uses the same draws: differences between fits are paired.

The wild draw of a law is curve + factor * residual, in log loss (in loss for a fit of
scale "raw"), with the residual that the run would have had if its trajectory had been
left out of the fit (HC3, MacKinnon and White 1985; CR3 for clusters). For Huber's loss,
of derivative psi, one Newton step gives it: e + (I - H)^-1 H psi(e) / phi, H the
leverage of the trajectory and phi the mean of psi'. With least squares that is e / (1 -
h); with delta far below the noise it lifts the residuals of the runs that the fit
passes through, which would make the draws too narrow (Feng, He and Hu 2011, "Wild
bootstrap for quantile regression"). The spread of the draws is an estimate itself, for
which Student's t widens them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from analysis.design.identify import jacobian
from analysis.design.settings import coded
from analysis.fitting.fit import Fit
from analysis.fitting.objective import Scale
from analysis.inference import luck, quantiles
from analysis.inference.verdict import DECIDES
from analysis.laws import Array, Columns
from scaling.errors import UserError

SCHEMES = ("wild", "pairs")
# Fewer trajectories than this in a family and corpus give too few patterns of signs.
FEW_CLUSTERS = 12
WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])
# A trajectory that alone fixes a parameter has leverage 1, and no residual to inflate.
MOST_LEVERAGE = 0.99
# A drawn loss is at least this share of the curve.
LEAST_SHARE = 1e-3
# Fewer degrees of freedom than this say only that nothing is known.
LEAST_FREEDOM = 3.0


@dataclasses.dataclass(frozen=True)
class Sample:
    """The runs that laws are fitted to, on one target, ordered by cell and setting.

    Attributes:
      frame: one row a run [n]: columns of the table's runs, `loss`, `se`, and what
        settings.coded adds.
      loss: [n], nats, without what the best of a cell's settings is low by luck (see
        luck.py); equal to the frame's where no cell has two settings.
      cell, group: [n]: codes of the cell, and of the setting within its cell.
      cluster, stratum: [n]: codes of what is drawn together, a trajectory or the seeds
        of a cell, and of its family and corpus.
    """

    frame: pd.DataFrame
    loss: Array
    cell: Array
    group: Array
    cluster: Array
    stratum: Array


def sample(frame: pd.DataFrame) -> Sample:
    """Codes cells, settings and clusters; `frame` has a row a run with its `loss`.

    Cells and settings are those that `frame` says, where settings.coded was there.
    """
    frame = frame if "setting" in frame else coded(frame)
    frame = frame.sort_values(["cell", "setting", "run_id"]).reset_index(drop=True)
    cell = frame.groupby("cell", sort=False).ngroup()
    group = frame.groupby(["cell", "setting"], sort=False)
    cluster = _drawn_together(frame, group.ngroup())
    stratum = frame.groupby(["family", "corpus"], sort=False).ngroup()
    # A trajectory belongs to one stratum, that of its first run.
    stratum = stratum.groupby(cluster).transform("first")
    loss, codes = frame.loss.to_numpy(np.float64), group.ngroup().to_numpy()
    at = np.log(frame[["params", "tokens"]].to_numpy(np.float64))
    lucky = luck.of_best(
        np.log(loss), cell.to_numpy(), codes, frame.setting.to_numpy(), at
    )
    return Sample(
        frame=frame,
        loss=loss * np.exp(-lucky),
        cell=cell.to_numpy(),
        group=codes,
        cluster=cluster.to_numpy(),
        stratum=stratum.to_numpy(),
    )


def _drawn_together(frame: pd.DataFrame, group: pd.Series) -> pd.Series:
    """Codes of the runs that a draw takes together: trajectories and seeds of a cell.

    The seeds of a cell share what a law misses there, and may share their data. Were
    each of them drawn alone, what they have in common would count as known better by
    the root of their number. Seeds that are points of longer trajectories stay with
    these.

    Args:
      group: codes of the cell's settings, by run.
    """
    alone = frame.groupby("trajectory", sort=False).run_id.transform("size") == 1
    names = frame.trajectory.astype(str).where(~alone, "seeds of " + group.astype(str))
    # A trajectory's own name may look like that of a group.
    return (
        frame.assign(_name=names, _alone=alone)
        .groupby(["_alone", "_name"], sort=False)
        .ngroup()
    )


def part(data: Sample, rows: Array) -> Sample:
    """The runs marked in `rows` [n], with their codes counted anew."""

    def recoded(codes: Array) -> Array:
        return np.unique(codes[rows], return_inverse=True)[1]

    return Sample(
        frame=data.frame[rows].reset_index(drop=True),
        loss=data.loss[rows],
        cell=recoded(data.cell),
        group=recoded(data.group),
        cluster=recoded(data.cluster),
        stratum=recoded(data.stratum),
    )


@dataclasses.dataclass(frozen=True)
class Draws:
    """How a sample is drawn again: the same for all laws that are fitted to it.

    Attributes:
      scheme: "wild" or "pairs".
      chosen: [n]: 1 for the runs at their cell's best setting, which the fit itself
        sees.
      factors: [B, n], equal within a trajectory: what a wild draw multiplies a run's
        residual by, or how many copies of it a pairs draw holds.
      seed: keys the residuals that runs at other settings borrow.
    """

    data: Sample
    scheme: str
    chosen: Array
    factors: Array
    seed: int

    def __len__(self) -> int:
        return len(self.factors)


# With fewer draws the ends of a 95% interval are the least and the largest of them.
FEWEST_DRAWS = 40


def check_draws(draws: int, none: bool = False) -> None:
    """Raises UserError where draws are too few for a 95% interval.

    Args:
      none: no draws at all are right too, for a threshold that a limit gives.
    """
    if draws < FEWEST_DRAWS and not (none and draws == 0):
        other = " (0: none, by the limit's threshold)" if none else ""
        what = f"give at least {FEWEST_DRAWS}; a 95% interval needs them{other}"
        raise UserError("draws", draws, what)


def draw(data: Sample, draws: int, seed: int = 0, scheme: str = "wild") -> Draws:
    """Factors for `draws` draws of whole trajectories.

    Wild: Rademacher's signs, or Webb's six points (Webb 2023) for the trajectories of a
    family and corpus that has fewer than `FEW_CLUSTERS`. Pairs: as many trajectories as
    each family and corpus has, with replacement.

    Raises:
      UserError: another scheme.
    """
    if scheme not in SCHEMES:
        raise UserError("bootstrap", scheme, f"choose one of {', '.join(SCHEMES)}")
    rng = np.random.default_rng(seed)
    first = np.unique(data.cluster, return_index=True)[1]
    stratum = data.stratum[first]
    factors = np.zeros((draws, first.size))
    for code in np.unique(stratum):
        members = np.flatnonzero(stratum == code)
        if scheme == "pairs":
            share = np.full(members.size, 1.0 / members.size)
            factors[:, members] = rng.multinomial(members.size, share, size=draws)
        else:
            points = WEBB if members.size < FEW_CLUSTERS else np.array([-1.0, 1.0])
            factors[:, members] = rng.choice(points, size=(draws, members.size))
    chosen = select(data, np.ones((1, data.loss.size)))[0]
    return Draws(data, scheme, chosen, factors[:, data.cluster], seed)


def select(data: Sample, copies: Array, loss: Array | None = None) -> Array:
    """Weights [B, n]: the copies of the runs at their cell's best setting, else zero.

    The best setting is the one with the lowest mean loss over the copies in that draw,
    the seeds; of two equal ones that of the lower rate.

    Args:
      copies: [B, n].
      loss: [B, n] where a draw has losses of its own; the sample's by default.
    """
    loss = data.loss if loss is None else loss
    starts = np.flatnonzero(np.diff(data.group, prepend=-1))
    count = np.add.reduceat(copies, starts, axis=1)
    total = np.add.reduceat(copies * loss, starts, axis=1)
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


def again(
    draws: Draws, rows: Array, fitted: Fit, columns: Columns, delta: float
) -> tuple[Array, Array]:
    """Losses [m] or [B, m] and weights [B, m] that a law is fitted to in each draw.

    Args:
      rows: marks the m of n runs that the law is about, whole cells.
      fitted: the law's fit to those of them at their cell's best setting.
      columns: arrays [m].
      delta: Huber's threshold of that fit.
    """
    data = part(draws.data, rows)
    factors = draws.factors[:, rows]
    if draws.scheme == "pairs":
        return data.loss, select(data, factors)
    chosen = draws.chosen[rows] > 0
    observed = _scaled(data.loss, fitted.scale)
    curve = _scaled(fitted.law.predict(fitted.theta, columns), fitted.scale)
    left_out = np.zeros(data.loss.size)
    residual = observed[chosen] - curve[chosen]
    cluster = data.cluster[chosen]
    seen = {name: np.asarray(values)[chosen] for name, values in columns.items()}
    left_out[chosen] = left_out_residuals(fitted, seen, residual, cluster, delta)
    left_out *= widening(residual, fitted.theta.size, np.unique(cluster).size, delta)
    if chosen.all():
        new, weights = curve + factors * left_out, np.ones(factors.shape)
    else:
        rng = np.random.default_rng([draws.seed, 1])
        picks = np.asarray(rng.random(draws.factors.shape))[:, rows]
        noise = factors * np.where(chosen, left_out, _borrowed(left_out[chosen], picks))
        new, weights = _tuned_again(data, chosen, observed, curve, noise, fitted.scale)
    if fitted.scale == "log":
        return np.exp(new), weights
    # A residual larger than the loss itself: no run has a loss below zero.
    return np.maximum(new, LEAST_SHARE * curve), weights


def _scaled(loss: Array, scale: Scale) -> Array:
    return np.log(loss) if scale == "log" else loss


def _borrowed(donors: Array, picks: Array) -> Array:
    """A donor for each of `picks`, uniform in [0, 1)."""
    return donors[(picks * donors.size).astype(int)]


def _tuned_again(
    data: Sample,
    chosen: Array,
    observed: Array,
    curve: Array,
    noise: Array,
    scale: Scale,
) -> tuple[Array, Array]:
    """A wild draw of cells with several settings: new losses for all, then the best.

    A setting that was not fitted stands as far above the curve as its mean loss stood
    above the best one's, and its noise is one of the fitted residuals. The best of
    several noisy settings is low by luck, which is taken off the fitted losses and so
    off each cell's draws: they lie around the curve. The residuals are of bests, which
    spread less than single runs do; so that the drawn bests spread as the fitted ones,
    and not less once more, they are widened to that.

    Args:
      observed, curve: [m], noise: [B, m], on the fit's scale; so are the new losses.
    """
    mean = np.bincount(data.group, observed) / np.bincount(data.group)
    best = np.full(int(data.cell.max()) + 1, np.nan)
    best[data.cell[chosen]] = mean[data.group[chosen]]
    gap = mean[data.group] - best[data.cell]
    new = curve + gap + noise
    losses = np.exp(new) if scale == "log" else new
    weights = select(data, np.ones(new.shape), losses)
    starts = np.flatnonzero(np.diff(data.cell, prepend=-1))
    count = np.add.reduceat(weights, starts, axis=1)
    above = np.add.reduceat(weights * (gap + noise), starts, axis=1) / count
    middle = above.mean(axis=0)
    spread = float(np.sqrt(np.mean((above - middle) ** 2)))
    wanted = float(np.sqrt(np.mean(noise[:, chosen] ** 2)))
    wider = max(wanted / spread, 1.0) - 1.0 if spread > 0 else 0.0
    return new + (wider * (above - middle) - middle)[:, data.cell], weights


def left_out_residuals(
    fitted: Fit, columns: Columns, residual: Array, cluster: Array, delta: float
) -> Array:
    """Residuals [m] as if each run's trajectory had been left out of the fit (HC3).

    Args:
      residual: observed less fitted [m], of ln loss or of the loss, as the fit's scale
        has it; delta is on the same scale.
      cluster: codes of the trajectories [m].
    """
    slopes = jacobian(fitted.law, fitted.theta, columns, fitted.scale)
    free = [p.name not in fitted.at_bound for p in fitted.law.parameters]
    basis = _basis(slopes[:, free])
    curvature, _ = _mean_curvature(residual, basis.shape[1], delta)
    pull = np.clip(residual, -delta, delta) / curvature
    codes = np.unique(cluster, return_inverse=True)[1]
    size = basis.shape[1]
    leverage = np.zeros((int(codes.max(initial=-1)) + 1, size, size))
    np.add.at(leverage, codes, basis[:, :, None] * basis[:, None, :])
    score = np.zeros((len(leverage), size))
    np.add.at(score, codes, basis * pull[:, None])
    # (I - H)^-1 H of a trajectory, through the smaller matrix of its basis rows.
    values, vectors = np.linalg.eigh(leverage)
    turned = np.einsum("gsr,gs->gr", vectors, score)
    turned = turned / (1.0 - np.minimum(values, MOST_LEVERAGE))
    lift = np.einsum("gsr,gr->gs", vectors, turned)
    return residual + (basis * lift[codes]).sum(axis=1)


def _basis(jacobian: Array) -> Array:
    """Orthonormal columns [m, r] that span those of the Jacobian."""
    scale = np.linalg.norm(jacobian, axis=0)
    jacobian = jacobian[:, scale > 0] / scale[scale > 0]
    left, values, _ = np.linalg.svd(jacobian, full_matrices=False)
    return left[:, values > 1e-10 * values.max(initial=0.0)]


def _mean_curvature(
    residual: Array, parameters: int, delta: float
) -> tuple[float, float]:
    """Mean of Huber's second derivative, and the share of residuals that it rests on.

    It is the share of residuals within delta. Far fewer than the fit passes through
    lie so near where delta is far below the noise; the share is then taken over a wider
    window, as for the sparsity of a quantile regression (Koenker 2005, section 3.4),
    and scaled down to delta.
    """
    if not np.isfinite(delta):
        return 1.0, 1.0
    count = residual.size
    freedom = max(1, count - parameters)
    noise = 1.4826 * np.median(np.abs(residual)) * np.sqrt(count / freedom)
    window = max(delta, noise * count**-0.2)
    share = max(float(np.mean(np.abs(residual) <= window)), 1.0 / count)
    return share * delta / window, share


def widening(residual: Array, parameters: int, clusters: int, delta: float) -> float:
    """What Student's t asks of draws whose own spread is an estimate, at 95%.

    The residuals of g trajectories give the noise g - p degrees of freedom. With delta
    below the noise the spread is as uncertain as the share of residuals near the curve
    besides: of n runs a share q has the relative variance (1 - q) / (n q), which a
    spread with n q / (2 (1 - q)) degrees of freedom has too.
    """
    _, share = _mean_curvature(residual, parameters, delta)
    inverse = 1.0 / max(1, clusters - parameters)
    inverse += 2.0 * (1.0 - share) / (residual.size * share)
    freedom = max(1.0 / inverse, LEAST_FREEDOM)
    return quantiles.student(DECIDES, freedom) / quantiles.normal(DECIDES)


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


def interval_of_share(draws: Array, clusters: int) -> tuple[float, float]:
    """95% interval of a share that clusters have or have not.

    Of what no cluster has, or every one, all draws are alike: there it is the exact one
    of Clopper and Pearson 1934, none of n being up to 1 - 0.025^(1/n).

    Args:
      draws: [1 + draws], the share first.
    """
    low, high = (float(end) for end in interval(draws[1:]))
    end = 0.025 ** (1.0 / clusters)
    if draws[0] == 0.0:
        high = max(high, 1.0 - end)
    if draws[0] == 1.0:
        low = min(low, end)
    return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)


def new_run(curve: Array, residual: Array, seed: int = 0) -> Array:
    """Draws [B, k] of a new run's loss: the curve's draws and a run's own noise.

    Args:
      curve: predicted losses [B, k], a row a draw.
      residual: log residuals to draw the noise from, with replacement: those of the fit
        with each trajectory left out, or deviations of seeds from their cell.
    """
    rng = np.random.default_rng(seed)
    noise = rng.choice(residual, size=curve.shape)
    return curve * np.exp(noise * rng.choice([-1.0, 1.0], size=curve.shape))


def mixture(curves: Array, weights: Array, seed: int = 0) -> Array:
    """Draws [B, k] over several laws: each draw takes one law by its weight.

    The spread between defensible laws is model-form uncertainty; it hardly shows
    inside the data and grows with the extrapolation.

    Args:
      curves: predicted losses [laws, B, k].
      weights: [laws, k] or [laws, 1], adding up to 1 over the laws.
    """
    rng = np.random.default_rng(seed)
    count = curves.shape[1]
    # One level a draw, all of them even over [0, 1]: laws come in their exact shares.
    levels = rng.permutation((np.arange(count) + 0.5) / count)
    weights = np.broadcast_to(weights, (len(curves), curves.shape[2]))
    below = np.cumsum(weights[:-1], axis=0)
    picks = (levels[:, None] > below[:, None]).sum(axis=0)
    return np.take_along_axis(curves, picks[None], axis=0)[0]
