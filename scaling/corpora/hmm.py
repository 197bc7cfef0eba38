"""A mixture of hidden Markov models, scored by the forward algorithm.

A document is drawn from one of `components` models, the k-th with a chance in
proportion to k^-tail: what is rare is rare as whole documents. Each model has `states`
hidden states; the logs of its transition and emission chances are normal with the
standard deviation `spread`, up to normalisation. The truth is the prediction of the
whole mixture (Rabiner 1989, "A tutorial on hidden Markov models", equations 19 to 21):
the first tokens of a window are spent on finding out which model it is.

A document begins in its model's stationary distribution and ends after each symbol with
the chance 1 / document. The entropy has no closed form and is measured.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from scaling.canonical import Scalar
from scaling.corpora import _known

LICENCE = _known.LICENCE
SOURCE = _known.SOURCE

# Chances that a source may keep in memory.
MOST = 1 << 22


@dataclasses.dataclass(frozen=True)
class HMM:
    """Options.

    Attributes:
      components: models in the mixture.
      states: hidden states of each.
      symbols: of the alphabet, the same for all.
      tail: Zipf's exponent of the models' shares.
      spread: of the log chances; 0 makes symbols independent and uniform.
      document: symbols of a document, on average.
    """

    components: int = 16
    states: int = 8
    symbols: int = 16
    tail: float = 1.0
    spread: float = 2.0
    document: int = 256
    tokens: int = 8_000_000
    seed: int = 0

    def check(self) -> None:
        _known.within("symbols", self.symbols, 1, _known.SYMBOLS)
        _known.within("states", self.states, 1, 256)
        widest = max(self.states, self.symbols)
        most = MOST // (self.states * widest)
        _known.within("components", self.components, 1, most)
        _known.within("tail", self.tail, 0, 10)
        _known.within("spread", self.spread, 0, 4)
        _known.within("document", self.document, 1)

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """[components]."""
        return _known.zipf(self.components, self.tail)

    @functools.cached_property
    def chances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First state [components, states], transitions [.., states, states] and
        emissions [.., states, symbols]."""
        draw = _known.parameters(self)
        shape = (self.components, self.states)
        move = np.exp(self.spread * draw.standard_normal((*shape, self.states)))
        emit = np.exp(self.spread * draw.standard_normal((*shape, self.symbols)))
        move /= move.sum(-1, keepdims=True)
        emit /= emit.sum(-1, keepdims=True)
        return _stationary(move), move, emit

    def sample(self, draws: list[np.random.Generator]) -> list[bytes]:
        first, move, emit = (np.cumsum(table, -1) for table in self.chances)
        heads = np.array([draw.random(3) for draw in draws])
        lengths = _known.count_until_end(heads[:, 0], 1.0 / self.document)
        rows, active = _known.in_step(lengths)
        uniform = np.zeros((len(active), len(draws), 2))
        for column, row in enumerate(rows):
            uniform[: lengths[row], column] = draws[row].random((lengths[row], 2))
        component = _known.choose(np.cumsum(self.shares), heads[rows, 1])
        state = _known.choose(first[component], heads[rows, 2])
        symbols = np.zeros(uniform.shape[:2], np.uint8)
        for t, n in enumerate(active):
            model, state = component[:n], state[:n]
            symbols[t, :n] = _known.choose(emit[model, state], uniform[t, :n, 0])
            state = _known.choose(move[model, state], uniform[t, :n, 1])
        return _known.columns(symbols, lengths, rows)

    def nats(self, tokens: np.ndarray, offset: np.ndarray) -> np.ndarray:
        symbols, known = _known.symbols_of(tokens, self.symbols)
        first, move, emit = self.chances
        joint = np.broadcast_to(
            self.shares[:, None] * first, (len(tokens), *first.shape)
        )
        nats = np.zeros(tokens.shape)
        for t in range(tokens.shape[1]):
            seen = joint * emit[:, :, symbols[:, t]].transpose(2, 0, 1)
            chance = seen.sum((1, 2))
            nats[:, t] = -np.log(chance)
            seen /= chance[:, None, None]
            joint = np.einsum("ncs,csr->ncr", seen, move)
        nats = np.where(known, nats, np.inf)
        return _known.with_ends(nats, tokens, offset, 1.0 / self.document)

    def entropy(self, length: int) -> tuple[float, float]:
        return _known.measured(self, length)


def _stationary(move: np.ndarray) -> np.ndarray:
    """float64 [components, states]: how frequent each state is.

    It solves f (move - 1) = 0 with the frequencies' sum, 1, in place of one equation.
    """
    states = move.shape[-1]
    system = np.swapaxes(move - np.eye(states), -1, -2).copy()
    system[:, -1] = 1.0
    right = np.zeros((len(move), states, 1))
    right[:, -1] = 1.0
    frequency = np.clip(np.linalg.solve(system, right)[..., 0], 0.0, None)
    return frequency / frequency.sum(-1, keepdims=True)


def version(**options: Scalar) -> str:
    return _known.version(_known.made(HMM, options))


def documents(**options: Scalar) -> Iterator[tuple[str, bytes]]:
    """Documents by number; `options` are the fields of `HMM`."""
    return _known.documents(_known.made(HMM, options))


def oracle(tokens: np.ndarray, offset: np.ndarray, /, **options: Scalar) -> np.ndarray:
    """Nats of every token of evaluation windows; see `_known.oracle`."""
    return _known.oracle(_known.made(HMM, options), tokens, offset)


def entropy(length: int, /, **options: Scalar) -> tuple[float, float]:
    """Expected nats a token in windows of this length, and the standard error."""
    return _known.made(HMM, options).entropy(length)
