"""Questions are known by their interface alone."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from analysis import questions as folder

ROOT = Path(folder.__file__).parents[2]
INTERFACE = {"_question", "_view", "_asked"}
NAMES = {module.name for module in pkgutil.iter_modules(folder.__path__)}


def questions_of(path: Path) -> Iterator[str]:
    """The modules of the folder that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in named:
            parts = name.split(".")
            if parts[:2] == ["analysis", "questions"] and len(parts) > 2:
                yield parts[2]


def others() -> list[Path]:
    """Every file beside the questions, and those of their interface."""
    mine = Path(folder.__file__).parent
    rooms = (ROOT / room for room in ("analysis", "scaling", "launch"))
    beside = [f for room in rooms for f in room.rglob("*.py") if f.parent != mine]
    return sorted([*beside, *(mine / f"{name}.py" for name in INTERFACE)])


def test_no_file_beside_the_questions_knows_one_by_name():
    known = {
        str(path.relative_to(ROOT)): set(questions_of(path)) & NAMES - INTERFACE
        for path in others()
    }
    assert {path: some for path, some in known.items() if some} == {}
