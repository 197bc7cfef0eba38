"""Finds plug-in modules by import: one file in a folder is one family, corpus or law.

There is no registry to edit. A module takes part if it has the attribute that its
package asks for; a user's own file outside the package joins through `include`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from scaling.errors import UserError, unknown

_included: dict[str, ModuleType] = {}
_digests: dict[str, str] = {}


def names(package: ModuleType, attribute: str) -> list[str]:
    """Names of the plug-ins of `package`, and of included files with `attribute`.

    Nothing is imported: a file whose name begins with an underscore is a helper
    and not a plug-in, every other one is.
    """
    found = {m.name for m in pkgutil.iter_modules(package.__path__)}
    found |= {name for name, module in _included.items() if hasattr(module, attribute)}
    return sorted(name for name in found if not name.startswith("_"))


def load(package: ModuleType, name: str, attribute: str, field: str) -> ModuleType:
    """The plug-in `name` of `package`, which must define `attribute`.

    Raises:
      UserError: no such file, or a file without the attribute.
    """
    if name in _included and hasattr(_included[name], attribute):
        return _included[name]
    known = names(package, attribute)
    if name not in known:
        raise unknown(field, name, known)
    module = importlib.import_module(f"{package.__name__}.{name}")
    if not hasattr(module, attribute):
        raise UserError(field, name, f"its file must define `{attribute}`")
    return module


def include(path: str) -> str:
    """Loads a user's own plug-in file; returns its sha256.

    The plug-in is known by the file's stem and wins over a built-in of that name.
    """
    file = Path(path).expanduser()
    if not file.is_file() or file.suffix != ".py":
        raise UserError("include", path, "give the path of a Python file (.py)")
    name = file.stem
    spec = importlib.util.spec_from_file_location(f"scaling_include_{name}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    _included[name] = module
    _digests[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return _digests[name]


def included() -> dict[str, str]:
    """sha256 of every included file, by the name it is known by."""
    return dict(_digests)
