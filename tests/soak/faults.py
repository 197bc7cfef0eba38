"""Random faults at the worst moments of a cluster's study change no record.

    python -m tests.soak.faults --faults 30

On the Ray cluster of `tests.soak.cluster` studies are disturbed until so many faults
have happened: a process dies at one of the points of scaling/chaos.py, a node is killed
or suspended for some seconds, a child or the command is killed or asked to stop. The
command is given again whenever it has ended early. Ends with a table of the faults, and
with the records that were lost or are not those of an undisturbed study.
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


class Faults:
    """Studies under faults, and how often each kind of fault happened."""

    def __init__(self, root: Path, seed: int):
        self.points = root / "points"
        self.points.mkdir()
        self.draw = random.Random(seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.study = Study(root / "studies", steps=600)
        self.lost = self.wrong = self.records = 0

    def disturb(self, workdir: str, cluster: Cluster, most: int) -> None:
        """One study with a fault every few seconds, `most` in all."""
        waiting = self.draw.sample((*chaos.POINTS, *OTHERS), min(most, 7))
        points = {"SCALING_CHAOS": str(self.points)}
        for _ in range(40):
            command = self.study.start(workdir, cluster, **points)
            while command.poll() is None:
                time.sleep(self.draw.uniform(1.0, 6.0))
                while len(cluster.nodes) < NODES:
                    cluster.add()
                if waiting and self._happens(waiting[-1], command, cluster):
                    waiting.pop()
            said = command.communicate()[0]
            self._count_points()
            if command.returncode == 0:
                break
            if command.returncode in (1, 2) or "Traceback" in said:
                print(said, flush=True)
        self._judge(workdir)

    def _happens(
        self, fault: str, command: subprocess.Popen[str], cluster: Cluster
    ) -> bool:
        """Does it, or arms it; False where there is nothing to do it to now."""
        if fault in chaos.POINTS:
            (self.points / fault).touch()
            self.counts[fault] += 1
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

    def _count_points(self) -> None:
        """Takes back what no process has come to, whose file is still there."""
        for path in list(self.points.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                self.counts[path.name] -= 1

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
        f"{faults.wrong} wrong records of {faults.records}"
    )
    return int(bool(faults.lost or faults.wrong))


if __name__ == "__main__":
    sys.exit(main())
