"""N-gram model with interpolated, modified Kneser-Ney smoothing, trained by counting.

It serves as a reference that is not trained by gradient descent. With h the k tokens
before w, and h' the same without the first of them (Chen and Goodman 1999, "An
empirical study of smoothing techniques for language modeling", eq. 24 to 26):

    p(w | h) = (c(h w) - d(c(h w))) / c(h) + g(h) p(w | h'),

where d is one of three discounts of the order, for counts of 1, 2 and 3 or more, from
the order's counts of counts; g(h) the share of c(h) that was taken away, so that
probabilities sum to one; and below the empty context lies the uniform distribution.
Shorter contexts count in how many longer ones an n-gram was seen, not how often.

The size is the number of values that the model keeps over all orders: one discounted
probability for each n-gram and one g(h) for each context. The most frequent n-grams of
all orders are kept and, of equally frequent ones, those of the shorter orders; so more
text improves a full table and does not enlarge it. The probability of n-grams that are
left out of a kept context adds to g(h), and a context without n-grams falls back to the
next shorter one. An n-gram's count includes one for each longer n-gram that is kept,
and all occurrences of the longer ones that are not (Siivola et al. 2007, "On growing
and pruning Kneser-Ney smoothed n-gram models", section III). With room for all n-grams
this is the textbook model. A short text fills less than the size allows.

Each window is a text of its own behind separators, as in other families, and a window
that is read again in a later epoch counts once. Learning rate, schedule and weight seed
have no effect, so a study needs only one of each.

FLOPs: there are no matrix products. Scoring a token counts the interpolation, a product
and a sum for each order, and reading a token in training counts the same. Sorting and
searching are not counted.

Memory: six to eight bytes a training token, the table, and, while it is built, the
distinct n-grams of one order.

No options.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.errors import UserError, unknown
from scaling.families import Tokens
from scaling.families._ladder import options

if TYPE_CHECKING:
    from scaling.corpora import TokenStream

OBJECTIVES = ("next_token",)

LARGEST = 2_000_000_000  # contexts are numbered in 32 bits

# Positions that are sorted at a time.
_CHUNK = 1 << 22


@dataclasses.dataclass(frozen=True)
class Config:
    """A member of the family: n-grams of up to `order` tokens, `entries` numbers."""

    order: int
    entries: int


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member that keeps as many numbers as `target`, to the unit.

    One order more for a factor of 4, about what one more byte of context takes in
    English, and one beyond what fits there: 4 at 8 thousand, 7 at a million, 12 at a
    billion.
    """
    options("ngram", given, {})
    if by not in ("params", "active"):
        raise unknown("model.size_by", by, ("params", "active"))
    if not spec.vocab < target <= LARGEST:
        right = f"the members of this family go from {spec.vocab + 1} to {LARGEST:.3g}"
        raise UserError("model.size", target, right)
    return Config(max(2, 2 + math.ceil(math.log(target / 1_024, 4))), int(target))


def params(config: Config) -> int:
    """Numbers that the table has room for."""
    return config.entries


def flops(config: Config, spec: Tokens) -> float:
    """Of the interpolation of one example; there are no matrix products."""
    return 2.0 * config.order * spec.length


def memory(config: Config) -> int:
    """Bytes of the full table: a key and a number an entry."""
    return 12 * config.entries


@dataclasses.dataclass(frozen=True)
class Table:
    """N-grams of one length, behind contexts of k tokens, as counted.

    A context's number is its place in `contexts`. A key is a number times the
    vocabulary plus a token; both arrays of keys are sorted.

    Attributes:
      contexts: int64 keys of (the next shorter context, the token before it).
      seen: int64, how often each context comes, also before n-grams left out.
      ngrams: int64 keys of (context, the token after it).
      counts: int64, of the n-grams in the text.
    """

    contexts: np.ndarray
    seen: np.ndarray
    ngrams: np.ndarray
    counts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Order:
    """A table as it is read.

    Attributes:
      probabilities: float32, of the n-grams, discounted.
      rest: float32, of the contexts: the weight of the next shorter one.
      discounts: float64 [3], of counts of 1, 2, and 3 or more.
    """

    table: Table
    probabilities: np.ndarray
    rest: np.ndarray
    discounts: np.ndarray


