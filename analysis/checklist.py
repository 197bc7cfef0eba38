"""What a reader needs to repeat a scaling study, question by question, for machines.

The questions are those of the checklist of Li, Kudugunta and Zettlemoyer 2025,
"(Mis)Fitting: a survey of scaling laws" (arXiv 2502.18969), in this project's words.
An answer is read off the analysis; where the table cannot say it, it is null.
"""

from __future__ import annotations

from typing import Any

from analysis import laws, words
from analysis.analyse import Analysis
from analysis.fit import DELTA, RANDOM_STARTS

Answer = str | int | float | list[Any] | dict[str, Any] | None


def checklist(analysis: Analysis) -> dict[str, dict[str, Answer]]:
    """Answers by section and question, ready for JSON."""
    return {
        "hypothesis": _hypothesis(analysis),
        "training": _training(analysis),
        "data": _data(analysis),
        "fitting": _fitting(analysis),
    }


def _hypothesis(analysis: Analysis) -> dict[str, Answer]:
    fitted = list(dict.fromkeys([*analysis.fits.law, *analysis.joint.law]))
    return {
        "form of the law and its source": {name: _form(name) for name in fitted},
        "variables it relates": ["params", "tokens", "family", "corpus", "loss"],
        "parameters that are fitted": {
            name: list(
                dict.fromkeys(analysis.fits[analysis.fits.law == name].parameter)
            )
            or list(analysis.joint.parameter[analysis.joint.law == name].unique())
            for name in fitted
        },
        "assumptions that were tested": words.shared(analysis.nested),
    }


def _form(name: str) -> str | None:
    """The first paragraph of the law's docstring: its equation."""
    if name not in laws.names():
        return None
    text = (laws.load(name).__doc__ or "").strip()
    return " ".join(text.split("\n\n")[0].split())


def _training(analysis: Analysis) -> dict[str, Answer]:
    runs = analysis.runs
    rates = runs.learning_rate.dropna()
    return {
        "models trained": len(runs),
        "families": sorted(map(str, runs.family.unique())),
        "sizes, in parameters": sorted(map(float, runs.params.unique())),
        "parameters counted with embeddings": sorted(
            map(float, runs.params_total.unique())
        ),
        "training data": sorted(map(str, runs.corpus.unique())),
        "budgets, in tokens": sorted(map(float, runs.tokens.unique())),
        "runs that repeat data": int((runs.epochs > 1.001).sum()),
        "compute, in FLOPs": {
            "least": float(runs.flops.min()),
            "most": float(runs.flops.max()),
        },
        "learning rates tried": sorted(map(float, rates.unique())),
        "batch sizes": sorted(map(float, runs.batch.dropna().unique())),
        "how the learning rate was chosen": (
            "the best of its cell, again in every bootstrap draw"
            if len(analysis.tuning)
            else "not known: no cell tried two"
        ),
        "seeds": sorted(map(str, runs.seed.unique())),
    }


def _data(analysis: Analysis) -> dict[str, Answer]:
    return {
        "metric": f"loss, {analysis.unit}",
        "evaluation sets": list(analysis.targets),
        "points of each run that are fitted": "one, its final loss",
        "points changed before the fit": "none: no smoothing, averaging or subtraction",
        "trajectories": int(analysis.runs.trajectory.nunique()),
    }


def _fitting(analysis: Analysis) -> dict[str, Answer]:
    left = analysis.exclusions.groupby("reason").run_id.nunique()
    quality = analysis.quality
    return {
        "objective": "sum of Huber losses of ln(predicted) - ln(observed)",
        "Huber's delta": DELTA,
        "algorithm": "Newton's method from many starts, float64",
        "starts": f"the law's own grid and {RANDOM_STARTS} at random",
        "share of starts that agree, least": _least(quality.agree),
        "points left out, by reason": {str(k): int(v) for k, v in left.items()},
        "intervals": "95%, bootstrap over training trajectories",
        "goodness of fit, root mean square log error": _most(quality.rmse_log),
        "seed noise, standard deviation of log loss": _most(
            analysis.fitness.seed_noise
        ),
        "extrapolation, withheld cells": len(analysis.holdout),
        "extrapolation, share inside their interval": (
            float(analysis.holdout.inside.astype(bool).mean())
            if len(analysis.holdout)
            else None
        ),
        "other choices and what they move": words.moved(analysis.verdicts),
    }


def _least(values: Any) -> float | None:
    known = values.dropna()
    return float(known.min()) if len(known) else None


def _most(values: Any) -> float | None:
    known = values.dropna()
    return float(known.max()) if len(known) else None
