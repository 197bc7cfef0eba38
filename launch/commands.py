"""What each command of `scaling-launch` does, put together from its parts."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import math
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from launch import bucket, endpoints, join, source, startup
from launch.alone import alone
from launch.budget import LONGEST, SMALLEST, Budget
from launch.cloud_tpu import RUNTIMES, CloudTpu
from launch.compute_engine import TYPES, ComputeEngine
from launch.fleet import Fleet, Up
from launch.fleet import down as delete_all
from launch.machines import Api, LaunchError, Lost, Want, note
from scaling import chaos
from scaling.errors import UserError
from scaling.planning import hardware
from scaling.planning.hardware import Hardware


@dataclasses.dataclass(frozen=True)
class Order:
    """What `plan` and `up` were asked for, checked.

    Attributes:
      model: how Compute Engine provides the workers.
      max_hours: machine-hours of all hosts together.
    """

    fleet: Fleet
    study: source.Study
    slice_: Hardware
    count: int
    api: Api
    model: str
    max_hours: float
    wait_hours: float
    project: str
    zone: str

    @property
    def cluster(self) -> bool:
        """Whether a head and Ray are needed: more than one host."""
        return self.count * self.slice_.hosts > 1

    @property
    def folder(self) -> str:
        return bucket.folder(self.study.workdir, self.fleet.name)

    @property
    def head_hours(self) -> float:
        """Long enough for one worker alone to use the budget up; at most four weeks."""
        return min(24 * 28.0, self.wait_hours + self.max_hours)

    @property
    def head(self) -> str:
        if not self.cluster:
            return ""
        return startup.head_address(f"{self.fleet.name}-head", self.zone, self.project)

    def places(self) -> list[tuple[Api, str, int, Callable[[float], Want]]]:
        """Every machine: its service, name, hosts (0: the head) and what to ask for."""
        places: list[tuple[Api, str, int, Callable[[float], Want]]] = []
        if self.cluster:
            compute = self.fleet.api("Compute Engine")
            places.append((compute, f"{self.fleet.name}-head", 0, self._head))
        for number in range(self.count):
            name = f"{self.fleet.name}-{number}"
            want = lambda hours, name=name: self._worker(name, hours)
            places.append((self.api, name, self.slice_.hosts, want))
        return places

    def _head(self, hours: float) -> Want:
        name = f"{self.fleet.name}-head"
        script = startup.script("head", name, self.folder)
        return Want(
            self.fleet.name, name, None, "standard", hours, self.wait_hours, script
        )

    def _worker(self, name: str, hours: float) -> Want:
        several = self.slice_.hosts > 1 and self.api.name == "Compute Engine"
        url = ""
        if self.api.name == "Cloud TPU":
            url = (
                f"https://tpu.googleapis.com/v2/projects/{self.project}/locations/"
                f"{self.zone}/queuedResources/{name}?force=true"
            )
        topology = hardware.topology(self.slice_).name.partition(":")[2]
        script = startup.script(
            "worker" if self.cluster else "alone",
            name,
            self.folder,
            head=self.head,
            hours=hours,
            delete_url=url,
            accelerator=self.slice_.name if several else "",
            topology=topology if several else "",
        )
        return Want(
            self.fleet.name,
            name,
            self.slice_,
            self.model,  # type: ignore[arg-type]
            hours,
            self.wait_hours,
            script,
        )


def plan(arguments: argparse.Namespace) -> int:
    order = _order(arguments)
    print(f"# budget: {order.max_hours:g} machine-hours, without the head")
    print(f"# records: {order.study.workdir}; source and token: {order.folder}/")
    share = min(LONGEST, order.max_hours / (order.count * order.slice_.hosts))
    if arguments.scripts:
        _make(Path(arguments.scripts))
    for api, _, hosts, want in order.places():
        asked = want(share if hosts else order.head_hours)
        if arguments.scripts:
            Path(arguments.scripts, f"{asked.name}.sh").write_text(asked.script)
        for step in api.steps(asked):
            print(f"# {step.call}\n{shlex.join(step.gcloud)}")
    print(f"# to delete all of it\nscaling-launch down {order.fleet.options}")
    print(f"# what the study takes on {order.count} x {order.slice_.name}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:  # `scaling plan` keeps its estimates
        words = ["plan", order.study.path, "--target", order.slice_.name]
        words += ["--count", str(order.count), "--workdir", scratch]
        for path in order.study.include:
            words += ["--include", path]
        code = "from scaling.main import entry; entry()"
        done = subprocess.run([sys.executable, "-c", code, *words])
    return done.returncode


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            "scripts", str(folder), f"give a folder ({error.strerror})"
        ) from error


def up(arguments: argparse.Namespace) -> int:
    order = _order(arguments)
    memory = _memory(order.project, order.zone, order.fleet.name)
    with alone(_lock(memory), order.fleet.name):
        return _up(order, memory, arguments.poll_seconds)


def _up(order: Order, memory: Path, poll_seconds: float) -> int:
    budget = Budget(memory.with_suffix(".json"), order.max_hours)
    needed = SMALLEST * order.slice_.hosts
    if budget.left < needed and not budget.grants:
        raise UserError(
            "max_hours",
            order.max_hours,
            f"{budget.spent:.2f} machine-hours are spent, and a machine needs at least "
            f"{needed:.2f}; give more, or remove {memory.with_suffix('.json')}",
        )
    wanted = {name for _, name, hosts, _ in order.places() if hosts}
    held = sum(g.hours * g.hosts for n, g in budget.grants.items() if n in wanted)
    if budget.spent + held > order.max_hours + needed / 100:
        raise UserError(
            "max_hours",
            order.max_hours,
            f"{budget.spent:.2f} machine-hours are spent, and machines that were asked "
            f"for may use {held:.2f}; give as many, or delete them first with `down`",
        )
    _check_same(order, memory)
    source.pack(order.study, memory.with_suffix(".tar.gz"))
    folder = bucket.Folder(order.folder)
    token = folder.publish(memory.with_suffix(".tar.gz"))
    chaos.point("launcher: source uploaded")
    memory.with_suffix(".workdir").write_text(order.study.workdir)
    note(
        f"{order.fleet.name}: at most {order.max_hours:g} machine-hours, of which "
        f"{budget.spent:.2f} are spent; follow: scaling-launch logs "
        f"{order.fleet.options}"
    )
    if order.cluster:
        join.keep_token(memory.with_suffix(".token"), token)
        line = join.printed(memory.with_suffix(".token"), order.head)
        note(f"{order.fleet.name}: any other machine in its network joins by: {line}")
    following = Up(
        order.fleet,
        order.places(),
        budget,
        folder,
        head_hours=order.head_hours,
        wait_hours=order.wait_hours,
        poll_seconds=poll_seconds,
    )
    code = following.run()
    chaos.point("launcher: fleet deleted")
    _forget(memory)
    if code == 0:  # the next study of this name has hours of its own
        memory.with_suffix(".json").unlink(missing_ok=True)
    _remove(folder)
    return code


def _remove(folder: bucket.Folder) -> None:
    """Removes what machines found in the bucket; the machines themselves are gone."""
    try:
        folder.remove()
    except Lost as error:
        note(f"scaling-launch: what machines found there stays: {error}")


def _check_same(order: Order, memory: Path) -> None:
    """Raises UserError where machines of another order have the fleet's name."""
    asked = f"{order.slice_.name} {order.api.name}\n{source.study_script(order.study)}"
    kept = memory.with_suffix(".order")
    if kept.exists() and kept.read_text() != asked and order.fleet.look():
        raise UserError(
            "name",
            order.fleet.name,
            "another study, or other machines, run under it; take another name, or "
            "delete them first with `down`",
        )
    kept.write_text(asked)


