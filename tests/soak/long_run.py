"""One long run, stopped three times at checkpoints, ends in an undisturbed one's bits.

    python -m tests.soak.long_run --minutes 30

Both runs train at the same time, each for at least so many minutes, with the interval
between checkpoints that users have. The workdirs are given as relative paths, from two
folders. The disturbed run is stopped by SIGTERM just after a checkpoint, by SIGINT just
after another, and by SIGKILL while a third is being written; the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scaling.store import Store
from tests.support import real_studies

SHAPE = {"size": 64_000, "batch": 8, "length": 64, "unique": 400_000, "evaluations": 4}
THREADS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--checkpoint_seconds", type=float, default=300.0)
    parser.add_argument("--folder", help="where to work (default: a temporary one)")
    arguments = parser.parse_args()
    os.nice(15)
    root = Path(arguments.folder or tempfile.mkdtemp(prefix="long-run-")).resolve()
    home, elsewhere = root / "home", root / "elsewhere"
    text = real_studies.write_text(home / "text", lines=20_000)
    flags = ["--layout", "run=1,width=1", "--data_dir", str(home / "data")]
    flags += ["--checkpoint_seconds", str(arguments.checkpoint_seconds)]
    steps = _steps(root, text, flags, arguments.minutes)
    study = real_studies.write_study(home / "long.py", text, steps, **SHAPE)
    print(f"one run of {steps:,} steps in {root}", flush=True)

    began = time.monotonic()
    straight = _start("run", "long.py", "--workdir", "runs/straight", *flags, cwd=home)
    disturbed = Disturbed(root, study, flags)
    said = disturbed.finish()
    taken = time.monotonic() - began
    reported, _ = straight.communicate()
    print(f"undisturbed: exit code {straight.returncode}: {reported.splitlines()[-1:]}")
    print(f"stopped {disturbed.stops} times, then: {said.splitlines()[-1:]}")

    runs = home / "runs"
    records = [Store(runs / name).records()[0] for name in ("straight", "cut")]
    same = real_studies.substances(runs / "straight") == real_studies.substances(
        runs / "cut"
    )
    for name, (record,) in zip(("undisturbed", "disturbed"), records, strict=True):
        loss, minutes = record.reading("made").value, record.wall_seconds / 60
        curve = record.artifacts[0].sha256[:16]
        print(
            f"{name}: attempt {record.attempt}, trained for {minutes:.1f} min, "
            f"final loss {loss!r}, loss curve {curve}"
        )
    causes = [a.cause for a in Store(runs / "cut").attempts()]
    tracebacks = (said + reported + disturbed.said).count("Traceback")
    print(f"causes of failed attempts: {causes}; {tracebacks} tracebacks")
    print(f"{taken / 60:.1f} minutes; the same bits: {same}")
    elsewhere.mkdir(exist_ok=True)
    return 0 if same and not tracebacks and "crash" not in causes else 1


def _steps(root: Path, text: Path, flags: list[str], minutes: float) -> int:
    """Steps that take so long beside another run, from a short one of each."""
    trial = 1_000
    study = real_studies.write_study(root / "trial" / "trial.py", text, trial, **SHAPE)
    both = [
        _start("run", "trial.py", "--workdir", f"w{i}", *flags, cwd=study.parent)
        for i in range(2)
    ]
    for process in both:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    seconds = [
        record.wall_seconds
        for i in range(2)
        for record in Store(study.parent / f"w{i}").records()[0]
    ]
    return int(trial * 60 * minutes / min(seconds) * 1.02)


def _start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return real_studies.start(*arguments, cwd=cwd, XLA_FLAGS=THREADS)


class Disturbed:
    """The run that is stopped, and what it said so far."""

    def __init__(self, root: Path, study: Path, flags: list[str]):
        self.root, self.study, self.flags = root, study, flags
        self.workdir = study.parent / "runs" / "cut"
        self.said, self.stops = "", 0

    def finish(self) -> str:
        """Stops it three times and lets it end; what it said last."""
        self._stop(signal.SIGTERM, "home", self._after_checkpoint)
        self._stop(signal.SIGINT, "elsewhere", self._after_two)
        self._stop(signal.SIGKILL, "home", self._while_writing)
        process = self._begin("elsewhere")
        said, _ = process.communicate()
        assert process.returncode == 0, said
        return said

    def _begin(self, folder: str) -> subprocess.Popen[str]:
        cwd = self.root / folder
        paths = [os.path.relpath(path, cwd) for path in (self.study, self.workdir)]
        return _start("run", paths[0], "--workdir", paths[1], *self.flags, cwd=cwd)

    def _stop(self, number: int, folder: str, moment) -> None:
        process = self._begin(folder)
        where = moment(process)
        process.send_signal(number)
        said, _ = process.communicate()
        self.said, self.stops = self.said + said, self.stops + 1
        name = signal.Signals(number).name
        print(f"{name} {where}: exit code {process.returncode}", flush=True)
        last = [line for line in said.splitlines() if "done" in line][-1:]
        print(f"  {last}", flush=True)

    def _finished(self) -> set[Path]:
        return set(self.workdir.glob("checkpoints/*/*/manifest.json"))

    def _after_checkpoint(self, process: subprocess.Popen[str]) -> str:
        """Waits for a checkpoint that this start writes."""
        before = self._finished()
        while not self._finished() - before:
            assert process.poll() is None, "it ended before its checkpoint"
            time.sleep(0.01)
        step = max(int(path.parent.name) for path in self._finished())
        return f"after checkpoint {step}"

    def _after_two(self, process: subprocess.Popen[str]) -> str:
        self._after_checkpoint(process)
        return self._after_checkpoint(process)

    def _while_writing(self, process: subprocess.Popen[str]) -> str:
        """Waits for a checkpoint that is begun and has no manifest yet."""
        before = set(self.workdir.glob("checkpoints/*/*"))
        while True:
            for folder in set(self.workdir.glob("checkpoints/*/*")) - before:
                if not (folder / "manifest.json").exists():
                    return f"while {folder.name} was being written"
            assert process.poll() is None, "it ended before its checkpoint"
            time.sleep(0.0005)


if __name__ == "__main__":
    sys.exit(main())
