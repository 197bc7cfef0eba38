"""Runs the modules of a folder as programs, each in a process of its own."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path


def found(folder: Path) -> dict[str, str]:
    """Names of the programs and the first line of what each says about itself."""
    out = {}
    for path in sorted(folder.glob("[!_]*.py")):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        out[path.stem] = said.partition("\n")[0]
    return out


def run(package: str, folder: Path) -> int:
    """Runs those named on the command line, or all; returns how many failed."""
    known = found(folder)
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}",
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
        if subprocess.run([sys.executable, "-m", f"{package}.{name}"]).returncode:
            failed.append(name)
    print(f"\n{len(names)} ran, {len(failed)} failed {' '.join(failed)}".rstrip())
    return len(failed)