def _forget(memory: Path) -> None:
    """Removes what this computer keeps of a fleet, but for its machine-hours."""
    for suffix in (".order", ".token", ".workdir", ".tar.gz"):
        memory.with_suffix(suffix).unlink(missing_ok=True)


def status(arguments: argparse.Namespace) -> int:
    fleet, project, zone = _fleet(arguments)
    failed = 0
    things = []
    for api in fleet.apis:
        try:
            things += api.find(fleet.name)
        except LaunchError as error:
            failed = 1
            note(f"scaling-launch: could not look in {api.name}: {error}")
    for t in sorted(things, key=lambda t: (t.machine, t.after, t.name)):
        print("  ".join(x for x in (t.name, t.kind, t.api, t.said, t.why) if x))
    if not things and not failed:
        print(f"{fleet.name}: there is nothing")
    memory = _memory(project, zone, fleet.name)
    if memory.with_suffix(".json").exists():
        budget = Budget(memory.with_suffix(".json"), math.inf)
        print(f"spent: {budget.spent:.2f} machine-hours, and what now runs")
    if memory.with_suffix(".workdir").exists():
        workdir = memory.with_suffix(".workdir").read_text()
        print(f"records: scaling status {shlex.quote(workdir)}")
    if things:
        print(fleet.ending)
    return failed


