"""Options as one types them into a shell, for messages that say what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping


def condition(name: str, value: str, compares: str = "==") -> str:
    """The option that keeps the rows where a column has a value, or with != has not."""
    quoted = f'"{value}"' if value == "" or re.search(r"[,\"'\s]", value) else value
    column = f'"{name}"' if re.search(r"[<>=!]|\bin\b", name) else name
    return f"--where {_quoted(f'{column} {compares} {quoted}')}"


def mapped(columns: Mapping[str, str]) -> str:
    """The option that maps ours -> the table's; "" says that the table has none."""
    ends = (f"{_part(ours)}={_part(theirs)}" for ours, theirs in columns.items())
    text = ",".join(ends)
    plain = re.fullmatch(r"[\w:.=,/-]*", text)
    return f"--map {text if plain else _quoted(text)}"


def _part(name: str) -> str:
    """One side of a mapping, in double quotes where it would be taken apart."""
    return f'"{name}"' if re.search(r"[,=]", name) else name


def _quoted(text: str) -> str:
    """Text in quotes for a shell."""
    return "'" + text.replace("'", "'\"'\"'") + "'"
