"""The commit of the running source, which records carry."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the source tree


@functools.cache
def source_commit(root: Path = ROOT) -> str:
    """The commit of the source tree, with "+" where files differ; "" where unknown.

    A tree that was copied without its git folder says it in a file COMMIT.
    """
    copied = root / "COMMIT"
    if copied.is_file():
        return copied.read_text().strip()
    git = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""
