"""Token classes: the kinds of positions by which the report compares models.

The same rules hold for all texts:

    kind    the type of token, by its first byte that is not white space
    word    how common the token's word is, by its count in a sample of the training
            text (`_probes.SAMPLE`); none where the token is not part of a word
    repeat  length, in tokens, of the longest end of the context that also occurred
            earlier in the window, followed by the same token
    back    how many tokens ago that earlier match ended (the latest of equally long
            ones); none without a match

A word is a run of ASCII letters and of bytes beyond ASCII, which are letters in most
texts. Digits, underscores and apostrophes end it.

A corpus's own file may add classes of its own:

    classes(tokens, at, /, **options) -> {name: (codes, levels)}
        int [positions], the number of each position's level or -1 for none, and the
        levels' names. tokens: int32 [positions, length], at: int32 [positions]; the
        class is that of tokens[i, at[i]].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KINDS = (
    "first byte of a word",
    "rest of a word",
    "white space",
    "digit",
    "bracket or closing mark",
    "other punctuation",
    "separator",
    "other",
)
FIRST, REST, SPACE, DIGIT, BRACKET, PUNCTUATION, SEPARATOR, OTHER = range(len(KINDS))

WORDS = ("common", "middle", "rare")
# A word with at least the first share of all words in the text is common, one with
# less than the second is rare.
COMMON, RARE = 1e-3, 5e-5

REPEATS = ("none", "1-3", "4-7", "8 or more")
_REPEATS_FROM = (1, 4, 8)
BACKS = ("up to 16", "up to 64", "more than 64")
_BACKS_UP_TO = (16, 64)

Class = tuple[np.ndarray, tuple[str, ...]]


class Pieces:
    """Properties of each token id of a vocabulary that the classes are built from.

    Attributes:
      kind: int8 [vocab], the kind where no word precedes; FIRST for a token that begins
        with a letter.
      apart: bool [vocab], whether white space precedes its first other byte.
      letter: bool [vocab], whether its last byte is a letter.
      letters: uint64 [vocab], a hash of the letters with which it begins or continues a
        word.
    """

    def __init__(self, pieces: Sequence[bytes]):
        """Args: pieces: bytes of every id but the last, the separator."""
        count = len(pieces) + 1
        self.kind = np.full(count, OTHER, np.int8)
        self.apart, self.letter = np.zeros((2, count), bool)
        self.letters = np.zeros(count, np.uint64)
        for i, piece in enumerate(pieces):
            bare = piece.lstrip()
            self.kind[i] = _kind(bare[0]) if bare else (SPACE if piece else OTHER)
            self.apart[i] = bool(bare) and len(bare) < len(piece)
            self.letter[i] = bool(piece) and _is_letter(piece[-1])
            self.letters[i] = _hash(bare.lower() if self.kind[i] == FIRST else b"")
        self.kind[-1] = SEPARATOR


def _is_letter(byte: int) -> bool:
    return byte >= 0x80 or chr(byte).isalpha()


def _kind(byte: int) -> int:
    """Of a token that begins with this byte."""
    if _is_letter(byte):
        return FIRST
    if chr(byte).isdigit():
        return DIGIT
    if byte in b"()[]{}<>\"'`":
        return BRACKET
    return PUNCTUATION if 0x20 < byte < 0x7F else OTHER


def _hash(text: bytes) -> int:
    number = 0
    for byte in text:
        number = (number * 0x100000001B3 + byte + 1) % 2**64
    return number


def kinds(tokens: np.ndarray, pieces: Pieces) -> np.ndarray:
    """int8 [n]: kind of each token of a text, as an index of KINDS.

    Documents follow each other, each with its separator.
    """
    found = pieces.kind[tokens]
    before = np.zeros(len(tokens), bool)  # a letter stands right before
    before[1:] = pieces.letter[tokens[:-1]]
    found[(found == FIRST) & before & ~pieces.apart[tokens]] = REST
    return found


def words(
    tokens: np.ndarray, kind: np.ndarray, pieces: Pieces
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the words of a text: each token's word, and a hash of each word.

    Returns:
      int64 [n], -1 where a token is no part of a word, and uint64 [words].
    """
    inside = (kind == FIRST) | (kind == REST)
    number = np.cumsum(kind == FIRST) - 1
    number = np.where(inside, number, -1)
    # The hash of a word is a polynomial in its tokens' letters, worked out modulo 2^64.
    first = np.flatnonzero(kind == FIRST)
    place = np.arange(len(tokens)) - first[np.maximum(number, 0)] if len(first) else 0
    power = np.cumprod(np.full(_LONGEST, _FACTOR, np.uint64))
    terms = pieces.letters[tokens] * power[np.minimum(place, _LONGEST - 1)]
    terms[~inside] = 0
    return number, np.add.reduceat(terms, first) if len(first) else terms[:0]


_FACTOR = 0x9E3779B97F4A7C15
_LONGEST = 256  # tokens of a word; those beyond it count alike


def commonness(hashes: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """int8 [words]: index of WORDS, by each word's share of the sample's words.

    Args:
      hashes: of the words asked for, as `words` gives them.
      sample: of the running words of the sample.
    """
    known, counts = np.unique(sample, return_counts=True)
    if not len(known):
        return np.full(len(hashes), WORDS.index("rare"), np.int8)
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    share = np.where(known[place] == hashes, counts[place], 0) / len(sample)
    return np.where(share >= COMMON, 0, np.where(share >= RARE, 1, 2)).astype(np.int8)


def repeats(tokens: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How long the longest match is that ends in the target, and how far back.

    With y the target at place t, over all places j < t of the window where y stands:
    the most k for which tokens[j - k : j] equals tokens[t - k : t].

    Args:
      tokens: int32 [positions, length].
      at: int32 [positions].

    Returns:
      int64 [positions]: k, 0 where there is no match, and t - j, 0 likewise.
    """
    count, length = tokens.shape
    most, last = np.zeros((2, count), np.int64)
    rows = np.arange(count)  # those that have a match of k - 1
    target = tokens[rows, at][:, None]
    alive = (np.arange(length) < at[:, None]) & (tokens == target)
    for k in range(1, length):
        # j's match grows to k where the tokens k before j and k before t are equal.
        before = np.full(alive.shape, -1, tokens.dtype)
        before[:, k:] = tokens[rows, : length - k]
        place = at[rows] - k
        own = np.where(place >= 0, tokens[rows, np.maximum(place, 0)], -2)
        alive &= before == own[:, None]
        some = alive.any(1)
        rows, alive = rows[some], alive[some]
        if not len(rows):
            break
        most[rows] = k
        last[rows] = length - 1 - np.argmax(alive[:, ::-1], 1)
    return most, np.where(most > 0, at - last, 0)


def of_context(tokens: np.ndarray, at: np.ndarray) -> dict[str, Class]:
    """The classes `repeat` and `back` of positions. Arguments as `repeats`."""
    most, back = repeats(tokens, at)
    far = np.searchsorted(_BACKS_UP_TO, back, side="left")
    return {
        "repeat": (np.searchsorted(_REPEATS_FROM, most, side="right"), REPEATS),
        "back": (np.where(most > 0, far, -1), BACKS),
    }
