"""Docstrings of Python's standard library: a corpus in one file.

Use `corpus("stdlib")` in a study and pass `--include examples/stdlib.py`. The text
comes with every Python: some thousands of documents, 1 MB or so.
"""

import ast
import os
import sys
from pathlib import Path

LICENCE = "PSF-2.0"
SOURCE = "the standard library of the running Python"
SHORTEST = 40  # characters


def version():
    return ".".join(map(str, sys.version_info[:3]))


def documents():
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if len(text) >= SHORTEST:
                    yield f"{path.name}:{getattr(node, 'lineno', 0)}", text.encode()
