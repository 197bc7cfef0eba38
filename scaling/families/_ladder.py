"""How families turn a target size into a member: one rule for all ladders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from scaling.errors import UserError, unknown
from scaling.run import Scalar

Config = TypeVar("Config")
Spec = TypeVar("Spec")


def choose(
    target: float,
    candidates: Iterable[Config],
    size: Callable[[Config], float],
    strain: Callable[[Config], float],
) -> Config:
    """The best-shaped candidate about as large as the target.

    Sizes are cut into bins [1.1^k, 1.1^(k+1)), and each bin has one candidate: that of
    the least strain plus distance to the middle of the bin, both logarithmic. Target
    and candidate share a bin, so they are within 10% of each other, and the size
    never falls as the target rises.

    Args:
      target: wanted size.
      candidates: members of the family.
      size: what `target` measures.
      strain: how far a member is from the family's ideal proportions, 0 at best.

    Raises:
      UserError: no candidate is within 10% of the target.
    """
    rung = _rung(target)
    middle = (rung + 0.5) * math.log(1.1)
    sized = [(size(candidate), candidate) for candidate in candidates]
    within = [
        (strain(candidate) + abs(math.log(count) - middle), candidate)
        for count, candidate in sized
        if _rung(count) == rung
    ]
    if not within:
        counts = [count for count, _ in sized]
        near = min(counts, key=lambda count: abs(math.log(count / target)))
        raise UserError(
            "model.size",
            target,
            f"this family has members from {min(counts):.3g} to {max(counts):.3g}, "
            f"the nearest is {near:.6g}",
        )
    return min(within, key=lambda scored: scored[0])[1]


def _rung(size: float) -> int:
    return math.floor(math.log(size) / math.log(1.1))


def away(value: float, ideal: float) -> float:
    """Distance of two positive numbers, 0 where they agree."""
    return abs(math.log(value / ideal))


def widths(largest: int = 8192) -> list[int]:
    """Widths of the residual stream: free where small, multiples of 64 and 128 above.

    Matrix units work on tiles of 128 (TPU) or 64 (GPU); below 256 nothing is lost
    by a width between tiles.
    """
    return [
        *range(8, 64, 4),
        *range(64, 128, 8),
        *range(128, 256, 16),
        *range(256, 1024, 64),
        *range(1024, largest + 1, 128),
    ]


def granule(width: int) -> int:
    """What hidden sizes are multiples of beside a residual stream of `width`."""
    return 4 if width < 64 else 8 if width < 256 else 64 if width < 1024 else 128


def hiddens(width: int, smallest: float, largest: float) -> list[int]:
    """Hidden sizes from `smallest` to `largest` times `width`, at most 20 of them."""
    unit = granule(width)
    first, last = math.ceil(smallest * width / unit), int(largest * width / unit)
    return [unit * n for n in range(first, last + 1, 1 + (last - first) // 20)]


def measure(
    by: str,
    spec: Spec,
    params: Callable[[Config], int],
    flops: Callable[[Config, Spec], float],
) -> Callable[[Config], float]:
    """What a target counts: parameters, or forward FLOPs of one example.

    "active" is "params" where every parameter works on every token.

    Raises:
      UserError: neither of these.
    """
    if by in ("params", "active"):
        return params
    if by == "flops":
        return lambda config: flops(config, spec)
    raise unknown("model.size_by", by, ("params", "active", "flops"))


def options(
    family: str, given: Mapping[str, Scalar], defaults: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """Defaults overridden by what is given.

    Raises:
      UserError: an option the family does not have.
    """
    for name in given:
        if name not in defaults:
            raise unknown(f"model.options of {family}", name, defaults)
    return {**defaults, **given}
