"""A file's bytes, unpacked by what they are and whatever the file is called."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaling.errors import UserError

# How a member of a packed file is unpacked, and the error that this raises.
Unpacker = tuple[Callable[[], Any], type[Exception]]


def _zstd(path: str) -> Unpacker:
    try:
        import zstandard
    except ModuleNotFoundError:
        expected = "reading zstd needs: pip install 'datalaw[zstd]'"
        raise UserError("table", path, expected) from None
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    return unpacker.decompressobj, zstandard.ZstdError


PACKED: dict[bytes, tuple[str, Callable[[str], Unpacker]]] = {
    b"\x1f\x8b": ("gzip", lambda _: (lambda: zlib.decompressobj(31), zlib.error)),
    b"\xfd7zXZ\x00": ("xz", lambda _: (lzma.LZMADecompressor, lzma.LZMAError)),
    b"BZh": ("bzip2", lambda _: (bz2.BZ2Decompressor, OSError)),
    b"(\xb5/\xfd": ("zstd", _zstd),
}
# The endings of packed files, which stand behind that of the table.
ENDINGS = (".gz", ".xz", ".bz2", ".zst", ".zstd")


def read(path: str) -> bytes:
    """The whole of a file, unpacked. Raises UserError where it cannot be read whole."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        expected = f"it cannot be read: {error.strerror or error}"
        raise UserError("table", path, expected) from error
    for beginning, (name, unpacker) in PACKED.items():
        if data.startswith(beginning):
            return _members(data, path, name, *unpacker(path))
    return data


def _members(
    data: bytes, path: str, name: str, new: Callable[[], Any], errors: type[Exception]
) -> bytes:
    """All members of a packed file, one after the other; readers of one stop there."""
    parts: list[bytes] = []
    while data:
        member = new()
        try:
            parts.append(member.decompress(data))
        except errors as error:
            expected = f"{name} that is whole; it is damaged ({error})"
            raise UserError("table", path, expected) from error
        if not member.eof:
            given = sum(map(len, parts))
            expected = f"{name} that is whole; it is cut short after {given:,} bytes"
            raise UserError("table", path, expected)
        # Zeros may fill a file up after its last member.
        data = member.unused_data.lstrip(b"\0")
    return b"".join(parts)
