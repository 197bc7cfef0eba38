"""Runs the soaks of this folder, one after another, each in a process of its own.

    python -m tests.soak [NAME ...]

With no name all of them, which takes hours. A soak is a module here that is run as a
program; it ends with its counts and with the exit code 0 where nothing went wrong.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def found() -> dict[str, str]:
    """Names of the soaks and the first line of what each says about itself."""
    out = {}
    for path in sorted(FOLDER.glob("[!_]*.py")):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        out[path.stem] = said.partition("\n")[0]
    return out


def main() -> int:
    known = found()
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="\n".join(f"{name}: {said}" for name, said in known.items()),
    )
    parser.add_argument("name", nargs="*", help="one of the above; all by default")
    names = parser.parse_args().name or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"{unknown[0]}: there are {', '.join(known)}")
    failed = []
    for name in names:
        print(f"\n== {name}: {known[name]}", flush=True)
        command = [sys.executable, "-m", f"{__package__}.{name}"]
        if subprocess.run(command).returncode:
            failed.append(name)
    print(f"\n{len(names)} soaks, {len(failed)} failed {' '.join(failed)}".rstrip())
    return min(len(failed), 1)


if __name__ == "__main__":
    sys.exit(main())
