"""Pictures as rows of integers, and what a run reads of them.

A prepared picture corpus keeps its pictures in the files of a text corpus. A document
is a group of pictures that are kept together, such as all pictures of one character:
the hash of its name decides whether it is held out, and in which half of the training
pictures it is. A row is one picture: its pixels, then its label where the corpus has
labels, then the bytes of its caption where it has captions, padded with PAD.

Objective "denoise" reads rows as they are. "next_token" reads them as sequences: the
label and the caption, which are read and not scored, then the pixels in raster order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scaling import corpora, families
from scaling.corpora._chance import below, keys
from scaling.corpora._prepared import Prepared
from scaling.corpora._tokens import DOCUMENT, TokenFile
from scaling.errors import UserError
from scaling.quantities import CAPTIONS
from scaling.run import Data, Run, label


class Picture(NamedTuple):
    """One picture of a corpus.

    Attributes:
      key: says which one it is, to a person.
      pixels: uint8 [height, width, channels], the same shape all over the corpus.
      group: pictures of one group are held out, or read, together.
      label: number of its class, -1 in a corpus without labels.
      caption: b"" in a corpus without captions.
      split: "train", "held_out" or, for neither, "left_out"; "": as its group.
    """

    key: str
    pixels: np.ndarray
    group: str
    label: int = -1
    caption: bytes = b""
    split: str = ""


PAD = 256  # behind a caption's last byte
LEVELS = "levels:"  # a tokenizer of pictures: "levels:16"


def levels(tokenizer: str) -> int:
    """Into how many levels a picture corpus's tokenizer cuts a pixel's 256.

    Raises:
      UserError: a tokenizer that pictures do not have.
    """
    if tokenizer == "bytes":
        return 256
    count = tokenizer.removeprefix(LEVELS)
    known = [str(1 << bits) for bits in range(1, 8)]
    if not tokenizer.startswith(LEVELS) or count not in known:
        raise UserError(
            "data.tokenizer",
            tokenizer,
            f"of pictures it is bytes (256 levels), or levels:N of {', '.join(known)}",
        )
    return int(count)


def vocabulary(images: families.Images, tokenizer: str) -> int:
    """Ids of a picture as a sequence: levels, labels, bytes of captions, separator."""
    return levels(tokenizer) + images.labels + (256 if images.caption else 0) + 1


def arranged(rows: np.ndarray, made: Prepared, wanted: families.Spec) -> np.ndarray:
    """int32 [n, row]: rows of the file as a batch of `wanted` holds them."""
    images = made.images
    assert images is not None
    if isinstance(wanted, families.Images):
        return rows
    pixels, conditions = rows[:, : images.size], rows[:, images.size :]
    first = levels(made.tokenizer)  # the id of label 0
    prefix = np.empty_like(conditions)
    labelled = int(images.labels > 0)
    prefix[:, :labelled] = conditions[:, :labelled] + first
    caption = conditions[:, labelled:]
    prefix[:, labelled:] = np.where(
        caption == PAD, made.separator, caption + first + images.labels
    )
    return np.concatenate([prefix, pixels], axis=1)


def retold(
    rows: np.ndarray, made: Prepared, spec: families.Spec, how: str
) -> np.ndarray:
    """Rows of an evaluation set [n, row] with no captions, or with wrong ones.

    Args:
      how: one of `quantities.CAPTIONS`. A wrong caption is that of the picture half the
        set away, which is of another group.
    """
    images = made.images
    assert images is not None
    rows, last = rows.copy(), spec.row
    if isinstance(spec, families.Tokens):  # it stands before the pixels
        last = spec.prefix
    captions = rows[:, last - images.caption : last]
    if how == CAPTIONS[0]:
        captions[:] = PAD if isinstance(spec, families.Images) else made.separator
    else:
        captions[:] = np.roll(captions, len(rows) // 2, axis=0)
    return rows


def check_drawn(
    kind: str, size: object, sizes: Sequence[int], captions: object
) -> None:
    """Refuses options of a corpus that draws signs.

    Args:
      kind: what it draws, in a message.

    Raises:
      UserError: another size than those that are drawn; captions that are no count.
    """
    if type(size) is not int or size not in sizes:
        known = ", ".join(map(str, sizes))
        raise UserError("data.corpus size", size, f"{kind} have {known} pixels")
    if type(captions) is not int or captions < 0:
        raise UserError("data.corpus captions", captions, "give 0 or more bytes")


class Pictures:
    """The training pictures that a run may read, as the stream reads a text.

    Attributes:
      tokens: how many there are.
    """

    def __init__(self, made: Prepared, data: Data, wanted: families.Spec):
        assert made.images is not None
        self._made, self._spec = made, wanted
        self._row = made.images.row
        self._file = TokenFile(made.folder / "train.tokens")
        self._numbers = of_half(made, data.half)
        self._dropout = data.caption_dropout
        (self._key,) = keys(f"captions/{data.seed}", 1)
        self.tokens = len(self._numbers)

    def source(self, index: np.ndarray) -> np.ndarray:
        """int64 [n]: `index` itself: no picture is read in another one's place."""
        return index

    def windows(self, length: int, numbers: np.ndarray) -> np.ndarray:
        """int32 [n, row]: pictures by their number among those it may read."""
        rows = self._file.windows(self._row, self._numbers[numbers])
        return arranged(rows, self._made, self._spec)

    def withheld(self, rows: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Rows, of which a share has lost its captions.

        Args:
          position: of each row in the run's whole reading, which decides.
        """
        if not self._dropout:
            return rows
        gone = below(position, self._key, self._dropout)[:, None]
        plain = retold(rows, self._made, self._spec, CAPTIONS[0])
        return np.where(gone, plain, rows)


def of_half(made: Prepared, half: int) -> np.ndarray:
    """int64 [n]: numbers of the training pictures of a half, all of them for half 0."""
    index = np.fromfile(made.folder / "train.documents", DOCUMENT)
    if not half:
        return np.arange(made.train_tokens)
    sizes = np.diff(index["start"], append=made.train_tokens)
    return np.flatnonzero(np.repeat(half_of(index["hash"]) == half, sizes))


def half_of(hashes: np.ndarray) -> np.ndarray:
    """1 or 2 by a group's hash: its last bit, for the first ones hold groups out."""
    return 1 + (hashes & np.uint64(1)).astype(np.int64)


def check_kind(run: Run) -> None:
    """Refuses a run whose fields do not go with what its corpora hold.

    Raises:
      UserError: text and pictures in one run; fields that only text or only pictures
        have.
    """
    kinds = {part.key: corpora.of_pictures(part.name) for part in run.corpora()}
    if len(set(kinds.values())) > 1:
        texts = ", ".join(key for key, pictures in kinds.items() if not pictures)
        pictures = ", ".join(key for key, pictures in kinds.items() if pictures)
        raise UserError(
            "data.corpus",
            label(run.data.corpus),
            f"a run reads and is scored on one kind: {texts} is text, {pictures} is "
            "pictures",
        )
    if next(iter(kinds.values())):
        _check_pictures(run)
    else:
        _check_text(run)


def _check_pictures(run: Run) -> None:
    name = label(run.data.corpus)
    if run.length != 1:
        raise UserError(
            "length", run.length, f"budgets of {name} count pictures: give length=1"
        )
    if run.data.quality:
        raise UserError(
            "data.quality",
            run.data.quality,
            f"damages text, and {name} is pictures: leave it out",
        )
    if run.probes:
        raise UserError(
            "probes",
            run.probes[0].name,
            f"lie in text, and {name} is pictures: give samples=(Samples(...),)",
        )
    if levels(run.data.tokenizer) != 256 and run.objective == "denoise":
        raise UserError(
            "data.tokenizer",
            run.data.tokenizer,
            "denoise reads pixels as they are: give bytes",
        )


def _check_text(run: Run) -> None:
    name = label(run.data.corpus)
    if run.length == 1:
        raise UserError(
            "length",
            run.length,
            f"{name} is text: give 2 or more tokens a window",
        )
    if run.data.half:
        raise UserError(
            "data.half",
            run.data.half,
            f"only pictures have halves, and {name} is text: leave it out",
        )
    if run.data.caption_dropout:
        raise UserError(
            "data.caption_dropout",
            run.data.caption_dropout,
            f"leaves out captions of pictures, and {name} is text: leave it out",
        )
    if run.samples:
        raise UserError(
            "samples",
            run.samples[0].name,
            f"are pictures, and {name} is text: give probes=(Probes(...),)",
        )
    if run.objective == "denoise":
        raise UserError(
            "objective",
            run.objective,
            f"denoise reads pictures, and {name} is text: give next_token",
        )
    if run.data.tokenizer.startswith(LEVELS):
        raise UserError(
            "data.tokenizer",
            run.data.tokenizer,
            f"cuts pixels, and {name} is text: give bytes",
        )


def check_alike(run: Run, prepared: Mapping[str, Prepared]) -> None:
    """Refuses a run over picture corpora of which one differs from the others.

    A model reads pictures of one shape, standardised by one pair of constants. Captions
    are left out only where there are some.

    Raises:
      UserError: names the first difference.
    """
    parts = run.corpora()
    first, *rest = [prepared[part.key] for part in parts]
    if run.data.caption_dropout and not (first.images and first.images.caption):
        raise UserError(
            "data.caption_dropout",
            run.data.caption_dropout,
            f"{first.key} has no captions to leave out: give 0",
        )
    for other in rest:
        if other.images == first.images:
            continue
        assert first.images is not None and other.images is not None
        for field in families.Images._fields:
            here, there = getattr(first.images, field), getattr(other.images, field)
            # Sums of one set's pictures in another order round otherwise.
            if not math.isclose(here, there, rel_tol=1e-9):
                raise UserError(
                    "data.corpus",
                    label(run.data.corpus),
                    f"pictures of one run must be alike: {field} is {here:g} in "
                    f"{first.key} and {there:g} in {other.key}",
                )
