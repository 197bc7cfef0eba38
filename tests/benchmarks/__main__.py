"""Runs the benchmarks of this folder, one after another, each in a process of its own.

    python -m tests.benchmarks [NAME ...]

With no name all of them. A benchmark is a module here that is run as a program; its
docstring says what it measures and what to expect. Ends with the number that failed.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def found() -> dict[str, str]:
    """Names of the benchmarks and the first line of what each says about itself."""
    out = {}
    for path in sorted(FOLDER.glob("*.py")):
        if not path.stem.startswith("_"):
            said = ast.get_docstring(ast.parse(path.read_text())) or ""
            out[path.stem] = said.partition("\n")[0]
    return out


def main() -> int:
    known = found()
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="\n".join(f"{name}: {said}" for name, said in known.items()),
    )
    parser.add_argument("name", nargs="*", help="one of the above; all by default")
    names = parser.parse_args().name or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"{unknown[0]}: there are {', '.join(known)}")
    failed = 0
    for name in names:
        print(f"\n== {name}: {known[name]}", flush=True)
        command = [sys.executable, "-m", f"{__package__}.{name}"]
        failed += subprocess.run(command).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
