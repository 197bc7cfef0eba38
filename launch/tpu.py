"""One study on one Cloud TPU VM, through the `gcloud` command.

A queued resource asks for the slice and holds it; its one node has the same name. The
VM gets the source tree as a tar, an installation, and a systemd unit: the study
survives a lost connection, a crash and a reboot of the VM, and what it left in the
workdir outlives the VM, so that `up` after a preemption goes on from the records.

  cloud.google.com/tpu/docs/queued-resources: the states of a queued resource.
  cloud.google.com/tpu/docs/runtimes: the software version of each TPU type.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from scaling.errors import UserError
from scaling.planning import hardware
from scaling.planning.hardware import Hardware

ROOT = Path(__file__).resolve().parents[1]
RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
# A queued resource in one of these states never becomes active again.
ENDED = ("FAILED", "SUSPENDING", "SUSPENDED")
UNIT = "datalaw.service"
ARCHIVE = "datalaw.tar.gz"

# The images' own Python is older than the package allows, so uv brings a newer one
# for install.sh to find. An old source tree is removed: a family is found by its file.
INSTALL = " && ".join(
    (
        "rm -rf datalaw/source",
        "mkdir -p datalaw/source",
        f"tar -xzf {ARCHIVE} -C datalaw/source",
        "cd datalaw/source",
        "python3 -m pip install --quiet --user -c constraints.txt uv",
        "python3 -m uv python install --quiet 3.13",
        'PATH="$HOME/.local/bin:$PATH" bash install.sh ../venv tpu,corpora,gcs',
    )
)

# Five starts a day: a crash or a lost network is tried again, but not for ever. Exit
# code 2 is a mistake in the study, which no restart mends. KillMode: the study passes
# SIGTERM on to its child itself, once.
_UNIT_LINES = (
    "'[Unit]'",
    "'Description=a scaling study'",
    "'Wants=network-online.target'",
    "'After=network-online.target'",
    "'StartLimitIntervalSec=1d'",
    "'StartLimitBurst=5'",
    "'[Service]'",
    '"User=$(id -un)"',
    '"ExecStart=/bin/bash $HOME/datalaw/source/study.sh run"',
    "'Restart=on-failure'",
    "'RestartSec=60'",
    "'RestartPreventExitStatus=2'",
    "'KillMode=mixed'",
    "'[Install]'",
    "'WantedBy=multi-user.target'",
)
START = " && ".join(
    (
        f"printf '%s\\n' {' '.join(_UNIT_LINES)}"
        f" | sudo tee /etc/systemd/system/{UNIT} > /dev/null",
        "sudo systemctl daemon-reload",
        f"{{ sudo systemctl reset-failed {UNIT} 2> /dev/null || true; }}",
        f"sudo systemctl enable --quiet {UNIT}",
        f"sudo systemctl restart {UNIT}",
    )
)
RUNNING = (
    f"systemctl is-active {UNIT}; cat datalaw/source/study.sh 2> /dev/null || true"
)
STATUS = (
    f"systemctl show {UNIT} --property=ActiveState,SubState,Result,NRestarts"
    " && bash datalaw/source/study.sh status"
)
LOGS = f"sudo journalctl --unit={UNIT} --no-pager --output=cat --lines=100"


# How often a lost `describe` is tried again; each wait is twice as long.
TRIES = 5
# What trying again does not mend.
FINAL = ("PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT", "NOT_FOUND")


class LaunchError(Exception):
    """What went wrong outside this program, in one line."""


class NoGcloud(LaunchError):
    """There is no `gcloud` to ask."""


class Stopped(KeyboardInterrupt):
    """A signal that asks this program to end.

    Attributes:
      signal: its number.
    """

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- What is asked for -------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Study:
    """What to run: the study file, its workdir, the user's own families and corpora."""

    path: str
    workdir: str
    include: tuple[str, ...] = ()


