"""Run tables that others published, in the folder SCALING_TABLES, and fits of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import laws
from analysis.fitting.fit import Fit, fit

TABLES = os.environ.get("SCALING_TABLES", "")
# The marks of a file of tests that need the tables.
MARKS = [
    pytest.mark.published,
    pytest.mark.skipif(
        not TABLES, reason="set SCALING_TABLES to the folder of published run tables"
    ),
]


def table(name: str) -> pd.DataFrame:
    path = Path(TABLES, name)
    if not path.is_file():
        pytest.skip(f"{TABLES} has no {name}")
    return pd.read_csv(path)


def columns_of(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    return {key: frame[key].to_numpy(float) for key in ("params", "tokens")}


def fitted(name: str, frame: pd.DataFrame, **options) -> Fit:
    columns = columns_of(frame)
    centre = {key: float(np.log(columns[key]).mean()) for key in columns}
    law = laws.load(name).bind({"family": ("all",), "corpus": ("all",)}, centre)
    found = fit(law, columns, frame.loss.to_numpy(), **options)
    assert isinstance(found, Fit), found
    return found


def named(found: Fit) -> dict[str, float]:
    return dict(zip(found.law.names, found.values, strict=True))


def geometric(values) -> float:
    return float(np.exp(np.mean(np.log(list(values)))))
