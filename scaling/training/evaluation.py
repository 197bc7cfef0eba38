"""Scores a run on the whole evaluation sets: sums per document, and readings.

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

from scaling import inpainting
from scaling.corpora import EvaluationWindows, ratio
from scaling.probe_file import ProbeSet
from scaling.quantities import TEXT, Quantity
from scaling.record import Reading
from scaling.run import EvaluationSet
from scaling.training import mesh
from scaling.writing import npz

# Tokens that one call scores: enough to fill two cores, few enough to stay in cache.
_TOKENS_PER_CALL = 8_192


@dataclasses.dataclass(frozen=True)
class Score:
    """One part of an evaluation set, document by document.

    nats, tokens, bytes: float64 [documents]. nats: what the loss is the mean of: nats,
    or the weighed squared errors of a denoiser. others: further sums, by column.
    """

    nats: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens.sum())

    def mean(self, quantity: Quantity) -> tuple[float, float]:
        """(value, variance) of a quantity before its scale; see `corpora.ratio`."""
        column = self.nats if quantity.of == "nats" else self.others[quantity.of]
        return ratio(column, getattr(self, quantity.per))


def windows_per_call(row: int, sharding: jax.sharding.NamedSharding) -> int:
    """Windows of `row` integers that a call scores: as many on every device."""
    devices = sharding.mesh.size
    return max(1, _TOKENS_PER_CALL // row // devices) * devices


def islands_per_call(row: int, sharding: jax.sharding.NamedSharding) -> int:
    """The same of pictures of which each stands for all particles of an island."""
    return windows_per_call(row * inpainting.PARTICLES, sharding)


# rows [n, row], at [n] -> values [n, positions or columns], log_probabilities
# [n, vocab]; as an objective reads.
Read = Callable[[jax.Array, jax.Array], tuple[Any, Any]]


def score(
    read: Read,
    windows: EvaluationWindows,
    sharding: jax.sharding.NamedSharding,
    columns: Sequence[str] = (),
) -> Score:
    """Scores every window of one part and sums by document.

    Args:
      windows: the part's windows; the last call is filled up with empty ones.
      sharding: how a call's windows lie over the devices.
      columns: of what is read, "nats" first; none where it is nats at every position.
    """
    count, documents = len(windows.tokens), len(windows.bytes)
    # A picture's number keys its noise; of nats it does not matter which is predicted.
    at = np.arange(count, dtype=np.int32) if columns else np.zeros(count, np.int32)
    scored = [values for values, _ in _calls(read, windows.tokens, at, sharding)]
    values = np.concatenate([mesh.get(part) for part in scored])[:count]
    weighed = values.astype(np.float64) * windows.weight
    by_window = dict(zip(columns, weighed.T, strict=True)) if columns else {}
    nats = by_window.pop("nats") if columns else weighed.sum(1)
    total = lambda column: np.bincount(windows.document, column, documents)
    return Score(
        nats=total(nats),
        tokens=total(windows.weight.sum(1)),
        bytes=np.asarray(windows.bytes, np.float64),
        others={name: total(column) for name, column in by_window.items()},
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
    quantities: Sequence[Quantity] = TEXT,
) -> list[Reading]:
    """Every quantity on every set; `scores` is keyed (part key, tokens)."""
    readings = []
    for held_out in sets:
        parts = [(p.weight, scores[p.key, held_out.tokens]) for p in held_out.parts]
        total = sum(weight for weight, _ in parts)
        count = int(sum(s.tokens.sum() for _, s in parts))
        for quantity in quantities:
            value = variance = 0.0
            for weight, part in parts:
                mean, own = part.mean(quantity)
                value += weight / total * mean
                variance += (weight / total) ** 2 * own
            readings.append(
                Reading(
                    evaluation=held_out.name,
                    quantity=quantity.name,
                    kind=kind,
                    value=float(quantity.scale * value),
                    se=float(quantity.scale * math.sqrt(variance))
                    if math.isfinite(variance)
                    else None,
                    unit=quantity.unit,
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


def unread(
    sets: Sequence[EvaluationSet], step: int, unit: str = TEXT[0].unit
) -> list[Reading]:
    """Readings of a run that diverged: no value."""
    return [Reading(s.name, "loss", "final", None, None, unit, 0, step) for s in sets]


def to_npz(scores: Mapping[tuple[str, int], Score]) -> bytes:
    """Sums per document, by part: arrays `KEY:TOKENS:nats`, tokens, bytes, others."""
    arrays = {}
    for (key, tokens), part in scores.items():
        for field in ("nats", "tokens", "bytes"):
            arrays[f"{key}:{tokens}:{field}"] = getattr(part, field)
        for column, sums in part.others.items():
            arrays[f"{key}:{tokens}:{column}"] = sums
    return npz(arrays)
