"""A TFDS builder that stores any corpus module as ArrayRecord, without TensorFlow.

Exact duplicates are dropped. A document goes to the training or the held-out split by
the hash of its text, a picture by that of its group's name, so neither budget nor seed
can move it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf import json_format

from scaling.corpora._splits import HELD_OUT, LEFT_OUT, SHARE, SPLITS, TRAIN, held_out
from scaling.errors import UserError

RULE = f"sha256 of the text below {SHARE} is held out; exact duplicates dropped"
PICTURE_RULE = (
    f"sha256 of the group below {SHARE} is held out, its last bit is the half; "
    "exact duplicates dropped"
)

# TFDS keeps a split in memory until it is written, and needs TensorFlow to spill more
# than 1 GB of it to disk. So a large split is written as several splits of this size.
SPLIT_BYTES = 128 << 20

# The largest document. TFDS and the size fields here cannot hold a larger one.
MOST_BYTES = 1 << 30

_SIZE = struct.Struct("<I")


# An example as bytes by feature.
Example = dict[str, bytes]


class Kind(Protocol):
    """What a corpus's examples are."""

    def features(self) -> dict[str, Any]:
        """TFDS's features by name."""

    def check(self, corpus: str, example: Example) -> None:
        """Raises UserError for an example that a user's own corpus must not give."""

    def blank(self, example: Example) -> bool:
        """Whether there is nothing in it: it is counted and left out."""

    def content(self, example: Example) -> bytes:
        """Examples of one content are one example."""

    def split(self, example: Example) -> str:
        """TRAIN, HELD_OUT or LEFT_OUT."""

    def decoded(self, example: Example) -> dict[str, Any]:
        """The values of its features."""


class TextKind:
    """Documents: a key and UTF-8 text."""

    def features(self) -> dict[str, Any]:
        text = tfds.features.Text()
        return {"key": text, "text": text}

    def check(self, corpus: str, example: Example) -> None:
        key, text = example["key"].decode(), example["text"]
        if not isinstance(text, bytes):
            kind = type(text).__name__
            why = f"is {kind}, not bytes: `documents` gives (key, UTF-8 text as bytes)"
        elif len(text) > MOST_BYTES:
            why = f"has more than {MOST_BYTES:,} bytes; cut it into smaller ones"
        else:
            try:
                text.decode()
            except UnicodeDecodeError as error:
                why = f"is not UTF-8 at byte {error.start}: {error.reason}"
            else:
                return
        raise UserError("data.corpus", corpus, f"its document {key} {why}")

    def blank(self, example: Example) -> bool:
        return not example["text"].strip()

    def content(self, example: Example) -> bytes:
        return example["text"]

    def split(self, example: Example) -> str:
        return HELD_OUT if held_out(example["text"]) else TRAIN

    def decoded(self, example: Example) -> dict[str, Any]:
        return dict(example)


