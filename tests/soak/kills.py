"""Studies that are killed at random moments end in an undisturbed one's records.

    python -m tests.soak.kills --kills 60

Small real studies (an n-gram model, a transformer whose rate is chosen, a longer run)
are started by the real command on a relative workdir, on a very long path and on gs://
(an emulator on loopback, where tests/support has one). Each start gets one kill at a
random moment: SIGKILL, SIGTERM or SIGINT, to the command or to its child. A command
whose child was killed may end by itself. The command is given again until the study is
done. What must be the same of a record is all but its attempt, times, host and device.
Ends with the counts; a kill takes some ten seconds of an idle core.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

from scaling.record import substance
from scaling.store import Store
from tests.support import gcs, real_studies

STUDY = """
from scaling.run import Data, EvaluationSet, Model, Optimiser, Run, Schedule
from scaling.study import corpus, vary

TEXT = corpus("files", path={text!r}, unit="line")

def study(results):
    run = Run(
        model=Model("transformer", 8_000),
        data=Data(TEXT, 800 * 128),
        optimiser=Optimiser(3e-3),
        schedule=Schedule(warmup_tokens=512),
        batch=4, length=32,
        evaluation=(EvaluationSet("made", TEXT, tokens=1_024),),
    )
    yield from vary(run, {{"model.family": ("ngram",), "model.size": (2_000,)}})
    rates = vary(run, {{"optimiser.learning_rate": (1e-3, 3e-3)}})
    yield from rates
    yield from vary(results.best(rates), {{"data.tokens": (1_600 * 128,)}})
"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
Key = tuple[str, str]  # run_id, layout


