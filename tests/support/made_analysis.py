"""A made Analysis, as a quick study gives it: numbers from a known surface.

Runs and surface are those of made_runs.py. The intervals are made too: they stand at a
stated relative width around the truth.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from analysis import schema
from analysis.questions import noise
from analysis.results import Analysis, Note
from analysis.tables import exclusions
from tests.support import made_runs
from tests.support.made_runs import (
    ALPHA,
    BETA,
    BUDGETS,
    CELL,
    CORPORA,
    DATA_GAIN,
    FAMILIES,
    FLOOR,
    NOISE,
    RATES,
    SIZE_GAIN,
    SIZES,
    TARGETS,
    A,
    B,
    corpus_gain,
    params_of,
    surface,
)


def _tuning(long: pd.DataFrame) -> pd.DataFrame:
    several = long.groupby(CELL).learning_rate.transform("nunique") > 1
    frame = long[several & (long.seed == 0)].copy()
    # One family's best rate is made to sit at the edge of its grid.
    edge = (frame.family == "convolution") & (frame.params < 10_000)
    frame.loc[edge, "loss"] *= 1 - 0.03 * np.log2(frame.learning_rate[edge] / RATES[1])
    frame["best"] = frame.loss == frame.groupby(CELL).loss.transform("min")
    return frame[[*CELL, "learning_rate", "loss", "best"]].sort_values(
        [*CELL, "learning_rate"]
    )


def _fits() -> pd.DataFrame:
    rows = []
    for family, corpus, target in itertools.product(FAMILIES, CORPORA, TARGETS):
        gain = DATA_GAIN[family] * corpus_gain(corpus, target)
        truth = {
            "E": (FLOOR[target], 0.18),
            "A": (A * SIZE_GAIN[family] ** -ALPHA, 0.5),
            "alpha": (ALPHA, 0.2),
            "B": (B * gain**-BETA, 0.6),
            "beta": (BETA, 0.22),
        }
        for name, (value, width) in truth.items():
            bound = name == "E" and family == "lstm" and corpus == "docstrings"
            rows.append(
                {
                    "family": family,
                    "corpus": corpus,
                    "target": target,
                    "law": "chinchilla",
                    "parameter": name,
                    "value": 0.0 if bound else value,
                    "low": 0.0 if bound else value * np.exp(-width),
                    "high": value * np.exp(1.2 * width),
                    "bound": bound,
                    "params": np.nan,
                }
            )
    return pd.DataFrame(rows)


def _quality() -> pd.DataFrame:
    rows = []
    pairs = [*itertools.product(FAMILIES, CORPORA), ("*", "*")]
    for (family, corpus), target in itertools.product(pairs, TARGETS):
        rows.append(
            {
                "family": family,
                "corpus": corpus,
                "target": target,
                "law": "joint" if family == "*" else "chinchilla",
                "runs": 90 if family == "*" else 15,
                "objective": 0.0123 if family == "*" else 0.00213,
                "gradient_norm": 3e-9,
                "objective_gap": 0.0,
                "starts_agreeing": 0.91 if family == "*" else 0.64,
                "condition": 4.1e4,
                "r2": 0.993,
                "rmse_log": 0.009,
                "identified": 1.0,
                "params": np.nan,
            }
        )
    return pd.DataFrame(rows)


def _curves() -> pd.DataFrame:
    frames = []
    tokens = np.geomspace(0.7 * BUDGETS[0], 1.6 * BUDGETS[-1], 40)
    for family, corpus, target, size in itertools.product(
        FAMILIES, CORPORA, TARGETS, SIZES
    ):
        loss = surface(family, corpus, target, params_of(family, size), tokens)
        spread = 0.006 + 0.008 * np.abs(np.log(tokens / 7e5))
        frames.append(
            pd.DataFrame(
                {
                    "family": family,
                    "corpus": corpus,
                    "target": target,
                    "params": params_of(family, size),
                    "tokens": tokens,
                    "loss": loss,
                    "low": loss * (1 - spread),
                    "high": loss * (1 + spread),
                    "law": "chinchilla",
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _residuals(cells: pd.DataFrame) -> pd.DataFrame:
    frame = cells.rename(columns={"loss": "observed"}).copy()
    frame["predicted"] = [
        surface(row.family, row.corpus, row.target, row.params, row.tokens)
        for row in frame.itertuples()
    ]
    frame["residual"] = np.log(frame.observed / frame.predicted)
    columns = "family corpus target params tokens observed predicted residual law"
    joint = frame.assign(law="joint", residual=1.3 * frame.residual)
    both = [joint, frame.assign(law="chinchilla")]
    return pd.concat(both, ignore_index=True)[columns.split()]


def _joint() -> pd.DataFrame:
    rows = []

    def add(target, parameter, kind, level, value, width, reference=False):
        spread = 0.0 if reference else width
        rows.append(
            {
                "target": target,
                "law": "joint",
                "parameter": f"{parameter}[{level}]" if level else parameter,
                "kind": kind,
                "level": level,
                "value": value,
                "low": value * np.exp(-spread),
                "high": value * np.exp(spread),
                "bound": False,
                "reference": reference,
            }
        )

    for target in TARGETS:
        shared = {"alpha": ALPHA, "beta": BETA, "A": A, "B": B}
        for name, value in shared.items():
            add(target, name, "shared", "", value, 0.15)
        for corpus in CORPORA:
            add(target, "E", "corpus", corpus, FLOOR[target], 0.08)
            gain = corpus_gain(corpus, target) / corpus_gain("code", target)
            add(target, "rhoD", "corpus", corpus, gain, 0.12, corpus == "code")
        for family in FAMILIES:
            first = family == "transformer"
            add(target, "rhoN", "family", family, SIZE_GAIN[family], 0.25, first)
            add(target, "rhoD", "family", family, DATA_GAIN[family], 0.15, first)
    return pd.DataFrame(rows)


def equivalent(kind, baseline, alternative, fixed, target, params, tokens) -> float:
    """The factor on the source's tokens that gives the other's loss; may be inf."""
    a, d = (baseline, fixed) if kind == "architecture" else (fixed, baseline)
    a2, d2 = (alternative, fixed) if kind == "architecture" else (fixed, alternative)
    goal = surface(a2, d2, target, params, tokens)
    rest = goal - FLOOR[target] - A * (SIZE_GAIN[a] * params) ** -ALPHA
    if rest <= 0:
        return np.inf
    gain = DATA_GAIN[a] * corpus_gain(d, target)
    return (rest / B) ** (-1 / BETA) / gain / tokens


def _equivalents() -> pd.DataFrame:
    rows = []
    swaps = [
        ("architecture", a, b, d)
        for (a, b) in (
            ("lstm", "transformer"),
            ("convolution", "transformer"),
            ("lstm", "convolution"),
        )
        for d in CORPORA
    ]
    swaps += [("corpus", "docstrings", "code", a) for a in FAMILIES]
    scales = itertools.product(TARGETS, SIZES, BUDGETS)
    for (target, params, tokens), swap in itertools.product(scales, swaps):
        kind, baseline, alternative, fixed = swap
        value = equivalent(kind, baseline, alternative, fixed, target, params, tokens)
        for method, shift, width in (
            ("joint", 1.0, 0.2),
            ("family", 1.06, 0.45),
            ("paired", 0.97, 0.3),
        ):
            if method == "paired" and tokens == BUDGETS[0]:
                continue
            open_ended = method == "family" and baseline == "convolution"
            reach = abs(np.log(value)) if np.isfinite(value) else 0.0
            rows.append(
                {
                    "kind": kind,
                    "baseline": baseline,
                    "alternative": alternative,
                    "fixed": fixed,
                    "target": target,
                    "params": params,
                    "tokens": tokens,
                    "factor": value * shift,
                    "low": value * shift * np.exp(-width * (0.6 + reach))
                    if np.isfinite(value)
                    else 3.1,
                    "high": np.inf
                    if open_ended
                    else value * shift * np.exp(width * (0.6 + reach)),
                    "p_infinite": 1.0
                    if np.isinf(value)
                    else (0.07 if open_ended else 0.0),
                    "method": method,
                    "fitted": within(params, tokens),
                }
            )
    return pd.DataFrame(rows)


def within(params: float, tokens: float) -> bool:
    """The largest cell is withheld."""
    return not (params == SIZES[-1] and tokens == BUDGETS[-1])


def _doubling() -> pd.DataFrame:
    rows = []
    scales = itertools.product(FAMILIES, CORPORA, TARGETS, SIZES, BUDGETS)
    for family, corpus, target, params, tokens in scales:
        gain = surface(family, corpus, target, params, tokens)
        gain -= surface(family, corpus, target, params, 2 * tokens)
        rows.append(
            {
                "family": family,
                "corpus": corpus,
                "target": target,
                "params": params,
                "tokens": tokens,
                "gain": gain,
                "low": 0.9 * gain,
                "high": 1.1 * gain,
                "fitted": within(params, tokens),
            }
        )
    return pd.DataFrame(rows)


def _ratios(equivalents: pd.DataFrame) -> pd.DataFrame:
    rows = []
    joint = equivalents[equivalents.method == "joint"]
    keys = ["target", "params", "tokens"]
    for (target, params, tokens), group in joint.groupby(keys):
        architectures = group[(group.kind == "architecture") & (group.fixed == "code")]
        corpus = group[(group.kind == "corpus") & (group.fixed == "lstm")].iloc[0]
        for row in architectures.itertuples():
            value = np.log(min(row.factor, 1e6)) / np.log(corpus.factor)
            wide = 0.25 + 0.35 * abs(value)
            rows.append(
                {
                    "target": target,
                    "params": params,
                    "tokens": tokens,
                    "architecture": f"{row.baseline} -> {row.alternative}",
                    "corpus": "docstrings -> code",
                    "lambda": value,
                    "low": value - 1.6 * wide,
                    "high": value + 2.0 * wide,
                    "p_architecture": float(np.clip(abs(value) / 2, 0.01, 0.99)),
                    "fitted": within(params, tokens),
                    "law": "joint",
                }
            )
    return pd.DataFrame(rows)


def _variance() -> pd.DataFrame:
    shares = {
        "tokens": 0.46,
        "params": 0.19,
        "family": 0.21,
        "corpus": 0.12,
        "family x corpus": 0.02,
    }
    box = "params 8k to 72k, tokens 164k to 2.46M"
    rows = [
        {
            "target": target,
            "factor": factor,
            "share": share,
            "low": max(0.0, share - 0.06),
            "high": share + 0.07,
            "box": box,
        }
        for target in TARGETS
        for factor, share in shares.items()
    ]
    return pd.DataFrame(rows)


def _noise(long: pd.DataFrame) -> pd.DataFrame:
    same = long[long.learning_rate == RATES[1]]
    groups = same.groupby(CELL).loss
    frame = groups.agg(
        seeds="count", sd_log=lambda loss: np.log(loss).std()
    ).reset_index()
    return frame[frame.seeds > 1].reset_index(drop=True)


def _fitness() -> pd.DataFrame:
    rows = [
        {"target": t, "lack_of_fit": x, "seed_noise": NOISE, "ratio": x / NOISE}
        | {"law": "joint", "runs": 90, "box": "8k to 72k parameters, 1M to 40M tokens"}
        for t, x in zip(TARGETS, (0.0091, 0.0125, 0.0062), strict=True)
    ]
    return pd.DataFrame(rows)


def _holdout(cells: pd.DataFrame) -> pd.DataFrame:
    largest = cells[(cells.params > SIZES[1] * 1.5) & (cells.tokens == BUDGETS[-1])]
    frame = largest.rename(columns={"loss": "observed"}).copy()
    frame["predicted"] = [
        1.006 * surface(row.family, row.corpus, row.target, row.params, row.tokens)
        for row in frame.itertuples()
    ]
    wide = np.where(frame.family == "lstm", 0.006, 0.02)
    frame["low"] = frame.predicted * (1 - wide)
    frame["high"] = frame.predicted * (1 + wide)
    frame["inside"] = frame.observed.between(frame.low, frame.high)
    columns = (
        "family corpus target params tokens observed predicted low high inside law"
    )
    joint = frame.assign(law="joint", inside=True, high=1.05 * frame.predicted)
    both = [frame.assign(law="chinchilla"), joint.assign(low=0.95 * frame.predicted)]
    return pd.concat(both, ignore_index=True)[columns.split()]


def _paths(rng, runs: pd.DataFrame) -> pd.DataFrame:
    frames = []
    for run in runs.itertuples():
        tokens = np.geomspace(4_096, run.tokens, 60)
        loss = surface(run.family, run.corpus, run.corpus, run.params, tokens)
        loss = np.minimum(loss + 40 * tokens**-0.35, 5.55) + rng.normal(0, 0.03, 60)
        if run.status == "diverged":
            loss[30:] = loss[30:] * np.geomspace(1, 3, 30)
        body = {"run_id": run.run_id, "step": tokens // 4096, "tokens": tokens}
        frames.append(pd.DataFrame(body | {"loss": loss}))
    return pd.concat(frames, ignore_index=True)


def made_analysis() -> Analysis:
    rng = np.random.default_rng(0)
    runs = made_runs.runs(rng)
    long = made_runs.long(runs)
    cells = made_runs.cells(long)
    equivalents, tuning = _equivalents(), _tuning(long)
    chosen = tuning[tuning.best].set_index(CELL).learning_rate
    rate = chosen.reindex(cells.set_index(CELL).index).to_numpy()
    cells["edge"] = np.select([rate == RATES[0], rate == RATES[2]], ["low", "high"], "")
    excluded = runs[~runs.used]
    reasons = np.where(
        excluded.status == "diverged",
        "diverged: no finite loss",
        "4 epochs: the law has no term for repeated data",
    )
    left_out = pd.DataFrame(
        {"run_id": excluded.run_id, "target": "", "reason": reasons}
    )
    made = Analysis.of(
        title="quickstart",
        unit="nats/token",
        targets=TARGETS,
        runs=runs,
        exclusions=left_out,
        excluded=exclusions.counted(left_out, pd.Series([], dtype=str)),
        cells=cells,
        tuning=tuning,
        fits=_fits(),
        quality=_quality(),
        curves=_curves(),
        residuals=_residuals(cells),
        joint=_joint(),
        equivalents=equivalents,
        doubling=_doubling(),
        ratios=_ratios(equivalents),
        variance=_variance(),
        noise=_noise(long),
        noise_levels=noise.levels(_noise(long)),
        noise_trends=noise.trends(_noise(long)),
        fitness=_fitness(),
        holdout=_holdout(cells),
        paths=_paths(rng, runs),
        notes=(
            Note(
                "edge",
                "tuning",
                "convolution at 8.5k parameters: the best rate, 0.008, is the highest "
                "one tried, so its loss is an upper bound.",
            ),
            Note(
                "bound",
                "fits",
                "lstm on docstrings: E is at its lower bound 0; its A, B, alpha and "
                "beta are conditional on that.",
            ),
            Note(
                "warning",
                "effects",
                "3 sizes span a factor 9: no effect beyond 72k parameters is measured.",
            ),
        ),
    )
    known = schema.frames()
    return made.replace(
        **{name: known[name].join([frame]) for name, frame in made.frames.items()}
    )


def emptied(analysis: Analysis, *names: str) -> Analysis:
    """The same with these frames empty, columns kept."""
    return analysis.replace(
        **{name: getattr(analysis, name).iloc[:0] for name in names}
    )
