"""Command `scaling-analysis`: report, fit, predict and compare, on any table of runs.

    scaling-analysis report WORKDIR
    scaling-analysis report runs.csv --map "params=N,tokens=D" --out report
    scaling-analysis fit runs.csv --law chinchilla --json
    scaling-analysis predict runs.csv --at "params=7B,tokens=2T"
    scaling-analysis compare runs.csv
    scaling-analysis compare WORKDIR --from 3fa9 --to family=lstm,tokens=655360,seed=0

No logic of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from absl import app

from analysis.command_line import mapping, parse
from scaling import quiet
from scaling.errors import UserError

# What reads tables and draws takes seconds to import: only once a command runs.
if TYPE_CHECKING:
    from analysis.results import Analysis
    from analysis.surfaces.lawfit import LawFit
    from analysis.tables.table import Table

# Kinds of notes on what has no answer, and why.
NO_ANSWER = ("refused", "asked")
DONE, WRONG, NOTHING = 0, 2, 3


def main(args: argparse.Namespace) -> int:
    """Runs one command; the exit code."""
    try:
        if args.seed < 0:
            raise UserError("seed", args.seed, "give 0 or more")
        return COMMANDS[args.command](args)
    except UserError as error:
        print(f"scaling-analysis: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("scaling-analysis: stopped by Ctrl-C", file=sys.stderr)
        return 128 + signal.SIGINT


def _say(text: str) -> None:
    """Progress of long work, for a person who waits."""
    print(text, file=sys.stderr, flush=True)


def _load(args: argparse.Namespace) -> Table:
    from analysis.tables import subsample
    from analysis.tables.load import load
    from scaling import plugins

    for path in args.include:
        plugins.include(path)
    size = os.path.getsize(args.source) if os.path.isfile(args.source) else 0
    if size > LARGE or sys.stderr.isatty():
        _say(f"reading {args.source} ({size / 1e6:.1f} MB)")
    loaded = load(
        args.source,
        mapping(args.map) or None,
        args.study,
        args.embeddings,
        args.unit,
        subsample.MOST if args.rows is None else args.rows,
        args.where,
        args.text,
        args.target,
    )
    if not args.json:
        print(_described(loaded))
    for text in (*loaded.warnings, *loaded.asked):
        print(f"warning: {text}", file=sys.stderr)
    return loaded


def _described(table: Table) -> str:
    """How the table was read: columns, units, and what was left out and why."""
    from analysis.tables import exclusions

    lines = []
    if table.mapping:
        used = ", ".join(f"{ours}={theirs}" for ours, theirs in table.mapping.items())
        lines.append(f"columns: {used}")
    lines += [f"read as: {text}" for text in table.said]
    lines.append(
        f"units: losses in {table.unit} on {', '.join(table.targets)}; params (counted "
        f"{table.counting}) and {table.counted} as plain counts"
    )
    left = table.exclusions
    lines.append(
        f"rows: {len(table.runs)}, of which {table.readings.run_id.nunique()} have a "
        "loss that can be used"
    )
    groups = left.groupby([left.target, exclusions.kinds(left)], sort=False)
    for (target, kind), rows in groups:
        on = f" on {target}" if target else ""
        named = rows.head(MOST_NAMED)
        for reason, same in named.groupby("reason", sort=False):
            lines.append(f"left out{on}: {reason}: {', '.join(same.run_id)}")
        if len(rows) > MOST_NAMED:
            lines.append(f"left out{on}: {kind}: {len(rows) - MOST_NAMED} rows more")
    return "\n".join(lines)


# Rows left out for one kind of reason are named up to this many; JSON has more.
MOST_NAMED = 20
# A file of so many bytes takes seconds to read.
LARGE = 10_000_000


def _analyse(args: argparse.Namespace) -> Analysis:
    from analysis import pipeline

    draws = pipeline.DRAWS if args.draws is None else args.draws
    table = _load(args)
    processes = os.cpu_count() or 1
    return pipeline.analyse(
        table,
        draws=draws,
        seed=args.seed,
        bootstrap=args.bootstrap,
        processes=processes,
        shown=True,
    )


def _report(args: argparse.Namespace) -> int:
    from analysis.report import build
    from analysis.tables import load

    # What others made is not written into.
    beside = args.source if load.is_workdir(args.source) else "."
    folder = args.out or os.path.join(beside, "report")
    build.check_folder(folder)
    analysis = _analyse(args)
    _say("drawing")
    try:
        path = os.fspath(build.write(analysis, folder, os.cpu_count() or 1))
    except UserError:  # the disk is full, say: what was found is not lost with it
        _answer(args, analysis, None)
        raise
    _answer(args, analysis, path)
    return _code(analysis)


def _answer(args: argparse.Namespace, analysis: Analysis, path: str | None) -> None:
    """What a report says in short; `path`: of its page, None where there is none."""
    from analysis.report.answer import extent, summary
    from analysis.report.front import front

    first, said = front(analysis), summary(analysis)
    if args.json:
        answer = {"report": path, "front": dataclasses.asdict(first), "answer": said}
        print(json.dumps(answer, indent=1))
        return
    print(f"report: {path or 'not written'}\n{extent(analysis)}\n")
    parts = {first.question: first.said, "What this does not show:": first.limits}
    for title, sentences in (parts | {"The answer in full:": said}).items():
        print("\n".join([title, *(f"- {text}" for text in sentences)]), end="\n\n")


def _code(analysis: Analysis) -> int:

    return NOTHING if analysis.view.lawless else DONE


def _fit(args: argparse.Namespace) -> int:
    from analysis.report import rows

    if args.law:
        return _fit_one(args)
    analysis = _analyse(args)
    said = [note.text for note in analysis.notes if note.kind in NO_ANSWER]
    for target in analysis.targets:
        said += rows.rows(analysis, target)
    chosen = {
        "fits": analysis.fits,
        "joint": analysis.joint,
        "quality": analysis.quality,
        "counts": analysis.counts,
        "excluded": analysis.excluded,
        "exclusions": analysis.exclusions,
    }
    _print(args, chosen, said)
    return _code(analysis)


def _left_out(table: Table) -> dict[str, Any]:
    """The table's exclusions as an Analysis has them."""
    from analysis.tables import exclusions

    left, every = table.exclusions, table.runs.run_id
    gone = every[~exclusions.among(every, exclusions.brief(table).runs.run_id)]
    return {
        "excluded": exclusions.counted(left, gone),
        "exclusions": exclusions.listed(left),
    }


