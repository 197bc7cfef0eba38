"""How far the leading law can be trusted: its likelihood, its runs, and other methods.

Nothing here changes a number that is reported. Profiles show whether an interval is
lop-sided or open, the influence of single runs which of them a parameter hangs on, the
sweep of delta whether it hangs on how residuals are counted; the seeds' own spread is
set beside the fitted density's, and estimators of the compute-optimal size that need no
law beside the law's.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.fitting.fit import Fit, Refusal, influence, sweep
from analysis.inference.intervals import Sample
from analysis.inference.likelihood import Likelihood, seed_check
from analysis.inference.profiles import profile
from analysis.laws import Array
from analysis.questions import optima
from analysis.questions.frontier import Rate
from analysis.questions.model_choice import likelihood_of
from analysis.questions.optima import Optima
from analysis.schema import Column, declare
from analysis.surfaces.surfaces import Fitted, Surfaces
from scaling.errors import UserError

FRAMES = (
    declare(
        "profiles",
        "Profile likelihoods of the leading law's exponents and multipliers of data.",
        "target law parameter value",
        Column("drop", "twice the log likelihood below the best, per trajectory"),
        Column("threshold", "the drop that ends the 95% interval"),
        Column("rule", "where the threshold is from: parametric bootstrap or F"),
        Column("best", "the fit's value"),
        Column("low", "where the drop passes the threshold below; NaN where never"),
        Column("high", "where the drop passes the threshold above; NaN where never"),
    ),
    declare(
        "influence",
        "Each run left out of the leading law's fit.",
        "target law run_id family corpus params tokens",
        Column("score", "robust standard deviations from the curve"),
        Column("flagged", "whether it is an outlier"),
        Column("objective", "by how much the objective falls"),
        Column("parameter", "the parameter that moves furthest"),
        Column("change", "of that parameter"),
        Column("spreads", "the change in bootstrap standard deviations"),
    ),
    declare(
        "sweeps",
        "The leading law at other thresholds of Huber's loss.",
        "target law",
        Column("delta", "the threshold, in log loss"),
        "parameter value",
        Column("own", "whether it is the threshold of the analysis"),
    ),
)

__all__ = ["frames", "main_parameters"]

# Draws behind the threshold of a profile and behind an optimum.
PROFILE_DRAWS = 100
OPTIMA_DRAWS = 100
LEAST_SIZES = 5
# With more runs than this each one alone moves nothing, and leaving each out is long.
MOST_RUNS = 1000
# Deltas beside the fit's own: nearly absolute errors, and least squares.
SWEEP = (1e-4, 1e-2, np.inf)

Frames = dict[str, pd.DataFrame]


def frames(
    surfaces: Surfaces,
    delta: float,
    seed: int,
    rate: Rate,
    target: str,
) -> Frames:
    """`profiles`, `influence`, `sweeps`, `seed_checks`, `optima` and `powers`.

    Args:
      surfaces: with the law that effects are reported by as the joint one.
      rate: FLOPs per parameter and token of a family at a size.
    """
    found = {}
    fitted = surfaces.joint
    if not isinstance(fitted.outcome, Refusal):
        model = likelihood_of(fitted, surfaces.draws, delta)
        seen = surfaces.draws.chosen > 0
        found["profiles"] = _profiles(fitted, model, seed)
        found["influence"] = _influence(fitted, model, surfaces.data.frame[seen])
        found["sweeps"] = _sweeps(fitted, model, seed)
        found["seed_checks"] = _seed_checks(model, surfaces.data, seen)
    found["optima"], found["powers"] = _optima(surfaces, rate, seed)
    return {
        name: frame.assign(target=target, law=fitted.law.name)
        for name, frame in found.items()
        if not frame.empty
    }


def main_parameters(fitted: Fitted) -> list[str]:
    """The exponents, and what a family or a corpus multiplies its data by."""
    free = {p.name for p in fitted.law.parameters}
    return [
        p.name
        for p in fitted.law.reported or fitted.law.parameters
        if p.name in free
        and (p.name in ("alpha", "beta") or p.name.startswith("rhoD["))
    ]


def _profiles(fitted: Fitted, model: Likelihood, seed: int) -> pd.DataFrame:
    """Profile likelihoods, with the fit's own value and bootstrap interval beside."""
    best = dict(zip(fitted.law.names, model.fit.values, strict=True))
    names = main_parameters(fitted)
    multipliers = [name for name in names if name.startswith("rhoD[")]
    # The largest multiplier stands for its like.
    furthest = sorted(multipliers, key=lambda name: abs(np.log(best[name])))[-1:]
    exponents = [name for name in names if name not in multipliers]
    frame = profile(model, [*exponents, *furthest], PROFILE_DRAWS, seed)
    return frame.assign(best=frame.parameter.map(best))


