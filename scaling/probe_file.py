"""Files of probe sets and predictions, which training writes and analysis reads.

A workdir holds
    probes/DIGEST.npz                 positions of held-out text, the same for all runs
    probes/DIGEST.truth.npz           the true probabilities there, where known
    artifacts/RUN_ID/predictions.npz  the predictions of a run there

A run's file has, for each probe set and each fraction of its training, an array
NAME:FRACTION, float16 [positions, vocab], of natural log-probabilities (-inf allowed),
and NAME:digest, the digest of that probe set. Where the run asks for it, NAME:best has
the predictions at its best scoring, and NAME:best_step its step. Only predictions with
the same digest may be compared. Equal contents give equal bytes.

It needs NumPy alone, so that anything that reads a workdir can use it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scaling import intact
from scaling.writing import npz, write_once

if TYPE_CHECKING:
    from scaling.store import Store

FOLDER = "probes"
PREDICTIONS = "predictions.npz"  # the artifact's name is what stands before the dot
RULE = 1  # counts changes to how positions are chosen and classed

# When a run predicted: after a fraction of its training, or at its best scoring.
Moment = float | Literal["best"]
BEST: Literal["best"] = "best"
_BEST_STEP, _DIGEST = "best_step", "digest"

# The largest probe file in bytes; this code never writes a larger one.
MOST = 1 << 32

_CLASS, _LEVELS = "class_", "_levels"
# What numpy.load raises for a damaged file.
_BROKEN = (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True)
class ProbeSet:
    """Positions of a corpus's held-out text at which predictions are kept.

    Attributes:
      tokens: int32 [positions, length], the window that holds each position, cut as
        evaluation windows are: targets, padded with the separator (the last id).
      at: int32 [positions], the target's place in its window: predicted is
        tokens[i, at[i]] from tokens[i, :at[i]] behind the separator.
      document: uint64 [positions], hash of the document. Positions of one document are
        not independent: resample documents, not rows.
      offset: int64 [positions], place of the window's first token in its document.
      weight: float64 [positions], mean 1, one over the chance of being chosen:
        sum(weight * f) / sum(weight) estimates the mean of f over all held-out tokens.
      unigram: float64 [vocab], shares of the training split's tokens, one added to each
        count.
      bytes_per_token: of the held-out text, separators among the tokens.
      classes: by name, an int8 code for each position (-1: of no level) and the levels'
        names.
      facts: name, corpus (key), corpus_digest, tokenizer, vocab, length, positions,
        documents (different ones), rule.
    """

    tokens: np.ndarray
    at: np.ndarray
    document: np.ndarray
    offset: np.ndarray
    weight: np.ndarray
    unigram: np.ndarray
    bytes_per_token: float
    classes: Mapping[str, tuple[np.ndarray, tuple[str, ...]]]
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def vocab(self) -> int:
        return int(self.facts["vocab"])

    @property
    def target(self) -> np.ndarray:
        """int32 [positions]: the token that stands there."""
        return self.tokens[np.arange(len(self.at)), self.at]

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of all that is in the file."""
        return _digest(self._arrays())

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {
            "tokens": self.tokens.astype(np.int32),
            "at": self.at.astype(np.int32),
            "document": self.document.astype(np.uint64),
            "offset": self.offset.astype(np.int64),
            "weight": self.weight.astype(np.float64),
            "unigram": self.unigram.astype(np.float64),
            "bytes_per_token": np.array(self.bytes_per_token, np.float64),
            "facts": np.array(json.dumps(dict(self.facts), sort_keys=True)),
        }
        for name, (codes, levels) in sorted(self.classes.items()):
            arrays[_CLASS + name] = codes.astype(np.int8)
            arrays[_CLASS + name + _LEVELS] = np.array(levels, np.str_)
        return arrays

    def to_bytes(self) -> bytes:
        return npz(self._arrays())

    @classmethod
    def from_bytes(cls, data: bytes) -> ProbeSet:
        """The inverse of `to_bytes`. Raises Unreadable for other bytes."""
        arrays = _unpacked(data)
        try:
            made = cls(
                classes=_classes(arrays),
                facts=json.loads(str(arrays["facts"])),
                bytes_per_token=float(arrays["bytes_per_token"]),
                **{name: arrays[name] for name in _PLAIN},
            )
            _check(made)
        except _BROKEN as error:
            raise intact.Unreadable(f"is no probe set ({error})") from error
        return made


_PLAIN = ("tokens", "at", "document", "offset", "weight", "unigram")


def _classes(
    arrays: Mapping[str, np.ndarray],
) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    names = [n for n in arrays if n.startswith(_CLASS) and not n.endswith(_LEVELS)]
    return {
        name.removeprefix(_CLASS): (
            arrays[name],
            tuple(map(str, arrays[name + _LEVELS])),
        )
        for name in names
    }


def _check(made: ProbeSet) -> None:
    """Raises ValueError where the arrays do not belong together."""
    count, length = made.tokens.shape
    rows = (made.at, made.document, made.offset, made.weight)
    codes = [codes for codes, _ in made.classes.values()]
    if any(array.shape != (count,) for array in (*rows, *codes)):
        raise ValueError("its arrays have different lengths")
    if not ((made.at >= 0) & (made.at < length)).all():
        raise ValueError("it points outside of its windows")
    if made.unigram.shape != (made.vocab,):
        raise ValueError("its unigram has another vocabulary")


