"""Matched cells of a swap taken together: means, costs, and what the laws say there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.design.swaps import Described, Swap
from analysis.effects.data_equivalents import SIZES, Surface
from analysis.effects.matched_cells import DocumentError, Match, Matches, margin
from analysis.formatting import named
from analysis.inference import quantiles
from analysis.inference.seeds import Noise
from analysis.inference.verdict import DECIDES, NORMAL
from analysis.laws import Array


def mean_interval(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean over cells; NaN for fewer than three."""
    if values.size < 3:
        return math.nan, math.nan
    reach = quantiles.student(0.5 + level / 2.0, values.size - 1) * _error(values)
    return float(values.mean() - reach), float(values.mean() + reach)


def _error(values: Array) -> float:
    return float(values.std(ddof=1) / math.sqrt(values.size))


def measured_frame(
    found: Matches,
    target: str,
    text: str,
    described: Described,
    noise: Noise,
    document_se: DocumentError,
) -> pd.DataFrame:
    """Mean log loss ratio of each swap over its matched cells, without a law.

    Of swaps within one corpus the cells trained on the target's own text alone, where
    there are any: what an architecture does on text that it was not trained on is
    another question. The interval is Student's, of the mean over cells; of fewer than
    three cells, it is of these cells, by the noise of their seeds and documents. The
    range of N and D is that of the cells.

    Args:
      text: the corpus that the target is held-out text of.
      described: what the levels of corpora are made of.
      noise, document_se: as in `margin`.
    """
    pairs: dict[tuple[str, str, str], dict[Swap, Sequence[Match]]] = {}
    for swap, matched in found.items():
        pairs.setdefault(swap.pair, {})[swap] = matched
    rows = []
    for (kind, baseline, alternative), swaps in pairs.items():
        texts = {swap: _corpora(swap, described) for swap in swaps}
        own = {swap: m for swap, m in swaps.items() if texts[swap] == {text}}
        swaps = own or swaps
        matched = [match for every in swaps.values() for match in every]
        corpora = sorted(set().union(*(texts[swap] for swap in swaps)))
        logs = np.array([match.log_ratio for match in matched])
        low, high = mean_interval(logs)
        if math.isnan(low):
            low, high = _noise_interval(matched, noise, document_se)
        sizes = np.concatenate([_sizes(matched, side) for side in ("before", "after")])
        params, tokens = sizes[::2], sizes[1::2]
        rows.append(
            {
                "kind": kind,
                "baseline": baseline,
                "alternative": alternative,
                "target": target,
                "corpora": named(corpora),
                "cells": len(matched),
                "log_ratio": float(logs.mean()),
                "low": low,
                "high": high,
                "params_low": params.min(),
                "params_high": params.max(),
                "tokens_low": tokens.min(),
                "tokens_high": tokens.max(),
            }
        )
    return pd.DataFrame(rows)


def _corpora(swap: Swap, described: Described) -> set[str]:
    """What the two cells of a swap were trained on, whatever was done to it."""
    made = described.get("corpus", {})
    ends = (swap.before[1], swap.after[1])
    return {made.get(end, {}).get("corpus", end) for end in ends}


def _noise_interval(
    matched: Sequence[Match], noise: Noise, document_se: DocumentError
) -> tuple[float, float]:
    """The mean log ratio of these very cells, with the noise of each."""
    mean = float(np.mean([match.log_ratio for match in matched]))
    # Half widths share Student's factor, so that they add as standard errors do.
    halves = [margin(m.before, m.after, noise, document_se) for m in matched]
    reach = math.hypot(*halves) / len(halves)
    return mean - reach, mean + reach


def agreement_frame(surface: Surface, found: Matches, target: str) -> pd.DataFrame:
    """Mean log loss ratio over matched cells: as measured, and as the surface has it.

    They agree where the 95% interval of the mean difference, cell by cell, with the
    errors of both, contains zero. The two share their runs, so that their errors go
    together: the interval errs on the wide side.
    """
    rows = []
    for swap, matched in found.items():
        sides = [
            surface(*end, *_sizes(matched, side))
            for end, side in ((swap.before, "before"), (swap.after, "after"))
        ]
        modelled = np.log(sides[1]) - np.log(sides[0])
        drawn = modelled.mean(axis=1)
        known = drawn[1:][~np.isnan(drawn[1:])]
        if len(matched) < 3 or np.isnan(drawn[0]) or known.size < 2:
            continue
        logs = np.array([match.log_ratio for match in matched])
        low, high = mean_interval(logs)
        spread = float(known.std())
        reach = NORMAL * spread
        error = math.hypot(_error(logs - modelled[0]), spread)
        apart = abs(float(logs.mean() - drawn[0]))
        rows.append(
            swap.head(target)
            | {
                "cells": len(matched),
                "measured": float(logs.mean()),
                "low": low,
                "high": high,
                "modelled": float(drawn[0]),
                "model_low": float(drawn[0] - reach),
                "model_high": float(drawn[0] + reach),
                "agrees": bool(
                    apart <= quantiles.student(DECIDES, len(matched) - 1) * error
                ),
            }
        )
    return pd.DataFrame(rows)


def _sizes(matched: Sequence[Match], side: str) -> Array:
    """Parameters and tokens of one side of the matches, [2, k]."""
    cells = [getattr(match, side) for match in matched]
    return np.array([[getattr(cell, name) for cell in cells] for name in SIZES], float)


def costs_frame(
    found: Matches, runs: pd.DataFrame, equivalents: pd.DataFrame, target: str
) -> pd.DataFrame:
    """What a swap costs beside what it gains: FLOPs and wall time on matched cells.

    Ratios of `alternative` over the baseline, geometric means over the matched cells of
    a swap, whatever is held fixed, with Student's intervals of their logs; wall time
    holds only as far as both ran on like machines and in like packs.

    Args:
      runs: run_id, wall_seconds.
      equivalents: rows of `Analysis.equivalents` of one method, for the overall gain.
    """
    seconds = runs.set_index("run_id").wall_seconds
    # A time that is blank, zero or endless was not measured.
    seconds = seconds.where((seconds > 0) & np.isfinite(seconds))
    pairs: dict[tuple[str, str, str], list[Match]] = {}
    for swap, matched in found.items():
        pairs.setdefault(swap.pair, []).extend(matched)
    rows = []
    whole = equivalents[equivalents.fixed == "*"] if len(equivalents) else equivalents
    for (kind, baseline, alternative), matched in pairs.items():
        row: dict[str, Any] = {
            "kind": kind,
            "baseline": baseline,
            "alternative": alternative,
        }
        row |= {"target": target, "cells": len(matched)}
        flops = [m.after.flops / m.before.flops for m in matched]
        wall = [
            seconds.get(m.after.run_id, np.nan) / seconds.get(m.before.run_id, np.nan)
            for m in matched
        ]
        for name, values in (("flops", flops), ("wall", wall)):
            logs = np.log([x for x in values if np.isfinite(x) and x > 0])
            low, high = mean_interval(logs)
            mean = math.exp(logs.mean()) if logs.size else math.nan
            row |= {f"{name}_ratio": mean}
            row |= {f"{name}_low": np.exp(low), f"{name}_high": np.exp(high)}
        if len(whole):
            same = whole[
                (whole.kind == kind)
                & (whole.baseline == baseline)
                & (whole.alternative == alternative)
            ]
            for found_ in same.itertuples():
                row |= {"factor": found_.factor, "low": found_.low}
                row |= {"high": found_.high, "p_infinite": found_.p_infinite}
        rows.append(row)
    return pd.DataFrame(rows)
