"""Shared code of the synthetic corpora, whose true token probabilities are known.

A source is a frozen dataclass. Its fields are the corpus's options, and it gives
documents by number and the true probability of every token. A document consists of
symbols, printable ASCII, and ends with the same probability wherever it may end; so the
text after a window's start has the same distribution as that after a document's start.

Exact duplicates are dropped as from every corpus. These are documents of a symbol or
two, so such documents are slightly rarer than their probability says.

A document is a function of the source and its number alone. The size of a batch and the
number of processes do not change it, and a smaller corpus is a prefix of a larger one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import itertools
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from typing import IO, Any, Protocol

import numpy as np

from scaling.canonical import Scalar
from scaling.corpora._evaluation import ratio
from scaling.errors import UserError, unknown

LICENCE = "none needed: made from its options"
SOURCE = "made from its options by scaling/corpora"

FIRST = ord("!")
SYMBOLS = ord("~") - FIRST + 1
SEPARATOR = 256  # of the byte tokenizer, the only one whose tokens have a known chance

# Marks a token that is outside the window or after the end of its document.
UNSEEN = -1

# Documents that are made at a time, in step with each other.
BLOCK = 512
# This process makes about so many tokens in the time that a child takes to start.
ALONE = 1 << 20
# Documents of this number and up are in no corpus: entropies are measured on them.
FRESH = 1 << 62

MADE = "1"  # counts changes to what the sources make


class Source(Protocol):
    """The interface of a synthetic source. Nats are -log p of a token.

    Attributes:
      tokens: size of the corpus, separators included.
      seed: keys both the source's own parameters and its documents.
    """

    @property
    def tokens(self) -> int: ...

    @property
    def seed(self) -> int: ...

    def check(self) -> None:
        """Raises UserError for options from which no source can be made."""

    def sample(self, draws: list[np.random.Generator]) -> list[bytes]:
        """A document from each generator."""

    def nats(self, tokens: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """float64 [n, length]: see `oracle`."""

    def entropy(self, length: int) -> tuple[float, float]:
        """See `entropy`."""


def made(kind: Any, options: Mapping[str, Scalar]) -> Any:
    """The source with these options, the same object for the same ones.

    Args:
      kind: a dataclass that is a `Source`.

    Raises:
      UserError: unknown options, values of another type or out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in options.items():
        if name not in fields:
            raise unknown(f"data.corpus {kind.__name__.lower()}", name, fields)
        wanted = type(fields[name].default)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (wanted is float and isinstance(value, float))):
            what = "a whole number" if wanted is int else "a number"
            raise UserError(f"data.corpus {name}", value, f"give {what}")
    return _made(kind, tuple(sorted(options.items())))


@functools.lru_cache(maxsize=8)
def _made(kind: Any, options: tuple[tuple[str, Scalar], ...]) -> Any:
    source = kind(**dict(options))
    if hasattr(source, "tokens"):  # a source of text
        within("tokens", source.tokens, 1)
    within("seed", source.seed, 0)
    source.check()
    return source


