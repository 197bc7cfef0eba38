"""Studies on a cluster whose machines vanish end in an undisturbed one's records.

    python -m tests.soak.cluster --repetitions 10

A Ray cluster of three nodes and a head runs on this machine. Each repetition is a study
of 24 runs of three programs, given by the real command: a node that trains is killed by
SIGKILL, all of it at once, and another one joins; the command itself is killed and
given again; another node that trains is killed. What must be the same of a record, as
one machine alone wrote it, is all but its attempt, times, host and device. Ends with a
line for each repetition and with the counts.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scaling.record import substance
from scaling.store import Store
from tests.support import ray_cluster, real_studies
from tests.support.ray_cluster import Cluster, Node

NODES = 3
AXES: dict[str, tuple[Any, ...]] = {
    "model.size": (6_000, 8_000, 10_000),
    "optimiser.learning_rate": tuple(1e-3 * 1.3**i for i in range(8)),
}
LAYOUT = "run=1,width=2"
CHILD = "scaling.training.worker"


class Study:
    """A small study, and the records of it that one machine alone wrote."""

    def __init__(
        self, root: Path, steps: int = 400, axes: dict[str, tuple[Any, ...]] = AXES
    ):
        self.root = root.resolve()
        text = real_studies.write_text(self.root / "text")
        self.file = real_studies.write_study(
            self.root / "small.py", text, steps=steps, axes=axes
        )
        code, said = real_studies.run(
            *self.arguments("alone"), cwd=self.root, seconds=1200
        )
        assert code == 0, said
        self.right = self.found("alone")

    def arguments(self, workdir: str) -> list[str]:
        flags = ["--data_dir", "data", "--layout", LAYOUT]
        flags += ["--checkpoint_seconds", "0.5"]
        return ["run", str(self.file), "--workdir", workdir, *flags]

    def start(
        self, workdir: str, cluster: Cluster, **environment: str
    ) -> subprocess.Popen[str]:
        engine = ["--engine", "ray", "--address", cluster.address]
        words = [*self.arguments(workdir), *engine]
        return real_studies.start(*words, cwd=self.root, **environment)

    def found(self, workdir: str) -> dict[str, dict[str, Any]]:
        records, corrupt = Store(self.root / workdir).records()
        assert not corrupt, corrupt
        # The source tree may be edited while this runs for an hour.
        return {r.run_id: substance(r) | {"commit": ""} for r in records}

    def records(self, workdir: str) -> int:
        folder = self.root / workdir / "records"
        names = os.listdir(folder) if folder.is_dir() else []
        return sum(name.endswith(".json") for name in names)


@dataclasses.dataclass
class Outcome:
    """What became of a disturbed study.

    behind: seconds for which a child outlived the killed command.
    """

    lost: int
    wrong: int
    causes: collections.Counter[str]
    behind: float
    seconds: float
    said: str

    def __str__(self) -> str:
        causes = ", ".join(f"{n} {cause}" for cause, n in sorted(self.causes.items()))
        return (
            f"{self.lost} lost, {self.wrong} wrong; failed attempts: {causes or 'none'}"
            f"; children gone {self.behind:.1f} s after their command; "
            f"{self.seconds:.0f} s"
        )


def disturbed(study: Study, workdir: str, cluster: Cluster, seed: int) -> Outcome:
    """The study with two nodes and the command killed on the way."""
    draw, began = random.Random(seed), time.monotonic()
    while len(cluster.nodes) < NODES:
        cluster.add()
    at = sorted(draw.sample(range(1, len(study.right) - 4), 3))
    command = study.start(workdir, cluster)
    said = _kill_node(study, workdir, cluster, command, at[0], draw)
    until(lambda: study.records(workdir) >= at[1], command)
    command.kill()
    said += command.communicate()[0]
    killed = time.monotonic()
    until(lambda: not any(trains(node) for node in cluster.nodes))
    behind = time.monotonic() - killed
    command = study.start(workdir, cluster)
    said += _kill_node(study, workdir, cluster, command, at[2], draw)
    said += command.communicate(timeout=1200)[0]
    assert command.returncode == 0, said
    found = study.found(workdir)
    causes = collections.Counter(
        a.cause for a in Store(study.root / workdir).attempts()
    )
    return Outcome(
        lost=len(study.right.keys() - found.keys()),
        wrong=sum(study.right.get(i) != body for i, body in found.items()),
        causes=causes,
        behind=behind,
        seconds=time.monotonic() - began,
        said=said,
    )


def _kill_node(
    study: Study,
    workdir: str,
    cluster: Cluster,
    command: subprocess.Popen[str],
    records: int,
    draw: random.Random,
) -> str:
    """Kills a node that trains, once there are so many records; another joins."""
    until(
        lambda: (
            study.records(workdir) >= records
            and any(trains(node) for node in cluster.nodes)
        ),
        command,
    )
    busy = [node for node in cluster.nodes if trains(node)]
    if not busy:  # it has just ended
        busy = cluster.nodes
    node = draw.choice(busy)
    node.kill()
    cluster.nodes.remove(node)
    there = study.records(workdir)
    cluster.add()
    return f"{node.address} killed at {there} records\n"


def trains(node: Node) -> bool:
    """Whether a child program runs on the node."""
    return any(CHILD in line for line in command_lines(node.pids()))


def command_lines(pids: list[int]) -> Iterator[str]:
    for pid in pids:
        try:
            yield Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue


def until(
    condition: Callable[[], bool],
    command: subprocess.Popen[str] | None = None,
    seconds: float = 600.0,
) -> None:
    """Waits for something to happen, no longer than a command runs."""
    late = time.monotonic() + seconds
    while not condition():
        if command is not None and command.poll() is not None:
            return
        assert time.monotonic() < late, "it does not happen"
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.cluster")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if reason := ray_cluster.missing():
        print(f"not run: {reason}")
        return 0
    root = Path(tempfile.mkdtemp(prefix="cluster-"))
    study = Study(root)
    print(f"{len(study.right)} runs a study, in {root}", flush=True)
    bad = 0
    with Cluster(root / "logs") as cluster:
        for number in range(arguments.repetitions):
            seed = arguments.seed + number
            outcome = disturbed(study, f"study-{seed}", cluster, seed)
            bad += outcome.lost + outcome.wrong
            print(f"repetition {seed}: {outcome}", flush=True)
    print(f"{arguments.repetitions} repetitions: {bad} records lost or wrong")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
