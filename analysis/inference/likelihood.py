"""The likelihood behind Huber's objective: comparison of laws, and likelihood ratios.

A log residual r has the density exp(-huber_delta(r) / s) / Z(delta, s), a Gaussian core
of variance s inside delta and exponential tails of scale s / delta outside, so that the
fit is its maximum in the law's coordinates whatever s is. With u = delta / sqrt(2 s),

    Z = sqrt(2 pi s) erf(u) + 2 (s / delta) exp(-u^2)

which is the Gaussian's for an infinite delta and nearly Laplace's for one far below the
noise. The scale s is profiled: each law has its own. Runs of one trajectory are not
independent, so that information criteria take the trajectories as their sample size
and a simulated sample repeats the correlation that the residuals show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import special

from analysis.fitting.fit import Fit, huber, refit
from analysis.inference import quantiles
from analysis.inference.intervals import check_draws
from analysis.inference.verdict import ENDS
from analysis.laws import Array, Columns
from scaling.errors import UserError

# Bisections of ln s over its bracket.
HALVINGS = 50
# Rounding of an exact fit, as a variance of log residuals.
LEAST_SCALE = 1e-24


def log_normaliser(delta: float, scale: Array) -> Array:
    """ln Z(delta, s), for s above zero; any shape."""
    core, tails = _masses(delta, np.asarray(scale, np.float64))
    return np.log(core + tails)


def _masses(delta: float, scale: Array) -> tuple[Array, Array]:
    """What the core and the two tails contribute to Z."""
    core = np.sqrt(2.0 * np.pi * scale)
    if not np.isfinite(delta):
        return core, np.zeros_like(core)
    u = delta / np.sqrt(2.0 * scale)
    return core * special.erf(u), 2.0 * scale / delta * np.exp(-(u**2))


def profile_scale(mean: Array, delta: float) -> Array:
    """s of highest likelihood for mean objectives a run, any shape.

    d ln Z / d ln s is 1/2 in the core and 1 in the tails, so that s lies between the
    mean and twice the mean; there is one root, found by bisection in the log.
    """
    mean = np.maximum(np.asarray(mean, np.float64), LEAST_SCALE)
    low, high = np.log(mean), np.log(2.0 * mean)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        core, tails = _masses(delta, np.exp(middle))
        elasticity = (0.5 * core + tails) / (core + tails)
        rising = mean > elasticity * np.exp(middle)
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    return np.exp(0.5 * (low + high))


def log_likelihood(objective: Array, runs: int | Array, delta: float) -> Array:
    """Log likelihood of fits with these objectives, s profiled for each.

    Minus infinity where no fit was found: its objective is infinite or NaN.
    """
    objective = np.asarray(objective, np.float64)
    found = np.isfinite(objective)
    known = np.where(found, objective, 1.0)
    scale = profile_scale(known / runs, delta)
    value = -runs * log_normaliser(delta, scale) - known / scale
    return np.where(found, value, -np.inf)


def aicc(value: Array | float, parameters: int, size: Array | int) -> Array:
    """Hurvich and Tsai 1989, of log likelihoods; any shape.

    Infinite where there are too few trajectories (`size`) to say, or no fit.
    """
    spare = np.asarray(size) - parameters - 1
    extra = 2.0 * parameters * (parameters + 1) / np.maximum(spare, 1)
    return np.where(spare > 0, 2.0 * parameters - 2.0 * value + extra, np.inf)


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """A fit as a probability model of the n runs it saw.

    Attributes:
      fit: the law at its best coordinates.
      columns, loss: of the runs, arrays [n].
      clusters: codes of their trajectories [n].
      delta: Huber's threshold of the fit.
      residuals: ln loss - ln fitted, [n].
      scale: s.
      value: the log likelihood.
    """

    fit: Fit
    columns: Columns
    loss: Array
    clusters: Array
    delta: float
    residuals: Array
    scale: float
    value: float

    @property
    def runs(self) -> int:
        return self.loss.size

    @property
    def parameters(self) -> int:
        """The law's, and s."""
        return self.fit.theta.size + 1

    @property
    def size(self) -> int:
        """Trajectories: how many independent things were measured."""
        return np.unique(self.clusters).size

    @property
    def aicc(self) -> float:
        """Infinite with too few trajectories to say."""
        return float(aicc(self.value, self.parameters, self.size))

    @property
    def bic(self) -> float:
        return self.parameters * np.log(self.size) - 2.0 * self.value

    @property
    def sd(self) -> float:
        """Standard deviation of the fitted density."""
        return float(np.sqrt(density_variance(self.delta, self.scale)))


