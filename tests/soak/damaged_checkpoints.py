"""Every kind of damage to a checkpoint, then the same command: the undisturbed record.

    python -m tests.soak.damaged_checkpoints

A run is stopped after two checkpoints; a copy of its workdir is damaged in one of the
ways of tests/support/damage.py, and the command is given again. Wrong would be another
record, none, a traceback, or no line about a checkpoint that is not used. A kind takes
about ten seconds of an idle core.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from scaling.store import Store
from tests.support import damage, real_studies

STEPS = 6_000
RUNS = {"mine": {}, "other": {"axes": {"init_seed": (1,)}}, "model": {"size": 16_000}}
FLAGS = ("--layout", "run=1,width=1", "--checkpoint_seconds", "0.4")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.damaged_checkpoints")
    parser.add_argument("--folder", help="where to work (default: a temporary one)")
    parser.add_argument("--kinds", nargs="*", help="names; by default all")
    arguments = parser.parse_args()
    folder = arguments.folder or tempfile.mkdtemp(prefix="damaged-")
    root = Path(folder).resolve()
    text = real_studies.write_text(root / "text")
    for name, changes in RUNS.items():
        real_studies.write_study(root / f"{name}.py", text, STEPS, **changes)
    code, said = scaling(root, "mine", "whole")
    assert code == 0, said
    right = real_studies.substances(root / "whole")
    for name in RUNS:
        _stop_after_two(root, name)
    counts = dict.fromkeys(("tracebacks", "lost", "wrong", "unsaid"), 0)
    kinds = [
        kind
        for kind in damage.KINDS
        if not arguments.kinds or kind.__name__ in arguments.kinds
    ]
    for kind in kinds:
        wrong = judged(root, kind, right)
        for name in wrong:
            counts[name] += 1
        print(f"{kind.__name__}: {', '.join(wrong) or 'the same record'}", flush=True)
    print(
        f"{len(kinds)} kinds of damage: {counts['tracebacks']} tracebacks, "
        f"{counts['lost']} lost, {counts['wrong']} wrong records, "
        f"{counts['unsaid']} without their line"
    )
    return int(any(counts.values()))


def scaling(root: Path, study: str, workdir: str) -> tuple[int, str]:
    arguments = ("run", f"{study}.py", "--workdir", workdir, "--data_dir", "data")
    return real_studies.run(*arguments, *FLAGS, cwd=root, seconds=600)


def _stop_after_two(root: Path, name: str) -> None:
    """Leaves the workdir stopped/NAME with two checkpoints of an unfinished run."""
    workdir = root / "stopped" / name
    arguments = ("run", f"{name}.py", "--workdir", f"stopped/{name}")
    process = real_studies.start(*arguments, "--data_dir", "data", *FLAGS, cwd=root)
    while len(list(workdir.glob("checkpoints/*/*/manifest.json"))) < 2:
        assert process.poll() is None, "it ended before two checkpoints"
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, said


def judged(root: Path, kind: damage.Kind, right: list[dict]) -> list[str]:
    """What went wrong with one kind of damage, in the names of the counts."""
    workdir = root / "damaged" / kind.__name__
    shutil.copytree(root / "stopped" / "mine", workdir)
    runs = [workdir] + [root / "stopped" / name for name in ("other", "model")]
    kind(*(next((run / "checkpoints").iterdir()) for run in runs))
    code, said = scaling(root, "mine", f"damaged/{kind.__name__}")
    wrong = []
    if "Traceback" in said:
        wrong.append("tracebacks")
    found = real_studies.substances(workdir)
    if code or not found:
        wrong.append("lost")
        print(said)
    elif found != right:
        wrong.append("wrong")
    lines = [line for line in said.splitlines() if "not used, the run goes on" in line]
    if len(lines) != (kind not in damage.SILENT):
        wrong.append("unsaid")
    causes = {attempt.cause for attempt in Store(workdir).attempts()}
    if causes != {"preemption"}:
        wrong.append("lost")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
