"""Decompresses gzip, xz, bzip2 and zstd, so that a file is read whole or refused.

The libraries' own readers end without an error where a file was cut short (zstd), read
one of several frames (zstd) or ignore what follows the compressed data (xz). So the
loop over the members of a file is here, the same for all four.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

Refuse = Callable[[str], NoReturn]  # raises the caller's error: "it " + why

# What makes the reader of one member, and the error that this reader raises.
_Reader = tuple[Callable[[], Any], type[Exception]]


def _zstd(refuse: Refuse) -> _Reader:
    try:
        import zstandard
    except ModuleNotFoundError:
        refuse("is compressed with zstd, which needs: pip install 'datalaw[zstd]'")
    # Files that were compressed with a long window are accepted too.
    reader = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    return reader.decompressobj, zstandard.ZstdError


_READERS: dict[str, Callable[[Refuse], _Reader]] = {
    "gzip": lambda _: (lambda: zlib.decompressobj(wbits=31), zlib.error),
    "xz": lambda _: (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), lzma.LZMAError),
    "bzip2": lambda _: (bz2.BZ2Decompressor, OSError),
    "zstd": _zstd,
}


def decompressed(
    pieces: Iterable[bytes], compression: str, refuse: Refuse
) -> Iterator[bytes]:
    """The content of a compressed file in pieces, all its members in turn.

    Args:
      pieces: the file's bytes in order.
      compression: "gzip", "xz", "bzip2" or "zstd".
      refuse: called with what is wrong with a file that is cut short or damaged.
    """
    new, errors = _READERS[compression](refuse)
    member: Any = None  # the one that is being read
    ended = given = 0  # members, bytes of text
    for data in pieces:
        while data:
            if member is None and ended and not (data := data.lstrip(b"\0")):
                break  # zeros may pad a file after a member
            first = member is None
            member = new() if first else member
            where = f"after {given:,} bytes of text"
            try:
                text = member.decompress(data)
            except errors as error:
                if first and ended:
                    refuse(f"continues with data that is not compressed, {where}")
                refuse(f"is damaged, {where}: {error}")
            data = b""
            if member.eof:
                data, member = member.unused_data, None
                ended += 1
            given += len(text)
            yield text
    if member is not None:
        refuse(f"is cut short, after {given:,} bytes of text")
