"""Run tables as people have them: small, with gaps, odd cells, odd names and units.

A table is made from a choice for each of `CHOICES` and a seed, so that hypothesis can
look for the simplest one that fails and a soak can name each by one number.
"""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

FAMILIES = {
    "plain": ("gru", "transformer", "mamba", "mlp"),
    "case": ("Net", "net", "NET", "nEt"),
    "words": ("nan?", "None?", "1", "all"),
    "numbers": ("1", "2", "3", "10"),
    "markup": ("<b>a</b>", "$x$ & $y", "_hidden", "a_b^{c}"),
    "foreign": ("сеть", "网络", "réseau", "שרת"),
    "long": tuple(f"{name * 40}, with attention" for name in "abcd"),
    "arrows": ("a -> b", "b", "a", "a, b"),
}
# What a cell may hold instead of a number.
ODD = {
    "blank": "",
    "infinite": "inf",
    "minus": "-inf",
    "zero": "0",
    "negative": "-3",
    "text": "n/a?",
    "huge": "1e308",
    "tiny": "1e-308",
}
EXTRA = (
    *("rates", "batches", "both tuned", "flags", "notes", "dates", "flops", "unique"),
    *("quality", "optimiser", "seconds", "status", "trajectory", "run_id", "many"),
    *("size", "params_total"),
)
MOST_ROWS = 60
CHOICES: dict[str, tuple[Any, ...]] = {
    "families": (1, 1, 2, 2, 3, 4),
    "corpora": (1, 1, 2),
    "targets": (1, 1, 2),
    "sizes": (1, 2, 3, 3, 4, 5),
    "budgets": (1, 2, 3, 4, 4, 5, 6),
    "seeds": (1, 1, 2, 3),
    # Share of the rows that are missing, and of those that stand twice or more.
    "gaps": (0.0, 0.0, 0.15, 0.5, 0.8),
    "copies": (0.0, 0.0, 0.2, 3.0),
    "names": (*["plain"] * 4, *FAMILIES),
    # ln L = law + noise.
    "law": (*["power"] * 6, "constant", "rising", "flat in size", "flat in data"),
    "noise": (0.0, 0.002, 0.002, 0.02, 0.3),
    "odd": (*[None] * 4, *ODD),
    # Which columns the odd cells are in: of those that every table needs, or others.
    "odd_in": ("N", "D", "loss", "any"),
    "odd_share": (0.05, 0.3, 1.0),
    "extra": (None, None, *EXTRA),
    "extra2": (None, None, *EXTRA),
    "apart": (False, False, True),  # families have no common sizes
    "jitter": (False, False, True),  # budgets are only near each other
    "params_unit": (*[1.0] * 5, 1e-6, 1e12),
    "tokens_unit": (*[1.0] * 5, 1e-9, 1e12),
    "loss_unit": (*[1.0] * 20, *[1e3] * 3, 1e-4, 1e-300, 1e300),
    "bootstrap": ("wild", "wild", "wild", "pairs"),
}


def chosen(seed: int) -> dict[str, Any]:
    """One choice for each of `CHOICES`."""
    rng = random.Random(seed)
    return {name: rng.choice(values) for name, values in CHOICES.items()}


def made(chosen: Mapping[str, Any], seed: int) -> str:
    """The table as the text of a .csv file; at least one row."""
    rng = np.random.default_rng(seed)
    frame = _rows(chosen, rng)
    for name in ("extra", "extra2"):
        frame = _widened(frame, chosen[name], rng)
    # A gap shows in few rows what it shows in many, which take longer.
    gaps = max(chosen["gaps"], 1 - MOST_ROWS / len(frame))
    kept = rng.random(len(frame)) >= gaps
    kept[0] |= not kept.any()
    frame = frame[kept]
    copied = int(len(frame) * chosen["copies"])
    frame = pd.concat(
        [frame, *(frame.sample(1, random_state=i) for i in range(copied))]
    )
    frame["N"] *= chosen["params_unit"]
    frame["D"] *= chosen["tokens_unit"]
    for name in _losses(frame):
        with np.errstate(over="ignore", under="ignore"):
            frame[name] *= chosen["loss_unit"]
    frame = frame.sample(frac=1.0, random_state=int(rng.integers(2**31)))
    frame = _odd(frame.astype(object).reset_index(drop=True), chosen, rng)
    text = io.StringIO()
    frame.to_csv(text, index=False, na_rep="")
    return text.getvalue()


def _losses(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if name.startswith("loss")]


