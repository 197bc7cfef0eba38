"""Made runs of a study: losses from a known surface.

L = E_d + A (rN_a N)^-alpha + B (rD_a rD_d D)^-beta on each target, with seed noise.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

FAMILIES = ("transformer", "lstm", "convolution")


CORPORA = ("code", "docstrings")


TARGETS = ("mixture", "code", "docstrings")


SIZES = (8_000, 24_000, 72_000)


BUDGETS = (163_840, 409_600, 1_024_000, 2_457_600)


RATES = (2e-3, 4e-3, 8e-3)


ALPHA, BETA, A, B = 0.34, 0.28, 14.0, 24.0


FLOOR = {"mixture": 0.75, "code": 0.62, "docstrings": 0.84}


SIZE_GAIN = {"transformer": 1.0, "lstm": 0.8, "convolution": 0.22}


DATA_GAIN = {"transformer": 1.0, "lstm": 0.42, "convolution": 0.93}


NOISE = 0.006


CELL = ["family", "corpus", "target", "params", "tokens"]


def corpus_gain(corpus: str, target: str) -> float:
    if target == "mixture":
        return 1.0 if corpus == "code" else 0.72
    return 1.0 if corpus == target else 0.3


def surface(family: str, corpus: str, target: str, params, tokens):
    size_term = A * (SIZE_GAIN[family] * params) ** -ALPHA
    gain = DATA_GAIN[family] * corpus_gain(corpus, target)
    return FLOOR[target] + size_term + B * (gain * tokens) ** -BETA


def params_of(family: str, size: int) -> int:
    return int(size * {"transformer": 1.02, "lstm": 0.97, "convolution": 1.06}[family])


def _run(rng, family, corpus, size, tokens, rate, seed=0, epochs=1.0, diverged=False):
    params = params_of(family, size)
    penalty = 0.03 * np.log2(rate / RATES[1]) ** 2 + (0.05 if epochs > 1 else 0)
    losses = {
        f"loss:{target}": np.nan
        if diverged
        else (surface(family, corpus, target, params, tokens) + penalty)
        * np.exp(rng.normal(0, NOISE))
        for target in TARGETS
    }
    return {
        "run_id": f"{rng.integers(2**63):016x}",
        "family": family,
        "corpus": corpus,
        "size": size,
        "params": params,
        "params_total": params + 257 * 32,
        "tokens": tokens,
        "unique_tokens": int(tokens / epochs),
        "epochs": epochs,
        "flops": 6.0 * params * tokens,
        "learning_rate": rate,
        "batch": 16,
        "seed": seed,
        "data_seed": seed,
        "status": "diverged" if diverged else "done",
        "wall_seconds": 6e-11 * params * tokens + 1.5,
        "usable": not diverged,
        "used": not diverged and epochs == 1.0,
        **losses,
    }


def runs(rng) -> pd.DataFrame:
    rows = []
    grid = itertools.product(FAMILIES, CORPORA, SIZES, BUDGETS)
    for family, corpus, size, tokens in grid:
        rows.append(_run(rng, family, corpus, size, tokens, RATES[1]))
    for family, size, rate in itertools.product(FAMILIES, SIZES, (RATES[0], RATES[2])):
        hot = rate == RATES[2] and family == "lstm" and size == SIZES[2]
        run = _run(rng, family, "code", size, BUDGETS[1], rate, diverged=hot)
        rows.append(run)
    for family, corpus, seed in itertools.product(FAMILIES, CORPORA, (1, 2)):
        for size, tokens in ((SIZES[0], BUDGETS[1]), (SIZES[1], BUDGETS[2])):
            rows.append(_run(rng, family, corpus, size, tokens, RATES[1], seed))
    rows.append(
        _run(rng, "transformer", "code", SIZES[1], BUDGETS[2], RATES[1], 0, 4.0)
    )
    frame = pd.DataFrame(rows)
    frame["trajectory"] = frame.run_id
    return frame


def long(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per used run and target."""
    kept = runs[runs.used]
    columns = [f"loss:{target}" for target in TARGETS]
    fixed = [name for name in kept if not name.startswith("loss:")]
    long = kept.melt(fixed, columns, "target", "loss")
    return long.assign(target=long.target.str.removeprefix("loss:"))


def cells(long: pd.DataFrame) -> pd.DataFrame:
    best = long.loc[long.groupby(CELL).loss.idxmin()].copy()
    groups = long.groupby(CELL)
    best = best.set_index(CELL)
    best["rates"], best["seeds"] = groups.learning_rate.nunique(), groups.seed.nunique()
    best["settings"] = best.rates
    best = best.reset_index()
    best["se"] = 0.004 * best.loss
    best["edge"] = ""
    columns = "family corpus target params params_total tokens unique_tokens epochs "
    columns += "flops loss se learning_rate rates settings edge seeds run_id"
    return best[columns.split()]
