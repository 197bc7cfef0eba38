"""The machines of a Ray cluster: one task at a time on each that has room for packs.

A task asks for all of its node, and starts the same child program there as the engine
for one machine does, so that a crash of XLA ends no process of Ray. The child ends with
the task's process; Ray ends that with the driver.

A slice of several hosts is one machine, by the labels that Ray gives its nodes. A job
is a task on each of them, whose children are the processes of one `jax.distributed`;
the first one tells what happens, and if one goes the job is over and all go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import math
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from scaling import chaos, corpora, plugins
from scaling.engines.child import Failed, Settings
from scaling.engines.fleet import Fleet, Gone, Job, Probe, Result, Said
from scaling.engines.local import Local
from scaling.engines.stop import Stop
from scaling.errors import DiskError, Ended, UserError
from scaling.packs import Event, Pack, Search
from scaling.store import Store

EVENT_SECONDS = 2.0  # between the messages of steps that a task sends
# A process is gone at once, its node only after Ray's health checks: a crash may turn
# out to be the loss of the machine.
SUSPECT_SECONDS = 30.0
CONNECT_SECONDS = 20.0

# Of the first host of a slice; a job takes the next one, since an old one may be held.
COORDINATOR_PORT, COORDINATOR_PORTS = 8476, 256
SLICE, WORKER = "ray.io/tpu-slice-name", "ray.io/tpu-worker-id"
TOPOLOGY = "ray.io/tpu-topology"

Message = tuple[str, Any]


def engine(
    address: str,
    settings: Settings,
    store: Store,
    stop: Stop,
    note: Callable[[str], None],
) -> Fleet:
    """The engine that trains on a Ray cluster.

    Args:
      address: of the cluster's head; "" for $RAY_ADDRESS or the cluster that runs here.

    Raises:
      UserError: Ray is not installed.
    """
    try:
        import ray  # noqa: F401
    except ImportError as error:
        text = "needs Ray: pip install 'datalaw[ray]'"
        raise UserError("engine", "ray", text) from error
    cluster = RayCluster(address, settings, os.fspath(store.root))
    # The driver's machine may have an accelerator, which belongs to a pack.
    here = Local(dataclasses.replace(settings, platforms="cpu"), store, stop, note)
    return Fleet(cluster, here, store, stop, note)


class RayCluster:
    """Nodes of a Ray cluster; see `fleet.Cluster`."""

    def __init__(self, address: str, settings: Settings, workdir: str):
        self.address, self.workdir = address, workdir
        self.settings = dataclasses.replace(
            settings,
            data_dir=_of_any_user(settings.data_dir),
            cache=_of_any_user(settings.cache),
        )
        # By the stream of what a task says: its job, and which host of a slice it is.
        self._jobs: dict[Any, tuple[Job, int]] = {}
        self._pids: dict[tuple[Job, int], int] = {}  # of the processes of their tasks
        self._suspects: dict[Job, tuple[float, str]] = {}
        self._nodes: dict[str, list[dict[str, Any]]] = {}
        self._ports = itertools.count()

    def __enter__(self) -> Self:
        import ray

        _check(self.address or os.environ.get("RAY_ADDRESS", ""))
        handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            ray.init(
                address=self.address or "auto",
                log_to_driver=False,
                logging_level="ERROR",
                namespace="datalaw",
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            # No cluster, one of another version of Ray or Python, or no address.
            why = str(error).strip().splitlines()[0]
            text = f"{why} (start one with `ray start --head`, or name it)"
            where = self.address or os.environ.get("RAY_ADDRESS", "")
            raise UserError("address", where, text) from error
        finally:
            for number, handler in handlers.items():  # Ray sets its own
                signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()

    def hosts(self) -> Mapping[str, str]:
        import ray

        there = [node for node in ray.nodes() if node["Alive"] and _devices(node)]
        self._nodes = _machines(there)
        kinds = {name: _devices(nodes[0]) for name, nodes in self._nodes.items()}
        # Beside machines with accelerators, the others do something else.
        least = 1 + any(len(devices) > 1 for devices in kinds.values())
        return {
            name: f"{len(self._nodes[name])} x {devices}"
            for name, devices in kinds.items()
            if len(devices) >= least
        }

    def start(self, job: Job) -> None:
        nodes = self._nodes.get(job.host)
        if nodes is None:  # it went since the engine looked
            self._suspects[job] = time.monotonic(), "it is not in the cluster any more"
            return
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        settings = dataclasses.replace(self.settings, attempt=uuid.uuid4().hex[:8])
        if len(nodes) > 1:
            first = int(os.environ.get("JAX_COORDINATOR_PORT", COORDINATOR_PORT))
            port = first + next(self._ports) % COORDINATOR_PORTS
            where = f"{nodes[0]['NodeManagerAddress']}:{port}"
            settings = dataclasses.replace(
                settings, coordinator=where, processes=len(nodes)
            )
        for process, node in enumerate(nodes):
            devices, node_id = _devices(node), node["NodeID"]
            task = ray.remote(max_retries=0, num_returns="streaming")(carried_out)
            stream = task.options(
                name=type(job.work).__name__,
                num_cpus=devices.pop("CPU"),
                num_gpus=devices.pop("GPU", 0),
                resources=devices,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, False),
            ).remote(
                job.work, dataclasses.replace(settings, process=process), self.workdir
            )
            self._jobs[stream] = job, process

    def wait(self, seconds: float) -> Iterator[tuple[Job, Said]]:
        import ray

        yield from self._judged()
        streams = list(self._jobs)
        if not streams:
            time.sleep(min(seconds, 0.2))
            return
        ray.wait(streams, num_returns=1, timeout=seconds, fetch_local=False)
        ready, _ = ray.wait(
            streams, num_returns=len(streams), timeout=0, fetch_local=False
        )
        for stream in ready:
            if stream in self._jobs:  # else its job has ended meanwhile
                yield from self._said(stream)
        for stream in set(streams) - set(ready):
            # Ray itself says so minutes later where no connection was closed.
            if stream in self._jobs and self._jobs[stream][0].host not in self._nodes:
                job = self._jobs[stream][0]
                self._forget(job)
                yield job, Gone("it does not answer any more", lost=True)

    def _said(self, stream: Any) -> Iterator[tuple[Job, Said]]:
        """The next message of a task."""
        import ray

        job, process = self._jobs[stream]
        try:
            kind, body = ray.get(next(stream))
        except StopIteration:
            kind, body = "gone", "the task ended without a result"
        except ray.exceptions.RayError as error:
            why = str(error).strip().splitlines()[0]
            lost = isinstance(error, _lost())
            kind, body = ("lost" if lost else "suspect"), why
        if kind == "begun":
            self._pids[job, process] = body
        elif kind == "events":
            for event in body:
                yield job, event
        elif kind == "result" and process:
            del self._jobs[stream]  # the first one says what it was
        else:
            self._forget(job, all_go=kind != "result")
            if kind == "suspect":
                self._suspects[job] = time.monotonic(), body
            else:
                yield job, _END[kind](body)

    def _forget(self, job: Job, all_go: bool = True) -> None:
        """The job is over; its other tasks are ended where one of them failed."""
        import ray

        of_job = [s for s, (other, _) in self._jobs.items() if other is job]
        for stream in of_job:
            del self._jobs[stream]
            if all_go and len(of_job) > 1:  # they would wait for the one that went
                ray.cancel(stream, force=True)
        for key in [key for key in self._pids if key[0] is job]:
            del self._pids[key]

    def _judged(self) -> Iterator[tuple[Job, Said]]:
        """Those whose process went, once it is clear whether the node went too."""
        if not self._suspects:
            return
        self.hosts()
        for job, (since, why) in list(self._suspects.items()):
            lost = job.host not in self._nodes
            if lost or time.monotonic() - since > SUSPECT_SECONDS:
                del self._suspects[job]
                yield job, Gone(why, lost)

    def ask_to_stop(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = ray.remote(max_retries=0, num_cpus=0)(terminate)
        for (job, process), pid in self._pids.items():
            if job.host not in self._nodes:
                continue
            node = self._nodes[job.host][process]["NodeID"]
            strategy = NodeAffinitySchedulingStrategy(node, False)
            task.options(scheduling_strategy=strategy).remote(pid)
        for stream, key in list(self._jobs.items()):
            if key not in self._pids:  # not begun: nothing to save
                ray.cancel(stream)


def _lost() -> tuple[type[Exception], ...]:
    """What says that a node is gone, or takes no more work since it is going."""
    from ray import exceptions

    return exceptions.NodeDiedError, exceptions.TaskUnschedulableError


def _check(address: str) -> None:
    """Raises UserError where nothing answers: Ray itself tries for minutes."""
    if address in ("", "auto"):
        return
    host, _, port = address.rpartition(":")
    wrong = ""
    if not host or not port.isdecimal():
        wrong = "give HOST:PORT, as `ray start --head` prints it"
    else:
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:  # the latter: no number of a port
            wrong = f"no cluster answers there ({error}); start its head, or correct it"
    if wrong:
        raise UserError("address", address, wrong)


_END: dict[str, Callable[[Any], Said]] = {
    "result": Result,
    "user": lambda body: UserError(*body),
    "gone": Gone,
    "lost": lambda why: Gone(why, lost=True),
}


def _machines(nodes: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The nodes of each machine by its name, those of a slice in the order of hosts.

    A slice that lacks a host is none yet, or none any more. One that lost a host and
    has another in its place has another name.
    """
    slices: dict[str, dict[int, dict[str, Any]]] = {}
    machines: dict[str, list[dict[str, Any]]] = {}
    for node in nodes:
        labels = node.get("Labels") or {}
        if _hosts(node) > 1:
            hosts = slices.setdefault(labels[SLICE], {})
            hosts[int(labels.get(WORKER, "0"))] = node
        else:
            name = f"{node['NodeManagerHostname']} {node['NodeID'][:8]}"
            machines[name] = [node]
    for name, by_number in slices.items():
        ordered = [by_number[number] for number in sorted(by_number)]
        if len(ordered) == _hosts(ordered[0]):
            ids = " ".join(node["NodeID"] for node in ordered)
            of_these = hashlib.sha256(ids.encode()).hexdigest()[:8]
            machines[f"{name} {of_these}"] = ordered
    return machines


