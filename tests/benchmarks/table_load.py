"""Loads tables of a million rows: CSV, Parquet and JSON lines.

A tenth of the rows cannot be used, for six different reasons; each must be listed, and
so must the usable rows that are more than can be fitted.
Prints CPU seconds, which a busy machine changes little, and wall seconds, beside what
pandas takes to read the file alone.
Expected: under 10 CPU s for each, most of it for what is left out.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.load import load

ROWS = 1_000_000
MOST_SECONDS = 30.0  # of CPU


def made() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "params": rng.uniform(1e6, 1e9, ROWS),
            "tokens": rng.uniform(1e8, 1e11, ROWS),
            "loss": rng.uniform(2, 5, ROWS),
            "family": rng.choice(["transformer", "lstm"], ROWS),
            "corpus": rng.choice(["web", "code", "books"], ROWS),
            "trajectory": rng.integers(0, ROWS // 100, ROWS),
            "status": "done",
        }
    )
    bad = np.array_split(rng.choice(ROWS, ROWS // 10, replace=False), 6)
    frame.loc[bad[0], "loss"] = -1.0
    frame.loc[bad[1], "loss"] = np.nan
    frame.loc[bad[2], "params"] = 0.0
    frame.loc[bad[3], "tokens"] = np.nan
    frame.loc[bad[4], "status"] = "diverged"
    frame.loc[bad[5], "family"] = None
    return frame


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds (of all threads), wall seconds and the answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    out = call()
    return time.process_time() - cpu, time.perf_counter() - wall, out


def main() -> int:
    frame = made()
    slow = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        frame.to_csv(path / "runs.csv", index=False)
        frame.to_parquet(path / "runs.parquet")
        frame.to_json(path / "runs.jsonl", orient="records", lines=True)
        readers = {
            "runs.csv": pd.read_csv,
            "runs.parquet": pd.read_parquet,
            "runs.jsonl": lambda file: pd.read_json(file, lines=True),
        }
        for name, reader in readers.items():
            alone, alone_wall, _ = timed(lambda: reader(path / name))  # noqa: B023
            cpu, wall, table = timed(lambda: load(path / name))  # noqa: B023
            assert len(table.readings) + len(table.exclusions) == ROWS
            assert table.exclusions.reason.nunique() == 6 + 1
            print(
                f"{name}: {cpu:.1f} s of CPU ({wall:.1f} s wall), {ROWS / cpu:,.0f} "
                f"rows a CPU second; pandas alone {alone:.1f} s ({alone_wall:.1f} s "
                f"wall); {len(table.exclusions)} rows left out, each with its reason",
                flush=True,
            )
            slow += cpu > MOST_SECONDS
    return slow


if __name__ == "__main__":
    sys.exit(main())