def _one_law(args: argparse.Namespace) -> tuple[Table, LawFit]:
    from analysis.surfaces import lawfit
    from scaling import plugins

    for path in args.include:
        plugins.include(path)
    # A misspelt law is said before a large table is read.
    lawfit.check(args.law)
    table = _load(args)
    draws = lawfit.DRAWS if args.draws is None else args.draws
    bootstrap = args.bootstrap
    return table, lawfit.fit_law(table, args.law, draws, args.seed, bootstrap=bootstrap)


def _refused(found: LawFit) -> list[str]:
    return [
        f"The {row.law} law of {row.family} on {row.corpus}, target {row.target}, is "
        f"refused: {row.reason}."
        for row in found.refused.itertuples()
    ]


def _fit_one(args: argparse.Namespace) -> int:
    from analysis.report import rows

    table, found = _one_law(args)
    chosen = {"fits": found.parameters, "quality": found.quality}
    chosen["counts"] = found.counts
    # Of a target without a law the refusal says all.
    named = set() if found.parameters.empty else set(found.parameters.target)
    fitted = found.counts[found.counts.target.isin(named)]
    said = [rows.counts(row) for row in fitted.itertuples()]
    _print(args, chosen | _left_out(table), _refused(found) + said)
    return NOTHING if found.parameters.empty else DONE


def _predict(args: argparse.Namespace) -> int:
    from analysis.formatting import worded
    from analysis.surfaces import places

    if not args.at:
        raise UserError("at", "", 'say where, such as --at "params=1e9,tokens=2e10"')
    asked = places.read(args.at)
    table, found = _one_law(args)
    predicted = found.predict(asked)
    said = _refused(found)
    if not predicted.empty:
        shown = places.sentences(predicted, table.unit)
        said += [worded(text, table.counted) for text in shown]
    _print(args, {"predictions": predicted} | _left_out(table), said)
    return NOTHING if predicted.empty else DONE


def _compare(args: argparse.Namespace) -> int:
    from analysis.questions._view import at_fitted, compared
    from analysis.report.answer import summary

    if args.source_run is not None or args.to_run is not None:
        return _attribute(args)
    analysis = _analyse(args)
    chosen = {
        "equivalents": compared(analysis.equivalents),
        "ratios": at_fitted(analysis.ratios),
        "joint": analysis.joint,
        "variance": analysis.variance,
        "measured": analysis.measured,
        "counts": analysis.counts,
        "excluded": analysis.excluded,
        "exclusions": analysis.exclusions,
    }
    _print(args, chosen, summary(analysis))
    return DONE if analysis.view.compared else NOTHING


def _attribute(args: argparse.Namespace) -> int:
    """The gap between two named runs, by cause."""
    from analysis.effects import attribution
    from analysis.formatting import worded

    for option, name in (("from", args.source_run), ("to", args.to_run)):
        if not name:
            raise UserError(option, name, "name two runs, with both --from and --to")
    draws = attribution.DRAWS if args.draws is None else args.draws
    table = _load(args)
    found = attribution.attribute(
        table,
        args.source_run,
        args.to_run,
        draws,
        args.seed,
        bootstrap=args.bootstrap,
    )
    frames = {"attribution": found} | _left_out(table)
    said = attribution.sentences(found, table.unit)
    _print(args, frames, [worded(text, table.counted) for text in said])
    return DONE


def _print(args: argparse.Namespace, frames: Any, sentences: Any) -> None:
    """Frames as aligned text, or all at full precision as JSON."""
    from analysis.report import saved

    if args.json:
        body = {name: saved.frame_json(frame) for name, frame in frames.items()}
        print(json.dumps({"answer": sentences} | body, indent=1, allow_nan=False))
        return
    for name, frame in frames.items():
        if name in ("excluded", "exclusions"):  # said already, when the table was read
            continue
        print(f"\n{name}")
        shown = (
            "nothing that this table gives"
            if frame.empty
            else frame.to_string(index=False, float_format=_short)
        )
        print(shown)
    print("".join(f"\n- {sentence}" for sentence in sentences))


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


COMMANDS = {"report": _report, "fit": _fit, "predict": _predict, "compare": _compare}


def entry() -> None:
    """The console script."""
    # Targets and chunks of draws fill the cores; their products are too small to share.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    quiet.libraries()
    app.run(main, flags_parser=parse)