def likelihood(
    fitted: Fit, columns: Columns, loss: Array, clusters: Array, delta: float
) -> Likelihood:
    """The likelihood of a fit on the runs it saw: columns, loss, clusters [n] alike."""
    loss = np.asarray(loss, np.float64)
    residuals = np.log(loss) - np.log(fitted.law.predict(fitted.theta, columns))
    total = float(huber(residuals, delta).sum())
    return Likelihood(
        fit=fitted,
        columns=columns,
        loss=loss,
        clusters=np.asarray(clusters),
        delta=delta,
        residuals=residuals,
        scale=float(profile_scale(np.asarray(total / loss.size), delta)),
        value=float(log_likelihood(np.asarray(total), loss.size, delta)),
    )


def density_variance(delta: float, scale: float) -> float:
    """Variance of the density, in closed form."""
    if not np.isfinite(delta):
        return scale
    core, tails = _masses(delta, np.asarray(scale))
    inner = scale * (core - 2.0 * delta * np.exp(-(delta**2) / (2.0 * scale)))
    tail = scale / delta
    outer = tails * (delta**2 + 2.0 * delta * tail + 2.0 * tail**2)
    return float((inner + outer) / (core + tails))


def quantile(delta: float, scale: float, probability: Array) -> Array:
    """Inverse distribution function of the density."""
    lower = np.minimum(probability, 1.0 - probability)
    if not np.isfinite(delta):
        return np.sqrt(scale) * special.ndtri(probability)
    core, tails = (float(x) for x in _masses(delta, np.asarray(scale)))
    outside = 0.5 * tails / (core + tails)
    with np.errstate(divide="ignore"):
        beyond = delta + scale / delta * np.log(outside / lower)
    # Inside delta the density is a normal one, cut at delta and scaled.
    share = np.clip((0.5 - lower) * (core + tails), 0.0, 0.5 * core)
    within = np.sqrt(2.0 * scale) * special.erfinv(
        2.0 * share / np.sqrt(2.0 * np.pi * scale)
    )
    size = np.where(lower < outside, beyond, within)
    return np.where(probability < 0.5, -size, size)


def compare(models: Mapping[str, Likelihood]) -> pd.DataFrame:
    """Laws on the same runs, lowest AICc first.

    Columns: law, log_likelihood, scale (s), parameters (with s), runs, trajectories,
    aicc, delta_aicc (above the lowest), weight (Akaike's), bic.

    Raises:
      UserError: laws that saw different runs, or were fitted with different deltas.
    """
    _same_runs(list(models.values()))
    frame = pd.DataFrame(
        [
            {
                "law": name,
                "log_likelihood": model.value,
                "scale": model.scale,
                "parameters": model.parameters,
                "runs": model.runs,
                "trajectories": model.size,
                "aicc": model.aicc,
                "bic": model.bic,
            }
            for name, model in models.items()
        ]
    )
    lowest = frame.aicc.min()
    above = frame.aicc - lowest if np.isfinite(lowest) else frame.aicc * np.nan
    odds = np.exp(-0.5 * above)
    frame = frame.assign(delta_aicc=above, weight=odds / odds.sum())
    return frame.sort_values("aicc", kind="stable").reset_index(drop=True)