def check_names(name: str, zone: str, project: str | None) -> None:
    """Refuses names that Cloud TPU would refuse after part of the work is done."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise UserError(
            "name",
            name,
            "give up to 63 lower-case letters, digits and hyphens, a letter first",
        )
    if not re.fullmatch(r"[a-z]+-[a-z]+[0-9]+-[a-z0-9]+", zone):
        raise UserError("zone", zone, "give a zone such as us-central1-a")
    if project and not re.fullmatch(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]+[a-z0-9]", project):
        raise UserError("project", project, "give a project's id, not its title")


def check_workdir(workdir: str) -> None:
    bucket = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
    if not re.fullmatch(rf"gs://{bucket}/[^\n/][^\n]*", workdir):
        raise UserError(
            "workdir",
            workdir,
            "the VM's disk goes with the VM; give gs://BUCKET/FOLDER",
        )


def check_target(target: str) -> Hardware:
    """The slice. Raises UserError if it is no TPU or has more than one host."""
    try:
        found = hardware.lookup(target)
    except UserError as error:
        raise UserError("target", target, error.expected) from error
    if found.kind != "tpu":
        raise UserError("target", target, f"give a TPU: {', '.join(_one_host())}")
    if found.hosts > 1:
        raise UserError(
            "target",
            target,
            f"it has {found.hosts} hosts and one host is what a study runs on today: "
            f"{', '.join(_one_host())}",
        )
    return found


def _one_host() -> Iterator[str]:
    for name in (f"{kind}-{count}" for kind in RUNTIMES for count in (1, 4, 8)):
        with contextlib.suppress(UserError):  # not every type comes in every count
            if hardware.lookup(name).hosts == 1:
                yield name


def check_study(study: Study, chips: int) -> None:
    """Finds what `scaling run` would refuse on the VM, before there is one."""
    from scaling import plugins
    from scaling import study as studies
    from scaling.scheduling import layouts

    for path in study.include:
        plugins.include(path)
    runs = studies.load(study.path).runs(studies.Results(lambda run: None))
    studies.validate(runs)
    studies.check_layout(runs, layouts.assumed("tpu", chips))


# --- What is copied ----------------------------------------------------------


def study_script(study: Study) -> str:
    """The study's commands as they stand on the VM, beside the source."""
    words = ["run", _placed(study.path), "--workdir", study.workdir]
    for path in study.include:
        words += ["--include", _placed(path)]
    return (
        "# Made by scaling-launch: this study's commands on this machine.\n"
        'cd -- "$(dirname -- "$0")" || exit\n'
        "case $1 in\n"
        f"run) exec ../venv/bin/scaling {shlex.join(words)} ;;\n"
        f"status) exec ../venv/bin/scaling {shlex.join(['status', study.workdir])} ;;\n"
        "esac\n"
    )


def _placed(path: str) -> str:
    """Where a file the user named lies in the copied tree."""
    file = Path(path).expanduser().resolve()
    if file.is_relative_to(ROOT):
        return file.relative_to(ROOT).as_posix()
    return f"given/{file.name}"


def pack(study: Study, archive: Path) -> None:
    """Writes the tar: the files git tracks, as they are now, and those of the study.

    Records made from it name the commit that it came from.

    Raises:
      UserError: no git checkout, or two files that would lie in one place.
    """
    from scaling.record import source_commit

    tracked = _git_files()
    if "install.sh" not in tracked:
        raise UserError(
            "source",
            str(ROOT),
            "what git tracks is copied: install from a git checkout, in place (-e)",
        )
    files = {name: ROOT / name for name in tracked if (ROOT / name).is_file()}
    for path in (study.path, *study.include):
        file = Path(path).expanduser().resolve()
        if files.setdefault(_placed(path), file).resolve() != file:
            raise UserError("include", path, f"rename it: two files are {file.name}")
    for name in _git_files("--others", "--exclude-standard", "--", "scaling"):
        note(f"not copied: git does not track {name}; `git add` it, or --include it")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, file in files.items():
            tar.add(file, name)
        made = {"study.sh": study_script(study), "COMMIT": source_commit()}
        for name, text in made.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, BytesIO(text.encode()))


