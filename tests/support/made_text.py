"""A little text in files of one's own, and what is read back once it is prepared."""

from __future__ import annotations

import numpy as np

from scaling import corpora
from scaling.corpora import _tokens
from scaling.run import Part, options

TEXTS = [f"{i} " + "some words of text, " * (i % 7 + 1) for i in range(120)]


def file_part(path, **more) -> Part:
    return Part("files", options=options(path=str(path), **more))


def texts(prepared: corpora.Prepared, split: str) -> list[bytes]:
    tokens = np.fromfile(prepared.folder / f"{split}.tokens", np.uint16)
    ends = np.flatnonzero(tokens == prepared.separator)
    return [_tokens.Bytes().decode(part) for part in np.split(tokens, ends + 1)[:-1]]
