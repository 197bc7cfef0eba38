"""Damages training text in several ways, each with a level from 0 (none) to 1.

    random_bytes    a share `level` of the bytes are random ones
    random_strings  a share `level` of the documents are random printable characters
    shuffled_words  the words of a share `level` of the documents stand in random order
    truncation      every document loses the last share `level` of its bytes
    duplicates      a share `level` of the windows are copies of windows read before

The damage to a byte depends only on its position, its document's hash, the kind and
data.seed, and the level decides how much of it is applied: a higher level includes all
damage of a lower one, byte by byte, and batches remain a pure function of the step.
Nothing is drawn in sequence and nothing is stored. Held-out text is never damaged.

The first three kinds keep every document's position and length. A window finds its
documents by their separators and the index of documents beside the tokens, which also
has the hashes that decide the damage. Words end at white space, which stays in place;
they are shuffled within stretches of `STRETCH` bytes of a document, so that a window
needs to read no more than that.

Truncated text is read as if the rest did not exist: the corpus is smaller, and its
windows and their order differ. The part of a document that a higher level keeps is a
prefix of the part that a lower level keeps.

Duplication copies windows rather than documents, in the order in which a corpus is
read: one window in `ORIGINALS` is always kept, and a share `level` of the others are
replaced by a random one of the kept windows before it. So a copy always repeats text
that the run has read, whatever its budget; early windows are copied most often, and at
level 1 there are 16 times fewer distinct windows than at level 0. Copies count among a
run's unique tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from scaling.corpora._chance import below, keys, mix
from scaling.corpora._tokens import DOCUMENT, TokenFile
from scaling.errors import UserError, unknown
from scaling.run import Data

if TYPE_CHECKING:
    from scaling.corpora._prepared import Prepared

# Long enough that words move far apart, short enough to be read for each window.
STRETCH = 1024
ORIGINALS = 16
BLANK = np.isin(np.arange(257), np.frombuffer(b" \t\n\v\f\r", np.uint8))
PRINTABLE = 32, 95  # the first printable ASCII character, and how many there are

Order = Callable[[np.ndarray], np.ndarray]


class Text:
    """A corpus's training text, as the stream reads it; this one is untouched.

    Attributes:
      tokens: how many there are, separators included.
    """

    def __init__(self, prepared: Prepared, data: Data):
        self._file = TokenFile(prepared.folder / "train.tokens")
        self._folder, self._separator = prepared.folder, prepared.separator
        self._level = data.quality_level
        self._keys = keys(f"quality/{data.quality}/{data.seed}", 2)
        self.tokens = prepared.train_tokens

    def source(self, index: np.ndarray) -> np.ndarray:
        """int64 [n]: the windows, in the order of reading, that `index` are read as."""
        return index

    def windows(self, length: int, numbers: np.ndarray) -> np.ndarray:
        """int32 [n, length]: windows by their number in the text."""
        return self._file.windows(length, numbers)

    def changed(
        self, length: int, index: np.ndarray, order: Order
    ) -> tuple[float, float]:
        """(bytes changed, bytes) of windows that a run reads, separators not counted.

        Args:
          index: int64 [n], in the order of reading.
          order: from there to their numbers.
        """
        clean = self._file.windows(length, order(index))
        read = self.windows(length, order(self.source(index)))
        text = clean != self._separator
        return float((text & (clean != read)).sum()), float(text.sum())


class RandomBytes(Text):
    """Uniform over all 256 values, so one in 256 bytes happens to stay the same."""

    def windows(self, length: int, numbers: np.ndarray) -> np.ndarray:
        tokens, places = _with_places(super().windows(length, numbers), numbers)
        struck = below(places, self._keys[0], self._level)
        struck &= tokens != self._separator
        chance = mix(places[struck].astype(np.uint64), self._keys[1])
        tokens[struck] = chance >> np.uint64(24)
        return tokens


class Documents(Text):
    """Text with its index of documents.

    Attributes:
      starts, ends: int64 [documents], of their bytes; the separator is at the end.
    """

    def __init__(self, prepared: Prepared, data: Data):
        super().__init__(prepared, data)
        index = np.memmap(self._folder / "train.documents", DOCUMENT, "r")
        self.starts = np.ascontiguousarray(index["start"])
        self.ends = np.append(self.starts[1:], prepared.train_tokens) - 1
        self._hashes = index["hash"]


class SomeDocuments(Documents):
    """Documents of which a share is damaged, chosen by their hashes."""

    def __init__(self, prepared: Prepared, data: Data):
        super().__init__(prepared, data)
        self._struck = below(self._hashes, self._keys[0], self._level)

    def _within_struck(self, tokens: np.ndarray, places: np.ndarray) -> np.ndarray:
        """bool [n, length]: the bytes of documents that are damaged."""
        separator = tokens == self._separator
        document = np.cumsum(separator, axis=1) - separator
        document += np.searchsorted(self.starts, places[:, :1], "right") - 1
        return self._struck[document] & ~separator


class RandomStrings(SomeDocuments):
    """Uniformly random printable ASCII characters."""

    def windows(self, length: int, numbers: np.ndarray) -> np.ndarray:
        tokens, places = _with_places(super().windows(length, numbers), numbers)
        struck = self._within_struck(tokens, places)
        chance = mix(places[struck].astype(np.uint64), self._keys[1])
        first, count = PRINTABLE
        tokens[struck] = first + (chance * np.uint64(count) >> np.uint64(32))
        return tokens


class ShuffledWords(SomeDocuments):
    """Words of a stretch in the order of their places' hashes."""

    def windows(self, length: int, numbers: np.ndarray) -> np.ndarray:
        tokens, places = _with_places(super().windows(length, numbers), numbers)
        struck = self._within_struck(tokens, places)
        wanted = places[struck]
        if not wanted.size:
            return tokens
        start = self.starts[np.searchsorted(self.starts, wanted, "right") - 1]
        begins, which = np.unique(
            wanted - (wanted - start) % STRETCH, return_inverse=True
        )
        document = np.searchsorted(self.starts, begins, "right") - 1
        sizes = np.minimum(begins + STRETCH, self.ends[document]) - begins
        base = np.cumsum(sizes) - sizes
        of_stretches = np.repeat(begins - base, sizes) + np.arange(sizes.sum())
        stretches = self._file.at(of_stretches)
        chance = mix(of_stretches.astype(np.uint64), self._keys[1])
        shuffled = stretches[_shuffle(BLANK[stretches], base, chance)]
        tokens[struck] = shuffled[base[which] + wanted - begins[which]]
        return tokens


