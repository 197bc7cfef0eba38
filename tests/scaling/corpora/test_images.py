"""A user's own pictures: what is read, and what is refused in one line."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from scaling import corpora
from scaling.corpora import prepare
from scaling.errors import UserError
from scaling.run import Part, options
from tests.scaling.corpora.test_pictures import rows


def save(path, array, mode=None, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **how)


def turned():
    """Says that a viewer turns the picture by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def png(*chunks):
    """The bytes of a PNG file of chunks (type, content)."""
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in (*chunks, (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(kind + body))
        out += struct.pack(">I", len(body)) + kind + body + check
    return out


def deep():
    """Colours of 16 bits, which Pillow opens as RGB."""
    head = struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)
    lines = (b"\0" + bytes(range(36))) * 6
    return png((b"IHDR", head), (b"IDAT", zlib.compress(lines)))


def gray(value, side=6):
    return np.full((side, side), value, np.uint8)


def test_a_folder_of_pictures_with_classes(tmp_path):
    for i in range(60):
        save(tmp_path / "in" / ("cat" if i % 2 else "dog") / f"{i}.png", gray(i))
    part = Part("images", options=options(path=str(tmp_path / "in"), labels=True))
    (tmp_path / "in" / "cat" / "a.gif").write_bytes(b"GIF")
    made = prepare([part], tmp_path / "data", progress=False)[part.key]
    assert made.images.shape == (6, 6, 1) and made.images.labels == 2
    notes = corpora.load("images").remarks(str(tmp_path / "in"), labels=True)
    assert notes == ["not read, since of other kinds: 1 .gif"]
    some = rows(made, "train")
    assert ((some[:, 0] % 2 == 0) == some[:, 36]).all()  # dog is the second


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f: save(f / "z.png", gray(1, side=5)), "5 x 5 gray and a.png"),
        (
            lambda f: save(f / "z.png", gray(1), "RGB"),
            "6 x 6 colour and a.png is",
        ),
        (lambda f: save(f / "z.png", gray(1), "P"), "z.png': it has a palette; conver"),
        (lambda f: save(f / "z.png", gray(1).astype("<u2")), "it has 16 bits a pixel"),
        (lambda f: (f / "z.png").write_bytes(deep()), "it has 16 bits a pixel; conv"),
        (
            lambda f: (f / "z.png").write_bytes(png((b"IHDR", b"\0" * 8))),
            "it is broken or no picture: Truncated IHDR",
        ),
        (lambda f: save(f / "z.png", gray(1), "RGBA"), "it has transparency; put"),
        (lambda f: save(f / "z.jpg", gray(1), "CMYK"), "it has the colours of print"),
        (
            lambda f: save(f / "z.png", gray(1), transparency=1),
            "it has a transparent colour; put it on a background",
        ),
        (
            lambda f: save(
                f / "z.png",
                gray(1),
                save_all=True,
                append_images=[Image.fromarray(gray(2))],
            ),
            "it has 2 pictures that follow each other; save one of them",
        ),
        (lambda f: save(f / "z.jpg", gray(1), exif=turned()), "EXIF orientation 6"),
        (lambda f: (f / "z.png").write_bytes(b""), "it is broken or no picture"),
        (lambda f: (f / "z.png").write_bytes(b"\x89PNG\r\n"), "it is broken or no pic"),
        (lambda f: (f / "z.jpg").write_text("hello"), "it is broken or no picture"),
    ],
)
def test_a_wrong_picture_is_refused_in_one_line(make, says, tmp_path):
    folder = tmp_path / "in"
    for name in "abc":
        save(folder / f"{name}.png", gray(ord(name)))
    make(folder)
    part = Part("images", options=options(path=str(folder)))
    with pytest.raises(UserError) as caught:
        prepare([part], tmp_path / "data", progress=False)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_cut_picture_and_missing_labels_are_refused(tmp_path):
    folder = tmp_path / "in"
    save(folder / "a.png", np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8))
    whole = (folder / "a.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    part = Part("images", options=options(path=str(folder)))
    with pytest.raises(UserError, match=r"b.png'?: it is broken or no picture"):
        prepare([part], tmp_path / "data", progress=False)
    part = Part("images", options=options(path=str(folder), labels=True))
    with pytest.raises(UserError, match=r"a.png'?: it lies in no folder below"):
        prepare([part], tmp_path / "data", progress=False)
