"""Chooses probe sets: positions of held-out text with known inclusion probabilities.

Held-out documents, in the order of their hash, are cut into at most `per_document`
stretches of whole evaluation windows each. Every token has a size that depends only on
its kind (`_classes.kinds`): the kind's share to the power -1/2, so that each kind
appears in the sample in proportion to the square root of its share. (Power allocation,
Bankier 1988, The American Statistician 42: rare kinds become frequent enough to
estimate, and the mean over all tokens loses little precision.) Stretches are drawn by
systematic sampling (Madow 1949, Annals of Mathematical Statistics 20) with probability
proportional to the sum of their tokens' sizes, at most 1: the probabilities are added
up stretch by stretch, and a stretch is drawn where the sum passes u, 1 + u, 2 + u, ...
Within a stretch one token is drawn with probability proportional to its size.

So the inclusion probability of each position is known exactly, and its weight is the
inverse. The choice depends on no seed, budget or run: u and the draws are derived from
a hash of the held-out documents.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from scaling import corpora, probe_file
from scaling.corpora import _classes, _tokens
from scaling.corpora._prepared import Prepared
from scaling.corpora._tokens import DOCUMENT, TokenFile
from scaling.errors import UserError
from scaling.run import Probes

# The training split is sampled in pieces of this many tokens, evenly spread over it.
PIECE = 1 << 16
SAMPLE = 1 << 20  # size of the sample in which words are counted, in tokens
COUNTED = 1 << 26  # size of the sample in which tokens are counted, in tokens
# Held-out documents are read in the order of their hash up to this many tokens.
HELD_OUT = 1 << 23


def cut(
    probes: Probes, length: int, prepared: Mapping[str, Prepared]
) -> probe_file.ProbeSet:
    """The probe set of a study's `Probes` in windows of `length` tokens.

    Args:
      prepared: the prepared corpora, by `Part.key`.

    Raises:
      UserError: the held-out documents have too few positions.
    """
    return _cut(probes, length, prepared[probes.part.key])


@functools.lru_cache(maxsize=16)
def _cut(probes: Probes, length: int, corpus: Prepared) -> probe_file.ProbeSet:
    model = corpus.folder / _tokens.MODEL
    vocabulary = model.read_bytes() if model.exists() else None
    pieces = _classes.Pieces(_tokens.load(corpus.tokenizer, vocabulary).pieces())
    text = _HeldOut(corpus, length, probes.per_document, pieces)
    place, weight = text.draw(probes)
    windows, at, offset = text.windows(place)
    classes: dict[str, _classes.Class] = {
        "kind": (text.kind[place], _classes.KINDS),
        "word": (_words(text, place, corpus, pieces), _classes.WORDS),
        **_classes.of_context(windows, at),
    }
    classes |= _of_corpus(probes, windows, at)
    document = text.hashes[text.document[place]]
    return probe_file.ProbeSet(
        tokens=windows,
        at=at,
        document=document,
        offset=offset,
        weight=weight / weight.mean(),
        unigram=_unigram(corpus),
        bytes_per_token=corpus.held_out_bytes / corpus.held_out_tokens,
        classes=classes,
        facts={
            "name": probes.name,
            "corpus": corpus.key,
            "corpus_digest": corpus.digest,
            "tokenizer": corpus.tokenizer,
            "vocab": corpus.vocab,
            "length": length,
            "positions": len(place),
            "documents": len(np.unique(document)),
            "rule": probe_file.RULE,
        },
    )


class _HeldOut:
    """The held-out documents in the order of their hash, and their stretches.

    Attributes:
      tokens: int32 [n], document after document, each with its separator.
      kind: int8 [n], as `_classes.kinds`.
      document: int64 [n], number of the document in this order.
      hashes: uint64 [documents].
      start: int64 [documents], where each begins.
      stretch: int64 [n], number of the stretch, rising.
    """

    def __init__(
        self, corpus: Prepared, length: int, most: int, pieces: _classes.Pieces
    ):
        index = np.fromfile(corpus.folder / "held_out.documents", DOCUMENT)
        sizes = np.diff(index["start"], append=corpus.held_out_tokens)
        order = np.argsort(index["hash"], kind="stable")
        order = order[: np.searchsorted(np.cumsum(sizes[order]), HELD_OUT) + 1]
        sizes = sizes[order]
        self._length, self._separator = length, corpus.separator
        self.hashes = index["hash"][order]
        self.start = np.cumsum(sizes) - sizes
        self.document = np.repeat(np.arange(len(order)), sizes)
        inside = np.arange(sizes.sum()) - self.start[self.document]
        file = TokenFile(corpus.folder / "held_out.tokens")
        self.tokens = file.at(index["start"][order][self.document] + inside)
        self.kind = _classes.kinds(self.tokens, pieces)
        windows = -(-sizes // length)
        stretches = np.minimum(windows, most)
        of_document = inside // length * stretches[self.document]
        of_document //= windows[self.document]
        self.stretch = (np.cumsum(stretches) - stretches)[self.document] + of_document

    def draw(self, probes: Probes) -> tuple[np.ndarray, np.ndarray]:
        """Places of the positions in `tokens`, rising, and one over their chances."""
        first = np.flatnonzero(np.diff(self.stretch, prepend=-1))
        if len(first) < probes.positions:
            raise _too_few(probes, len(self.hashes), len(first))
        shares = np.bincount(self.kind, minlength=len(_classes.KINDS)) / len(self.kind)
        size = np.maximum(shares, 1e-12)[self.kind] ** -0.5
        total = np.add.reduceat(size, first)
        chance = _chances(total, probes.positions)
        uniform = _uniforms(probes, self.hashes, self.document[first])
        chosen = _systematic(chance, uniform[0])
        cumulated = np.cumsum(size)
        # The place at which the sizes of the stretch add up to a uniform share of them.
        before = cumulated[first[chosen]] - size[first[chosen]]
        wanted = before + uniform[1:][chosen] * total[chosen]
        place = np.searchsorted(cumulated, wanted, side="right")
        last = np.append(first[1:], len(size))[chosen] - 1
        place = np.clip(place, first[chosen], last)  # rounding leads nowhere else
        return place, total[chosen] / (chance[chosen] * size[place])

    def windows(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The windows that hold the places, as evaluation cuts them.

        Returns int32 [positions, length], int32 and int64 [positions]: the place of the
        target in its window and of the window in its document.
        """
        start = self.start[self.document[place]]
        offset = (place - start) // self._length * self._length
        reach = (start + offset)[:, None] + np.arange(self._length)
        inside = (
            reach
            < np.append(self.start, len(self.tokens))[self.document[place] + 1, None]
        )
        tokens = self.tokens[np.minimum(reach, len(self.tokens) - 1)]
        windows = np.where(inside, tokens, self._separator).astype(np.int32)
        return windows, (place - start - offset).astype(np.int32), offset