class PictureKind:
    """Pictures of one shape, each with its group, label and caption."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    def features(self) -> dict[str, Any]:
        text = tfds.features.Text()
        return {
            "key": text,
            "pixels": tfds.features.Tensor(shape=self.shape, dtype=np.uint8),
            "group": text,
            "label": tfds.features.Scalar(np.int64),
            "caption": text,
            "split": text,
        }

    def check(self, corpus: str, example: Example) -> None:
        """Nothing more: `_pictures.examples` saw the picture itself."""

    def blank(self, example: Example) -> bool:
        return False

    def content(self, example: Example) -> bytes:
        return example["pixels"]

    def split(self, example: Example) -> str:
        by_group = HELD_OUT if held_out(example["group"]) else TRAIN
        return example["split"].decode() or by_group

    def decoded(self, example: Example) -> dict[str, Any]:
        pixels = np.frombuffer(example["pixels"], np.uint8).reshape(self.shape)
        return {**example, "pixels": pixels, "label": int(example["label"])}


class Documents(tfds.core.GeneratorBasedBuilder):
    """Splits `train`, `train_1`, ... and `held_out`, ..., of one kind of examples."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        corpus: str,
        kind: Kind,
        examples: Iterable[Example],
        spool: Path,
        **builder: Any,
    ):
        self._corpus, self._kind = corpus, kind
        self._examples = examples
        self._spool = spool
        self.counts = {"documents": 0, "duplicates": 0, "empty": 0}
        super().__init__(file_format="array_record", **builder)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self._kind.features()),
            disable_shuffling=True,  # the token stream decides the order of windows
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        del dl_manager
        splits = {name: _Spool(self._spool, name) for name in SPLITS}
        for example in self._distinct():
            splits[self._kind.split(example)].add(example)
        generators: dict[str, Iterator[Any]] = {}
        for name, spool in splits.items():
            spool.close()
            if not spool.paths and name != LEFT_OUT:
                raise UserError("data.corpus", self._corpus, self._too_few(name))
            for i, path in enumerate(spool.paths):
                generators[f"{name}_{i}" if i else name] = self._read_spool(path)
        return generators

    def _generate_examples(self) -> Iterator[Any]:
        raise NotImplementedError("_split_generators gives the generators")

    def _too_few(self, split: str) -> str:
        counts = self.counts
        if isinstance(self._kind, PictureKind):
            return (
                f"has too few different pictures ({counts['documents']}), none of "
                f"which is in its {split} split; give more, in more groups"
            )
        if not counts["documents"]:
            blank = f" but {counts['empty']:,} without text" if counts["empty"] else ""
            return f"has no document{blank}; give some that have text"
        return (
            f"has {counts['documents']} different documents, none of which falls into "
            f"its {split} split; give more and smaller documents"
        )

    def _distinct(self) -> Iterator[Example]:
        seen: set[bytes] = set()
        for example in self._examples:
            self._kind.check(self._corpus, example)
            if self._kind.blank(example):
                self.counts["empty"] += 1
                continue
            content = self._kind.content(example)
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest in seen:
                self.counts["duplicates"] += 1
                continue
            seen.add(digest)
            self.counts["documents"] += 1
            yield example

    def _read_spool(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        names = list(self._kind.features())
        with open(path, "rb") as file:
            number = 0
            while sizes := file.read(_SIZE.size * len(names)):
                lengths = [size for (size,) in _SIZE.iter_unpack(sizes)]
                fields = {
                    n: file.read(size) for n, size in zip(names, lengths, strict=True)
                }
                yield number, self._kind.decoded(fields)
                number += 1
        path.unlink()


class _Spool:
    """Buffers the examples of one split on disk, in files of about SPLIT_BYTES.

    TFDS asks for all splits before it reads any, and reading a corpus may be slow.
    """

    def __init__(self, folder: Path, name: str):
        self._folder, self._name = folder, name
        self._file: io.BufferedWriter | None = None
        self.paths: list[Path] = []

    def add(self, example: Example) -> None:
        if self._file is None or self._file.tell() > SPLIT_BYTES:
            self.close()
            self.paths.append(self._folder / f"{self._name}-{len(self.paths)}")
            self._file = open(self.paths[-1], "wb")  # noqa: SIM115
        fields = list(example.values())
        sizes = b"".join(_SIZE.pack(len(field)) for field in fields)
        self._file.write(sizes + b"".join(fields))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def build(
    corpus: str, kind: Kind, examples: Iterable[Example], folder: Path
) -> dict[str, int]:
    """Stores a corpus's examples under `folder`; returns how many there were."""
    spool = folder / "spool"
    spool.mkdir(parents=True)
    # TFDS prints progress bars of its own, which do not show progress of the corpus.
    tfds.disable_progress_bar()
    builder = Documents(
        corpus=corpus, kind=kind, examples=examples, spool=spool, data_dir=folder
    )
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    spool.rmdir()
    return builder.counts


def read(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """The examples that `build` stored, in their order, by feature.

    Args:
      split: TRAIN, HELD_OUT or LEFT_OUT, which need not be there.

    Raises:
      UserError: the files were damaged since they were stored.
    """
    try:
        (metadata,) = folder.glob("documents/*/dataset_info.json")
        builder = tfds.builder_from_directory(metadata.parent)
        splits = [n for n in builder.info.splits if n.rpartition("_")[0] == split]
        if split == LEFT_OUT and split not in builder.info.splits:
            return
        for name in [split, *sorted(splits, key=lambda n: (len(n), n))]:
            source = builder.as_data_source(split=name)
            for start in range(0, len(source), 64):
                rows = range(start, min(start + 64, len(source)))
                for row in source.__getitems__(list(rows)):
                    row["key"].decode()  # what is damaged may give a row of nothing
                    yield row
    # RuntimeError is array_record's, AttributeError that of a row that is None.
    except (RuntimeError, ValueError, AttributeError, json_format.Error) as error:
        why = " ".join(str(error).split())
        raise UserError(
            "data_dir", str(folder), f"is damaged ({why}): delete it"
        ) from error
