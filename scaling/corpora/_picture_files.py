"""Stores pictures: what a corpus gives as examples, and examples as rows of integers.

Rows stand in the order of their groups' hashes, so that a group's are together, as a
document's tokens are. `_pictures.py` says what a row is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scaling import families
from scaling.corpora import _pictures
from scaling.corpora._builder import Example, PictureKind
from scaling.corpora._pictures import Picture
from scaling.corpora._splits import LEFT_OUT, text_hash
from scaling.corpora._tokens import DOCUMENT
from scaling.errors import UserError

MOST_SIDE = 1024
_AT_ONCE = 4096  # rows that are written at a time


def examples(
    corpus: str, pictures: Iterable[Picture]
) -> tuple[PictureKind, Iterator[Example]]:
    """Pictures as the builder takes them, each checked as it comes.

    Raises:
      UserError: there is none; while they are read: one that is no picture, or that has
        another shape than the first, a label where it has none, or the reverse.
    """
    coming = iter(pictures)
    first = next(coming, None)
    if first is None:
        raise UserError("data.corpus", corpus, "has no picture; give some")
    _check(corpus, first, first)
    return PictureKind(first.pixels.shape), _examples(corpus, first, coming)


def _examples(
    corpus: str, first: Picture, rest: Iterator[Picture]
) -> Iterator[Example]:
    yield _example(first)
    for picture in rest:
        _check(corpus, picture, first)
        yield _example(picture)


def _example(picture: Picture) -> Example:
    return {
        "key": picture.key.encode("utf-8", "replace"),
        "pixels": picture.pixels.tobytes(),
        "group": picture.group.encode("utf-8", "replace"),
        "label": str(picture.label).encode(),
        "caption": picture.caption,
        "split": picture.split.encode(),
    }


def _check(corpus: str, picture: Picture, first: Picture) -> None:
    pixels, wanted = picture.pixels, first.pixels.shape
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        why = (
            f"is {pixels.dtype} of shape {pixels.shape}: `pictures` gives uint8 "
            "[height, width, channels] with 1 or 3 channels"
        )
    elif max(pixels.shape) > MOST_SIDE or not pixels.size:
        why = f"is {_size(pixels.shape)}; give sides of 1 to {MOST_SIDE}"
    elif pixels.shape != wanted:
        why = (
            f"is {_size(pixels.shape)} and {first.key} is {_size(wanted)}; "
            "give all of them one size"
        )
    elif (picture.label < 0) != (first.label < 0):
        with_it, without = picture.key, first.key
        if picture.label < 0:
            with_it, without = without, with_it
        why = f"goes with others that differ: {with_it} has a label, {without} has none"
    else:
        return
    raise UserError("data.corpus", corpus, f"its picture {picture.key} {why}")


def _size(shape: tuple[int, ...]) -> str:
    """As people write it: 8 x 8 gray."""
    height, width, channels = shape
    kind = {1: "gray", 3: "colour"}.get(channels, f"{channels} channels")
    return f"{width} x {height} {kind}"


@dataclasses.dataclass
class _Split:
    """What is known of one split's pictures, in the order in which they came."""

    raw: Path  # their pixels, uint8
    groups: np.ndarray  # uint64, hashes
    labels: np.ndarray
    captions: list[bytes]
    total: float  # of pixels over 255, and of their squares
    squares: float


def write(
    folder: Path, splits: Mapping[str, Iterator[dict[str, Any]]], tokenizer: str
) -> tuple[families.Images, dict[str, dict[str, Any]]]:
    """Writes SPLIT.tokens and SPLIT.documents of what is read and what is held out.

    What is left out counts for what is known of the whole set: its mean, its deviation
    and its longest caption.

    Args:
      splits: stored examples by split.
      tokenizer: of pictures.

    Returns:
      What models of "denoise" read, and counts by split as `_tokens.write` gives them,
      with `halves`, the pictures of each half.
    """
    shape: tuple[int, ...] = ()
    read = {}
    for name, stored in splits.items():
        found, shape = _collected(folder / f"{name}.raw", stored, shape)
        if len(found.groups):
            read[name] = found
        else:
            found.raw.unlink()
    height, width, channels = shape
    size = height * width * channels
    values = sum(len(split.groups) for split in read.values()) * size
    mean = sum(split.total for split in read.values()) / values
    square = sum(split.squares for split in read.values()) / values
    images = families.Images(
        height,
        width,
        channels,
        labels=1 + max(int(split.labels.max()) for split in read.values()),
        caption=max(max(map(len, split.captions)) for split in read.values()),
        mean=mean,
        std=max(square - mean**2, 0.0) ** 0.5 or 1.0,
    )
    quantum = 256 // _pictures.levels(tokenizer)
    left = read.pop(LEFT_OUT, None)
    counts = {
        name: _write_split(folder, name, split, images, quantum)
        for name, split in read.items()
    }
    if left is not None:
        left.raw.unlink()
        counts[LEFT_OUT] = {"tokens": len(left.groups)}
    return images, counts


def _collected(
    raw: Path, stored: Iterator[dict[str, Any]], shape: tuple[int, ...]
) -> tuple[_Split, tuple[int, ...]]:
    groups, labels, captions = [], [], []
    total = squares = 0.0
    with open(raw, "wb") as file:
        for example in stored:
            pixels = example["pixels"]
            shape = pixels.shape
            file.write(pixels.tobytes())
            shares = pixels.astype(np.float64) / 255.0
            total += float(shares.sum())
            squares += float((shares**2).sum())
            groups.append(text_hash(example["group"]))
            labels.append(int(example["label"]))
            captions.append(example["caption"])
    kept = np.array(groups, np.uint64), np.array(labels, np.int64)
    return _Split(raw, *kept, captions, total, squares), shape


def _write_split(
    folder: Path, name: str, split: _Split, images: families.Images, quantum: int
) -> dict[str, Any]:
    pixels = np.memmap(split.raw, np.uint8, "r").reshape(-1, images.size)
    order = np.argsort(split.groups, kind="stable")
    conditions = np.full(
        (len(order), images.row - images.size), _pictures.PAD, np.uint16
    )
    labelled = int(images.labels > 0)
    conditions[:, :labelled] = split.labels[:, None][:, :labelled]
    for row, caption in enumerate(split.captions):
        conditions[row, labelled : labelled + len(caption)] = np.frombuffer(
            caption, np.uint8
        )
    with open(folder / f"{name}.tokens", "wb") as file:
        for start in range(0, len(order), _AT_ONCE):
            which = order[start : start + _AT_ONCE]
            rows = np.concatenate([pixels[which] // quantum, conditions[which]], axis=1)
            file.write(rows.astype("<u2").tobytes())
    hashes, first, count = np.unique(
        split.groups[order], return_index=True, return_counts=True
    )
    index = np.empty(len(hashes), DOCUMENT)
    index["start"], index["hash"] = first, hashes
    index["bytes"] = count * images.size
    (folder / f"{name}.documents").write_bytes(index.tobytes())
    del pixels
    split.raw.unlink()
    halves = _pictures.half_of(hashes)
    return {
        "documents": len(hashes),
        "tokens": len(order),
        "bytes": len(order) * images.size,
        "halves": [int(count[halves == half].sum()) for half in (1, 2)],
    }
