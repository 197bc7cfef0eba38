"""Places that a law is asked for: numbers, arrays or a frame; how far out they lie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.formatting import count, interval_text, number, on, scale
from analysis.laws import Array
from analysis.surfaces.surfaces import Fitted
from analysis.tables import files, numbers
from analysis.tables.columns import ALIASES
from scaling.errors import UserError, unknown

NUMBERS = ("params", "tokens", "unique_tokens", "quality")
LEVELS = ("family", "corpus")
# name=value, up to the comma before the next name; a value may have commas of its own.
ENTRY = re.compile(r"\s*(\w+)\s*=\s*(.*?)\s*(?:,(?=\s*\w+\s*=)|$)")


def read(texts: Sequence[str]) -> pd.DataFrame:
    """Places as people write them: params=1B,tokens=20B,family=gpt, or a table's path.

    Raises:
      UserError: a name that is none of a place's, a cell that is no count, a table that
        cannot be read; a text that is neither.
    """
    parts = []
    for text in texts:
        if "=" not in text:
            frame, _ = files.read(text)
        else:
            found = ENTRY.findall(text)
            if ENTRY.sub("", text).strip():
                raise UserError("at", text, 'write "params=1e9,tokens=2e10"')
            frame = pd.DataFrame([dict(found)])
            for name in frame:
                if name not in NUMBERS + LEVELS:
                    raise unknown("at", str(name), NUMBERS + LEVELS)
        parts.append(_counted(frame, text))
    out = pd.concat(parts, ignore_index=True)
    # What one place says and another does not is, for that one, as by default.
    for name, default in (("unique_tokens", out.tokens), ("quality", 1.0)):
        if name in out:
            out[name] = out[name].fillna(default)
    return out


def _counted(frame: pd.DataFrame, text: str) -> pd.DataFrame:
    """The columns of places, with their counts as numbers."""
    named = {ours: _column(frame, ours) for ours in NUMBERS + LEVELS}
    out = pd.DataFrame({ours: frame[name] for ours, name in named.items() if name})
    for name in ("params", "tokens"):
        if name not in out:
            raise UserError("at", text, f"{name} too, such as params=1e9,tokens=2e10")
    for name in NUMBERS:
        if name in out:
            said = numbers.read(out, name, count=name != "quality")
            if said.refused or said.wrong.any():
                wrong = out[name][said.wrong].iloc[0] if said.wrong.any() else text
                raise UserError(name, wrong, "give a number, such as 1e9 or 6.7B")
            out[name] = said.values
    return out


def _column(frame: pd.DataFrame, ours: str) -> str:
    """The table's column under one of the usual names of ours; "" where it has none.

    Levels go by their own name alone: a column "model" may well name no family.
    """
    theirs = {str(name).strip().lower(): str(name) for name in frame}
    usual = (ours, *(() if ours in LEVELS else ALIASES[ours]))
    return next((theirs[name] for name in usual if name in theirs), "")


def sentences(found: pd.DataFrame, unit: str) -> list[str]:
    """What a new run of each row of `LawFit.predict` would end at."""
    return [
        f"A run of {row.family}{on(row.corpus)} with {_where(row)} would end at "
        f"{number(row.expected, 4)} {unit} on {row.target} "
        f"(95% of new runs: {interval_text(row.low, row.high)}){_far(row.beyond)}."
        for row in found.itertuples()
    ]


def _where(row: Any) -> str:
    shown = scale(row.params, row.tokens)
    unique = getattr(row, "unique_tokens", None)
    return shown if unique is None else f"{shown}, {count(unique)} of them unique,"


def _far(beyond: str) -> str:
    return f", which is beyond the fitted runs: {beyond}" if beyond else ""


def asked(
    params: float | Array | pd.DataFrame,
    tokens: float | Array | None,
    unique_tokens: float | Array | None = None,
    quality: float | Array = 1.0,
) -> pd.DataFrame:
    """The places as a frame of `NUMBERS`, and of `LEVELS` where a frame gave them.

    Raises:
      UserError: as `LawFit.predict`.
    """
    if isinstance(params, pd.DataFrame):
        frame = params
        for name in ("params", "tokens"):
            if name not in frame:
                raise UserError("predict", list(frame.columns), f"a column {name}")
    else:
        if tokens is None:
            raise UserError("tokens", tokens, "give a number beside params, or a frame")
        given = {"params": params, "tokens": tokens, "quality": quality}
        given |= {} if unique_tokens is None else {"unique_tokens": unique_tokens}
        try:
            even = np.broadcast_arrays(*(np.atleast_1d(x) for x in given.values()))
        except ValueError as error:
            shapes = {name: np.shape(value) for name, value in given.items()}
            raise UserError("predict", shapes, "arrays of one shape") from error
        flat = (values.ravel() for values in even)
        frame = pd.DataFrame(dict(zip(given, flat, strict=True)))
    out = pd.DataFrame(index=range(len(frame)))
    for name in NUMBERS:
        # Data is read once and is sound unless somebody says otherwise.
        default = 1.0 if name == "quality" else frame["tokens"].to_numpy()
        values = frame[name].to_numpy() if name in frame else default
        out[name] = _numbers(name, values)
    for name in LEVELS:
        if name in frame:
            # A place that names none asks for all.
            named = frame[name].astype(str).where(frame[name].notna(), None)
            out[name] = named.to_numpy()
    return out


def _numbers(name: str, values: object) -> Array:
    try:
        out = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(name, values, "give numbers above zero") from error
    bad = ~((out > 0) & np.isfinite(out))
    if bad.any():
        value = float(np.atleast_1d(out)[np.atleast_1d(bad)][0])
        raise UserError(name, value, "give a number above zero")
    return out


def check_known(
    frame: pd.DataFrame, families: Sequence[str], corpora: Sequence[str]
) -> None:
    """Raises UserError for a family or corpus that the fits do not have."""
    for name, known in zip(LEVELS, (families, corpora), strict=True):
        for level in frame[name].dropna().unique() if name in frame else ():
            if level not in known:
                raise unknown(name, level, known)


def of(frame: pd.DataFrame, family: str, corpus: str) -> pd.DataFrame:
    """The places that ask for a family and corpus; those that name none ask for all."""
    kept = pd.Series(True, index=frame.index)
    for name, level in zip(LEVELS, (family, corpus), strict=True):
        if name in frame:
            kept &= (frame[name] == level) | frame[name].isna()
    return frame[kept]


def beyond(fitted: Fitted, columns: Mapping[str, Array]) -> list[str]:
    """How far each place lies outside the range of the runs that a law saw."""
    said: list[list[str]] = [[] for _ in columns["params"]]
    for name in NUMBERS:
        if name not in fitted.columns:
            continue
        seen = fitted.columns[name]
        low, high = float(seen.min()), float(seen.max())
        for k, value in enumerate(columns[name]):
            if value > high * (1 + 1e-9):
                said[k].append(f"{name} {value / high:.2g} times the largest fitted")
            elif value < low * (1 - 1e-9):
                said[k].append(f"{name} {value / low:.2g} times the smallest fitted")
    return ["; ".join(texts) for texts in said]
