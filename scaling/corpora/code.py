"""Python code: the sources of sympy and networkx without their docstrings.

Tests of the packages are part of it. Before stripping it is 32.6 MB in 2,009 files
that are not empty; what is empty once stripped is left out, which leaves 1,953 files.
Read from the installed wheels (extra `corpora`), never copied.
"""

from __future__ import annotations

from collections.abc import Iterator

from scaling.corpora import _sources

LICENCE = "BSD-3-Clause (sympy, networkx)"
SOURCE = "sympy 1.14.0 and networkx 3.6.1, https://www.sympy.org, https://networkx.org"

PACKAGES = ("sympy", "networkx")


def version() -> str:
    return _sources.versions("code", PACKAGES, "corpora")


def documents() -> Iterator[tuple[str, bytes]]:
    """One document a source file."""
    version()  # raises where a wheel is missing
    return _sources.extract("code", PACKAGES)
