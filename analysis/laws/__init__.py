"""Scaling laws: one file each, found by import."""

from __future__ import annotations

import sys
from types import ModuleType

from scaling import discover


def names() -> list[str]:
    return discover.names(sys.modules[__name__], "LAW")


def load(name: str) -> ModuleType:
    """The law's module. Raises UserError for an unknown name."""
    return discover.load(sys.modules[__name__], name, "LAW", "law")
