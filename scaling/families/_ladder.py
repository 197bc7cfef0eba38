"""Ladders: choose the member of a family for a target size, by one rule for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from scaling.canonical import Scalar
from scaling.errors import UserError, unknown

Config = TypeVar("Config")
Spec = TypeVar("Spec")


class Ladder(Generic[Config]):
    """The members of a family in order of size, one a rung.

    Sizes are cut into bins [1.1^k, 1.1^(k+1)), and each bin keeps one candidate: that
    of the least strain plus distance to the middle of the bin, both logarithmic. A
    target takes the member of its own bin, so the two are within 10% of each other,
    and the size never falls as the target rises.
    """

    def __init__(
        self,
        candidates: Iterable[Config],
        size: Callable[[Config], float],
        strain: Callable[[Config], float],
    ):
        """Sorts the candidates.

        Args:
          candidates: members of the family.
          size: what targets measure.
          strain: how far a member is from the family's ideal proportions, 0 at best.
        """
        best: dict[int, tuple[float, float, Config]] = {}
        for candidate in candidates:
            count = size(candidate)
            position = math.log(count, 1.1)
            rung = math.floor(position)
            cost = strain(candidate) + abs(position - rung - 0.5) * math.log(1.1)
            if rung not in best or cost < best[rung][0]:
                best[rung] = cost, count, candidate
        self._rungs = {rung: entry[1:] for rung, entry in sorted(best.items())}

    def at(self, target: float) -> Config:
        """The member about as large as `target`.

        Raises:
          UserError: none is within 10%.
        """
        rung = math.floor(math.log(target, 1.1))
        if rung in self._rungs:
            return self._rungs[rung][1]
        members = self._rungs.values()
        count, near = min(members, key=lambda member: away(member[0], target))
        if abs(count / target - 1.0) <= 0.1:
            return near
        sizes = [member[0] for member in members]
        raise UserError(
            "model.size",
            target,
            f"the members of this family go from {sizes[0]:.3g} to {sizes[-1]:.3g}, "
            f"and the nearest is {count:.6g}",
        )


def away(value: float, ideal: float) -> float:
    """Distance of two positive numbers, 0 where they agree."""
    return abs(math.log(value / ideal))


def widths(largest: int = 8192) -> list[int]:
    """Widths of the residual stream: free where small, multiples of 64 and 128 above.

    Matrix units work on tiles of 128 (TPU) or 64 (GPU); below 256 nothing is lost
    by a width between tiles.
    """
    return [
        *range(8, 32, 2),
        *range(32, 64, 4),
        *range(64, 128, 8),
        *range(128, 256, 16),
        *range(256, 1024, 64),
        *range(1024, largest + 1, 128),
    ]


def hiddens(width: int, smallest: float, largest: float) -> list[int]:
    """Hidden sizes from `smallest` to `largest` times `width`, at most 20 of them."""
    unit = 4 if width < 64 else 8 if width < 256 else 64 if width < 1024 else 128
    first, last = math.ceil(smallest * width / unit), int(largest * width / unit)
    return [unit * n for n in range(first, last + 1, 1 + (last - first) // 20)]


def measure(
    by: str,
    spec: Spec,
    params: Callable[[Config], int],
    flops: Callable[[Config, Spec], float],
) -> Callable[[Config], float]:
    """The measure of size by its name: parameters, or forward FLOPs of one example.

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
