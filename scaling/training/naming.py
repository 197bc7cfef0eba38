"""Do samples show what their captions ask for? Real pictures say.

A caption such as "sans bold: latin small letter a" has a style and a subject; one
without a colon is all subject. Of a picture, that is taken to be the style or subject
which the nearest of the real training pictures has (Cover and Hart 1967), among those
whose captions are of the styles and subjects that are asked for. This classifier knows
no model. How often it is right of held-out pictures themselves says how far it can be
trusted, and how often their captions would do for each other what chance gives.

Captions are kept to a number of bytes. Of one that may be cut, what is left has to be
there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scaling.corpora import Prepared, _pictures
from scaling.corpora._samples import SampleSet
from scaling.run import Run
from scaling.training.landmarks import Reading

PARTS = ("style", "subject")


class Text(NamedTuple):
    """A part of a caption, and whether more of it may have been cut off."""

    text: bytes
    cut: bool

    def is_of(self, other: Text) -> bool:
        """Whether a real picture's other caption has this, as far as this goes.

        A caption that was cut before this ends does not say so.
        """
        if self.cut:
            return other.text.startswith(self.text)
        return self.text == other.text and not other.cut


def parts(caption: np.ndarray) -> dict[str, Text]:
    """Style and subject of a caption, int [bytes], padded with 256.

    No part of a picture that has no caption; no style without a colon.
    """
    text = bytes(caption[caption < 256].astype(np.uint8))
    if not text:
        return {}
    style, colon, subject = text.partition(b": ")
    cut = len(text) == len(caption)
    if not colon:
        return {"subject": Text(text, cut)}
    return {"style": Text(style, False), "subject": Text(subject, cut)}


def named(
    pictures: np.ndarray,
    made: SampleSet,
    run: Run,
    prepared: Mapping[str, Prepared],
) -> dict[str, np.ndarray]:
    """Whether pictures are taken for what they were asked to be.

    Args:
      pictures: [n, height, width, channels] over 255, of the captions of `made`.

    Returns:
      right_PART: bool [n]; chance_PART: float32 [n], the share of the captions with
      which each would be right. {} where the run reads no captions.
    """
    reading = Reading.of(run, prepared)
    if not reading.images.caption:
        return {}
    x = np.asarray(pictures, np.float64).reshape(len(pictures), -1)
    captions = made.rows[:, -reading.images.caption :]
    asked = [parts(caption) for caption in captions]
    kept: dict[str, np.ndarray] = {}
    for name in PARTS:
        texts = [one.get(name) for one in asked]
        if any(text is None for text in texts):
            continue
        real = _real(_Whole(reading), tuple(dict.fromkeys(texts)), name)
        if not len(real.pixels):
            continue
        agrees = real.agrees[:, [real.texts.index(text) for text in texts]]
        guess = _nearest(x, real.pixels)
        kept[f"right_{name}"] = agrees[guess, np.arange(len(x))]
        kept[f"chance_{name}"] = agrees[guess].mean(axis=1).astype(np.float32)
    return kept


def real(
    made: SampleSet, run: Run, prepared: Mapping[str, Prepared]
) -> dict[str, np.ndarray]:
    """real_PART: bool [n], as `named`, of the held-out pictures themselves."""
    reading = Reading.of(run, prepared)
    pixels = _pixels(made.rows, reading)
    found = named(pixels, made, run, prepared).items()
    return {
        f"real_{name.removeprefix('right_')}": kept
        for name, kept in found
        if name.startswith("right_")
    }


class _Real(NamedTuple):
    """Training pictures of which a part of the caption is asked for.

    Attributes:
      pixels: float64 [n, values], over 255.
      agrees: bool [n, texts], with which of the texts that are asked for.
    """

    pixels: np.ndarray
    agrees: np.ndarray
    texts: Sequence[Text]


class _Whole(NamedTuple):
    """The training pictures of a run, all with their captions."""

    reading: Reading

    def rows(self) -> np.ndarray:
        run = self.reading.run
        data = dataclasses.replace(run.data, caption_dropout=0.0)
        run = dataclasses.replace(run, data=data)
        return np.concatenate(list(dataclasses.replace(self.reading, run=run).rows()))


@functools.lru_cache(maxsize=8)
def _real(whole: _Whole, texts: tuple[Text, ...], name: str) -> _Real:
    rows, images = whole.rows(), whole.reading.images
    captions, back = np.unique(rows[:, -images.caption :], axis=0, return_inverse=True)
    known = [parts(caption).get(name) for caption in captions]
    each = np.array(
        [[text is not None and one.is_of(text) for one in texts] for text in known]
    )
    agrees = each[back.reshape(-1)]
    mine = agrees.any(axis=1)
    return _Real(_pixels(rows[mine], whole.reading), agrees[mine], texts)


def _pixels(rows: np.ndarray, reading: Reading) -> np.ndarray:
    """float64 [n, values], over 255: the middle of each level."""
    levels = _pictures.levels(reading.parts[0].tokenizer)
    pixels = rows[:, : reading.images.size]
    return np.asarray(((pixels + 0.5) * (256 / levels) - 0.5) / 255.0)


def _nearest(pictures: np.ndarray, real: np.ndarray) -> np.ndarray:
    """int [n]: which of the real pictures is the nearest."""
    # |x|^2 is the same for every real picture.
    far = (real**2).sum(axis=1) - 2.0 * pictures @ real.T
    return far.argmin(axis=1)
