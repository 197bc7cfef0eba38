"""Arrays beside records, as .npz files: read whole or left out with a reason."""

from __future__ import annotations

import functools
import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling import intact
from scaling.record import Record
from scaling.store import Store

# What a damaged archive makes zipfile, zlib and numpy raise: RuntimeError where it is
# encrypted, NotImplementedError where it is packed in a way that none knows.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    KeyError,
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
)


def arrays(store: Store, record: Record, name: str) -> dict[str, np.ndarray]:
    """Those of a record's artifact; none where it has none, or none that can be used.

    What is wrong with it is in `store.complaints()`.
    """
    most = _most_bytes(record)
    try:
        body = store.artifact(record, name, most)
        return {} if body is None else _unpacked(body, most)
    except intact.Unreadable as error:
        paths = [a.path for a in record.artifacts if a.name == name]
        path = f"{store.root}/{paths[0]}"
        store.problems[path] = f"{error}: the report does without it"
        return {}


def _most_bytes(record: Record) -> int:
    """What a record explains: numbers a step and a scored token, names and headers."""
    scored = {x.evaluation: x.count for x in record.readings}
    return (1 << 18) + int(64 * (record.steps + sum(scored.values())))


def _unpacked(body: bytes, most: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, each read in one pass.

    `np.load` would parse every header anew and make room for what it promises.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as packed:
            entries = packed.infolist()
            _check_sizes(entries, most)
            return {
                entry.filename.removesuffix(".npy"): _array(packed, entry)
                for entry in entries
            }
    except intact.Unreadable:
        raise
    except _DAMAGE as error:
        raise intact.Unreadable(f"is damaged ({error})"[:200]) from error


def _check_sizes(entries: Sequence[zipfile.ZipInfo], most: int) -> None:
    """Raises Unreadable before anything large is unpacked."""
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > most:
        raise intact.Unreadable(
            f"unpacks to {unpacked} bytes, more than its record explains: not unpacked"
        )


def _array(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    body = packed.read(entry)
    # Behind six letters and two numbers of the version stands the header's length.
    long = 2 if body[6:7] == b"\x01" else 4
    start = 8 + long + int.from_bytes(body[8 : 8 + long], "little")
    shape, fortran, dtype = _header(body[:start])
    if dtype.hasobject:
        raise ValueError("holds objects, no numbers")
    count = math.prod(shape)
    if count * dtype.itemsize > len(body) - start:
        raise intact.Unreadable(f"is damaged ({entry.filename} of shape {shape})")
    flat = np.frombuffer(body, dtype, count, start)
    return flat.reshape(shape, order="F" if fortran else "C").copy()


# Thousands of files have a few headers between them.
@functools.lru_cache(maxsize=256)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype of an .npy file."""
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    old = version == (1, 0)
    read = (
        np.lib.format.read_array_header_1_0
        if old
        else np.lib.format.read_array_header_2_0
    )
    return read(file)