def _rows(chosen: Mapping[str, Any], rng: np.random.Generator) -> pd.DataFrame:
    names = FAMILIES[chosen["names"]][: chosen["families"]]
    corpora = ("books", "code")[: chosen["corpora"]]
    targets = ("loss",) if chosen["targets"] == 1 else ("loss:books", "loss:code")
    rows = []
    for (i, family), (j, corpus), size, budget, seed in itertools.product(
        enumerate(names),
        enumerate(corpora),
        range(chosen["sizes"]),
        range(chosen["budgets"]),
        range(chosen["seeds"]),
    ):
        params = 1e7 * 3.1**size * (1.7**i if chosen["apart"] else 1 + 0.02 * i)
        tokens = 2e8 * 2.9**budget
        if chosen["jitter"]:
            tokens *= np.exp(rng.normal(0, 0.1))
        row: dict[str, Any] = {"N": params, "D": tokens}
        if chosen["families"] > 1 or chosen["names"] != "plain":
            row["family"] = family
        if chosen["corpora"] > 1:
            row["corpus"] = corpus
        if chosen["seeds"] > 1:
            row["seed"] = seed
        for k, target in enumerate(targets):
            gain = 1.6**-i * (2.0 if j == k else 1.0)
            loss = _law(chosen["law"], params, gain * tokens)
            row[target] = loss * np.exp(rng.normal(0, 1) * chosen["noise"])
        rows.append(row)
    return pd.DataFrame(rows)


def _law(name: str, params: float, tokens: float) -> float:
    size, data = 300 / params**0.33, 900 / tokens**0.33
    return {
        "power": 1.8 + size + data,
        "constant": 2.5,
        "rising": 2.0 + params**0.05 + tokens**0.03,
        "flat in size": 1.8 + data,
        "flat in data": 1.8 + size,
    }[name]


def _widened(
    frame: pd.DataFrame, extra: str | None, rng: np.random.Generator
) -> pd.DataFrame:
    """The table with one more kind of column, or with more rows for what it tunes."""
    count = len(frame)
    if extra in ("rates", "batches", "both tuned"):
        rates = (1e-3, 3e-3, 1e-2) if extra != "batches" else (1e-3,)
        batches = (32, 256) if extra != "rates" else (32,)
        parts = []
        for rate, batch in itertools.product(rates, batches):
            part = frame.assign(lr=rate, batch=batch)
            worse = 1 + 0.02 * np.log(rate / 3e-3) ** 2 + 1e-4 * batch
            for name in _losses(frame):
                part[name] = part[name] * worse
            parts.append(part)
        return pd.concat(parts, ignore_index=True)
    columns: dict[str, Any] = {
        "flags": {"diverged": rng.random(count) < 0.1, "outlier": False},
        "notes": {"note": rng.choice(["ok", "rerun, see log", '"quoted"', ""], count)},
        "dates": {"date": pd.date_range("2026-01-01", periods=count).astype(str)},
        "flops": {"flops": 6 * frame.N * frame.D},
        "unique": {"unique_tokens": frame.D / rng.choice([1, 1, 4, 1000], count)},
        "quality": {"quality": rng.choice([1.0, 0.5, 0.25], count)},
        "optimiser": {"optimizer": rng.choice(["adam", "muon"], count)},
        "seconds": {"wall_seconds": rng.choice([1.0, 60.0, np.nan, 0.0], count)},
        "status": {"status": rng.choice(["done", "done", "diverged", ""], count)},
        "trajectory": {"trajectory": frame.groupby("N").ngroup()},
        "run_id": {"run_id": [f"run-{i // 2}" for i in range(count)]},
        "many": {f"metric/{i}": rng.normal(size=count) for i in range(60)},
        "size": {"size": [f"{n / 1e6:.0f}M" for n in frame.N]},
        "params_total": {"params_total": frame.N * 1.2},
    }
    return frame.assign(**columns[extra]) if extra else frame


def _odd(
    frame: pd.DataFrame, chosen: Mapping[str, Any], rng: np.random.Generator
) -> pd.DataFrame:
    if chosen["odd"] is None:
        return frame
    names = list(frame.columns)
    if chosen["odd_in"] != "any":
        names = [name for name in names if name.startswith(chosen["odd_in"])]
    where = rng.random(frame.shape) < chosen["odd_share"]
    if chosen["odd_in"] == "any":
        where &= rng.random(frame.shape) < 0.3
    for name in names:
        frame.loc[where[:, frame.columns.get_loc(name)], name] = ODD[chosen["odd"]]
    return frame