def logs(arguments: argparse.Namespace) -> int:
    fleet, _, _ = _fleet(arguments)
    things = fleet.look()
    machines = {thing.machine: thing.api for thing in things}
    head = f"{fleet.name}-head"
    name = arguments.machine or (head if head in machines else f"{fleet.name}-0")
    if name not in machines:
        known = ", ".join(sorted(machines)) or "none"
        raise UserError("machine", name, f"give one that there is: {known}")
    lines = "sudo journalctl --unit='datalaw*' --no-pager --output=cat --lines=100"
    # A slice that is an instance group is reached by one of its hosts.
    hosts = [t.name for t in things if t.machine == name and t.kind == "instance"]
    command = fleet.api(machines[name]).shell(
        min(hosts, default=name), lines + " --follow" * arguments.follow
    )
    if not shutil.which(command[0]):
        raise LaunchError(
            f"gcloud is not on the PATH; where it is, run: {shlex.join(command)}"
        )
    return subprocess.run(command).returncode


def down(arguments: argparse.Namespace) -> int:
    fleet, project, zone = _fleet(arguments)
    memory = _memory(project, zone, fleet.name)
    with alone(_lock(memory), fleet.name, stop_other=True):
        return _down(fleet, memory, arguments.poll_seconds)


def _down(fleet: Fleet, memory: Path, poll_seconds: float) -> int:
    try:
        deleted = delete_all(fleet, poll_seconds)
    except BaseException as error:
        if not isinstance(error, LaunchError):
            note(f"scaling-launch: not all is deleted; {fleet.ending}")
        raise
    print(f"{fleet.name}: deleted {', '.join(deleted)}" if deleted else "nothing there")
    if memory.with_suffix(".workdir").exists():
        workdir = memory.with_suffix(".workdir").read_text()
        _remove(bucket.Folder(bucket.folder(workdir, fleet.name)))
    _forget(memory)
    if memory.with_suffix(".json").exists():
        budget = Budget(memory.with_suffix(".json"), math.inf)
        for machine in list(budget.grants):
            budget.settle(machine)
    return 0


# --- What was asked for ---------------------------------------------------------------


