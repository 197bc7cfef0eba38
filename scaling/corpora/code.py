"""Python code: the sources of sympy and networkx without their docstrings.

Tests of the packages are part of it. 2,113 files of 32.65 MB; stripped, 2,005 of them
hold anything and are 24.5 MB, no two alike. Read from the installed wheels (extra
`corpora`), never copied.
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