class Fitted:
    """The model; `facts` says what it holds, order by order."""

    def __init__(self, orders: list[Order], vocab: int):
        self.orders, self.vocab = orders, vocab
        self.facts = {
            "contexts": np.array([len(order.table.contexts) for order in orders]),
            "ngrams": np.array([len(order.table.ngrams) for order in orders]),
            "discounts": np.stack([order.discounts for order in orders]),
        }

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        """int32 [n, length] to float32 [n, length]: -ln p of each token."""
        probability = np.full(tokens.shape, 1.0 / self.vocab)
        context = np.zeros(tokens.shape, np.int32)
        for k, order in enumerate(self.orders):
            longer = _contexts(tokens, context, k, self.vocab)
            context = _find(order.table.contexts, longer)
            place = _find(order.table.ngrams, _key(context, tokens, self.vocab))
            # Equation 24: the discounted probability, 0 where the n-gram is not kept,
            # and g(h) times that of the next shorter context.
            seen = np.where(place < 0, 0.0, order.probabilities[place])
            mixed = seen + order.rest[context] * probability
            probability = np.where(context < 0, probability, mixed)
        return -np.log(probability).astype(np.float32)

    def log_probabilities(self, tokens: np.ndarray, at: np.ndarray) -> np.ndarray:
        """int32 [n, length] and [n] to float32 [n, vocab]: ln p of each id at `at`."""
        rows, ids = np.arange(len(at)), np.arange(self.vocab)
        probability = np.full((len(at), self.vocab), 1.0 / self.vocab)
        context = np.zeros(tokens.shape, np.int32)
        for k, order in enumerate(self.orders):
            longer = _contexts(tokens, context, k, self.vocab)
            context = _find(order.table.contexts, longer)
            here = context[rows, at][:, None]
            place = _find(order.table.ngrams, _key(here, ids, self.vocab))
            seen = np.where(place < 0, 0.0, order.probabilities[place])
            mixed = seen + order.rest[here] * probability
            probability = np.where(here < 0, probability, mixed)
        return np.log(probability).astype(np.float32)


def fit(stream: TokenStream, config: Config, values: Mapping[str, Any]) -> Fitted:
    """Counts the first epoch of the stream, up to `values["steps"]` batches."""
    tokens = _read(stream, min(int(values["steps"]), stream.unique_steps))
    context = np.zeros(tokens.shape, np.int32)
    tables: list[Table] = []
    least = [1]
    for k in range(config.order):
        table = _table(tokens, context, k, stream.vocab, least[-1])
        if not len(table.ngrams):
            break
        tables.append(table)
        least = _least(tables, stream.vocab, config.entries)
        for rows in _chunks(tokens):
            longer = _contexts(tokens[rows], context[rows], k, stream.vocab)
            context[rows] = _find(table.contexts, longer)
    return Fitted(
        _smoothed(_kept(tables, least, stream.vocab), stream.vocab), stream.vocab
    )


def _read(stream: TokenStream, steps: int) -> np.ndarray:
    """[windows, length]: all tokens, in the least type that holds them."""
    batch, length = stream.batch(0).shape
    dtype = np.uint16 if stream.vocab <= 1 << 16 else np.int32
    tokens = np.empty((steps, batch, length), dtype)
    for step in range(steps):
        tokens[step] = stream.batch(step)
    return tokens.reshape(-1, length)