def within(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raises UserError for an option outside of its range."""
    if not low <= value <= high or not math.isfinite(value):
        above = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
        raise UserError(f"data.corpus {name}", value, f"give {above}")


# --- Randomness ----------------------------------------------------------------


def parameters(source: Source) -> np.random.Generator:
    """The generator of a source's own parameters."""
    return np.random.Generator(np.random.Philox(key=_key(source, "parameters")))


def _key(source: Source, purpose: str) -> np.ndarray:
    text = f"{type(source).__name__}/{source.seed}/{purpose}"
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<u8")


def block(source: Source, first: int, count: int) -> list[bytes]:
    """Documents `first` to `first + count`, each from a generator of its own."""
    key = _key(source, "documents")
    draws = []
    for number in range(first, first + count):
        keyed = np.array([key[0], key[1] ^ np.uint64(number)])
        draws.append(np.random.Generator(np.random.Philox(key=keyed)))
    return source.sample(draws)


def zipf(count: int, exponent: float) -> np.ndarray:
    """float64 [count]: chances in proportion to rank^-exponent, rank from 1."""
    weights = np.arange(1.0, count + 1) ** -exponent
    return weights / weights.sum()


def choose(cumulated: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """int64 [...]: by inversion. cumulated [..., k], its last entry 1; uniform [...].

    The last entry is not looked at, so that its rounding cannot lead beyond it.
    """
    return (uniform[..., None] >= cumulated[..., :-1]).sum(-1)


def count_until_end(uniform: np.ndarray, chance: float) -> np.ndarray:
    """int64 [...]: trials until the first end, 1 or more, each with this chance."""
    if chance == 1.0:
        return np.ones(np.shape(uniform), np.int64)
    # The geometric distribution by inversion: P(more than n) = (1 - chance)^n.
    ended = np.floor(np.log1p(-uniform) / math.log1p(-chance))
    return 1 + ended.astype(np.int64)


def in_step(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How to go through ragged rows column by column with full vectors.

    Returns the rows [n], the longest first, and for each column [max(lengths)] how
    many of these rows reach it.
    """
    order = np.argsort(-lengths, kind="stable")
    # Rows that reach column c are those whose length is above c.
    ends = np.bincount(lengths, minlength=lengths.max() + 1)
    return order, len(lengths) - np.cumsum(ends)[:-1]


def columns(symbols: np.ndarray, lengths: np.ndarray, rows: np.ndarray) -> list[bytes]:
    """Texts from uint8 [steps, n], the columns in the order of `in_step`'s rows."""
    texts = [b""] * len(rows)
    for column, row in enumerate(rows):
        texts[row] = (symbols[: lengths[row], column] + np.uint8(FIRST)).tobytes()
    return texts


# --- Documents -------------------------------------------------------------------


def version(source: Source) -> str:
    """The options fix the text, so the version names its maker alone."""
    return f"{type(source).__name__} {MADE}"


def documents(
    source: Source,
    children: int | None = None,
    size: int = BLOCK,
    alone: int = ALONE,
) -> Iterator[tuple[str, bytes]]:
    """(number, text) of the source's documents until it has its tokens.

    What is made does not depend on who makes it.

    Args:
      children: processes that make them; by default one a core.
      size: documents made at a time.
      alone: tokens that this process makes before it starts children.
    """
    left, number = source.tokens, 0
    with contextlib.closing(_blocks(source, children, size, alone)) as blocks:
        for text in itertools.chain.from_iterable(blocks):
            if left <= 0:
                return
            yield str(number), text
            left -= len(text) + 1
            number += 1


def _blocks(
    source: Source, children: int | None, size: int, alone: int
) -> Generator[list[bytes], None, None]:
    first = made_here = 0
    while made_here < alone:
        texts = block(source, first, size)
        yield texts
        made_here += sum(map(len, texts))
        first += size
    count = children or min(os.cpu_count() or 1, 8)
    yield from _in_children(source, first, count, size)


def _in_children(
    source: Source, first: int, count: int, size: int
) -> Iterator[list[bytes]]:
    """Blocks from document `first` on, every child making every `count`-th."""
    kind, options = type(source), dataclasses.asdict(source)  # type: ignore[call-overload]
    about = json.dumps([kind.__module__, kind.__name__, options, first, count, size])
    command = [sys.executable, "-m", __name__, about]
    running = [
        subprocess.Popen([*command, str(child)], stdout=subprocess.PIPE)
        for child in range(count)
    ]
    try:
        while True:
            for child in running:
                assert child.stdout is not None
                yield pickle.load(child.stdout)
    finally:
        for child in running:
            assert child.stdout is not None
            child.terminate()
            child.stdout.close()
            child.wait()


def _child(about: str, child: int, out: IO[bytes]) -> None:
    """Makes blocks until the parent, who has enough, ends this process."""
    module, name, options, first, count, size = json.loads(about)
    source = made(getattr(importlib.import_module(module), name), options)
    first += child * size
    while True:
        pickle.dump(block(source, first, size), out)
        out.flush()
        first += count * size


# --- Truth -----------------------------------------------------------------------


def oracle(source: Source, tokens: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """float64 [n, length]: -log of each token's true chance, 0 after a separator.

    What is known is the source, the tokens before it in its window and where in its
    document the window begins: never what comes before the window, which no model
    sees either.

    Args:
      tokens: int [n, length], bytes; separators from the document's end on.
      offset: int [n], place of each window's first token in its document.
    """
    # True behind the first separator, not on it.
    ended = np.cumsum(tokens == SEPARATOR, 1) - (tokens == SEPARATOR) > 0
    nats = source.nats(np.where(ended, UNSEEN, tokens), offset)
    return np.where(ended, 0.0, nats)


def symbols_of(tokens: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols of bytes, 0 where a byte is none, and whether it is one; both [...]."""
    symbols = tokens - FIRST
    known = (symbols >= 0) & (symbols < count)
    return np.where(known, symbols, 0), known


def with_ends(
    nats: np.ndarray, tokens: np.ndarray, offset: np.ndarray, end: float
) -> np.ndarray:
    """float64 [n, length]: nats of symbols, to which a chance of the end is added.

    A document ends before any symbol but its first with the chance `end`.

    Args:
      nats: of the symbol if the document goes on, infinite where it is none.
    """
    place = offset[:, None] + np.arange(tokens.shape[1])
    ends = np.where(place > 0, end, 0.0)
    with np.errstate(divide="ignore"):
        # p(end) = e; p(symbol) = (1 - e) p(symbol | it goes on).
        return np.where(tokens == SEPARATOR, -np.log(ends), nats - np.log1p(-ends))


def line_ends(tokens: np.ndarray, end: float) -> np.ndarray:
    """float64 [n]: nats of the last tokens of lines, newlines or separators."""
    chances = np.where(tokens == SEPARATOR, end, 0.0)
    chances[tokens == ord("\n")] = 1.0 - end
    with np.errstate(divide="ignore"):
        return -np.log(chances)


def in_lines(
    tokens: np.ndarray, offset: np.ndarray, period: int
) -> tuple[np.ndarray, np.ndarray]:
    """Windows as the lines of `period` tokens that their documents are made of.

    Returns int [lines, period], UNSEEN outside of the window, and int [n, length],
    where each token of the windows stands among these.
    """
    # A window that begins `phase` tokens into a line of its document spans
    # ceil((phase + length) / period) lines.
    phase = offset % period
    counts = (phase + tokens.shape[1] - 1) // period + 1
    first = np.cumsum(counts) - counts
    start = first * period + phase
    place = start[:, None] + np.arange(tokens.shape[1])
    lines = np.full(counts.sum() * period, UNSEEN, np.int64)
    lines[place] = tokens
    return lines.reshape(-1, period), place


def windows(
    texts: list[bytes], length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Documents cut as evaluation cuts them.

    Returns tokens [n, length], weight [n, length], offset [n] and document [n].
    """
    counts = np.array([len(text) // length + 1 for text in texts])
    tokens = np.full((counts.sum(), length), SEPARATOR, np.int32)
    weight = np.zeros(tokens.shape)
    document = np.repeat(np.arange(len(texts)), counts)
    first = np.cumsum(counts) - counts
    for row, text in zip(first, texts, strict=True):
        tokens[row:].reshape(-1)[: len(text)] = np.frombuffer(text, np.uint8)
        weight[row:].reshape(-1)[: len(text) + 1] = 1.0
    offset = (np.arange(len(document)) - first[document]) * length
    return tokens, weight, offset, document


def measured(source: Source, length: int, count: int = 2_048) -> tuple[float, float]:
    """Entropy with its standard error, on documents that no corpus holds."""
    tokens, weight, offset, document = windows(block(source, FRESH, count), length)
    nats = (oracle(source, tokens, offset) * weight).sum(1)
    # A ratio of sums, nats over tokens, clustered by document (see `ratio`).
    by_document = np.bincount(document, nats)
    mean, variance = ratio(by_document, np.bincount(document, weight.sum(1)))
    return mean, math.sqrt(variance)


def entropy_of(chances: np.ndarray) -> np.ndarray:
    """float64 [...]: nats of the distributions [..., k]."""
    logs = np.log(chances, where=chances > 0, out=np.zeros_like(chances))
    return -(chances * logs).sum(-1)


def entropy_of_end(chance: float) -> float:
    """Nats of whether a document ends here."""
    return float(entropy_of(np.array([chance, 1.0 - chance])))


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), sys.stdout.buffer)
