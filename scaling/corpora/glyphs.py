"""Letters and signs, drawn from the fonts that come with matplotlib.

Every character of every font is drawn once, in gray, on a square of `size` pixels: the
em is the square's side, the baseline lies at four fifths of its height, and what is
drawn stands in the middle. What no pixel shows is left out, and so is a picture that is
there already. A group is a character, in whichever fonts it is drawn.

How many there are depends on where they are placed. With matplotlib 3.11.2, 57,697
characters of 39 fonts make 36,417 pictures of 8 pixels and 41,429 of 16: glyphs that
differ only in what is cut off are one picture. In the middle both ways they would be
42,103 of 8 pixels, but an "o" would not stand on the line of a "p"; with an em of 5
pixels, 41,339, of fewer pixels a letter.

A caption names the style of the font and the character, as Unicode does: "sans bold:
latin small letter a". The symbol fonts have other signs at their code points, so their
pictures have groups of their own and no caption.

`new` says what is held out. By default it is characters. For studies of captions, a
model should know the character and the font of a caption, and not the two together: a
twentieth of the pictures of every other character is left out of training too, and
"combinations" holds these out, "characters" the pictures of characters that are not
read at all. What is read is the same with both; what has no caption is left out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.font_manager
import matplotlib.ft2font
import numpy as np

from scaling.corpora._pictures import Picture, check_drawn
from scaling.corpora._splits import HELD_OUT, LEFT_OUT, TRAIN, held_out
from scaling.errors import unknown

LICENCE = "Bitstream Vera and BaKoMa licences, as matplotlib distributes the fonts"
SOURCE = "https://matplotlib.org"

SIZES = (8, 12, 16, 32, 64)
BASELINE = 0.8
# LastResort has a glyph for each of a million code points, none of them of its own.
_SKIPPED = ("LastResort",)
# Fonts of which a code point does not say the sign.
_SYMBOLS = ("cm", "STIXNonUni", "STIXSiz")
_STYLES = {
    "DejaVuSansMono": "mono",
    "DejaVuSansDisplay": "sans display",
    "DejaVuSans": "sans",
    "DejaVuSerifDisplay": "serif display",
    "DejaVuSerif": "serif",
    "STIXGeneral": "times",
}
_KINDS = ("Bold", "Oblique", "Italic")


NEW = ("", "characters", "combinations")


def version(size: int = 8, captions: int = 0, new: str = "") -> str:
    if new not in NEW:
        raise unknown("data.corpus new", str(new), NEW[1:])
    check_drawn("glyphs", size, SIZES, captions)
    return f"matplotlib {matplotlib.__version__}"


def pictures(size: int = 8, captions: int = 0, new: str = "") -> Iterator[Picture]:
    """The glyphs, font by font.

    Args:
      size: pixels of a side: 8, 12, 16, 32 or 64.
      captions: bytes of a caption that are kept, 0 for none.
      new: what is held out of studies of captions; "" in others.
    """
    known = _known(size) if new else set()
    for path, code, pixels in _glyphs(size):
        key, signs = f"{path.stem}/{code:04X}", _symbols(path)
        yield Picture(
            key,
            pixels[..., None],
            key if signs else f"{code:04X}",
            caption=b"" if signs else _caption(path, code)[:captions],
            split=_split(new, path, code, known) if new else "",
        )


def _glyphs(size: int) -> Iterator[tuple[Path, int, np.ndarray]]:
    """Each character of each font with its picture, of which some pixel shows."""
    for path in _fonts():
        font = matplotlib.ft2font.FT2Font(str(path))
        font.set_size(size, 72)
        for code in sorted(font.get_charmap()):
            if 0xD800 <= code < 0xE000:  # halves of a pair, no characters
                continue
            pixels = _drawn(font, code, size)
            if pixels.any():
                yield path, code, pixels


# --- Studies of captions ------------------------------------------------------


def _kind(path: Path, code: int) -> str:
    """What of a picture is new, by hashes: "" nothing, so that it is read."""
    if held_out(f"{code:04X}".encode()):
        return "characters"
    return "combinations" if held_out(f"{path.stem}/{code:04X}".encode()) else ""


def _known(size: int) -> set[int]:
    """Characters of which some picture is read, of those that are no copies."""
    seen: set[bytes] = set()
    known = set()
    for path, code, pixels in _glyphs(size):
        if pixels.tobytes() not in seen:
            seen.add(pixels.tobytes())
            if not _symbols(path) and not _kind(path, code):
                known.add(code)
    return known


def _split(new: str, path: Path, code: int, known: set[int]) -> str:
    """Of a character in a font. What has no caption is left out."""
    if _symbols(path):
        return LEFT_OUT
    kind = _kind(path, code)
    if not kind:
        return TRAIN
    meant = kind == new and (kind == "characters" or code in known)
    return HELD_OUT if meant else LEFT_OUT


def _fonts() -> list[Path]:
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    paths = sorted(folder.glob("*.ttf"))
    return [path for path in paths if not path.name.startswith(_SKIPPED)]


def _symbols(path: Path) -> bool:
    return path.name.startswith(_SYMBOLS)


def _drawn(font: Any, code: int, size: int) -> np.ndarray:
    """uint8 [size, size]: one character, cut where it is larger than the square."""
    font.set_text(chr(code))
    font.draw_glyphs_to_bitmap(antialiased=True)
    image = np.asarray(font.get_image())
    below = font.get_descent() / 64
    picture = np.zeros((size, size), np.uint8)
    if not image.size:
        return picture
    left = (size - image.shape[1]) // 2
    top = round(BASELINE * size + below) - image.shape[0]
    rows, from_rows = _overlap(top, image.shape[0], size)
    columns, from_columns = _overlap(left, image.shape[1], size)
    picture[rows, columns] = image[from_rows, from_columns]
    return picture


def _overlap(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Where `length` pixels from `start` on lie in `size` ones, and which they are."""
    first, last = max(start, 0), max(min(start + length, size), max(start, 0))
    return slice(first, last), slice(first - start, last - start)


def _caption(path: Path, code: int) -> bytes:
    name = unicodedata.name(chr(code), f"u+{code:04x}").lower()
    return f"{_style(path)}: {name}".encode()


def _style(path: Path) -> str:
    """Words for a font: DejaVuSans-BoldOblique is "sans bold oblique"."""
    family = max((f for f in _STYLES if path.stem.startswith(f)), key=len)
    kinds = [word for word in _KINDS if word[:3] in path.stem.removeprefix(family)]
    return " ".join([_STYLES[family], *(word.lower() for word in kinds)])
