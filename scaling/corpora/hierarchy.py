"""The random hierarchy model, a random context-free grammar, by the inside recursion.

Cagnetti, Petrini, Tomasini, Favero and Wyart 2024, "How deep neural networks learn
compositional data: the random hierarchy model", Physical Review X 14, 031001; as a
language, with prediction of the next token, Cagnetti and Wyart 2024, "Towards a theory
of how the structure of language is acquired by deep neural networks", NeurIPS.

A sentence is a tree of `depth` levels. The root is one of `symbols`, uniformly; each
symbol is rewritten into `branching` symbols of the next level by one of `rules` rules
of its own, drawn when the source is made so that no right-hand side belongs to two
symbols. The k-th rule is taken with a chance in proportion to k^-tail; 0, uniform, is
the paper's. Leaves are written as bytes, each sentence ends with a newline or, with the
chance 1 / sentences, with its document.

As a string has one derivation, the entropy of a sentence is in closed form

    log(symbols) + (branching^depth - 1) / (branching - 1) * H(rules)

and it holds for windows of a multiple of branching^depth + 1 tokens, which begin where
a sentence does: take such a length. Others cut sentences; their entropy is measured.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np

from scaling.canonical import Scalar
from scaling.corpora import _known

LICENCE = _known.LICENCE
SOURCE = _known.SOURCE

# Right-hand sides and leaves that a source may have.
MOST = 1 << 20
LEAVES = 1 << 12
# Numbers in the messages of the sentences that are scored at a time.
MESSAGES = 1 << 22
TINY = np.finfo(np.float64).tiny


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """Options.

    Attributes:
      symbols: of every level.
      rules: of every symbol, at most symbols^(branching - 1).
      branching: symbols that a rule gives.
      depth: levels of rules.
      tail: Zipf's exponent of the rules' chances.
      sentences: of a document, on average.
    """

    symbols: int = 16
    rules: int = 4
    branching: int = 2
    depth: int = 5
    tail: float = 0.0
    sentences: int = 8
    tokens: int = 8_000_000
    seed: int = 0

    def check(self) -> None:
        _known.within("symbols", self.symbols, 1, _known.SYMBOLS)
        most = int(math.log(MOST) / math.log(max(self.symbols, 2)))
        _known.within("branching", self.branching, 2, most)
        _known.within("rules", self.rules, 1, self.symbols ** (self.branching - 1))
        deepest = int(math.log(LEAVES) / math.log(self.branching))
        _known.within("depth", self.depth, 1, deepest)
        _known.within("tail", self.tail, 0, 10)
        _known.within("sentences", self.sentences, 1)

    @property
    def leaves(self) -> int:
        return self.branching**self.depth

    @property
    def period(self) -> int:
        """Tokens of a sentence with its end."""
        return self.leaves + 1

    @functools.cached_property
    def chances(self) -> np.ndarray:
        """[rules]."""
        return _known.zipf(self.rules, self.tail)

    @functools.cached_property
    def grammar(self) -> np.ndarray:
        """int [depth, symbols, rules, branching]: right-hand sides, by level."""
        draw = _known.parameters(self)
        sides = np.indices((self.symbols,) * self.branching)
        sides = sides.reshape(self.branching, -1).T
        shape = (self.symbols, self.rules, self.branching)
        count = self.symbols * self.rules
        levels = [
            sides[draw.permutation(len(sides))[:count]].reshape(shape)
            for _ in range(self.depth)
        ]
        return np.stack(levels)

    def sample(self, draws: list[np.random.Generator]) -> list[bytes]:
        end = 1.0 / self.sentences
        counts = _known.count_until_end(np.array([d.random() for d in draws]), end)
        inner = (self.leaves - 1) // (self.branching - 1)
        uniform = np.concatenate(
            [d.random((n, 1 + inner)) for d, n in zip(draws, counts, strict=True)]
        )
        leaves = self._leaves(uniform)
        lines = np.full((len(leaves), self.period), ord("\n"), np.uint8)
        lines[:, :-1] = leaves + _known.FIRST
        by_document = np.split(lines, np.cumsum(counts)[:-1])
        return [sentences.tobytes()[:-1] for sentences in by_document]

    def _leaves(self, uniform: np.ndarray) -> np.ndarray:
        """int [n, leaves]: sentences from uniforms [n, 1 + inner nodes]."""
        level = (uniform[:, :1] * self.symbols).astype(np.int64)
        used, cumulated = 1, np.cumsum(self.chances)
        for rules in self.grammar:
            width = level.shape[1]
            rule = _known.choose(cumulated, uniform[:, used : used + width])
            level = rules[level, rule].reshape(len(level), -1)
            used += width
        return level

    def nats(self, tokens: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Sentence by sentence; leaves before the window count as not seen."""
        lines, place = _known.in_lines(tokens, offset, self.period)
        nats = np.zeros(lines.shape)
        nodes = self.period * self.branching // (self.branching - 1)
        rows = max(1, MESSAGES // (nodes * self.symbols))
        for first in range(0, len(lines), rows):
            some = slice(first, first + rows)
            nats[some, :-1] = self._inside(lines[some, :-1])
        nats[:, -1] = _known.line_ends(lines[:, -1], 1.0 / self.sentences)
        return nats.reshape(-1)[place]

    def _inside(self, leaves: np.ndarray) -> np.ndarray:
        """float64 [n, leaves]: nats of each leaf after those before it.

        The inside recursion (Baker 1979) with a message of ones from every subtree
        that is not seen: a leaf that becomes seen changes the messages of its
        ancestors alone, and the root's sum is the chance of all that is seen.
        """
        symbols, known = _known.symbols_of(leaves, self.symbols)
        seen = leaves != _known.UNSEEN
        levels = [self.branching**level for level in range(self.depth + 1)]
        # Long sentences are too improbable for float64: messages have a largest entry
        # of 1, and the logs of what they were divided by add up apart.
        messages = [np.ones((n, len(leaves), self.symbols)) for n in levels]
        scales = [np.zeros((n, len(leaves))) for n in levels]
        nats, before = np.zeros(leaves.shape), np.zeros(len(leaves))
        for t in range(self.leaves):
            one_hot = np.eye(self.symbols)[symbols[:, t]]
            messages[-1][t] = np.where(seen[:, t, None], one_hot, 1.0)
            node = t
            for level in reversed(range(self.depth)):
                node //= self.branching
                children = slice(node * self.branching, (node + 1) * self.branching)
                message = self._up(level, messages[level + 1][children])
                largest = np.maximum(message.max(1), TINY)
                messages[level][node] = message / largest[:, None]
                scale = scales[level + 1][children].sum(0) + np.log(largest)
                scales[level][node] = scale
            with np.errstate(divide="ignore", invalid="ignore"):  # no such sentence
                after = scales[0][0] + np.log(messages[0][0].mean(1))
                nats[:, t] = np.where(known[:, t], before - after, np.inf)
            before = after
        return np.where(seen, nats, 0.0)

    def _up(self, level: int, children: np.ndarray) -> np.ndarray:
        """float64 [n, symbols]: a node's message, from [branching, n, symbols]."""
        product = self.chances
        for j, message in enumerate(children):
            product = product * message[:, self.grammar[level, :, :, j]]
        return product.sum(-1)

    def entropy(self, length: int) -> tuple[float, float]:
        if length % self.period:
            return _known.measured(self, length)
        inner = (self.leaves - 1) / (self.branching - 1)
        total = math.log(self.symbols) + inner * _known.entropy_of(self.chances)
        total += _known.entropy_of_end(1.0 / self.sentences)
        return float(total / self.period), 0.0


def version(**options: Scalar) -> str:
    return _known.version(_known.made(Hierarchy, options))


def documents(**options: Scalar) -> Iterator[tuple[str, bytes]]:
    """Documents by number; `options` are the fields of `Hierarchy`."""
    return _known.documents(_known.made(Hierarchy, options))


def oracle(tokens: np.ndarray, offset: np.ndarray, /, **options: Scalar) -> np.ndarray:
    """Nats of every token of evaluation windows; see `_known.oracle`."""
    return _known.oracle(_known.made(Hierarchy, options), tokens, offset)


def entropy(length: int, /, **options: Scalar) -> tuple[float, float]:
    """Expected nats a token in windows of this length, and the standard error."""
    return _known.made(Hierarchy, options).entropy(length)