def _same_runs(models: Sequence[Likelihood]) -> None:
    for other in models[1:]:
        if other.delta != models[0].delta:
            wanted = "fit all laws with one delta; likelihoods of two do not compare"
            raise UserError("delta", other.delta, wanted)
        if not np.array_equal(other.loss, models[0].loss):
            wanted = "fit all laws to the same runs; likelihoods of others say nothing"
            raise UserError("loss", f"{other.runs} runs", wanted)


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A likelihood-ratio test of nested laws.

    Attributes:
      statistic: twice the gain in log likelihood of the larger law.
      threshold: its 95% quantile where the smaller law is true.
      p: share of samples simulated from the smaller law that gain as much.
      draws: how many of them could be fitted.
    """

    statistic: float
    threshold: float
    p: float
    draws: int


def ratio_test(
    small: Likelihood, large: Likelihood, draws: int = 400, seed: int = 0
) -> Ratio:
    """Does the larger law earn its parameters? By the parametric bootstrap.

    Samples are simulated from the smaller law and its fitted density, and both laws are
    fitted to each, s profiled: no chi-squared limit is trusted, which parameters on a
    bound and few runs break (McLachlan 1987).

    Args:
      small, large: nested laws on the same runs.

    Raises:
      UserError: different runs or deltas; fewer than 40 draws.
    """
    return ratio_tests(small, {"large": large}, draws, seed)["large"]


def ratio_tests(
    small: Likelihood,
    larges: Mapping[str, Likelihood],
    draws: int = 400,
    seed: int = 0,
) -> dict[str, Ratio]:
    """One law against several that it is nested in, on the same simulated samples."""
    check_draws(draws)
    _same_runs([small, *larges.values()])
    curve = np.log(small.fit.law.predict(small.fit.theta, small.columns))
    losses = np.exp(curve + simulate(small, draws, seed))
    known = refits(small, losses)[1]
    return {
        name: _ratio(small, large, 2.0 * (refits(large, losses)[1] - known))
        for name, large in larges.items()
    }


def _ratio(small: Likelihood, large: Likelihood, gains: Array) -> Ratio:
    """The test, from what the larger law gains in samples of the smaller [draws]."""
    statistic = max(0.0, 2.0 * (large.value - small.value))
    gains = np.maximum(gains[~np.isnan(gains)], 0.0)
    # A gain of rounding size is none: both laws then predict the same.
    beyond = int(np.sum(gains >= statistic - 1e-9))
    return Ratio(
        statistic=statistic,
        threshold=float(np.quantile(gains, 0.95)) if gains.size else np.nan,
        p=(1 + beyond) / (1 + gains.size),
        draws=int(gains.size),
    )


def refits(model: Likelihood, losses: Array) -> tuple[Array, Array]:
    """A law fitted to other losses [B, n] of its runs.

    Returns coordinates [B, P] and log likelihoods [B]; NaN where it is refused.
    """
    ones = np.ones(losses.shape)
    theta = refit(model.fit, model.columns, losses, ones, model.delta)
    left = np.log(losses) - np.log(model.fit.law.predict(theta, model.columns))
    total = huber(left, model.delta).sum(axis=1)
    return theta, log_likelihood(total, model.runs, model.delta)


def simulate(model: Likelihood, draws: int, seed: int) -> Array:
    """Log residuals [draws, n] of the fitted density.

    Runs of one trajectory are as correlated as the normal scores of the residuals are
    within trajectories (a Gaussian copula), and independent where each run is its own.
    """
    rng = np.random.default_rng(seed)
    codes = np.unique(model.clusters, return_inverse=True)[1]
    shared = within_correlation(model.residuals, codes)
    common = rng.normal(size=(draws, int(codes.max()) + 1))[:, codes]
    own = rng.normal(size=(draws, model.runs))
    scores = np.sqrt(shared) * common + np.sqrt(1.0 - shared) * own
    return quantile(model.delta, model.scale, special.ndtr(scores))


def within_correlation(residuals: Array, codes: Array) -> float:
    """Correlation of two runs of one trajectory, at least 0: by their normal scores."""
    ranks = pd.Series(residuals).rank().to_numpy() / (residuals.size + 1.0)
    scores = special.ndtri(ranks)
    scores = scores / max(float(np.sqrt(np.mean(scores**2))), 1e-12)
    sums = np.bincount(codes, scores)
    counts = np.bincount(codes)
    pairs = float((counts * (counts - 1)).sum())
    if pairs == 0.0:
        return 0.0
    products = float((sums**2).sum() - (scores**2).sum())
    return float(np.clip(products / pairs, 0.0, 0.99))


def seed_check(model: Likelihood, cell: Array) -> pd.DataFrame:
    """The fitted density's spread beside that of replicated seeds: one row.

    Columns: sd_density, sd_seeds (pooled over cells, log loss), freedom, ratio
    (density / seeds), low, high (95%, from the seeds' degrees of freedom). A ratio
    above 1 is lack of fit: the law misses something that the seeds repeat.

    Args:
      cell: codes of the runs [n] that differ in their seed alone.
    """
    codes = np.unique(cell, return_inverse=True)[1]
    logs = np.log(model.loss)
    counts = np.bincount(codes)
    left = logs - (np.bincount(codes, logs) / counts)[codes]
    freedom = int((counts - 1).sum())
    if freedom == 0:
        return pd.DataFrame()
    seeds = float(np.sqrt((left**2).sum() / freedom))
    ratio = model.sd / seeds if seeds > 0 else np.nan
    ends = np.sqrt(quantiles.chi_squared(ENDS, freedom) / freedom)
    row = {"sd_density": model.sd, "sd_seeds": seeds, "freedom": freedom}
    row |= {"ratio": ratio, "low": ratio * ends[0], "high": ratio * ends[1]}
    return pd.DataFrame([row])
