"""A Ray cluster of several nodes on this machine, each on a loopback address.

    with ray_cluster.Cluster(folder) as cluster:           # the head
        node = cluster.add()                               # with one place
        subprocess.run([..., "run", STUDY, "--address", cluster.address])
        node.kill()                                        # SIGKILL to all of it

`missing()` says why there can be none here, "" where there can: tests are skipped with
that reason. Every port is given: a node that chooses its own waits for files that its
agents write, and gives up where a busy machine starts those slowly.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Of the head; from the process, since a head listens on all addresses.
PORT = 11_000 + os.getpid() % 10 * 2_000
PATIENCE = 400.0  # seconds; a very busy machine takes minutes to start a node
TRIES = 8  # of a node, which gives up after half a minute

# Starts slowly on a busy machine, and notices a silent node within about ten seconds.
SETTINGS = {
    "RAY_raylet_start_wait_time_s": "60",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_initial_delay_ms": "30000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # what is cut off goes on so long
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
}


def missing() -> str:
    """Why no cluster can run here; "" where one can."""
    if importlib.util.find_spec("ray") is None:
        return "ray is not installed (extra `ray`)"
    with socket.socket() as free:
        try:
            free.bind(("127.0.0.2", 0))
        except OSError:
            return "127.0.0.2 is no address of this machine"
    return ""


class _Slow(Exception):
    """A node did not start: Ray waits half a minute for its agents, however busy."""


class Node:
    """A node of the cluster: a process that has started all others of it."""

    def __init__(self, address: str, process: subprocess.Popen[bytes], log: Path):
        self.address, self.process, self.log = address, process, log

    def pids(self) -> list[int]:
        """Its processes, those of Ray and all that they started."""
        return [self.process.pid, *descendants(self.process.pid)]

    def signal(self, number: int) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """As a machine goes: all of it at once."""
        pids = self.pids()
        for pid in pids:  # so that none of them starts another meanwhile
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        for pid in {*pids, *self.pids()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Cluster:
    """The head, which trains nothing, and the nodes that were added."""

    def __init__(self, folder: Path, host: str = "", **environment: str):
        """Args:
        folder: for logs.
        environment: changes, of every process of the cluster.
        host: the address of all nodes that are given none; each has its own where none
          is named.
        """
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **SETTINGS}
        self.environment.pop("XLA_FLAGS", None)
        self.environment |= environment
        self.nodes: list[Node] = []
        self._added = 0
        # Of this process's own, so that two test runs do not meet.
        pid = os.getpid()
        self.prefix = f"127.{1 + pid // 250 % 250}.{pid % 250}"
        self.host = host
        self.address = f"{self._free()}:{PORT}"

    def __enter__(self) -> Cluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Paths of sockets are short, so not below the folder.
        self._temporary = tempfile.TemporaryDirectory(
            prefix="ray", ignore_cleanup_errors=True
        )
        flags = ["--head", "--port", str(PORT), "--num-cpus", "0"]
        flags += ["--ray-client-server-port", str(PORT + 1)]
        flags += ["--include-dashboard", "false", "--temp-dir", self._temporary.name]
        self.head = self._start(self._free(), flags)
        return self

    def __exit__(self, *_: object) -> None:
        for node in [*self.nodes, self.head]:
            node.kill()
        self._temporary.cleanup()

    def add(
        self, *before: str, address: str = "", tpus: int = 0, **environment: str
    ) -> Node:
        """Another node with one place.

        Args:
          before: a command that runs the node's, such as `ip netns exec NAME`.
          tpus: chips that it claims to have.
          environment: of the node alone, such as that of a host of a slice.
        """
        self._added += 1
        flags = ["--address", self.address, "--num-cpus", "1"]
        if tpus:
            flags += ["--resources", json.dumps({"TPU": tpus})]
        before = (*before, *_env(environment))
        node = self._start(address or self._free(), flags, before)
        self.nodes.append(node)
        return node

    def _free(self) -> str:
        return self.host or f"{self.prefix}.{2 + self._added}"

    def _start(
        self, address: str, flags: list[str], before: tuple[str, ...] = ()
    ) -> Node:
        first = PORT + 100 * (1 + self._added)
        flags = list(flags)
        ports = ("node-manager-port", "object-manager-port", "metrics-export-port")
        ports += ("dashboard-agent-listen-port", "dashboard-agent-grpc-port")
        ports += ("runtime-env-agent-port", "min-worker-port")
        for i, name in enumerate(ports):
            flags += [f"--{name}", str(first + i)]
        flags += ["--max-worker-port", str(first + 99)]
        flags += ["--node-ip-address", address, "--object-store-memory", "80000000"]
        for _ in range(TRIES - 1):
            with contextlib.suppress(_Slow):
                return self._once(address, flags, before)
        return self._once(address, flags, before)

    def _once(self, address: str, flags: list[str], before: tuple[str, ...]) -> Node:
        log = self.folder / f"node-{address}-{self._added}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [
                    *before,
                    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
                    *("--disable-usage-stats", "--log-style", "record", *flags),
                ],
                env=self.environment,
                stdout=file,
                stderr=file,
                process_group=0,
            )
        node = Node(address, process, log)
        try:
            self._wait_for(node)
        except BaseException:  # Ctrl-C too: nobody else knows of it yet
            node.kill()
            raise
        return node

    def _wait_for(self, node: Node) -> None:
        """Until the node has joined, which it says itself."""
        late = time.monotonic() + PATIENCE
        while b"Ray runtime started" not in node.log.read_bytes():
            said = node.log.read_text(errors="replace")
            if node.process.poll() is not None or time.monotonic() > late:
                raise _Slow(f"{node.address} did not start:\n{said}")
            time.sleep(0.1)


def _env(environment: dict[str, str]) -> list[str]:
    """A command that runs another one with changes of its environment."""
    return ["env", *(f"{k}={v}" for k, v in environment.items())] if environment else []


class Network:
    """A network of its own for one node, which can be cut without a word.

    Both ends are told a wrong hardware address of the other: what they send gets
    nowhere, and no connection is closed. `missing()` as for the cluster.
    """

    HOST, NODE, LINK, NAME = "10.213.7.1", "10.213.7.2", "datalaw0", "datalaw"

    @staticmethod
    def missing() -> str:
        if os.geteuid() or not shutil.which("ip") or not shutil.which("unshare"):
            return "a network namespace takes root, ip and unshare"
        return ""

    def __enter__(self) -> Network:
        self._remove()  # what one that was killed has left
        self._ip("netns", "add", self.NAME)
        ends = ("name", self.LINK, "type", "veth", "peer", "name", "end")
        self._ip("link", "add", *ends, "netns", self.NAME)
        self._ip("addr", "add", f"{self.HOST}/24", "dev", self.LINK)
        self._ip("link", "set", self.LINK, "up")
        for words in (
            ("addr", "add", f"{self.NODE}/24", "dev", "end"),
            ("link", "set", "end", "up"),
            ("link", "set", "lo", "up"),
        ):
            self._ip("-n", self.NAME, *words)
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        # The pair goes with its namespace, but only once its last process has ended.
        for words in (("link", "del", self.LINK), ("netns", "del", self.NAME)):
            subprocess.run(["ip", *words], check=False, stderr=subprocess.DEVNULL)

    def inside(self, hostname: str) -> list[str]:
        """A command that runs another one in the network, under a name of its own."""
        named = f'hostname {hostname} && exec "$0" "$@"'
        enter = ["ip", "netns", "exec", self.NAME, "unshare", "--uts"]
        return [*enter, "sh", "-c", named]

    def cut(self) -> None:
        for words in self._ends():
            self._ip(*words, "lladdr", "02:00:00:00:00:99", "nud", "permanent")

    def heal(self) -> None:
        for words in self._ends("del"):
            self._ip(*words)

    def _ends(self, do: str = "replace") -> list[list[str]]:
        here = ["neigh", do, self.NODE, "dev", self.LINK]
        return [here, ["-n", self.NAME, "neigh", do, self.HOST, "dev", "end"]]

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)


def descendants(pid: int) -> Iterator[int]:
    """All processes that a process started, and those that they started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        waiting += children
        yield from children