def write(store: Store, probes: ProbeSet) -> str:
    """Keeps a probe set in a workdir, once; its digest."""
    digest = probes.digest
    write_once(store.path(FOLDER, f"{digest}.npz"), probes.to_bytes())
    return digest


def read(store: Store, digest: str) -> ProbeSet:
    """The probe set of this digest.

    Raises:
      FileNotFoundError: the workdir has none.
      Unreadable: the file is damaged, or its content is of another digest.
    """
    path = store.path(FOLDER, f"{digest}.npz")
    made = ProbeSet.from_bytes(intact.data(path, MOST))
    if made.digest != digest:
        raise intact.Unreadable("was changed since it was written: its digest differs")
    return made


def digests(store: Store) -> list[str]:
    """Of the probe sets in a workdir, in order."""
    folder = store.path(FOLDER)
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir())
    return sorted(n[:-4] for n in names if n.endswith(".npz") and n.count(".") == 1)


def write_truth(store: Store, digest: str, log_probabilities: np.ndarray) -> None:
    """Keeps the true chances at a set's positions, once: float [positions, vocab]."""
    arrays = {"log_probabilities": log_probabilities.astype(np.float32)}
    write_once(store.path(FOLDER, f"{digest}.truth.npz"), npz(arrays))


def has_truth(store: Store, digest: str) -> bool:
    return bool(store.path(FOLDER, f"{digest}.truth.npz").exists())


def read_truth(store: Store, digest: str) -> np.ndarray | None:
    """float32 [positions, vocab], natural logs; None where no truth is known.

    Raises Unreadable for a damaged file.
    """
    try:
        data = intact.data(store.path(FOLDER, f"{digest}.truth.npz"), MOST)
    except FileNotFoundError:
        return None
    try:
        return _unpacked(data)["log_probabilities"]
    except KeyError as error:
        raise intact.Unreadable("holds no log_probabilities") from error


# --- Predictions ---------------------------------------------------------------


def key(name: str, moment: Moment) -> str:
    """The array of a probe set: `docstrings:0.5`, `docstrings:best`."""
    return f"{name}:{moment if isinstance(moment, str) else f'{moment:g}'}"


def best_step_key(name: str) -> str:
    """The array that holds the step of a set's best predictions."""
    return f"{name}:{_BEST_STEP}"


def predictions(kept: Mapping[str, np.ndarray], of: Mapping[str, str]) -> bytes:
    """A run's file.

    Args:
      kept: by `key`, float16 [positions, vocab]; by `best_step_key`, one integer.
      of: digest by the name of the probe set.
    """
    arrays = dict(sorted(kept.items()))
    for name, digest in sorted(of.items()):
        arrays[f"{name}:{_DIGEST}"] = np.array(digest)
    return npz(arrays)


def kept(data: bytes) -> dict[str, np.ndarray]:
    """What `predictions` was given, of a file without digests."""
    return _unpacked(data)


class Predictions:
    """A run's file, read array by array.

    Raises:
      Unreadable: it is no such file, or a part of it is damaged.
    """

    def __init__(self, data: bytes):
        try:
            self._file = np.load(io.BytesIO(data), allow_pickle=False)
            names = list(self._file.files)
        except (*_BROKEN, AttributeError) as error:  # a bare array has no `files`
            raise intact.Unreadable(f"holds no predictions ({error})") from error
        pairs = [name.rpartition(":") for name in names]
        self.digests = {
            name: str(self._array(f"{name}:{_DIGEST}"))
            for name, _, last in pairs
            if last == _DIGEST
        }
        self._keys = [(name, last) for name, _, last in pairs]

    def fractions(self, name: str) -> tuple[float, ...]:
        """Those at which predictions of a set were kept, in order."""
        try:
            other = (_DIGEST, BEST, _BEST_STEP)
            mine = (last for n, last in self._keys if n == name and last not in other)
            return tuple(sorted(map(float, mine)))
        except ValueError as error:
            raise intact.Unreadable(f"names no fraction ({error})") from error

    def best_step(self, name: str) -> int | None:
        """That of the best scoring; None where its predictions were not asked for."""
        if (name, BEST) not in self._keys:
            return None
        try:
            return int(self._array(best_step_key(name)))
        except (TypeError, ValueError) as error:  # of several numbers, of a text
            raise intact.Unreadable(f"names no best step ({error})") from error

    def log_probabilities(self, name: str, moment: Moment) -> np.ndarray:
        """float32 [positions, vocab]."""
        return self._array(key(name, moment)).astype(np.float32)

    def _array(self, name: str) -> np.ndarray:
        try:
            return self._file[name]
        except (*_BROKEN, NotImplementedError) as error:
            raise intact.Unreadable(f"has no valid array {name} ({error})") from error


# --- Bytes -----------------------------------------------------------------------


def _unpacked(data: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (*_BROKEN, AttributeError, NotImplementedError) as error:
        raise intact.Unreadable(f"is no .npz file ({error})") from error


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for part in _parts(arrays):
        digest.update(part)
    return digest.hexdigest()[:16]


def _parts(arrays: Mapping[str, np.ndarray]) -> Iterable[bytes]:
    for name, array in sorted(arrays.items()):
        yield f"{name} {array.dtype.str} {array.shape} ".encode()
        yield np.ascontiguousarray(array).tobytes()
