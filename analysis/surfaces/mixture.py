"""Several laws predict together, each by what it foretold of runs it had not seen.

A prediction has three uncertainties: of the curve (the bootstrap draws of one law), of
a new run on it (the noise that the law leaves over, each trajectory left out of the
fit) and of the law itself. For the last, all laws of size and data that the runs of a
family on a corpus identify predict together, as a mixture of their distributions.

A law's weight at a place is proportional to exp(s_1 + s_2 + ... - ln sigma), where s_i
is its mean log density of the runs held out by back-test i, and sigma the standard
deviation that it gives a new run at the place. The s_i are pseudo-BMA weights (Yao,
Vehtari, Simpson and Gelman 2018, "Using stacking to average Bayesian predictive
distributions") in which a back-test counts as one observation, since its runs are off
together. -ln sigma is, but for a constant, the log density that the law expects at the
place: a law whose parameters the runs do not hold expects little where it matters.

Where the mixture missed the held-out runs by more than it claimed, all laws drift
alike, and its intervals are wider by that ratio. They are never narrower: held-out runs
share their error, so that many close ones are no evidence of small errors further out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from analysis import laws
from analysis.inference.intervals import Draws, mixture, new_run
from analysis.laws import Array
from analysis.surfaces import backtests
from analysis.surfaces.backtests import SHARES, Backtest, Tried, log_curves, variance
from analysis.surfaces.surfaces import Fitted, Surfaces, fit_joint, fit_one

# Draws of the laws that are fitted for their prediction alone.
LAW_DRAWS = 60
# Laws whose curves differ by less than this share of the noise are one law.
ALIKE = 1e-3
# What a law of the mixture may read.
SIZE_AND_DATA = {"params", "tokens", "family", "corpus"}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A law that may predict the runs of one family and corpus.

    Attributes:
      noise: log residuals [m] with each trajectory left out.
      tests: by the share of the FLOPs that was fitted, how it did on the others.
    """

    fitted: Fitted
    noise: Array
    tests: Mapping[float, Backtest] = dataclasses.field(default_factory=dict)

    @property
    def error(self) -> float:
        """RMS log error over the back-tests; NaN where there is none."""
        tests = self.tests.values()
        squares = [np.mean((one.observed - one.curves[0]) ** 2) for one in tests]
        return float(np.sqrt(np.mean(squares))) if squares else np.nan


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What laws together say of k places.

    Attributes:
      point: loss [k].
      curve, run: draws [B, k] of the curve, and of a new run.
      weights: [laws, k], adding up to 1 over the laws.
    """

    point: Array
    curve: Array
    run: Array
    weights: Array


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Laws that predict together.

    Attributes:
      scores: [laws], sum over the back-tests of a law's mean log density.
      widening: factor on the intervals, at least 1.
    """

    laws: Sequence[Candidate]
    scores: Array
    widening: float

    @staticmethod
    def of(found: Sequence[Candidate]) -> Mixture:
        scored = scores(found)
        return Mixture(found, scored, widening(found, scored))

    def at(self, columns: Mapping[str, Array], draws: int, seed: int) -> Prediction:
        """The places of `columns`, arrays [k] with codes as the laws were bound."""
        logs = [log_curves(one.fitted, columns) for one in self.laws]
        claimed = np.stack(
            [variance(log, one.noise) for log, one in zip(logs, self.laws, strict=True)]
        )
        weights = shares(self.scores, claimed)
        point = np.exp((weights * np.stack([log[0] for log in logs])).sum(axis=0))
        curves = np.stack([_drawn(np.exp(log), draws) for log in logs])
        runs = np.stack(
            [
                new_run(curve, one.noise, seed)
                for curve, one in zip(curves, self.laws, strict=True)
            ]
        )
        # Wider or not, the middle stays where it is, in log loss.
        curve, run = (
            point * (mixture(kind, weights, seed) / point) ** self.widening
            for kind in (curves, runs)
        )
        return Prediction(point, curve, run, weights)


def _drawn(loss: Array, draws: int) -> Array:
    """Draws [B, k] of a curve, of the identified ones as often as is needed."""
    known = loss[1:][~np.isnan(loss[1:]).any(axis=1)]
    if not len(known):  # too few runs to say how well the curve is known
        return np.full((draws, loss.shape[1]), np.nan)
    return np.asarray(known[np.arange(draws) % len(known)])


def scores(found: Sequence[Candidate]) -> Array:
    """Sum over the back-tests of each law's mean log density, [laws].

    A back-test that a law could not be fitted for counts for it as for the worst of the
    others. A law that none could be made of does not count at all, unless that holds
    for all: then the first counts alone.
    """
    tried = np.array([bool(one.tests) for one in found])
    if not tried.any():
        return np.where(np.arange(len(found)) == 0, 0.0, -np.inf)
    total = np.where(tried, 0.0, -np.inf)
    for share in SHARES:
        known = [one.tests[share].score for one in found if share in one.tests]
        for k, one in enumerate(found):
            if known:
                total[k] += one.tests[share].score if share in one.tests else min(known)
    return total


