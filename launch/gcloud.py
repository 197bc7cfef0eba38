"""Creates, queries and deletes a Cloud TPU slice through the `gcloud` command.

A queued resource requests the slice and holds it; its one node has the same name.

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
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from launch.vm import ARCHIVE
from scaling.errors import UserError
from scaling.planning import hardware
from scaling.planning.hardware import Hardware

RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
# A queued resource in one of these states never becomes active again.
ENDED = ("FAILED", "SUSPENDING", "SUSPENDED")
# How often a lost `describe` is tried again; each wait is twice as long.
TRIES = 5
# Errors that another try does not mend.
FINAL = ("PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT", "NOT_FOUND")


class LaunchError(Exception):
    """A failure outside this program, in one line."""


class NoGcloud(LaunchError):
    """The `gcloud` command is not installed."""


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def check_names(name: str, zone: str, project: str | None) -> None:
    """Refuses names that Cloud TPU would refuse only after part of the work is done."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise UserError(
            "name",
            name,
            "give up to 63 lower-case letters, digits and hyphens, the first a letter",
        )
    if not re.fullmatch(r"[a-z]+-[a-z]+[0-9]+-[a-z0-9]+", zone):
        raise UserError("zone", zone, "give a zone such as us-central1-a")
    if project and not re.fullmatch(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]+[a-z0-9]", project):
        raise UserError("project", project, "give a project's id, not its title")


def check_target(target: str) -> Hardware:
    """The slice of a name. Raises UserError for a GPU or more than one host."""
    try:
        machine = hardware.lookup(target)
    except UserError as error:
        raise UserError("target", target, error.expected) from error
    if machine.kind != "tpu":
        raise UserError("target", target, f"give a TPU: {', '.join(_one_host())}")
    if machine.hosts > 1:
        raise UserError(
            "target",
            target,
            f"it has {machine.hosts} hosts, and a study runs on one host; give one of "
            f"{', '.join(_one_host())}",
        )
    return machine


def _one_host() -> Iterator[str]:
    for name in (f"{kind}-{count}" for kind in RUNTIMES for count in (1, 4, 8)):
        with contextlib.suppress(UserError):  # not every type comes in every count
            if hardware.lookup(name).hosts == 1:
                yield name


@dataclasses.dataclass(frozen=True)
class Slice:
    """A queued resource and its node, by their one name.

    Attributes:
      dry_run: print the commands, as where the slice does not exist yet.
      retry_seconds: wait before a lost `describe` is first tried again.
    """

    name: str
    zone: str
    project: str | None = None
    dry_run: bool = False
    retry_seconds: float = 2.0

    @property
    def where(self) -> str:
        """The shell options that identify the slice."""
        words = ["--name", self.name, "--zone", self.zone]
        return shlex.join(words + (["--project", self.project] if self.project else []))

    @property
    def ending(self) -> str:
        """The command that deletes a slice that may exist, in a sentence."""
        return (
            f"{self.name} may exist and be billed; to delete it: scaling-launch down "
            f"{self.where}"
        )

    def describe(self) -> tuple[str, str]:
        """State and accelerator type; both empty where there is no such resource.

        Tries again a few times where the reply is lost.
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
                note(f"{self.name}: no answer ({error}); trying again")
                time.sleep(seconds)
        raise AssertionError("the last try returns or raises")

    def create(self, target: Hardware, spot: bool, wait_hours: float) -> None:
        """Requests the slice.

        The request expires by itself where it is not granted within the hours, as this
        program may have ended before it could delete it.
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
        """Deletes the request and its node; the study's workdir is not touched.

        Returns whether there was one.
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
        """Waits to see whether the slice is deleted although the reply was lost."""
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
