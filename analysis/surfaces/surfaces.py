"""All laws of one target, fitted to the same runs under the same bootstrap draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import laws
from analysis.design.cells import codes
from analysis.design.identify import ends_at_bound
from analysis.fitting.fit import Fit, Refusal, fit, refit
from analysis.inference.intervals import Draws, Sample, again, draw, interval, sample
from analysis.laws import Array, Law
from analysis.schema import stacked

# A law that fewer of the draws could identify has intervals from what is left.
FEW_DRAWS = 0.9
ILL_CONDITIONED = 1e8
GAP = 1e-3
# Of a law's `bind`.
Options = Mapping[str, Collection[str]]


class Form(NamedTuple):
    """A joint law: its file in analysis/laws, and the options of its `bind`."""

    law: str = "joint"
    options: Options = MappingProxyType({})


PLAIN = Form()


@dataclasses.dataclass(frozen=True)
class Fitted:
    """One law on some of a target's runs.

    Attributes:
      family, corpus: "*" where the law spans them.
      params: the size, for a law at one size; NaN otherwise.
      rows: which runs of the sample it saw, [n].
      outcome: the fit, or why there is none.
      theta: coordinates [B, P], the fit in row 0 and a bootstrap draw in each other;
        NaN where a draw could not identify the law. None after a refusal.
      columns: of the rows it saw.
    """

    law: Law
    family: str
    corpus: str
    params: float
    rows: Array
    outcome: Fit | Refusal
    theta: Array | None
    columns: Mapping[str, Array]

    def head(self, target: str) -> dict[str, object]:
        return {
            "family": self.family,
            "corpus": self.corpus,
            "target": target,
            "law": self.law.name,
            "params": self.params,
        }

    @property
    def ends_at_bound(self) -> tuple[str, ...]:
        """Parameters of which the interval ends on a bound, and the estimate is not."""
        if isinstance(self.outcome, Refusal) or self.theta is None:
            return ()
        found = ends_at_bound(self.law, self.theta[1:])
        return tuple(name for name in found if name not in self.outcome.at_bound)

    @property
    def at_bound(self) -> frozenset[str]:
        """Parameters with the estimate or an end of its interval on a bound."""
        if isinstance(self.outcome, Refusal):
            return frozenset()
        return frozenset(self.outcome.at_bound) | frozenset(self.ends_at_bound)

    @property
    def identified(self) -> float:
        """Share of the bootstrap draws that could identify the law."""
        if self.theta is None or len(self.theta) < 2:
            return float("nan")
        return float(np.mean(~np.isnan(self.theta[1:, 0])))


@dataclasses.dataclass(frozen=True)
class Choice:
    """Laws under the same draws, and which of them is chosen in each.

    What is read from it has the spread of the whole procedure "choose, then read".

    Attributes:
      fits: by name; coordinates [1 + B, P] each, the fit first.
      picked: [1 + B], the place in `fits` of the law chosen, the fits' own first.
    """

    fits: Mapping[str, Fitted]
    picked: Array

    def predict(self, columns: Mapping[str, Array]) -> Array:
        """Loss [1 + B, k], in each row by the law that is chosen there."""
        count = len(next(iter(columns.values())))
        out = np.full((self.picked.size, count), np.nan)
        for number, fitted in enumerate(self.fits.values()):
            rows = np.flatnonzero(self.picked == number)
            if rows.size and fitted.theta is not None:
                out[rows] = fitted.law.predict(fitted.theta[rows], columns)
        return out

    def shares(self) -> dict[str, float]:
        """In what share of the draws each law is chosen; NaN where there are none."""
        drawn = self.picked[1:]
        return {
            name: float(np.mean(drawn == number)) if drawn.size else float("nan")
            for number, name in enumerate(self.fits)
        }


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """Every law of one target.

    Attributes:
      draws: what every law was fitted to again; `chosen` of it marks the runs [n] that
        the fits themselves saw.
      single: by (family, corpus); sizes: one a size; joint: over all of them.
      choice: the laws that `joint` was chosen from, again in every draw, where it was.
    """

    data: Sample
    draws: Draws
    families: tuple[str, ...]
    corpora: tuple[str, ...]
    single: Mapping[tuple[str, str], Fitted]
    sizes: Sequence[Fitted]
    joint: Fitted
    choice: Choice | None = None

    def everything(self) -> list[Fitted]:
        return [self.joint, *self.single.values(), *self.sizes]

    def of_joint(self, family: str, corpus: str, params: Array, tokens: Array) -> Array:
        """Loss [B, k] by the joint law; NaN where its runs lack family or corpus.

        By the law that is chosen in each draw, where there was a choice.
        """
        if family not in self.families or corpus not in self.corpora:
            return self._predict(None, {"params": params})
        columns = {
            "params": params,
            "tokens": tokens,
            "family": np.full(params.size, self.families.index(family)),
            "corpus": np.full(params.size, self.corpora.index(corpus)),
        }
        if self.choice is not None:
            return self.choice.predict(columns)
        return self._predict(self.joint, columns)

    def of_single(
        self, family: str, corpus: str, params: Array, tokens: Array
    ) -> Array:
        """Loss [B, k] by the law of that family and corpus alone."""
        columns = {"params": params, "tokens": tokens}
        return self._predict(self.single.get((family, corpus)), columns)

    def _predict(self, fitted: Fitted | None, columns: Mapping[str, Array]) -> Array:
        if fitted is None or fitted.theta is None:
            return np.full((1 + len(self.draws), columns["params"].size), np.nan)
        return fitted.law.predict(fitted.theta, columns)


def fit_all(draws: Draws, delta: float, seed: int) -> Surfaces:
    """Fits the joint law, each family and corpus alone, and each of their sizes."""
    data = draws.data
    frame = data.frame
    single, sizes = {}, []
    for (family, corpus), part in frame.groupby(["family", "corpus"]):
        rows = frame.index.isin(part.index)
        head = (family, corpus, np.nan)
        single[family, corpus] = fit_one("chinchilla", head, draws, rows, delta, seed)
        for _, same in part.groupby("level"):
            rows = frame.index.isin(same.index)
            size = float(np.exp(np.log(same.params).mean()))
            head = (family, corpus, size)
            sizes.append(fit_one("power", head, draws, rows, delta, seed))
    joint = fit_joint(draws, delta, seed)
    families, corpora = _names(data)
    return Surfaces(data, draws, families, corpora, single, sizes, joint)


def fit_joint(draws: Draws, delta: float, seed: int, form: Form = PLAIN) -> Fitted:
    """A joint law over every family and corpus of the sample."""
    rows = np.ones(draws.data.loss.size, bool)
    head = ("*", "*", np.nan)
    return fit_one(form.law, head, draws, rows, delta, seed, form.options)


def _names(data: Sample) -> tuple[tuple[str, ...], tuple[str, ...]]:
    frame = data.frame
    return tuple(sorted(frame.family.unique())), tuple(sorted(frame.corpus.unique()))


def fit_law(name: str, draws: Draws, delta: float, seed: int) -> list[Fitted]:
    """Any law, as often as its columns ask for.

    Once over all runs where it reads families or corpora; once for each of their
    pairs; and for each size of a pair where it does not read the size.
    """
    every = np.ones(draws.data.loss.size, bool)
    bound = bind(name, columns_of(draws.data, every), draws.data)
    if {"family", "corpus"} & set(bound.columns):
        return [fit_one(name, ("*", "*", np.nan), draws, every, delta, seed)]
    out = []
    frame = draws.data.frame
    sized = "params" in bound.columns
    for key, part in frame.groupby(["family", "corpus", *([] if sized else ["level"])]):
        rows = frame.index.isin(part.index)
        size = np.nan if sized else float(np.exp(np.log(part.params).mean()))
        out.append(fit_one(name, (key[0], key[1], size), draws, rows, delta, seed))
    return out


def columns_of(data: Sample, rows: Array) -> dict[str, Array]:
    """What a law may read of the chosen rows."""
    families, corpora = _names(data)
    part = data.frame[rows]
    return {
        "params": part.params.to_numpy(np.float64),
        "tokens": part.tokens.to_numpy(np.float64),
        "unique_tokens": part.unique_tokens.to_numpy(np.float64),
        "quality": part.quality.to_numpy(np.float64),
        "family": codes(part.family, families),
        "corpus": codes(part.corpus, corpora),
    }


def joint_surfaces(
    frame: pd.DataFrame,
    draws: int,
    seed: int,
    delta: float,
    bootstrap: str = "wild",
    form: Form = PLAIN,
) -> Surfaces:
    """A joint law alone, on runs of one target; rows as `cells.target_frame`'s."""
    drawn = draw(sample(frame), draws, seed, bootstrap)
    joint = fit_joint(drawn, delta, seed, form)
    families, corpora = _names(drawn.data)
    return Surfaces(drawn.data, drawn, families, corpora, {}, [], joint)