def shares(scores: Array, claimed: Array) -> Array:
    """Weights [laws, k]: proportional to exp(score) / sigma, adding up to 1.

    Args:
      scores: [laws].
      claimed: variances [laws, k] of a new run, as each law has them.
    """
    logs = scores[:, None] - 0.5 * np.log(claimed)
    out = np.exp(logs - logs.max(axis=0))
    return np.asarray(out / out.sum(axis=0))


def widening(found: Sequence[Candidate], scores: Array) -> float:
    """What the mixture's interval is widened by: 1 where nothing asks for more.

    The RMS of the mixture's residuals in the back-tests, each in standard deviations of
    what the mixture gave the run: its laws' own variances and their spread.
    """
    ratios = []
    for share in SHARES:
        known = [
            (one.tests[share], score)
            for one, score in zip(found, scores, strict=True)
            if share in one.tests and np.isfinite(score)
        ]
        if not known:
            continue
        tests, scored = [test for test, _ in known], np.array([s for _, s in known])
        middles = np.stack([test.curves[0] for test in tests])
        claimed = np.stack([test.variance for test in tests])
        weights = shares(scored, claimed)
        middle = (weights * middles).sum(axis=0)
        # Variance of a mixture: of its parts, and of their middles.
        total = (weights * (claimed + (middles - middle) ** 2)).sum(axis=0)
        ratios.append(float(np.mean((tests[0].observed - middle) ** 2 / total)))
    return max(1.0, float(np.sqrt(np.mean(ratios)))) if ratios else 1.0


def candidates(
    surfaces: Surfaces,
    family: str,
    corpus: str,
    delta: float,
    seed: int,
    joint: Tried | None = None,
) -> list[Candidate]:
    """The laws of size and data that its runs identify: its own first, then others.

    Args:
      joint: the joint law, where it has been tried for another pair.
    """
    draws = surfaces.draws
    fewer = dataclasses.replace(draws, factors=draws.factors[:LAW_DRAWS])
    own = surfaces.single.get((family, corpus))
    found = []
    if own is not None:
        head = (family, corpus, np.nan)
        found = [own] + [
            fit_one(name, head, fewer, own.rows, delta, seed, advise=False)
            for name in _of_size_and_data()
            if name != own.law.name
        ]
    tried = [backtests.tried(fitted, draws, delta, seed) for fitted in found]
    tried.insert(1, joint or backtests.tried(surfaces.joint, draws, delta, seed))
    pair = _pair(draws, family, corpus)
    known = [one for one in tried if one.fitted.identified > 0 and one.noise.size]
    return [_candidate(one, draws, pair) for one in _distinct(draws, known, pair)]


def _pair(draws: Draws, family: str, corpus: str) -> Array:
    frame = draws.data.frame
    return ((frame.family == family) & (frame.corpus == corpus)).to_numpy()


def _candidate(tried: Tried, draws: Draws, pair: Array) -> Candidate:
    tests = backtests.backtests(tried, draws, pair)
    return Candidate(tried.fitted, tried.noise, tests)


def _distinct(draws: Draws, tried: Sequence[Tried], pair: Array) -> list[Tried]:
    """Those whose curves differ on the pair's runs: a law under two names counts once.

    The joint law of one family on one corpus is that family's own, for instance.
    """
    columns = backtests.columns(draws.data.frame[pair], draws)
    kept: list[Tried] = []
    curves: list[Array] = []
    for one in tried:
        assert one.fitted.theta is not None
        curve = np.log(one.fitted.law.predict(one.fitted.theta[0], columns))
        near = ALIKE * float(np.sqrt(np.mean(one.noise**2))) + 1e-9
        if all(np.abs(curve - other).max() > near for other in curves):
            kept.append(one)
            curves.append(curve)
    return kept


def _of_size_and_data() -> list[str]:
    names = {"family": ("",), "corpus": ("",)}
    centre = {"params": 0.0, "tokens": 0.0}
    return [
        name
        for name in laws.names()
        if {*laws.load(name).bind(names, centre).columns} == {"params", "tokens"}
    ]


def alone(
    fitted: Fitted, draws: Draws, family: str, corpus: str, delta: float, seed: int
) -> Mixture:
    """One law and no other: for what other laws do not read, as repeated data.

    Its own back-tests widen it all the same.
    """
    tried = backtests.tried(fitted, draws, delta, seed)
    return Mixture.of([_candidate(tried, draws, _pair(draws, family, corpus))])


def of_pairs(
    fits: Sequence[Fitted], draws: Draws, delta: float, seed: int
) -> dict[tuple[str, str], Mixture]:
    """By family and corpus, the laws that predict it; those of `fits` among them.

    Args:
      fits: a law's fits under the draws, to each family and corpus or to all at once.
    """
    surfaces = _surfaces(fits, draws, delta, seed)
    joint = backtests.tried(surfaces.joint, draws, delta, seed)
    out = {}
    for family, corpus in surfaces.single:
        found = candidates(surfaces, family, corpus, delta, seed, joint)
        if found:
            out[family, corpus] = Mixture.of(found)
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
    return Surfaces(draws.data, draws, *backtests.names(draws), single, [], joint)
