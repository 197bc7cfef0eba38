"""Finds plug-ins by import: each file is one family, corpus, law or question.

There is no registry to edit. A module is a plug-in if it has the attribute that its
package requires; a user's own file outside the package is added through `include`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from scaling.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Included:
    """A user's own file, whose top-level names are known without running it.

    The process that plans reads the names only; a family's file imports JAX and is run
    in the process that trains it.
    """

    path: Path
    digest: str
    defines: frozenset[str]


_included: dict[str, Included] = {}


def names(package: ModuleType, *attributes: str) -> list[str]:
    """Names of the plug-ins of `package`, and of included files with an attribute.

    Nothing is imported: a file whose name begins with an underscore is a helper
    and not a plug-in, every other one is.
    """
    wanted = set(attributes)
    known = _files(tuple(package.__path__)) | {
        name for name, file in _included.items() if wanted & file.defines
    }
    return sorted(name for name in known if not name.startswith("_"))


@functools.cache  # a plan of 20,000 runs asks three times a run
def _files(path: tuple[str, ...]) -> frozenset[str]:
    """Names of the modules in the folders of a package."""
    return frozenset(module.name for module in pkgutil.iter_modules(path))


def load(package: ModuleType, name: str, field: str, *attributes: str) -> ModuleType:
    """The plug-in `name` of `package`, which must define one of the attributes.

    Raises:
      UserError: no such file, or a file without any of them.
    """
    if name in _included and set(attributes) & _included[name].defines:
        return _run(name, _included[name].path)
    if name.startswith("_") or name not in _files(tuple(package.__path__)):
        raise unknown(field, name, names(package, *attributes))
    module = importlib.import_module(f"{package.__name__}.{name}")
    if not any(hasattr(module, attribute) for attribute in attributes):
        wanted = " or ".join(f"`{attribute}`" for attribute in attributes)
        raise UserError(field, name, f"its file must define {wanted}")
    return module


def modules(package: ModuleType, attribute: str) -> list[ModuleType]:
    """Every module of `package` and every included file with `attribute`, by name.

    Modules of the package are listed whether they have the attribute or not.
    """
    known = names(package, attribute)
    own = {n: file for n, file in _included.items() if attribute in file.defines}
    return [
        _run(name, own[name].path)
        if name in own
        else importlib.import_module(f"{package.__name__}.{name}")
        for name in known
    ]


def _run(name: str, file: Path) -> ModuleType:
    """The module of an included file, run once a process."""
    full_name = f"scaling_include_{name}"
    loaded = sys.modules.get(full_name)
    if loaded is not None and loaded.__file__ == str(file):
        return loaded
    spec = importlib.util.spec_from_file_location(full_name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = module
    spec.loader.exec_module(module)
    return module


def include(path: str) -> None:
    """Makes a user's own file a plug-in, known by its stem before any built-in.

    Raises:
      UserError: no Python file, or one that does not parse.
    """
    file = Path(path).expanduser().resolve()
    if not file.exists():
        raise UserError("include", path, "there is no such file")
    if not file.is_file() or file.suffix != ".py":
        raise UserError("include", path, "give the path of a Python file (.py)")
    source = file.read_bytes()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise UserError("include", path, f"it must be Python: {error}") from error
    digest = hashlib.sha256(source).hexdigest()
    _included[file.stem] = Included(file, digest, frozenset(_top_level(tree)))


def constant(package: ModuleType, name: str, attribute: str) -> Any:
    """A literal at the top of a plug-in's file, read without running it; or None."""
    if name in _included:
        file = _included[name].path
    else:
        file = Path(package.__path__[0]) / f"{name}.py"
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == attribute for t in targets):
                try:
                    return ast.literal_eval(node.value)
                except ValueError:  # made by code
                    return None
    return None


def _top_level(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (t.id for t in targets if isinstance(t, ast.Name))


def included() -> dict[str, str]:
    """sha256 of every included file, by the name it is known by."""
    return {name: file.digest for name, file in _included.items()}
