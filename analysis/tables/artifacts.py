"""Arrays beside records, as .npz files: read whole or left out with a reason."""

from __future__ import annotations

import io
import math
import zipfile
import zlib

import numpy as np

from scaling import found
from scaling.record import Record, Store

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

    What is wrong with it is told by `store.complaints()`.
    """
    most = _most_bytes(record)
    try:
        body = store.artifact(record, name, most)
        return {} if body is None else _unpacked(body, most)
    except found.Unreadable as error:
        paths = [a.path for a in record.artifacts if a.name == name]
        path = f"{store.root}/{paths[0]}"
        store.said[path] = f"{error}: the report does without it"
        return {}


def _most_bytes(record: Record) -> int:
    """What a record explains: numbers a step and a scored token, names and headers."""
    scored = {x.evaluation: x.count for x in record.readings}
    return (1 << 18) + int(64 * (record.steps + sum(scored.values())))


def _unpacked(body: bytes, most: int) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as packed:
            _check_sizes(packed, most)
        with np.load(io.BytesIO(body)) as loaded:
            return {key: loaded[key] for key in loaded.files}
    except found.Unreadable:
        raise
    except _DAMAGE as error:
        raise found.Unreadable(f"is damaged ({error})"[:200]) from error


def _check_sizes(packed: zipfile.ZipFile, most: int) -> None:
    """Raises Unreadable before anything large is unpacked."""
    entries = packed.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > most:
        raise found.Unreadable(
            f"unpacks to {unpacked} bytes, more than its record explains: not unpacked"
        )
    for entry in entries:
        with packed.open(entry) as file:
            version = np.lib.format.read_magic(file)
            old = version == (1, 0)
            read = (
                np.lib.format.read_array_header_1_0
                if old
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
        if math.prod(shape) * dtype.itemsize > entry.file_size:
            raise found.Unreadable(f"is damaged ({entry.filename} of shape {shape})")
