"""Writes files of a workdir atomically, on a disk or in a bucket."""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from collections.abc import Mapping

import fsspec
import numpy as np
from etils import epath

from scaling import intact


def write_atomic(path: epath.Path, data: bytes) -> None:
    """Replaces `path` by `data`, whole or not at all."""
    if intact.is_remote(
        path
    ):  # a store of objects writes them whole; it has no folders
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.isdir(path) and not os.path.islink(path):
        _out_of_the_way(path)
    partial = _partial(path)
    try:
        _write_synced(partial, data)
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):  # it is gone where it was renamed
            os.unlink(partial)


def _out_of_the_way(folder: epath.Path) -> None:
    """Renames a folder that stands where a file belongs."""
    number = 0
    while os.path.lexists(f"{os.fspath(folder)}.damaged.{number}"):
        number += 1
    os.rename(folder, f"{os.fspath(folder)}.damaged.{number}")


def write_once(path: epath.Path, data: bytes) -> bool:
    """As `write_atomic`, but leaves an existing file alone and returns False.

    In a bucket, True also where the very same bytes are there already.
    """
    if intact.is_remote(path):
        return _create(path, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        _write_synced(partial, data)
        os.link(partial, path)  # fails, and atomically so, where the name is taken
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(OSError):  # it was never made
            os.unlink(partial)
    return True


def _partial(path: epath.Path) -> epath.Path:
    """A name that no other writer uses: hosts that share a disk share process ids."""
    return path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}"


def _create(path: epath.Path, data: bytes) -> bool:
    """Makes an object where there is none: the bucket decides between two writers.

    A request whose answer was lost is sent again, and is then refused for the object
    that it made itself: what has these very bytes counts as made.
    """
    bucket, _ = fsspec.core.url_to_fs(os.fspath(path))
    try:
        bucket.pipe_file(os.fspath(path), data, mode="create")
    except FileExistsError:
        return path.read_bytes() == data
    return True


def _write_synced(path: epath.Path, data: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.filename is None:  # what is full is said by open alone
            error.filename = os.fspath(path)
        raise


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A compressed .npz; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
