"""Runs `scaling-launch` in processes of its own, quickly.

The clients of the clouds take seconds to import, so one process imports them and each
launcher is forked from it.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
from pathlib import Path

from launch import source
from scaling import chaos
from tests.support.fake_cloud import ZONE, Cloud

PRELOADED = [
    "google.cloud.compute_v1",
    "google.cloud.tpu_v2",
    "grpc._channel",
    "launch.commands",
    "launch.main",
    "scaling.corpora._pictures",
    "scaling.corpora._prepare",
    "scaling.corpora._quality",
    "scaling.corpora.code",
    "scaling.corpora.docstrings",
    "scaling.quiet",
    "scaling.scheduling.layouts",
    "scaling.study",
    "tests.support.launching",
]
WORKDIR = "gs://bucket/it's mine"


@dataclasses.dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


class Launcher:
    """The command, at a cloud; its home and the bucket are folders.

    Args:
      folder: for what it keeps; the points of scaling/chaos.py at which it is to die
        are files in `points` there.
    """

    def __init__(self, cloud: Cloud, folder: Path):
        self.cloud, self.folder = cloud, folder
        self.points.mkdir(exist_ok=True)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        cloud.end = self.end

    @property
    def points(self) -> Path:
        return self.folder / "points"

    @property
    def bucket(self) -> Path:
        return self.folder / "gs" / "bucket"

    def end(self, code: int = 0, fleet: str = "mine") -> None:
        """The study has ended, as its machine says in the bucket."""
        place = self.bucket / "it's mine" / "launch" / fleet
        if place.exists():
            (place / "ended").write_text(str(code))

    def fail(self, machine: str, why: str) -> None:
        """A machine could not start, as it says in the bucket."""
        place = self.bucket / "it's mine" / "launch" / "mine"
        (place / f"failed-{machine}").write_text(why)

    def __call__(self, *words: object, seconds: float = 300.0) -> Done:
        out, err = self.folder / "out", self.folder / "err"
        process = self._context.Process(
            target=_run,
            args=([str(w) for w in words], self.cloud.environment, str(self.folder)),
        )
        process.start()
        self.cloud.launcher = process.pid
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"no end: {err.read_text()[-2000:]}")
        code = process.exitcode
        assert code is not None
        return Done(code, out.read_text(), err.read_text())

    def up(self, study: Path, *more: object, command: str = "up") -> Done:
        return self(command, study, *WHERE, "--workdir", WORKDIR, *more)

    def of(self, command: str, study: Path) -> Done:
        return self(command, study, *WHERE)


WHERE = ("--name", "mine", "--zone", ZONE, "--poll_seconds", "0")
ORDERS = {
    "tpu": ("--accelerator", "v5litepod-8", "--count", "2", "--spot"),
    "compute": ("--accelerator", "v6e-8", "--count", "2"),
    "slices": ("--accelerator", "v6e-16", "--count", "1", "--spot"),
}
MACHINES = {
    "tpu": {"mine-head", "mine-0", "mine-1"},
    "compute": {"mine-head", "mine-0", "mine-1"},
    "slices": {"mine-head", "mine-0"},
}


def _run(words: list[str], environment: dict[str, str], folder: str) -> None:
    from launch import bucket, fleet, main

    os.environ.update(environment)
    os.environ["HOME"] = folder
    chaos.FOLDER = f"{folder}/points"
    # What a shell starts in the background ignores Ctrl-C, and so would this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, number in (("out", 1), ("err", 2)):
        file = os.open(f"{folder}/{name}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(file, number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    bucket.absolute = lambda address: f"{folder}/gs/{address.removeprefix('gs://')}"
    fleet.LOOKS = 30
    source.pack = lambda study, archive: archive.write_bytes(b"source")
    try:
        code = main.main(main.parse(["scaling-launch", *words]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
