"""Tokenizers, and flat token files of uint16 with an index of documents.

A document is its text's tokens and then the separator, which is the id above the
vocabulary: 256 for bytes.
"""

from __future__ import annotations

import io
import os
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
    """A flat file of uint16 tokens, of which nothing stays in this process's memory.

    It is read piece by piece and not mapped: a mapped page counts as resident until it
    is let go, and how many of them come with one that is touched is up to the kernel
    (64 kB, or two MB of a file that was written at once). The system's cache has what
    is read often.
    """

    def __init__(self, path: Path):
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115, kept open
        self._size = os.fstat(self._file.fileno()).st_size // 2

    def __len__(self) -> int:
        return self._size

    def windows(self, length: int, numbers: np.ndarray) -> np.ndarray:
        """int32 [len(numbers), length]: the given windows of `length` tokens each."""
        return self._pieces(numbers, length).reshape(len(numbers), length)

    def at(self, places: np.ndarray) -> np.ndarray:
        """int32 [...]: the tokens at places that mostly follow each other."""
        return self._pieces(places.ravel(), 1).reshape(places.shape)

    def slice(self, start: int, stop: int) -> np.ndarray:
        """int32 [stop - start]."""
        found = np.empty(stop - start, "<u2")
        if len(found):
            self._read(memoryview(found).cast("B"), 2 * start)
        return found.astype(np.int32)

    def _pieces(self, numbers: np.ndarray, length: int) -> np.ndarray:
        """int32 [len(numbers) * length]: windows, those that follow in one read."""
        found = np.empty(len(numbers) * length, "<u2")
        if not len(found):
            return found.astype(np.int32)
        cuts = np.flatnonzero(np.diff(numbers) != 1) + 1
        begins = np.concatenate(([0], cuts))
        ends = np.append(cuts, len(numbers))
        starts = numbers[begins] * length
        if starts.min() < 0 or (starts + (ends - begins) * length).max() > self._size:
            raise IndexError(f"{self._file.name} has {self._size} tokens")
        into = memoryview(found).cast("B")
        width = 2 * length
        pieces = zip(begins.tolist(), ends.tolist(), starts.tolist(), strict=True)
        for begin, end, start in pieces:
            self._read(into[width * begin : width * end], 2 * start)
        return found.astype(np.int32)

    def _read(self, into: memoryview, offset: int) -> None:
        descriptor = self._file.fileno()
        while count := os.preadv(descriptor, [into], offset):
            into, offset = into[count:], offset + count
            if not into:
                return
        raise OSError(f"{self._file.name} was cut short while it was read")
