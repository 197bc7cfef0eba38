"""Runs the benchmarks of this folder, one after another, each in a process of its own.

    python -m tests.benchmarks [NAME ...]

With no name all of them. A benchmark is a module here that is run as a program; its
docstring says what it measures and what to expect. Ends with the number that failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.programs import run

if __name__ == "__main__":
    sys.exit(run(__package__, Path(__file__).parent))
