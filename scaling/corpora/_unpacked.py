"""Opens a text file, compressed or not, so that it is read whole or refused."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from scaling.corpora._text_files import PACKED, TextFile, refuse
from scaling.decompress import decompressed

# What the first bytes of a file say it is, how its name ends where it is read, and
# what else can be done.
_TAKE_OUT = "take the text out of it"
_CONVERT = "convert it to UTF-8, as by `iconv -f {} -t UTF-8`"
_BEGINNINGS = (
    (b"\x1f\x8b", "compressed with gzip", ".gz", ""),
    (b"(\xb5/\xfd", "compressed with zstd", ".zst", ""),
    (b"\xfd7zXZ\x00", "compressed with xz", ".xz", ""),
    (b"PAR1", "a Parquet file", ".parquet", ""),
    (b"PK\x03\x04", "a zip archive or an office document", "", _TAKE_OUT),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "", _TAKE_OUT),
    (b"Rar!\x1a\x07", "a RAR archive", "", _TAKE_OUT),
    (b"%PDF-", "a PDF document", "", _TAKE_OUT),
    (b"ARROW1\x00", "an Arrow file", "", "write it as .parquet"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", "", _CONVERT.format("UTF-32")),
    (b"\x00\x00\xfe\xff", "UTF-32 text", "", _CONVERT.format("UTF-32")),
    (b"\xff\xfe", "UTF-16 text", "", _CONVERT.format("UTF-16")),
    (b"\xfe\xff", "UTF-16 text", "", _CONVERT.format("UTF-16")),
)
_SKIPPED = b"*M\x18"  # after the first byte of a zstd frame that readers pass over
_HEAD = 512
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Of compressed data at a time: even so it may expand to some tens of megabytes.
_CHUNK = 4096
_BUFFER = 1 << 20
_PACKINGS = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}


@contextlib.contextmanager
def opened(file: TextFile) -> Iterator[io.BufferedReader]:
    """The text of `file`, unpacked, without a byte-order mark.

    Raises:
      UserError: it cannot be opened, or is not what its name says; while it is read:
        it is cut short or damaged.
    """
    ending = next((e for e in PACKED if file.kind.endswith(e)), "")
    with opened_raw(file.path) as raw:
        stream = _buffered(_Checked(raw, file.path))
        check_beginning(file.path, stream.peek(_HEAD)[:_HEAD], ending)
        if ending:
            stream = _buffered(_Unpacked(stream, file.path, ending))
            check_beginning(file.path, stream.peek(_HEAD)[:_HEAD], "", "is, unpacked,")
        if stream.peek(3)[:3] == _BYTE_ORDER_MARK:
            stream.read(3)
        yield stream


@contextlib.contextmanager
def opened_raw(path: Path) -> Iterator[io.FileIO]:
    """A file's bytes as they are. One that cannot be opened is the user's error."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb", buffering=0))
        except OSError as error:
            refuse(path, f"cannot be opened: {error.strerror or error}")
        yield file


def _buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, _BUFFER)  # type: ignore[type-var]


def check_beginning(path: Path, head: bytes, ending: str, how: str = "is") -> None:
    """Refuses a file whose first bytes are not those that its name promises.

    Args:
      head: its first _HEAD bytes.
      ending: of a compressed file or a table; "" for plain text.
    """
    if ending and not head:
        refuse(path, f"is empty, and a whole {ending} file never is")
    for beginning, what, its_ending, advice in _BEGINNINGS:
        if not head.startswith(beginning):
            continue
        if its_ending and its_ending == ending:
            return
        named = f"a name that ends in {its_ending} says so"
        refuse(path, f"{how} {what}; {advice or named}")
    if head[257:262] == b"ustar":
        refuse(path, f"{how} a tar archive; {_TAKE_OUT}")
    if ending and not (ending == ".zst" and head[1:4] == _SKIPPED):
        wanted = next(what for _, what, e, _ in _BEGINNINGS if e == ending)
        refuse(path, f"{how} not {wanted}, as its name says; is it plain text?")


class _Checked(io.RawIOBase):
    """A raw file whose system errors become the user's."""

    def __init__(self, file: Any, path: Path):
        self._file, self._path = file, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._file.readinto(buffer) or 0)
        except OSError as error:
            refuse(self._path, f"cannot be read: {error.strerror or error}")


class _Unpacked(io.RawIOBase):
    """The text of a compressed file, as a stream."""

    def __init__(self, raw: BinaryIO, path: Path, ending: str):
        packed = iter(lambda: raw.read(_CHUNK), b"")
        complain = functools.partial(refuse, path)
        self._pieces = decompressed(packed, _PACKINGS[ending], complain)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._ready = memoryview(piece)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