def _too_few(probes: Probes, documents: int, stretches: int) -> UserError:
    fewer = f"give {stretches:,} positions or fewer"
    if probes.per_document == 1:
        each = -(-probes.positions // documents)
        return UserError(
            "probes.positions",
            probes.positions,
            f"{probes.part.key} holds out {documents:,} documents; {fewer}, or let a "
            f"document have several, per_document={4 * each}",
        )
    return UserError(
        "probes.positions",
        probes.positions,
        f"{probes.part.key} holds out {documents:,} documents, which at most "
        f"{probes.per_document} a document give {stretches:,}; {fewer}, or more of "
        "them a document (probes.per_document)",
    )


def _chances(total: np.ndarray, count: int) -> np.ndarray:
    """float64 [stretches]: in proportion to `total`, at most 1, `count` in all."""
    certain = np.zeros(len(total), bool)
    while True:
        left = count - certain.sum()
        chance = np.where(certain, 1.0, left * total / total[~certain].sum())
        more = ~certain & (chance >= 1.0)
        if not more.any() or left == 0:
            return np.minimum(chance, 1.0)
        certain |= more
        if certain.all():
            return np.ones(len(total))


def _systematic(chance: np.ndarray, uniform: float) -> np.ndarray:
    """int64 [count]: the stretches in which the sum of chances passes a mark."""
    reached = np.cumsum(chance)
    reached *= round(reached[-1]) / reached[-1]  # a whole number, without rounding
    marks = np.floor(reached - uniform) + 1.0  # those passed: u, 1 + u, ...
    return np.flatnonzero(np.diff(marks, prepend=0.0) > 0)


def _uniforms(probes: Probes, hashes: np.ndarray, document: np.ndarray) -> np.ndarray:
    """float64 [1 + stretches]: the systematic start, and one for each stretch."""
    # Not of the corpus's name: a folder of text that is moved keeps its positions.
    text = f"{probes.positions}/{probes.per_document}"
    key = hashlib.sha256(text.encode() + hashes.astype("<u8").tobytes()).digest()
    draw = np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], "<u8")))
    return draw.random(1 + len(document))


def _words(
    text: _HeldOut, place: np.ndarray, corpus: Prepared, pieces: _classes.Pieces
) -> np.ndarray:
    """int8 [positions]: how common the word is that each belongs to, -1 for none."""
    number, hashes = _classes.words(text.tokens, text.kind, pieces)
    read = np.concatenate(list(_pieces_of_training(corpus, SAMPLE)))
    sample = _classes.words(read, _classes.kinds(read, pieces), pieces)[1]
    mine = number[place]
    asked = hashes[np.maximum(mine, 0)] if len(hashes) else np.zeros(len(mine), "u8")
    return np.where(mine < 0, -1, _classes.commonness(asked, sample))


def _unigram(corpus: Prepared) -> np.ndarray:
    """float64 [vocab]: shares of the training split's tokens, one added to each."""
    counts = np.ones(corpus.vocab)
    for piece in _pieces_of_training(corpus, COUNTED):
        counts += np.bincount(piece, minlength=corpus.vocab)
    return counts / counts.sum()


def _pieces_of_training(corpus: Prepared, most: int) -> Iterator[np.ndarray]:
    """int32 [up to PIECE] each: all of the training split, or `most` tokens of it."""
    file = TokenFile(corpus.folder / "train.tokens")
    count = -(-len(file) // PIECE)
    kept = min(count, most // PIECE)
    for i in range(kept):
        start = i * count // kept * PIECE
        yield file.slice(start, min(start + PIECE, len(file)))


def _of_corpus(
    probes: Probes, tokens: np.ndarray, at: np.ndarray
) -> dict[str, _classes.Class]:
    """Classes from the corpus's own file. Raises UserError where they are malformed."""
    module = corpora.load(probes.part.name)
    if not hasattr(module, "classes"):
        return {}
    found = {}
    for name, given in module.classes(tokens, at, **dict(probes.part.options)).items():
        try:
            codes, levels = np.asarray(given[0]), tuple(map(str, given[1]))
            sound = codes.shape == at.shape and codes.dtype.kind in "iu"
            sound = sound and codes.min() >= -1 and codes.max() < min(len(levels), 128)
        except (TypeError, ValueError, IndexError, KeyError):
            sound = False
        if not sound or name in ("kind", "word", "repeat", "back"):
            raise UserError(
                "data.corpus classes",
                f"{probes.part.name} {name}",
                "give under a name of its own (codes, levels): a whole number for each "
                "position, -1 or an index of the levels' names",
            )
        found[name] = (codes, levels)
    return found