def _order(arguments: argparse.Namespace) -> Order:
    slice_ = _slice(arguments.accelerator)
    if arguments.count < 1:
        raise UserError("count", arguments.count, "give 1 or more")
    if arguments.spot and arguments.on_demand:
        raise UserError("on_demand", True, "give --spot or --on_demand, not both")
    bucket.check_workdir(arguments.workdir)
    hosts = arguments.count * slice_.hosts
    hours = 24.0 * hosts if arguments.max_hours is None else arguments.max_hours
    _check_time("max_hours", hours)
    _check_time("wait_hours", arguments.wait_hours)
    kind = slice_.name.partition("-")[0]
    name = _api_name(kind, arguments.api)
    study = source.Study(
        arguments.study, arguments.workdir, tuple(arguments.include), hosts > 1
    )
    fleet, project, zone = _fleet(arguments)
    source.check_study(study, slice_.devices)
    waits = "standard" if arguments.on_demand else "flex-start"
    if name == "Cloud TPU":
        waits = "standard"
    return Order(
        fleet,
        dataclasses.replace(study, folder=bucket.folder(study.workdir, fleet.name)),
        slice_,
        arguments.count,
        fleet.api(name),
        "spot" if arguments.spot else waits,
        hours,
        arguments.wait_hours,
        project,
        zone,
    )


def _slice(name: str) -> Hardware:
    try:
        found = hardware.lookup(name)
    except UserError as error:
        raise UserError("accelerator", name, error.expected) from error
    if found.kind != "tpu":
        raise UserError(
            "accelerator",
            name,
            "give a TPU type; a GPU machine joins by `scaling-launch join`",
        )
    hardware.topology(found)  # one that has a shape
    return found


def _api_name(kind: str, asked: str | None) -> str:
    """The service that has a type of TPU.

    Raises:
      UserError: the one asked for has not.
    """
    if asked == "tpu" and kind not in RUNTIMES:
        raise UserError("api", asked, f"Compute Engine alone has {kind}; leave it out")
    if asked == "compute" and kind not in TYPES:
        raise UserError("api", asked, f"Cloud TPU alone has {kind}; leave it out")
    chosen = asked or ("compute" if kind in TYPES else "tpu")
    return {"tpu": "Cloud TPU", "compute": "Compute Engine"}[chosen]


def _check_time(name: str, time: float) -> None:
    if not 0 <= time < math.inf:
        raise UserError(name, time, "give a finite number, 0 or more")


def _fleet(arguments: argparse.Namespace) -> tuple[Fleet, str, str]:
    """The fleet that the options name, with its project and zone."""
    _check_clients()
    name = arguments.name or re.sub(
        r"[^a-z0-9]+", "-", Path(arguments.study).stem.lower()
    )
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", name):
        raise UserError(
            "name",
            name,
            "give up to 40 lower-case letters, digits and hyphens, the first a letter",
        )
    if not re.fullmatch(r"[a-z]+-[a-z]+[0-9]+-[a-z0-9]+", arguments.zone):
        raise UserError("zone", arguments.zone, "give a zone such as us-central1-a")
    _check_time("poll_seconds", arguments.poll_seconds)
    project = endpoints.project(arguments.project)
    if not re.fullmatch(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]+[a-z0-9]", project):
        raise UserError("project", project, "give a project's id, not its title")
    pause = min(2.0, arguments.poll_seconds)
    apis = (
        CloudTpu(project, arguments.zone, pause),
        ComputeEngine(project, arguments.zone, pause),
    )
    words = [arguments.study, "--name", name, "--zone", arguments.zone]
    options = shlex.join([*words, "--project", project])
    return Fleet(name, options, apis), project, arguments.zone


def _check_clients() -> None:
    """Raises UserError where the clients of the two services are not installed."""
    try:
        found = importlib.util.find_spec("google.cloud.compute_v1") and (
            importlib.util.find_spec("google.cloud.tpu_v2")
        )
    except ModuleNotFoundError:  # not even google.cloud
        found = None
    if not found:
        raise UserError(
            "command", "", "Google's clients are missing: pip install 'datalaw[launch]'"
        )


def _memory(project: str, zone: str, fleet: str) -> Path:
    """Where this computer keeps what it knows of a fleet, with a suffix for each."""
    name = re.sub(r"[^a-z0-9-]", "-", f"{project}-{zone}-{fleet}")
    folder = Path.home() / ".cache" / "datalaw" / "launch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _lock(memory: Path) -> Path:
    return memory.with_name(f"{memory.name}-lock")
