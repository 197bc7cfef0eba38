"""What the quick study's time goes to, with a cold and a warm compilation cache.

    python -m tests.benchmarks.study_overhead [--shorter 4] [--families A,B]

Runs configs/quickstart.py as `scaling run` does: the same 149 runs of the same nine
programs, with budgets cut to a part (--shorter 1 for the whole; what a step takes and
what surrounds the steps stays the same). Corpora are prepared before. Prints seconds by
phase of each child process, and the goals:

    outside of training and evaluation steps   at most 75 s cold, 30 s warm
    evaluation                                 at most 15% of the wall time
    predictions at probes                      at most 5% of the wall time
    input                                      less than the steps it is made for

The shares are those of the whole study: training steps and input are scaled up by what
the budgets were cut by.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from scaling import corpora
from scaling.engines.child import Settings
from scaling.scheduling import commands, study_plan
from scaling.scheduling.progress import Progress

QUICK = Path(__file__).parents[2] / "configs" / "quickstart.py"
SHORTER = """
import importlib.util
spec = importlib.util.spec_from_file_location("quick", {path!r})
quick = importlib.util.module_from_spec(spec)
spec.loader.exec_module(quick)
quick.BUDGETS = tuple(tokens // {shorter} for tokens in quick.BUDGETS)
study = quick.study
"""
# By what the study trains, not by how: these grow with the budgets.
STEPS = ("training steps", "input")
LIMITS = {"cold": 75.0, "warm": 30.0}


def seconds_by_phase(
    folder: Path, name: str, shorter: int, families: tuple[str, ...]
) -> tuple[float, dict[str, float], dict[str, int]]:
    """Wall seconds of one study, and its children's seconds and calls by phase."""
    study = folder / "study.py"
    study.write_text(SHORTER.format(path=str(QUICK), shorter=shorter))
    times = folder / f"{name}.jsonl"
    os.environ["DATALAW_TIMES"] = str(times)
    settings = Settings(
        data_dir=os.path.abspath(corpora.data_folder(None)),
        cache=str(folder / "compiled"),
        worker="tests.benchmarks._timed_worker",
    )
    workdir = str(folder / name)
    options = study_plan.Options(str(study), workdir, settings, families)
    commands.plan(options, Progress())  # prepares the corpora
    times.unlink()
    shutil.rmtree(workdir)
    started = time.monotonic()
    with open(folder / f"{name}.txt", "w") as progress:
        code = commands.run(options, Progress(progress))
    wall = time.monotonic() - started
    assert code == 0, (folder / f"{name}.txt").read_text()[-2000:]
    seconds: dict[str, float] = {}
    calls: dict[str, int] = {}
    for line in times.read_text().splitlines():
        child = json.loads(line)
        for phase, spent in child["seconds"].items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
            calls[phase] = calls.get(phase, 0) + child["calls"][phase]
    return wall, seconds, calls


def report(
    name: str,
    wall: float,
    seconds: dict[str, float],
    calls: dict[str, int],
    shorter: int,
) -> bool:
    """Prints one study's phases and which goals hold."""
    seconds = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    seconds["the parent alone"] = wall - sum(seconds.values())
    print(f"\n{name} compilation cache: {wall:.1f} s in all")
    for phase, spent in seconds.items():
        times = calls.get(phase, 0)
        each = f"{1e3 * spent / times:8.1f} ms x {times}" if times else ""
        print(f"  {phase:<26} {spent:7.1f} s {each}")
    whole = wall + (shorter - 1) * sum(seconds[phase] for phase in STEPS)
    share = seconds["evaluation"] / whole
    outside = wall - sum(
        seconds[phase]
        for phase in ("training steps", "input", "evaluation", "predictions at probes")
    )
    stalls = seconds["input"] / seconds["training steps"]
    held = True
    for what, value, limit, unit in (
        ("outside of steps and evaluation", outside, LIMITS[name], "s"),
        ("evaluation, of the whole study", 100 * share, 15.0, "%"),
        (
            "predictions at probes, of the whole study",
            100 * seconds["predictions at probes"] / whole,
            5.0,
            "%",
        ),
        ("input, of the steps it is for", 100 * stalls, 5.0, "%"),
    ):
        verdict = "holds" if value <= limit else "DOES NOT HOLD"
        held &= value <= limit
        print(f"  {what}: {value:.1f} {unit}; goal {limit:g} {unit} {verdict}")
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shorter", type=int, default=4, help="budgets are cut by it")
    parser.add_argument("--families", default="", metavar="A,B")
    arguments = parser.parse_args()
    families = tuple(filter(None, arguments.families.split(",")))
    folder = Path(tempfile.mkdtemp(prefix="study-overhead-"))
    held = []
    try:
        for name in LIMITS:
            found = seconds_by_phase(folder, name, arguments.shorter, families)
            held.append(report(name, *found, arguments.shorter))
    finally:
        shutil.rmtree(folder)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
