"""Command `scaling`: plan, freeze, run, status, watch; each imports what it needs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app

from scaling import quiet
from scaling.arguments import Parser
from scaling.errors import Ended, UserError

if TYPE_CHECKING:
    from scaling.scheduling.study_plan import Options


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog="scaling", description="Trains the runs of a scaling study.")
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser(
        "plan", help="show what a study would train, and its cost"
    )
    run = commands.add_parser("run", help="train what is missing; resumes after a stop")
    status = commands.add_parser("status", help="show what a workdir holds")
    watch = commands.add_parser("watch", help="show a workdir live, in the browser")
    freeze = commands.add_parser(
        "freeze", help="record a study's plan (grid, probes, claims) before it trains"
    )
    for command in (plan, run, freeze):
        _add_study_options(command)
    plan.add_argument(
        "--json", action="store_true", help="print JSON instead of a table"
    )
    plan.add_argument(
        "--target",
        metavar="MACHINE",
        help="show for another machine (v5litepod-8, v4-16, v5p-8, v6e-8, tpu7x-8, "
        "h100x8, cpu, ...) whether each program fits, and how long it takes",
    )
    plan.add_argument(
        "--price", type=float, help="price of a chip-hour (with --target)"
    )
    plan.add_argument(
        "--count",
        type=int,
        metavar="N",
        help="machines like the target, over which the runs are spread (default: 1)",
    )
    run.add_argument(
        "--layout",
        default="",
        metavar="run=2,width=4",
        help="how runs are packed (default: measured at the first start)",
    )
    run.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="train on this machine (local) or on the machines of a Ray cluster",
    )
    run.add_argument(
        "--address",
        default="",
        metavar="HOST:PORT",
        help="head of the Ray cluster (default: $RAY_ADDRESS, or the one of this "
        "machine)",
    )
    run.add_argument(
        "--tracker",
        choices=("wandb", "trackio", "tensorboard"),
        default="",
        help="log each run to Weights & Biases, trackio, or TensorBoard's event files "
        "in the workdir too",
    )
    run.add_argument(
        "--retry_oom", action="store_true", help="try again what ran out of memory"
    )
    run.add_argument(
        "--checkpoint_seconds",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds between checkpoints of unfinished runs (default: 300)",
    )
    for command in (status, watch):
        command.add_argument(
            "workdir", metavar="WORKDIR", help="a local folder or gs://BUCKET/FOLDER"
        )
    watch.add_argument(
        "--port",
        type=int,
        default=8321,
        help="of the page on 127.0.0.1, 0 for a free one (default: 8321)",
    )
    return parser.parse_args(argv[1:])


def _add_study_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("study", metavar="STUDY", help="a study file, configs/NAME.py")
    command.add_argument(
        "--workdir", help="where records go, local or gs:// (default: runs/NAME)"
    )
    command.add_argument(
        "--data_dir",
        help="folder of prepared corpora (default: $SCALING_DATA or ~/.cache/datalaw); "
        "gs://BUCKET/FOLDER to share them, which a gs:// workdir does anyway",
    )
    command.add_argument(
        "--compilation_cache",
        help="folder of compiled programs (default: DATA_DIR/compiled)",
    )
    command.add_argument(
        "--families", default="", metavar="A,B", help="only runs of these families"
    )
    command.add_argument(
        "--cut",
        default="",
        metavar="NAME",
        help="run the file's `NAME(results)`, a smaller study that it defines",
    )
    command.add_argument(
        "--quick",
        action="store_const",
        dest="cut",
        const="quick",
        help="--cut quick, a first look at the study",
    )
    command.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a family or corpus of your own; may be given several times",
    )
    command.add_argument(
        "--memory_limit_gb",
        type=float,
        default=0.0,
        metavar="GB",
        help="resident memory (10^9 bytes) that training may use (default: no limit)",
    )


def _options(arguments: argparse.Namespace) -> Options:
    from scaling import corpora
    from scaling.address import absolute
    from scaling.engines.child import Settings
    from scaling.packs import CHECKPOINT_SECONDS
    from scaling.scheduling.study_plan import Options

    workdir = absolute(arguments.workdir or f"runs/{Path(arguments.study).stem}")
    data_dir, shared = corpora.places(arguments.data_dir, workdir)
    seconds = getattr(arguments, "checkpoint_seconds", CHECKPOINT_SECONDS)
    if not seconds >= 0.0:  # NaN too
        raise UserError("checkpoint_seconds", seconds, "give seconds, 0 or more")
    settings = Settings(
        data_dir=data_dir,
        cache=absolute(
            arguments.compilation_cache or os.path.join(data_dir, "compiled")
        ),
        include=tuple(map(absolute, arguments.include)),
        memory_limit_gb=arguments.memory_limit_gb,
        checkpoint_seconds=seconds,
        texts=os.path.dirname(absolute(arguments.study)),
        shared=shared,
    )
    return Options(
        study=arguments.study,
        workdir=workdir,
        settings=settings,
        families=tuple(filter(None, arguments.families.split(","))),
        retry_oom=getattr(arguments, "retry_oom", False),
        layout=getattr(arguments, "layout", ""),
        cut=arguments.cut,
        engine=getattr(arguments, "engine", "local"),
        address=getattr(arguments, "address", ""),
        tracker=getattr(arguments, "tracker", ""),
    )


def _plan(arguments: argparse.Namespace) -> int:
    from scaling.scheduling import commands, plan_tables
    from scaling.scheduling.progress import Progress

    if arguments.target:
        return _plan_target(arguments)
    for name in ("price", "count"):
        if (value := getattr(arguments, name)) is not None:
            raise UserError(name, value, f"give the --target that the {name} is of")
    entries = commands.plan(_options(arguments), Progress())
    show = plan_tables.plan_json if arguments.json else plan_tables.plan_table
    print(show(entries))
    return 0


def _plan_target(arguments: argparse.Namespace) -> int:
    from scaling.scheduling import fleet_plan, plan_tables, preflight
    from scaling.scheduling.progress import Progress

    count = 1 if arguments.count is None else arguments.count
    if count < 1:
        raise UserError("count", count, "give a number of machines, 1 or more")
    options, price = _options(arguments), arguments.price
    forecasts = preflight.plan(options, arguments.target, price, Progress(), count)
    fleet = fleet_plan.fleet(forecasts, count, price)
    show = plan_tables.target_json if arguments.json else plan_tables.target_table
    print(show(forecasts, fleet))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from scaling.scheduling import commands
    from scaling.scheduling.progress import Progress

    return commands.run(_options(arguments), Progress())


def _freeze(arguments: argparse.Namespace) -> int:
    from scaling.scheduling import commands
    from scaling.scheduling.progress import Progress

    print(commands.freeze(_options(arguments), Progress()))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from scaling.scheduling import plan_tables

    print(plan_tables.status(arguments.workdir))
    return 0


def _watch(arguments: argparse.Namespace) -> int:
    from scaling.watching import server

    return server.watch(arguments.workdir, arguments.port)


def main(arguments: argparse.Namespace) -> int:
    commands = {"plan": _plan, "run": _run, "freeze": _freeze, "status": _status}
    commands["watch"] = _watch
    command = commands[arguments.command]
    try:
        return command(arguments)
    except UserError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    except Ended as error:
        print(f"scaling: {error}", file=sys.stderr)
        return error.code


def entry() -> None:
    """The console script."""
    # Until a study catches signals, Ctrl-C ends this process as SIGTERM does: silently.
    # It stays ignored where a shell began this in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    quiet.libraries()
    app.run(main, flags_parser=parse)
