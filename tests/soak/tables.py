"""Thousands of small tables as people have them, each through report, fit and compare.

    python -m tests.soak.tables --tables 2000 --log tables.jsonl

Table number k is made from the seed k alone, so that a failing one can be repeated:
`--first k --tables 1 --show`. What must hold of every one stands in
tests/support/any_report.py. The commands are called in this process, on an analysis
that they share; one table in fifty goes through the installed command as well. Each
result is a line of the log, and numbers that a log has are not tried again: what was
cut goes on where it was, and `--tables 0` counts what it has. Ends with the counts,
the failing seeds and the exit code 1 where there are any. On an idle core a table takes
about two seconds.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from scaling.orphans import end_with_parent
from tests.support import any_report, any_table
from tests.support.any_report import Judged

THROUGH_THE_COMMAND = 50


def one(seed: int) -> tuple[int, Judged]:
    """The table of that number, judged in a folder of its own."""
    chosen = any_table.chosen(seed)
    with tempfile.TemporaryDirectory() as folder:
        found = any_report.judged(chosen, seed, Path(folder))
    if seed % THROUGH_THE_COMMAND or found.wrong:
        return seed, found
    with tempfile.TemporaryDirectory() as folder:
        command = any_report.by_the_command(chosen, seed, Path(folder))
    if command.outcome == found.outcome:
        return seed, found
    text = f"the command: {command.outcome}, where in this process {found.outcome}"
    return seed, Judged("wrong", (text, *command.wrong))


def kept(log: Path | None) -> dict[int, Judged]:
    """What a log has, the later line of two on one table."""
    if log is None or not log.exists():
        return {}
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    return {
        line["table"]: Judged(line["outcome"], tuple(line["wrong"])) for line in lines
    }


def write(log: Path | None, seed: int, judged: Judged) -> None:
    if log is not None:
        line = json.dumps({"table": seed} | dataclasses.asdict(judged))
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def counted(found: Iterable[Judged], minutes: float) -> str:
    """The counts of all results in one sentence."""
    found = list(found)
    counts = collections.Counter(judged.outcome for judged in found)
    unlisted = sum(any("unlisted" in text for text in one.wrong) for one in found)
    return (
        f"{len(found)} tables: {counts['refused']} refused with one line, "
        f"{counts['reported']} reports written, {counts['traceback']} tracebacks, "
        f"{counts['warning']} warnings, {counts['hang']} without an end, "
        f"{unlisted} with unlisted rows, {counts['wrong']} wrong in this or "
        f"another way; {minutes:.0f} minutes"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.tables")
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--show", action="store_true", help="print what is chosen")
    parser.add_argument("--log", type=Path, help="file of results, a line a table")
    parser.add_argument(
        "--again", action="store_true", help="try those again that the log has as wrong"
    )
    args = parser.parse_args()
    # One process a table at a time; products are too small for BLAS to share.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    found = kept(args.log)
    known = {seed for seed, one in found.items() if not (args.again and one.wrong)}
    every = {*range(args.first, args.first + args.tables)}
    every |= set(found) if args.again else set()
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        args.processes, context, end_with_parent, (os.getpid(),)
    ) as pool:
        for seed, judged in pool.map(one, sorted(every - known), chunksize=1):
            found[seed] = judged
            write(args.log, seed, judged)
            if args.show:
                print(f"table {seed}: {judged.outcome}, {any_table.chosen(seed)}")
            if judged.wrong:
                print(f"table {seed}: {judged.outcome}")
                print("\n".join(judged.wrong), flush=True)
            minutes = (time.monotonic() - start) / 60
            if len(found) % 20 == 0:
                print(f"{len(found)} tables, {minutes:.0f} minutes", flush=True)
            if args.minutes and minutes > args.minutes:
                pool.shutdown(cancel_futures=True)
                break
    print(counted(found.values(), (time.monotonic() - start) / 60))
    failing = sorted(seed for seed, judged in found.items() if judged.wrong)
    if failing:
        print(f"failing: {' '.join(map(str, failing))}")
    return int(bool(failing))


if __name__ == "__main__":
    sys.exit(main())
