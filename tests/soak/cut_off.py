"""A machine that is cut off without a word comes back, and ends its runs once more.

    python -m tests.soak.cut_off --repetitions 3

One of the two nodes of a Ray cluster is in a network of its own. When it trains,
nothing that it sends arrives any more, and all of it is suspended; Ray gives it up
after its health checks, and its runs are trained on the other node. Once the study has
ended the lost node wakes up. It knows nothing of all that: it goes on from where it
was, writes to the same workdir and ends its pack. Then its network is whole again. The
records must be those that one machine alone wrote. Ends with a line a repetition.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import tempfile
import time
from pathlib import Path

from scaling.store import Store
from tests.soak.cluster import CHILD, Study, command_lines, trains, until
from tests.support import ray_cluster
from tests.support.ray_cluster import Cluster, Network, Node

NAME = "cut-off"  # the node's host name, which is in what it writes
AXES = {"optimiser.learning_rate": (1e-3, 2e-3, 3e-3, 4e-3)}
STANDS = b"the record of another attempt stands"


@dataclasses.dataclass
class Outcome:
    """gone: attempts lost with the node. second: runs that it ended all the same."""

    lost: int
    wrong: int
    gone: int
    second: int
    said: str

    def __str__(self) -> str:
        return (
            f"{self.lost} lost, {self.wrong} wrong; {self.gone} attempts were lost "
            f"with the node, which ended {self.second} runs once more"
        )


def cut_off(study: Study, workdir: str, folder: Path) -> Outcome:
    """The study with one node cut off while it trains."""
    with Network() as network, Cluster(folder, network.HOST) as cluster:
        node = cluster.add(*network.inside(NAME), address=network.NODE)
        command = study.start(workdir, cluster)
        store = Store(study.root / workdir)
        checkpoints = study.root / workdir / "checkpoints"
        until(lambda: trains(node) and checkpoints.is_dir(), command)
        network.cut()
        _suspend(node, checkpoints)
        cluster.add()
        said = command.communicate(timeout=1200)[0]
        assert command.returncode == 0, said
        node.signal(signal.SIGCONT)
        until(lambda: _idle(node))
        network.heal()
        until(lambda: not any(CHILD in line for line in command_lines(node.pids())))
    found = study.found(workdir)
    logs = b"".join(p.read_bytes() for p in (study.root / workdir / "logs").iterdir())
    return Outcome(
        lost=len(study.right.keys() - found.keys()),
        wrong=sum(study.right.get(i) != body for i, body in found.items()),
        gone=sum(attempt.cause == "lost" for attempt in store.attempts()),
        second=logs.count(STANDS),
        said=said,
    )


def _suspend(node: Node, checkpoints: Path) -> None:
    """Suspends it between two saves.

    Checkpoints are removed where their run has ended; a save that is under way when the
    node is suspended fails when it wakes up, and the node ends nothing.
    """
    for _ in range(200):
        node.signal(signal.SIGSTOP)
        if not any(checkpoints.rglob("*.orbax-checkpoint-tmp")):
            return
        node.signal(signal.SIGCONT)
        time.sleep(0.05)


def _idle(node: Node) -> bool:
    """Whether the node's child has ended its pack: none of its threads wants to run.

    How much it runs says nothing on a machine that is busy.
    """
    for _ in range(20):
        if any(_wants_to_run(pid) for pid in node.pids()):
            return False
        time.sleep(0.1)
    return True


def _wants_to_run(pid: int) -> bool:
    if CHILD not in "".join(command_lines([pid])):
        return False
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            state = thread.read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has just ended
            continue
        if state in "RD":
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.cut_off")
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    if reason := ray_cluster.missing() or Network.missing():
        print(f"not run: {reason}")
        return 0
    root = Path(tempfile.mkdtemp(prefix="cut-off-"))
    study = Study(root, steps=2_000, axes=AXES)
    bad = idle = 0
    for number in range(arguments.repetitions):
        outcome = cut_off(study, f"study-{number}", root / f"logs-{number}")
        bad += outcome.lost + outcome.wrong
        idle += not outcome.second
        print(f"repetition {number}: {outcome}", flush=True)
    print(f"{arguments.repetitions} repetitions: {bad} records lost or wrong")
    if idle:
        print(f"in {idle} of them the node ended nothing: they show nothing")
    return int(bad + idle > 0)


if __name__ == "__main__":
    sys.exit(main())
