"""Small studies of real training, run by the real command as a user runs it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from scaling.record import substance
from scaling.store import Store

ROOT = Path(__file__).parents[2]

STUDY = """
from scaling.run import Data, EvaluationSet, Model, Optimiser, Run, Schedule
from scaling.study import corpus, vary

TEXT = corpus("files", path={text!r}, unit="line")

def study(results):
    run = Run(
        model=Model("transformer", {size}),
        data=Data(TEXT, {steps} * {batch} * {length}, {unique}),
        optimiser=Optimiser(3e-3),
        schedule=Schedule(warmup_tokens=512),
        batch={batch}, length={length}, evaluations={evaluations},
        evaluation=(EvaluationSet("made", TEXT, tokens={tokens}),),
    )
    yield from vary(run, {axes!r})
"""


def write_text(folder: Path, lines: int = 4_000) -> Path:
    """A corpus of made words, a document a line."""
    words = random.Random(0)
    lexicon = ["".join(words.choices("abcdefghij", k=5)) for _ in range(200)]
    weights = range(200, 0, -1)
    text = [" ".join(words.choices(lexicon, weights, k=40)) for _ in range(lines)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made.txt").write_text("\n".join(text) + "\n")
    return folder


def write_study(
    path: Path,
    text: Path,
    steps: int = 400,
    axes: dict[str, tuple[Any, ...]] | None = None,
    **changes: Any,
) -> Path:
    """A study of tiny transformers: one run, or one a value of the `axes`.

    Args:
      changes: of size, batch, length, unique (tokens), evaluations and (their) tokens.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"size": 8_000, "batch": 4, "length": 32, "evaluations": 2}
    settings |= {"tokens": 1_024}
    settings |= {"unique": None, "text": str(text), "steps": steps, "axes": axes or {}}
    path.write_text(STUDY.format(**settings | changes))
    return path


def command(*arguments: Any) -> list[str]:
    """`scaling ARGUMENTS` under this Python."""
    script = "from scaling.main import entry; entry()"
    return [sys.executable, "-c", script, *map(str, arguments)]


def environment(**changes: str) -> dict[str, str]:
    """This process's, with this source tree, whatever folder a command starts in."""
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return kept | {"PYTHONPATH": str(ROOT)} | changes


def start(*arguments: Any, cwd: Path, **changes: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell starts it."""
    cwd.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def run(*arguments: Any, cwd: Path, seconds: float = 300.0, **changes: str):
    """The command to its end: (exit code, all that it said)."""
    process = start(*arguments, cwd=cwd, **changes)
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def substances(workdir: Path) -> list[dict[str, Any]]:
    """What must be the same of every record, however often it was disturbed."""
    return [substance(record) for record in Store(workdir).records()[0]]
