"""A Markov source of chosen order over Zipf-like symbols, with its true entropy.

The chance of symbol x (of rank x + 1) after the context c, the last `order` symbols, is

    p(x | c)  in proportion to  exp(spread * z[c, x]) / (x + 1)^tail,   z ~ N(0, 1)

so contexts too are frequent or rare by a power law, and a model learns the frequent
ones first. An n-gram model of order + 1 that counts long enough reaches the truth
(Shannon 1948, "A mathematical theory of communication", section 3).

A document begins in the stationary distribution and ends after each symbol with the
chance 1 / document.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from scaling.canonical import Scalar
from scaling.corpora import _known
from scaling.errors import UserError

LICENCE = _known.LICENCE
SOURCE = _known.SOURCE

# Chances that a source may keep in memory.
MOST = 1 << 24
# Steps to the stationary distribution: some dozens unless the source is a near cycle.
MOST_STEPS = 5_000


@dataclasses.dataclass(frozen=True)
class Markov:
    """Options.

    Attributes:
      order: symbols that the next one depends on.
      symbols: of the alphabet.
      tail: Zipf's exponent of the symbols; 0 makes all contexts about as frequent.
      spread: of the log chances between contexts; 0 makes symbols independent.
      document: symbols of a document, on average.
    """

    order: int = 2
    symbols: int = 16
    tail: float = 1.0
    spread: float = 1.0
    document: int = 256
    tokens: int = 8_000_000
    seed: int = 0

    def check(self) -> None:
        _known.within("symbols", self.symbols, 1, _known.SYMBOLS)
        _known.within("order", self.order, 0)
        most = 0
        while self.symbols ** (most + 2) <= MOST and most < self.order:
            most += 1
        _known.within("order", self.order, 0, most)
        _known.within("tail", self.tail, 0, 10)
        _known.within("spread", self.spread, 0, 10)
        _known.within("document", self.document, 1)

    @functools.cached_property
    def chances(self) -> list[np.ndarray]:
        """[symbols^j, symbols] for j = 0 to order: the next symbol's after j of them.

        The older of the known symbols count more in the row's number.
        """
        count = self.symbols
        draw = _known.parameters(self)
        logs = self.spread * draw.standard_normal((count**self.order, count))
        table = np.exp(logs) * _known.zipf(count, self.tail)
        table /= table.sum(1, keepdims=True)
        joint = _stationary(table)[:, None] * table  # of order + 1 symbols in a row
        marginals = [
            joint.reshape(count**j, count, -1).sum(-1) for j in range(self.order)
        ]
        return [m / m.sum(1, keepdims=True) for m in marginals] + [table]

    def sample(self, draws: list[np.random.Generator]) -> list[bytes]:
        end = 1.0 / self.document
        lengths = _known.count_until_end(np.array([d.random() for d in draws]), end)
        rows, active = _known.in_step(lengths)
        uniform = np.zeros((len(active), len(draws)))
        for column, row in enumerate(rows):
            uniform[: lengths[row], column] = draws[row].random(lengths[row])
        cumulated = [np.cumsum(table, 1) for table in self.chances]
        symbols = np.zeros(uniform.shape, np.uint8)
        context = np.zeros(len(draws), np.int64)
        for t, n in enumerate(active):
            table = cumulated[min(t, self.order)]
            drawn = _known.choose(table[context[:n]], uniform[t, :n])
            symbols[t, :n] = drawn
            context = self._next(context[:n], drawn, t)
        return _known.columns(symbols, lengths, rows)

    def _next(self, context: np.ndarray, symbol: np.ndarray, t: int) -> np.ndarray:
        kept = self.symbols ** min(t + 1, self.order)
        return (context * self.symbols + symbol) % kept

    def nats(self, tokens: np.ndarray, offset: np.ndarray) -> np.ndarray:
        symbols, known = _known.symbols_of(tokens, self.symbols)
        nats = np.zeros(tokens.shape)
        context = np.zeros(len(tokens), np.int64)
        for t in range(tokens.shape[1]):
            table = self.chances[min(t, self.order)]
            nats[:, t] = -np.log(table[context, symbols[:, t]])
            context = self._next(context, symbols[:, t], t)
        nats = np.where(known, nats, np.inf)
        return _known.with_ends(nats, tokens, offset, 1.0 / self.document)

    def entropy(self, length: int) -> tuple[float, float]:
        """Exact. Symbol t of a document exists with chance (1 - end)^t."""
        end = 1.0 / self.document
        frequency = [np.ones(1)]
        for table in self.chances[:-1]:
            frequency.append((frequency[-1][:, None] * table).reshape(-1))
        rates = [
            float(f @ _known.entropy_of(table))
            for f, table in zip(frequency, self.chances, strict=True)
        ]
        by_place = np.array([rates[min(i, self.order)] for i in range(length)])
        reached = (1.0 - end) ** np.arange(length)
        symbols = (reached * by_place).sum() / (1.0 - (1.0 - end) ** length)
        total = symbols + self.document * _known.entropy_of_end(end)
        return float(total / (self.document + 1)), 0.0


def _stationary(table: np.ndarray) -> np.ndarray:
    """float64 [contexts]: how frequent each context is, by power iteration.

    Raises UserError for a source that takes too long to forget where it began.
    """
    contexts, count = table.shape
    frequency = np.full(contexts, 1.0 / contexts)
    if contexts == 1:
        return frequency
    for _ in range(MOST_STEPS):
        flow = frequency[:, None] * table
        # The oldest symbol of the context drops out, and the new one joins.
        after = flow.reshape(count, contexts).sum(0)
        after /= after.sum()
        if np.abs(after - frequency).max() < 1e-14 * after.max():
            return after
        frequency = after
    expected = "chances this far apart make nearly a cycle; give less spread or tail"
    raise UserError("data.corpus spread", "markov", expected)


def version(**options: Scalar) -> str:
    return _known.version(_known.made(Markov, options))


def documents(**options: Scalar) -> Iterator[tuple[str, bytes]]:
    """Documents by number; `options` are the fields of `Markov`."""
    return _known.documents(_known.made(Markov, options))


def oracle(tokens: np.ndarray, offset: np.ndarray, /, **options: Scalar) -> np.ndarray:
    """Nats of every token of evaluation windows; see `_known.oracle`."""
    return _known.oracle(_known.made(Markov, options), tokens, offset)


def entropy(length: int, /, **options: Scalar) -> tuple[float, float]:
    """Expected nats a token in windows of this length, and the standard error."""
    return _known.made(Markov, options).entropy(length)
