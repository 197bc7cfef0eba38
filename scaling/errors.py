"""Errors that end a command with one line: wrong input, a signal, a dead child."""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator
from typing import Any


class UserError(ValueError):
    """Wrong input: names the field, the value given and what would be right.

    Commands print it as one line and exit with code 2; it never means a bug.
    """

    def __init__(self, field: str, value: Any, expected: str):
        self.field, self.value, self.expected = field, value, expected
        what = f"invalid {field} {value!r}"
        if value is None or value == "":
            what = f"no value for {field}"
        super().__init__(f"{what}: {expected}")


class Ended(Exception):
    """A command ends before its work is done, for a reason other than wrong input.

    Commands print it as one line and exit with `code`: 128 + the number of the signal
    that stopped them, or 1.
    """

    def __init__(self, line: str, code: int):
        self.code = code
        super().__init__(line)


def unknown(field: str, name: str, known: Iterable[str]) -> UserError:
    """The error for an unknown name: suggests the nearest one and lists all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(field, name, f"{hint}known: {', '.join(names) or 'none'}")


# Errors of a file system that cannot be written to; a study cannot continue then.
DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,  # a file where a folder should be
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)


class DiskError(UserError):
    """The disk is full or cannot be written to."""

    def __init__(self, message: str):
        expected = "free space there or choose another folder, then run the same "
        expected += "command again; finished runs are kept"
        super().__init__("workdir or data_dir", message, expected)
        self.args = (f"cannot write to the workdir or data_dir: {message}; {expected}",)


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Within it, errors of a full or unwritable disk become a DiskError of one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise DiskError(str(error)) from error
