"""Imports run one way: what a run is, what it costs, how it trains, where, and when."""

import ast
import collections
import graphlib
from pathlib import Path

import pytest

import scaling

ROOT = Path(scaling.__file__).parent
# A room imports those before it, and modules that stand in no room.
ROOMS = ("families", "corpora", "planning", "training", "engines", "scheduling")


def unit(module):
    """The room that a module of `scaling` is in, or the module's own name."""
    return module.split(".")[1]


def imported(file):
    """Modules of `scaling` that a file imports, wherever in it, but not for types."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "scaling":
            yield from (f"scaling.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.fixture(scope="module")
def edges():
    """The units that each unit imports."""
    found = collections.defaultdict(set)
    for file in ROOT.rglob("*.py"):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts != ("__init__",):  # the public names, which `scaling` gives on demand
            inside = (m for m in imported(file) if m.startswith("scaling."))
            found[parts[0]] |= set(map(unit, inside)) - {parts[0]}
    return found


def test_a_room_imports_only_those_before_it(edges):
    for number, room in enumerate(ROOMS):
        assert not edges[room] & set(ROOMS[number + 1 :]), room


def test_no_module_imports_one_that_imports_it(edges):
    assert list(graphlib.TopologicalSorter(edges).static_order())


def test_scaling_imports_neither_analysis_nor_launch():
    for file in ROOT.rglob("*.py"):
        tops = {module.split(".")[0] for module in imported(file)}
        assert not tops & {"analysis", "launch", "configs", "tests"}, file


def test_what_plans_and_watches_does_not_import_what_trains(edges):
    """The process that shows progress starts at once and holds no accelerator."""
    assert "training" not in edges["scheduling"] | edges["engines"]
