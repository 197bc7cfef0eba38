"""The options of `scaling-analysis`, and its --map as names of columns."""

from __future__ import annotations

import argparse
import re
from typing import Any

from scaling.arguments import Parser
from scaling.errors import UserError

MAP_HELP = (
    'our column = the table\'s, e.g. "params=N,tokens=D,loss:val=val_loss,family=a"; '
    "columns not named are found by their usual names, and what was found is printed; "
    '"family=" says that no column is it, "loss=1 - accuracy" makes an error of an '
    "accuracy. "
    "Needed: params and tokens (counts), one loss or several as loss:TARGET. Of use: "
    "family, corpus, seed, trajectory (runs that share one are drawn as one), "
    "learning_rate, unique_tokens, flops, status, quality, run_id"
)
EXIT = (
    "exit codes: 0 done; 2 wrong input or a wrong option (one line on stderr says what "
    "is right); 3 the table was read but no law could be fitted and, for compare, "
    "nothing was measured without one (what is printed says why); 1 an error in the "
    "program; 130 stopped by Ctrl-C"
)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; `--help` and mistakes end the program here."""
    parser = Parser(
        prog="scaling-analysis",
        description="Architecture or data? From runs to laws and effects.",
        epilog=EXIT,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    report = _command(commands, "report", "everything, as one HTML page with figures")
    report.add_argument("--out", help="folder of the report (WORKDIR/report)")
    fit = _command(commands, "fit", "the laws' parameters with intervals")
    fit.add_argument(
        "--law",
        help="only this law, to all usable rows: a file of analysis/laws, such as "
        "chinchilla, or an included one; by default those of the report",
    )
    predict = _command(commands, "predict", "losses of runs that nobody has done yet")
    predict.add_argument(
        "--at",
        action="append",
        default=[],
        metavar="PLACE",
        help='"params=1B,tokens=20B" with, if you like, family and corpus (all by '
        "default), unique_tokens and quality; or a table with these columns; may be "
        "given several times",
    )
    predict.add_argument(
        "--law",
        default="chinchilla",
        help="whose curve is shown (chinchilla); the interval of a new run holds all "
        "laws that the runs do not rule out",
    )
    compare = _command(
        commands, "compare", "effects of families and corpora, or one gap by cause"
    )
    named = "by run_id, by a beginning of it, or by column=value,column=value"
    compare.add_argument(
        "--from", dest="source_run", metavar="RUN", help=f"first of two runs, {named}"
    )
    compare.add_argument(
        "--to",
        dest="to_run",
        metavar="RUN",
        help="second: what of the gap is architecture, corpus, parameters and tokens",
    )
    return parser.parse_args(argv[1:])


def _command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary, epilog=EXIT)
    command.add_argument(
        "source",
        metavar="TABLE",
        help="a workdir, or a file: text (comma, semicolon, tab), JSON, JSON lines or "
        "Parquet, compressed (.gz, .xz, .bz2, .zst) or not",
    )
    command.add_argument("--map", default="", help=MAP_HELP)
    command.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help='keep only the rows (or runs) that meet it, e.g. "subset == hot", '
        '"loss < 6", "corpus in c4, rpj"; may be given several times; compares by ==, '
        "!=, <, <=, >, >= and in",
    )
    command.add_argument(
        "--target",
        help="what a table's one column of losses was read on where there are several "
        "corpora: shared (all runs were scored on the same text) or own (each on its "
        "own corpus); until it is said no effect of the corpus is stated",
    )
    _add_workdir(command)
    _add_fitting(command)
    command.add_argument("--json", action="store_true", help="print JSON for machines")
    command.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a law or a question of your own, in a file outside the package; may be "
        "given several times",
    )
    return command


def _add_workdir(command: argparse.ArgumentParser) -> None:
    """Which runs of a workdir, and how their parameters are counted."""
    command.add_argument("--study", help="only this study of the workdir")
    command.add_argument(
        "--text",
        default="",
        metavar="DIGEST",
        help="of several texts that a workdir has under one name, the one with this "
        "digest (default: that of the runs which its studies name; the newest)",
    )
    command.add_argument(
        "--embeddings",
        action="store_true",
        help="count parameters with the embedding table (workdirs)",
    )


def _add_fitting(command: argparse.ArgumentParser) -> None:
    """What is fitted, and how intervals are drawn."""
    command.add_argument(
        "--unit",
        help="what a table's losses are in, where their column does not say it "
        "(nats/token); of perplexity the logarithm is fitted",
    )
    command.add_argument(
        "--rows",
        type=int,
        help="runs that are fitted at most (2000); of more, some of those alike",
    )
    command.add_argument("--draws", type=int, help="bootstrap draws behind an interval")
    command.add_argument(
        "--bootstrap",
        default="wild",
        metavar="SCHEME",
        help="how draws are made: wild (new losses for the same runs; the default) or "
        "pairs (whole trajectories with replacement)",
    )
    command.add_argument("--seed", type=int, default=0, help="keys draws and starts")


def mapping(text: str) -> dict[str, str]:
    """`a=b,c=` as a dict, "" for what is unmapped. Raises UserError for other text.

    A name with a comma or an equals sign in it stands in double quotes.
    """
    found: dict[str, str] = {}
    for entry in MAPPED.findall(text):
        if not entry.strip(" ,"):
            continue
        ends = MAPPING.fullmatch(entry.strip())
        ours, theirs = (part.strip() for part in ends.groups()) if ends else ("", "")
        if not ours:
            raise UserError(
                "map", entry.strip(), 'write "ours=theirs", such as "params=N"'
            )
        ours, theirs = _unquoted(ours), _unquoted(theirs)
        if ours in found:
            raise UserError("map", entry.strip(), f"{ours} is mapped twice")
        found[ours] = theirs
    return found


MAPPED = re.compile(r'(?:"[^"]*"|[^,"])+')
MAPPING = re.compile(r'("[^"]*"|[^="]*)=("[^"]*"|[^"]*)')


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else text
