"""Random faults at the worst moments of a cluster's study change no record.

    python -m tests.soak.faults --faults 30

On the Ray cluster of `tests.soak.cluster` studies are disturbed until so many faults
have happened: a process dies at one of the points of scaling/chaos.py, a node is killed
or suspended for some seconds, a child or the command is killed or asked to stop. Each
kind happens once before any happens twice. The command is given again whenever it has
ended early. Ends with a table of the faults, and with the exit code 1 where a record
was lost or is not that of an undisturbed study, or where a command ended in a traceback
or refused to go on. The launcher's own points are in `tests.soak.launch_kills`.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scaling import chaos
from tests.soak.cluster import CHILD, NODES, Study, command_lines, trains
from tests.support import ray_cluster
from tests.support.ray_cluster import Cluster

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
OTHERS = (
    "node: killed",
    "node: suspended for 4 s",
    "child: SIGKILL",
    "child: SIGTERM",
    *(f"command: {name}" for name in SIGNALS),
)
A_STUDY = 10  # faults, at most


class Faults:
    """Studies under faults, and how often each kind of fault happened."""

    def __init__(self, root: Path, seed: int):
        self.points = root / "points"
        self.points.mkdir()
        self.draw = random.Random(seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.armed: list[str] = []  # points that no process has come to yet
        self.waiting: list[str] = []
        self.study = Study(root / "studies", steps=600)
        self.lost = self.wrong = self.records = self.errors = 0

    def disturb(self, workdir: str, cluster: Cluster, most: int) -> None:
        """One study with a fault every few seconds, `most` in all."""
        left = min(most, A_STUDY)
        for _ in range(40):
            command = self.study.start(workdir, cluster, SCALING_CHAOS=str(self.points))
            while command.poll() is None:
                time.sleep(self.draw.uniform(0.5, 3.0))
                while len(cluster.nodes) < NODES:
                    cluster.add()
                self._reached()
                if left and self._happens(self._next(), command, cluster):
                    self.waiting.pop()
                    left -= 1
            said = command.communicate()[0]
            left += self._disarm()
            if command.returncode == 2 or "Traceback" in said:
                self.errors += 1
            if command.returncode > 0 or "Traceback" in said:
                print(f"exit code {command.returncode}\n{said}", flush=True)
            if command.returncode == 0:
                break
        self._judge(workdir)

    def _next(self) -> str:
        """The fault that is next: each kind once before any happens twice."""
        if not self.waiting:
            self.waiting = [*chaos.POINTS, *OTHERS]
            self.draw.shuffle(self.waiting)
        return self.waiting[-1]

    def _happens(
        self, fault: str, command: subprocess.Popen[str], cluster: Cluster
    ) -> bool:
        """Does it, or arms it; False where there is nothing to do it to now."""
        if fault in chaos.POINTS:
            (self.points / fault).touch()
            self.armed.append(fault)
            return True
        whom, _, what = fault.partition(": ")
        busy = [node for node in cluster.nodes if trains(node)]
        if not busy:
            return False
        node = self.draw.choice(busy)
        if fault == "node: killed":
            node.kill()
            cluster.nodes.remove(node)
        elif whom == "node":
            node.signal(signal.SIGSTOP)
            time.sleep(4.0)
            node.signal(signal.SIGCONT)
        elif whom == "child":
            for pid in node.pids():
                if CHILD in "".join(command_lines([pid])):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, getattr(signal, what))
        else:
            command.send_signal(getattr(signal, what))
        self.counts[fault] += 1
        return True

    def _reached(self) -> None:
        """Counts the points at which a process died: it has removed their files."""
        for fault in [f for f in self.armed if not (self.points / f).exists()]:
            self.armed.remove(fault)
            self.counts[fault] += 1

    def _disarm(self) -> int:
        """Takes back points that no process came to, to be next; how many."""
        back = []
        for fault in self.armed:
            try:
                (self.points / fault).unlink()
                back.append(fault)
            except FileNotFoundError:
                self.counts[fault] += 1
        self.armed = []
        self.waiting += back
        return len(back)

    def _judge(self, workdir: str) -> None:
        found = self.study.found(workdir)
        self.records += len(found)
        self.lost += len(self.study.right.keys() - found.keys())
        self.wrong += sum(self.study.right.get(i) != b for i, b in found.items())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.faults")
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if reason := ray_cluster.missing():
        print(f"not run: {reason}")
        return 0
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    faults = Faults(root, arguments.seed)
    points = {"SCALING_CHAOS": str(faults.points)}
    studies = 0
    with Cluster(root / "logs", **points) as cluster:
        while (left := arguments.faults - faults.counts.total()) > 0:
            faults.disturb(f"study-{studies}", cluster, left)
            studies += 1
            print(f"study {studies}: {faults.counts.total()} faults", flush=True)
    for fault, count in sorted(faults.counts.items()):
        print(f"| {fault} | {count} |")
    print(
        f"{faults.counts.total()} faults over {studies} studies: {faults.lost} lost, "
        f"{faults.wrong} wrong records of {faults.records}, {faults.errors} commands "
        "that ended in a traceback or refused to go on"
    )
    never = {*chaos.POINTS, *OTHERS} - faults.counts.keys()
    if never:
        print(f"did not happen: {', '.join(sorted(never))}")
    return int(bool(faults.lost or faults.wrong or faults.errors))


if __name__ == "__main__":
    sys.exit(main())
