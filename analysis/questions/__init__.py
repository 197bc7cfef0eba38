"""What readers want to know, one question a file."""

from __future__ import annotations

import sys
from types import ModuleType

from scaling import plugins


def files() -> list[ModuleType]:
    """The files of this folder, and a user's own that were included, by name."""
    return plugins.modules(sys.modules[__name__], "QUESTION")


def key() -> tuple[tuple[str, str], ...]:
    """What changes when a file is included: the names and digests of all that were."""
    return tuple(sorted(plugins.included().items()))
