"""Technical English: docstrings of sympy and networkx of at least 200 characters.

6,880 different ones, 6.5 MB, unindented. Read from the installed wheels (extra
`corpora`), never copied.
"""

from __future__ import annotations

from collections.abc import Iterator

from scaling.corpora import _sources

LICENCE = "BSD-3-Clause (sympy, networkx)"
SOURCE = "sympy 1.14.0 and networkx 3.6.1, https://www.sympy.org, https://networkx.org"

PACKAGES = ("sympy", "networkx")
SHORTEST = 200  # characters


def version() -> str:
    return _sources.versions("docstrings", PACKAGES, "corpora")


def documents() -> Iterator[tuple[str, bytes]]:
    """One document a docstring; its key is `file:line`."""
    version()  # raises where a wheel is missing
    for key, text in _sources.extract("docstrings", PACKAGES):
        if len(text.decode()) >= SHORTEST:
            yield key, text
