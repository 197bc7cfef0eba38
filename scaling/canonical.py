"""Nested dataclasses as JSON and back: whole, flat, and without what is a default.

The canonical form leaves out every field that equals its default, so that a field which
is added later with a default changes no identity that was hashed before.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any

Scalar = str | int | float | bool


def canonical(value: Any) -> Any:
    """`value` as JSON without the fields that equal their defaults."""
    if isinstance(value, Scalar):  # most values: the quick test first
        return value
    if isinstance(value, tuple):
        return [canonical(entry) for entry in value]
    if dataclasses.is_dataclass(value):
        owner: Any = type(value)  # mypy does not take a class for hashable
        entries = [(n, getattr(value, n), x) for n, x in _defaults(owner)]
        return {n: canonical(entry) for n, entry, x in entries if entry != x}
    return value


@functools.cache
def _defaults(owner: type) -> list[tuple[str, Any]]:
    """The fields that are part of the identity, with their defaults."""
    return [(f.name, f.default) for f in dataclasses.fields(owner) if f.compare]


def flat(body: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested JSON objects as one, with dotted names."""
    found: dict[str, Any] = {}
    for name, value in body.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def built(cls: type, body: Mapping[str, Any]) -> Any:
    """The dataclass whose fields `dataclasses.asdict`, read back from JSON, gave."""
    kinds = _kinds(cls)
    return cls(**{name: _converted(kinds[name], value) for name, value in body.items()})


@functools.cache
def _kinds(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _converted(kind: Any, value: Any) -> Any:
    """JSON has lists for tuples and objects for dataclasses."""
    if dataclasses.is_dataclass(kind):
        return built(typing.cast(type, kind), value)
    if typing.get_origin(kind) is tuple:
        inner, *rest = typing.get_args(kind)
        alike = rest == [...]
        return tuple(_converted(inner, entry) if alike else entry for entry in value)
    return value
