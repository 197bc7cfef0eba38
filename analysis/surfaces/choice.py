"""Laws of one target under draws that they share, so that a choice can be repeated.

A draw of `intervals.again` lies around one law's curve. For a choice to be made again
in it every candidate is fitted to that same draw: around the curve of the law that
describes the runs best, since the others are too narrow or too wide for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from analysis.fitting.fit import Fit, huber, refit
from analysis.inference.intervals import Draws, again
from analysis.inference.likelihood import aicc, log_likelihood
from analysis.laws import Array
from analysis.surfaces.surfaces import Choice, Fitted, spare

# Criteria of the laws [laws, B] -> the one chosen in each column [B].
Rule = Callable[[Array], Array]


def choose(
    fits: Mapping[str, Fitted],
    criteria: Mapping[str, float],
    around: str,
    known: Fitted | None,
    draws: Draws,
    delta: float,
    rule: Rule,
) -> Choice:
    """Fits every law to the same draws, and chooses one in each.

    Args:
      fits: by name, each law's fit to the runs; `criteria`: its AICc.
      around: the law whose curve and residuals make the draws.
      known: that law with its coordinates in those draws, where they are known.
      rule: of criteria alone, so that the runs and every draw are judged alike.
    """
    made = fits[around]
    assert isinstance(made.outcome, Fit)
    loss, weights = again(draws, made.rows, made.outcome, made.columns, delta)
    out, rows = {}, []
    for name, fitted in fits.items():
        if name == around and known is not None:
            theta = known.theta
        else:
            theta = _again(fitted, loss, weights, delta)
        assert theta is not None
        out[name] = dataclasses.replace(fitted, theta=theta)
        drawn = _criteria(out[name], draws, loss, weights, delta)
        rows.append(np.concatenate([[criteria[name]], drawn]))
    return Choice(out, rule(np.array(rows)))


def _again(fitted: Fitted, loss: Array, weights: Array, delta: float) -> Array:
    """Coordinates of a law [1 + B, P]: of its fit, then of each draw."""
    assert isinstance(fitted.outcome, Fit)
    theta = np.full((len(weights), fitted.outcome.theta.size), np.nan)
    if len(weights) and spare(fitted.law, fitted.columns):
        theta = refit(fitted.outcome, fitted.columns, loss, weights, delta)
    return np.concatenate([fitted.outcome.theta[None], theta])


def _criteria(
    fitted: Fitted, draws: Draws, loss: Array, weights: Array, delta: float
) -> Array:
    """AICc of a law in each draw [B]; infinite where it is not identified."""
    assert fitted.theta is not None
    if len(fitted.theta) < 2:
        return np.zeros(0)
    residual = np.log(fitted.law.predict(fitted.theta[1:], fitted.columns))
    residual -= np.log(loss)
    total = (weights * huber(residual, delta)).sum(axis=1)
    value = log_likelihood(total, weights.sum(axis=1), delta)
    # Trajectories of which the draw holds a run.
    clusters = draws.data.cluster
    first = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[first], prepend=-1))
    held = np.add.reduceat(weights[:, first], starts, axis=1) > 0
    return aicc(value, fitted.theta.shape[1] + 1, held.sum(axis=1))
