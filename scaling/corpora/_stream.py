"""The token stream: maps each step of a run to the training windows it reads.

A window is `length` consecutive tokens of a corpus's training tokens; of a corpus of
pictures, whose runs have length 1 and count pictures, it is a picture. data_seed gives
one permutation of all of them; a budget U reads its first U tokens. Epoch 0 reads that
prefix in its order whatever U is, so that a smaller budget is a prefix of a larger one;
epoch e > 0 reads a permutation of the prefix keyed by (data_seed, e, U). What damage
(data.quality) does to a window is said in _quality.py; it is the same in every epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from scaling.corpora._chance import keys, mix
from scaling.corpora._pictures import Pictures, check_alike
from scaling.corpora._prepared import Prepared, spec_of
from scaling.corpora._quality import Text, check_quality, open_text
from scaling.errors import UserError
from scaling.run import Run

_ROUNDS = 6

# Places are computed for this many windows at a time: a call costs as much as a
# thousand windows do.
AHEAD = 4096
# Damage is counted in so many tokens at a time.
COUNTED = 1 << 16


class Permutation:
    """A pseudo-random bijection of range(size), computed index by index.

    A Feistel network with modular additions over pairs (left, right) of a rectangle
    barely larger than `size`, walked along its cycles until it is back inside; so a
    corpus of any size needs no table. Black and Rogaway 2002, "Ciphers with arbitrary
    finite domains", CT-RSA.
    """

    def __init__(self, size: int, key: str):
        self.size = size
        self._left = np.uint64(math.isqrt(size - 1) + 1 if size > 1 else 1)
        self._right = np.uint64(-(-size // int(self._left)))
        self._keys = keys(key, _ROUNDS)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """int64 [...] of indices below `size` to int64 [...]."""
        image = self._walk(np.asarray(index).astype(np.uint64))
        outside = image >= self.size
        while outside.any():
            image[outside] = self._walk(image[outside])
            outside = image >= self.size
        return image.astype(np.int64)

    def _walk(self, index: np.ndarray) -> np.ndarray:
        left, right = index // self._right, index % self._right
        for k in range(0, _ROUNDS, 2):
            left = (left + mix(right, self._keys[k])) % self._left
            right = (right + mix(left, self._keys[k + 1])) % self._right
        return left * self._right + right


class Interleaving:
    """Assigns the windows of a mixture to its parts, by weight and evenly.

    The pattern repeats every PERIOD windows, so weights are exact to half of 1/PERIOD
    and the number of a part's windows in any prefix is known without counting.
    """

    PERIOD = 4096

    def __init__(self, weights: list[float]):
        share = np.asarray(weights) / sum(weights) * self.PERIOD
        counts = np.floor(share).astype(np.int64)
        rest = np.argsort(counts - share, kind="stable")[: self.PERIOD - counts.sum()]
        counts[rest] += 1
        self.counts = counts
        places = [(np.arange(n) + 0.5) / n for n in counts]
        parts = np.repeat(np.arange(len(counts)), counts)
        self._part = parts[np.argsort(np.concatenate(places), kind="stable")]
        self._rank = np.empty(self.PERIOD, np.int64)
        for part, n in enumerate(counts):
            self._rank[self._part == part] = np.arange(n)

    def __call__(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(part, index within the part) of each slot of the mixture."""
        period, place = np.divmod(slots, self.PERIOD)
        part = self._part[place]
        return part, period * self.counts[part] + self._rank[place]

    def taken(self, slots: int) -> np.ndarray:
        """int64 [parts]: how many of the first `slots` windows each part gives."""
        period, place = divmod(slots, self.PERIOD)
        started = np.bincount(self._part[:place], minlength=len(self.counts))
        return period * self.counts + started


