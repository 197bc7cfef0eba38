"""Command `scaling-launch`: a study on machines of Google Cloud.

    scaling-launch plan configs/quickstart.py --accelerator v6e-8 --count 4 \\
        --zone us-east5-b --workdir gs://bucket/mine --spot
    scaling-launch up ...        the same words: asks for them and follows them
    scaling-launch status|logs|down configs/quickstart.py --zone us-east5-b
    scaling-launch join ADDRESS  on any other machine, which then works for the fleet

Exit codes: 0 done, 1 a cloud or the study refused or failed, 2 wrong input.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

from absl import app

from launch.machines import LaunchError, note
from scaling import quiet
from scaling.arguments import Parser
from scaling.errors import UserError


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="scaling-launch", description="Runs a study on machines of Google Cloud."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    plan = _command(commands, "plan", "print every call that `up` makes; no change")
    up = _command(
        commands, "up", "ask for machines, follow them, delete them when it has ended"
    )
    for command in (plan, up):
        _add_order(command)
    plan.add_argument(
        "--scripts",
        metavar="FOLDER",
        help="write the startup scripts that the printed commands name there",
    )
    _command(commands, "status", "show every thing of the fleet, and its budget")
    logs = _command(commands, "logs", "show the last lines that the study printed")
    logs.add_argument("--follow", action="store_true", help="keep printing new lines")
    logs.add_argument("--machine", help="of another machine than the study's")
    _command(commands, "down", "delete everything of the fleet; the records stay")
    joining = commands.add_parser(
        "join", help="let this machine work for a fleet; its token by standard input"
    )
    joining.add_argument("address", metavar="ADDRESS", help="HOST:PORT of the head")
    joining.add_argument(
        "--dry_run", action="store_true", help="print the command and run nothing"
    )
    return parser.parse_args(argv[1:])


def _command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary)
    command.add_argument("study", metavar="STUDY", help="a study file, configs/NAME.py")
    command.add_argument("--name", help="of the fleet (default: the study file's)")
    command.add_argument("--zone", required=True, help="such as us-east5-b")
    command.add_argument(
        "--project", help="its id (default: $GOOGLE_CLOUD_PROJECT or your login's)"
    )
    command.add_argument(
        "--poll_seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds between two looks at the cloud (default: %(default)g)",
    )
    return command


def _add_order(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accelerator",
        required=True,
        metavar="TYPE-COUNT",
        help="v4-8, v5litepod-8, v5p-8, v6e-8, tpu7x-8, ...; more chips than a host "
        "has are a slice of several hosts",
    )
    command.add_argument(
        "--count", type=int, default=1, metavar="N", help="machines or slices (1)"
    )
    command.add_argument(
        "--workdir", required=True, help="where records go: gs://BUCKET/FOLDER"
    )
    command.add_argument(
        "--spot", action="store_true", help="cheaper, and may be preempted"
    )
    command.add_argument(
        "--on_demand",
        action="store_true",
        help="now or never, instead of waiting for Flex-start (Compute Engine)",
    )
    command.add_argument(
        "--api",
        choices=("tpu", "compute"),
        help="Cloud TPU API or Compute Engine (default: by the accelerator's type)",
    )
    command.add_argument(
        "--max_hours",
        type=float,
        metavar="H",
        help="machine-hours of all hosts together, without the head, that are never "
        "exceeded (default: 24 for each host)",
    )
    command.add_argument(
        "--wait_hours",
        type=float,
        default=24.0,
        metavar="H",
        help="give up after so long without a machine, and delete everything "
        "(default: %(default)g)",
    )
    command.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a family or corpus of your own; may be given several times",
    )


def main(arguments: argparse.Namespace) -> int:
    try:
        with _signals():
            if arguments.command == "join":
                from launch import join

                return join.join(arguments.address, sys.stdin, arguments.dry_run)
            from launch import commands

            return getattr(commands, arguments.command)(arguments)
    except UserError as error:
        note(f"scaling-launch: {error}")
        return 2
    except LaunchError as error:
        note(f"scaling-launch: {error}")
        return 1
    except KeyboardInterrupt as stopped:
        note("scaling-launch: stopped here; what there is in the cloud continues")
        return 128 + getattr(stopped, "signal", signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """A signal that asks this program to end.

    Attributes:
      signal: its number.
    """

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the work as Ctrl-C does; what is ignored stays so (nohup).

    A reply that is cut off while it is being built complains when it is thrown away,
    which says nothing to a user, and is not shown.
    """

    def stop(number: int, frame: Any) -> None:
        sys.unraisablehook = lambda cut_off: None
        raise Stopped(number)

    heard = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def entry() -> None:
    """The console script."""
    quiet.libraries()
    app.run(main, flags_parser=parse)
