"""Refuses runs whose fields hold values of the wrong kind: text for a number, say.

A study file is Python, in which nothing else looks at a field before it is hashed,
compared or multiplied, far from the line that set it.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator
from typing import Any

from scaling.errors import UserError
from scaling.run import EvaluationSet, Mixture, Options, Part, Probes, Run, Samples

# What a field's value is made with, for messages.
MADE: dict[Any, str] = {
    Mixture: "corpus(...) or mixture(...)",
    Options: "options(...)",
    tuple[EvaluationSet, ...]: "a tuple of EvaluationSet(...)",
    tuple[Probes, ...]: "a tuple of Probes(...)",
    tuple[Samples, ...]: "a tuple of Samples(...)",
    tuple[float, ...]: "a tuple of numbers, such as (0.5, 1.0)",
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "True or False",
}


def check_types(run: Run) -> None:
    """Raises UserError for the first field that holds another kind of value."""
    _check(run, "")


def _check(value: Any, prefix: str) -> None:
    owner: Any = type(value)  # mypy does not take a class for hashable
    for name, (kind, plain) in _fields(owner).items():
        held = getattr(value, name)
        if type(held) in plain:
            continue  # most values: the quick test first, as studies have many runs
        field = prefix + name
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            if not isinstance(held, kind):
                raise UserError(field, held, f"give {kind.__name__}(...)")
            _check(held, f"{field}.")
        elif not _fits(held, kind):
            raise UserError(field, held, f"give {_made(held, kind)}")
        elif isinstance(held, tuple):
            for entry in held:
                if isinstance(entry, Part | EvaluationSet | Probes | Samples):
                    _check(entry, f"{field}.")


@functools.cache
def _fields(owner: type) -> dict[str, tuple[Any, frozenset[type]]]:
    """The kinds of a dataclass's fields, and the types of which any value fits.

    Of a model's family any is looked up later.
    """
    kinds = typing.get_type_hints(owner)
    return {name: (kind, frozenset(_plain(kind))) for name, kind in kinds.items()}


def _plain(kind: Any) -> Iterator[type]:
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    for one in typing.get_args(kind) if union else (kind,):
        if one in (int, float, str, bool, types.NoneType):
            yield one


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind; numpy's numbers are not, which JSON has not."""
    if type(value) is kind:  # most values: the quick test first
        return True
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_fits(entry, arguments[0]) for entry in value)
        ends = zip(value, arguments, strict=False)
        return len(value) == len(arguments) and all(_fits(*end) for end in ends)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _made(value: Any, kind: Any) -> str:
    """What is right in a field, as one writes it."""
    whole = isinstance(value, float) and value.is_integer()
    arguments = typing.get_args(kind)
    if whole and (kind is int or int in arguments):
        return f"a whole number, {int(value)}"
    if isinstance(value, typing.SupportsIndex) and (kind is int or int in arguments):
        return f"Python's own whole number, int({value})"
    known = MADE.get(kind) or MADE.get(next(iter(arguments), None))
    return known or str(kind)
