"""Command `scaling-analysis`: report, fit and compare, on a workdir or any table.

    scaling-analysis report WORKDIR
    scaling-analysis report runs.csv --map "params=N,tokens=D" --out report
    scaling-analysis fit runs.csv --law chinchilla --json
    scaling-analysis compare runs.csv

No logic of its own. Exit codes: 0 done, 2 wrong input (one line says what is right).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from absl import app
from absl.flags import argparse_flags

from scaling.errors import UserError

# What reads tables and draws takes seconds to import: only once a command runs.
if TYPE_CHECKING:
    from analysis.analyse import Analysis
    from analysis.table import Table

MAP_HELP = (
    'our column = the table\'s, e.g. "params=N,tokens=D,loss:val=val_loss"; columns '
    "not named are found by their usual names"
)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; `--help` and mistakes end the program here."""
    parser = argparse_flags.ArgumentParser(
        prog="scaling-analysis",
        description="Architecture or data? From runs to laws and effects.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    report = _command(commands, "report", "everything, as one HTML page with figures")
    report.add_argument("--out", help="folder of the report (WORKDIR/report)")
    fit = _command(commands, "fit", "the laws' parameters with intervals")
    fit.add_argument("--law", help="only this law, e.g. chinchilla")
    _command(commands, "compare", "effects of families and corpora")
    return parser.parse_args(argv[1:])


def _command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary)
    command.add_argument(
        "source", metavar="TABLE", help="a workdir, or a .csv, .parquet or .jsonl file"
    )
    command.add_argument("--map", default="", help=MAP_HELP)
    command.add_argument("--study", help="only this study of the workdir")
    command.add_argument(
        "--embeddings",
        action="store_true",
        help="count parameters with the embedding table (workdirs)",
    )
    command.add_argument("--draws", type=int, help="bootstrap draws behind an interval")
    command.add_argument("--seed", type=int, default=0, help="keys draws and starts")
    command.add_argument("--json", action="store_true", help="print JSON for machines")
    command.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a law of your own, in a file outside the package",
    )
    return command


def mapping(text: str) -> dict[str, str]:
    """`a=b,c=d` as a dict. Raises UserError for anything else."""
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (part.strip() for part in entry.partition("="))
        if not (ours and equals and theirs):
            raise UserError("map", entry, 'write "ours=theirs", such as "params=N"')
        if ours in found:
            raise UserError("map", entry, f"{ours} is mapped twice")
        found[ours] = theirs
    return found


def main(args: argparse.Namespace) -> int:
    """Runs one command; the exit code."""
    try:
        return COMMANDS[args.command](args)
    except UserError as error:
        print(f"scaling-analysis: {error}", file=sys.stderr)
        return 2


def _load(args: argparse.Namespace) -> Table:
    from analysis import table
    from scaling import discover

    for path in args.include:
        discover.include(path)
    loaded = table.load(
        args.source, mapping(args.map) or None, args.study, args.embeddings
    )
    if loaded.mapping and not args.json:
        used = ", ".join(f"{ours}={theirs}" for ours, theirs in loaded.mapping.items())
        print(f"columns: {used}")
    for text in loaded.warnings:
        print(f"warning: {text}", file=sys.stderr)
    return loaded


def _analyse(args: argparse.Namespace) -> Analysis:
    from analysis import analyse

    draws = analyse.DRAWS if args.draws is None else args.draws
    return analyse.analyse(_load(args), draws=draws, seed=args.seed)


def _report(args: argparse.Namespace) -> int:
    from analysis import report, table

    is_table = os.path.splitext(args.source)[1].lower() in table.READERS
    folder = args.out or os.path.join("." if is_table else args.source, "report")
    analysis = _analyse(args)
    path = report.write(analysis, folder)
    if args.json:
        answer = {"report": os.fspath(path), "answer": report.summary(analysis)}
        print(json.dumps(answer, indent=1))
        return 0
    print(f"report: {os.fspath(path)}\n{report.extent(analysis)}\n")
    for sentence in report.summary(analysis):
        print(f"- {sentence}")
    return 0


def _fit(args: argparse.Namespace) -> int:
    from analysis import report
    from scaling.errors import unknown

    analysis = _analyse(args)
    known = sorted(set(analysis.fits.law))
    if args.law and args.law not in known:
        raise unknown("law", args.law, known)
    fits = analysis.fits[analysis.fits.law == args.law] if args.law else analysis.fits
    quality = analysis.quality[analysis.quality.law.isin(set(fits.law))]
    chosen = {"fits": fits, "quality": quality}
    return _print(args, chosen, [], report.frame_json)


def _compare(args: argparse.Namespace) -> int:
    from analysis import plots, report

    analysis = _analyse(args)
    chosen = {
        "equivalents": plots.at_largest(plots.one_way(analysis.equivalents)),
        "ratios": plots.at_largest(analysis.ratios),
        "joint": analysis.joint,
        "variance": analysis.variance,
    }
    return _print(args, chosen, report.summary(analysis), report.frame_json)


def _print(args: argparse.Namespace, frames: Any, sentences: Any, encode: Any) -> int:
    """Frames as aligned text, or all at full precision as JSON."""
    if args.json:
        body = {name: encode(frame) for name, frame in frames.items()}
        print(json.dumps({"answer": sentences} | body, indent=1, allow_nan=False))
        return 0
    for name, frame in frames.items():
        print(f"\n{name}")
        shown = (
            "nothing that this table gives"
            if frame.empty
            else frame.to_string(index=False, float_format=_short)
        )
        print(shown)
    print("".join(f"\n- {sentence}" for sentence in sentences))
    return 0


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


COMMANDS = {"report": _report, "fit": _fit, "compare": _compare}


def entry() -> None:
    """The console script."""
    app.run(main, flags_parser=parse)
