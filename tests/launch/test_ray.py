"""The cluster that startup scripts and `scaling-launch join` make, with Ray itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import node
from tests.support import ray_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ray_cluster.missing()), reason=ray_cluster.missing()),
]
TOKEN, WRONG = "5ecret-of-the-cluster" * 3, "an0ther-cluster's-token" * 3
JOIN = "from launch import main; main.entry()"


def ask(code, environment):
    """What Python code prints that talks to the cluster."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


COUNT = (
    "import ray; ray.init(address='auto', logging_level='ERROR'); "
    "print(sum(n['Alive'] for n in ray.nodes()))"
)


def test_a_machine_joins_a_cluster_by_its_token_alone(tmp_path):
    kept = tmp_path / "token"
    kept.write_text(TOKEN)
    made = ray_cluster.Cluster(tmp_path / "logs")
    made.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(kept)}
    with made as cluster:
        at = cluster.environment | {"RAY_ADDRESS": cluster.address}

        def join(name, token):
            home = tmp_path / name
            home.mkdir()
            log = (tmp_path / f"{name}.log").open("w")
            process = subprocess.Popen(
                [sys.executable, "-c", JOIN, "join", cluster.address],
                env=cluster.environment | {"HOME": str(home)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
            process.stdin.write(token + "\n")
            process.stdin.close()
            return process

        refused = join("wrong", WRONG)
        assert refused.wait(180) != 0
        joined = join("right", TOKEN)
        try:
            late = time.monotonic() + 180
            while ask(COUNT, at) != "2":
                assert joined.poll() is None, (tmp_path / "right.log").read_text()
                assert time.monotonic() < late
            said = Path(f"/proc/{joined.pid}/cmdline").read_text()
            assert "start" in said and TOKEN not in said
            logs = (tmp_path / "right.log").read_text()
            assert TOKEN not in logs
            # The watcher's two commands.
            name = ask(f"from {node.__name__} import main; main()", at)
            ray = os.path.join(os.path.dirname(sys.executable), "ray")
            words = [ray, "drain-node", "--address", cluster.address, "--node-id", name]
            words += ["--reason", "DRAIN_NODE_REASON_PREEMPTION"]
            words += ["--reason-message", "preempted", "--deadline-remaining-seconds"]
            done = subprocess.run(
                [*words, "25"], env=at, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
        finally:
            joined.terminate()
            joined.wait(60)
