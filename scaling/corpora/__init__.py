"""Corpora, one file each, found by import, and the interface to read them.

A corpus is a module that defines

    LICENCE, SOURCE: str
    version(**options) -> str
        identifies the text without reading all of it, e.g. by package versions
    documents(**options) -> Iterator[tuple[str, bytes]]
        (key, UTF-8 text) of every document, in any reproducible order; b"" where
        a document has no text: it is counted and left out
    or, where it holds pictures,
    pictures(**options) -> Iterator[Picture]
        every picture, of one shape, in any reproducible order; _pictures.py describes
        them

It may also define

    remarks(**options) -> list[str]
        notes for the user once the text is prepared, one line each

    classes(tokens, at, /, **options) -> {name: (codes, levels)}
        token classes of its own for probe sets, beside those of _classes.py, where
        the interface is described

and, where the text or the pictures are generated from a source whose probabilities are
known, `oracle` and `entropy`, which _truth.py describes.

The rest is shared by all corpora: a TFDS builder stores the documents as ArrayRecord
once (`prepare`), exact duplicates are dropped, documents (pictures: groups of them) are
split by hash into training and held-out ones, tokens go to a memory-mapped file, and
`TokenStream` reads batches from it, damaged where a run asks for that (_quality.py).
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scaling import plugins

if TYPE_CHECKING:
    from scaling.corpora._evaluation import (
        EvaluationWindows,
        check_evaluation,
        evaluation_windows,
        ratio,
        scored_windows,
    )
    from scaling.corpora._pictures import Picture, check_alike, check_kind
    from scaling.corpora._prepare import (
        data_folder,
        obtain,
        open_prepared,
        prepare,
    )
    from scaling.corpora._prepared import Prepared, spec_of
    from scaling.corpora._quality import check_quality
    from scaling.corpora._shared import places
    from scaling.corpora._stream import TokenStream
    from scaling.corpora._text_files import seen_from

__all__ = [
    "EvaluationWindows",
    "Picture",
    "Prepared",
    "TokenStream",
    "check_alike",
    "check_evaluation",
    "check_kind",
    "check_quality",
    "data_folder",
    "evaluation_windows",
    "load",
    "names",
    "obtain",
    "of_pictures",
    "open_prepared",
    "places",
    "prepare",
    "ratio",
    "scored_windows",
    "seen_from",
    "spec_of",
]

_WHERE = {
    "EvaluationWindows": "_evaluation",
    "Picture": "_pictures",
    "Prepared": "_prepared",
    "TokenStream": "_stream",
    "check_alike": "_pictures",
    "check_evaluation": "_evaluation",
    "check_kind": "_pictures",
    "check_quality": "_quality",
    "data_folder": "_prepare",
    "evaluation_windows": "_evaluation",
    "obtain": "_prepare",
    "open_prepared": "_prepare",
    "places": "_shared",
    "prepare": "_prepare",
    "ratio": "_evaluation",
    "scored_windows": "_evaluation",
    "seen_from": "_text_files",
    "spec_of": "_prepared",
}


def __getattr__(name: str) -> Any:
    # Imported late, so that listing the corpora needs neither NumPy nor tqdm.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def of_pictures(name: str) -> bool:
    """Whether a corpus is of pictures. Raises UserError for an unknown name."""
    return hasattr(load(name), "pictures")


# What a corpus defines one of.
_SOURCES = ("documents", "pictures")


def names() -> list[str]:
    return plugins.names(sys.modules[__name__], *_SOURCES)


def load(name: str) -> ModuleType:
    """The corpus's module. Raises UserError for an unknown name."""
    return plugins.load(sys.modules[__name__], name, "data.corpus", *_SOURCES)