def bind(
    name: str,
    columns: Mapping[str, Array],
    data: Sample,
    options: Options | None = None,
) -> Law:
    """The law `name` for these columns [n] of a sample, with the sample's levels."""
    families, corpora = _names(data)
    centre = {key: float(np.log(columns[key]).mean()) for key in ("params", "tokens")}
    named = {"family": families, "corpus": corpora}
    return laws.load(name).bind(named, centre, **(options or {}))


def fit_one(
    name: str,
    head: tuple[str, str, float],
    draws: Draws,
    rows: Array,
    delta: float,
    seed: int,
    options: Options | None = None,
    advise: bool = True,
) -> Fitted:
    """One law on the chosen rows, and on every draw of them.

    Args:
      options: of the law's `bind`.
      advise: a refusal names the run that would help most.
    """
    columns = columns_of(draws.data, rows)
    law = bind(name, columns, draws.data, options)
    columns = {key: columns[key] for key in ("params", "tokens", *law.columns)}
    outcome, theta = _fit(law, columns, draws, rows, delta, seed, advise)
    return Fitted(law, *head, rows, outcome, theta, columns)


def _fit(
    law: Law,
    columns: Mapping[str, Array],
    draws: Draws,
    rows: Array,
    delta: float,
    seed: int,
    advise: bool,
) -> tuple[Fit | Refusal, Array | None]:
    """The fit and its coordinates in every draw, those of the fit first."""
    loss, chosen = draws.data.loss[rows], draws.chosen[rows]
    outcome = fit(law, columns, loss, chosen, delta=delta, seed=seed, advise=advise)
    if isinstance(outcome, Refusal):
        return outcome, None
    theta = np.full((len(draws), outcome.theta.size), np.nan)
    if len(draws) and spare(law, columns):
        drawn, weights = again(draws, rows, outcome, columns, delta)
        theta = refit(outcome, columns, drawn, weights, delta)
    return outcome, np.concatenate([outcome.theta[None], theta])


