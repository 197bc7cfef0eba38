"""Corpora: one file each, found by import; here is how the rest reads them.

A corpus is a module that defines

    LICENCE, SOURCE: str
    version(**options) -> str
        what identifies the text without reading it all, e.g. package versions
    documents(**options) -> Iterator[tuple[str, bytes]]
        (key, UTF-8 text) of every document, in any reproducible order

Everything else comes for free and is the same for all: a TFDS builder stores the
documents as ArrayRecord once (`prepare`), exact duplicates are dropped, documents are
split by hash into train and held-out, tokens go to a memory-mapped file, and
`TokenStream` reads batches from it.
"""

from __future__ import annotations

import sys
from types import ModuleType

from scaling import discover


def names() -> list[str]:
    return discover.names(sys.modules[__name__], "documents")


def load(name: str) -> ModuleType:
    """The corpus's module. Raises UserError for an unknown name."""
    return discover.load(sys.modules[__name__], name, "documents", "data.corpus")