class TokenStream:
    """Batches of a run: `batch(step)` is a pure function of the corpora and the run.

    It reads nothing of a run but its data (corpus, seed, budget U, quality), batch and
    length, so every family sees the same batches. Windows hold the targets; the
    objective builds a model's input by shifting in the separator, `vocab - 1`, at the
    front.

    Attributes:
      spec: what a batch holds.
      vocab: number of ids, the separator included.
      separator: its id.
      unique_steps: steps of an epoch.
    """

    def __init__(self, run: Run, prepared: Mapping[str, Prepared]):
        """Args: prepared: by `Part.key`, for at least the run's training corpora.

        Raises:
          UserError: the budget's unique tokens exceed a corpus; damage (data.quality)
            that cannot be done; corpora with different vocabularies.
        """
        check_quality(run.data)
        _check_vocabulary(run, prepared)
        parts = [prepared[part.key] for part in run.data.corpus]
        check_alike(run, prepared)
        self.spec = spec_of(run, prepared)
        self._batch, self._length, self._row = run.batch, run.length, self.spec.row
        self.unique_steps = run.unique_steps
        self._unique = run.unique_steps * run.batch
        self._damaged = bool(run.data.quality)
        self._counted = max(1, COUNTED // run.length)
        self._mixture = Interleaving([part.weight for part in run.data.corpus])
        self._texts = [_opened(run, part) for part in parts]
        windows = [text.tokens // run.length for text in self._texts]
        _check_budget(run, self._mixture, self._unique, windows, parts[0].unit)
        self._seed = run.data.seed
        self._orders = [
            Permutation(count, f"windows/{self._seed}/{part.name}")
            for count, part in zip(windows, run.data.corpus, strict=True)
        ]
        self.vocab = max(part.vocab for part in parts)
        self.separator = self.vocab - 1
        nowhere = np.empty(0, np.int64)
        self._known = 0, (nowhere, nowhere)
        self._read = 0, np.empty((0, self._batch, self._row), np.int32)

    def batch(self, step: int) -> np.ndarray:
        """int32 [batch, row]: the targets of one step."""
        return self.batches(step, step + 1)[0]

    def batches(self, start: int, stop: int) -> np.ndarray:
        """int32 [stop - start, batch, row]: the targets of consecutive steps."""
        first, read = self._read
        if not first <= start <= stop <= first + len(read):
            first, read = start, self._tokens(start, stop)
        return read[start - first : stop - first]

    def read_ahead(self, start: int, stop: int) -> None:
        """Reads the next batches in the background while the caller computes."""
        self._read = start, self._tokens(start, stop)

    def _tokens(self, start: int, stop: int) -> np.ndarray:
        first, last = start * self._batch, stop * self._batch
        part, window = self._places(first, last)
        if len(self._texts) == 1:
            tokens = self._texts[0].windows(self._row, window)
        else:
            tokens = np.empty((len(window), self._row), np.int32)
            for i, text in enumerate(self._texts):
                tokens[part == i] = text.windows(self._row, window[part == i])
        one = self._texts[0]
        if isinstance(one, Pictures):  # all parts are, and are alike
            tokens = one.withheld(tokens, np.arange(first, last))
        return tokens.reshape(stop - start, self._batch, self._row)

    def _places(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(part, window within it) at positions of the run's whole reading."""
        first, (part, window) = self._known
        if not first <= start <= stop <= first + len(part):
            part, window = self._windows(np.arange(start, max(stop, start + AHEAD)))
            self._known = first, _ = start, (part, window)
        return part[start - first : stop - first], window[start - first : stop - first]

    def _windows(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(part, window within it) at each position of the run's whole reading."""
        slot = position % self._unique
        epoch = position // self._unique
        for e in range(int(epoch[0]), int(epoch[-1]) + 1):
            if e > 0:
                slot[epoch == e] = self._of_epoch(e)(slot[epoch == e])
        part, index = self._mixture(slot)
        for i, (text, order) in enumerate(zip(self._texts, self._orders, strict=True)):
            index[part == i] = order(text.source(index[part == i]))
        return part, index

    def damage(self) -> float:
        """Share of the bytes of the unique tokens that data.quality changed.

        Reads all of them, damaged and not.
        """
        if not self._damaged:
            return 0.0
        counted = np.zeros(2)
        for start in range(0, self._unique, self._counted):
            slots = np.arange(start, min(start + self._counted, self._unique))
            part, index = self._mixture(slots)
            for i in np.unique(part):
                mine = index[part == i]
                counted += self._texts[i].changed(self._length, mine, self._orders[i])
        return float(counted[0] / counted[1])

    def _of_epoch(self, epoch: int) -> Permutation:
        tokens = self._unique * self._length
        return Permutation(self._unique, f"epoch/{self._seed}/{epoch}/{tokens}")


def _opened(run: Run, part: Prepared) -> Text | Pictures:
    """A corpus's training text or pictures, as far as the run may read them."""
    if part.images is None:
        return open_text(run.data, part)
    return Pictures(part, run.data, part.spec(run))


def _check_vocabulary(run: Run, prepared: Mapping[str, Prepared]) -> None:
    """Refuses a run whose corpora number their tokens differently."""
    found = {prepared[p.key].vocabulary for p in run.corpora() if p.key in prepared}
    if len(found) > 1:
        first = run.data.corpus[0].name
        raise UserError(
            "data.tokenizer",
            run.data.tokenizer,
            "learns a vocabulary for each corpus; name the one to learn it from for "
            f"all, such as {run.data.tokenizer}:{first}",
        )


def _check_budget(
    run: Run, mixture: Interleaving, unique: int, windows: list[int], unit: str
) -> None:
    taken = mixture.taken(unique)
    if all(taken <= windows):
        return
    repeated = run.data.unique_tokens is not None
    field = "data.unique_tokens" if repeated else "data.tokens"
    value = run.data.unique_tokens if repeated else run.data.tokens
    share = mixture.counts / mixture.PERIOD
    most = min(
        int(count / s) * run.length
        for count, s in zip(windows, share, strict=True)
        if s > 0
    )
    whole = most // run.tokens_per_step * run.tokens_per_step
    raise UserError(
        field,
        value,
        f"{run.data.label} has {whole:,} training {unit} in whole steps; "
        f"give no more, or repeat fewer unique {unit} (data.unique_tokens)",
    )
