"""Tokenizers, and flat token files of uint16 with an index of documents.

A document is its text's tokens and then the separator, which is the id above the
vocabulary: 256 for bytes.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from scaling.errors import UserError

# One row a document: where its tokens start, bytes of its text, hash of its text.
DOCUMENT = np.dtype([("start", "<i8"), ("bytes", "<i8"), ("hash", "<u8")])

MODEL = "sentencepiece.model"
BLANK = "\u2581"


class Tokenizer(Protocol):
    separator: int

    def encode(self, text: bytes) -> np.ndarray:
        """uint16 ids of a text, without a separator."""

    def decode(self, ids: np.ndarray) -> bytes:
        """The inverse of `encode`; separators are dropped."""

    def pieces(self) -> list[bytes]:
        """What each id stands for, the separator left out; b"" for none of a text."""


class Bytes:
    """UTF-8 bytes: 256 ids and the separator."""

    separator = 256

    def encode(self, text: bytes) -> np.ndarray:
        return np.frombuffer(text, np.uint8).astype(np.uint16)

    def decode(self, ids: np.ndarray) -> bytes:
        return ids[ids < self.separator].astype(np.uint8).tobytes()

    def pieces(self) -> list[bytes]:
        return [bytes([byte]) for byte in range(self.separator)]


class SentencePiece:
    """A byte-pair vocabulary with byte fallback: every text survives the round trip.

    Kudo and Richardson 2018, "SentencePiece: A simple and language independent
    subword tokenizer and detokenizer for neural text processing", EMNLP.
    """

    def __init__(self, model: bytes):
        self._model = _sentencepiece().SentencePieceProcessor(model_proto=model)
        self.separator = self._model.vocab_size()
        self._blank = [self._model.piece_to_id(f"<0x{b:02X}>") for b in BLANK.encode()]

    def encode(self, text: bytes) -> np.ndarray:
        # A blank is written as BLANK inside a vocabulary, so one that the text itself
        # has would come back as a blank: it goes by its bytes.
        ids: list[int] = []
        for i, span in enumerate(text.decode().split(BLANK)):
            ids += self._blank if i else []
            ids += self._model.encode(span)
        return np.asarray(ids, np.uint16)

    def decode(self, ids: np.ndarray) -> bytes:
        return self._model.decode(ids[ids < self.separator].tolist()).encode()

    def pieces(self) -> list[bytes]:
        return [self._piece(i) for i in range(self.separator)]

    def _piece(self, i: int) -> bytes:
        text = self._model.id_to_piece(i)
        if self._model.is_byte(i):  # <0x0A>
            return bytes([int(text[1:-1], 16)])
        if self._model.is_control(i) or self._model.is_unknown(i):
            return b""
        return str(text).replace(BLANK, " ").encode()


def train(tokenizer: str, texts: Callable[[], Iterator[bytes]]) -> bytes | None:
    """The model of a vocabulary learnt from `texts`; None where there is none to learn.

    Raises:
      UserError: unknown tokenizer, or a vocabulary that the texts cannot fill.
    """
    if tokenizer == "bytes":
        return None
    size = _vocabulary_size(tokenizer)
    model = io.BytesIO()
    try:
        _sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=_lines(texts()),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            byte_fallback=True,
            # The text must come back byte for byte, or bits per byte mean nothing.
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            bos_id=-1,
            eos_id=-1,
            input_sentence_size=500_000,
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(
            "data.tokenizer", tokenizer, f"sentencepiece says: {error}"
        ) from error
    return model.getvalue()


def load(tokenizer: str, model: bytes | None) -> Tokenizer:
    return Bytes() if model is None else SentencePiece(model)


def trained_on(tokenizer: str) -> str:
    """The corpus named by `sentencepiece:SIZE:CORPUS`; "" if none is.

    Without one a vocabulary is learnt from the very corpus it is to encode.
    """
    return [*tokenizer.split(":"), "", ""][2]


def _vocabulary_size(tokenizer: str) -> int:
    kind, size, *_ = [*tokenizer.split(":"), ""]
    if kind == "sentencepiece" and size.isdecimal() and 300 <= int(size) <= 65_535:
        return int(size)
    raise UserError(
        "data.tokenizer",
        tokenizer,
        "give bytes, or sentencepiece:SIZE or sentencepiece:SIZE:CORPUS with SIZE "
        "from 300 to 65535 and the corpus to learn the vocabulary from",
    )


def _lines(texts: Iterator[bytes]) -> Iterator[str]:
    for text in texts:
        yield from (line for line in text.decode().split("\n") if line)


def _sentencepiece():  # type: ignore[no-untyped-def]
    try:
        import sentencepiece
    except ModuleNotFoundError:
        raise UserError(
            "data.tokenizer",
            "sentencepiece",
            "is not installed: pip install 'datalaw[sentencepiece]'",
        ) from None
    return sentencepiece


def write(
    folder: Path,
    split: str,
    tokenizer: Tokenizer,
    documents: Iterator[tuple[bytes, int]],
) -> dict[str, int]:
    """Writes SPLIT.tokens and SPLIT.documents; returns their counts.

    Args:
      documents: (text, hash of the text).
    """
    counts = {"documents": 0, "tokens": 0, "bytes": 0}
    separator = np.uint16(tokenizer.separator)
    with (
        open(folder / f"{split}.tokens", "wb") as tokens,
        open(folder / f"{split}.documents", "wb") as index,
    ):
        for text, digest in documents:
            ids = np.append(tokenizer.encode(text), separator).astype("<u2")
            row = np.array([(counts["tokens"], len(text), digest)], DOCUMENT)
            tokens.write(ids.tobytes())
            index.write(row.tobytes())
            counts["documents"] += 1
            counts["tokens"] += len(ids)
            counts["bytes"] += len(text)
    return counts


class TokenFile:
    """A flat file of uint16 tokens, memory-mapped, at a bounded resident size.

    A mapped page counts as resident until it is let go, and random reads in time touch
    them all; so the pages of a larger file are let go after every RESIDENT bytes
    touched. They stay in the system's page cache, so that costs next to nothing.
    """

    RESIDENT = 128 << 20
    # The kernel maps this much around a page that is touched.
    AROUND = 64 << 10

    def __init__(self, path: Path):
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._tokens = np.frombuffer(self._map, "<u2")
        self._touched = 0

    def __len__(self) -> int:
        return len(self._tokens)

    def windows(self, length: int, numbers: np.ndarray) -> np.ndarray:
        """int32 [len(numbers), length]: the given windows of `length` tokens each."""
        count = len(self) // length
        rows = self._tokens[: count * length].reshape(count, length)[numbers]
        self._touch(len(numbers), 2 * length)
        return rows.astype(np.int32)

    def at(self, places: np.ndarray) -> np.ndarray:
        """int32 [...]: the tokens at places that mostly follow each other."""
        tokens = self._tokens[places]
        pieces = 1 + int(np.count_nonzero(np.diff(places.ravel()) != 1))
        self._touch(pieces, 2 * places.size // pieces)
        return tokens.astype(np.int32)

    def slice(self, start: int, stop: int) -> np.ndarray:
        """int32 [stop - start]."""
        part = self._tokens[start:stop].astype(np.int32)
        self._touch(1, 2 * len(part))
        return part

    def _touch(self, places: int, size: int) -> None:
        self._touched += places * max(size, self.AROUND)
        most = min(self._touched, len(self._map))
        if most > self.RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
