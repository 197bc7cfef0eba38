"""Reads files of a workdir whole, or refuses them with a reason.

People copy and move workdirs, and disks fill up. So a file may be cut short, empty, of
another kind, or not a file at all.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from etils import epath


class Unreadable(ValueError):
    """A file cannot be used; the message says why, without the path."""


def is_remote(path: str | os.PathLike[str]) -> bool:
    return "://" in os.fspath(path)


def data(path: epath.Path, most: int | None = None) -> bytes:
    """The bytes of a regular file; others are not opened, since a fifo would block.

    Args:
      most: the largest size in bytes.

    Raises:
      Unreadable: it is no plain file, larger, or cannot be read.
      FileNotFoundError: nothing is there.
    """
    name = os.fspath(path)
    if is_remote(name):
        if path.is_dir():
            raise Unreadable("is a folder, no file")
        return path.read_bytes()
    try:
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"is {_kind(status.st_mode)}, no file")
        if most is not None and status.st_size > most:
            raise Unreadable(f"is larger than {most} bytes")
        with open(name, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        if os.path.islink(name):
            raise Unreadable("is a link to nothing") from error
        raise
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from error


def json_object(path: epath.Path) -> dict[str, Any]:
    """A JSON object. Raises as `data` does; Unreadable where it is something else."""
    raw = data(path)
    if not raw.strip():
        raise Unreadable("is empty")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise Unreadable(f"is no JSON ({error})") from error
    if not isinstance(body, dict):
        raise Unreadable(f"holds a JSON {_JSON[type(body)]}, no object")
    return body


_JSON: dict[type, str] = {
    list: "list",
    str: "string",
    int: "number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a fifo",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
