"""Finds the files of some kinds below a folder or behind a glob, each once, in order.

Links to files and folders are followed; one that leads back up the tree is not followed
again. Anything that has the name of a text file and is none (a pipe, a broken link, a
folder without permission) is refused, so that nothing is skipped silently.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from scaling.errors import UserError

PACKED = (".gz", ".xz", ".zst")
TABLES = (".parquet",)
KINDS = tuple(f"{k}{p}" for k in (".txt", ".jsonl") for p in ("", *PACKED)) + TABLES
_MAGIC = frozenset("*?[")
# Where relative paths start: the study file's folder, once it is known.
_start = Path()


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file to read.

    Attributes:
      name: its path below the folder that was given.
      path: where it is, to open and to be named in messages.
      kind: the end of its name, one of KINDS, in lower case.
      state: of the file when it was found.
    """

    name: str
    path: Path
    kind: str
    state: os.stat_result


@dataclasses.dataclass
class Found:
    """Text files in order of their names, and counts of other files by their ending."""

    files: list[TextFile]
    others: collections.Counter[str]


def refuse(place: object, why: str) -> NoReturn:
    """Raises the error of a file that cannot be read, in one line.

    Args:
      place: the file, with the line or row in it where that is known.
      why: what is wrong with it, beginning with a verb.
    """
    raise UserError("data.corpus path", str(place), f"it {' '.join(why.split())}")


@contextlib.contextmanager
def seen_from(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Resolves relative paths from `folder`, not from the current directory.

    A path in a study file is part of a run's identity, so its meaning must not depend
    on the folder in which a command was typed.
    """
    global _start
    before, _start = _start, Path(folder)
    try:
        yield
    finally:
        _start = before


def find(path: str, kinds: tuple[str, ...] = KINDS) -> Found:
    """The files of `path`: a file, a folder with all below it, or a glob.

    Args:
      kinds: how their names end, in small letters.

    Raises:
      UserError: nothing to read there, or something that is named as text and is none.
    """
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise UserError("data.corpus path", path, "give a folder or glob as text")
    if "://" in path:
        expected = "files are read from this machine: copy it to a local folder first"
        raise UserError("data.corpus path", path, expected)
    place = _start / _expanded(path)
    search = _Search(kinds)
    if _is_there(place):
        name = "" if os.path.isdir(place) else place.name
        search.take(place, name, given=True)
    else:
        base, matches = _globbed(place)
        for match in dict.fromkeys(matches):
            search.take(match, os.path.relpath(match, base), given=True)
    if not search.found.files:
        there = ", ".join(f"{n} {kind}" for kind, n in search.found.others.items())
        seen = f"it has {there}" if there else "there is nothing to read"
        if not _expanded(path).is_absolute():
            seen += f" (seen from {_start.absolute()})"
        expected = f"give a folder or glob of {', '.join(kinds)}; {seen}"
        raise UserError("data.corpus path", path, expected)
    search.found.files.sort(key=lambda file: Path(file.name))
    return search.found


def unread(path: str, kinds: tuple[str, ...] = KINDS) -> list[str]:
    """A note on the files of `path` that are of other kinds, if there are any."""
    others = find(path, kinds).others
    if not others:
        return []
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    return [f"not read, since of other kinds: {listed}"]


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # `~name` where there is no such user: a name of a file
        return Path(path)


def _is_there(place: Path) -> bool:
    try:
        os.lstat(place)
    except PermissionError as error:
        refuse(place, f"cannot be read: {error.strerror}")
    except OSError:
        return False
    return True


class _Search:
    """Collects files; what was seen, by device and inode, is not taken again."""

    def __init__(self, kinds: tuple[str, ...]):
        self._kinds = kinds
        self.found = Found([], collections.Counter())
        self._seen: set[tuple[int, int]] = set()

    def take(self, path: Path, name: str, given: bool = False) -> None:
        """Takes a file, or what is in a folder.

        Args:
          name: what the file is called in keys; "" for the folder that was given.
          given: matched by a glob, where a folder counts only if named as text is.
        """
        kind = _kind(path.name, self._kinds)
        state = self._state(path, kind)
        if state is None or self._known(state):
            return
        if stat.S_ISDIR(state.st_mode):
            if not given or name == "" or kind:
                self._enter(path, name, kind)
            else:
                self.found.others["folder"] += 1
        elif not kind:
            self.found.others[path.suffix or "without an ending"] += 1
        elif not stat.S_ISREG(state.st_mode):
            refuse(path, f"is {_sort(state.st_mode)}, not a file")
        else:
            self.found.files.append(TextFile(name, path, kind, state))

    def _enter(self, folder: Path, name: str, kind: str) -> None:
        before = len(self.found.files)
        for entry in _listed(folder):
            self.take(folder / entry, os.path.join(name, entry))
        if kind and len(self.found.files) == before:
            refuse(folder, "is a folder with nothing to read in it")

    def _state(self, path: Path, kind: str) -> os.stat_result | None:
        try:
            return path.stat()
        except OSError as error:
            if kind and path.is_symlink():
                refuse(path, f"is a link that leads to no file: {error.strerror}")
            if kind:
                refuse(path, f"cannot be read: {error.strerror}")
        self.found.others["link that leads nowhere"] += 1
        return None

    def _known(self, state: os.stat_result) -> bool:
        mark = (state.st_dev, state.st_ino)
        if not state.st_ino or mark in self._seen:  # some file systems number nothing
            return bool(state.st_ino)
        self._seen.add(mark)
        return False


def _kind(name: str, kinds: tuple[str, ...]) -> str:
    """The longest of the kinds that `name` ends with, capitals or not; "" for none."""
    low = name.lower()
    return max((kind for kind in kinds if low.endswith(kind)), key=len, default="")


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        refuse(folder, f"cannot be listed: {error.strerror}")


def _sort(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _globbed(place: Path) -> tuple[Path, Iterator[Path]]:
    """The folder that a glob starts from, and what it matches there."""
    base = Path(place.anchor)
    parts = list(place.parts[bool(place.anchor) :])
    while len(parts) > 1 and os.path.isdir(base / parts[0]):
        base /= parts.pop(0)
    return base, _expand(base, parts, set())


def _expand(
    base: Path, parts: Sequence[str], entered: set[tuple[int, int, int]]
) -> Iterator[Path]:
    """What the parts of a glob match below `base`.

    The library's own glob takes `[` of a folder's name for a pattern, and goes round
    and round where links lead up.

    Args:
      entered: folders that `**` went into, by device, inode and the parts left.
    """
    if not parts:
        yield base
        return
    head, rest = parts[0], parts[1:]
    if head != "**" and (not _MAGIC & set(head) or os.path.lexists(base / head)):
        if os.path.lexists(base / head):
            yield from _expand(base / head, rest, entered)
        return
    if not os.path.isdir(base):
        return
    if head != "**":
        for name in _listed(base):
            if fnmatch.fnmatchcase(name, head) and _shown(name, head):
                yield from _expand(base / name, rest, entered)
        return
    state = base.stat()
    mark = (state.st_dev, state.st_ino, len(parts))
    if mark in entered:
        return
    entered.add(mark)
    if rest:
        yield from _expand(base, rest, entered)
    for name in _listed(base):
        if not _shown(name, head):
            continue
        if os.path.isdir(base / name):
            yield from _expand(base / name, parts, entered)
        elif not rest:
            yield base / name


def _shown(name: str, pattern: str) -> bool:
    return not name.startswith(".") or pattern.startswith(".")