@dataclasses.dataclass
class Place:
    """A kind of path for workdirs; `pattern` has the study's number in it."""

    name: str
    pattern: str

    def workdir(self, number: int) -> str:
        return self.pattern.format(number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    names = ["relative", "long", "gs"]
    parser.add_argument("--places", nargs="*", choices=names, default=names)
    parser.add_argument("--at_once", type=int, default=1, help="studies at a time")
    parser.add_argument("--seconds", type=float, help="in which a start is killed")
    parser.add_argument("--minutes", type=float, help="kill nothing after so long")
    parser.add_argument("--folder", help="where to work (default: a temporary one)")
    arguments = parser.parse_args()
    # Ignored where a shell starts this in the background; commands would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    root = Path(arguments.folder or tempfile.mkdtemp(prefix="kills-")).resolve()
    soak = Soak(root, arguments)
    with places(root, arguments.places) as there:
        print(f"places: {', '.join(place.name for place in there)}", flush=True)
        with futures.ThreadPoolExecutor(arguments.at_once) as pool:
            numbers = itertools.takewhile(lambda _: soak.goes_on(), itertools.count())
            waiting: set[futures.Future[None]] = set()
            for number in numbers:
                place = there[number % len(there)]
                waiting.add(pool.submit(soak.study, number, place))
                while len(waiting) >= arguments.at_once:
                    done, waiting = futures.wait(waiting, return_when="FIRST_COMPLETED")
                    for future in done:
                        future.result()
            for future in waiting:
                future.result()
    counts = soak.counts
    print(
        f"{counts['kills']} kills over {counts['studies']} studies ("
        + ", ".join(f"{counts[p.name]} on {p.name}" for p in there)
        + f"): {counts['tracebacks']} tracebacks, {counts['lost']} lost, "
        f"{counts['wrong']} wrong records of {counts['records']}"
    )
    kinds = {k: n for k, n in sorted(counts.items()) if k.startswith("SIG")}
    print(", ".join(f"{kind}: {n}" for kind, n in kinds.items()))
    return int(any(counts[name] for name in ("tracebacks", "lost", "wrong")))


class Soak:
    """The studies, what each should end in, and the counts."""

    def __init__(self, root: Path, arguments: argparse.Namespace):
        self.root, self.seed, self.kills = root, arguments.seed, arguments.kills
        self.late = time.monotonic() + 60 * (arguments.minutes or 1e9)
        self.home, self.elsewhere = root / "home", root / "elsewhere"
        self.home.mkdir(parents=True, exist_ok=True)
        self.elsewhere.mkdir(exist_ok=True)
        self.counts: collections.Counter[str] = collections.Counter()
        text = real_studies.write_text(root / "text")
        (self.home / "small.py").write_text(STUDY.format(text=str(text)))
        self.right: dict[Key, dict[str, Any]] = {}
        for name in ("run=1,width=1", "run=2,width=2"):  # either may be measured
            began = time.monotonic()
            code, said = real_studies.run(
                *("run", "small.py", "--workdir", name, "--data_dir", "data"),
                *("--layout", name),
                cwd=self.home,
                seconds=1200,
            )
            assert code == 0, said
            self.seconds = time.monotonic() - began
            self.right |= by_key(str(self.home / name))
        self.seconds = arguments.seconds or 1.1 * self.seconds
        self.runs = len({run_id for run_id, _ in self.right})

    def goes_on(self) -> bool:
        """Whether there is something left to kill."""
        return self.counts["kills"] < self.kills and time.monotonic() < self.late

    def study(self, number: int, place: Place) -> None:
        """One study, started until it is done; killed at every start but the last."""
        workdir = place.workdir(number)
        draw = random.Random(f"{self.seed} {number}")
        self.counts[place.name] += 1
        self.counts["studies"] += 1
        for start in range(40):
            cwd = draw.choice((self.home, self.elsewhere))
            there = workdir
            if "://" not in workdir:
                there = os.path.relpath(self.root / workdir, cwd)
            process = real_studies.start(
                *("run", os.path.relpath(self.home / "small.py", cwd)),
                *("--workdir", there, "--data_dir", str(self.home / "data")),
                *("--checkpoint_seconds", "0.5"),
                cwd=cwd,
            )
            killed = self._kill(process, draw) if self.goes_on() else ""
            said, _ = process.communicate(timeout=1200)
            self.counts["tracebacks"] += "Traceback" in said
            where = f"study {number} on {place.name}, start {start}"
            print(
                f"{where}: {killed or 'left alone'}, {process.returncode}", flush=True
            )
            if "Traceback" in said:
                print(said)
            if process.returncode == 0:
                break
        else:
            print(said)
        self._judge(workdir)

    def _kill(self, process: subprocess.Popen[str], draw: random.Random) -> str:
        """Kills the command or its child at a random moment; what was done."""
        began = time.monotonic()
        if not until_begun(process):
            return ""
        moment = draw.uniform(0.0, self.seconds)
        number, child = draw.choice(SIGNALS), draw.random() < 0.4
        while time.monotonic() - began < moment and process.poll() is None:
            time.sleep(0.01)
        if process.poll() is not None:
            return ""
        pid = process.pid
        if child:
            pid = next(iter(children(pid)), pid)
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return ""
        whom = "command" if pid == process.pid else "child"
        kind = f"{number.name} to the {whom}"
        self.counts["kills"] += 1
        self.counts[kind] += 1
        return f"{kind} after {time.monotonic() - began:.1f} s"

    def _judge(self, workdir: str) -> None:
        found = by_key(workdir if "://" in workdir else str(self.root / workdir))
        self.counts["records"] += len(found)
        self.counts["lost"] += self.runs - len({run_id for run_id, _ in found})
        for key, body in found.items():
            if body != self.right.get(key):
                self.counts["wrong"] += 1
                print(f"wrong: {workdir} {key}")


@contextlib.contextmanager
def places(root: Path, wanted: list[str]) -> Iterator[list[Place]]:
    """The kinds of path that are wanted, with the emulator while they are used."""
    deep = Path("very long")
    while len(str(root / deep)) < 1500:
        deep /= "a folder [of] a long ünïcode path, " + "x" * 80
    known = {"relative": "home/runs/{}", "long": str(deep) + "/{}"}
    with contextlib.ExitStack() as stack:
        if "gs" in wanted and (reason := gcs.missing()):
            print(f"gs:// is left out: {reason}")
        elif "gs" in wanted:
            known["gs"] = stack.enter_context(gcs.emulator()) + "/kills/{}"
        yield [Place(name, known[name]) for name in wanted if name in known]


def by_key(workdir: str) -> dict[Key, dict[str, Any]]:
    """The substance of every record, by run and layout, which fixes the last bits."""
    bodies = [substance(record) for record in Store(workdir).records()[0]]
    return {(body["run_id"], repr(body["layout"])): body for body in bodies}


def until_begun(process: subprocess.Popen[str]) -> bool:
    """Waits until the command itself runs: before, Ctrl-C is Python's own affair."""
    was_pythons = False
    while process.poll() is None:
        caught = catches(process.pid, signal.SIGINT)
        if was_pythons and not caught:
            return True
        was_pythons = was_pythons or caught
        time.sleep(0.001)
    return False


def catches(pid: int, number: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    mask = next(line for line in text.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def children(pid: int) -> Iterator[int]:
    try:
        yield from map(
            int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        )
    except (FileNotFoundError, ProcessLookupError):
        return


if __name__ == "__main__":
    sys.exit(main())
