"""Unpacks a packed file, all its members, so that it is read whole or refused.

The libraries' own readers end quietly where a file was cut (zstd), read one of several
frames (zstd) or leave out what follows the packed data (xz), so the loop over the
members of a file is here and is the same for all.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

Refuse = Callable[[str], NoReturn]  # raises the caller's error: "it " + why

# What makes the reader of one member, and the error that this reader raises.
_Unpacker = tuple[Callable[[], Any], type[Exception]]


def _zstd(refuse: Refuse) -> _Unpacker:
    try:
        import zstandard
    except ModuleNotFoundError:
        refuse("is packed by zstd, which needs: pip install 'datalaw[zstd]'")
    # Long windows are allowed: what was packed with them is text like any other.
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    return unpacker.decompressobj, zstandard.ZstdError


_UNPACKERS: dict[str, Callable[[Refuse], _Unpacker]] = {
    "gzip": lambda _: (lambda: zlib.decompressobj(wbits=31), zlib.error),
    "xz": lambda _: (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), lzma.LZMAError),
    "bzip2": lambda _: (bz2.BZ2Decompressor, OSError),
    "zstd": _zstd,
}


def unpacked(pieces: Iterable[bytes], packing: str, refuse: Refuse) -> Iterator[bytes]:
    """What a packed file holds, all its members one after the other, in pieces.

    Args:
      pieces: the file's bytes in order.
      packing: "gzip", "xz", "bzip2" or "zstd".
      refuse: called with what is wrong with the file: it is cut short or damaged.
    """
    new, errors = _UNPACKERS[packing](refuse)
    member: Any = None  # the one that is being read
    ended = given = 0  # members, bytes of text
    for data in pieces:
        while data:
            if member is None and ended and not (data := data.lstrip(b"\0")):
                break  # zeros may fill a file up after a member
            first = member is None
            member = new() if first else member
            where = f"after {given:,} bytes of text"
            try:
                text = member.decompress(data)
            except errors as error:
                if first and ended:
                    refuse(f"continues with something that is not packed, {where}")
                refuse(f"is damaged, {where}: {error}")
            data = b""
            if member.eof:
                data, member = member.unused_data, None
                ended += 1
            given += len(text)
            yield text
    if member is not None:
        refuse(f"is cut short, after {given:,} bytes of text")
