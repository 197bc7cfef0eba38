"""What a design of runs can identify, and which run would help it most."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from analysis.design import levels
from analysis.fitting.objective import Scale, bounds, log_gradient
from analysis.formatting import count
from analysis.laws import Array, Columns, Law

# A scaled information matrix with a smaller least eigenvalue has a flat direction.
FLAT = 1e-10
# Proposed runs: levels a column, and how far beyond the design's own range they reach.
STEPS, REACH = 9, 4.0


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """The run that would say most about a law.

    Attributes:
      columns: its value in every column of the design, levels as codes.
      text: the same in words, with the names of levels where the law knows them.
    """

    columns: dict[str, float]
    text: str


def refuse(
    law: Law, columns: Columns, weights: Array | None = None, advise: bool = True
) -> str:
    """Why this design cannot identify the law, or "" where nothing speaks against it.

    Args:
      columns: arrays [n].
      weights: [n]; rows of weight zero do not count.
      advise: name the run that would help most; to find it can take as long as a fit.

    Returns:
      A clause.
    """
    used = _used(columns, weights)
    reason = _reason(law, used)
    return f"{reason}{_advice(law, used)}" if reason and advise else reason


def _reason(law: Law, used: Columns) -> str:
    count, wanted = len(next(iter(used.values()))), len(law.parameters)
    for name, least in law.needs.items():
        found = levels.count(used[name])
        if found < least:
            return (
                f"{name} has {found} distinct level{'s' * (found != 1)} (at least "
                f"{levels.DISTINCT:.0%} apart) and {law.name} needs {least}"
            )
    if count < wanted:
        return f"{count} runs for {wanted} parameters"
    if {"params", "tokens"} <= set(law.needs):
        logs = np.log(np.stack([used["params"], used["tokens"]]))
        if abs(np.corrcoef(logs)[0, 1]) > 0.999:
            return (
                "all runs lie on one line in (ln N, ln D), so the terms in N and in D "
                "cannot be told apart; vary D at one N"
            )
    return ""


def _used(columns: Columns, weights: Array | None) -> dict[str, Array]:
    if weights is None:
        return {name: np.asarray(values) for name, values in columns.items()}
    rows = np.asarray(weights) > 0
    return {name: np.asarray(values)[rows] for name, values in columns.items()}


def _advice(law: Law, used: Columns) -> str:
    found = suggest(law, used)
    return f"; the run that would help most: {found.text}" if found else ""


def identified(law: Law, columns: Columns, weights: Array) -> Array:
    """Which weightings [B, n] leave enough distinct rows and levels, [B]."""
    present = (weights > 0).astype(np.float64)
    good = present.sum(axis=1) >= len(law.parameters)
    for name, least in law.needs.items():
        codes = levels.level_codes(np.asarray(columns[name], np.float64))
        member = np.zeros((codes.size, codes.max() + 1))
        member[np.arange(codes.size), codes] = 1.0
        good &= ((present @ member) > 0).sum(axis=1) >= least
    return good


def jacobian(law: Law, theta: Array, columns: Columns, scale: Scale) -> Array:
    """Derivatives of the fitted quantity at theta [P]: [n, P]."""
    slopes = log_gradient(law, theta[None], columns)[0]
    return slopes * law.predict(theta, columns)[:, None] if scale == "raw" else slopes


def at_bound(law: Law, theta: Array) -> tuple[str, ...]:
    """Names of the parameters within a thousandth of their range of a bound."""
    low, high = bounds(law)
    near = 1e-3 * (high - low)
    held = (theta <= low + near) | (theta >= high - near)
    return tuple(p.name for p, on in zip(law.parameters, held, strict=True) if on)


def ends_at_bound(law: Law, theta: Array, level: float = 0.95) -> tuple[str, ...]:
    """Names of the parameters of which an end of the interval lies on a bound.

    Args:
      theta: coordinates in each draw [B, P]; NaN where there are none.
      level: of the interval, that of percentiles.
    """
    known = theta[~np.isnan(theta[:, 0])]
    if not len(known):
        return ()
    low, high = bounds(law)
    near = 1e-3 * (high - low)
    tail = (1.0 - level) / 2.0
    below = np.mean(known <= low + near, axis=0) >= tail
    above = np.mean(known >= high - near, axis=0) >= tail
    held = below | above
    return tuple(p.name for p, on in zip(law.parameters, held, strict=True) if on)


def condition(
    law: Law, columns: Columns, weights: Array, theta: Array, scale: Scale
) -> tuple[float, str]:
    """Condition number of the scaled information matrix, and what lies flat in it.

    Coordinates on a bound are left out: the bound, not the data, fixes them.

    Args:
      weights: [n], of the rows times what Huber makes of them.
    """
    slopes = jacobian(law, theta, columns, scale)
    names = [p.name for p in law.parameters]
    held = set(at_bound(law, theta))
    free = [i for i, name in enumerate(names) if name not in held]
    if not free:
        return 1.0, ""
    matrix = ((slopes * weights[:, None]).T @ slopes)[np.ix_(free, free)]
    root = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    values, vectors = np.linalg.eigh(matrix / np.outer(root, root))
    ratio = float(values[-1] / max(values[0], 1e-300))
    if ratio * FLAT < 1.0:
        return ratio, ""
    heavy = np.abs(vectors[:, 0]) > 0.3
    flat = [names[i] for i, on in zip(free, heavy, strict=True) if on]
    return ratio, " and ".join(flat) or names[free[0]]


def suggest(
    law: Law,
    columns: Columns,
    weights: Array | None = None,
    theta: Array | None = None,
) -> Suggestion | None:
    """Which run to do next: the one that adds most to ln det of the information.

    D-optimal design (Wald 1943; Atkinson, Donev and Tobias 2007, chapter 11), one run
    at a time: of all levels crossed with a grid of N and D around the design, no run
    costlier (in N times D) than the costliest so far. A direction that no run has shown
    anything about counts for more than any other.

    Args:
      columns: arrays [n] of the design; weights: [n] or None.
      theta: coordinates [P] at which the information is taken, those of a fit; by
        default equal terms with the exponents nearest to 0.3.

    Returns:
      The run, or None where the law reads neither `params` nor `tokens`.
    """
    used = _used(columns, weights)
    names = [name for name in ("params", "tokens") if name in law.columns]
    if not names or not len(used[names[0]]):
        return None
    theta = _nominal(law, used) if theta is None else np.asarray(theta, np.float64)
    proposed = _proposals(used, law, names)
    now = log_gradient(law, theta[None], used)[0]
    new = log_gradient(law, theta[None], proposed)[0]
    scale = np.maximum(np.abs(now).max(axis=0), np.abs(new).max(axis=0))
    now, new = now / np.maximum(scale, 1e-12), new / np.maximum(scale, 1e-12)
    matrix = now.T @ now + 1e-6 * np.eye(len(theta))
    gain = np.einsum("np,np->n", new, np.linalg.solve(matrix, new.T).T)
    # Of runs that tell the same within a tenth of a percent, the cheapest.
    cost = np.prod([proposed[name] for name in names], axis=0)
    near = gain >= 0.999 * gain.max()
    best = int(np.flatnonzero(near)[np.argmin(cost[near])])
    run = {name: float(values[best]) for name, values in proposed.items()}
    return Suggestion(run, _words(law, run, names))


def _proposals(used: Columns, law: Law, names: Sequence[str]) -> dict[str, Array]:
    """Runs that could be done: columns [m]."""
    axes = []
    for name in names:
        low, high = float(used[name].min()), float(used[name].max())
        axes.append(np.geomspace(low / REACH, high * REACH, STEPS))
    others = [name for name in used if name not in names]
    codes = [name for name in others if name in ("family", "corpus")]
    kept = np.stack([used[name] for name in codes], axis=1) if codes else None
    if kept is None or not set(codes) & set(law.columns):
        first = [int(np.argmax(used[names[0]]))]
    else:
        first = list(np.unique(kept, axis=0, return_index=True)[1])
    grid = np.array(list(itertools.product(*axes)))
    most = np.prod([used[name] for name in names], axis=0).max()
    grid = grid[grid.prod(axis=1) <= most * 1.001]
    out = {
        name: np.tile(grid[:, column], len(first)) for column, name in enumerate(names)
    }
    for name in others:
        out[name] = np.repeat(used[name][first], len(grid))
    return out


def _nominal(law: Law, used: Columns) -> Array:
    """Coordinates with equal terms and the exponents nearest to 0.3."""
    ones = np.ones(len(next(iter(used.values()))))
    starts = np.array(law.starts(used, ones), np.float64)
    starts[:, list(law.linear)] = 0.0
    moving = np.ptp(starts, axis=0) > 0
    away = np.abs(starts[:, moving] - 0.3).sum(axis=1)
    return np.clip(starts[int(np.argmin(away))], *bounds(law))


def _words(law: Law, run: dict[str, float], names: Sequence[str]) -> str:
    said = {"params": "parameters", "tokens": "tokens"}
    text = " and ".join(f"{count(run[name])} {said[name]}" for name in names)
    for kind, between in (("family", "of"), ("corpus", "on")):
        known: list[str] = []
        for p in sorted(law.reported, key=lambda p: not p.reference):
            if p.kind == kind and p.level and p.level not in known:
                known.append(p.level)
        code = int(run.get(kind, 0))
        if kind in law.columns and code < len(known):
            text += f" {between} {known[code]}"
    return text