def spare(law: Law, columns: Mapping[str, Array]) -> bool:
    """Whether there are points enough to say how well the law is known.

    With fewer than twice the parameters, a pairs draw shows which points it kept, and
    a wild draw repeats residuals that the fit has taken most of.
    """
    points = set(zip(*columns.values(), strict=True))
    return len(points) >= 2 * len(law.parameters)


def fits_frame(surfaces: Surfaces, target: str) -> pd.DataFrame:
    """Parameters of the laws of one family and corpus, with intervals."""
    return parameters_frame([*surfaces.single.values(), *surfaces.sizes], target)


def parameters_frame(fits: Sequence[Fitted], target: str) -> pd.DataFrame:
    """Parameters of laws, with intervals; what was refused has no rows."""
    rows = []
    for fitted in fits:
        if isinstance(fitted.outcome, Refusal) or fitted.theta is None:
            continue
        low, high = interval(fitted.law.natural(fitted.theta[1:]))
        held = fitted.at_bound
        for k, name in enumerate(fitted.law.names):
            rows.append(
                fitted.head(target)
                | {
                    "parameter": name,
                    "value": fitted.outcome.values[k],
                    "low": low[k],
                    "high": high[k],
                    "bound": name in held,
                }
            )
    return pd.DataFrame(rows)


def joint_frame(surfaces: Surfaces, target: str) -> pd.DataFrame:
    """Parameters of the joint law: what they belong to, with intervals."""
    fitted = surfaces.joint
    if isinstance(fitted.outcome, Refusal) or fitted.theta is None:
        return pd.DataFrame()
    low, high = interval(fitted.law.natural(fitted.theta[1:]))
    reported = fitted.law.reported or fitted.law.parameters
    return pd.DataFrame(
        {
            "target": target,
            "law": fitted.law.name,
            "parameter": [p.name for p in reported],
            "kind": [p.kind for p in reported],
            "level": [p.level for p in reported],
            "value": fitted.outcome.values,
            "low": low,
            "high": high,
            "bound": [p.name in fitted.at_bound for p in reported],
            "reference": [p.reference for p in reported],
        }
    )


