"""Runs the soaks of this folder, one after another, each in a process of its own.

    python -m tests.soak [NAME ...]

With no name all of them, which takes hours. A soak is a module here that is run as a
program; it ends with its counts and with the exit code 0 where nothing went wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.programs import run

if __name__ == "__main__":
    sys.exit(min(run(__package__, Path(__file__).parent), 1))
