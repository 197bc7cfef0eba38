"""What a reader needs to repeat a scaling study, question by question, for machines.

The sections and questions are those that Li, Kudugunta and Zettlemoyer 2025,
"(Mis)Fitting: a survey of scaling laws" (arXiv 2502.18969), put to the papers they
survey, by the columns of the sheet that they publish with it, in this project's words.
An answer is read off the analysis; where the table cannot say it, it is null.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis import laws
from analysis.fitting.fit import DELTA, RANDOM_STARTS
from analysis.questions._question import ASSUMPTIONS, CHOICES, questions
from analysis.results import Analysis

Answer = str | int | float | list[Any] | list[float] | dict[str, Any] | None


def checklist(analysis: Analysis) -> dict[str, dict[str, Answer]]:
    """Answers by section and question, ready for JSON."""
    return {
        "general": _general(analysis),
        "hypothesis": _hypothesis(analysis),
        "training": _training(analysis),
        "data": _data(analysis),
        "fitting": _fitting(analysis),
    }


def _general(analysis: Analysis) -> dict[str, Answer]:
    """What is open to a reader. Of code and weights a table of runs says nothing."""
    return {
        "domain": None,
        "training code": None,
        "analysis code": "the package that wrote this file; versions in report.json",
        "checkpoints": None,
        "scores of every run": f"{len(analysis.runs)} runs in report.json",
    }


def _hypothesis(analysis: Analysis) -> dict[str, Answer]:
    fitted = list(dict.fromkeys([*analysis.fits.law, *analysis.joint.law]))
    return {
        "form of the law and its source": {name: _form(name) for name in fitted},
        "purpose of the law": (
            "prediction, compute-optimal sizes, the worth of architecture and data"
        ),
        "variables it relates": ["params", "tokens", "family", "corpus", "loss"],
        "parameters that are fitted": {
            name: list(
                dict.fromkeys(analysis.fits[analysis.fits.law == name].parameter)
            )
            or list(analysis.joint.parameter[analysis.joint.law == name].unique())
            for name in fitted
        },
        "laws fitted": len(analysis.quality),
        "parameters a law": _counts(analysis),
        ASSUMPTIONS: _said(analysis, ASSUMPTIONS),
    }


def _said(analysis: Analysis, entry: str) -> list[str]:
    """What the questions answer to an entry."""
    asked = [one.checks[entry] for one in questions() if entry in one.checks]
    return [text for answer in asked for text in answer(analysis.view)]


def _counts(analysis: Analysis) -> dict[str, int]:
    """How many parameters each law has, by name."""
    both = pd.concat([analysis.fits, analysis.joint])
    if both.empty:
        return {}
    free = both[~both.reference.eq(True)] if "reference" in both else both
    counts = free.groupby("law").parameter.nunique()
    return {str(name): int(count) for name, count in counts.items()}


def _form(name: str) -> str | None:
    """The first paragraph of the law's docstring: its equation."""
    if name not in laws.names():
        return None
    text = (laws.load(name).__doc__ or "").strip()
    return " ".join(text.split("\n\n")[0].split())


def _training(analysis: Analysis) -> dict[str, Answer]:
    runs = analysis.runs
    return {
        "models trained": len(runs),
        "runs a law": _range(analysis.quality.runs),
        "families": sorted(map(str, runs.family.unique())),
        "sizes, in parameters": _levels(runs.params),
        "parameters counted with embeddings": _levels(runs.params_total),
        "how parameters are counted": (
            "without embeddings, where the table gives both; the verdicts say what"
            " counting otherwise moves"
        ),
        "training data": sorted(map(str, runs.corpus.unique())),
        f"budgets, in {analysis.counted}": _levels(runs.tokens),
        "runs that repeat data": int((runs.epochs > 1.001).sum()),
        "compute, in FLOPs": _range(runs.flops),
        "how compute is counted": "as the table gives it; where it does not, 6 N D",
        "learning rates tried": _levels(runs.learning_rate),
        "batch sizes": _levels(runs.batch),
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
        "points a law": _range(analysis.quality.runs),
        "points of each run that are fitted": "one, its final loss",
        "subsets that were fitted": (
            "each family on each corpus, each of its sizes, and all runs of a target"
        ),
        "points changed before the fit": "none: no smoothing, averaging or subtraction",
        "trajectories": int(analysis.runs.trajectory.nunique()),
    }


def _fitting(analysis: Analysis) -> dict[str, Answer]:
    left = analysis.excluded.groupby("reason")["rows"].sum()
    quality = analysis.quality
    return {
        "objective": "sum of Huber losses of ln(predicted) - ln(observed)",
        "Huber's delta": DELTA,
        "algorithm": "Newton's method from many starts, float64",
        "starts": f"the law's own grid and {RANDOM_STARTS} at random",
        "share of starts that agree, least": _least(quality.starts_agreeing),
        "points left out, by reason": {str(k): int(v) for k, v in left.items()},
        "bootstrapping": "95% intervals, bootstrap over training trajectories",
        "goodness of fit, root mean square log error": _most(quality.rmse_log),
        "seed noise, standard deviation of log loss": _most(
            analysis.fitness.seed_noise
        ),
        "validation": (
            "the largest cells, withheld from every fit"
            if len(analysis.holdout)
            else None
        ),
        "extrapolation, withheld cells": len(analysis.holdout),
        "extrapolation, share inside their interval": (
            float(analysis.holdout.inside.astype(bool).mean())
            if len(analysis.holdout)
            else None
        ),
        CHOICES: _said(analysis, CHOICES),
    }


def _range(values: Any) -> dict[str, Answer]:
    """The least and the most; null where there are none."""
    return {"least": _least(values), "most": _most(values)}


def _least(values: Any) -> float | None:
    return min(_levels(values), default=None)


def _most(values: Any) -> float | None:
    return max(_levels(values), default=None)


def _levels(values: Any) -> list[float]:
    """The values there are, rising; a blank or infinite cell is none."""
    known = values.to_numpy(np.float64)
    return sorted(set(known[np.isfinite(known)].tolist()))
