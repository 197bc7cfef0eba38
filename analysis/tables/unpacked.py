"""A file's bytes, unpacked by what they are and whatever the file is called."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from scaling.decompress import decompressed
from scaling.errors import UserError

BEGINNINGS = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"(\xb5/\xfd": "zstd",
}
# The endings of packed files, which stand behind that of the table.
ENDINGS = (".gz", ".xz", ".bz2", ".zst", ".zstd")


def read(path: str) -> bytes:
    """The whole of a file, unpacked. Raises UserError where it cannot be read whole."""

    def refuse(why: str) -> NoReturn:
        raise UserError("table", path, f"it {why}")

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        refuse(f"cannot be read: {error.strerror or error}")
    for beginning, packing in BEGINNINGS.items():
        if data.startswith(beginning):
            return b"".join(decompressed([data], packing, refuse))
    return data
