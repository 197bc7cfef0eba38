"""Your own pictures: a folder or glob of .png and .jpg files, all of one size.

For example `corpus("images", path="~/birds", labels=True)`, with a folder for each
class. Every file is read, or the study is refused with one line that names the file and
the reason. Pictures are gray or RGB with 8 bits a channel, and are not changed: scale
them to one size beforehand. A picture is a group of its own, or with `groups=True` all
of a folder are one.
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scaling.corpora import _text_files
from scaling.corpora._pictures import Picture
from scaling.corpora._text_files import TextFile, refuse
from scaling.errors import UserError

LICENCE = "the user's own"
SOURCE = "the user's own files"

KINDS = (".png", ".jpg", ".jpeg")
# What Pillow calls a kind of pixels, and what can be done about it.
_MODES = {
    "P": "has a palette; convert it to RGB",
    "PA": "has a palette; convert it to RGB",
    "1": "has 1 bit a pixel; convert it to gray with 8",
    "LA": "has transparency; put it on a background",
    "RGBA": "has transparency; put it on a background",
    "I;16": "has 16 bits a pixel; convert it to 8",
    "I;16B": "has 16 bits a pixel; convert it to 8",
    "I": "has 16 bits a pixel or more; convert it to 8",
    "CMYK": "has the colours of print; convert it to RGB",
}
_ORIENTATION = 0x0112  # how a viewer turns the picture; 1 for not at all


def version(path: str, labels: bool = False, groups: bool = False) -> str:
    """Hash of the files' names, sizes and times of change."""
    _pillow()
    for name, value in (("labels", labels), ("groups", groups)):
        if not isinstance(value, bool):
            raise UserError(f"data.corpus {name}", value, "give True or False")
    states = [(f.name, f.state) for f in _text_files.find(path, KINDS).files]
    body = [(n, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in states]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def remarks(path: str, labels: bool = False, groups: bool = False) -> list[str]:
    """Notes which files were not read because they are of other kinds."""
    del labels, groups
    return _text_files.unread(path, KINDS)


def pictures(
    path: str, labels: bool = False, groups: bool = False
) -> Iterator[Picture]:
    """One picture a file.

    Args:
      path: a folder, read with all below it, or a glob.
      labels: whether the name of a picture's folder is its class.
      groups: whether the pictures of a folder are held out together.

    Raises:
      UserError: no picture there, one that is broken or of a kind that is not read, one
        without a folder of its own where labels or groups come from folders.
    """
    files = _text_files.find(path, KINDS).files
    folders = sorted({str(Path(file.name).parent) for file in files})
    for file in files:
        folder = str(Path(file.name).parent)
        if (labels or groups) and folder == ".":
            what = "labels" if labels else "groups"
            refuse(
                file.path,
                f"lies in no folder below {path}, and {what}=True takes them from the "
                "names of folders; move it into one",
            )
        yield Picture(
            file.name.encode("utf-8", "replace").decode(),
            _read(file),
            folder if groups else file.name,
            folders.index(folder) if labels else -1,
        )


def _read(file: TextFile) -> np.ndarray:
    """uint8 [height, width, 1 or 3]."""
    image = _pillow()
    try:
        with image.open(file.path) as opened:
            if why := _unlike(opened):
                refuse(file.path, f"{why}: gray or RGB of 8 bits is read")
            pixels = np.asarray(opened, np.uint8)
    except UserError:  # a ValueError, as are some of Pillow's
        raise
    # Pillow raises SyntaxError or ValueError for some broken PNG files, and its own
    # error, which is an OSError, for what it does not know.
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        refuse(file.path, f"is broken or no picture: {error}")
    return pixels.reshape(*pixels.shape[:2], -1)


def _unlike(opened: Any) -> str:
    """What a picture has that its pixels alone would not show; "" for nothing."""
    frames = getattr(opened, "n_frames", 1)
    if frames > 1:
        return f"has {frames} pictures that follow each other; save one of them"
    if opened.mode not in ("L", "RGB"):
        return _MODES.get(opened.mode, f"has pixels of the kind {opened.mode}")
    # Pillow calls colours of 16 bits RGB too, and would halve them without a word.
    if any(";16" in str(tile[3]) for tile in opened.tile):
        return _MODES["I;16"]
    if "transparency" in opened.info:
        return "has a transparent colour; put it on a background"
    turned = opened.getexif().get(_ORIENTATION, 1)
    if turned != 1:
        return f"is stored turned (EXIF orientation {turned}); save it upright"
    return ""


def _pillow() -> types.ModuleType | Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        why = "needs Pillow: pip install 'datalaw[images]'"
        raise UserError("data.corpus", "images", why) from None
    return Image