def _chunks(tokens: np.ndarray) -> Iterator[slice]:
    """Rows to be worked on at a time."""
    rows = max(1, _CHUNK // tokens.shape[1])
    return (slice(i, i + rows) for i in range(0, len(tokens), rows))


def _key(number: np.ndarray, token: np.ndarray, vocab: int) -> np.ndarray:
    """int64 keys; below zero where the number is."""
    return number.astype(np.int64) * vocab + token


def _contexts(
    tokens: np.ndarray, shorter: np.ndarray, k: int, vocab: int
) -> np.ndarray:
    """Keys [n, length] of the k tokens before each position.

    Args:
      shorter: int32 [n, length], numbers of the k - 1 tokens before; -1 where those
        are not kept. With k = 0, all zero.
    """
    before = np.zeros_like(tokens)
    if k:
        before[:, :k] = vocab - 1  # the separator
        before[:, k:] = tokens[:, :-k]
    return _key(shorter, before, vocab)


def _find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int32: place of each in the sorted keys, -1 where it is not there."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1).astype(np.int32)


def _count(chunks: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(sorted keys, how often each comes), of those that are not below zero."""
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for chunk in chunks:
        new, times = np.unique(chunk[chunk >= 0], return_counts=True)
        keys, inverse = np.unique(np.concatenate([keys, new]), return_inverse=True)
        both = np.concatenate([counts, times])
        counts = np.bincount(inverse, both, len(keys)).astype(np.int64)
    return keys, counts


def _table(
    tokens: np.ndarray, shorter: np.ndarray, k: int, vocab: int, least: int
) -> Table:
    """The n-grams behind k tokens that come `least` times or more."""

    def contexts() -> Iterator[np.ndarray]:
        for rows in _chunks(tokens):
            yield _contexts(tokens[rows], shorter[rows], k, vocab)

    keys, seen = _count(contexts())
    keys, seen = keys[seen >= least], seen[seen >= least]
    if not len(keys):
        return Table(keys, seen, keys, seen)

    def ngrams() -> Iterator[np.ndarray]:
        for rows, longer in zip(_chunks(tokens), contexts(), strict=True):
            yield _key(_find(keys, longer), tokens[rows], vocab)

    pairs, counts = _count(ngrams())
    return Table(keys, seen, pairs[counts >= least], counts[counts >= least])


def _least(tables: list[Table], vocab: int, room: int) -> list[int]:
    """Counts from which on n-grams are kept, of each order: as many as there is room.

    They never fall from an order to the next. So with an n-gram all that it ends in are
    kept, which come at least as often.
    """
    entries = []
    for table in tables:
        highest = np.zeros(len(table.contexts), np.int64)
        np.maximum.at(highest, table.ngrams // vocab, table.counts)
        entries.append(np.concatenate([table.counts, highest[highest > 0]]))
    together = np.concatenate(entries)
    if len(together) <= room:
        return [1] * len(tables)
    # The count of the first n-gram that has no room: all above it are kept, and of
    # those equal to it the shorter orders', as long as they fit whole.
    limit = int(np.partition(together, -room - 1)[-room - 1])
    least = [limit + 1] * len(tables)
    left = room - np.count_nonzero(together > limit)
    for k, counts in enumerate(entries):
        left -= np.count_nonzero(counts == limit)
        if left < 0:
            break
        least[k] = limit
    return least


def _kept(tables: list[Table], least: list[int], vocab: int) -> list[Table]:
    """The tables with the n-grams that come often enough, and their contexts."""
    kept: list[Table] = []
    shorter = np.zeros(1, np.int64)  # new numbers by old ones
    for table, enough in zip(tables, least, strict=True):
        often = table.counts >= enough
        old, number = np.unique(table.ngrams[often] // vocab, return_inverse=True)
        if not len(old):
            break
        before, token = np.divmod(table.contexts[old], vocab)
        kept.append(
            Table(
                _key(shorter[before], token, vocab),
                table.seen[old],
                _key(number, table.ngrams[often] % vocab, vocab),
                table.counts[often],
            )
        )
        shorter = np.full(len(table.contexts), -1)
        shorter[old] = np.arange(len(old))
    return kept


def _smoothed(tables: list[Table], vocab: int) -> list[Order]:
    """Discounted probabilities; shorter contexts first give up the longer ones'."""
    orders = []
    for k, table in enumerate(tables):
        context, size = table.ngrams // vocab, len(table.contexts)
        above = np.zeros(len(table.ngrams))
        if k + 1 < len(tables):
            # All but one of the occurrences of each longer n-gram that is kept: what
            # stays is in how many contexts it was seen, as Kneser and Ney count
            # (Siivola et al. 2007, section III, where some of them are not kept).
            longer = tables[k + 1]
            number, token = np.divmod(longer.ngrams, vocab)
            shorter = longer.contexts[number] // vocab
            place = _find(table.ngrams, _key(shorter, token, vocab))
            above = np.bincount(place, longer.counts - 1, len(above))
        counts = table.counts - above
        total = table.seen - np.bincount(context, above, size)
        discounts = _discounts(counts)
        # (c - d(c)) / c(h), and g(h) as what makes the sum over w 1.
        taken = discounts[np.minimum(counts, 3).astype(int) - 1]
        probabilities = (counts - taken) / total[context]
        rest = 1.0 - np.bincount(context, probabilities, size)
        orders.append(
            Order(
                table,
                probabilities.astype(np.float32),
                rest.astype(np.float32),
                discounts,
            )
        )
    return orders


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Of counts of 1, 2, and 3 or more (Chen and Goodman 1999, eq. 26).

    Where a count of 1 to 4 does not come, or a text is no text and the estimate is not
    between 0 and the count: halves of the counts, which leave something to every order.
    """
    times = np.bincount(np.minimum(counts, 5).astype(int), minlength=6)[1:5]
    halves = np.array([0.5, 1.0, 1.5])
    if not times.all():
        return halves
    # Y = n1 / (n1 + 2 n2), and D_c = c - (c + 1) Y n_(c+1) / n_c.
    share = times[0] / (times[0] + 2 * times[1])
    count = np.arange(1, 4)
    discounts = count - (count + 1) * share * times[1:] / times[:3]
    sound = (discounts > 0) & (discounts <= count)
    return discounts if sound.all() else halves
