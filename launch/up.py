"""Starts a study on a slice, whatever state the slice is in.

The VM gets the source tree as a tar, an installation, and a systemd unit: the study
survives a lost connection, a crash and a reboot of the VM, and what it left in the
workdir outlives the VM, so that `up` after a preemption goes on from the records.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from launch import vm
from launch.gcloud import ENDED, TRIES, LaunchError, NoGcloud, Slice, note
from launch.source import Study, pack, study_script
from scaling.errors import UserError
from scaling.planning.hardware import Hardware


def up(
    machine: Slice,
    study: Study,
    target: Hardware,
    spot: bool,
    archive: Path,
    poll_seconds: float,
    wait_hours: float,
) -> None:
    """Starts the study: requests the slice, installs and starts what is missing.

    Args:
      poll_seconds: time between two queries of a waiting request.
      wait_hours: how long to wait for the slice; then the request is deleted.

    Raises:
      UserError: the name belongs to another slice or to another running study.
      LaunchError: a command or the request failed. Once a slice may exist, the message
        gives the command that deletes it; so does a note where a signal ends the
        program.
    """
    pack(study, archive)
    state, accelerator = machine.describe()
    if accelerator not in ("", target.name):
        raise UserError(
            "target", target.name, f"{machine.name} is a {accelerator}; give that"
        )
    with explain_end(machine):
        if state == "ACTIVE" and _running(machine, study):
            text = "the study is running, with the source it started with"
            note(f"{machine.name}: {text}")
            return
        limit = _Limit(wait_hours, poll_seconds)
        if state in ENDED:
            machine.delete()
            note(
                f"{machine.name}: it was {state.lower()}; deleted, and requested again"
            )
        while state == "DELETING":
            limit.sleep(machine, state)
            state, _ = machine.describe()
        if state in ("", *ENDED):
            _create(machine, target, spot, wait_hours)
        _wait(machine, limit)
        note(f"{machine.name}: copying the source, installing, starting")
        machine.copy(archive)
        machine.ssh(vm.INSTALL, show=True)
        machine.ssh(vm.START, show=True)


@contextlib.contextmanager
def explain_end(machine: Slice) -> Iterator[None]:
    """Adds to any error that a slice may exist, and the command that deletes it."""
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
    """The request was deleted in time: nothing is billed."""


class _Limit:
    """How long to wait for a slice."""

    def __init__(self, hours: float, poll_seconds: float):
        self._hours, self._poll = hours, poll_seconds
        self._end = time.monotonic() + 3600 * hours

    def sleep(self, machine: Slice, state: str) -> None:
        """Waits until the next look; deletes the request when its time is over.

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
            "same `up` requests it again"
        )


def _create(machine: Slice, target: Hardware, spot: bool, wait_hours: float) -> None:
    """Requests the slice; where the reply is lost, looks whether it was requested."""
    try:
        machine.create(target, spot, wait_hours)
    except NoGcloud:
        raise
    except LaunchError as error:
        state, _ = machine.describe()
        if not state or state in ENDED:
            raise
        note(f"{machine.name}: {error}; but it exists, {state.lower()}: continuing")


def _running(machine: Slice, study: Study) -> bool:
    state, _, script = machine.ssh(vm.RUNNING).partition("\n")
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