def _hosts(node: Mapping[str, Any]) -> int:
    """Of the slice that the node belongs to; 1 where it is a machine by itself."""
    labels, chips = node.get("Labels") or {}, node["Resources"].get("TPU", 0)
    sizes = labels.get(TOPOLOGY, "").split("x")
    if SLICE not in labels or not chips or not all(s.isdecimal() for s in sizes):
        return 1
    return max(1, int(math.prod(map(int, sizes)) // chips))


def _devices(node: Mapping[str, Any]) -> dict[str, float]:
    """What a pack asks of a node: all its cores and accelerators; {} without cores."""
    resources = node["Resources"]
    wanted = {name: resources.get(name, 0.0) for name in ("CPU", "GPU", "TPU")}
    if not wanted["CPU"]:
        return {}
    return {name: number for name, number in wanted.items() if number}


def _of_any_user(path: str) -> str:
    """In the home folder of whoever works there, if it is in that of this user."""
    home = os.path.expanduser("~").rstrip("/") + "/"
    return f"~/{path.removeprefix(home)}" if path.startswith(home) else path


# --- On the nodes -----------------------------------------------------------------


def carried_out(
    work: Pack | Search | Probe, settings: Settings, workdir: str
) -> Iterator[Message]:
    """The task: says that it has begun, what happens, and how it ended."""
    yield "begun", os.getpid()
    chaos.point("task: begun")
    settings = dataclasses.replace(
        settings,
        data_dir=os.path.expanduser(settings.data_dir),
        cache=os.path.expanduser(settings.cache),
    )
    store = Store(workdir)
    try:
        for path in settings.include:
            plugins.include(path)
    except UserError as error:  # the command has read it: this machine lacks the file
        yield "gone", str(error)
        return
    try:
        with (
            Stop() as stop,
            corpora.seen_from(settings.texts),
            Local(settings, store, stop) as engine,
        ):
            if isinstance(work, Probe):
                yield "result", engine.probe()
            elif isinstance(work, Search):
                measure = lambda layout: engine.measure(work.run, work.spec, layout)
                yield "result", work.choose(measure)
            elif settings.process:
                _prepare(work, settings)
                engine.train_along(work)
                yield "result", None
            else:
                _prepare(work, settings)
                for events in _gathered(engine.trained(work)):
                    yield "events", events
                chaos.point("task: ended")
                yield "result", None
    except DiskError as error:  # of this machine, perhaps
        yield "gone", str(error)
    except UserError as error:
        yield "user", (error.field, str(error.value), error.expected)
    except (Ended, Failed) as error:  # of a slice: another host may be gone
        yield ("suspect" if settings.processes > 1 else "gone"), str(error)


def _prepare(pack: Pack, settings: Settings) -> None:
    """Sees to it that the pack's texts are on this machine.

    Raises:
      UserError: they are not those that the study was planned with.
    """
    root, tokenizer = Path(settings.data_dir), pack.runs[0].data.tokenizer
    parts = {part.key: part for run in pack.runs for part in run.corpora()}
    for key, part in parts.items():
        digest = pack.digests[key]
        corpora.obtain(part, digest, root, tokenizer, settings.shared)


def _gathered(events: Iterator[Event]) -> Iterator[list[Event]]:
    """Events at once, but those of steps every few seconds and only the latest."""
    steps: dict[str, Event] = {}
    sent = time.monotonic()
    for event in events:
        if event.kind == "step":
            steps[event.run_id] = event
        else:
            steps.pop(event.run_id, None)
        now = time.monotonic()
        if event.kind != "step" or now - sent > EVENT_SECONDS:
            yield [*steps.values(), *([event] if event.kind != "step" else [])]
            steps, sent = {}, now


def terminate(pid: int) -> None:
    """Asks the process of a task on this node to save its work and to end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