class Truncation(Documents):
    """Documents without their last bytes."""

    def __init__(self, prepared: Prepared, data: Data):
        super().__init__(prepared, data)
        self._sizes = self.ends - self.starts
        self._kept = np.floor((1.0 - self._level) * self._sizes).astype(np.int64)
        after = np.cumsum(self._kept + 1)
        self._first = after - (self._kept + 1)
        self.tokens = int(after[-1])

    def windows(self, length: int, numbers: np.ndarray) -> np.ndarray:
        document, offset = self._find(length, numbers)
        cut = offset == self._kept[document]
        offset[cut] = self._sizes[document[cut]]
        return self._file.at(self.starts[document] + offset)

    def changed(
        self, length: int, index: np.ndarray, order: Order
    ) -> tuple[float, float]:
        """Bytes cut are counted with what is left of their document, by equal shares.

        So a run that reads a document whole counts all that was cut of it.
        """
        document, offset = self._find(length, order(index))
        cut = (self._sizes - self._kept) / (self._kept + 1)
        lost = float(cut[document].sum())
        return lost, lost + float((offset < self._kept[document]).sum())

    def _find(self, length: int, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(document, offset in it), int64 [n, length], of what is left."""
        places = numbers[:, None] * length + np.arange(length)
        document = np.searchsorted(self._first, places, "right") - 1
        return document, places - self._first[document]


class Duplicates(Text):
    """Windows read as others."""

    def source(self, index: np.ndarray) -> np.ndarray:
        copied = below(index, self._keys[0], self._level) & (index % ORIGINALS > 0)
        before = index[copied] // ORIGINALS + 1  # kept ones
        chance = mix(index[copied].astype(np.uint64), self._keys[1])
        found = index.copy()
        found[copied] = ORIGINALS * (chance.astype(np.int64) * before >> 32)
        return found


KINDS: dict[str, type[Text]] = {
    "duplicates": Duplicates,
    "random_bytes": RandomBytes,
    "random_strings": RandomStrings,
    "shuffled_words": ShuffledWords,
    "truncation": Truncation,
}


def check_quality(data: Data) -> None:
    """Raises UserError for damage that cannot be done."""
    if data.quality and data.quality not in KINDS:
        raise unknown("data.quality", data.quality, sorted(KINDS))
    level = data.quality_level
    if not 0.0 <= level <= 1.0:
        raise UserError("data.quality_level", level, "give a share between 0 and 1")
    if level and not data.quality:
        known = ", ".join(sorted(KINDS))
        raise UserError(
            "data.quality", "", f"give the kind of damage of level {level:g}: {known}"
        )
    if data.quality and data.tokenizer != "bytes":
        raise UserError(
            "data.tokenizer",
            data.tokenizer,
            "give bytes, the only tokenizer that damage works with",
        )


def open_text(data: Data, prepared: Prepared) -> Text:
    """A corpus's training text with the damage that `data` asks for."""
    kind = KINDS[data.quality] if data.quality else Text
    return kind(prepared, data)


def _with_places(
    tokens: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The windows and the places of their tokens in the text, int64 [n, length]."""
    length = tokens.shape[1]
    return tokens, numbers[:, None] * length + np.arange(length)


def _shuffle(blank: np.ndarray, base: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """int64 [n]: where each byte of the stretches comes from.

    Args:
      blank: bool [n], of all stretches one after the other.
      base: int64 [stretches], where each begins.
      chance: uint64 [n]: words are put in the order of their first bytes'.
    """
    cuts = np.zeros(len(blank), bool)
    cuts[base] = True
    cuts[1:] |= blank[1:] != blank[:-1]
    begin = np.flatnonzero(cuts)  # of every word and blank
    size = np.diff(begin, append=len(blank))
    word = np.flatnonzero(~blank[begin])
    stretch = np.searchsorted(base, begin[word], "right")
    origin = np.arange(len(begin))
    origin[word] = word[np.lexsort((chance[begin[word]], stretch))]
    size = size[origin]
    shift = begin[origin] - (np.cumsum(size) - size)
    return np.repeat(shift, size) + np.arange(len(blank))