def doubts(fitted: Fitted) -> list[str]:
    """What a reader of one fit must know: each in words, numbers after a colon."""
    found = fitted.outcome
    out = []
    if isinstance(found, Refusal):
        return [f"refused: {found.reason}"]
    if found.at_bound:
        out.append(f"on a bound: {', '.join(found.at_bound)}")
    if fitted.ends_at_bound:
        ends = ", ".join(fitted.ends_at_bound)
        why = "on a bound of the search, not set by the data"
        out.append(f"an end of an interval is {why}: {ends}")
    if found.objective_gap > GAP:
        out.append(f"random starts went lower than its own: {found.objective_gap:.1e}")
    if found.condition > ILL_CONDITIONED:
        out.append(f"nearly unidentified: condition {found.condition:.1e}")
    if fitted.identified < FEW_DRAWS and not np.isfinite(fitted.params):
        out.append(f"identified in part of the draws: {fitted.identified:.0%}")
    return out


def quality_frame(surfaces: Surfaces, target: str) -> pd.DataFrame:
    """How well each fit of a target is determined."""
    return determined_frame(surfaces.everything(), target)


def determined_frame(fits: Sequence[Fitted], target: str) -> pd.DataFrame:
    """How well each fit is determined, one row a fit."""
    rows = []
    for fitted in fits:
        found = fitted.outcome
        if isinstance(found, Refusal):
            continue
        rows.append(
            fitted.head(target)
            | {
                "runs": found.rows,
                "objective": found.objective,
                "gradient_norm": found.gradient_norm,
                "objective_gap": found.objective_gap,
                "starts_agreeing": found.starts_agreeing,
                "condition": found.condition,
                "r2": found.r2,
                "rmse_log": found.rmse_log,
                "identified": fitted.identified,
                "flag": "; ".join(doubts(fitted)),
            }
        )
    return pd.DataFrame(rows)


def residuals(fitted: Fitted, draws: Draws) -> pd.DataFrame:
    """Observed and predicted loss of the runs that a fit saw."""
    if isinstance(fitted.outcome, Refusal):
        return pd.DataFrame()
    seen = draws.chosen[fitted.rows] > 0
    predicted = fitted.law.predict(fitted.outcome.theta, fitted.columns)[seen]
    part = draws.data.frame.loc[fitted.rows].loc[seen]
    out = part[["family", "corpus", "params", "tokens"]].copy()
    out["observed"], out["predicted"] = draws.data.loss[fitted.rows][seen], predicted
    out["residual"] = np.log(out.observed) - np.log(predicted)
    out["law"] = fitted.law.name
    return out


def curves_frame(surfaces: Surfaces, target: str, points: int = 40) -> pd.DataFrame:
    """The law of each family and corpus along D at each of its sizes, for drawing.

    Where a family and corpus cannot identify its own law the joint one is drawn.
    """
    parts = []
    frame = surfaces.data.frame
    tokens = np.geomspace(frame.tokens.min() / 1.5, frame.tokens.max() * 2.0, points)
    for (family, corpus), part in frame.groupby(["family", "corpus"]):
        for fitted, surface in (
            (surfaces.single[family, corpus], surfaces.of_single),
            (surfaces.joint, surfaces.of_joint),
        ):
            if fitted.theta is None:
                continue
            for size in _drawn_sizes(part):
                loss = surface(family, corpus, np.full(points, size), tokens)
                low, high = interval(loss[1:])
                columns = {"family": family, "corpus": corpus, "target": target}
                columns |= {"params": size, "tokens": tokens, "loss": loss[0]}
                columns |= {"low": low, "high": high, "law": fitted.law.name}
                parts.append(pd.DataFrame(columns))
            break
    return stacked(parts)


def _drawn_sizes(part: pd.DataFrame) -> list[float]:
    """Mean size of each level, or five of them where there are more than a dozen."""
    sizes = np.exp(np.log(part.params).groupby(part.level).mean()).to_numpy()
    if sizes.size > 12:
        sizes = sizes[np.linspace(0, sizes.size - 1, 5).round().astype(int)]
    return sizes.tolist()
