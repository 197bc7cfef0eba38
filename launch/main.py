"""Command `scaling-launch`: a study on a Cloud TPU VM.

    scaling-launch up configs/quickstart.py --name mine --target v5litepod-8 \\
        --zone us-west4-a --workdir gs://bucket/mine --spot
    scaling-launch status --name mine --zone us-west4-a
    scaling-launch logs --name mine --zone us-west4-a --follow
    scaling-launch down --name mine --zone us-west4-a

Exit codes: 0 done, 1 a gcloud command or the request failed, 2 wrong input.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
import signal
from pathlib import Path
from typing import Any

from absl import app
from absl.flags import argparse_flags

from launch import gcloud, source, vm
from launch.up import explain_end, up
from scaling import quiet
from scaling.errors import UserError


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse_flags.ArgumentParser(
        prog="scaling-launch", description="Runs a study on a Cloud TPU VM."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = _command(
        commands,
        "up",
        "request a slice, install on it and start the study; resumes after a stop",
    )
    start.add_argument("study", metavar="STUDY", help="a study file, configs/NAME.py")
    start.add_argument(
        "--target", required=True, help="v4-8, v5litepod-1/4/8, v5p-8 or v6e-1/4/8"
    )
    start.add_argument(
        "--workdir", required=True, help="where records go: gs://BUCKET/FOLDER"
    )
    start.add_argument(
        "--spot",
        action="store_true",
        help="request a spot slice: cheaper, and it may be preempted",
    )
    start.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a family or corpus of your own; may be given several times",
    )
    start.add_argument(
        "--poll_seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds between two looks at a waiting request (default: %(default)g)",
    )
    start.add_argument(
        "--wait_hours",
        type=float,
        default=24.0,
        metavar="H",
        help="hours to wait for the slice; then the request is deleted, so that no "
        "slice is granted and billed unnoticed (default: %(default)g)",
    )
    _command(commands, "status", "show the slice, its service and the records")
    logs = _command(commands, "logs", "show the last lines that the study printed")
    logs.add_argument("--follow", action="store_true", help="keep printing new lines")
    _command(commands, "down", "delete the slice; the records stay")
    return parser.parse_args(argv[1:])


def _command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary)
    command.add_argument(
        "--name", required=True, help="the slice's name, of your choice"
    )
    command.add_argument("--zone", required=True, help="Cloud zone, such as us-west4-a")
    command.add_argument(
        "--project", help="Cloud project (default: gcloud's own setting)"
    )
    command.add_argument(
        "--dry_run",
        action="store_true",
        help="print the gcloud commands for a new slice and run none of them",
    )
    return command


def _up(machine: gcloud.Slice, arguments: argparse.Namespace) -> int:
    study = source.Study(arguments.study, arguments.workdir, tuple(arguments.include))
    target = gcloud.check_target(arguments.target)
    source.check_workdir(study.workdir)
    if arguments.poll_seconds < 0:
        raise UserError("poll_seconds", arguments.poll_seconds, "give 0 or more")
    if not 0 <= arguments.wait_hours < math.inf:
        raise UserError(
            "wait_hours", arguments.wait_hours, "give a finite number, 0 or more"
        )
    patience = min(machine.retry_seconds, arguments.poll_seconds)
    machine = dataclasses.replace(machine, retry_seconds=patience)
    source.check_study(study, target.devices)
    archive = Path.home() / ".cache" / "datalaw" / f"launch-{machine.name}.tar.gz"
    up(
        machine,
        study,
        target,
        arguments.spot,
        archive,
        arguments.poll_seconds,
        arguments.wait_hours,
    )
    if not machine.dry_run:
        print(f"follow it: scaling-launch logs {machine.where} --follow")
        print(f"records:   scaling status {shlex.quote(study.workdir)}")
        print(f"to end the billing: scaling-launch down {machine.where}")
    return 0


def _status(machine: gcloud.Slice, arguments: argparse.Namespace) -> int:
    state, accelerator = machine.describe()
    if not machine.dry_run:
        shown = f"{accelerator}, {state.lower()}" if state else "there is none"
        print(f"{machine.name}: {shown}", flush=True)
    if state == "ACTIVE" or machine.dry_run:
        machine.ssh(vm.STATUS, show=True)
    return 0 if state or machine.dry_run else 1


def _logs(machine: gcloud.Slice, arguments: argparse.Namespace) -> int:
    machine.ssh(vm.LOGS + " --follow" * arguments.follow, show=True)
    return 0


def _down(machine: gcloud.Slice, arguments: argparse.Namespace) -> int:
    with explain_end(machine):
        existed = machine.delete()
    if not machine.dry_run:
        print(f"{machine.name}: {'deleted' if existed else 'there is none'}")
    return 0


def main(arguments: argparse.Namespace) -> int:
    command = {"up": _up, "status": _status, "logs": _logs, "down": _down}
    before = {n: signal.signal(n, _stop) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        gcloud.check_names(arguments.name, arguments.zone, arguments.project)
        machine = gcloud.Slice(
            arguments.name, arguments.zone, arguments.project, arguments.dry_run
        )
        return command[arguments.command](machine, arguments)
    except UserError as error:
        gcloud.note(f"scaling-launch: {error}")
        return 2
    except gcloud.LaunchError as error:
        gcloud.note(f"scaling-launch: {error}")
        return 1
    except KeyboardInterrupt as stopped:
        gcloud.note(
            "scaling-launch: stopped here; the slice or request in the cloud continues"
        )
        return 128 + getattr(stopped, "signal", signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stopped(KeyboardInterrupt):
    """A signal that asks this program to end.

    Attributes:
      signal: its number.
    """

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


def _stop(number: int, frame: Any) -> None:
    """A signal ends the work as Ctrl-C does."""
    raise Stopped(number)


def entry() -> None:
    """The console script."""
    quiet.libraries()
    app.run(main, flags_parser=parse)
