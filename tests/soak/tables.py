"""Thousands of small tables as people have them, each through report, fit and compare.

    python -m tests.soak.tables --tables 2000

Table number k is made from the seed k alone, so that a failing one can be repeated:
`--first k --tables 1 --show`. What must hold of every one stands in
tests/support/any_report.py. Ends with the counts, the failing seeds and the exit code 1
where there are any. On an idle core a table takes about two seconds.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import functools
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.support import any_report, any_table
from tests.support.any_report import Judged


def one(seed: int) -> tuple[int, Judged]:
    """The table of that number, judged in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return seed, any_report.judged(any_table.chosen(seed), seed, Path(folder))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.tables")
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--show", action="store_true", help="print what is chosen")
    args = parser.parse_args()
    # One process a table at a time; products are too small for BLAS to share.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    seeds = range(args.first, args.first + args.tables)
    counts: collections.Counter[str] = collections.Counter()
    failing: list[int] = []
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    executor = functools.partial(
        concurrent.futures.ProcessPoolExecutor, args.processes, context
    )
    with executor() as pool:
        for seed, judged in pool.map(one, seeds, chunksize=1):
            counts[judged.outcome] += 1
            counts["unlisted"] += any("unlisted" in text for text in judged.wrong)
            if args.show:
                print(f"table {seed}: {judged.outcome}, {any_table.chosen(seed)}")
            if judged.wrong:
                failing.append(seed)
                print(f"table {seed}: {judged.outcome}")
                print("\n".join(judged.wrong), flush=True)
            done = counts.total() - counts["unlisted"]
            minutes = (time.monotonic() - start) / 60
            if done % 20 == 0:
                print(f"{done} tables, {minutes:.0f} minutes", flush=True)
            if args.minutes and minutes > args.minutes:
                pool.shutdown(cancel_futures=True)
                break
    print(
        f"{done} tables: {counts['refused']} refused with one line, "
        f"{counts['reported']} reports written, {counts['traceback']} tracebacks, "
        f"{counts['warning']} warnings, {counts['hang']} without an end, "
        f"{counts['unlisted']} with unlisted rows, {counts['wrong']} wrong in this or "
        f"another way; {minutes:.0f} minutes"
    )
    if failing:
        print(f"failing: {' '.join(map(str, failing))}")
    return int(bool(failing))


if __name__ == "__main__":
    sys.exit(main())
