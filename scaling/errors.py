"""The one error a user's mistake raises: a single line that says what is right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """Wrong input: names the field, the value given and what would be right.

    Commands print it as one line and exit with code 2; it never means a bug.
    """

    def __init__(self, field: str, value: Any, expected: str):
        self.field, self.value, self.expected = field, value, expected
        super().__init__(f"{field}: {value!r} is not usable; {expected}")


def unknown(field: str, name: str, known: Iterable[str]) -> UserError:
    """A misspelt name: the error lists the known ones, the nearest first."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(field, name, f"{hint}known: {', '.join(names) or 'none'}")
