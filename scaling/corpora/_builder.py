"""A TFDS builder that stores any corpus module as ArrayRecord, without TensorFlow.

Exact duplicates are dropped. A document goes to the training or the held-out split by
the hash of its text, so neither budget nor seed can move it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from google.protobuf import json_format

from scaling.errors import UserError

HELD_OUT = 0.05
RULE = f"sha256 of the text below {HELD_OUT} is held out; exact duplicates dropped"

# TFDS keeps a split in memory until it is written, and needs TensorFlow to spill more
# than 1 GB of it to disk. So a large split is written as several splits of this size.
SPLIT_BYTES = 128 << 20

# The largest document. TFDS and the size fields here cannot hold a larger one.
MOST_BYTES = 1 << 30

_SIZES = struct.Struct("<II")


def text_hash(text: bytes) -> int:
    """64-bit hash that decides a document's split and its place in evaluation sets."""
    return int.from_bytes(hashlib.sha256(text).digest()[:8])


class Documents(tfds.core.GeneratorBasedBuilder):
    """Splits `train`, `train_1`, ... and `held_out`, ...; features key and text."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        corpus: str,
        documents: Iterable[tuple[str, bytes]],
        spool: Path,
        **builder: Any,
    ):
        self._corpus = corpus
        self._documents = documents
        self._spool = spool
        self.counts = {"documents": 0, "duplicates": 0, "empty": 0}
        super().__init__(file_format="array_record", **builder)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"key": text, "text": text}),
            disable_shuffling=True,  # the token stream decides the order of windows
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        del dl_manager
        splits = {"train": _Spool(self._spool, "train")}
        splits["held_out"] = _Spool(self._spool, "held_out")
        for key, text in self._distinct():
            held_out = text_hash(text) < HELD_OUT * 2**64
            splits["held_out" if held_out else "train"].add(key, text)
        generators: dict[str, Iterator[Any]] = {}
        for name, spool in splits.items():
            spool.close()
            if not spool.paths:
                raise UserError("data.corpus", self._corpus, self._too_few(name))
            for i, path in enumerate(spool.paths):
                generators[f"{name}_{i}" if i else name] = _read_spool(path)
        return generators

    def _generate_examples(self) -> Iterator[Any]:
        raise NotImplementedError("_split_generators gives the generators")

    def _too_few(self, split: str) -> str:
        counts = self.counts
        if not counts["documents"]:
            blank = f" but {counts['empty']:,} without text" if counts["empty"] else ""
            return f"has no document{blank}; give some that have text"
        return (
            f"has {counts['documents']} different documents, none of which falls into "
            f"its {split} split; give more and smaller documents"
        )

    def _distinct(self) -> Iterator[tuple[str, bytes]]:
        seen: set[bytes] = set()
        for key, text in self._documents:
            self._check(key, text)
            if not text.strip():
                self.counts["empty"] += 1
                continue
            digest = hashlib.blake2b(text, digest_size=16).digest()
            if digest in seen:
                self.counts["duplicates"] += 1
                continue
            seen.add(digest)
            self.counts["documents"] += 1
            yield key, text

    def _check(self, key: str, text: bytes) -> None:
        """Refuses documents of a user's own corpus that are not UTF-8 text."""
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
        raise UserError("data.corpus", self._corpus, f"its document {key} {why}")


class _Spool:
    """Buffers the documents of one split on disk, in files of about SPLIT_BYTES.

    TFDS asks for all splits before it reads any, and reading a corpus may be slow.
    """

    def __init__(self, folder: Path, name: str):
        self._folder, self._name = folder, name
        self._file: io.BufferedWriter | None = None
        self.paths: list[Path] = []

    def add(self, key: str, text: bytes) -> None:
        if self._file is None or self._file.tell() > SPLIT_BYTES:
            self.close()
            self.paths.append(self._folder / f"{self._name}-{len(self.paths)}")
            self._file = open(self.paths[-1], "wb")  # noqa: SIM115
        name = key.encode()
        self._file.write(_SIZES.pack(len(name), len(text)) + name + text)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _read_spool(path: Path) -> Iterator[tuple[int, dict[str, bytes]]]:
    with open(path, "rb") as file:
        number = 0
        while sizes := file.read(_SIZES.size):
            name_size, text_size = _SIZES.unpack(sizes)
            key, text = file.read(name_size), file.read(text_size)
            yield number, {"key": key, "text": text}
            number += 1
    path.unlink()


def build(
    corpus: str, documents: Iterable[tuple[str, bytes]], folder: Path
) -> dict[str, int]:
    """Stores a corpus's documents under `folder`; returns how many there were."""
    spool = folder / "spool"
    spool.mkdir(parents=True)
    # TFDS prints progress bars of its own, which do not show progress of the corpus.
    tfds.disable_progress_bar()
    builder = Documents(
        corpus=corpus, documents=documents, spool=spool, data_dir=folder
    )
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    spool.rmdir()
    return builder.counts


def read(folder: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """(key, text) of the documents that `build` stored, in their order.

    Args:
      split: "train" or "held_out".

    Raises:
      UserError: the files were damaged since they were stored.
    """
    try:
        (metadata,) = folder.glob("documents/*/dataset_info.json")
        builder = tfds.builder_from_directory(metadata.parent)
        splits = [n for n in builder.info.splits if n.rpartition("_")[0] == split]
        for name in [split, *sorted(splits, key=lambda n: (len(n), n))]:
            source = builder.as_data_source(split=name)
            for start in range(0, len(source), 64):
                rows = range(start, min(start + 64, len(source)))
                for row in source.__getitems__(list(rows)):
                    yield row["key"].decode(), row["text"]
    # RuntimeError is array_record's, AttributeError that of a row that is None.
    except (RuntimeError, ValueError, AttributeError, json_format.Error) as error:
        why = " ".join(str(error).split())
        raise UserError(
            "data_dir", str(folder), f"is damaged ({why}): delete it"
        ) from error
