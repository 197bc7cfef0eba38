"""How many columns a table may have, and that each has a name of its own."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from scaling.errors import UserError

MOST_COLUMNS = 10_000


def check_width(path: str, columns: int) -> None:
    """Raises UserError for more columns than any table of runs has."""
    if columns > MOST_COLUMNS:
        expected = f"at most {MOST_COLUMNS} columns; {path} has {columns}"
        raise UserError("table", columns, expected)


def check_doubled(names: Iterable[str]) -> None:
    """Raises UserError for the first name that two columns have."""
    counts = collections.Counter(names)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise UserError("table", doubled[0], "each column name only once")