def _git_files(*options: str) -> list[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", *options]
    listed = subprocess.run(command, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name]


# --- gcloud ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Slice:
    """A queued resource and its node, by their one name.

    Attributes:
      dry_run: print the commands and take it that there is nothing yet.
      retry_seconds: before a lost `describe` is first tried again.
    """

    name: str
    zone: str
    project: str | None = None
    dry_run: bool = False
    retry_seconds: float = 2.0

    @property
    def where(self) -> str:
        """The options that name it, as a shell takes them."""
        words = ["--name", self.name, "--zone", self.zone]
        return shlex.join(words + (["--project", self.project] if self.project else []))

    @property
    def ending(self) -> str:
        """How to end what may be left of it."""
        return (
            f"{self.name} may be there and billed; to end it: scaling-launch down "
            f"{self.where}"
        )

    def describe(self) -> tuple[str, str]:
        """State and accelerator type; both empty where there is no such resource.

        A reply that was lost is asked for again, a few times.
        """
        fields = "value(state.state,tpu.nodeSpec[0].node.acceleratorType)"
        words = ("queued-resources", "describe", self.name, f"--format={fields}")
        for number in range(TRIES):
            try:
                state, _, accelerator = self._gcloud(*words).strip().partition("\t")
                return state, accelerator
            except LaunchError as error:
                if "NOT_FOUND" in str(error):
                    return "", ""
                last = number + 1 == TRIES
                if last or isinstance(error, NoGcloud) or _final(error):
                    raise
                seconds = self.retry_seconds * 2**number
                note(f"{self.name}: no answer ({error}); asking again")
                time.sleep(seconds)
        raise AssertionError("the last try returns or raises")

    def create(self, target: Hardware, spot: bool, wait_hours: float) -> None:
        """Asks for the slice.

        The request ends by itself where it is not granted within the hours: nobody
        may be there any more to delete it.
        """
        until = max(1, round(60 * wait_hours))
        self._gcloud(
            "queued-resources",
            "create",
            self.name,
            f"--node-id={self.name}",
            f"--accelerator-type={target.name}",
            f"--runtime-version={RUNTIMES[target.name.partition('-')[0]]}",
            f"--valid-until-duration={until}m",
            *(["--spot"] if spot else []),
        )

    def delete(self) -> bool:
        """The node too; what the study left in its workdir stays.

        Returns whether there was one; what is gone already needs no deleting.
        """
        words = ("queued-resources", "delete", self.name, "--force", "--quiet")
        try:
            self._gcloud(*words)
        except LaunchError as error:
            if "NOT_FOUND" in str(error):
                return False
            if isinstance(error, NoGcloud) or not self._goes():
                raise
        return True

    def _goes(self) -> bool:
        """Whether it is deleted, in a while, although the reply was lost."""
        for number in range(TRIES):
            state, _ = self.describe()
            if state != "DELETING":
                return not state
            time.sleep(self.retry_seconds * 2**number)
        return False

    def copy(self, archive: Path) -> None:
        there = f"{self.name}:{ARCHIVE}"
        self._gcloud("tpu-vm", "scp", str(archive), there, "--worker=all")

    def ssh(self, command: str, show: bool = False) -> str:
        """Runs a shell command on the VM; returns its output, or shows it as it comes.

        gcloud tries to connect for a minute by itself.
        """
        words = ("tpu-vm", "ssh", self.name, "--worker=all", f"--command={command}")
        return self._gcloud(*words, show=show)

    def _gcloud(self, *words: str, show: bool = False) -> str:
        command = ["gcloud", "compute", "tpus", *words, f"--zone={self.zone}"]
        if self.project:
            command.append(f"--project={self.project}")
        if self.dry_run:
            print(shlex.join(command))
            return ""
        return _call(command, show)


def _call(command: Sequence[str], show: bool) -> str:
    """Output of a command. Raises LaunchError with the last line of its stderr."""
    if not shutil.which(command[0]):
        raise NoGcloud(
            "gcloud is not on the PATH; install the Google Cloud CLI and run "
            "`gcloud auth login`"
        )
    last = ""
    with subprocess.Popen(
        command,
        stdout=None if show else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr if show else ():
                sys.stderr.write(line)
                last = line.strip() or last
            output, rest = process.communicate()
        except BaseException:  # a signal: the command must not outlive this program
            process.terminate()
            raise
    if process.returncode:
        last = last or rest.strip().rpartition("\n")[2]
        why = last or f"exit code {process.returncode}"
        raise LaunchError(f"{shlex.join(command)} failed: {why}")
    return output or ""


def _final(error: LaunchError) -> bool:
    return any(word in str(error) for word in FINAL)


# --- Up ----------------------------------------------------------------------


def up(
    machine: Slice,
    study: Study,
    target: Hardware,
    spot: bool,
    archive: Path,
    poll_seconds: float,
    wait_hours: float,
) -> None:
    """From nothing, or from whatever there is, to a running study.

    Args:
      poll_seconds: between looks at a request that waits.
      wait_hours: how long it is waited for; then it is deleted.

    Raises:
      UserError: the name belongs to another slice or to another running study.
      LaunchError: a command failed, or the request did. Once there may be a slice, it
        says so and how to end it, and so does a note where a signal ends the program.
    """
    pack(study, archive)
    state, accelerator = machine.describe()
    if accelerator not in ("", target.name):
        raise UserError(
            "target", target.name, f"{machine.name} is a {accelerator}: give that"
        )
    with told(machine):
        if state == "ACTIVE" and _running(machine, study):
            text = "the study is running, with the source it started with"
            note(f"{machine.name}: {text}")
            return
        limit = _Limit(wait_hours, poll_seconds)
        if state in ENDED:
            machine.delete()
            note(
                f"{machine.name}: it was {state.lower()}; deleted, and asked for again"
            )
        while state == "DELETING":
            limit.sleep(machine, state)
            state, _ = machine.describe()
        if state in ("", *ENDED):
            _create(machine, target, spot, wait_hours)
        _wait(machine, limit)
        note(f"{machine.name}: copying the source, installing, starting")
        machine.copy(archive)
        machine.ssh(INSTALL, show=True)
        machine.ssh(START, show=True)


@contextlib.contextmanager
def told(machine: Slice) -> Iterator[None]:
    """Adds to whatever ends the work that a slice may be left, and how to end it."""
    try:
        yield
    except Gone:
        raise
    except LaunchError as error:
        raise LaunchError(f"{error}; {machine.ending}") from error
    except UserError:  # the slice is somebody else's, or of another study
        raise
    except BaseException:
        if not machine.dry_run:
            note(f"scaling-launch: {machine.ending}")
        raise


class Gone(LaunchError):
    """It ended, and nothing is left that costs."""


class _Limit:
    """The end of the waiting."""

    def __init__(self, hours: float, poll_seconds: float):
        self._hours, self._poll = hours, poll_seconds
        self._end = time.monotonic() + 3600 * hours

    def sleep(self, machine: Slice, state: str) -> None:
        """Until the next look. Deletes the request where its time is over.

        Raises:
          Gone: the time was over.
        """
        if time.monotonic() < self._end:
            time.sleep(self._poll)
            return
        machine.delete()
        raise Gone(
            f"{machine.name} was {state.lower() or 'not there'} after {self._hours:g} "
            "hours (--wait_hours): the request is deleted and nothing is billed; the "
            "same `up` asks again"
        )


def _create(machine: Slice, target: Hardware, spot: bool, wait_hours: float) -> None:
    """Asks for the slice; where the reply is lost, looks whether it was asked for."""
    try:
        machine.create(target, spot, wait_hours)
    except NoGcloud:
        raise
    except LaunchError as error:
        state, _ = machine.describe()
        if not state or state in ENDED:
            raise
        note(f"{machine.name}: {error}; but it is there, {state.lower()}: going on")


def _running(machine: Slice, study: Study) -> bool:
    state, _, script = machine.ssh(RUNNING).partition("\n")
    if state not in ("active", "activating"):
        return False
    if script.strip() != study_script(study).strip():
        raise UserError(
            "name", machine.name, "another study runs there; take another name"
        )
    return True


def _wait(machine: Slice, limit: _Limit) -> None:
    before = None
    unseen = 0  # looks that found nothing: a new request may not be listed at once
    while True:
        state, _ = machine.describe()
        if machine.dry_run or state == "ACTIVE":
            return
        unseen = 0 if state else unseen + 1
        if state in ENDED or unseen == TRIES:
            raise LaunchError(
                f"{machine.name} is {state.lower() or 'gone'}; the reason: gcloud "
                f"compute tpus queued-resources describe {machine.name} "
                f"--zone={machine.zone}"
            )
        if state != before:
            note(f"{machine.name}: {state.lower() or 'not listed yet'}")
        before = state
        limit.sleep(machine, state)
