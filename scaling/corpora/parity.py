"""Multitask sparse parity over Zipf-distributed tasks, written as bytes: quanta.

Michaud, Liu, Girit and Tegmark 2023, "The quantization model of neural scaling",
NeurIPS, section 3. A task is the parity of `subset` of `bits` bits, and the k-th of
`tasks` tasks is asked with a chance in proportion to k^-tail, where the paper's
1 + alpha is 1.4. A line is `bits` random bits and then `queries` questions, each a
task's name and the answer,

    011010011011h1b0a1...

and it ends with a newline or, with the chance 1 / lines, with its document. The paper
asks one question of its bits; here several share them, or most of the loss would be
that of the bits. Which subset is whose is drawn when the source is made.

All answers follow from what stands before them, bits, names and ends are independent:
the entropy of a line is

    bits * log 2 + queries * H(tasks) + H(end)

and it holds for windows of a multiple of bits + 2 * queries + 1 tokens, which begin
where a line does: take such a length. Others cut lines, and their entropy is measured.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator

import numpy as np

from scaling.canonical import Scalar
from scaling.corpora import _known

LICENCE = _known.LICENCE
SOURCE = _known.SOURCE

NAMES = np.array(
    [c for c in range(_known.FIRST, _known.FIRST + _known.SYMBOLS) if c not in b"01"]
)
# Subsets that are listed, to draw from.
MOST = 1 << 18

# By the highest unseen bit in it: which unseen bits add up to which parity.
Equations = dict[int, tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Parity:
    """Options.

    Attributes:
      tasks: subsets of bits, all different.
      bits: random bits of a line.
      subset: bits that an answer is the parity of.
      queries: questions of a line.
      tail: Zipf's exponent of the tasks.
      lines: of a document, on average.
    """

    tasks: int = 64
    bits: int = 12
    subset: int = 3
    queries: int = 10
    tail: float = 1.4
    lines: int = 8
    tokens: int = 8_000_000
    seed: int = 0

    def check(self) -> None:
        _known.within("bits", self.bits, 1, 62)
        _known.within("subset", self.subset, 1, self.bits)
        _known.within("queries", self.queries, 1)
        subsets = math.comb(self.bits, self.subset)
        if subsets > MOST:
            _known.within("subset", self.subset, 1, 3)
        _known.within("tasks", self.tasks, 1, min(len(NAMES), subsets))
        _known.within("tail", self.tail, 0, 10)
        _known.within("lines", self.lines, 1)

    @property
    def period(self) -> int:
        """Tokens of a line with its end."""
        return self.bits + 2 * self.queries + 1

    @functools.cached_property
    def chances(self) -> np.ndarray:
        """[tasks]."""
        return _known.zipf(self.tasks, self.tail)

    @functools.cached_property
    def subsets(self) -> np.ndarray:
        """int [tasks, subset]: the bits of each task."""
        every = np.array(list(itertools.combinations(range(self.bits), self.subset)))
        return every[_known.parameters(self).permutation(len(every))[: self.tasks]]

    def sample(self, draws: list[np.random.Generator]) -> list[bytes]:
        end = 1.0 / self.lines
        counts = _known.count_until_end(np.array([d.random() for d in draws]), end)
        width = self.bits + self.queries
        uniform = np.concatenate(
            [d.random((n, width)) for d, n in zip(draws, counts, strict=True)]
        )
        bits = (uniform[:, : self.bits] < 0.5).astype(np.int64)
        tasks = _known.choose(np.cumsum(self.chances), uniform[:, self.bits :])
        answers = bits[np.arange(len(bits))[:, None, None], self.subsets[tasks]]
        lines = np.full((len(bits), self.period), ord("\n"), np.uint8)
        lines[:, : self.bits] = bits + ord("0")
        lines[:, self.bits : -1 : 2] = NAMES[tasks]
        lines[:, self.bits + 1 : -1 : 2] = answers.sum(-1) % 2 + ord("0")
        by_document = np.split(lines, np.cumsum(counts)[:-1])
        return [texts.tobytes()[:-1] for texts in by_document]

    def nats(self, tokens: np.ndarray, offset: np.ndarray) -> np.ndarray:
        lines, place = _known.in_lines(tokens, offset, self.period)
        bits = lines[:, : self.bits] - ord("0")
        nats = np.zeros(lines.shape)
        nats[:, : self.bits] = np.where((bits == 0) | (bits == 1), math.log(2), np.inf)
        with np.errstate(divide="ignore"):
            names = -np.log(self._of_names)
        nats[:, self.bits : -1 : 2] = names[lines[:, self.bits : -1 : 2]]
        nats[:, self.bits + 1 : -1 : 2] = self._answers(lines)
        nats[:, -1] = _known.line_ends(lines[:, -1], 1.0 / self.lines)
        return nats.reshape(-1)[place]

    @functools.cached_property
    def _of_names(self) -> np.ndarray:
        """[257]: the chance of each token as a task's name; UNSEEN counts as none."""
        chances = np.zeros(_known.SEPARATOR + 1)
        chances[NAMES[: self.tasks]] = self.chances
        return chances

    def _answers(self, lines: np.ndarray) -> np.ndarray:
        """float64 [lines, queries]: nats of the answers."""
        names, answers = lines[:, self.bits : -1 : 2], lines[:, self.bits + 1 : -1 : 2]
        tasks = np.searchsorted(NAMES[: self.tasks], names).clip(0, self.tasks - 1)
        rows = np.arange(len(lines))[:, None, None]
        # "0" is an even number, so that parities are those of the bytes.
        right = lines[rows, self.subsets[tasks]].sum(-1) % 2 + ord("0")
        nats = np.where(answers == right, 0.0, np.inf)
        cut = (lines[:, : self.bits] == _known.UNSEEN).any(1)
        for row in np.flatnonzero(cut):
            nats[row] = self._cut(lines[row])
        return nats

    def _cut(self, line: np.ndarray) -> np.ndarray:
        """float64 [queries]: nats of a line's answers, which begins before its window.

        Unseen bits are unknowns of linear equations modulo 2, one from each answer. An
        answer that they leave open has the chance 1/2. Where even its name is unseen,
        every task is a hypothesis with equations of its own.
        """
        nats = np.zeros(self.queries)
        hypotheses: list[tuple[float, Equations]] = [(1.0, {})]
        for q in range(self.queries):
            name, answer = line[self.bits + 2 * q : self.bits + 2 * q + 2].tolist()
            if answer == _known.UNSEEN:
                continue
            asked = self._asked(name)
            grown = [
                (weight * share * chance, equations)
                for weight, before in hypotheses
                for task, share in asked
                for chance, equations in self._learn(line, task, answer, before)
            ]
            total = sum(weight for weight, _ in hypotheses)
            chance = sum(weight for weight, _ in grown) / total
            if chance == 0.0:  # no line of this source
                nats[q:] = np.inf
                break
            nats[q], hypotheses = -math.log(chance), grown
        return nats

    def _asked(self, name: int) -> list[tuple[int, float]]:
        """Tasks that a name may stand for, and their chances."""
        if name == _known.UNSEEN:
            return list(enumerate(self.chances.tolist()))
        return [(t, 1.0) for t in range(self.tasks) if NAMES[t] == name]

    def _learn(
        self, line: np.ndarray, task: int, answer: int, before: Equations
    ) -> list[tuple[float, Equations]]:
        """The answer's chance and the equations after it; nothing if it contradicts."""
        if answer not in (ord("0"), ord("1")):
            return []
        mask, parity = 0, answer - ord("0")
        for bit in self.subsets[task].tolist():
            if line[bit] == _known.UNSEEN:
                mask ^= 1 << bit
            else:
                parity ^= int(line[bit]) - ord("0")
        while mask.bit_length() in before:
            known_mask, known_parity = before[mask.bit_length()]
            mask, parity = mask ^ known_mask, parity ^ known_parity
        if mask:
            return [(0.5, before | {mask.bit_length(): (mask, parity)})]
        return [(1.0, before)] if parity == 0 else []

    def entropy(self, length: int) -> tuple[float, float]:
        if length % self.period:
            return _known.measured(self, length)
        total = self.bits * math.log(2) + _known.entropy_of_end(1.0 / self.lines)
        total += self.queries * float(_known.entropy_of(self.chances))
        return total / self.period, 0.0


def version(**options: Scalar) -> str:
    return _known.version(_known.made(Parity, options))


def documents(**options: Scalar) -> Iterator[tuple[str, bytes]]:
    """Documents by number; `options` are the fields of `Parity`."""
    return _known.documents(_known.made(Parity, options))


def oracle(tokens: np.ndarray, offset: np.ndarray, /, **options: Scalar) -> np.ndarray:
    """Nats of every token of evaluation windows; see `_known.oracle`."""
    return _known.oracle(_known.made(Parity, options), tokens, offset)


def entropy(length: int, /, **options: Scalar) -> tuple[float, float]:
    """Expected nats a token in windows of this length, and the standard error."""
    return _known.made(Parity, options).entropy(length)
