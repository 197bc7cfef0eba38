"""From a table of runs to everything a report shows: one pass, one typed result.

`Analysis` is the hand-over between the numbers (this file and what it calls) and their
presentation (plots.py, report.py): plain frames, no functions, no wording. A frame that
a design cannot give is empty and its reason stands in `notes`.
"""

from __future__ import annotations

import dataclasses

import pandas as pd


@dataclasses.dataclass(frozen=True)
class Note:
    """Something a reader must know before believing a number.

    Attributes:
      kind: "refused" (cannot be identified), "edge" (optimum at the edge of its grid),
        "bound" (parameter at a bound), "excluded", "disagree", "undetermined", "warning".
      about: which section it belongs to: "table", "tuning", "fits", "joint", "effects",
        "variance", "noise", "holdout".
      text: one sentence with the numbers in it.
    """

    kind: str
    about: str
    text: str


@dataclasses.dataclass(frozen=True)
class Analysis:
    """All results for one study or table. Loss in nats/token unless `unit` says else.

    `low` and `high` are 95% intervals everywhere. `target` is the evaluation set that
    losses are read on; effects are per target and never mix targets.

    Frames (columns):
      runs: run_id, family, corpus, size, params (non-embedding), params_total, tokens,
        unique_tokens, epochs, flops, learning_rate, batch, seed, data_seed, status,
        trajectory, wall_seconds, used (bool), and a `loss:TARGET` column per target.
      exclusions: run_id, target, reason. Every row of the table that no fit saw.
      cells: family, corpus, target, params, params_total, tokens, unique_tokens, epochs,
        flops, loss, se, learning_rate, rates (how many were tried), edge ("", "low",
        "high": where the best rate sits in a grid of two or more), seeds, run_id.
      tuning: family, corpus, target, params, tokens, learning_rate, loss, best (bool).
      fits: family, corpus, target, law, parameter, value, low, high, bound (bool).
      quality: one row a fit: family, corpus, target, law, runs, objective,
        gradient_norm, gap (to the best of all starts), agree (share of starts),
        condition, r2, rmse_log. family is "*" for the joint law.
      curves: family, corpus, target, params, tokens, loss, low, high: the fitted law on
        a fine grid of tokens for each size, for drawing.
      residuals: family, corpus, target, params, tokens, observed, predicted, residual
        (log observed - log predicted), law.
      joint: target, law, parameter, kind ("shared", "family", "corpus"), level, value,
        low, high, reference (bool).
      equivalents: data-equivalents M_D. kind ("architecture", "corpus"), source, to,
        held (the level of the other factor), target, params, tokens, factor, low, high,
        p_infinite (share of draws in which no amount of data does it), method ("joint",
        "family", "paired").
      doubling: family, corpus, target, params, tokens, gain (nats saved by doubling the
        data), low, high.
      ratios: target, params, tokens, architecture ("a -> b"), corpus ("d -> e"),
        lambda (ln M_D architecture / ln M_D corpus), low, high, p_architecture (share
        of draws with |architecture| > |corpus|).
      variance: target, factor, share, low, high, box (the range of N and D meant).
      noise: family, corpus, target, params, tokens, seeds, sd_log.
      fitness: target, lack_of_fit (sd of log residuals), seed_noise (pooled sd), ratio.
      holdout: family, corpus, target, params, tokens, observed, predicted, low, high,
        inside (bool), law. The largest cells, set aside before fitting.
      paths: run_id, step, tokens, loss: training-loss curves, thinned.
    """

    title: str
    unit: str
    targets: tuple[str, ...]
    runs: pd.DataFrame
    exclusions: pd.DataFrame
    cells: pd.DataFrame
    tuning: pd.DataFrame
    fits: pd.DataFrame
    quality: pd.DataFrame
    curves: pd.DataFrame
    residuals: pd.DataFrame
    joint: pd.DataFrame
    equivalents: pd.DataFrame
    doubling: pd.DataFrame
    ratios: pd.DataFrame
    variance: pd.DataFrame
    noise: pd.DataFrame
    fitness: pd.DataFrame
    holdout: pd.DataFrame
    paths: pd.DataFrame
    notes: tuple[Note, ...]
