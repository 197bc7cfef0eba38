"""Scores a run on the whole evaluation sets: nats per document, and readings.

Every run of a study is scored on the same held-out documents, so that differences
between runs have paired errors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from scaling.corpora import EvaluationWindows, ratio
from scaling.probe_file import ProbeSet
from scaling.record import Reading
from scaling.run import EvaluationSet
from scaling.training import mesh
from scaling.writing import npz

# Tokens that one call scores: enough to fill two cores, few enough to stay in cache.
_TOKENS_PER_CALL = 8_192


@dataclasses.dataclass(frozen=True)
class Score:
    """One part of an evaluation set, document by document.

    nats, tokens, bytes: float64 [documents].
    """

    nats: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray

    @property
    def loss(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens.sum())

    def variance(self, per: np.ndarray) -> float:
        """Variance of sum(nats) / sum(per); see `corpora.ratio`."""
        return ratio(self.nats, per)[1]


def windows_per_call(length: int, sharding: jax.sharding.NamedSharding) -> int:
    """Windows of `length` tokens that a call scores: as many on every device."""
    devices = sharding.mesh.size
    return max(1, _TOKENS_PER_CALL // length // devices) * devices


# tokens [n, length], at [n] -> nats [n, length], log_probabilities [n, vocab]; as an
# objective reads.
Read = Callable[[jax.Array, jax.Array], tuple[Any, Any]]


def score(
    read: Read, windows: EvaluationWindows, sharding: jax.sharding.NamedSharding
) -> Score:
    """Scores every window of one part and sums by document.

    Args:
      windows: the part's windows; the last call is filled up with empty ones.
      sharding: how a call's windows lie over the devices.
    """
    anywhere = np.zeros(len(windows.tokens), np.int32)
    scored = [nats for nats, _ in _calls(read, windows.tokens, anywhere, sharding)]
    count = len(windows.tokens)
    nats = np.concatenate([mesh.get(part) for part in scored])[:count]
    by_window = nats.astype(np.float64) * windows.weight
    documents = len(windows.bytes)
    return Score(
        nats=np.bincount(windows.document, by_window.sum(1), documents),
        tokens=np.bincount(windows.document, windows.weight.sum(1), documents),
        bytes=np.asarray(windows.bytes, np.float64),
    )


def predictions(
    read: Read, probes: ProbeSet, sharding: jax.sharding.NamedSharding
) -> np.ndarray:
    """float16 [positions, vocab]: natural log-probabilities at the probe positions.

    Args: as `score`.
    """
    calls = _calls(read, probes.tokens, probes.at, sharding)
    parts = [mesh.get(predicted).astype(np.float16) for _, predicted in calls]
    return np.concatenate(parts)[: len(probes.at)]


def _calls(
    read: Read, tokens: np.ndarray, at: np.ndarray, sharding: jax.sharding.NamedSharding
) -> Iterator[tuple[Any, Any]]:
    """The results of `read`, call by call; the last call is padded with empty windows.

    Each call is waited for before the next, so that a CPU's queue does not run ahead.
    """
    count, length = tokens.shape
    per_call = windows_per_call(length, sharding)
    for start in range(0, count, per_call):
        filled = min(per_call, count - start)
        padded = np.zeros((per_call, length), np.int32)
        places = np.zeros(per_call, np.int32)
        padded[:filled] = tokens[start : start + per_call]
        places[:filled] = at[start : start + per_call]
        yield jax.block_until_ready(read(*mesh.put((padded, places), sharding)))


def readings(
    sets: Sequence[EvaluationSet],
    scores: Mapping[tuple[str, int], Score],
    kind: Literal["final", "best"],
    step: int,
) -> list[Reading]:
    """Loss and bits per byte on every set; `scores` is keyed (part key, tokens)."""
    readings = []
    for held_out in sets:
        parts = [(p.weight, scores[p.key, held_out.tokens]) for p in held_out.parts]
        total = sum(weight for weight, _ in parts)
        count = int(sum(s.tokens.sum() for _, s in parts))
        for quantity, unit, scale, field in (
            ("loss", "nats/token", 1.0, "tokens"),
            ("bits_per_byte", "bits/byte", 1 / math.log(2), "bytes"),
        ):
            value = variance = 0.0
            for weight, part in parts:
                per = getattr(part, field)
                value += weight / total * part.nats.sum() / per.sum()
                variance += (weight / total) ** 2 * part.variance(per)
            readings.append(
                Reading(
                    evaluation=held_out.name,
                    quantity=quantity,
                    kind=kind,
                    value=float(scale * value),
                    se=float(scale * math.sqrt(variance))
                    if math.isfinite(variance)
                    else None,
                    unit=unit,
                    count=count,
                    step=step,
                )
            )
    return readings


def better(best: Sequence[Reading], new: Sequence[Reading]) -> list[Reading]:
    """The lower of the two readings of every set and quantity, marked as best."""
    kept = {(r.evaluation, r.quantity): r for r in best}
    for reading in new:
        old = kept.get((reading.evaluation, reading.quantity))
        if old is None or _value(reading) < _value(old):
            kept[reading.evaluation, reading.quantity] = dataclasses.replace(
                reading, kind="best"
            )
    return list(kept.values())


def _value(reading: Reading) -> float:
    return math.inf if reading.value is None else reading.value


def unread(sets: Sequence[EvaluationSet], step: int) -> list[Reading]:
    """Readings of a run that diverged: no value."""
    return [
        Reading(s.name, "loss", "final", None, None, "nats/token", 0, step)
        for s in sets
    ]


def to_npz(scores: Mapping[tuple[str, int], Score]) -> bytes:
    """Nats, tokens and bytes per document, by part: arrays `KEY:TOKENS:nats` etc."""
    arrays = {}
    for (key, tokens), part in scores.items():
        for field in ("nats", "tokens", "bytes"):
            arrays[f"{key}:{tokens}:{field}"] = getattr(part, field)
    return npz(arrays)