def _influence(fitted: Fitted, model: Likelihood, runs: pd.DataFrame) -> pd.DataFrame:
    """What leaving each run out does: the parameter that it moves furthest."""
    if model.runs > MOST_RUNS or fitted.theta is None or len(fitted.theta) < 3:
        return pd.DataFrame()
    found = influence(model.fit, model.columns, model.loss)
    drawn = fitted.theta[1:][~np.isnan(fitted.theta[1:, 0])]
    if len(drawn) < 2:
        return pd.DataFrame()
    # What no draw bounds moves by no spread of it.
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.std(fitted.law.natural(drawn), axis=0)
    names = np.array(fitted.law.names)
    # The references are 1 by definition and move with nothing.
    moving = np.flatnonzero(spread > 0)
    if not moving.size:
        return pd.DataFrame()
    moved = found.change[:, moving] / spread[moving]
    known = ~np.isnan(moved).all(axis=1)
    most = np.zeros(len(moved), int)
    most[known] = np.nanargmax(np.abs(moved[known]), axis=1)
    every = np.arange(len(moved))
    kept = runs[["run_id", "family", "corpus", "params", "tokens"]]
    return kept.reset_index(drop=True).assign(
        score=found.score,
        flagged=found.flagged,
        objective=found.objective,
        parameter=names[moving][most],
        change=found.change[every, moving[most]],
        spreads=moved[every, most],
    )


def _sweeps(fitted: Fitted, model: Likelihood, seed: int) -> pd.DataFrame:
    """The main parameters at other deltas; the fit's own among them."""
    law, names = fitted.law, main_parameters(fitted)
    others = [delta for delta in SWEEP if delta != model.delta]
    found: dict[float, Fit | Refusal] = {model.delta: model.fit}
    found |= sweep(law, model.columns, model.loss, others, seed=seed)
    rows = []
    for delta in sorted(found):
        one = found[delta]
        if isinstance(one, Refusal):
            continue
        values = dict(zip(law.names, one.values, strict=True))
        rows += [
            {"delta": delta, "parameter": name, "value": values[name]}
            | {"own": delta == model.delta}
            for name in names
        ]
    return pd.DataFrame(rows)


def _seed_checks(model: Likelihood, data: Sample, seen: Array) -> pd.DataFrame:
    return seed_check(model, data.cell[seen])


def _optima(
    surfaces: Surfaces, rate: Rate, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute-optimal sizes by three methods that know no law, and their powers."""
    rows: list[pd.DataFrame] = []
    powers: list[dict[str, object]] = []
    best = surfaces.data.frame[surfaces.draws.chosen > 0]
    for (family, corpus), part in best.groupby(["family", "corpus"]):
        # One count of FLOPs for every method, and for the law's own path.
        flops = rate(str(family), part.params.to_numpy()) * part.params * part.tokens
        part = part.assign(flops=flops)
        head = {"family": family, "corpus": corpus}
        for found in _estimates(part, seed):
            rows.append(_budgets(found).assign(**head))
            for axis in ("params", "tokens"):
                power = getattr(found, axis)
                if power is not None:
                    named = {"method": found.method, "of": axis}
                    named |= {"exponent": power.exponent, "low": power.low}
                    powers.append(
                        head
                        | named
                        | {"high": power.high, "r2": power.r2}
                        | {"budgets": power.budgets}
                    )
    filled = [part for part in rows if len(part)]
    joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return joined, pd.DataFrame(powers)


def _estimates(part: pd.DataFrame, seed: int) -> Iterable[Optima]:
    yield optima.parabola(part, OPTIMA_DRAWS, seed)
    yield optima.interpolation(part, None, OPTIMA_DRAWS, seed)
    # The budgets of one size are points of one curve. The smallest and the largest
    # size are never an envelope's optimum, and one line needs three that are.
    if part.level.nunique() < LEAST_SIZES:
        return
    curves = part.groupby(["level", "tokens"], as_index=False).mean(numeric_only=True)
    try:
        yield optima.envelope(
            curves.assign(trajectory=curves.level), OPTIMA_DRAWS, seed
        )
    except UserError:
        return  # Fewer than three sizes with two budgets: there is no envelope.


def _budgets(found: Optima) -> pd.DataFrame:
    """A row a budget: its optimum, or the reason why it shows none."""
    rows = []
    for one in found.budgets:
        low, high = np.nan, np.nan
        kept = one.draws[~np.isnan(one.draws)]
        if kept.size >= OPTIMA_DRAWS // 2:
            low, high = np.quantile(kept, [0.025, 0.975])
        rows.append(
            {"method": found.method, "compute": one.flops, "params": one.params}
            | {"params_low": low, "params_high": high, "tokens": one.tokens}
            | {"loss": one.loss, "sizes": one.runs, "warning": "; ".join(one.warnings)}
        )
    return pd.DataFrame(rows)
