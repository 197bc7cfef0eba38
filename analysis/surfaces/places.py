"""Places that a law is asked for: numbers, arrays or a frame; how far out they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.laws import Array
from analysis.surfaces.surfaces import Fitted
from scaling.errors import UserError, unknown

NUMBERS = ("params", "tokens", "unique_tokens", "quality")
LEVELS = ("family", "corpus")


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
            out[name] = frame[name].astype(str).to_numpy()
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
        for level in frame[name].unique() if name in frame else ():
            if level not in known:
                raise unknown(name, level, known)


def of(frame: pd.DataFrame, family: str, corpus: str) -> pd.DataFrame:
    """The places that ask for a family and corpus; those that name none ask for all."""
    kept = pd.Series(True, index=frame.index)
    for name, level in zip(LEVELS, (family, corpus), strict=True):
        kept &= frame[name] == level if name in frame else True
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
